//! Where a reader stands, what it finds by time and by epoch, and how much of the log it looks at for that.

use super::{EIO, builder, inner, send};
use crate::config::{Acks, TopicConfig};
use crate::engine::{Engine, Record};
use crate::error::{ErrorKind, Result};
use crate::format::{BLOCK_BYTES, Places};
use crate::partition::Reader;
use crate::sim::{CrashPolicy, Operation, SimDisk};

fn open(disk: &SimDisk, config: TopicConfig) -> Engine {
    let engine = builder(disk).open().unwrap();
    engine.create_topic("t", config.acks(Acks::Written)).unwrap();
    engine
}

fn reader(engine: &Engine, offset: u64) -> Reader {
    Reader::new(inner(engine), offset, false)
}

/// What there is at an offset: the offsets of the batch.
fn at(engine: &Engine, offset: u64) -> Result<Option<std::ops::Range<u64>>> {
    Ok(reader(engine, offset).next_batch()?.map(|batch| batch.offsets()))
}

#[test]
fn an_offset_outside_the_log_is_an_error_and_the_end_is_none() {
    let engine = open(&SimDisk::new(), TopicConfig::default());
    for letter in ["a", "b", "c"] {
        send(&engine, letter).unwrap();
    }
    engine.partition("t", 0).unwrap().delete_records(1).unwrap();
    assert_eq!(at(&engine, 1).unwrap(), Some(1..2));
    assert_eq!(at(&engine, 3).unwrap(), None);
    for requested in [0, 4, u64::MAX] {
        let error = at(&engine, requested).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::OffsetOutOfRange { requested, start: 1, end: 3 });
        assert_eq!((error.topic(), error.partition()), (Some("t"), Some(0)));
    }
    let mut reader = reader(&engine, 1);
    for next_offset in 1..3 {
        assert_eq!(reader.next_offset(), next_offset);
        assert!(reader.next_batch().unwrap().is_some());
    }
    assert_eq!(reader.next_offset(), 3);
}

#[test]
fn d4_what_a_failed_sync_took_back_is_no_offset_outside_the_log() {
    let disk = SimDisk::new();
    let engine = open(&disk, TopicConfig::default());
    send(&engine, "a").unwrap();
    engine.sync().unwrap();
    send(&engine, "b").unwrap();
    let mut ahead = reader(&engine, 0);
    assert!(ahead.next_batch().unwrap().is_some() && ahead.next_batch().unwrap().is_some());
    disk.fail_next(Operation::Sync, EIO);
    engine.sync().unwrap_err();
    assert_eq!(ahead.next_batch().unwrap_err().kind(), &ErrorKind::Failed);
    assert_eq!(at(&engine, 2).unwrap_err().kind(), &ErrorKind::Failed);
    assert!(matches!(at(&engine, 3).unwrap_err().kind(), ErrorKind::OffsetOutOfRange { requested: 3, end: 1, .. }));
    assert_eq!(at(&engine, 0).unwrap(), Some(0..1));
    // What can be read has no such time, and that is all that was asked.
    assert_eq!(engine.partition("t", 0).unwrap().offset_for_timestamp(i64::MAX).unwrap(), None);
}

/// Three records in each segment but the last; times that jump about.
const TIMES: [i64; 11] = [10, 30, 20, 25, 24, 60, 50, 40, 61, 55, 70];

fn with_times(disk: &SimDisk) -> Engine {
    let engine = open(disk, TopicConfig::default().segment_bytes(64 << 10));
    for timestamp in TIMES {
        let record = [b'x'; 20_000];
        engine.partition("t", 0).unwrap().append(&Record::new(&record).timestamp(timestamp)).unwrap().wait().unwrap();
    }
    assert_eq!(inner(&engine).segment_count(), 4);
    engine
}

#[test]
fn a_time_is_found_in_whichever_segment_it_is() {
    let engine = with_times(&SimDisk::new());
    let partition = engine.partition("t", 0).unwrap();
    for from in [0, 1, 3, 5, 11] {
        for wanted in 0..=71 {
            let expected = (from..TIMES.len()).find(|&at| TIMES[at] >= wanted).map(|at| at as u64);
            let found = reader(&engine, from as u64).offset_for_timestamp(wanted).unwrap();
            assert_eq!(found, expected, "{wanted} from {from}");
            if from == 0 {
                assert_eq!(partition.offset_for_timestamp(wanted).unwrap(), expected);
            }
        }
    }
}

#[test]
fn a_lookup_by_time_looks_where_only_the_times_of_a_part_are_known() {
    let disk = SimDisk::new();
    let send = |engine: &Engine, timestamp: i64| {
        let record = [b'x'; 20_000];
        engine.partition("t", 0).unwrap().append(&Record::new(&record).timestamp(timestamp)).unwrap().wait().unwrap();
    };
    let engine = open(&disk, TopicConfig::default().segment_bytes(64 << 10));
    send(&engine, 50);
    engine.close().unwrap();
    let engine = builder(&disk).open().unwrap();
    [10, 20, 30].iter().for_each(|&timestamp| send(&engine, timestamp));
    // The next life reads on from where the first one ended.
    let engine = builder(&disk.crash(CrashPolicy::Kill)).open().unwrap();
    let segments = inner(&engine).segments();
    assert_eq!(segments.len(), 2);
    assert!(segments[0].is_sealed() && !segments[0].knows_times() && segments[0].max_timestamp() == 20);
    let partition = engine.partition("t", 0).unwrap();
    for (wanted, found) in [(40, Some(0)), (50, Some(0)), (51, None), (30, Some(0))] {
        assert_eq!(partition.offset_for_timestamp(wanted).unwrap(), found, "{wanted}");
    }
}

#[test]
fn a_lookup_by_time_looks_at_no_segment_that_is_earlier() {
    let disk = SimDisk::new();
    let engine = with_times(&disk);
    let segments = inner(&engine).segments();
    for damaged in &segments[..3] {
        let mut bytes = disk.read_file(damaged.path()).unwrap();
        bytes[10_000] ^= 1;
        disk.write_file(damaged.path(), bytes).unwrap();
    }
    let partition = engine.partition("t", 0).unwrap();
    // Within a segment it begins behind what is earlier, as far as the index tells.
    for (wanted, found) in [(71, None), (70, Some(10)), (61, Some(8)), (60, Some(5))] {
        assert_eq!(partition.offset_for_timestamp(wanted).unwrap(), found, "{wanted}");
    }
    assert!(matches!(partition.offset_for_timestamp(10).unwrap_err().kind(), ErrorKind::Corrupt { .. }));
}

#[test]
fn a_lookup_by_offset_begins_near_it() {
    let disk = SimDisk::new();
    let engine = open(&disk, TopicConfig::default());
    for _ in 0..9 {
        send(&engine, [b'x'; 1_000_000]).unwrap();
    }
    assert_eq!(inner(&engine).segment_count(), 1);
    // Its header and what lies around it, then the rest of the batch.
    for (offset, reads) in [(0, 2), (8, 2)] {
        let before = disk.count(Operation::Read);
        assert_eq!(at(&engine, offset).unwrap(), Some(offset..offset + 1));
        assert_eq!(disk.count(Operation::Read) - before, reads, "{offset}");
    }
}

/// A lookup relies on the check of another; who reads a log checks it.
#[test]
fn a_reader_checks_what_a_lookup_takes_for_checked() {
    let disk = SimDisk::new();
    let engine = open(&disk, TopicConfig::default());
    send(&engine, [b'x'; 5_000]).unwrap();
    let partition = inner(&engine);
    let segment = partition.segments()[0].clone();
    let mut bytes = disk.read_file(segment.path()).unwrap();
    bytes[5_000] ^= 1;
    disk.write_file(segment.path(), bytes).unwrap();
    let view = segment.view(&*partition.env.disk, &partition.env.views).unwrap();
    view.note_checked(BLOCK_BYTES, Places::default());
    let handle = engine.partition("t", 0).unwrap();
    assert_eq!(handle.get(0).unwrap().offset(), 0);
    let read = handle.read(..).unwrap().next().unwrap();
    assert!(matches!(read.unwrap_err().kind(), ErrorKind::Corrupt { .. }));
}

#[test]
fn the_first_record_of_a_later_epoch_is_found_in_whichever_segment_it_is() {
    let disk = SimDisk::new();
    // Each life of the engine has an epoch of its own; its last record fills the segment.
    let mut epochs = Vec::new();
    for records in [2, 1, 3, 2] {
        let engine = builder(&disk).open().unwrap();
        if epochs.is_empty() {
            engine.create_topic("t", TopicConfig::default().segment_bytes(64 << 10).acks(Acks::Written)).unwrap();
        }
        for _ in 0..records {
            send(&engine, [b'x'; 18_000]).unwrap();
            let partition = inner(&engine);
            epochs.push(Reader::epoch_before(&partition, partition.progress.written()).unwrap());
        }
        engine.close().unwrap();
    }
    assert!(epochs.is_sorted() && epochs[0] < epochs[2] && epochs[2] < epochs[3] && epochs[5] < epochs[6]);
    let engine = builder(&disk).open().unwrap();
    let partition = inner(&engine);
    let bases: Vec<_> = partition.segments().iter().map(|segment| segment.base_offset()).collect();
    assert_eq!(bases, [0, 3, 6]);
    for epoch in 0..epochs[7] + 2 {
        let expected = epochs.iter().position(|&other| other > epoch).unwrap_or(epochs.len()) as u64;
        assert_eq!(Reader::first_after_epoch(&partition, epoch).unwrap(), expected, "after {epoch} in {epochs:?}");
    }
    assert_eq!(Reader::epoch_before(&partition, 0).unwrap(), 0);
    assert_eq!(Reader::epoch_before(&partition, 9).unwrap(), 0);
}

#[test]
fn a_lookup_by_time_does_not_take_damage_for_the_end() {
    // Among the segments, and at the end, where nothing is left to be read.
    for (damaged, found, hidden) in [(2, 60, [61, 71]), (3, 61, [70, 71])] {
        let disk = SimDisk::new();
        let engine = with_times(&disk);
        engine.sync().unwrap();
        let segment = inner(&engine).segments()[damaged].path().to_path_buf();
        engine.close().unwrap();
        let mut bytes = disk.read_file(&segment).unwrap();
        bytes[20] ^= 1;
        disk.write_file(&segment, bytes).unwrap();
        let engine = builder(&disk).open().unwrap();
        let partition = engine.partition("t", 0).unwrap();
        let offset = TIMES.iter().position(|&time| time >= found).unwrap() as u64;
        assert_eq!(partition.offset_for_timestamp(found).unwrap(), Some(offset));
        for wanted in hidden {
            let error = partition.offset_for_timestamp(wanted).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
        }
    }
}
