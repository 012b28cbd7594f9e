//! Scenarios of what the engine tells of what it has stored.

use std::time::Duration;

use thalweg::{Acks, Batch, Clock, Record, SystemClock};

use super::Backend;
use super::scenarios::small;

/// The time as the backend's writer sees it.
fn wall_ms(backend: &Backend) -> i64 {
    match backend {
        Backend::Real { .. } => SystemClock.wall_ms(),
        Backend::Sim { clock, .. } => clock.wall_ms(),
    }
}

pub(crate) fn a_batch_tells_where_when_and_in_which_epoch_it_was_written(backend: &Backend) {
    let mut epochs = Vec::new();
    for life in 0..3 {
        let engine = backend.open();
        if life == 0 {
            engine.create_topic("t", small().partitions(2)).unwrap();
        }
        if let Backend::Sim { clock, .. } = backend {
            clock.advance(Duration::from_secs(3));
        }
        let partition = engine.partition("t", 1).unwrap();
        let before = wall_ms(backend);
        let at = partition.append(&Record::new("value").key("k").timestamp(7)).unwrap().wait().unwrap();
        let after = wall_ms(backend);
        let batch = partition.read(at.offset..).unwrap().next().unwrap().unwrap();
        assert_eq!((batch.topic(), batch.partition()), ("t", 1));
        assert!((before..=after).contains(&batch.appended_ms()), "{before} {} {after}", batch.appended_ms());
        assert_eq!(batch.max_timestamp(), 7);
        // Its header, its record's header, key and value.
        assert_eq!(batch.stored_bytes(), 96 + 16 + 8 + 8);
        let offsets = format!("{:?}", batch.offsets());
        assert_eq!(format!("{batch:?}"), format!("Batch {{ topic: \"t\", partition: 1, offsets: {offsets}, .. }}"));
        assert_eq!(format!("{:?}", batch.iter()), format!("Records {{ offsets: {offsets}, .. }}"));
        let record = format!(
            "RecordView {{ offset: {}, timestamp: 7, key: Some(\"k\"), value: Some(\"value\"), .. }}",
            at.offset
        );
        assert_eq!(format!("{:?}", batch.iter().next().unwrap()), record);
        epochs.push(batch.epoch());
        assert!(epochs.is_sorted_by(|earlier, later| earlier < later), "each life has its own: {epochs:?}");
        let of_records: Vec<_> = (0..=at.offset).map(|offset| partition.get(offset).unwrap().epoch()).collect();
        assert_eq!(of_records, epochs);
        engine.close().unwrap();
    }
}

pub(crate) fn a_description_counts_segments_and_bytes(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small().partitions(2)).unwrap();
    let describe = || engine.describe_topic("t").unwrap().partitions.swap_remove(0);
    assert_eq!((describe().segments, describe().bytes), (0, 0));
    let partition = engine.partition("t", 0).unwrap();
    for _ in 0..5 {
        partition.append(&Record::new(&[7; 40_000]).acks(Acks::Synced)).unwrap().wait().unwrap();
    }
    let batches: Vec<Batch> = partition.read(..).unwrap().map(Result::unwrap).collect();
    let described = describe();
    assert_eq!((described.segments, backend.segment_files("t", 0).len()), (5, 5), "each segment has room for one");
    // Each file begins with a block of its own.
    let stored: u64 = batches.iter().map(Batch::stored_bytes).sum();
    assert_eq!((stored, described.bytes), (5 * 40_112, 5 * (4_096 + 40_112)));
    assert_eq!((described.durable_offset, described.end_offset), (5, 5));
    let other = engine.describe_topic("t").unwrap().partitions.swap_remove(1);
    assert_eq!((other.segments, other.bytes), (0, 0));
}
