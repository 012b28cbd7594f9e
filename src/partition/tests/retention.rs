//! Which segments the limits let go.

use std::sync::Arc;

use crate::config::TopicConfig;
use crate::format::{FileHeader, example_header};
use crate::partition::start_by_limits;
use crate::segment::{Segment, SegmentParts};

const NOW: i64 = 1_000;

/// Segments of ten offsets and a hundred bytes each, last appended to at these times; and one more, of now,
/// which is written to.
fn segments(appended_ms: &[i64]) -> Vec<Arc<Segment>> {
    let all: Vec<i64> = appended_ms.iter().copied().chain([NOW]).collect();
    let segment = |(number, appended_ms): (usize, i64)| {
        let base_offset = number as u64 * 10;
        Arc::new(Segment::new(SegmentParts {
            path: "data/segment".into(),
            header: FileHeader { base_offset, created_ms: 0, ..example_header() },
            reserved_bytes: 1_000,
            index_interval_bytes: 4_096,
            published: 100,
            end_offset: (number + 1 < all.len()).then_some(base_offset + 10),
            max_timestamp: 0,
            appended_ms,
            index: None,
        }))
    };
    all.iter().copied().enumerate().map(segment).collect()
}

#[test]
fn as_many_segments_go_as_leave_the_bytes_that_are_to_stay() {
    let segments = segments(&[NOW; 3]);
    let start = |limit: u64, durable: u64| {
        let config = TopicConfig::default().retention_bytes(Some(limit));
        start_by_limits(&segments, &config, durable, NOW)
    };
    let starts = [400, 301, 300, 201, 200, 101, 100, 0].map(|limit| start(limit, 35));
    assert_eq!(starts, [None, None, Some(10), Some(10), Some(20), Some(20), Some(30), Some(30)]);
    // What isn't durable stays.
    assert_eq!([9, 10, 29, 30].map(|durable| start(0, durable)), [None, Some(10), Some(20), Some(30)]);
}

#[test]
fn segments_go_that_are_older_than_the_limit_and_all_before_them() {
    let start = |appended_ms: &[i64], limit: u64, durable: u64| {
        let config = TopicConfig::default().retention_ms(Some(limit));
        start_by_limits(&segments(appended_ms), &config, durable, NOW)
    };
    let ages = |limit: u64| start(&[NOW - 900, NOW - 800, NOW - 700], limit, 35);
    assert_eq!([900, 899, 800, 799, 700, 699].map(ages), [None, Some(10), Some(10), Some(20), Some(20), Some(30)]);
    assert_eq!(start(&[NOW - 900, NOW - 800, NOW - 700], 0, 20), Some(20));
    // The clock stood in the future when the first was written.
    assert_eq!(start(&[NOW + 5_000, NOW - 800, NOW], 700, 35), Some(20));
    assert_eq!(start(&[NOW + 5_000, NOW, NOW + 5_000], 0, 35), None);
}
