//! The engine's buffers: what open groups are written into, lent out and given back.
//!
//! At most `limit_bytes` are lent at a time; who finds none waits, first come, first served.

use std::task::Waker;

use super::progress::{Caller, WaitQueue};
use crate::lock::{Mutex, lock};
use crate::panics::wake_each;

/// Sizes of buffers that are kept for reuse; larger ones are made and freed as needed.
const SMALLEST_BYTES: usize = 16 << 10;

#[derive(Debug)]
pub(crate) struct Pool {
    limit_bytes: usize,
    largest_kept_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lent_bytes: usize,
    free_bytes: usize,
    /// Free buffers by size class: `SMALLEST_BYTES << (2 * class)`.
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
        Pool { limit_bytes, largest_kept_bytes: write_bytes, state: Mutex::default() }
    }

    /// The most that one partition may hold.
    pub(crate) fn partition_limit_bytes(&self) -> usize {
        self.limit_bytes / 2
    }

    /// The capacity a group gets that wants `wanted` bytes and must hold `least`.
    pub(crate) fn capacity(&self, wanted: usize, least: usize) -> usize {
        let mut size = SMALLEST_BYTES.min(self.largest_kept_bytes);
        while size < wanted.max(least) && size < self.largest_kept_bytes {
            size = (size * 4).min(self.largest_kept_bytes);
        }
        size.max(least)
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
        let mut size = SMALLEST_BYTES.min(self.largest_kept_bytes);
        let mut class = 0;
        while size < self.largest_kept_bytes && size < capacity {
            size = (size * 4).min(self.largest_kept_bytes);
            class += 1;
        }
        (size == capacity).then_some(class)
    }
}
