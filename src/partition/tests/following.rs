//! A partition as one reads it beside its writer.

use std::path::Path;
use std::sync::Arc;

use super::{EIO, builder, inner, send, values};
use crate::config::{Acks, TopicConfig};
use crate::engine::{Engine, Record};
use crate::error::ErrorKind;
use crate::events::Event;
use crate::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, FileHeader, FileKind, Previous};
use crate::lock::{Mutex, lock};
use crate::segment::log_name;
use crate::sim::{Operation, SimDisk};

/// A writer and one who reads beside it; no record was sent yet.
fn both(disk: &SimDisk) -> (Engine, Engine) {
    let writer = builder(disk).open().unwrap();
    writer.create_topic("t", TopicConfig::default().acks(Acks::Written)).unwrap();
    let reader = builder(disk).read_only().open().unwrap();
    (writer, reader)
}

#[test]
fn a_partition_without_a_file_is_followed_from_its_first_record() {
    let (writer, reader) = both(&SimDisk::new());
    assert_eq!(values(&reader), "");
    for letter in ["a", "b"] {
        send(&writer, letter).unwrap();
    }
    assert_eq!(values(&reader), "ab");
    send(&writer, "c").unwrap();
    assert_eq!(values(&reader), "abc");
}

#[test]
fn what_the_log_proves_durable_is_durable_for_who_follows() {
    let (writer, reader) = both(&SimDisk::new());
    let (partition, seen) = (writer.partition("t", 0).unwrap(), reader.partition("t", 0).unwrap());
    for end in 1..=4 {
        partition.append(&Record::new("value").acks(Acks::Synced)).unwrap().wait().unwrap();
        // A batch says what was durable before it.
        assert_eq!((seen.end_offset(), seen.durable_offset()), (end, end - 1));
    }
}

#[test]
fn only_the_file_that_continues_the_end_is_entered() {
    let disk = SimDisk::new();
    let (writer, reader) = both(&disk);
    for letter in ["a", "b", "c"] {
        send(&writer, letter).unwrap();
    }
    assert_eq!(values(&reader), "abc");
    let (written, followed) = (inner(&writer), inner(&reader));
    let last = &written.segments()[0];
    let next = FileHeader {
        file_id: last.header().file_id ^ 5,
        base_offset: 3,
        previous: Previous {
            file_id: last.header().file_id,
            base_offset: 0,
            end_offset: 3,
            length: last.published(),
            ..last.header().previous
        },
        ..last.header().clone()
    };
    let with = |change: fn(&mut FileHeader)| {
        let mut changed = next.clone();
        change(&mut changed);
        changed
    };
    let misfits = [
        with(|header| header.kind = FileKind::Index),
        with(|header| header.log.partition = 1),
        with(|header| header.previous.file_id ^= 1),
        with(|header| header.previous.end_offset = 2),
        with(|header| header.previous.length += 8),
    ];
    let path = Path::new("data/topics/t/0").join(log_name(3));
    for header in misfits {
        disk.write_file(&path, header.encode()).unwrap();
        followed.refresh().unwrap();
        assert_eq!(followed.segment_count(), 1, "{header:?}");
    }
    disk.write_file(&path, next.encode()).unwrap();
    followed.refresh().unwrap();
    assert_eq!(followed.segment_count(), 2);
}

#[test]
fn a_successor_that_can_not_be_looked_for_is_an_error_and_not_the_end() {
    let disk = SimDisk::new();
    let (writer, reader) = both(&disk);
    send(&writer, "a").unwrap();
    assert_eq!(values(&reader), "a");
    let followed = inner(&reader);
    followed.refresh().unwrap();
    disk.fail_next(Operation::Open, EIO);
    let error = followed.refresh().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Io);
    assert!(error.to_string().contains(&log_name(1)), "{error}");
    followed.refresh().unwrap();
}

const FIRST: &str = "data/topics/t/0/00000000000000000000.log";

/// A reader that was opened before there was a file, and what it was told of; then five records, of which those
/// before the last are evidently durable, and the file changed like this.
fn reader_of_a_file_that_was_changed(change: fn(&mut Vec<u8>)) -> (Engine, Arc<Mutex<Vec<String>>>) {
    let disk = SimDisk::new();
    let writer = builder(&disk).open().unwrap();
    writer.create_topic("t", TopicConfig::default().acks(Acks::Synced)).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let into = told.clone();
    let listener = move |event: &Event| lock(&into).push(format!("{event:?}"));
    let reader = builder(&disk).read_only().on_event(listener).open().unwrap();
    assert_eq!(values(&reader), "");
    for letter in ["a", "b", "c", "d", "e"] {
        send(&writer, letter).unwrap();
    }
    let mut bytes = disk.read_file(FIRST).unwrap();
    change(&mut bytes);
    disk.write_file(FIRST, bytes).unwrap();
    (reader, told)
}

#[test]
fn damage_in_the_first_file_is_told_to_who_was_there_before_it() {
    let (reader, told) = reader_of_a_file_that_was_changed(|bytes| {
        bytes[BLOCK_BYTES as usize + BATCH_HEADER_BYTES] ^= 1;
    });
    let partition = reader.partition("t", 0).unwrap();
    let mut reading = partition.read(..).unwrap();
    let error = reading.next().unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
    let failure = reader.describe_topic("t").unwrap().partitions[0].failure.clone().unwrap();
    assert!(matches!(failure.kind(), ErrorKind::Corrupt { .. }), "{failure}");
    assert_eq!((failure.topic(), failure.partition(), failure.offset()), (Some("t"), Some(0), Some(0)));
    // What is whole behind it is read, and it is told once.
    assert_eq!(partition.end_offset(), 5);
    assert_eq!(partition.get(1).unwrap().view().value(), Some(&b"b"[..]));
    let told = lock(&told);
    assert_eq!(told.iter().filter(|event| event.starts_with("PartitionCorrupt")).count(), 1, "{told:?}");
}

#[test]
fn a_first_file_without_its_header_is_damage_if_a_later_one_proves_it_durable() {
    let disk = SimDisk::new();
    let (writer, reader) = both(&disk);
    for letter in ["a", "b"] {
        send(&writer, letter).unwrap();
    }
    let file_id = inner(&writer).segments()[0].header().file_id;
    let first = disk.read_file(FIRST).unwrap();
    // Alone it may be one that is being made.
    let mut spoiled = first.clone();
    spoiled[20] ^= 1;
    disk.write_file(FIRST, &spoiled).unwrap();
    inner(&reader).refresh().unwrap();
    assert!(inner(&reader).damage().is_none());
    let header = inner(&writer).segments()[0].header().clone();
    let previous = Previous { file_id, base_offset: 0, end_offset: 2, length: 8_192, ..header.previous };
    let next = FileHeader { file_id: file_id ^ 1, base_offset: 2, durable_before: 2, previous, ..header };
    disk.write_file(Path::new("data/topics/t/0").join(log_name(2)), next.encode()).unwrap();
    inner(&reader).refresh().unwrap();
    assert!(matches!(inner(&reader).damage().unwrap().kind(), ErrorKind::Corrupt { .. }));
}

#[test]
fn a_log_whose_first_files_were_dropped_is_followed_from_where_it_starts() {
    let disk = SimDisk::new();
    let writer = builder(&disk).open().unwrap();
    writer.create_topic("t", TopicConfig::default().segment_bytes(64 << 10).acks(Acks::Synced)).unwrap();
    let reader = builder(&disk).read_only().open().unwrap();
    let (seen, handle) = (inner(&reader), reader.partition("t", 0).unwrap());
    for letter in ["a", "b", "c"] {
        send(&writer, letter.repeat(50_000)).unwrap();
    }
    writer.partition("t", 0).unwrap().delete_records(2).unwrap();
    // The log start is durable, and the files may go.
    for base_offset in [0, 1] {
        disk.remove_file(Path::new("data/topics/t/0").join(log_name(base_offset))).unwrap();
    }
    // The files it knows of are gone; the catalogue says that they were dropped, so it is no damage.
    seen.refresh().unwrap();
    assert!(seen.damage().is_none());
    assert_eq!((handle.log_start_offset(), handle.end_offset()), (2, 3));
    assert_eq!(values(&reader), "c");
}
