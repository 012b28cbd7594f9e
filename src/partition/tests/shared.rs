//! Work that others may do while its thread sleeps, with one thread; with several: tests/loom.

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
