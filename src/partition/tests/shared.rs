//! Work that others may do while its thread sleeps, with one thread; with several: tests/loom.

use std::cell::Cell;

use crate::partition::shared::Shared;

const NO_NEWS: fn() -> bool = || false;
const NEWS: fn() -> bool = || true;

#[test]
fn a_thread_that_sleeps_is_called_once() {
    let shared = Shared::new(());
    assert!(!shared.call(), "it is awake");
    assert!(shared.may_sleep(NO_NEWS));
    assert_eq!([shared.call(), shared.call()], [true, false]);
    assert!(shared.may_sleep(NO_NEWS));
    shared.awake();
    assert!(!shared.call(), "it has woken by itself");
}

#[test]
fn a_thread_does_not_sleep_while_there_is_something_that_nobody_is_at() {
    let shared = Shared::new(());
    assert!(!shared.may_sleep(NEWS));
    assert!(!shared.call(), "it did not go to sleep");
    shared.leave();
    assert!(shared.is_left() && !shared.may_sleep(NO_NEWS));
    // Who is at it calls, if he leaves some.
    let work = shared.take().unwrap();
    assert!(shared.may_sleep(NEWS) && shared.may_sleep(NO_NEWS));
    drop(work);
    shared.look();
    assert!(!shared.is_left() && shared.may_sleep(NO_NEWS));
}

#[test]
fn who_gives_the_work_back_wakes_the_thread_if_it_sleeps_and_something_is_left() {
    let shared = Shared::new(());
    let wakes = |left: bool, news: fn() -> bool| shared.give_back(shared.take().unwrap(), left, news);
    assert!(!wakes(false, NEWS) && !wakes(false, NO_NEWS), "it is awake");
    assert!(shared.may_sleep(NO_NEWS));
    assert!(!wakes(false, NO_NEWS), "nothing is left");
    assert!(wakes(false, NEWS));
    assert!(shared.may_sleep(NO_NEWS));
    assert!(wakes(true, NO_NEWS) && shared.is_left());
    assert!(!wakes(true, NEWS), "it was called before");
}

#[test]
fn a_thread_naps_once_for_each_time_that_somebody_helped() {
    let shared = Shared::new(());
    let napped = Cell::new(0);
    let naps = || shared.nap(|| napped.set(napped.get() + 1));
    assert!(!naps());
    shared.helped();
    shared.helped();
    assert_eq!([naps(), naps()], [true, false]);
    assert_eq!(napped.get(), 1);
    shared.helped();
    assert!(!shared.rouse(), "it does not nap yet");
    assert!(!naps(), "and won't");
    assert_eq!(napped.get(), 1);
    shared.helped();
    assert!(shared.nap(|| assert_eq!([shared.rouse(), shared.rouse()], [true, false])));
    shared.helped();
    assert!(shared.nap(|| assert!(shared.give_back(shared.take().unwrap(), false, NEWS))), "he left some");
    assert!(!shared.rouse(), "it naps no longer");
}

#[test]
fn one_waits_for_the_work_and_has_it_next() {
    let shared = Shared::new(0);
    drop(shared.take_in_turn().unwrap());
    let mut work = shared.take().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| *shared.take_in_turn().unwrap());
        while !shared.is_wanted() {
            std::thread::yield_now();
        }
        assert!(shared.take_in_turn().is_none(), "one is enough");
        let naps = shared.nap(|| {
            *work = 7;
            drop(work);
            assert_eq!(waiting.join().unwrap(), 7);
        });
        assert!(naps, "it leaves the work to him");
    });
    assert!(!shared.is_wanted() && !shared.nap(|| ()));
}
