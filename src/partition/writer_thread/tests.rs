//! What a writer's thread does by itself, and what it is called for when another did its work.

use std::sync::Arc;

use super::*;
use crate::config::{EngineConfig, TopicConfig};
use crate::disk::Disk;
use crate::partition::Command;
use crate::partition::tests::bare::Bare;

const SYNC_AFTER: Duration = Duration::from_millis(1);

fn bare() -> Bare {
    let config = EngineConfig { sync_ms: 1, ..EngineConfig::default() };
    Bare::new(config, TopicConfig::default(), 0)
}

/// A loop over this partition, in slot 0.
fn writers(bare: &Bare) -> WriterLoop {
    let writers = WriterLoop::new(bare.disk.queue(), Arc::new(bare.clock.clone()));
    writers.handle().send(Command::Add(0, Box::new(bare.writer(0))));
    writers
}

/// Waits until it is so; a minute is never.
fn wait_until(condition: impl Fn() -> bool) {
    let (give_up, mut looks) = (std::time::Instant::now() + Duration::from_secs(60), 0_u64);
    while !condition() {
        looks += 1;
        assert!(looks % 1_000 != 0 || std::time::Instant::now() < give_up, "it never comes");
        thread::yield_now();
    }
}

#[test]
fn a_thread_that_nobody_calls_syncs_what_was_written_when_its_time_has_come() {
    let bare = bare();
    let writers = writers(&bare);
    let handle = writers.handle();
    let thread = std::thread::spawn(move || writers.run());
    for end in 1..4 {
        bare.send(10, false);
        handle.ready(0);
        wait_until(|| bare.ends().0 == end);
        assert_eq!(bare.ends().1, end - 1, "the clock stands still");
        bare.clock.advance(SYNC_AFTER);
        wait_until(|| bare.ends().1 == end);
    }
    handle.send(Command::End { slot: 0, discard: false });
    handle.send(Command::Stop);
    thread.join().unwrap();
}

#[test]
fn it_works_until_no_partition_is_to_be_visited_again() {
    let bare = bare();
    let mut writers = writers(&bare);
    bare.send(10, false);
    writers.handle().ready(0);
    writers.work();
    bare.partition.want_sync(1);
    writers.handle().ready(0);
    writers.work();
    assert_eq!(bare.ends(), (1, 1));
    // The time for which nothing is left to sync comes when there is something to write.
    bare.send(10, false);
    bare.clock.advance(SYNC_AFTER);
    assert_eq!(writers.due(), Some(SYNC_AFTER));
    writers.work();
    assert_eq!(bare.ends(), (2, 1));
    assert!(!writers.is_busy());
    assert_eq!(writers.plan(), Some(2 * SYNC_AFTER));
}

#[test]
fn who_helped_leaves_to_the_thread_what_it_would_not_know_of() {
    let bare = bare();
    let mut writers = writers(&bare);
    assert!(!writers.helped_turn(), "nothing");
    bare.send(10, false);
    writers.handle().ready(0);
    writers.planned = Some(Duration::ZERO);
    assert!(writers.helped_turn(), "a partition that is to be visited again");
    let soon = Duration::from_nanos(1);
    let plans = [None, Some(SYNC_AFTER + soon), Some(SYNC_AFTER), Some(SYNC_AFTER - soon)];
    let left = plans.map(|planned| {
        writers.planned = planned;
        writers.helped_turn()
    });
    assert_eq!(left, [true, true, false, false], "a time that comes before the thread looks again");
    bare.partition.want_sync(1);
    writers.handle().ready(0);
    assert!(writers.helped_turn(), "a sync that is under way");
    assert!(!writers.helped_turn(), "it has ended");
    assert_eq!(bare.ends(), (1, 1));
    writers.handle().send(Command::Stop);
    assert!(writers.helped_turn(), "its end");
}
