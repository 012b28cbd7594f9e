//! Which of a consumer's partitions may have something new: one bit each.
//!
//! A writer sets its bit and wakes only a consumer that sleeps; the consumer looks at set bits and
//! never at all its partitions. The set grows without moving: its words lie in blocks, each as large
//! as all before it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::task::Waker;

use crate::lock::lock;

/// Blocks of 1, 1, 2, 4, 8… words: together more bits than there can be partitions.
const BLOCKS: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct ReadySet {
    blocks: [OnceLock<Box<[AtomicU64]>>; BLOCKS],
    /// Words in use.
    words: AtomicUsize,
    /// Something else than records wants to be looked at.
    called: AtomicBool,
    sleeping: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// Block and place in it of a word.
fn place(word: usize) -> (usize, usize) {
    match word.checked_ilog2() {
        None => (0, 0),
        Some(log) => (log as usize + 1, word - (1 << log)),
    }
}

impl ReadySet {
    /// Makes room for bits below `bits`.
    pub(crate) fn grow(&self, bits: usize) {
        let words = bits.div_ceil(64);
        if words <= self.words.load(Ordering::SeqCst) {
            return;
        }
        for (at, block) in self.blocks.iter().enumerate().take(place(words - 1).0 + 1) {
            let length = if at == 0 { 1 } else { 1 << (at - 1) };
            block.get_or_init(|| (0..length).map(|_| AtomicU64::new(0)).collect());
        }
        self.words.fetch_max(words, Ordering::SeqCst);
    }

    fn word(&self, word: usize) -> Option<&AtomicU64> {
        let (block, at) = place(word);
        self.blocks.get(block)?.get()?.get(at)
    }

    /// Sets a bit; the waker if its consumer sleeps.
    pub(crate) fn set(&self, bit: usize) -> Option<Waker> {
        self.word(bit / 64)?.fetch_or(1 << (bit % 64), Ordering::SeqCst);
        self.take_sleeper()
    }

    /// Has the consumer look up though no record came; the waker if it sleeps.
    pub(crate) fn call(&self) -> Option<Waker> {
        self.called.store(true, Ordering::SeqCst);
        self.take_sleeper()
    }

    /// Whether it was called since this was last asked.
    pub(crate) fn take_call(&self) -> bool {
        self.called.swap(false, Ordering::SeqCst)
    }

    /// The waker of a sleeping consumer, which counts as awake from now on.
    fn take_sleeper(&self) -> Option<Waker> {
        if !self.sleeping.load(Ordering::SeqCst) || !self.sleeping.swap(false, Ordering::SeqCst) {
            return None;
        }
        lock(&self.waker).take()
    }

    /// Takes the first set bit at or after `from`, going round; clears it.
    pub(crate) fn take_from(&self, from: usize) -> Option<usize> {
        let count = self.words.load(Ordering::SeqCst);
        let first = if count == 0 { return None } else { (from / 64) % count };
        for step in 0..=count {
            let at = (first + step) % count;
            let mask = match step {
                0 => u64::MAX << (from % 64),
                _ if step == count => !(u64::MAX << (from % 64)),
                _ => u64::MAX,
            };
            let Some(word) = self.word(at) else { continue };
            let found = word.load(Ordering::SeqCst) & mask;
            if found != 0 {
                let bit = found.trailing_zeros() as usize;
                word.fetch_and(!(1 << bit), Ordering::SeqCst);
                return Some(at * 64 + bit);
            }
        }
        None
    }

    /// Whether any bit is set.
    fn any(&self) -> bool {
        let words = self.words.load(Ordering::SeqCst);
        (0..words).any(|at| self.word(at).is_some_and(|word| word.load(Ordering::SeqCst) != 0))
    }

    /// Goes to sleep: from now on a bit that is set, or a call, wakes `waker`. `false` if there is
    /// one already.
    pub(crate) fn sleep(&self, waker: &Waker) -> bool {
        *lock(&self.waker) = Some(waker.clone());
        self.sleeping.store(true, Ordering::SeqCst);
        if self.any() || self.called.load(Ordering::SeqCst) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(!set.any());
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
}
