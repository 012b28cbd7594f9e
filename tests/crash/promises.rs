//! Goal: single promises of D1 to D6 but for D4, each with the sequence of steps that could break it.
//!
//! Method: the real engine on a simulated disk with inline writers; faults made to order; exact
//! offsets and error kinds.

use std::sync::Arc;
use std::time::Duration;

use thalweg::sim::{CrashPolicy, Operation, Repeat, SimClock, SimDisk};
use thalweg::{Acks, Engine, ErrorKind, Record, TopicConfig, Writers};

use crate::support::{EACCES, EIO, append, die, numbers, open, segments, topic};

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
    let (found, path) = killed_after_the_last_acknowledgement();
    // Marks and notes are never synced: without them, the batches themselves are the evidence.
    found.remove_file("data/evidence").unwrap();
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

/// A disk whose process died right after the last of ten records was acknowledged as synced, and the segment.
fn killed_after_the_last_acknowledgement() -> (SimDisk, std::path::PathBuf) {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let partition = topic(&engine);
    // Without any mark: what lies below one isn't read when a log is opened.
    let catalog = disk.read_file("data/catalog-1").unwrap();
    append(&partition, 0, 10, 100, Acks::Synced);
    let found = disk.crash(CrashPolicy::Kill);
    die(engine, &disk);
    found.write_file("data/catalog-1", catalog).unwrap();
    let path = segments(&found)[0].clone();
    (found, path)
}

#[test]
fn d3_what_was_acknowledged_as_synced_is_never_cut_after_a_kill() {
    let (found, path) = killed_after_the_last_acknowledgement();
    let good = found.read_file(&path).unwrap();
    let batch = 96 + 120;
    let places = (0..512).step_by(29).chain((4096..4096 + 10 * batch).step_by(13));
    for at in places.chain([4096 + 10 * batch - 25]) {
        let damaged = found.crash(CrashPolicy::Kill);
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        damaged.write_file(&path, &bytes).unwrap();
        let verified = thalweg::inspect::verify_sim(&damaged, "data", &mut |_| {}).unwrap();
        assert!(!verified.is_sound() && verified.unfinished.is_empty(), "byte {at}: {verified:?}");
        // It stays so: closing takes nothing of the evidence away.
        for life in 1..=2 {
            let engine = open(&damaged);
            let recovery = engine.recovery();
            assert!(recovery.partitions[0].damage.is_some(), "byte {at}, life {life}: {recovery:?}");
            assert_eq!(recovery.partitions[0].cut_bytes, 0, "byte {at}, life {life}");
            let error = engine.partition("t", 0).unwrap().append(&Record::new("x")).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "byte {at}, life {life}: {error}");
            engine.close().unwrap_err();
        }
        assert_eq!(damaged.read_file(&path).unwrap(), bytes, "byte {at}: nothing changes");
    }
}

#[test]
fn d3_repair_ends_no_lower_than_what_was_acknowledged_as_synced() {
    let (found, path) = killed_after_the_last_acknowledgement();
    let mut bytes = found.read_file(&path).unwrap();
    bytes[4096 + 9 * 216 + 100] ^= 1;
    found.write_file(&path, bytes).unwrap();
    let done = thalweg::inspect::repair_sim(&found, "data", false, &mut |_| {}).unwrap();
    assert_eq!((done.lost.len(), done.lost[0].offsets.clone()), (1, 9..10), "{done:?}");
    let engine = open(&found);
    let partition = engine.partition("t", 0).unwrap();
    assert_eq!((numbers(&partition), partition.end_offset()), ((0..9).collect(), 10));
    append(&partition, 10, 1, 10, Acks::Synced);
}

#[test]
fn d5_a_commit_acknowledged_as_synced_is_never_cut_after_a_kill() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    append(&topic(&engine), 0, 10, 100, Acks::Synced);
    let mut consumer = engine.consumer("g").assign([("t", 0)]).start().unwrap();
    for offset in [3, 7] {
        consumer.commit_offsets([thalweg::OffsetCommit::new("t", 0, offset)], Acks::Synced).unwrap();
    }
    let found = disk.crash(CrashPolicy::Kill);
    let mut bytes = found.read_file("data/offsets-1").unwrap();
    // The newest commit; nothing was written since.
    let last = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[last] ^= 1;
    found.write_file("data/offsets-1", &bytes).unwrap();
    assert!(!thalweg::inspect::verify_sim(&found, "data", &mut |_| {}).unwrap().is_sound());
    for _ in 0..2 {
        let engine = open(&found);
        let group = engine.describe_group("g").unwrap();
        assert!(group.offsets[0].in_doubt, "{group:?}");
        assert_eq!(group.offsets[0].committed, Some(3));
        let _ = engine.close();
    }
    thalweg::inspect::repair_sim(&found, "data", false, &mut |_| {}).unwrap();
    assert!(thalweg::inspect::verify_sim(&found, "data", &mut |_| {}).unwrap().is_sound());
    assert!(!open(&found).describe_group("g").unwrap().offsets[0].in_doubt);
}

/// Whoever copies a directory while it is written to may copy a segment before the notes: they count for nothing there.
#[test]
fn d3_notes_that_were_copied_are_no_evidence() {
    let (found, path) = killed_after_the_last_acknowledgement();
    let notes = found.read_file("data/evidence").unwrap();
    found.remove_file("data/evidence").unwrap();
    found.write_file("data/evidence", notes).unwrap();
    let mut bytes = found.read_file(&path).unwrap();
    bytes[4096 + 9 * 216..].fill(0);
    found.write_file(&path, bytes).unwrap();
    let engine = open(&found);
    assert!(engine.recovery().partitions.is_empty(), "{:?}", engine.recovery());
    let partition = engine.partition("t", 0).unwrap();
    assert_eq!(partition.end_offset(), 9);
    // This life's notes count.
    append(&partition, 9, 2, 100, Acks::Synced);
    let found = found.crash(CrashPolicy::Kill);
    let mut bytes = found.read_file(&path).unwrap();
    bytes[4096 + 10 * 216 + 100] ^= 1;
    found.write_file(&path, bytes).unwrap();
    assert!(open(&found).recovery().partitions[0].damage.is_some());
}

/// Nor does a life that only opens and closes take evidence away: what the notes said stands in the catalogue then.
#[test]
fn d3_what_was_acknowledged_as_synced_is_not_cut_after_a_life_without_records() {
    let (found, path) = killed_after_the_last_acknowledgement();
    open(&found).close().unwrap();
    assert!(found.read_file("data/evidence").is_err());
    let mut bytes = found.read_file(&path).unwrap();
    bytes[4096 + 9 * 216 + 100] ^= 1;
    found.write_file(&path, bytes).unwrap();
    assert!(open(&found).recovery().clean);
    assert!(!thalweg::inspect::verify_sim(&found, "data", &mut |_| {}).unwrap().is_sound());
}

#[test]
fn d3_after_a_clean_close_no_notes_are_left() {
    let (found, _) = killed_after_the_last_acknowledgement();
    assert!(found.read_file("data/evidence").is_ok());
    open(&found).close().unwrap();
    assert!(found.read_file("data/evidence").is_err());
    assert!(thalweg::inspect::verify_sim(&found, "data", &mut |_| {}).unwrap().ignored.is_empty());
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
    // The header of the last batch is looked for backwards from the mark, in steps of 4 KiB, 64 KiB, 1 MiB.
    assert_eq!(reads(2 << 20, 1_000) + 2, reads(2 << 20, 150_000), "one segment");
    assert_eq!(reads(64 << 10, 25_000) + 1, reads(2 << 20, 800_000), "five segments of two records");
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
fn d3_what_a_deletion_left_under_the_name_is_not_taken_for_the_next_topic() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    append(&topic(&engine), 0, 5, 10, Acks::Synced);
    // The catalogue says that it is deleted, and its directory keeps its name, and there its file.
    disk.fail_next(Operation::Rename, EIO);
    disk.fail_next(Operation::Unlink, EIO);
    engine.delete_topic("t").unwrap();
    assert_eq!(segments(&disk).len(), 1);
    let partition = topic(&engine);
    assert_eq!((partition.end_offset(), segments(&disk).len()), (0, 0));
    append(&partition, 0, 1, 10, Acks::Synced);
    assert_eq!(numbers(&partition), [0]);
    engine.close().unwrap();
    assert!(thalweg::inspect::verify_sim(&disk, "data", &mut |_| {}).unwrap().is_sound());
}

/// What can't be removed of a deleted topic, at whatever step, keeps nobody from opening the others (a step
/// that recovery repeats may fail for one topic only), and the name is free once it can be.
#[test]
fn d4_a_deleted_topic_that_can_not_be_removed_harms_no_other() {
    for operation in [Operation::Rename, Operation::Unlink, Operation::RemoveDirectory, Operation::SyncDirectory] {
        let disk = SimDisk::new();
        let engine = open(&disk);
        append(&topic(&engine), 0, 5, 10, Acks::Synced);
        engine.create_topic("other", TopicConfig::default()).unwrap();
        // Neither renamed nor emptied, in this life and the next.
        let repeat = if operation == Operation::SyncDirectory { Repeat::Once } else { Repeat::Forever };
        disk.fail_after(0, operation, EACCES, repeat);
        if operation == Operation::Rename {
            disk.fail_after(0, Operation::Unlink, EACCES, Repeat::Forever);
        }
        engine.delete_topic("t").unwrap();
        drop(engine);
        let engine = open(&disk);
        assert_eq!(engine.topics().unwrap(), ["other"], "{operation:?}");
        if operation == Operation::Rename {
            assert_eq!(engine.recovery().not_removed.len(), 1, "{operation:?}");
            engine.create_topic("t", TopicConfig::default()).expect_err("its name isn't free");
        }
        disk.clear_faults();
        append(&engine.partition("other", 0).unwrap(), 0, 3, 10, Acks::Synced);
        engine.close().unwrap();
        let engine = open(&disk);
        append(&topic(&engine), 0, 1, 10, Acks::Synced);
        engine.close().unwrap();
        let left: Vec<_> =
            disk.list_files().into_iter().filter(|path| path.to_string_lossy().contains(".deleted-")).collect();
        assert!(left.is_empty(), "{operation:?}: {left:?}");
        assert!(thalweg::inspect::verify_sim(&disk, "data", &mut |_| {}).unwrap().is_sound(), "{operation:?}");
    }
}
