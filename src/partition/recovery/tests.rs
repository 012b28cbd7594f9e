//! Opening after a failed sync, in the same boot: the drive and memory differ.

use std::path::Path;

use crate::config::{Acks, TopicConfig, Writers};
use crate::disk::{Access, Disk};
use crate::engine::{Engine, Record, RecordMetadata};
use crate::sim::{CrashPolicy, Operation, SimDisk};

const EIO: i32 = 5;
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
fn d1_a_tail_that_memory_keeps_is_written_again() {
    let disk = after_a_failed_sync();
    // Another process has the segment mapped: its pages stay.
    let segment = disk.open(Path::new("data/topics/t/0/00000000000000000000.log"), Access::Read).unwrap();
    let view = segment.view(1 << 20).unwrap();
    let engine = open(&disk);
    assert_eq!(values(&engine), "f2");
    drop(view);
    send(&engine, "third").unwrap();
    assert_eq!(values(&open(&disk.crash(CrashPolicy::PowerLoss))), "f2t");
}
