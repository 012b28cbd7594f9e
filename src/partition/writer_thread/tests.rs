//! What a writer's thread does by itself, and what it is called for when another did its work.

use std::sync::Arc;
use std::task::{Wake, Waker};

use super::*;
use crate::config::{Acks, EngineConfig, TopicConfig};
use crate::disk::Disk;
use crate::partition::append::Terms;
use crate::partition::tests::bare::{Bare, record};
use crate::partition::{Command, Partition};

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

/// Sends a record when one is acknowledged.
struct Sends(Arc<Partition>);

impl Wake for Sends {
    fn wake(self: Arc<Sends>) {
        self.0.try_append(&[record(10)], false, Terms::default()).unwrap();
    }
}

#[test]
fn who_helped_leaves_to_the_thread_what_it_would_not_know_of() {
    let bare = bare();
    let mut writers = writers(&bare);
    assert!(!writers.helped_turn(true), "nothing");
    writers.planned = Some(Duration::ZERO);
    bare.send(10, false);
    writers.handle().ready(0);
    assert!(!writers.helped_turn(true), "he looked whether more came");
    assert!(!writers.is_busy());
    let end_offset = bare.send(10, false) + 1;
    let sends = Waker::from(Arc::new(Sends(bare.partition.clone())));
    bare.partition.progress.register(&mut None, Acks::Written, end_offset, &sends);
    writers.handle().ready(0);
    assert!(writers.helped_turn(true), "a partition that is to be visited again");
    assert_eq!(bare.ends(), (3, 0));
    assert!(!writers.helped_turn(true));
    let soon = Duration::from_nanos(1);
    let plans = [None, Some(SYNC_AFTER + soon), Some(SYNC_AFTER), Some(SYNC_AFTER - soon)];
    let left = plans.map(|planned| {
        writers.planned = planned;
        writers.helped_turn(true)
    });
    assert_eq!(left, [true, true, false, false], "a time that comes before the thread looks again");
    bare.partition.want_sync(1);
    writers.handle().ready(0);
    assert!(writers.helped_turn(true), "a sync that is under way");
    assert!(!writers.helped_turn(true), "it has ended");
    assert_eq!(bare.ends(), (3, 3));
    writers.handle().send(Command::Stop);
    assert!(writers.helped_turn(true), "its end");
}

#[test]
fn it_lets_go_of_the_work_for_one_who_waits_for_it_and_knows_what_is_left() {
    let bare = bare();
    let mut writers = writers(&bare);
    let (inbox, handle) = (writers.inbox.clone(), writers.handle());
    writers.work();
    inbox.writer.put(Some(writers));
    let mut work = inbox.writer.take().unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| inbox.writer.take_in_turn().is_some());
        wait_until(|| inbox.writer.is_wanted());
        work.as_mut().unwrap().work();
        assert!(!inbox.writer.is_left(), "nothing");
        bare.send(10, false);
        handle.ready(0);
        work.as_mut().unwrap().work();
        assert!(work.as_ref().unwrap().is_busy() && inbox.writer.is_left());
        assert_eq!(bare.ends(), (1, 0));
        drop(work);
        assert!(waits.join().unwrap());
    });
}

#[test]
fn what_nobody_waits_for_is_written_when_its_nap_is_over() {
    let bare = bare();
    let writers = writers(&bare);
    let (inbox, handle) = (writers.inbox.clone(), writers.handle());
    let thread = std::thread::spawn(move || writers.run());
    for end in 1..4 {
        // It may be just looking for the last time before it sleeps.
        wait_until(|| {
            inbox.writer.helped();
            inbox.unpark();
            inbox.writer.is_napping()
        });
        bare.send(10, false);
        handle.ready(0);
        wait_until(|| bare.ends().0 == end);
    }
    handle.send(Command::End { slot: 0, discard: false });
    handle.send(Command::Stop);
    thread.join().unwrap();
}
