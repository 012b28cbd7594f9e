//! Goal: single promises of D1 to D6, each with the sequence of steps that could break it.
//!
//! Method: the real engine on a simulated disk with inline writers; faults made to order; exact
//! offsets and error kinds.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thalweg::sim::{CrashPolicy, Operation, Repeat, SimClock, SimDisk};
use thalweg::{Acks, Engine, ErrorKind, Event, OffsetCommit, Partition, Record, TopicConfig, Writers};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn open(disk: &SimDisk) -> Engine {
    let clock = Arc::new(SimClock::new());
    Engine::builder("data").writers(Writers::Inline).sim(disk).clock(clock).seed(1).open().unwrap()
}

fn topic(engine: &Engine) -> Partition {
    let config = TopicConfig::default().segment_bytes(64 << 10).acks(Acks::Written);
    engine.create_topic("t", config).unwrap();
    engine.partition("t", 0).unwrap()
}

fn append(partition: &Partition, from: u64, count: u64, bytes: usize, acks: Acks) {
    for number in from..from + count {
        let value = format!("{number:0bytes$}");
        let at = partition.append(&Record::new(&value).acks(acks)).unwrap().wait().unwrap();
        assert_eq!(at.offset, number);
    }
}

fn numbers(partition: &Partition) -> Vec<u64> {
    let batches: Vec<_> = partition.read(..).unwrap().map(Result::unwrap).collect();
    let text = |value: &[u8]| std::str::from_utf8(value).unwrap().trim_start_matches('0').parse().unwrap_or(0);
    batches.iter().flat_map(|batch| batch.iter()).map(|record| text(record.value().unwrap())).collect()
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let all = disk.list_files();
    all.into_iter()
        .filter(|path| path.starts_with("data/topics/t/0") && !path.to_string_lossy().contains("set-aside"))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect()
}

/// Lets an engine die without a word.
fn die(engine: Engine, disk: &SimDisk) {
    disk.cut_power_after(0);
    drop(engine);
}

#[test]
fn d1_synced_survives_power_loss_and_written_the_process() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let partition = topic(&engine);
    append(&partition, 0, 3, 10, Acks::Synced);
    append(&partition, 3, 2, 10, Acks::Written);
    let lost = open(&disk.crash(CrashPolicy::PowerLoss));
    assert_eq!(numbers(&lost.partition("t", 0).unwrap()), [0, 1, 2]);
    let killed = open(&disk.crash(CrashPolicy::Kill));
    assert_eq!(numbers(&killed.partition("t", 0).unwrap()), [0, 1, 2, 3, 4]);
    assert!(!killed.recovery().clean);
    assert!(killed.recovery().partitions.is_empty(), "nothing was cut");
}

#[test]
fn d1_a_data_directory_is_durable_with_its_first_topic() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    topic(&engine);
    let found = open(&disk.crash(CrashPolicy::PowerLoss));
    assert_eq!(found.topics().unwrap(), ["t"]);
}

#[test]
fn d2_a_batch_that_is_half_there_is_cut_whole() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let partition = topic(&engine);
    append(&partition, 0, 3, 100, Acks::Synced);
    let records: Vec<_> = (0..20).map(|_| Record::new(&[7; 100]).acks(Acks::Written)).collect();
    partition.append_batch(&records).unwrap().wait().unwrap();
    let killed = disk.crash(CrashPolicy::Kill);
    die(engine, &disk);
    // The last bytes that were written never arrived.
    let path = &segments(&killed)[0];
    let mut bytes = killed.read_file(path).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[end - 60..].fill(0);
    killed.write_file(path, &bytes).unwrap();
    let engine = open(&killed);
    let partition = engine.partition("t", 0).unwrap();
    assert_eq!(numbers(&partition), [0, 1, 2]);
    let recovery = engine.recovery();
    assert_eq!((recovery.partitions.len(), recovery.partitions[0].end_offset), (1, 3));
    assert!(recovery.partitions[0].cut_bytes > 2_000, "{recovery:?}");
    // The log goes on where it ends, and what was cut never comes back.
    append(&partition, 3, 1, 10, Acks::Synced);
    for policy in [CrashPolicy::Kill, CrashPolicy::PowerLoss] {
        assert_eq!(numbers(&open(&killed.crash(policy)).partition("t", 0).unwrap()), [0, 1, 2, 3]);
    }
}

#[test]
fn d3_damage_below_the_evidence_is_never_cut() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let partition = topic(&engine);
    let catalog = disk.read_file("data/catalog-1").unwrap();
    append(&partition, 0, 10, 100, Acks::Synced);
    let found = disk.crash(CrashPolicy::Kill);
    die(engine, &disk);
    // Marks are never synced: without them, the batches themselves are the evidence.
    found.write_file("data/catalog-1", catalog).unwrap();
    let path = segments(&found)[0].clone();
    let good = found.read_file(&path).unwrap();
    // Every byte of the first nine batches: a later one says that they were durable.
    let batch = 96 + 120;
    for at in (4096..4096 + 9 * batch).step_by(13) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        found.write_file(&path, &bytes).unwrap();
        let looked_at = found.crash(CrashPolicy::Kill);
        let engine = open(&looked_at);
        let number = (at - 4096) / batch;
        let partition = engine.partition("t", 0).unwrap();
        assert_eq!(partition.end_offset(), 10, "byte {at}: nothing was cut");
        let found = engine.recovery().partitions[0].clone();
        let damage = found.damage.clone().unwrap_or_else(|| panic!("byte {at}: {found:?}"));
        assert!(matches!(damage.kind(), ErrorKind::Corrupt { .. }), "{damage}");
        assert_eq!((damage.path(), damage.position()), (Some(path.as_path()), Some((4096 + number * batch) as u64)));
        let error = partition.append(&Record::new("x")).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
        // What is intact before it is served, then the damage is named.
        let mut reading = partition.read(..).unwrap();
        for _ in 0..number {
            reading.next().unwrap().unwrap();
        }
        let error = reading.next().unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "byte {at}: {error}");
        assert_eq!((error.path(), error.position()), (Some(path.as_path()), Some((4096 + number * batch) as u64)));
        // What is intact behind it can be read too.
        assert_eq!(partition.get(9).unwrap().offset(), 9);
        assert_eq!(looked_at.read_file(&path).unwrap(), bytes, "byte {at}: nothing changes");
    }
}

#[test]
fn d3_a_missing_file_is_damage_only_below_the_evidence() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let partition = topic(&engine);
    append(&partition, 0, 40, 5_000, Acks::Synced);
    append(&partition, 40, 40, 5_000, Acks::Written);
    let durable = partition.durable_offset();
    assert!((40..80).contains(&durable), "{durable}");
    let found = disk.crash(CrashPolicy::Kill);
    let files = segments(&found);
    assert!(files.len() >= 5, "{files:?}");
    for path in &files {
        let without = found.crash(CrashPolicy::Kill);
        without.remove_file(path).unwrap();
        let engine = open(&without);
        let partition = engine.partition("t", 0).unwrap();
        let base: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let recovery = engine.recovery();
        match &recovery.partitions[..] {
            [found] if found.damage.is_some() => assert!(base < durable, "{base} of {durable}: {found:?}"),
            _ => {
                // Everything before it is there; the rest was a torn tail.
                assert_eq!(numbers(&partition), (0..base).collect::<Vec<_>>());
                assert!(base >= durable, "{base} of {durable}");
            }
        }
    }
}

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
fn d6_opening_reads_by_segments_not_by_bytes() {
    let reads = |segment_bytes: u64, bytes: usize| {
        let disk = SimDisk::new();
        let engine = open(&disk);
        let config = TopicConfig::default().segment_bytes(segment_bytes).max_message_bytes(1 << 20);
        engine.create_topic("t", config).unwrap();
        let partition = engine.partition("t", 0).unwrap();
        let records: Vec<_> = (0..10).map(|_| vec![5; bytes]).collect();
        for record in &records {
            let _ = partition.append(&Record::new(record)).unwrap().wait().unwrap();
        }
        engine.sync().unwrap();
        engine.close().unwrap();
        let before = disk.count(Operation::Read);
        let engine = open(&disk);
        assert_eq!(engine.partition("t", 0).unwrap().end_offset(), 10);
        disk.count(Operation::Read) - before
    };
    assert_eq!(reads(2 << 20, 1_000), reads(2 << 20, 150_000), "one segment");
    assert_eq!(reads(64 << 10, 25_000), reads(2 << 20, 800_000), "five segments of two records");
}

#[test]
fn d1_time_alone_syncs_what_was_written() {
    let disk = SimDisk::new();
    let clock = SimClock::new();
    let builder = Engine::builder("data").writers(Writers::Inline).sim(&disk).clock(Arc::new(clock.clone()));
    let engine = builder.sync_ms(500).open().unwrap();
    let partition = topic(&engine);
    append(&partition, 0, 1, 10, Acks::Written);
    assert_eq!(partition.durable_offset(), 0);
    clock.advance(Duration::from_millis(500));
    let mut consumer = engine.assign([("t", 0)]).unwrap();
    for _ in 0..3 {
        consumer.poll(Duration::ZERO).unwrap();
    }
    assert_eq!(partition.durable_offset(), 1, "synced by itself after sync_ms");
}

#[test]
fn d2_what_validates_is_never_written_over_and_never_comes_back() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let partition = topic(&engine);
    append(&partition, 0, 1, 1_000, Acks::Synced);
    append(&partition, 1, 3, 1_000, Acks::Written);
    let found = disk.crash(CrashPolicy::Kill);
    die(engine, &disk);
    // The second batch never arrived; those behind it did.
    let path = segments(&found)[0].clone();
    let mut bytes = found.read_file(&path).unwrap();
    let batch = 96 + 16 + 1_000;
    bytes[4096 + batch..4096 + 2 * batch].fill(0);
    found.write_file(&path, &bytes).unwrap();
    let engine = open(&found);
    let partition = engine.partition("t", 0).unwrap();
    assert_eq!(numbers(&partition), [0]);
    // One of the same size: in the gap it would make the old ones follow it.
    append(&partition, 1, 1, 1_000, Acks::Synced);
    assert_eq!(numbers(&partition), [0, 1]);
    assert_eq!(segments(&found).len(), 2, "it goes on in a new segment");
    let now = found.read_file(&path).unwrap();
    assert_eq!(now[..bytes.len().min(now.len())], bytes[..bytes.len().min(now.len())]);
    assert!(now.len() >= 4096 + 4 * batch, "a reader may hold what stands there");
    for policy in [CrashPolicy::Kill, CrashPolicy::PowerLoss] {
        let engine = open(&found.crash(policy));
        assert_eq!(numbers(&engine.partition("t", 0).unwrap()), [0, 1], "{policy:?}");
    }
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
fn d3_a_topic_that_was_begun_anew_while_the_deleted_ones_files_are_there_is_no_obstacle() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let partition = topic(&engine);
    append(&partition, 0, 1, 10, Acks::Synced);
    engine.delete_topic("t").unwrap();
    let deleted = disk.list_files().into_iter().filter(|path| path.to_string_lossy().contains(".deleted-"));
    let deleted: Vec<_> = deleted.map(|path| (path.clone(), disk.read_file(&path).unwrap())).collect();
    die(engine, &disk);
    let disk = disk.crash(CrashPolicy::Kill);
    // As if unlinking were not durable, and the next topic of the name only had its directories.
    disk.write_file("data/topics/.deleted-1/0/00000000000000000000.log", b"").unwrap();
    for (path, bytes) in deleted {
        disk.write_file(path, bytes).unwrap();
    }
    disk.write_file("data/topics/t/0/next.tmp", b"").unwrap();
    let engine = open(&disk);
    append(&topic(&engine), 0, 1, 10, Acks::Synced);
    engine.close().unwrap();
    let left = disk.list_files().into_iter().filter(|path| path.to_string_lossy().contains(".deleted-")).count();
    assert_eq!(left, 0);
}

#[test]
fn d2_the_times_of_a_segment_that_was_read_in_part_are_not_guessed() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let config = TopicConfig::default().segment_bytes(64 << 10).index_interval_bytes(4 << 10);
    engine.create_topic("t", config).unwrap();
    let append = |engine: &Engine, bytes: usize, timestamp: i64| {
        let value = vec![1; bytes];
        let record = Record::new(&value).timestamp(timestamp).acks(Acks::Written);
        engine.partition("t", 0).unwrap().append(&record).unwrap().wait().unwrap();
    };
    append(&engine, 10, 1_000);
    engine.close().unwrap();
    let engine = open(&disk);
    for _ in 0..5 {
        append(&engine, 10_000, 10);
    }
    // This begins another segment, and the index of the first is written.
    append(&engine, 30_000, 2_000);
    die(engine, &disk);
    let engine = open(&disk.crash(CrashPolicy::Kill));
    let partition = engine.partition("t", 0).unwrap();
    assert_eq!(partition.get(4).unwrap().view().value().map(<[u8]>::len), Some(10_000));
    assert_eq!(partition.offset_for_timestamp(500).unwrap(), Some(0));
    assert_eq!(partition.offset_for_timestamp(1_500).unwrap(), Some(6));
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
fn d3_what_a_deletion_left_under_the_name_is_not_taken_for_the_next_topic() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    append(&topic(&engine), 0, 5, 10, Acks::Synced);
    // The catalogue says that it is deleted, and its directory keeps its name.
    disk.fail_next(Operation::Rename, EIO);
    let _ = engine.delete_topic("t");
    assert_eq!(segments(&disk).len(), 1);
    let partition = topic(&engine);
    assert_eq!((partition.end_offset(), segments(&disk).len()), (0, 0));
    append(&partition, 0, 1, 10, Acks::Synced);
    assert_eq!(numbers(&partition), [0]);
    engine.close().unwrap();
    assert!(thalweg::inspect::verify_sim(&disk, "data", &mut |_| {}).unwrap().is_sound());
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
