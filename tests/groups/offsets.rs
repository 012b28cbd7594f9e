//! Committed offsets: what a group resumes from (G5, D5), and what is done to them from outside.

use thalweg::sim::CrashPolicy;
use thalweg::{Acks, Event, OffsetCommit, ResetTo, StartPolicy};

use crate::*;

#[test]
fn g5_a_group_goes_on_from_its_commit_over_restarts() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    fill(&engine, 0, 0, 5);
    let mut a = member(&engine, "g").max_poll_records(3).start().unwrap();
    assert_eq!(values(&a.poll(NOW).unwrap()), [(0, 0), (0, 1), (0, 2)]);
    a.commit().unwrap();
    assert_eq!(values(&a.poll(NOW).unwrap()), [(0, 3), (0, 4)]);
    drop(a);
    drop(engine);
    let engine = world.open();
    let mut a = member(&engine, "g").start().unwrap();
    assert_eq!(drain(&mut a), [(0, 3), (0, 4)]);
    assert_eq!(a.committed("t", 0).unwrap().unwrap().offset, 3);
}

#[test]
fn g5_where_there_is_no_commit_the_policy_decides() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    fill_timed(&engine);
    for (policy, first) in [
        (StartPolicy::Earliest, Some(0)),
        (StartPolicy::Latest, None),
        (StartPolicy::Timestamp(1_004), Some(4)),
        (StartPolicy::Timestamp(5_000), None),
    ] {
        let mut a = member(&engine, &format!("{policy:?}")).start_from(policy).start().unwrap();
        assert_eq!(drain(&mut a).first().map(|first| first.1), first, "{policy:?}");
    }
    let mut a = member(&engine, "error").start_from(StartPolicy::Error).start().unwrap();
    fails(a.poll(NOW), "NoCommittedOffset");
    fails(a.poll(NOW), "NoCommittedOffset");
    drop(a);
    engine.reset_group("error", "t", ResetTo::Offset(2), false).unwrap();
    let mut a = member(&engine, "error").start_from(StartPolicy::Error).start().unwrap();
    assert_eq!(drain(&mut a)[0], (0, 2));
    drop(a);
    // A commit whose records are gone counts as none.
    engine.partition("t", 0).unwrap().delete_records(4).unwrap();
    let mut a = member(&engine, "error").start().unwrap();
    assert_eq!(drain(&mut a), [(0, 4), (0, 5)]);
    assert_eq!(world.told(|event| matches!(event, Event::OffsetReset { committed: Some(2), to: 4, .. })), 1);
}

#[test]
fn g5_a_reader_that_retention_overtakes_goes_on_by_policy() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    fill(&engine, 0, 0, 10);
    let mut a = member(&engine, "g").max_poll_records(2).start().unwrap();
    a.poll(NOW).unwrap();
    let log = engine.partition("t", 0).unwrap();
    log.delete_records(8).unwrap();
    let read = drain(&mut a);
    assert_eq!(read.last(), Some(&(0, 9)));
}

#[test]
fn d5_a_commit_of_records_that_were_lost_never_counts_again() {
    let mut world = World::new();
    let engine = with_topic(&world, 1);
    fill(&engine, 0, 0, 5);
    let log = engine.partition("t", 0).unwrap();
    for value in 5_u64..9 {
        log.append(&Record::new(&value.to_le_bytes()).acks(Acks::Written)).unwrap().wait().unwrap();
    }
    let mut a = member(&engine, "g").commit_acks(Acks::Written).start().unwrap();
    assert_eq!(drain(&mut a).len(), 9);
    a.commit().unwrap();
    let survived = world.disk.read_file("data/offsets-1").unwrap();
    std::mem::forget((a, engine, log));
    world.disk = world.disk.crash(CrashPolicy::PowerLoss);
    // The commit survived, its records did not.
    world.disk.write_file("data/offsets-1", &survived).unwrap();
    let engine = world.open();
    assert_eq!(engine.partition("t", 0).unwrap().end_offset(), 5);
    let described = |engine: &Engine| {
        let row = engine.describe_group("g").unwrap().offsets.remove(0);
        (row.committed, row.goes_on_at, row.end_offset, row.lag())
    };
    assert_eq!(described(&engine), (Some(9), Some(5), 5, 0));
    let mut a = member(&engine, "g").start().unwrap();
    assert!(drain(&mut a).is_empty());
    assert_eq!(a.position("t", 0).unwrap(), 5);
    assert_eq!(world.told(|event| matches!(event, Event::OffsetReset { committed: Some(9), to: 5, .. })), 1);
    drop(a);
    // It grows past the commit: others stand there now.
    fill(&engine, 0, 100, 10);
    assert_eq!(described(&engine), (Some(9), Some(5), 15, 10));
    let mut a = member(&engine, "g").start().unwrap();
    assert_eq!(drain(&mut a).first(), Some(&(0, 100)));
    a.commit().unwrap();
    assert_eq!(described(&engine), (Some(15), None, 15, 0));
}

#[test]
fn d5_a_synced_commit_survives_and_takes_its_records_along() {
    let mut world = World::new();
    let engine = world.open();
    engine.create_topic("t", TopicConfig::default().acks(Acks::Written)).unwrap();
    let log = engine.partition("t", 0).unwrap();
    for value in 0_u64..5 {
        log.append(&Record::new(&value.to_le_bytes())).unwrap().wait().unwrap();
    }
    let mut a = member(&engine, "g").start().unwrap();
    assert_eq!(drain(&mut a).len(), 5);
    assert_eq!(log.durable_offset(), 0);
    a.commit().unwrap();
    assert_eq!(log.durable_offset(), 5);
    std::mem::forget((a, engine, log));
    world.disk = world.disk.crash(CrashPolicy::PowerLoss);
    let engine = world.open();
    assert_eq!(committed(&engine, "g")[&0], 5);
    let mut a = member(&engine, "g").start().unwrap();
    assert!(drain(&mut a).is_empty());
    assert_eq!(a.position("t", 0).unwrap(), 5);
}

#[test]
fn given_offsets_with_metadata_and_what_is_out_of_range() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    fill(&engine, 0, 0, 10);
    fill(&engine, 1, 0, 10);
    engine.partition("t", 1).unwrap().delete_records(3).unwrap();
    let mut a = member(&engine, "g").start().unwrap();
    drain(&mut a);
    let commit = |partition, offset| OffsetCommit::new("t", partition, offset);
    a.commit_offsets([commit(0, 4).metadata("four"), commit(1, 10)], Acks::Synced).unwrap();
    let found = a.committed("t", 0).unwrap().unwrap();
    assert_eq!((found.offset, &found.metadata[..]), (4, &b"four"[..]));
    for (wrong, kind) in [
        (vec![commit(0, 5), commit(1, 11)], "OffsetOutOfRange"),
        (vec![commit(0, 5), commit(1, 2)], "OffsetOutOfRange"),
        (vec![commit(0, 5), commit(2, 0)], "InvalidArgument"),
        (vec![commit(0, 5), commit(0, 6)], "InvalidArgument"),
        (vec![commit(0, 5).metadata(vec![1; 4_097])], "InvalidArgument"),
    ] {
        fails(a.commit_offsets(wrong, Acks::Synced), kind);
        assert_eq!(committed(&engine, "g")[&0], 4, "all or none");
    }
    a.commit_offsets([commit(0, 5).metadata(vec![1; 4_096])], Acks::Written).unwrap();
    a.commit_async().unwrap().wait().unwrap();
    assert_eq!(committed(&engine, "g")[&0], 10);
}

/// The partitions that a commit names as others' now.
#[track_caller]
fn left_out<T>(result: thalweg::Result<T>) -> Vec<(String, u32)> {
    match fails(result, "RebalanceInProgress").kind() {
        thalweg::ErrorKind::RebalanceInProgress { partitions, .. } => partitions.clone(),
        _ => unreachable!(),
    }
}

#[test]
fn a_commit_with_a_partition_that_was_given_away_commits_the_rest() {
    let mut world = World::new();
    let engine = with_topic(&world, 2);
    fill(&engine, 0, 0, 10);
    fill(&engine, 1, 0, 10);
    let mut a = member(&engine, "g").start().unwrap();
    assert_eq!(drain(&mut a).len(), 20);
    let mut b = member(&engine, "g").start().unwrap();
    settle(&mut [&mut a, &mut b]);
    let (kept, gone) = (partitions(&a)[0], partitions(&b)[0]);
    let commit = |partition, offset| OffsetCommit::new("t", partition, offset);
    let error = fails(a.commit_offsets([commit(0, 7), commit(1, 7)], Acks::Synced), "RebalanceInProgress");
    assert_eq!(
        error.to_string(),
        format!(
            "t partition {gone} isn't this member's any more in group \"g\", and was not committed; the rest was; poll to go on"
        )
    );
    assert_eq!(left_out::<()>(Err(error)), [("t".to_owned(), gone)]);
    assert_eq!(committed(&engine, "g"), [(kept, 7)].into());
    // With nothing left, the same; and what can't be anybody's is refused whole.
    assert_eq!(left_out(a.commit_offsets([commit(gone, 8)], Acks::Written)), [("t".to_owned(), gone)]);
    fails(a.commit_offsets([commit(kept, 8), commit(2, 0)], Acks::Synced), "InvalidArgument");
    fails(a.commit_offsets([commit(gone, 8), commit(kept, 11)], Acks::Synced), "OffsetOutOfRange");
    assert_eq!(committed(&engine, "g"), [(kept, 7)].into());
    // Acknowledged as synced, though the call named another.
    std::mem::forget((a, b, engine));
    world.disk = world.disk.crash(CrashPolicy::PowerLoss);
    assert_eq!(committed(&world.open(), "g"), [(kept, 7)].into());
}

#[test]
fn a_commit_after_a_topic_was_deleted_commits_the_rest() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    engine.create_topic("u", TopicConfig::default()).unwrap();
    fill(&engine, 0, 0, 3);
    let _ = engine.partition("u", 0).unwrap().append(&Record::new(&7_u64.to_le_bytes())).unwrap().wait().unwrap();
    let wants = || engine.consumer("g").subscribe(["t", "u"]);
    let gone = [("u".to_owned(), 0)];
    let mut a = wants().start().unwrap();
    assert_eq!(drain(&mut a).len(), 4);
    engine.delete_topic("u").unwrap();
    assert_eq!(left_out(a.commit_async().unwrap().wait()), gone, "the receipt tells");
    assert_eq!(committed(&engine, "g"), [(0, 3)].into());
    fill(&engine, 0, 3, 1);
    a.seek("t", 0, 2).unwrap();
    assert_eq!(left_out(a.commit()), gone);
    assert_eq!(committed(&engine, "g"), [(0, 2)].into());
    let both = [OffsetCommit::new("u", 0, 1), OffsetCommit::new("t", 0, 1)];
    assert_eq!(left_out(a.commit_offsets(both, Acks::Synced)), gone);
    assert_eq!(committed(&engine, "g"), [(0, 1)].into());
    // The poll tells the listener; then nothing is missing any more.
    assert_eq!(drain(&mut a), [(0, 2), (0, 3)]);
    a.commit().unwrap();
    assert_eq!(committed(&engine, "g"), [(0, 4)].into());
}

#[test]
fn automatic_commits_cover_what_the_poll_before_returned() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    fill(&engine, 0, 0, 6);
    let mut a = member(&engine, "g").max_poll_records(2).auto_commit(Duration::from_secs(1)).start().unwrap();
    a.poll(NOW).unwrap();
    assert_eq!(committed(&engine, "g").len(), 0);
    world.pass(1);
    a.poll(NOW).unwrap();
    assert_eq!(committed(&engine, "g")[&0], 2, "the second poll's records are not processed yet");
    a.poll(NOW).unwrap();
    assert_eq!(committed(&engine, "g")[&0], 2, "not before its time");
    // Dropped in the middle: the last poll's records come again.
    drop(a);
    let mut a = member(&engine, "g").start().unwrap();
    assert_eq!(drain(&mut a)[0], (0, 2));
}

#[test]
fn automatic_commits_at_a_hand_over() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    fill(&engine, 0, 0, 6);
    fill(&engine, 1, 0, 6);
    let often = Duration::from_secs(3_600);
    world.pass(7_200);
    let mut a = member(&engine, "g").auto_commit(often).start().unwrap();
    assert_eq!(drain(&mut a).len(), 12);
    let mut b = member(&engine, "g").auto_commit(often).start().unwrap();
    settle(&mut [&mut a, &mut b]);
    assert!(drain(&mut b).is_empty() && partitions(&b).len() == 1);
}

#[test]
fn resetting_copying_and_deleting() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    fill(&engine, 0, 0, 10);
    fill(&engine, 1, 0, 4);
    let mut a = member(&engine, "g").start().unwrap();
    drain(&mut a);
    a.commit().unwrap();
    for refused in [
        engine.reset_group("g", "t", ResetTo::Earliest, true).map(drop),
        engine.delete_group("g"),
        engine.copy_group("g", "g").map(drop),
    ] {
        let error = fails(refused, "GroupNotEmpty");
        assert!(error.to_string().contains(a.member_id().unwrap()), "{error}");
    }
    assert_eq!(engine.copy_group("g", "standby").unwrap(), 2);
    assert_eq!(committed(&engine, "standby"), committed(&engine, "g"));
    drop(a);
    let resets = engine.reset_group("g", "t", ResetTo::Offset(6), true).unwrap();
    assert_eq!(resets.iter().map(|reset| (reset.from, reset.to)).collect::<Vec<_>>(), [(Some(10), 6), (Some(4), 4)]);
    assert_eq!(committed(&engine, "g")[&0], 10, "a dry run changes nothing");
    engine.reset_group("g", "t", ResetTo::Offset(6), false).unwrap();
    let mut a = member(&engine, "g").start().unwrap();
    assert_eq!(drain(&mut a).len(), 4);
    drop(a);
    engine.delete_group("g").unwrap();
    fails(engine.describe_group("g"), "UnknownGroup");
    fails(engine.delete_group("g"), "UnknownGroup");
    fails(engine.copy_group("g", "x"), "UnknownGroup");
    fails(engine.reset_group("g", "nope", ResetTo::Latest, false), "UnknownTopic");
    drop(engine);
    let engine = world.open();
    assert_eq!(engine.groups().unwrap(), ["standby"]);
}

#[test]
fn d5_damage_to_any_life_of_the_offset_log_is_never_taken_for_a_torn_tail() {
    let world = World::new();
    let last_byte = || {
        let bytes = world.disk.read_file("data/offsets-1").unwrap();
        bytes.iter().rposition(|&byte| byte != 0).unwrap()
    };
    let mut ends = Vec::new();
    for life in 0..4 {
        let engine = if life == 0 { with_topic(&world, 1) } else { world.open() };
        fill(&engine, 0, 10 * life, 10);
        // One commit a life, synced by nothing but the close in every other.
        let acks = if life % 2 == 0 { Acks::Written } else { Acks::Synced };
        let mut consumer = engine.consumer("g").assign([("t", 0)]).commit_acks(acks).start().unwrap();
        if life == 0 {
            // Its name, and where it begins.
            ends.push(last_byte());
        }
        drain(&mut consumer);
        consumer.commit().unwrap();
        drop(consumer);
        engine.close().unwrap();
        ends.push(last_byte());
    }
    let whole = world.disk.read_file("data/offsets-1").unwrap();
    for (batch, &end) in ends.iter().enumerate() {
        let mut bytes = whole.clone();
        bytes[end - 1] ^= 1;
        world.disk.write_file("data/offsets-1", &bytes).unwrap();
        let found = thalweg::inspect::verify_sim(&world.disk, "data", &mut |_| {}).unwrap();
        assert!(!found.damage.is_empty(), "batch {batch}: {found:?}");
        let engine = world.open();
        let consumer = engine.consumer("g").assign([("t", 0)]).start();
        // The first holds the name of the group, the last the newest commit.
        if batch == 0 || batch == 4 {
            fails(consumer, "Corrupt");
        } else {
            // What stands behind the damage is the newest for sure; but nothing is added to such a file.
            let mut consumer = consumer.unwrap();
            assert_eq!(consumer.position("t", 0).unwrap(), 40);
            consumer.seek("t", 0, 0).unwrap();
            fails(consumer.commit(), "Corrupt");
        }
    }
    world.disk.remove_file("data/offsets-1").unwrap();
    fails(world.open().consumer("g").assign([("t", 0)]).start(), "Corrupt");
}

#[test]
fn groups_at_rest_expire_while_the_engine_is_open() {
    for killed in [false, true] {
        let mut world = World::new();
        let open = |world: &World| world.builder().offsets_retention_ms(Some(60_000)).open().unwrap();
        let expired = |world: &World| world.told(|event| matches!(event, Event::GroupExpired { .. }));
        let engine = open(&world);
        engine.create_topic("t", TopicConfig::default()).unwrap();
        fill(&engine, 0, 0, 3);
        for group in ["left", "by hand"] {
            let mut a = member(&engine, group).start().unwrap();
            drain(&mut a);
            a.commit().unwrap();
        }
        engine.sync().unwrap();
        // While no engine is open nobody could have done anything.
        if killed {
            std::mem::forget(engine);
            world.disk = world.disk.crash(CrashPolicy::Kill);
        } else {
            engine.close().unwrap();
        }
        world.pass(1_000);
        let engine = open(&world);
        fill(&engine, 0, 3, 1);
        assert_eq!(engine.groups().unwrap(), ["by hand", "left"]);
        // A consumer with nothing to commit is none at rest, member or not; nor is a group that was reset.
        let mut by_hand = engine.consumer("by hand").assign([("t", 0)]).start().unwrap();
        let mut waits =
            member(&engine, "waits").session_timeout(Duration::MAX).max_poll_interval(Duration::MAX).start().unwrap();
        assert_eq!((drain(&mut by_hand), drain(&mut waits).len()), (vec![(0, 3)], 4));
        by_hand.commit().unwrap();
        waits.commit().unwrap();
        world.pass(59);
        fill(&engine, 0, 4, 1);
        assert_eq!(engine.groups().unwrap(), ["by hand", "left", "waits"]);
        engine.reset_group("set", "t", ResetTo::Earliest, false).unwrap();
        world.pass(1);
        fill(&engine, 0, 5, 1);
        assert_eq!(
            (engine.groups().unwrap(), expired(&world)),
            (vec!["by hand".into(), "set".into(), "waits".into()], 1)
        );
        world.pass(500);
        fill(&engine, 0, 6, 1);
        assert_eq!((engine.groups().unwrap(), expired(&world)), (vec!["by hand".into(), "waits".into()], 2));
        drop((by_hand, waits));
        world.pass(59);
        fill(&engine, 0, 7, 1);
        assert_eq!(engine.groups().unwrap(), ["by hand", "waits"]);
        world.pass(1);
        fill(&engine, 0, 8, 1);
        assert_eq!((engine.groups().unwrap(), expired(&world)), (vec![], 4));
    }
}

#[test]
fn a_damaged_offset_log_names_the_groups_and_keeps_the_rest() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    fill(&engine, 0, 0, 5);
    for group in ["a", "b"] {
        let mut consumer = member(&engine, group).start().unwrap();
        drain(&mut consumer);
        consumer.commit().unwrap();
    }
    drop(engine);
    let mut bytes = world.disk.read_file("data/offsets-1").unwrap();
    bytes[4_096 + 110] ^= 1;
    world.disk.write_file("data/offsets-1", &bytes).unwrap();
    let engine = world.open();
    assert_eq!(world.told(|event| matches!(event, Event::OffsetLogCorrupt { .. })), 1);
    // Records are read and written all the same.
    fill(&engine, 0, 5, 1);
    assert_eq!(drain(&mut engine.assign([("t", 0)]).unwrap()).len(), 6);
    let mut consumer = member(&engine, "a").start().unwrap();
    let error = fails(consumer.poll(NOW).map(drop).and_then(|()| consumer.commit()), "Corrupt");
    assert!(error.path().unwrap().ends_with("offsets-1"), "{error}");
}

#[test]
fn d5_a_synced_commit_makes_durable_what_was_committed_unsynced_before() {
    let mut world = World::new();
    let engine = with_topic(&world, 1);
    let mut a = member(&engine, "g").commit_acks(Acks::Synced).start().unwrap();
    a.poll(NOW).unwrap();
    a.commit().unwrap();
    fill(&engine, 0, 0, 3);
    drain(&mut a);
    let _receipt = a.commit_async().unwrap();
    // Nothing is new since; all the same it says that the positions are safe.
    a.commit().unwrap();
    std::mem::forget((engine, a));
    world.disk = world.disk.crash(CrashPolicy::PowerLoss);
    assert_eq!(committed(&world.open(), "g"), [(0, 3)].into());
}

#[test]
fn d4_a_commit_of_records_that_a_failed_sync_may_have_lost_says_so() {
    let disk = SimDisk::new();
    let engine = Engine::builder("data").writers(Writers::Inline).sim(&disk).open().unwrap();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    partition.append(&Record::new("x").acks(Acks::Written)).unwrap().wait().unwrap();
    let mut consumer = engine.consumer("g").assign([("t", 0)]).start().unwrap();
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().batches().len(), 1);
    disk.fail_next(thalweg::sim::Operation::Sync, 5);
    partition.wait_durable(1).unwrap_err();
    assert_eq!(consumer.commit().unwrap_err().kind(), &thalweg::ErrorKind::Failed);
}

#[test]
fn adding_partitions_to_a_full_disk_fails_and_does_not_hang() {
    let disk = SimDisk::new();
    let engine = Engine::builder("data").writers(Writers::Inline).sim(&disk).open().unwrap();
    let config = TopicConfig::default().partitions(2);
    engine.create_topic("t", config.clone()).unwrap();
    let sent: Vec<_> = (0..2)
        .map(|number| engine.partition("t", number).unwrap().append(&Record::new(&[7; 9_000])).unwrap())
        .collect();
    // What was sent and not written yet fails while the topic waits for it.
    disk.fail_after(0, thalweg::sim::Operation::Write, 28, thalweg::sim::Repeat::Forever);
    let error = engine.alter_topic("t", config.clone().partitions(3)).unwrap_err();
    assert_eq!(error.kind(), &thalweg::ErrorKind::NoRoom, "{error}");
    disk.clear_faults();
    sent.into_iter().for_each(|receipt| assert!(receipt.wait().is_err()));
    engine.alter_topic("t", config.partitions(3)).unwrap();
    assert_eq!(engine.describe_topic("t").unwrap().partitions.len(), 3);
}

#[test]
fn d4_a_reader_of_records_that_a_failed_sync_may_have_lost_is_told() {
    let disk = SimDisk::new();
    let engine = Engine::builder("data").writers(Writers::Inline).sim(&disk).open().unwrap();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    partition.append(&Record::new("x").acks(Acks::Written)).unwrap().wait().unwrap();
    let mut consumer = engine.assign([("t", 0)]).unwrap();
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().batches().len(), 1);
    disk.fail_next(thalweg::sim::Operation::Sync, 5);
    partition.wait_durable(1).unwrap_err();
    let error = consumer.poll(Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), &thalweg::ErrorKind::Failed, "{error}");
}
