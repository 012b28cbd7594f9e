//! Goal: single promises of D4: an error of the disk is told, ends what it must, and loses nothing acknowledged.
//!
//! Method: the real engine on a simulated disk with inline writers; faults made to order; exact
//! offsets and error kinds.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use thalweg::sim::{CrashPolicy, Operation, Repeat, SimDisk};
use thalweg::{Acks, Engine, ErrorKind, Event, OffsetCommit, Record, TopicConfig, Writers};

use crate::support::{EIO, ENOSPC, append, die, numbers, open, segments, topic};

#[test]
fn d4_a_full_disk_fails_appends_and_nothing_else() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let partition = topic(&engine);
    append(&partition, 0, 20, 1_000, Acks::Synced);
    disk.set_capacity(disk.used_bytes());
    let mut written = 20;
    let error = loop {
        match partition.append(&Record::new(&format!("{written:01000}"))).unwrap().wait() {
            Ok(at) => {
                assert_eq!(at.offset, written);
                written += 1;
            }
            Err(error) => break error,
        }
        assert!(written < 1_000, "the disk never became full");
    };
    assert_eq!(error.kind(), &ErrorKind::NoRoom, "{error}");
    assert_eq!((partition.end_offset(), partition.next_offset()), (written, written));
    // Again and again; reads, deletion and reopening go on.
    for _ in 0..5 {
        let receipt = partition.append(&Record::new(&[1; 5_000])).unwrap();
        assert_eq!(receipt.offset(), written);
        assert_eq!(receipt.wait().unwrap_err().kind(), &ErrorKind::NoRoom);
    }
    assert_eq!(numbers(&partition), (0..written).collect::<Vec<_>>());
    assert_eq!(engine.create_topic("u", TopicConfig::default()).unwrap_err().kind(), &ErrorKind::NoRoom);
    partition.delete_records(5).unwrap();
    engine.close().unwrap();
    let engine = open(&disk);
    let partition = engine.partition("t", 0).unwrap();
    assert_eq!(numbers(&partition), (5..written).collect::<Vec<_>>());
    assert_eq!(partition.append(&Record::new(&[1; 70_000])).unwrap().wait().unwrap_err().kind(), &ErrorKind::NoRoom);
    // Room again, without reopening.
    disk.set_capacity(None);
    append(&partition, written, 3, 1_000, Acks::Synced);
    engine.create_topic("u", TopicConfig::default()).unwrap();
    assert_eq!(numbers(&partition), (5..written + 3).collect::<Vec<_>>());
    assert_eq!(disk.violations(), Vec::<String>::new());
}

#[test]
fn d4_a_half_done_write_is_never_seen_again() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let config = TopicConfig::default().segment_bytes(1 << 20).batch_bytes(1 << 10).acks(Acks::Written);
    engine.create_topic("t", config).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    append(&partition, 0, 3, 2_000, Acks::Written);
    disk.fail_next(Operation::ShortWrite, ENOSPC);
    // Three batches in one write, of which two arrive whole.
    let sent: Vec<_> = [2_000, 2_000, 9_000]
        .iter()
        .map(|&bytes| partition.append(&Record::new(&vec![b'9'; bytes])).unwrap())
        .collect();
    for receipt in &sent {
        assert_eq!(receipt.wait().unwrap_err().kind(), &ErrorKind::NoRoom);
    }
    // One of the same size: if it took the first one's place, the second would follow it.
    append(&partition, 3, 1, 2_000, Acks::Synced);
    assert_eq!(sent[0].wait().unwrap_err().kind(), &ErrorKind::NoRoom, "another record has its offset now");
    assert_eq!(numbers(&partition), [0, 1, 2, 3]);
    for policy in [CrashPolicy::Kill, CrashPolicy::PowerLoss, CrashPolicy::Seeded(1), CrashPolicy::Seeded(2)] {
        let engine = open(&disk.crash(policy));
        assert_eq!(numbers(&engine.partition("t", 0).unwrap()), [0, 1, 2, 3], "{policy:?}");
    }
}

#[test]
fn d4_a_failed_sync_stops_the_partition_and_loses_nothing_acknowledged() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let partition = topic(&engine);
    engine.create_topic("other", TopicConfig::default()).unwrap();
    append(&partition, 0, 3, 100, Acks::Synced);
    append(&partition, 3, 2, 100, Acks::Written);
    disk.fail_after(0, Operation::Sync, EIO, Repeat::Once);
    let receipt = partition.append(&Record::new("x").acks(Acks::Synced)).unwrap();
    assert_eq!(receipt.wait().unwrap_err().kind(), &ErrorKind::Failed);
    // It doesn't try again as if it might succeed, though the disk would say so now.
    assert_eq!(partition.append(&Record::new("y")).unwrap_err().kind(), &ErrorKind::Failed);
    assert_eq!(partition.wait_durable(5).unwrap_err().kind(), &ErrorKind::Failed);
    assert_eq!(partition.durable_offset(), 3);
    let mut reading = partition.read(..).unwrap();
    let read: u64 = reading.by_ref().map_while(Result::ok).map(|batch| batch.iter().count() as u64).sum();
    assert_eq!(read, 3, "reads stop at the durable offset");
    let mut consumer = engine.consumer("g").assign([("t", 0)]).start().unwrap();
    let commit = OffsetCommit::new("t", 0, 5);
    assert_eq!(consumer.commit_offsets([commit], Acks::Written).unwrap_err().kind(), &ErrorKind::Failed);
    drop(consumer);
    engine.partition("other", 0).unwrap().append(&Record::new("z")).unwrap().wait().unwrap();
    assert_eq!(engine.close().unwrap_err().kind(), &ErrorKind::Failed);
    // Opened again in the same boot. What a reader holds in memory that the drive doesn't have is never durable.
    let engine = open(&disk);
    assert!(engine.recovery().sync_failed);
    let error = engine.partition("t", 0).unwrap().wait_durable(6).unwrap_err();
    assert!(error.to_string().contains("Drop all batches"), "{error}");
    engine.close().unwrap_err();
    drop(reading);
    let engine = open(&disk);
    let partition = engine.partition("t", 0).unwrap();
    let end = partition.end_offset();
    assert!(end >= 3);
    partition.wait_durable(end).unwrap();
    append(&partition, end, 1, 100, Acks::Synced);
    let lost = open(&disk.crash(CrashPolicy::PowerLoss));
    assert_eq!(lost.partition("t", 0).unwrap().end_offset(), end + 1, "durable after a failed sync is durable");
}

#[test]
fn d4_every_error_at_every_call_leaves_what_was_acknowledged() {
    let operations = [
        Operation::Write,
        Operation::ShortWrite,
        Operation::Allocate,
        Operation::Create,
        Operation::Open,
        Operation::Rename,
        Operation::Sync,
        Operation::SyncDirectory,
    ];
    for operation in operations {
        for errno in [EIO, ENOSPC] {
            for passing in 0..12 {
                let disk = SimDisk::new();
                let engine = open(&disk);
                let partition = topic(&engine);
                append(&partition, 0, 10, 9_000, Acks::Synced);
                disk.fail_after(passing, operation, errno, Repeat::Once);
                let mut synced = 10;
                for _ in 0..12 {
                    let sent = partition.append(&Record::new(&[9; 9_000]).acks(Acks::Synced));
                    if let Ok(at) = sent.and_then(|receipt| receipt.wait()) {
                        synced = at.offset + 1;
                    }
                }
                let place = format!("{operation:?} number {passing} with error {errno}");
                assert!(partition.end_offset() >= synced, "{place}");
                let lost = open(&disk.crash(CrashPolicy::PowerLoss));
                let found = lost.partition("t", 0).unwrap();
                assert!(found.end_offset() >= synced, "{place}: {} of {synced}", found.end_offset());
                assert_eq!(
                    found.read(..).unwrap().map(|batch| batch.unwrap().iter().count() as u64).sum::<u64>(),
                    found.end_offset()
                );
                assert!(lost.recovery().partitions.iter().all(|found| found.damage.is_none()), "{place}");
            }
        }
    }
}

#[test]
fn d4_times_that_cant_be_read_are_not_guessed() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let partition = topic(&engine);
    append(&partition, 0, 30, 2_000, Acks::Synced);
    engine.close().unwrap();
    // Opening reads nothing below the mark; rolling wants the times of the whole segment.
    let engine = open(&disk);
    disk.fail_next(Operation::Read, EIO);
    let partition = engine.partition("t", 0).unwrap();
    append(&partition, 30, 30, 2_000, Acks::Written);
    assert!(segments(&disk).len() > 1);
    assert_eq!(partition.offset_for_timestamp(0).unwrap(), Some(0));
    engine.sync().unwrap();
    engine.close().unwrap();
    let found = thalweg::inspect::verify_sim(&disk, "data", &mut |_| {}).unwrap();
    assert!(found.is_sound(), "{:?}", found.damage);
    assert_eq!(open(&disk).partition("t", 0).unwrap().offset_for_timestamp(0).unwrap(), Some(0));
}

#[test]
fn d4_partitions_are_not_added_when_what_was_sent_before_fails_and_nothing_hangs() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let config = TopicConfig::default().partitions(2).acks(Acks::None);
    engine.create_topic("t", config.clone()).unwrap();
    let partitions = [0, 1].map(|number| engine.partition("t", number).unwrap());
    for partition in &partitions {
        append(partition, 0, 1, 10, Acks::Synced);
        drop(partition.append(&Record::new("not written yet").acks(Acks::None)).unwrap());
    }
    // The record of partition 1 can't be written, while partition 0 is being synced.
    disk.fail_after(0, Operation::Write, ENOSPC, Repeat::Once);
    let error = engine.alter_topic("t", config.clone().partitions(3)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NoRoom, "{error}");
    engine.alter_topic("t", config.partitions(3)).unwrap();
    assert_eq!(engine.describe_topic("t").unwrap().partitions.len(), 3);
}

#[test]
fn d4_an_engine_that_does_not_open_ends_its_threads_and_opens_the_next_time() {
    const EMFILE: i32 = 24;
    let threads = |disk: &SimDisk| Engine::builder("data").writers(Writers::Threads(2)).sim(disk).seed(1).open();
    let sound = SimDisk::new();
    let engine = threads(&sound).unwrap();
    for name in ["t", "u"] {
        engine.create_topic(name, TopicConfig::default().partitions(3)).unwrap();
        (0..3).for_each(|number| append(&engine.partition(name, number).unwrap(), 0, 3, 10, Acks::Synced));
    }
    engine.close().unwrap();
    let mut refused = 0;
    for passing in 0.. {
        let disk = sound.crash(CrashPolicy::Kill);
        disk.fail_after(passing, Operation::Open, EMFILE, Repeat::Once);
        // Fails, and is dropped with it: threads that waited for a partition would never end.
        let opened = threads(&disk);
        if disk.errors_given() == 0 {
            break;
        }
        refused += u32::from(opened.is_err());
        drop(opened);
        disk.clear_faults();
        let engine = threads(&disk).unwrap();
        for name in ["t", "u"] {
            (0..3).for_each(|number| assert_eq!(numbers(&engine.partition(name, number).unwrap()), [0, 1, 2]));
        }
        engine.close().unwrap();
    }
    assert!(refused >= 6, "each partition was refused once: {refused}");
}

#[test]
fn d4_a_topic_that_could_not_be_made_can_be_made_the_next_time() {
    const EMFILE: i32 = 24;
    let config = TopicConfig::default().partitions(3);
    let mut refused = 0;
    for operation in [Operation::List, Operation::Open, Operation::CreateDirectory] {
        for passing in 0..4 {
            let disk = SimDisk::new();
            let builder = Engine::builder("data").writers(Writers::Threads(2)).sim(&disk).seed(1);
            let engine = builder.open().unwrap();
            disk.fail_after(passing, operation, EMFILE, Repeat::Once);
            let made = engine.create_topic("t", config.clone());
            disk.clear_faults();
            if let Err(error) = made {
                assert_eq!(error.kind(), &ErrorKind::NoRoom, "{operation:?} {passing}: {error}");
                assert!(engine.topics().unwrap().is_empty(), "{operation:?} {passing}");
                engine.create_topic("t", config.clone()).unwrap();
                refused += 1;
            }
            append(&engine.partition("t", 2).unwrap(), 0, 3, 10, Acks::Synced);
            // With the writers of partitions that had been opened before the error.
            engine.close().unwrap();
            drop(engine);
            assert_eq!(numbers(&open(&disk).partition("t", 2).unwrap()), [0, 1, 2], "{operation:?} {passing}");
        }
    }
    assert!(refused > 6, "{refused}");
}

#[test]
fn d4_an_error_that_kept_what_was_written_from_the_drive_is_told_at_open() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    append(&topic(&engine), 0, 3, 10, Acks::Written);
    let mut consumer = engine.consumer("g").assign([("t", 0)]).start().unwrap();
    consumer.commit_offsets([OffsetCommit::new("t", 0, 2)], Acks::Written).unwrap();
    drop(consumer);
    die(engine, &disk);
    let mut told = Vec::new();
    // The error is told to the first who syncs the file again.
    for before in 0..8 {
        let disk = disk.crash(CrashPolicy::Kill);
        disk.fail_after(before, Operation::Sync, EIO, Repeat::Once);
        let events: Arc<Mutex<Vec<PathBuf>>> = Arc::default();
        let heard = Arc::clone(&events);
        let listener = move |event: &Event| {
            if let Event::Background { what: "writing what an earlier engine left", error } = event {
                heard.lock().unwrap().push(error.path().unwrap().to_owned());
            }
        };
        let builder = Engine::builder("data").writers(Writers::Inline).sim(&disk).on_event(listener);
        if builder.open().is_ok() {
            told.append(&mut events.lock().unwrap());
        }
    }
    assert_eq!(told, [PathBuf::from("data/catalog-1"), PathBuf::from("data/offsets-1")]);
}

#[test]
fn d4_a_directory_that_can_not_be_listed_is_never_taken_for_a_new_one() {
    const ENOENT: i32 = 2;
    let disk = SimDisk::new();
    let engine = open(&disk);
    append(&topic(&engine), 0, 3, 100, Acks::Synced);
    engine.close().unwrap();
    let files = |disk: &SimDisk| -> Vec<_> {
        let is_keyed = |path: &PathBuf| path.to_str().unwrap().contains("catalog-");
        disk.list_files()
            .into_iter()
            .filter(is_keyed)
            .map(|path| (path.clone(), disk.read_file(&path).unwrap()))
            .collect()
    };
    let lists = |disk: &SimDisk| disk.count(Operation::List);
    let all = {
        let disk = disk.crash(CrashPolicy::Kill);
        let before = lists(&disk);
        open(&disk).close().unwrap();
        lists(&disk) - before
    };
    for passing in 0..all {
        for repeat in [Repeat::Once, Repeat::Forever] {
            let disk = disk.crash(CrashPolicy::Kill);
            let before = files(&disk);
            disk.fail_after(passing, Operation::List, ENOENT, repeat);
            let opened = Engine::builder("data").sim(&disk).writers(Writers::Inline).open();
            drop(opened);
            disk.clear_faults();
            let after = files(&disk);
            assert_eq!(after.len(), 1, "list {passing}, {repeat:?}: {:?}", disk.list_files());
            // What was there still begins the catalogue: it was only appended to.
            let (old, new) = (&before[0], &after[0]);
            assert_eq!((&old.0, &old.1[..4_096]), (&new.0, &new.1[..4_096]), "list {passing}, {repeat:?}");
            let engine = open(&disk);
            assert_eq!(numbers(&engine.partition("t", 0).unwrap()), [0, 1, 2], "list {passing}, {repeat:?}");
        }
    }
}
