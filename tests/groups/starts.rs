//! Where a group begins (G5): the place is fixed when its first consumer starts, it is stored, and it
//! outlives hand-over, death and power loss.

use thalweg::sim::CrashPolicy;
use thalweg::{Acks, Event, OffsetCommit, ResetTo, StartPolicy};

use crate::*;

fn latest(engine: &Engine) -> ConsumerBuilder {
    member(engine, "g").start_from(StartPolicy::Latest)
}

#[test]
fn what_is_sent_after_start_is_read_whatever_happens_before_the_first_commit() {
    for policy in [CrashPolicy::Kill, CrashPolicy::PowerLoss] {
        let mut world = World::new();
        let engine = with_topic(&world, 2);
        fill(&engine, 0, 0, 5);
        let mut a = latest(&engine).start().unwrap();
        fill(&engine, 0, 5, 2);
        fill(&engine, 1, 0, 1);
        let all = [(0, 5), (0, 6), (1, 0)];
        assert_eq!(drain(&mut a), all, "sent between start and the first poll");
        // Not committed: it comes again to the next, whatever that one's own policy.
        drop(a);
        let mut b = latest(&engine).start().unwrap();
        assert_eq!(drain(&mut b), all);
        drop(b);
        assert_eq!(drain(&mut member(&engine, "g").start().unwrap()), all);
        // A member that dies, and a process or machine.
        let mut c = latest(&engine).start().unwrap();
        assert_eq!(drain(&mut c), all);
        std::mem::forget((c, engine));
        world.disk = world.disk.crash(policy);
        let engine = world.open();
        let mut d = latest(&engine).start().unwrap();
        assert_eq!(drain(&mut d), all);
        d.commit().unwrap();
        drop(d);
        assert!(drain(&mut latest(&engine).start().unwrap()).is_empty());
    }
}

#[test]
fn the_place_survives_power_loss_right_after_start() {
    for by_hand in [false, true] {
        let mut world = World::new();
        let engine = with_topic(&world, 1);
        fill(&engine, 0, 0, 5);
        // The offset log exists already: no new file is made and synced with the entry.
        member(&engine, "other").start().unwrap();
        let start = |engine: &Engine| match by_hand {
            true => engine.consumer("g").assign([("t", 0)]).start_from(StartPolicy::Latest).start().unwrap(),
            false => latest(engine).start().unwrap(),
        };
        std::mem::forget(start(&engine));
        std::mem::forget(engine);
        world.disk = world.disk.crash(CrashPolicy::PowerLoss);
        let engine = world.open();
        fill(&engine, 0, 5, 1);
        let mut a = start(&engine);
        assert_eq!(drain(&mut a), [(0, 5)], "by hand: {by_hand}");
        drop(a);
        assert_eq!(drain(&mut start(&engine)), [(0, 5)], "by hand: {by_hand}");
    }
}

#[test]
fn the_first_consumer_of_a_group_decides() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    fill_timed(&engine);
    for (policy, expected) in [
        (StartPolicy::Earliest, 0),
        (StartPolicy::Latest, 6),
        (StartPolicy::Timestamp(1_004), 4),
        (StartPolicy::Timestamp(9_000), 6),
    ] {
        let group = format!("{policy:?}");
        let a = member(&engine, &group).start_from(policy).start().unwrap();
        let row = &engine.describe_group(&group).unwrap().offsets[0];
        assert_eq!((row.committed, row.starts_at, row.lag()), (None, Some(expected), 6 - expected), "{policy:?}");
        assert_eq!(a.committed("t", 0).unwrap(), None, "nothing was committed");
        drop(a);
        for other in [StartPolicy::Earliest, StartPolicy::Latest, StartPolicy::Error] {
            let mut b = member(&engine, &group).start_from(other).start().unwrap();
            b.poll(NOW).unwrap();
            b.seek("t", 0, expected).unwrap();
            assert_eq!(drain(&mut b).len() as u64, 6 - expected, "{policy:?}, then {other:?}");
        }
        // A commit takes its place.
        let mut b = member(&engine, &group).start().unwrap();
        b.poll(NOW).unwrap();
        b.commit_offsets([OffsetCommit::new("t", 0, 3)], Acks::Synced).unwrap();
        let row = &engine.describe_group(&group).unwrap().offsets[0];
        assert_eq!((row.committed, row.starts_at, row.lag()), (Some(3), None, 3));
    }
    // Deleted and reset, a group begins as it is told.
    engine.delete_group("Latest").unwrap();
    let mut a = member(&engine, "Latest").start().unwrap();
    assert_eq!(drain(&mut a).len(), 6);
    drop(a);
    engine.reset_group("Latest", "t", ResetTo::Offset(5), false).unwrap();
    assert_eq!(drain(&mut member(&engine, "Latest").start().unwrap()), [(0, 5)]);
}

#[test]
fn what_is_made_after_start_is_read_whole() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    fill(&engine, 0, 0, 3);
    let mut a = engine.consumer("g").subscribe_pattern("t|u").start_from(StartPolicy::Latest).start().unwrap();
    // A topic that matches, and partitions that are added, before the next poll.
    engine.create_topic("u", TopicConfig::default()).unwrap();
    let _ = engine.partition("u", 0).unwrap().append(&Record::new(&8_u64.to_le_bytes())).unwrap().wait().unwrap();
    let config = engine.describe_topic("t").unwrap().config;
    engine.alter_topic("t", config.partitions(2)).unwrap();
    fill(&engine, 1, 9, 1);
    let mut read = drain(&mut a);
    read.sort_unstable();
    assert_eq!(read, [(0, 8), (1, 9)]);
    drop(a);
    let mut b = engine.consumer("g").subscribe_pattern("t|u").start_from(StartPolicy::Latest).start().unwrap();
    let mut again = drain(&mut b);
    again.sort_unstable();
    assert_eq!(again, read);
}

#[test]
fn where_retention_overtook_a_group_it_begins_anew_once() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    fill(&engine, 0, 0, 10);
    let mut a = latest(&engine).start().unwrap();
    a.poll(NOW).unwrap();
    a.commit_offsets([OffsetCommit::new("t", 0, 2)], Acks::Synced).unwrap();
    drop(a);
    engine.partition("t", 0).unwrap().delete_records(5).unwrap();
    let mut b = latest(&engine).start().unwrap();
    assert!(drain(&mut b).is_empty(), "its policy: the end");
    fill(&engine, 0, 10, 2);
    assert_eq!(drain(&mut b), [(0, 10), (0, 11)]);
    drop(b);
    let mut next = latest(&engine).start().unwrap();
    assert_eq!(drain(&mut next), [(0, 10), (0, 11)]);
    // What it had committed it still has (D5), also as another group's and in the next life.
    assert_eq!(next.committed("t", 0).unwrap().map(|committed| committed.offset), Some(2));
    drop(next);
    let row = &engine.describe_group("g").unwrap().offsets[0];
    assert_eq!((row.committed, row.starts_at, row.lag()), (Some(2), Some(10), 2));
    assert_eq!(engine.copy_group("g", "standby").unwrap(), 1);
    let copied = &engine.describe_group("standby").unwrap().offsets[0];
    assert_eq!((copied.committed, copied.starts_at), (Some(2), Some(10)));
    // The same while a member reads.
    let mut c = latest(&engine).max_poll_records(1).start().unwrap();
    assert_eq!(values(&c.poll(NOW).unwrap()), [(0, 10)]);
    c.seek("t", 0, 6).unwrap();
    engine.partition("t", 0).unwrap().delete_records(12).unwrap();
    drain(&mut c);
    fill(&engine, 0, 12, 1);
    assert_eq!(drain(&mut c), [(0, 12)]);
    drop(c);
    assert_eq!(drain(&mut latest(&engine).start().unwrap()), [(0, 12)]);
}

#[test]
fn a_copied_group_begins_where_the_other_does() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    fill(&engine, 0, 0, 3);
    let mut a = latest(&engine).start().unwrap();
    a.poll(NOW).unwrap();
    a.commit_offsets([OffsetCommit::new("t", 1, 0)], Acks::Synced).unwrap();
    fill(&engine, 0, 3, 1);
    assert_eq!(engine.copy_group("g", "standby").unwrap(), 1, "committed offsets");
    assert_eq!(drain(&mut member(&engine, "standby").start().unwrap()), [(0, 3)]);
}

#[test]
fn a_new_group_does_not_start_where_its_place_can_not_be_stored() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    fill(&engine, 0, 0, 1);
    let mut known = member(&engine, "known").start().unwrap();
    world.disk.fail_after(0, thalweg::sim::Operation::Write, 28, thalweg::sim::Repeat::Forever);
    fails(latest(&engine).start(), "NoRoom");
    // Who began before reads on.
    assert_eq!(drain(&mut known), [(0, 0)]);
    world.disk.clear_faults();
    let mut a = latest(&engine).start().unwrap();
    fill(&engine, 0, 1, 1);
    assert_eq!(drain(&mut a), [(0, 1)]);
    assert_eq!(engine.describe_group("g").unwrap().members.len(), 1, "the one that failed left");
}

/// A failed sync stops the offset log for good. Whoever only reads goes on; that its place isn't stored is told by an
/// event, and by the commit.
#[test]
fn a_new_group_reads_though_the_offset_log_has_failed() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    fill(&engine, 0, 0, 3);
    let mut a = member(&engine, "known").start().unwrap();
    drain(&mut a);
    world.disk.fail_next(thalweg::sim::Operation::Sync, 5);
    fails(a.commit(), "Failed");
    let not_stored = || {
        world.told(|event| match event {
            Event::Background { what, error } => {
                *what == "storing where a group begins" && error.kind() == &thalweg::ErrorKind::Failed
            }
            _ => false,
        })
    };
    for (number, by_hand) in [(3, false), (4, true)] {
        let before = not_stored();
        let mut b = match by_hand {
            false => latest(&engine).start().unwrap(),
            true => engine.consumer("h").assign([("t", 0)]).start_from(StartPolicy::Latest).start().unwrap(),
        };
        assert_eq!(not_stored(), before + 1, "by hand: {by_hand}");
        fill(&engine, 0, number, 1);
        assert_eq!(drain(&mut b), [(0, number)], "by hand: {by_hand}");
        fails(b.commit(), "Failed");
    }
    let failures = engine.failures();
    assert!(failures.iter().any(|failure| failure.what == "the offset log" && failure.stopped), "{failures:?}");
}
