//! The ready set with one thread; with several: tests/loom.

use std::task::Waker;

use super::ready::ReadySet;

#[test]
fn bits_are_found_in_turn_while_the_set_grows() {
    let set = ReadySet::default();
    assert_eq!(set.take_from(0), None);
    for bits in [1, 64, 65, 130, 600, 5_000] {
        set.grow(bits);
        let last = bits - 1;
        assert!(set.set(last).is_none());
        assert_eq!(set.take_from(last / 2), Some(last), "{bits} bits");
        assert_eq!(set.take_from(0), None);
    }
    for bit in [3, 700, 701, 4_999] {
        set.set(bit);
    }
    let found: Vec<_> = std::iter::successors(set.take_from(700), |bit| set.take_from(bit + 1)).collect();
    assert_eq!(found, [700, 701, 4_999, 3]);
    assert!(set.set(1 << 20).is_none(), "a bit beyond the set is no bit");
    assert_eq!(set.take_from(0), None);
}

#[test]
fn the_search_begins_where_it_is_told_to() {
    let set = ReadySet::default();
    set.grow(300);
    for bit in [1, 5, 64, 70, 200] {
        set.set(bit);
    }
    let found = [3, 66, 71, 201, 0].map(|from| set.take_from(from));
    assert_eq!(found, [5, 70, 200, 1, 64].map(Some));
    set.set(1);
    assert_eq!(set.take_from(2), Some(1), "all the way round, to what lies before the beginning in its word");
    assert_eq!(set.take_from(2), None);
    set.set(66);
    assert_eq!(set.take_from(5_000), Some(66), "a place beyond the set is a place in it");
}

#[test]
fn nobody_sleeps_over_what_came_before() {
    let set = ReadySet::default();
    set.grow(200);
    set.set(130);
    assert!(!set.sleep(Waker::noop()));
    assert!(set.set(131).is_none(), "he doesn't sleep");
    while set.take_from(0).is_some() {}
    assert!(set.sleep(Waker::noop()));
    set.awake();
    set.call();
    assert!(!set.sleep(Waker::noop()));
}

#[test]
fn a_sleeper_is_woken_once() {
    let set = ReadySet::default();
    set.grow(2);
    assert!(set.sleep(Waker::noop()));
    assert!(set.call().is_some());
    assert!(set.set(1).is_none(), "awake already");
    assert!(!set.sleep(Waker::noop()));
    assert!(set.take_call() && !set.take_call());
    assert_eq!(set.take_from(0), Some(1));
    assert!(set.sleep(Waker::noop()));
    set.awake();
    assert!(set.set(0).is_none());
}
