//! The engine's buffers: what open groups are written into, lent out and given back.
//!
//! At most `limit_bytes` are lent at a time; who finds none waits, first come, first served.

use std::task::Waker;

use super::progress::{Caller, WaitQueue};
use crate::lock::{Mutex, lock};
use crate::panics::wake_each;

/// The smallest buffer. Each size is four times the one before, up to what one write carries; beyond, twice.
const SMALLEST_BYTES: usize = 16 << 10;

/// The most that one partition queues, unless two batches are larger. Records in a longer queue leave the processor's
/// caches before they are written.
const PARTITION_BYTES: usize = 8 << 20;

#[derive(Debug)]
pub(crate) struct Pool {
    limit_bytes: usize,
    write_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lent_bytes: usize,
    free_bytes: usize,
    /// Free buffers by size class.
    free: Vec<Vec<Vec<u8>>>,
    queue: WaitQueue,
}

impl State {
    /// Frees kept buffers until those lent and those kept are within the limit together.
    fn trim(&mut self, limit_bytes: usize) {
        while self.lent_bytes + self.free_bytes > limit_bytes {
            let Some(buffer) = self.free.iter_mut().rev().find_map(Vec::pop) else { return };
            self.free_bytes -= buffer.capacity();
        }
    }
}

impl Pool {
    pub(crate) fn new(limit_bytes: usize, write_bytes: usize) -> Pool {
        Pool { limit_bytes, write_bytes, state: Mutex::default() }
    }

    /// Whether a partition that holds `held` bytes may have a buffer of this capacity too.
    pub(crate) fn partition_may_hold(&self, held: usize, capacity: usize) -> bool {
        held + capacity <= PARTITION_BYTES.max(2 * capacity).min(self.largest_bytes())
    }

    /// The largest buffer, and the most that one partition may hold.
    fn largest_bytes(&self) -> usize {
        self.limit_bytes / 2
    }

    /// The sizes that buffers have, from the smallest to the largest.
    fn sizes(&self) -> impl Iterator<Item = usize> {
        let (write_bytes, largest) = (self.write_bytes, self.largest_bytes());
        let smallest = SMALLEST_BYTES.min(write_bytes).min(largest);
        std::iter::successors(Some(smallest), move |&size| {
            let next = if size < write_bytes { (size * 4).min(write_bytes) } else { size * 2 };
            (size < largest).then(|| next.min(largest))
        })
    }

    /// The capacity a group gets that wants `wanted` bytes, as far as one write carries them, and must hold `least`.
    pub(crate) fn capacity(&self, wanted: usize, least: usize) -> usize {
        let wanted = wanted.min(self.write_bytes).max(least);
        self.sizes().find(|&size| size >= wanted).unwrap_or(wanted)
    }

    /// An empty buffer of exactly this capacity, if there is room and it is our turn. The turn is given up by
    /// [`forget`](Pool::forget), which calls the next.
    pub(crate) fn lend(&self, capacity: usize, ticket: Option<u64>) -> Option<Vec<u8>> {
        let mut state = lock(&self.state);
        if !state.queue.may_go(ticket) || state.lent_bytes + capacity > self.limit_bytes {
            return None;
        }
        state.lent_bytes += capacity;
        let kept = self.class(capacity).and_then(|class| state.free.get_mut(class)?.pop());
        match &kept {
            Some(_) => state.free_bytes -= capacity,
            None => state.trim(self.limit_bytes),
        }
        drop(state);
        Some(kept.unwrap_or_else(|| Vec::with_capacity(capacity)))
    }

    /// Takes a buffer back; `capacity` as it was lent. Returns who is to be woken, without a lock.
    #[must_use = "they are woken without a lock"]
    pub(crate) fn give_back(&self, mut buffer: Vec<u8>, capacity: usize) -> Vec<Waker> {
        buffer.clear();
        let mut state = lock(&self.state);
        state.lent_bytes -= capacity;
        if let Some(class) = self.class(capacity) {
            if state.free.len() <= class {
                state.free.resize_with(class + 1, Vec::new);
            }
            state.free[class].push(buffer);
            state.free_bytes += capacity;
            state.trim(self.limit_bytes);
        }
        state.queue.call()
    }

    /// Waits for a turn; the waker is called when a buffer came back.
    pub(crate) fn wait(&self, ticket: &mut Option<u64>, waker: &Waker, caller: Caller) {
        let waker = waker.clone();
        let replaced = lock(&self.state).queue.wait(ticket, waker, caller);
        drop(replaced);
    }

    #[cfg(all(test, feature = "sim"))]
    pub(crate) fn nobody_waits(&self) -> bool {
        lock(&self.state).queue.is_empty()
    }

    /// Gives up waiting, served or not.
    pub(crate) fn forget(&self, ticket: u64) {
        let (left, next) = {
            let mut state = lock(&self.state);
            (state.queue.leave(ticket), state.queue.call())
        };
        drop(left);
        wake_each(next);
    }

    fn class(&self, capacity: usize) -> Option<usize> {
        self.sizes().position(|size| size == capacity)
    }
}
