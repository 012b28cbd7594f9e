//! Which of a consumer's partitions may have something new: one bit each.
//!
//! A writer sets its bit and wakes only a consumer that sleeps; the consumer looks at set bits and
//! never at all its partitions. The set grows without moving: its words lie in blocks, each as large
//! as all before it.

use std::task::Waker;

use crate::lock::{AtomicBool, AtomicU64, AtomicUsize, Mutex, OnceLock, Ordering, lock};

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
        self.called.swap(true, Ordering::SeqCst);
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
        if count == 0 {
            return None;
        }
        for step in 0..=count {
            let at = (from / 64 + step) % count;
            let mask = if step == 0 { u64::MAX << (from % 64) } else { u64::MAX };
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
        let waker = waker.clone();
        let replaced = lock(&self.waker).replace(waker);
        drop(replaced);
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

    /// Ends a sleep whose task is gone: nothing keeps that task alive.
    pub(crate) fn forget_sleeper(&self) {
        self.awake();
        let waker = lock(&self.waker).take();
        drop(waker);
    }
}
