//! Goal: no record and no call is missed by a consumer that goes to sleep meanwhile, and no work by a
//! writer's thread that does while somebody helps it (C2, G3).
//!
//! Method: loom runs the orders of the threads' steps over the engine's own hand-overs: between writers
//! and consumers (`partition/ready.rs`), and between a writer's thread and those who do its work
//! (`partition/shared.rs`), compiled here with loom's atomics in place of std's.

use std::task::Waker;

use loom::sync::Arc;
use loom::thread;

#[path = "../../src/partition/ready.rs"]
#[allow(dead_code)]
mod ready;

#[path = "../../src/partition/shared.rs"]
#[allow(dead_code)]
mod shared;

/// What the engine's `lock` module gives, of loom's. Loom takes sequentially consistent operations for
/// acquire and release, but knows such fences: each operation stands between two.
mod lock {
    pub(crate) use loom::sync::atomic::{Ordering, fence};
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> loom::sync::MutexGuard<'_, T> {
        mutex.lock().unwrap()
    }

    pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        mutex.try_lock().ok()
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
    explore_up_to(3, model);
}

fn explore_up_to(switches: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut explorer = loom::model::Builder::new();
    explorer.preemption_bound = Some(switches);
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

/// A writer whose work is to take what came: how much that was in all.
struct Writer {
    shared: shared::Shared<usize>,
    news: loom::sync::atomic::AtomicUsize,
    woken: loom::sync::atomic::AtomicBool,
}

impl Writer {
    fn new() -> Arc<Writer> {
        let (news, woken) = (loom::sync::atomic::AtomicUsize::new(0), loom::sync::atomic::AtomicBool::new(false));
        Arc::new(Writer { shared: shared::Shared::new(0), news, woken })
    }

    fn has_news(&self) -> bool {
        self.news.load(loom::sync::atomic::Ordering::SeqCst) > 0
    }

    fn wake_if(&self, is_to_wake: bool) {
        if is_to_wake {
            self.woken.store(true, loom::sync::atomic::Ordering::SeqCst);
        }
    }

    fn send(&self) {
        self.news.fetch_add(1, loom::sync::atomic::Ordering::SeqCst);
        self.wake_if(self.shared.call());
    }

    /// What one does who waits; with `leaves`, he can't do all of it.
    fn help(&self, leaves: bool) {
        if let Some(mut work) = self.shared.take() {
            *work += self.news.swap(0, loom::sync::atomic::Ordering::SeqCst);
            self.wake_if(self.shared.give_back(work, leaves, || self.has_news()));
        }
    }

    /// What its thread does, until it sleeps: then nothing is undone, or it was called.
    fn run_until_asleep(&self) {
        loop {
            if (self.shared.is_left() || self.has_news())
                && let Some(mut work) = self.shared.take()
            {
                self.shared.look();
                *work += self.news.swap(0, loom::sync::atomic::Ordering::SeqCst);
            }
            if self.shared.may_sleep(|| self.has_news()) {
                return;
            }
            loom::thread::yield_now();
        }
    }

    fn check_nothing_is_forgotten(&self) {
        let woken = self.woken.load(loom::sync::atomic::Ordering::SeqCst);
        assert!(woken || !self.has_news(), "asleep, and nobody tells it of the news");
        assert!(woken || !self.shared.is_left(), "asleep, and nobody tells it of what was left");
    }
}

#[test]
fn who_helps_a_writer_leaves_nothing_undone_behind_its_back() {
    for leaves in [false, true] {
        explore_up_to(5, move || {
            let writer = Writer::new();
            let helper = writer.clone();
            let helper = thread::spawn(move || {
                helper.send();
                helper.help(leaves);
            });
            writer.run_until_asleep();
            helper.join().unwrap();
            writer.check_nothing_is_forgotten();
        });
    }
}

#[test]
fn what_comes_while_somebody_helps_is_not_forgotten() {
    explore_up_to(4, || {
        let writer = Writer::new();
        let helper = writer.clone();
        let helper = thread::spawn(move || {
            helper.send();
            helper.help(false);
        });
        let sender = writer.clone();
        let sender = thread::spawn(move || sender.send());
        writer.run_until_asleep();
        helper.join().unwrap();
        sender.join().unwrap();
        writer.check_nothing_is_forgotten();
    });
}
