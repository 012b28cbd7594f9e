//! Writers and a consumer that goes to sleep, over the engine's set of bits (`partition/ready.rs`).

use std::task::Waker;

use loom::sync::Arc;
use loom::thread;

use crate::explore;
use crate::ready::ReadySet;

fn set_of(bits: usize) -> Arc<ReadySet> {
    let set = Arc::new(ReadySet::default());
    set.grow(bits);
    set
}

#[test]
fn who_sleeps_is_woken_by_a_record() {
    explore(|| {
        let set = set_of(1);
        let writer = set.clone();
        let writer = thread::spawn(move || writer.set(0).is_some());
        let sleeps = set.sleep(Waker::noop());
        let woken = writer.join().unwrap();
        assert!(!sleeps || woken, "asleep, and nobody wakes it");
        assert_eq!(set.take_from(0), Some(0), "the bit is there");
    });
}

#[test]
fn of_two_writers_one_wakes_and_both_are_seen() {
    explore(|| {
        let set = set_of(2);
        let writers = [0, 1].map(|bit| {
            let writer = set.clone();
            thread::spawn(move || writer.set(bit).is_some())
        });
        let sleeps = set.sleep(Waker::noop());
        let woken = writers.map(|writer| writer.join().unwrap());
        assert!(!sleeps || woken != [false, false], "asleep, and nobody wakes it");
        assert!(woken != [true, true], "woken twice");
        assert_eq!((set.take_from(0), set.take_from(0), set.take_from(0)), (Some(0), Some(1), None));
    });
}

#[test]
fn a_call_is_seen_by_who_looks_and_wakes_who_sleeps() {
    explore(|| {
        let set = set_of(1);
        let caller = set.clone();
        let caller = thread::spawn(move || caller.call().is_some());
        let seen = set.take_call();
        let sleeps = !seen && set.sleep(Waker::noop());
        let woken = caller.join().unwrap();
        assert!(!sleeps || woken, "asleep, and nobody wakes it");
        assert!(seen || set.take_call(), "the call is lost");
    });
}

#[test]
fn a_record_that_comes_while_its_bit_is_taken_is_not_lost() {
    explore(|| {
        let set = set_of(1);
        let published = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let writer = (set.clone(), published.clone());
        let writer = thread::spawn(move || {
            for record in 1..=2 {
                writer.1.store(record, loom::sync::atomic::Ordering::Release);
                let _ = writer.0.set(0);
            }
        });
        // The bit first, then what was published: a record without a bit has been seen.
        let mut seen = 0;
        if set.take_from(0).is_some() {
            seen = published.load(loom::sync::atomic::Ordering::Acquire);
        }
        writer.join().unwrap();
        assert!(seen == 2 || set.take_from(0).is_some(), "seen up to {seen}, and no bit tells of the rest");
    });
}
