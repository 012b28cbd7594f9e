//! A reader beside the writer whose picture is outdated: what it learns only from the catalogue, and files that
//! were dropped or replaced under it.
//!
//! Two engines on one simulated disk. Their clock is the test's: the reader looks at the catalogue once a second.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{builder, inner, send, values};
use crate::config::{Acks, TopicConfig};
use crate::engine::{Consumer, Engine, Record};
use crate::error::{Error, ErrorKind};
use crate::format::{BATCH_HEADER_BYTES, BLOCK_BYTES};
use crate::segment::log_name;
use crate::sim::{Operation, SimClock, SimDisk};

struct Both {
    disk: SimDisk,
    clock: SimClock,
    writer: Engine,
    reader: Engine,
}

impl Both {
    /// A writer, a topic of one partition, and a reader that was opened before there was a record.
    fn new(config: TopicConfig) -> Both {
        let (disk, clock) = (SimDisk::new(), SimClock::new());
        let writer = builder(&disk).clock(Arc::new(clock.clone())).open().unwrap();
        writer.create_topic("t", config).unwrap();
        let reader = builder(&disk).clock(Arc::new(clock.clone())).read_only().open().unwrap();
        Both { disk, clock, writer, reader }
    }

    fn small_segments() -> Both {
        Both::new(TopicConfig::default().segment_bytes(64 << 10).acks(Acks::Synced))
    }

    fn write_again(&mut self) {
        self.writer = builder(&self.disk).clock(Arc::new(self.clock.clone())).open().unwrap();
    }

    /// Records of 50,000 bytes: each but the first begins a segment.
    fn send_large(&self, letters: &str) {
        for letter in letters.chars() {
            send(&self.writer, String::from(letter).repeat(50_000)).unwrap();
        }
    }

    /// Deletes the records below `offset`, and the files that hold nothing else (the engine does so when it is idle).
    fn delete_before(&self, offset: u64) {
        self.writer.partition("t", 0).unwrap().delete_records(offset).unwrap();
        for base_offset in 0..offset {
            self.disk.remove_file(Path::new("data/topics/t/0").join(log_name(base_offset))).unwrap();
        }
    }

    /// Changes a byte of the first batch of this segment.
    fn damage(&self, base_offset: u64) {
        let path = Path::new("data/topics/t/0").join(log_name(base_offset));
        let mut bytes = self.disk.read_file(&path).unwrap();
        bytes[BLOCK_BYTES as usize + BATCH_HEADER_BYTES] ^= 1;
        self.disk.write_file(&path, bytes).unwrap();
    }

    fn second(&self) {
        self.clock.advance(Duration::from_secs(1));
    }
}

/// The first letters of what a poll returns.
fn poll(consumer: &mut Consumer) -> Result<String, Error> {
    let polled = consumer.poll(Duration::ZERO)?;
    let records = polled.batches().iter().flat_map(|batch| batch.iter());
    Ok(records.map(|record| char::from(record.value().unwrap()[0])).collect())
}

#[test]
fn who_fell_behind_retention_is_told_the_range_and_goes_on_at_the_log_start() {
    let both = Both::small_segments();
    let mut consumer = both.reader.assign([("t", 0)]).unwrap();
    both.send_large("a");
    assert_eq!(poll(&mut consumer).unwrap(), "a");
    both.send_large("bcdefg");
    both.delete_before(5);
    both.second();
    let error = poll(&mut consumer).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::OffsetOutOfRange { requested: 1, start: 5, end: 7 });
    consumer.seek_to_beginning("t", 0).unwrap();
    assert_eq!(poll(&mut consumer).unwrap(), "fg");
    both.send_large("h");
    assert_eq!(poll(&mut consumer).unwrap(), "h");
    let log = both.reader.partition("t", 0).unwrap();
    assert_eq!((log.log_start_offset(), log.durable_offset(), log.end_offset()), (5, 7, 8));
    assert_eq!(inner(&both.reader).segment_count(), 3);
}

#[test]
fn a_handle_that_fell_behind_goes_on_too() {
    let both = Both::small_segments();
    let log = both.reader.partition("t", 0).unwrap();
    both.send_large("a");
    assert_eq!(log.get(0).unwrap().offset(), 0);
    both.send_large("bcdefg");
    both.delete_before(5);
    // An offset that it doesn't know makes it look at once.
    assert_eq!(log.get(6).unwrap().view().value().unwrap()[0], b'g');
    let error = log.get(1).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::OffsetOutOfRange { requested: 1, start: 5, end: 7 });
    assert_eq!(values(&both.reader), "fg");
}

#[test]
fn a_known_record_is_read_without_a_look_at_what_came_since() {
    let both = Both::new(TopicConfig::default().acks(Acks::Written));
    for letter in ["a", "b"] {
        send(&both.writer, letter).unwrap();
    }
    let log = both.reader.partition("t", 0).unwrap();
    // Maps the file, and makes the index.
    assert_eq!(log.get(1).unwrap().offset(), 1);
    let before = [Operation::Open, Operation::List].map(|operation| both.disk.count(operation));
    for _ in 0..10 {
        assert_eq!(log.get(0).unwrap().offset(), 0);
    }
    assert_eq!([Operation::Open, Operation::List].map(|operation| both.disk.count(operation)), before);
    // But the catalogue is looked at now and then.
    both.writer.delete_topic("t").unwrap();
    both.second();
    let _ = log.get(0);
    assert_eq!(log.get(2).unwrap_err().kind(), &ErrorKind::UnknownTopic { topic: "t".into() });
}

#[test]
fn a_range_that_a_reader_does_not_know_of_makes_it_look() {
    let both = Both::small_segments();
    both.send_large("a");
    let log = both.reader.partition("t", 0).unwrap();
    assert_eq!(log.end_offset(), 1);
    both.send_large("bcdefg");
    both.delete_before(5);
    let batches: Vec<_> = log.read(5..).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(|batch| batch.offsets()).collect::<Vec<_>>(), [5..6, 6..7]);
    let error = log.read(0..).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::OffsetOutOfRange { requested: 0, start: 5, end: 7 });
}

#[test]
fn the_place_that_was_read_last_may_be_gone_with_its_file() {
    let both = Both::small_segments();
    both.send_large("ab");
    let log = both.reader.partition("t", 0).unwrap();
    // Where it was opened at its end, before it had the file open.
    both.send_large("cdefg");
    both.delete_before(6);
    assert_eq!(log.end_offset(), 7);
    assert_eq!(log.log_start_offset(), 6);
}

#[test]
fn a_file_that_is_missing_though_nothing_dropped_it_is_told() {
    let both = Both::small_segments();
    both.send_large("ab");
    let reader = builder(&both.disk).clock(Arc::new(both.clock.clone())).read_only().open().unwrap();
    both.disk.remove_file(Path::new("data/topics/t/0").join(log_name(1))).unwrap();
    let error = inner(&reader).refresh().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Io);
    assert!(error.to_string().contains(&log_name(1)), "{error}");
}

#[test]
fn the_last_durable_record_is_seen_without_one_after_it() {
    let both = Both::new(TopicConfig::default().acks(Acks::Synced).read_durable(true));
    let mut consumer = both.reader.assign([("t", 0)]).unwrap();
    assert_eq!(poll(&mut consumer).unwrap(), "");
    for letter in ["a", "b", "c"] {
        send(&both.writer, letter).unwrap();
    }
    // The mark of the last one is stored at the close.
    both.writer.close().unwrap();
    both.second();
    assert_eq!(poll(&mut consumer).unwrap(), "abc");
    let log = both.reader.partition("t", 0).unwrap();
    assert_eq!((log.durable_offset(), log.end_offset()), (3, 3));
    assert_eq!(log.get(2).unwrap().offset(), 2);
}

#[test]
fn no_mark_makes_durable_what_was_not_read_yet() {
    let both = Both::new(TopicConfig::default().acks(Acks::Synced));
    send(&both.writer, "a").unwrap();
    both.writer.close().unwrap();
    let partition = inner(&both.reader);
    // The catalogue is looked at before the partition's file.
    both.reader.core.env.look.get().unwrap()(true).unwrap();
    assert_eq!((partition.progress.durable(), partition.progress.written()), (0, 0));
    partition.refresh().unwrap();
    assert_eq!((partition.progress.durable(), partition.progress.written()), (1, 1));
}

#[test]
fn a_deleted_topic_is_told_to_who_waits_there() {
    let both = Both::new(TopicConfig::default().acks(Acks::Written));
    let mut consumer = both.reader.assign([("t", 0)]).unwrap();
    let log = both.reader.partition("t", 0).unwrap();
    send(&both.writer, "a").unwrap();
    assert_eq!(poll(&mut consumer).unwrap(), "a");
    both.writer.delete_topic("t").unwrap();
    both.second();
    let gone = ErrorKind::UnknownTopic { topic: "t".into() };
    assert_eq!(poll(&mut consumer).unwrap_err().kind(), &gone);
    assert_eq!(log.get(1).unwrap_err().kind(), &gone);
    assert_eq!(both.reader.describe_topic("t").unwrap_err().kind(), &gone);
}

#[test]
fn a_topic_of_the_same_name_is_another() {
    let both = Both::new(TopicConfig::default().acks(Acks::Written));
    let mut consumer = both.reader.assign([("t", 0)]).unwrap();
    send(&both.writer, "a").unwrap();
    assert_eq!(poll(&mut consumer).unwrap(), "a");
    both.writer.delete_topic("t").unwrap();
    both.writer.create_topic("t", TopicConfig::default().acks(Acks::Written)).unwrap();
    for letter in ["x", "y", "z"] {
        send(&both.writer, letter).unwrap();
    }
    both.second();
    assert_eq!(poll(&mut consumer).unwrap_err().kind(), &ErrorKind::UnknownTopic { topic: "t".into() });
    assert_eq!(values(&both.reader), "xyz");
    let mut consumer = both.reader.assign([("t", 0)]).unwrap();
    assert_eq!(poll(&mut consumer).unwrap(), "xyz");
}

#[test]
fn a_topic_that_grew_has_its_old_partitions_still() {
    let both = Both::new(TopicConfig::default().acks(Acks::Written));
    let mut consumer = both.reader.assign([("t", 0)]).unwrap();
    send(&both.writer, "a").unwrap();
    assert_eq!(poll(&mut consumer).unwrap(), "a");
    let before = inner(&both.reader);
    let config = both.writer.describe_topic("t").unwrap().config;
    both.writer.alter_topic("t", config.partitions(3)).unwrap();
    both.writer.partition("t", 2).unwrap().append(&Record::new("n")).unwrap().wait().unwrap();
    send(&both.writer, "b").unwrap();
    both.second();
    assert_eq!(poll(&mut consumer).unwrap(), "b");
    assert_eq!(both.reader.describe_topic("t").unwrap().partitions.len(), 3);
    assert!(Arc::ptr_eq(&before, &inner(&both.reader)));
    assert_eq!(both.reader.partition("t", 2).unwrap().end_offset(), 1);
}

#[test]
fn a_setting_that_was_altered_holds_for_handles_that_are_there() {
    let both = Both::new(TopicConfig::default().acks(Acks::Written));
    let log = both.reader.partition("t", 0).unwrap();
    send(&both.writer, "a").unwrap();
    assert_eq!(log.get(0).unwrap().offset(), 0);
    let config = both.writer.describe_topic("t").unwrap().config;
    both.writer.alter_topic("t", config.read_durable(true)).unwrap();
    send(&both.writer, "b").unwrap();
    assert!(both.reader.describe_topic("t").unwrap().config.read_durable);
    // Nothing has proven the second durable.
    let error = log.get(1).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::OffsetOutOfRange { requested: 1, .. }), "{error}");
}

#[test]
fn what_a_reader_could_not_take_in_is_taken_in_later() {
    let both = Both::new(TopicConfig::default().acks(Acks::Written));
    both.writer.create_topic("u", TopicConfig::default()).unwrap();
    // The catalogue is read; then the new topic's directory can't be.
    both.disk.fail_after(1, Operation::List, 12, crate::sim::Repeat::Once);
    let error = both.reader.topics().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NoRoom);
    assert_eq!(both.reader.topics().unwrap(), ["t", "u"]);
}

#[test]
fn a_name_that_leads_to_another_file_is_opened_again() {
    let mut both = Both::new(TopicConfig::default().acks(Acks::Written));
    let mut consumer = both.reader.assign([("t", 0)]).unwrap();
    for letter in ["a", "b"] {
        send(&both.writer, letter).unwrap();
    }
    assert_eq!(poll(&mut consumer).unwrap(), "ab");
    both.writer.close().unwrap();
    // As an overlay file system does when a file of its lower layer is first written: the same bytes, another file.
    let path = Path::new("data/topics/t/0").join(log_name(0));
    let bytes = both.disk.read_file(&path).unwrap();
    both.disk.remove_file(&path).unwrap();
    both.disk.write_file(&path, bytes).unwrap();
    both.write_again();
    send(&both.writer, "c").unwrap();
    both.second();
    assert_eq!(poll(&mut consumer).unwrap(), "c");
    assert_eq!(inner(&both.reader).damage(), None);
}

#[test]
fn a_partition_that_was_repaired_is_read_on() {
    let mut both = Both::small_segments();
    both.send_large("abc");
    let path = Path::new("data/topics/t/0").join(log_name(1));
    let mut bytes = both.disk.read_file(&path).unwrap();
    bytes[BLOCK_BYTES as usize + BATCH_HEADER_BYTES + 100] ^= 1;
    both.disk.write_file(&path, bytes).unwrap();
    let reader = builder(&both.disk).clock(Arc::new(both.clock.clone())).read_only().open().unwrap();
    let mut consumer = reader.assign([("t", 0)]).unwrap();
    assert_eq!(poll(&mut consumer).unwrap(), "a");
    let error = poll(&mut consumer).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
    both.writer.close().unwrap();
    crate::inspect::repair_sim(&both.disk, "data", false, &mut |_| {}).unwrap();
    both.write_again();
    both.send_large("d");
    both.second();
    consumer.seek("t", 0, 2).unwrap();
    assert_eq!(poll(&mut consumer).unwrap(), "cd");
}

/// The file in which the reader's log ends is rewritten, with fewer records.
#[test]
fn who_has_read_to_the_end_goes_on_in_a_rewritten_last_segment() {
    let mut both = Both::new(TopicConfig::default().acks(Acks::Synced));
    let mut consumer = both.reader.assign([("t", 0)]).unwrap();
    for letter in ["a", "b", "c"] {
        send(&both.writer, letter).unwrap();
    }
    assert_eq!(poll(&mut consumer).unwrap(), "abc");
    both.writer.close().unwrap();
    both.damage(0);
    crate::inspect::repair_sim(&both.disk, "data", false, &mut |_| {}).unwrap();
    both.write_again();
    send(&both.writer, "d").unwrap();
    both.second();
    assert_eq!(poll(&mut consumer).unwrap(), "d");
    send(&both.writer, "e").unwrap();
    assert_eq!(poll(&mut consumer).unwrap(), "e");
    // What is lost is lost here too.
    assert_eq!(values(&both.reader), "bcde");
    assert_eq!(inner(&both.reader).damage(), None);
}

/// The reader met the damage; repair makes the file that was missing.
#[test]
fn who_was_told_of_a_missing_file_goes_on_in_the_one_that_stands_for_it() {
    let mut both = Both::small_segments();
    both.send_large("abc");
    both.writer.close().unwrap();
    both.disk.remove_file(Path::new("data/topics/t/0").join(log_name(2))).unwrap();
    let reader = builder(&both.disk).clock(Arc::new(both.clock.clone())).read_only().open().unwrap();
    let mut consumer = reader.assign([("t", 0)]).unwrap();
    assert_eq!(poll(&mut consumer).unwrap(), "ab");
    let error = poll(&mut consumer).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
    crate::inspect::repair_sim(&both.disk, "data", false, &mut |_| {}).unwrap();
    both.write_again();
    both.send_large("d");
    both.second();
    assert_eq!(poll(&mut consumer).unwrap(), "d");
    assert_eq!(inner(&reader).damage(), None);
}

/// A file from a backup takes the place of the partition's: it has fewer records than the reader knows to be durable.
#[test]
fn who_has_read_more_than_what_was_put_back_is_told() {
    let both = Both::new(TopicConfig::default().acks(Acks::Synced));
    let mut consumer = both.reader.assign([("t", 0)]).unwrap();
    send(&both.writer, "a").unwrap();
    let path = Path::new("data/topics/t/0").join(log_name(0));
    let mut backup = both.disk.read_file(&path).unwrap();
    backup.truncate(inner(&both.writer).segments()[0].published() as usize);
    for letter in ["b", "c", "d"] {
        send(&both.writer, letter).unwrap();
    }
    both.writer.close().unwrap();
    both.second();
    assert_eq!(poll(&mut consumer).unwrap(), "abcd");
    both.disk.remove_file(&path).unwrap();
    both.disk.write_file(&path, backup).unwrap();
    both.second();
    let error = poll(&mut consumer).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
}
