//! The buffers that the engine lends: how large, how many at a time, which are kept, and whose turn it is.

use std::sync::Arc;
use std::task::Waker;

use super::Bell;
use crate::panics::wake_each;
use crate::partition::pool::Pool;
use crate::partition::progress::Caller;

const KIB: usize = 1 << 10;

/// Lends a buffer of this capacity and gives another back in its place that can be told from a new one.
fn keep_marked(pool: &Pool, capacity: usize) {
    drop(pool.lend(capacity, None).unwrap());
    assert!(pool.give_back(Vec::with_capacity(marked(capacity)), capacity).is_empty());
}

fn marked(capacity: usize) -> usize {
    capacity + 8
}

/// Bytes that are lent and that are kept for reuse.
fn held(pool: &Pool) -> (usize, usize) {
    let text = format!("{pool:?}");
    let number = |name: &str| {
        let (_, behind) = text.split_once(name).unwrap();
        behind.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    (number("lent_bytes: "), number("free_bytes: "))
}

#[test]
fn a_buffer_is_as_large_as_is_wanted_in_steps_and_as_is_needed() {
    let capacities = |write_bytes, asked: &[(usize, usize)]| -> Vec<usize> {
        let pool = Pool::new(1 << 20, write_bytes);
        asked.iter().map(|&(wanted, least)| pool.capacity(wanted, least)).collect()
    };
    let asked = [(0, 1), (16 * KIB, 1), (0, 16 * KIB), (16 * KIB + 1, 1), (0, 16 * KIB + 1), (64 * KIB, 1)];
    assert_eq!(capacities(256 * KIB, &asked), [16, 16, 16, 64, 64, 64].map(|size| size * KIB));
    let asked = [(64 * KIB + 1, 1), (usize::MAX, 1), (0, 256 * KIB), (0, 256 * KIB + 1)];
    assert_eq!(capacities(256 * KIB, &asked), [256, 256, 256, 512].map(|size| size * KIB));
    // One record or batch that one write doesn't carry: steps of two, up to half of all.
    let asked = [(usize::MAX, 64 * KIB + 1), (0, 129 * KIB), (0, 500 * KIB), (0, 600 * KIB)];
    assert_eq!(capacities(64 * KIB, &asked), [128, 256, 512, 600].map(|size| size * KIB));
    // The largest need not be one of the steps.
    assert_eq!(capacities(100 * KIB, &[(64 * KIB, 1), (64 * KIB + 1, 1)]), [64 * KIB, 100 * KIB]);
    assert_eq!(capacities(10 * KIB, &[(0, 1), (usize::MAX, 1), (0, 11 * KIB)]), [10, 10, 20].map(|size| size * KIB));
}

#[test]
fn a_partition_holds_little_but_two_batches_always() {
    let may_hold = |limit_bytes, held, capacity| Pool::new(limit_bytes, 256 * KIB).partition_may_hold(held, capacity);
    let mib = KIB * KIB;
    assert!(may_hold(64 * mib, 8 * mib - 64 * KIB, 64 * KIB) && !may_hold(64 * mib, 8 * mib, 16 * KIB));
    assert!(may_hold(64 * mib, 16 * mib, 16 * mib) && !may_hold(64 * mib, 16 * mib + 1, 16 * mib));
    // No more than half of all.
    assert!(may_hold(288 * KIB, 80 * KIB, 64 * KIB) && !may_hold(288 * KIB, 81 * KIB, 64 * KIB));
    assert!(may_hold(40 * mib, 0, 20 * mib) && !may_hold(40 * mib, 16 * KIB, 20 * mib));
}

#[test]
fn no_more_than_the_limit_is_lent_at_a_time() {
    let pool = Pool::new(96 * KIB, 64 * KIB);
    let first = pool.lend(64 * KIB, None).unwrap();
    assert_eq!(first.capacity(), 64 * KIB);
    assert!(pool.lend(32 * KIB + 1, None).is_none());
    let second = pool.lend(32 * KIB, None).unwrap();
    assert!(pool.lend(1, None).is_none());
    assert!(pool.give_back(first, 64 * KIB).is_empty());
    assert!(pool.lend(64 * KIB + 1, None).is_none());
    assert!(pool.lend(64 * KIB, None).is_some());
    assert!(pool.give_back(second, 32 * KIB).is_empty());
    assert_eq!(held(&pool).0, 64 * KIB);
}

#[test]
fn a_buffer_of_each_common_size_is_kept_for_the_next_who_wants_one() {
    let pool = Pool::new(4 << 20, 100 * KIB);
    let common = [16 * KIB, 64 * KIB, 100 * KIB, 200 * KIB, 400 * KIB];
    for capacity in common {
        keep_marked(&pool, capacity);
    }
    assert_eq!(held(&pool), (0, 780 * KIB));
    let lent = common.map(|capacity| pool.lend(capacity, None).unwrap());
    assert_eq!(lent.each_ref().map(Vec::capacity), common.map(marked));
    assert_eq!(held(&pool), (780 * KIB, 0));
    for (buffer, capacity) in lent.into_iter().zip(common) {
        assert!(pool.give_back(buffer, capacity).is_empty());
    }
    for capacity in [KIB, 32 * KIB, 100 * KIB + 1, 300 * KIB] {
        keep_marked(&pool, capacity);
        assert_eq!(pool.lend(capacity, None).unwrap().capacity(), capacity, "no common size");
        assert!(pool.give_back(Vec::new(), capacity).is_empty());
    }
    assert_eq!(held(&pool), (0, 780 * KIB));
    assert!(pool.lend(16 * KIB, None).unwrap().is_empty());
}

#[test]
fn what_is_kept_and_what_is_lent_are_within_the_limit_together() {
    let pool = Pool::new(160 * KIB, 64 * KIB);
    let sizes = [16, 16, 64, 64].map(|size| size * KIB);
    let lent = sizes.map(|size| (pool.lend(size, None).unwrap(), size));
    for (buffer, size) in lent {
        assert!(pool.give_back(buffer, size).is_empty());
    }
    assert_eq!(held(&pool), (0, 160 * KIB), "all are kept that fit");
    // Of a size that isn't kept: the largest give way.
    let odd = pool.lend(40 * KIB, None).unwrap();
    assert_eq!(held(&pool), (40 * KIB, 96 * KIB));
    let large = pool.lend(64 * KIB, None).unwrap();
    assert_eq!(held(&pool), (104 * KIB, 32 * KIB));
    assert!(pool.give_back(large, 64 * KIB).is_empty());
    assert_eq!(held(&pool), (40 * KIB, 96 * KIB));
    let odd_too = pool.lend(100 * KIB, None).unwrap();
    assert_eq!(held(&pool), (140 * KIB, 16 * KIB));
    assert!(pool.give_back(odd, 40 * KIB).is_empty());
    assert!(pool.give_back(odd_too, 100 * KIB).is_empty());
    assert_eq!(held(&pool), (0, 16 * KIB));
}

#[test]
fn threads_that_wait_for_a_buffer_are_woken_in_turn() {
    let pool = Pool::new(64 * KIB, 64 * KIB);
    let lent = pool.lend(64 * KIB, None).unwrap();
    let (bells, tickets) = waiting(&pool, [Caller::Thread; 3]);
    let rung = || bells.each_ref().map(|bell| bell.rung());
    assert_eq!(rung(), [0, 0, 0]);
    wake_each(pool.give_back(lent, 64 * KIB));
    assert_eq!(rung(), [1, 0, 0]);
    assert!(pool.lend(KIB, None).is_none() && pool.lend(KIB, tickets[1]).is_none(), "it isn't their turn");
    // The first takes one and leaves some: the next may go.
    assert!(pool.lend(16 * KIB, tickets[0]).is_some());
    pool.forget(tickets[0].unwrap());
    assert_eq!(rung(), [1, 1, 0]);
    // The next gives up: the last may go.
    pool.forget(tickets[1].unwrap());
    assert_eq!(rung(), [1, 1, 1]);
    assert!(pool.lend(16 * KIB, tickets[2]).is_some());
    pool.forget(tickets[2].unwrap());
    assert!(pool.lend(16 * KIB, None).is_some(), "nobody waits any more");
}

/// A task may never be polled again: whatever waits behind it goes on without it.
#[test]
fn nothing_waits_behind_a_task_that_was_called_and_does_not_come() {
    let pool = Pool::new(64 * KIB, 64 * KIB);
    let lent = pool.lend(64 * KIB, None).unwrap();
    let (bells, mut tickets) = waiting(&pool, [Caller::Task, Caller::Task, Caller::Thread, Caller::Task]);
    let rung = || bells.each_ref().map(|bell| bell.rung());
    assert!(pool.lend(KIB, tickets[1]).is_none(), "nobody was called yet");
    wake_each(pool.give_back(lent, 64 * KIB));
    assert_eq!(rung(), [1, 1, 1, 0], "all tasks up to the first thread, and that thread");
    assert!(pool.lend(KIB, tickets[3]).is_none(), "a thread comes before it, and will come");
    let by_thread = pool.lend(64 * KIB, tickets[2]).unwrap();
    pool.forget(tickets[2].unwrap());
    assert_eq!(rung(), [1, 1, 1, 1]);
    // The second task comes, finds none, and waits on in its old place: those behind it wait again.
    pool.wait(&mut tickets[1], Waker::noop(), Caller::Task);
    wake_each(pool.give_back(by_thread, 64 * KIB));
    assert!(pool.lend(KIB, tickets[3]).is_some());
    assert!(pool.lend(KIB, None).is_some(), "all were called");
}

fn waiting<const N: usize>(pool: &Pool, callers: [Caller; N]) -> ([Arc<Bell>; N], [Option<u64>; N]) {
    let mut tickets = [None; N];
    let bells = std::array::from_fn(|at| {
        let (bell, waker) = Bell::new();
        pool.wait(&mut tickets[at], &waker, callers[at]);
        bell
    });
    (bells, tickets)
}
