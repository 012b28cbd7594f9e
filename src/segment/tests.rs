//! A segment that is asked while it is written, on the simulated disk.

mod headers;
mod indexes;
mod mapped;
mod scanning;
mod scans;
mod windows;

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use super::{
    Found, Place, Resident, Scan, Segment, SegmentIndex, SegmentParts, Views, Window, next_batch, next_batch_within,
    search,
};
use crate::disk::{Disk, File};
use crate::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, BatchKind, crc, example_header};
use crate::sim::{SimClock, SimDisk};

const BATCH_BYTES: u64 = BATCH_HEADER_BYTES as u64;
const INTERVAL_BYTES: u64 = 4_096;

/// Batch `number` of the segment: a header with nothing behind it.
fn batch(number: u64, timestamp: i64) -> BatchHeader {
    BatchHeader {
        base_offset: 1_000 + number,
        durable_before: 900,
        offset_count: 1,
        record_count: 1,
        base_timestamp: timestamp,
        max_timestamp: timestamp,
        appended_ms: timestamp,
        epoch: 2,
        ..BatchHeader::of(BatchKind::Records, &[])
    }
}

fn position_of(number: u64) -> u64 {
    BLOCK_BYTES + number * BATCH_BYTES
}

/// No more than so many segments are mapped, and time stands still.
fn views_of(most: usize) -> Views {
    Views::new(most, Arc::new(Resident::new(1 << 30, Arc::new(SimClock::new()))))
}

const PATH: &str = "data/00000000000000001000.log";

/// A segment file with these batches, one behind the other.
fn write(disk: &SimDisk, batches: impl IntoIterator<Item = BatchHeader>) -> Arc<dyn File> {
    let header = example_header();
    disk.write_file("data/x", b"").unwrap();
    let file = disk.create(Path::new(PATH)).unwrap();
    file.allocate(0..1 << 16).unwrap();
    file.write_at(&[IoSlice::new(&header.encode())], 0).unwrap();
    for (number, batch) in (0..).zip(batches) {
        let bytes = batch.encode(header.seed(), position_of(number));
        file.write_at(&[IoSlice::new(&bytes)], position_of(number)).unwrap();
    }
    file
}

/// The segment of that file, as far as it is published; no index of it is in memory.
fn parts(published: u64) -> SegmentParts {
    SegmentParts {
        path: PATH.into(),
        header: example_header(),
        reserved_bytes: 1 << 16,
        index_interval_bytes: INTERVAL_BYTES,
        published,
        end_offset: None,
        max_timestamp: i64::MIN,
        appended_ms: i64::MIN,
        index: None,
    }
}

/// With an index from some position on.
fn segment(published: u64, index: (SegmentIndex, u64)) -> Arc<Segment> {
    Arc::new(Segment::new(SegmentParts { index: Some(index), ..parts(published) }))
}

/// What an earlier life left fits by its place and its offset, and is of an older epoch.
#[test]
fn d2_a_scan_ends_where_an_older_epoch_stands() {
    let disk = SimDisk::new();
    let of_epoch = |number: u64, epoch: u32| BatchHeader { epoch, ..batch(number, 0) };
    let file = write(&disk, [of_epoch(0, 2), of_epoch(1, 3), of_epoch(2, 2), of_epoch(3, 3)]);
    let seed = example_header().seed();
    let start = Place { position: BLOCK_BYTES, next_offset: 1_000, epoch: 2 };
    let mut scan = Scan::new(&*file, 1 << 16, seed, start);
    for number in 0..2 {
        let found = scan.next().unwrap();
        assert!(matches!(found, Found::Batch { position, .. } if position == position_of(number)), "{found:?}");
    }
    let Found::End(reason) = scan.next().unwrap() else { panic!("the older epoch was taken") };
    assert!(reason.to_string().contains("epoch is 2, below the 3 before it"), "{reason}");
    assert_eq!(scan.place(), Place { position: position_of(2), next_offset: 1_002, epoch: 3 });
    let mut scan = Scan::new(&*file, 1 << 16, seed, Place { epoch: 3, ..start });
    assert!(matches!(scan.next().unwrap(), Found::End(_)));
}

/// What it said of its own time is no evidence of this one: what it speaks of may have been cut.
#[test]
fn d3_beyond_the_end_an_older_epoch_is_no_evidence() {
    let disk = SimDisk::new();
    let said = |number: u64, epoch: u32, durable_before: u64| BatchHeader { epoch, durable_before, ..batch(number, 0) };
    let file = write(&disk, [said(0, 4, 990), said(1, 3, 1_001), said(2, 4, 995), said(3, 2, 1_003)]);
    let beyond = |from: u64, epoch: u32| {
        let found = search(&*file, 1 << 16, example_header().seed(), position_of(from)..1 << 16, epoch).unwrap();
        assert!((position_of(3) + 1..=position_of(4)).contains(&found.written_end), "{found:?}");
        (found.durable_before, found.any_valid)
    };
    assert_eq!(beyond(0, 2), (1_003, true));
    assert_eq!(beyond(0, 3), (1_001, true));
    assert_eq!(beyond(0, 4), (995, true));
    assert_eq!(beyond(3, 4), (0, true), "its place must not be written over all the same");
}

/// An index that was written for other batches than these.
#[test]
fn an_index_that_points_elsewhere_is_gathered_anew() {
    const BATCHES: u64 = 200;
    let disk = SimDisk::new();
    write(&disk, (0..BATCHES).map(|number| batch(number, 1_000 + number as i64)));
    let views = views_of(8);
    // Each entry tells of the batch forty places further on.
    let index = || {
        let mut index = SegmentIndex::new(INTERVAL_BYTES);
        for number in 0..BATCHES - 40 {
            index.note(number as u32, position_of(number + 40) as u32, 1_000);
        }
        index
    };
    for wanted in [50, 100, 140] {
        let segment = segment(position_of(BATCHES), (index(), BLOCK_BYTES));
        let found = segment.position_at_or_before(1_000 + wanted, &disk, &views).unwrap();
        assert!(found <= position_of(wanted) && found + INTERVAL_BYTES + BATCH_BYTES >= position_of(wanted), "{found}");
    }
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
            let timestamp = |number: u64| if number == ahead { LATE } else { 1_000 + number as i64 };
            write(&disk, (0..BATCHES).map(|number| batch(number, timestamp(number))));
            let segment = segment(position_of(before), (SegmentIndex::new(INTERVAL_BYTES), position_of(before)));
            let views = views_of(8);
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
