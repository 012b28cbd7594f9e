//! Who is told of an offset that was reached or failed, whom a change wakes, and who goes first.

use std::sync::Arc;
use std::task::Waker;

use super::Bell;
use crate::config::Acks;
use crate::error::Error;
use crate::panics::wake_each;
use crate::partition::progress::{Caller, Progress, WaitQueue};

fn bells<const N: usize>() -> ([Arc<Bell>; N], [Waker; N]) {
    let made = [(); N].map(|()| Bell::new());
    (made.clone().map(|(bell, _)| bell), made.map(|(_, waker)| waker))
}

fn rung<const N: usize>(bells: &[Arc<Bell>; N]) -> [usize; N] {
    bells.each_ref().map(|bell| bell.rung())
}

fn reason(outcome: Option<Result<(), Error>>) -> String {
    match outcome {
        None => "open".into(),
        Some(Ok(())) => "done".into(),
        Some(Err(error)) => told(Some(error)),
    }
}

fn told(error: Option<Error>) -> String {
    let text = error.map_or("nothing".into(), |error| error.to_string());
    ["first", "second", "third", "nothing"].into_iter().find(|word| text.contains(word)).unwrap_or_default().into()
}

#[test]
fn d4_an_offset_is_acknowledged_or_failed_in_the_run_it_was_given_in() {
    let progress = Progress::new(0, 0, 0);
    assert_eq!(progress.end_run(Error::invalid("first"), 9), 1);
    progress.set_written(5);
    assert_eq!(progress.end_run(Error::invalid("second"), 9), 2);
    progress.set_written(9);
    let outcome = |end_offset, run| reason(progress.outcome(Acks::Written, end_offset, run, None));
    assert_eq!([1, 5, 6].map(|end| outcome(end, 0)), ["first", "first", "first"]);
    assert_eq!([5, 6, 9].map(|end| outcome(end, 1)), ["done", "second", "second"]);
    assert_eq!([5, 9, 10].map(|end| outcome(end, 2)), ["done", "done", "open"]);
    let synced = |end_offset, run| reason(progress.outcome(Acks::Synced, end_offset, run, None));
    assert_eq!([synced(5, 1), synced(6, 1), synced(5, 2)], ["open", "second", "open"]);
    progress.set_durable(5);
    assert_eq!([synced(5, 1), synced(6, 1), synced(6, 2)], ["done", "second", "open"]);
}

#[test]
fn runs_that_end_at_one_offset_fail_for_the_reason_of_the_first() {
    let progress = Progress::new(0, 3, 3);
    assert_eq!([progress.end_run(Error::invalid("first"), 9), progress.end_run(Error::invalid("second"), 9)], [1, 2]);
    for run in [0, 1] {
        let outcome = |end_offset| reason(progress.outcome(Acks::Written, end_offset, run, None));
        assert_eq!([outcome(3), outcome(4)], ["done", "first"], "run {run}");
    }
    assert_eq!(reason(progress.outcome(Acks::Written, 4, 2, None)), "open");
    assert_eq!(told(progress.failure_between(1, 2)), "first");
}

#[test]
fn of_several_failures_the_newest_is_told_that_came_before_the_run() {
    let progress = Progress::new(0, 0, 0);
    let told = |since, run| told(progress.failure_between(since, run));
    assert_eq!(told(0, 0), "nothing");
    for (number, reason) in ["first", "second", "third"].into_iter().enumerate() {
        progress.set_written(number as u64 * 5);
        progress.end_run(Error::invalid(reason), 99);
    }
    assert_eq!([told(0, 1), told(0, 2), told(0, 3)], ["first", "second", "third"]);
    assert_eq!([told(1, 2), told(2, 3)], ["second", "third"]);
    assert_eq!([told(1, 1), told(3, 3)], ["nothing", "nothing"]);
}

#[test]
fn an_offset_that_is_reached_wakes_those_who_wait_for_it_and_counts_the_crowd() {
    let progress = Progress::new(0, 0, 0);
    let (bells, wakers) = bells::<5>();
    let mut ids = [None; 5];
    let waits = [(Acks::Written, 1), (Acks::Synced, 1), (Acks::Written, 2), (Acks::Synced, 2), (Acks::Synced, 2)];
    for (at, (level, end_offset)) in waits.into_iter().enumerate() {
        progress.register(&mut ids[at], level, end_offset, &wakers[at]);
    }
    progress.set_written(1);
    assert_eq!((rung(&bells), progress.waiting()), ([1, 0, 0, 0, 0], 4));
    progress.set_written(2);
    assert_eq!((rung(&bells), progress.waiting()), ([1, 0, 1, 0, 0], 3));
    assert_eq!(progress.set_durable(1), 3, "one is done, two go on waiting");
    assert_eq!((rung(&bells), progress.waiting()), ([1, 1, 1, 0, 0], 2));
    assert_eq!(progress.set_durable(1), 2);
    assert_eq!(progress.set_durable(2), 2);
    assert_eq!((rung(&bells), progress.waiting()), ([1; 5], 0));
    assert_eq!(progress.set_durable(3), 0);
}

#[test]
fn each_has_a_place_of_his_own_among_those_who_wait() {
    let progress = Progress::new(0, 0, 0);
    let (bells, wakers) = bells::<5>();
    let mut ids = [None; 3];
    for at in 0..3 {
        progress.register(&mut ids[at], Acks::Written, 1, &wakers[at]);
    }
    // He asks again with another waker, and the first of all leaves.
    progress.register(&mut ids[1], Acks::Written, 1, &wakers[3]);
    progress.forget(ids[0].unwrap());
    assert_eq!(progress.waiting(), 2);
    progress.set_written(1);
    assert_eq!((rung(&bells), progress.waiting()), ([0, 0, 1, 1, 0], 0));
    // His place is gone: he takes a new one.
    progress.register(&mut ids[1], Acks::Written, 2, &wakers[4]);
    progress.set_written(2);
    assert_eq!(rung(&bells), [0, 0, 1, 1, 1]);
}

#[test]
fn who_waits_counts_as_alone_after_eight_who_did() {
    let progress = Progress::new(0, 0, 0);
    let end = std::cell::Cell::new(0);
    let wake = |count: usize| {
        end.set(end.get() + 1);
        (0..count).for_each(|_| progress.register(&mut None, Acks::Written, end.get(), Waker::noop()));
        assert!(!progress.has_lone_waiters() || count == 0, "somebody waits");
        progress.set_written(end.get());
        progress.has_lone_waiters()
    };
    assert_eq!([1; 9].map(wake), [false, false, false, false, false, false, false, true, true]);
    assert!(wake(0), "nobody waited: nothing was learned");
    assert!(!wake(2));
    assert_eq!([1; 8].map(wake), [false, false, false, false, false, false, false, true]);
}

#[test]
fn threads_that_wait_for_room_go_in_the_order_of_coming() {
    let mut queue = WaitQueue::default();
    assert!(queue.may_go(None));
    let (bells, wakers) = bells::<4>();
    let mut tickets = [None; 3];
    for at in 0..3 {
        assert!(queue.wait(&mut tickets[at], wakers[at].clone(), Caller::Thread).is_none());
    }
    assert!(queue.wait(&mut tickets[1], wakers[3].clone(), Caller::Thread).unwrap().will_wake(&wakers[1]));
    let may_go = |queue: &WaitQueue| tickets.map(|ticket| queue.may_go(ticket));
    assert_eq!(may_go(&queue), [true, false, false]);
    assert!(!queue.may_go(None), "newcomers come last");
    wake_each(queue.call());
    assert_eq!(rung(&bells), [1, 0, 0, 0]);
    wake_each(queue.call_all());
    assert_eq!(rung(&bells), [1, 0, 1, 1], "the first was called already");
    assert!(queue.leave(tickets[2].unwrap()).unwrap().will_wake(&wakers[2]));
    assert!(queue.leave(tickets[0].unwrap()).unwrap().will_wake(&wakers[0]));
    assert_eq!(may_go(&queue), [false, true, false]);
    assert!(queue.call().is_empty(), "it was called already");
    assert!(queue.leave(tickets[1].unwrap()).is_some());
    assert!(queue.leave(tickets[1].unwrap()).is_none());
    assert!(queue.call().is_empty() && queue.may_go(None));
}

/// A waker is code of the user's: one that panics is contained, and those behind it are woken.
#[test]
fn a_waker_that_panics_keeps_nobody_from_being_woken() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("from a waker");
        }
    }
    let progress = Progress::new(0, 0, 0);
    let (bells, wakers) = bells::<2>();
    progress.register(&mut None, Acks::Written, 1, &wakers[0]);
    progress.register(&mut None, Acks::Written, 1, &Waker::from(Arc::new(Panics)));
    progress.register(&mut None, Acks::Written, 1, &wakers[1]);
    progress.set_written(1);
    assert_eq!((rung(&bells), progress.waiting()), ([1, 1], 0));
}

/// The last handle on a task may be its waker, and the task may own other futures of the engine's. Dropping it under
/// the lock that those give their places up under would never end.
#[test]
fn a_waker_that_owns_another_place_is_dropped_without_the_lock() {
    struct Owns(Arc<Progress>, u64);
    impl std::task::Wake for Owns {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Owns {
        fn drop(&mut self) {
            self.0.forget(self.1);
        }
    }
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let progress = Arc::new(Progress::new(0, 0, 0));
        let owner = || {
            let mut id = None;
            progress.register(&mut id, Acks::Written, 1, Waker::noop());
            Waker::from(Arc::new(Owns(progress.clone(), id.unwrap())))
        };
        let (mut replaced, mut forgotten) = (None, None);
        progress.register(&mut replaced, Acks::Written, 1, &owner());
        progress.register(&mut replaced, Acks::Written, 1, Waker::noop());
        progress.register(&mut forgotten, Acks::Written, 1, &owner());
        progress.forget(forgotten.unwrap());
        ended.send(progress.waiting()).unwrap();
    });
    assert_eq!(end.recv_timeout(std::time::Duration::from_secs(60)), Ok(1), "only the one that was polled anew");
}
