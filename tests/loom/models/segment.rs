//! A writer that fills segments, one that drops them, and readers, over what they meet at: a segment's
//! extent, the partition's progress, the list of mapped segments (`segment/extent.rs`,
//! `partition/progress.rs`, `segment/views.rs`). The steps are those of `PartitionWriter::flush` and `roll`,
//! `Reader::next_header`, `Segment::rebuild` and `drop_before`.
#![expect(clippy::arc_with_non_send_sync, reason = "loom's threads run one at a time, and watch the cells")]

use std::collections::BTreeMap;
use std::sync::Arc;

use loom::sync::RwLock;
use loom::thread;

use crate::explore;
use crate::progress::Progress;
use crate::segment::{Resident, Segment, Views};

/// A partition whose batches are one record each: the record's value is one more than its offset.
struct Log {
    progress: Progress,
    segments: RwLock<BTreeMap<u64, Arc<Segment>>>,
    views: Views,
}

impl Log {
    fn new() -> Arc<Log> {
        let segments = RwLock::new(BTreeMap::from([(0, Segment::new(0))]));
        Arc::new(Log { progress: Progress::new(0, 0, 0), segments, views: Views::new(1, Arc::new(Resident)) })
    }

    fn append(&self, segment: &Segment, offset: u64) {
        let position = offset - segment.base_offset;
        segment.write(position, offset + 1);
        segment.extent.publish(position + 1);
        self.progress.set_written(offset + 1);
    }

    fn roll(&self, old: &Segment, base_offset: u64) -> Arc<Segment> {
        let next = Segment::new(base_offset);
        self.segments.write().unwrap().insert(base_offset, next.clone());
        old.extent.seal(base_offset);
        next
    }

    fn drop_before(&self, offset: u64) {
        self.progress.raise_log_start(offset);
        self.segments.write().unwrap().retain(|_, segment| segment.extent.end_offset() > offset);
    }

    /// The segment that holds `offset`, or where the log starts instead.
    fn segment_for(&self, offset: u64) -> Result<Arc<Segment>, u64> {
        let segments = self.segments.read().unwrap();
        match segments.range(..=offset).next_back() {
            Some((_, segment)) if offset >= self.progress.log_start() => Ok(segment.clone()),
            _ => Err(self.progress.log_start()),
        }
    }

    /// Reads from `next` on what may be read now; where it got.
    fn read(&self, mut next: u64) -> u64 {
        let mut at: Option<(Arc<Segment>, u64)> = None;
        while next < self.progress.readable(false) {
            let Some((segment, position)) = &mut at else {
                match self.segment_for(next) {
                    Ok(segment) => at = Some((segment.clone(), next - segment.base_offset)),
                    Err(start) => {
                        assert!(start > next, "no segment holds {next}, and the log starts at {start}");
                        next = start;
                    }
                }
                continue;
            };
            let published = segment.extent.published();
            if next >= segment.extent.end_offset() || *position >= published {
                match self.segment_for(next) {
                    Ok(successor) => {
                        assert!(!Arc::ptr_eq(&successor, segment), "{next} is written, and in no segment");
                        at = Some((successor, 0));
                    }
                    Err(start) => {
                        assert!(start > next, "no segment holds {next}, and the log starts at {start}");
                        (next, at) = (start, None);
                    }
                }
                continue;
            }
            assert_eq!(segment.view(&self.views).batch(*position), next + 1, "the record at {next}");
            assert!(next < segment.extent.end_offset(), "{next} is the successor's");
            (next, *position) = (next + 1, *position + 1);
        }
        next
    }
}

#[test]
fn a_reader_goes_from_segment_to_segment_and_sees_what_was_written() {
    explore(|| {
        let log = Log::new();
        let first = log.segment_for(0).unwrap();
        log.append(&first, 0);
        let writer = log.clone();
        let writer = thread::spawn(move || {
            writer.append(&first, 1);
            let second = writer.roll(&first, 2);
            writer.append(&second, 2);
        });
        let next = log.read(0);
        writer.join().unwrap();
        assert_eq!(log.read(next), 3);
    });
}

#[test]
fn what_a_segment_says_is_published_is_written() {
    explore(|| {
        let log = Log::new();
        let segment = log.segment_for(0).unwrap();
        let writer = (log.clone(), segment.clone());
        let writer = thread::spawn(move || (0..2).for_each(|offset| writer.0.append(&writer.1, offset)));
        // Who gathers an index looks at nothing else.
        for position in 0..segment.extent.published() {
            assert_eq!(segment.view(&log.views).batch(position), position + 1);
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_reader_is_told_where_the_log_starts_when_its_segment_is_gone() {
    explore(|| {
        let log = Log::new();
        let first = log.segment_for(0).unwrap();
        log.append(&first, 0);
        let writer = log.clone();
        let writer = thread::spawn(move || {
            let second = writer.roll(&first, 1);
            writer.append(&second, 1);
            writer.drop_before(1);
        });
        let next = log.read(0);
        writer.join().unwrap();
        assert_eq!(log.read(next), 2);
        assert_eq!(log.segment_for(0).unwrap_err(), 1);
    });
}

#[test]
fn who_is_mapped_is_counted_and_who_reads_keeps_the_bytes() {
    explore(|| {
        let views = Arc::new(Views::new(1, Arc::new(Resident)));
        let segments = [Segment::new(0), Segment::new(10)];
        for segment in &segments {
            segment.write(0, 7);
        }
        let readers = segments.clone().map(|segment| {
            let views = views.clone();
            thread::spawn(move || {
                let bytes = segment.view(&views);
                assert_eq!(bytes.batch(0), 7);
            })
        });
        views.release_all();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        let mapped = segments.iter().filter(|segment| segment.is_mapped()).count();
        assert!(mapped <= 1, "{mapped} are mapped");
        views.release_all();
        assert!(!segments.iter().any(|segment| segment.is_mapped()), "mapped, and nobody knows");
    });
}
