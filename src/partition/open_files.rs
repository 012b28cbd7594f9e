//! Which of a writer's partitions have files open: as many as the process may have, the least recently written
//! closed first.
//!
//! Only a partition whose records are all durable is closed: what a sync of a file opened anew says of writes before
//! it was opened, is for the kernel to remember.

use std::collections::VecDeque;

/// Slots with open files, the one written least recently first; and those that wait for one to be closed.
#[derive(Debug)]
pub(super) struct OpenFiles {
    most: usize,
    order: VecDeque<usize>,
    is_open: Vec<bool>,
    waiting: VecDeque<usize>,
    waits: Vec<bool>,
}

impl OpenFiles {
    /// So many partitions may have files open.
    pub(super) fn new(most: usize) -> OpenFiles {
        OpenFiles { most, order: VecDeque::new(), is_open: Vec::new(), waiting: VecDeque::new(), waits: Vec::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.order.len() >= self.most
    }

    /// Notes whether a partition has files open, after a visit.
    pub(super) fn note(&mut self, slot: usize, open: bool) {
        if open && !set(&mut self.is_open, slot, true) {
            self.order.push_back(slot);
        }
    }

    /// The one written least recently; to be noted again if it stays open.
    pub(super) fn take_oldest(&mut self) -> Option<usize> {
        let slot = self.order.pop_front()?;
        set(&mut self.is_open, slot, false);
        Some(slot)
    }

    pub(super) fn count(&self) -> usize {
        self.order.len()
    }

    /// Has a partition wait until another was closed.
    pub(super) fn wait(&mut self, slot: usize) {
        if !set(&mut self.waits, slot, true) {
            self.waiting.push_back(slot);
        }
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The partition that has waited longest.
    pub(super) fn next_waiting(&mut self) -> Option<usize> {
        let slot = self.waiting.pop_front()?;
        set(&mut self.waits, slot, false);
        Some(slot)
    }
}

/// Sets a flag; what it was.
fn set(flags: &mut Vec<bool>, at: usize, value: bool) -> bool {
    if flags.len() <= at {
        flags.resize(at + 1, false);
    }
    std::mem::replace(&mut flags[at], value)
}
