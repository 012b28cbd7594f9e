//! Waiting in an engine without threads: one works, the others park, and nobody sleeps on.

use std::future::poll_fn;
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::partition::tests::{Bell, Sleeps};
use crate::sim::SimClock;

type Noted = Arc<Mutex<Vec<Option<Duration>>>>;

/// A drive with nothing to do, and how long it slept each time.
fn idle() -> (Drive, Noted) {
    let noted = Noted::default();
    let queue = Sleeps { noted: noted.clone(), waker: Waker::noop().clone() };
    let writers = WriterLoop::new(Box::new(queue), Arc::new(SimClock::new()));
    (Drive::Inline(Box::new(Inline::new(writers))), noted)
}

fn inline(drive: &Drive) -> &Inline {
    match drive {
        Drive::Inline(inline) => inline,
        Drive::Threads => unreachable!("it has no threads"),
    }
}

fn waiter(parker: &Parker, worker: Waker) -> Arc<Waiter> {
    let unparker = parker.unparker().clone();
    Arc::new(Waiter { woken: AtomicBool::new(false), sleeps: AtomicBool::new(false), unparker, worker })
}

/// A future that is done when it is asked for the `n`th time, though nobody wakes it.
fn done_when_asked(n: usize) -> impl Future<Output = usize> {
    let mut asked = 0;
    poll_fn(move |_| {
        asked += 1;
        if asked == n { Poll::Ready(asked) } else { Poll::Pending }
    })
}

#[test]
fn a_wake_up_is_noted_and_ends_a_sleep_in_the_queue() {
    let parker = Parker::new();
    for by_value in [true, false] {
        for sleeps in [false, true] {
            let (bell, worker) = Bell::new();
            let waiter = waiter(&parker, worker);
            waiter.sleeps.store(sleeps, Ordering::SeqCst);
            let waker = Waker::from(waiter.clone());
            if by_value {
                waker.wake();
            } else {
                waker.wake_by_ref();
            }
            assert!(waiter.woken.load(Ordering::SeqCst));
            assert_eq!(bell.rung(), usize::from(sleeps));
        }
    }
}

#[test]
fn who_waits_without_a_limit_sleeps_from_one_look_to_the_next_until_it_is_done() {
    let (drive, noted) = idle();
    assert_eq!(drive.wait(done_when_asked(3), None), Some(3));
    assert_eq!(*lock(&noted), [Some(LOOK_EVERY), Some(LOOK_EVERY)]);
}

#[test]
fn who_was_woken_before_he_sleeps_does_not_sleep() {
    let (drive, noted) = idle();
    let mut woken = false;
    let future = poll_fn(|context| {
        if std::mem::replace(&mut woken, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    });
    assert_eq!(drive.wait(future, None), Some(()));
    assert_eq!(*lock(&noted), []);
}

#[test]
fn a_clock_that_stands_still_ends_the_wait_with_a_last_look() {
    let clock = SimClock::new();
    let limit = Duration::from_secs(1);
    for (n, outcome) in [(2, Some(2)), (3, None)] {
        let (drive, noted) = idle();
        assert_eq!(drive.wait(done_when_asked(n), Some((limit, &clock))), outcome);
        assert_eq!(*lock(&noted), [Some(limit)]);
    }
}

#[test]
fn nobody_parks_while_nobody_works_and_others_keep_their_place() {
    let (drive, _) = idle();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let (parker, inline) = (Parker::new(), inline(&drive));
        let other = waiter(&parker, Waker::noop().clone());
        lock(&inline.queued).push(other.clone());
        inline.park(&waiter(&parker, Waker::noop().clone()), &parker, None);
        let queued = lock(&inline.queued);
        ended.send(queued.len() == 1 && Arc::ptr_eq(&queued[0], &other)).unwrap();
    });
    assert_eq!(end.recv_timeout(Duration::from_secs(60)), Ok(true));
}

#[test]
fn who_waits_while_another_works_parks_until_he_is_woken() {
    let (drive, _) = idle();
    let inline = inline(&drive);
    let asked: Mutex<Vec<Waker>> = Mutex::default();
    let done = AtomicBool::new(false);
    let future = poll_fn(|context| {
        lock(&asked).push(context.waker().clone());
        if done.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    });
    let works = lock(&inline.writers);
    thread::scope(|scope| {
        let waits = scope.spawn(|| drive.wait(future, None));
        while lock(&inline.queued).is_empty() && lock(&asked).len() < 2 {
            thread::yield_now();
        }
        // One who doesn't park asks again and again.
        (0..1_000).for_each(|_| thread::yield_now());
        done.store(true, Ordering::SeqCst);
        let first = lock(&asked)[0].clone();
        first.wake();
        assert_eq!(waits.join().unwrap(), Some(()));
    });
    drop(works);
    assert_eq!(lock(&asked).len(), 2);
    assert!(lock(&inline.queued).is_empty());
}
