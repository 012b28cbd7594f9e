//! Goal: no record and no call is missed by a consumer that goes to sleep meanwhile (C2, G3).
//!
//! Method: loom runs the orders of the threads' steps over the engine's own hand-over between
//! writers and consumers (`partition/ready.rs`, compiled here with loom's atomics in place of std's).

use std::task::Waker;

use loom::sync::Arc;
use loom::thread;

#[path = "../../src/partition/ready.rs"]
#[allow(dead_code)]
mod ready;

/// What the engine's `lock` module gives, of loom's. Loom takes sequentially consistent operations for
/// acquire and release, but knows such fences: each operation stands between two.
mod lock {
    pub(crate) use loom::sync::Mutex;
    pub(crate) use loom::sync::atomic::Ordering;
    use loom::sync::atomic::fence;

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> loom::sync::MutexGuard<'_, T> {
        mutex.lock().unwrap()
    }

    macro_rules! atomic {
        ($name:ident, $value:ty, $($operation:ident),*) => {
            #[derive(Debug, Default)]
            pub(crate) struct $name(loom::sync::atomic::$name);

            impl $name {
                #[allow(dead_code)]
                pub(crate) fn new(value: $value) -> $name {
                    $name(loom::sync::atomic::$name::new(value))
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    fence(order);
                    let value = self.0.load(Ordering::Acquire);
                    fence(order);
                    value
                }

                $(pub(crate) fn $operation(&self, value: $value, order: Ordering) -> $value {
                    fence(order);
                    let before = self.0.$operation(value, Ordering::AcqRel);
                    fence(order);
                    before
                })*
            }
        };
    }

    atomic!(AtomicBool, bool, swap);
    atomic!(AtomicU64, u64, fetch_or, fetch_and);
    atomic!(AtomicUsize, usize, fetch_max);

    impl AtomicBool {
        pub(crate) fn store(&self, value: bool, order: Ordering) {
            fence(order);
            self.0.store(value, Ordering::Release);
            fence(order);
        }
    }
}

use ready::ReadySet;

/// Every order of steps with up to three switches that no thread asked for.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut explorer = loom::model::Builder::new();
    explorer.preemption_bound = Some(3);
    explorer.check(model);
}

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
