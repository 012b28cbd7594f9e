//! Opening after a failed sync, in the same boot: the drive and memory differ. Files made by hand are in
//! the folder beside this.

mod applied;
mod candidates;
mod ends;
mod files;
mod rewritten;
mod starts;

use std::path::Path;

use crate::config::{Acks, TopicConfig, Writers};
use crate::disk::{Access, Disk};
use crate::engine::{Engine, Record, RecordMetadata};
use crate::error::ErrorKind;
use crate::sim::{CrashPolicy, Operation, SimDisk};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// It has sectors of its own, in a block that has held something durable.
const SECOND: [u8; 2_000] = [b'2'; 2_000];

fn open(disk: &SimDisk) -> Engine {
    let builder = Engine::builder("data").writers(Writers::Inline).buffer_bytes(4 << 20).max_batch_bytes(2 << 20);
    builder.sim(disk).open().unwrap()
}

fn send(engine: &Engine, value: impl AsRef<[u8]>) -> crate::Result<RecordMetadata> {
    engine.producer_for("t")?.send(Record::new(value.as_ref()))?.wait()
}

/// The first letter of each value.
fn values(engine: &Engine) -> String {
    let partition = engine.partition("t", 0).unwrap();
    let mut values = String::new();
    for batch in partition.read(..).unwrap() {
        let batch = batch.unwrap();
        values.extend(batch.iter().map(|record| char::from(record.value().unwrap()[0])));
    }
    values
}

/// A disk, in the same boot, on which "first" is durable and the sync of a second one failed.
fn after_a_failed_sync() -> SimDisk {
    let disk = SimDisk::new();
    let engine = open(&disk);
    engine.create_topic("t", TopicConfig::default().acks(Acks::Synced)).unwrap();
    send(&engine, "first").unwrap();
    disk.fail_next(Operation::Sync, EIO);
    send(&engine, SECOND).unwrap_err();
    disk.crash(CrashPolicy::Kill)
}

#[test]
fn d1_after_a_failed_sync_it_is_the_drive_that_is_believed() {
    let disk = after_a_failed_sync();
    let engine = open(&disk);
    assert_eq!(values(&engine), "f");
    send(&engine, "third").unwrap();
    assert_eq!(values(&open(&disk.crash(CrashPolicy::PowerLoss))), "ft");
}

#[test]
fn d1_a_tail_that_only_memory_has_is_never_acknowledged() {
    let disk = after_a_failed_sync();
    // Another process has the segment mapped: its pages stay.
    let segment = disk.open(Path::new("data/topics/t/0/00000000000000000000.log"), Access::Read).unwrap();
    let view = segment.view(1 << 20).unwrap();
    let engine = open(&disk);
    assert_eq!(values(&engine), "f2");
    let error = send(&engine, "third").unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Failed);
    assert!(error.to_string().contains("open the log again"), "{error}");
    drop((view, segment, engine));
    let engine = open(&disk);
    assert_eq!(values(&engine), "f");
    send(&engine, "third").unwrap();
    assert_eq!(values(&open(&disk.crash(CrashPolicy::PowerLoss))), "ft");
}

#[test]
fn d1_without_the_note_of_a_failed_sync_the_first_sync_tells() {
    let disk = after_a_failed_sync();
    let lock = Path::new("data/LOCK");
    assert!(disk.read_file(lock).unwrap().ends_with(b"; a sync failed"));
    let file = disk.open(lock, Access::Write).unwrap();
    file.give_back(0).unwrap();
    let engine = open(&disk);
    assert_eq!(values(&engine), "f2");
    assert!(!engine.recovery().sync_failed);
    send(&engine, "third").unwrap_err();
    drop(engine);
    let engine = open(&disk);
    assert!(engine.recovery().sync_failed);
    assert_eq!(values(&engine), "f");
    send(&engine, "third").unwrap();
    engine.close().unwrap();
    assert_eq!(values(&open(&disk.crash(CrashPolicy::PowerLoss))), "ft");
}

#[test]
fn d1_a_tail_that_was_only_written_is_durable_with_the_first_sync() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let small = TopicConfig::default().acks(Acks::Written).segment_bytes(64 << 10);
    engine.create_topic("t", small).unwrap();
    for letter in "abcdefghijkl".chars() {
        send(&engine, letter.to_string().repeat(20_000)).unwrap();
    }
    let disk = disk.crash(CrashPolicy::Kill);
    let engine = open(&disk);
    assert!(disk.list_files().iter().filter(|path| path.extension().is_some_and(|it| it == "log")).count() > 3);
    send(&engine, "m").unwrap();
    engine.sync().unwrap();
    assert_eq!(values(&open(&disk.crash(CrashPolicy::PowerLoss))), "abcdefghijklm");
}

#[test]
fn d4_after_a_half_done_write_a_new_epoch_begins() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    engine.create_topic("t", TopicConfig::default()).unwrap();
    send(&engine, "first").unwrap();
    disk.fail_next(Operation::ShortWrite, ENOSPC);
    assert_eq!(send(&engine, SECOND).unwrap_err().kind(), &ErrorKind::NoRoom);
    send(&engine, "third").unwrap();
    let segments = engine.core.topic("t").unwrap().partitions[0].segments();
    let epochs: Vec<u32> = segments.iter().map(|segment| segment.header().epoch).collect();
    assert!(epochs.len() == 2 && epochs[0] < epochs[1], "{epochs:?}");
}

#[test]
fn d1_the_first_sync_proves_the_file_s_header_too() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    engine.create_topic("t", TopicConfig::default().acks(Acks::Written)).unwrap();
    send(&engine, "first").unwrap();
    let disk = disk.crash(CrashPolicy::Kill);
    let engine = open(&disk);
    let path = "data/topics/t/0/00000000000000000000.log";
    let mut bytes = disk.read_file(path).unwrap();
    bytes[40] ^= 1;
    disk.write_file(path, bytes).unwrap();
    assert_eq!(engine.sync().unwrap_err().kind(), &ErrorKind::Failed);
}
