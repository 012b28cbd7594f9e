//! A partition as one reads it beside its writer.

use std::path::Path;

use super::{EIO, builder, inner, send, values};
use crate::config::{Acks, TopicConfig};
use crate::engine::{Engine, Record};
use crate::error::ErrorKind;
use crate::format::{FileHeader, FileKind, Previous};
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
