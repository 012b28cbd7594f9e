//! Which of a consumer's partitions may have something new: one bit each.
//!
//! A writer sets its bit and wakes only a consumer that sleeps; the consumer looks at set bits and
//! never at all its partitions.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use crate::lock::lock;

#[derive(Debug)]
pub(crate) struct ReadySet {
    words: Vec<AtomicU64>,
    sleeping: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl ReadySet {
    /// A set of `bits` bits, all set: everything is worth a first look.
    pub(crate) fn new(bits: usize) -> ReadySet {
        let set = ReadySet {
            words: (0..bits.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            sleeping: AtomicBool::new(false),
            waker: Mutex::default(),
        };
        for bit in 0..bits {
            set.words[bit / 64].fetch_or(1 << (bit % 64), Ordering::Relaxed);
        }
        set
    }

    /// Sets a bit; the waker if its consumer sleeps.
    pub(crate) fn set(&self, bit: usize) -> Option<Waker> {
        self.words.get(bit / 64)?.fetch_or(1 << (bit % 64), Ordering::SeqCst);
        self.take_sleeper()
    }

    /// The waker of a sleeping consumer, which counts as awake from now on.
    pub(crate) fn take_sleeper(&self) -> Option<Waker> {
        if !self.sleeping.load(Ordering::SeqCst) || !self.sleeping.swap(false, Ordering::SeqCst) {
            return None;
        }
        lock(&self.waker).take()
    }

    /// Takes the first set bit at or after `from`, going round; clears it.
    pub(crate) fn take_from(&self, from: usize) -> Option<usize> {
        let count = self.words.len();
        let first = if count == 0 { return None } else { (from / 64) % count };
        for step in 0..=count {
            let at = (first + step) % count;
            let mask = match step {
                0 => u64::MAX << (from % 64),
                _ if step == count => !(u64::MAX << (from % 64)),
                _ => u64::MAX,
            };
            let found = self.words[at].load(Ordering::SeqCst) & mask;
            if found != 0 {
                let bit = found.trailing_zeros() as usize;
                self.words[at].fetch_and(!(1 << bit), Ordering::SeqCst);
                return Some(at * 64 + bit);
            }
        }
        None
    }

    /// Whether any bit is set.
    pub(crate) fn any(&self) -> bool {
        self.words.iter().any(|word| word.load(Ordering::SeqCst) != 0)
    }

    /// Goes to sleep: from now on a bit that is set wakes `waker`. `false` if one is set already.
    pub(crate) fn sleep(&self, waker: &Waker) -> bool {
        *lock(&self.waker) = Some(waker.clone());
        self.sleeping.store(true, Ordering::SeqCst);
        if self.any() {
            self.sleeping.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Ends a sleep that nobody ended.
    pub(crate) fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }
}
