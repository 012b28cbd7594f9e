//! A segment that is asked while it is written, on the simulated disk.

use std::io::IoSlice;
use std::sync::Arc;

use super::{Segment, SegmentIndex, SegmentParts, Views};
use crate::disk::Disk;
use crate::format::{Attributes, BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, BatchKind, crc, example_header};
use crate::sim::SimDisk;

const BATCH_BYTES: u64 = BATCH_HEADER_BYTES as u64;
const INTERVAL_BYTES: u64 = 4_096;

/// Batch `number` of the segment: a header with nothing behind it.
fn batch(number: u64, timestamp: i64) -> BatchHeader {
    BatchHeader {
        length: BATCH_HEADER_BYTES as u32,
        body_crc: crc(&[]),
        base_offset: 1_000 + number,
        durable_before: 900,
        offset_count: 1,
        record_count: 1,
        base_timestamp: timestamp,
        max_timestamp: timestamp,
        appended_ms: timestamp,
        producer_id: 0,
        base_sequence: 0,
        producer_epoch: 0,
        attributes: Attributes::new(BatchKind::Records),
        term: 0,
        epoch: 2,
        uncompressed_length: 0,
    }
}

fn position_of(number: u64) -> u64 {
    BLOCK_BYTES + number * BATCH_BYTES
}

/// The writer notes a batch, then publishes it. A lookup that gathers the index anew in between sees
/// what was published only; what it leaves behind must still tell the noted batch's timestamp to the
/// entries that follow, or a later lookup by time begins behind the record it looks for.
#[test]
fn a_lookup_between_note_and_publish_loses_no_timestamp() {
    const BATCHES: u64 = 200;
    const LATE: i64 = 5_000;
    // Of a life before: the index in memory begins behind them.
    for before in [1, 40] {
        // The one whose timestamp is far ahead, noted and not yet published when the lookup comes.
        for ahead in [before, before + 7, before + 60] {
            let disk = SimDisk::new();
            let header = example_header();
            disk.write_file("data/x", b"").unwrap();
            let path = std::path::Path::new("data/00000000000000001000.log");
            let file = disk.create(path).unwrap();
            file.allocate(0..1 << 16).unwrap();
            file.write_at(&[IoSlice::new(&header.encode())], 0).unwrap();
            let timestamp = |number: u64| if number == ahead { LATE } else { 1_000 + number as i64 };
            for number in 0..BATCHES {
                let bytes = batch(number, timestamp(number)).encode(header.seed(), position_of(number));
                file.write_at(&[IoSlice::new(&bytes)], position_of(number)).unwrap();
            }
            let segment = Arc::new(Segment::new(SegmentParts {
                path: path.to_owned(),
                header,
                reserved_bytes: 1 << 16,
                index_interval_bytes: INTERVAL_BYTES,
                published: position_of(before),
                end_offset: None,
                max_timestamp: i64::MIN,
                appended_ms: i64::MIN,
                index: Some((SegmentIndex::new(INTERVAL_BYTES), position_of(before))),
            }));
            let views = Views::new(8);
            for number in before..BATCHES {
                segment.note(&batch(number, timestamp(number)), position_of(number));
                if number == ahead {
                    segment.position_at_or_before(1_000, &disk, &views).unwrap();
                }
                segment.publish(position_of(number + 1));
            }
            for wanted in [LATE - 1, LATE] {
                let found = segment.position_before_timestamp(wanted, &disk, &views).unwrap();
                assert!(found <= position_of(ahead), "{before} before, {ahead}: it begins at {found}");
            }
            // Nothing was made up either: behind the late one nothing is later.
            let last = segment.position_before_timestamp(LATE + 1, &disk, &views).unwrap();
            assert!(last > position_of(ahead), "{before} before, {ahead}: it begins at {last}");
        }
    }
}
