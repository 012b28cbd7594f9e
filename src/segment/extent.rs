//! How much of a segment counts: its published length, and the offset at which its successor begins.
//!
//! Raised by the partition's writer alone, before it publishes the written offset: who saw that one finds
//! here what lies below it.

use crate::lock::{AtomicU64, Ordering};

/// See the module.
#[derive(Debug)]
pub(crate) struct Extent {
    /// Bytes that count, from the file's start.
    published: AtomicU64,
    /// The first offset that belongs to the successor; `u64::MAX` while there is none.
    end_offset: AtomicU64,
}

impl Extent {
    pub(crate) fn new(published: u64, end_offset: Option<u64>) -> Extent {
        Extent { published: AtomicU64::new(published), end_offset: AtomicU64::new(end_offset.unwrap_or(u64::MAX)) }
    }

    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    pub(crate) fn publish(&self, position: u64) {
        self.published.store(position, Ordering::Release);
    }

    pub(crate) fn end_offset(&self) -> u64 {
        self.end_offset.load(Ordering::Acquire)
    }

    pub(crate) fn seal(&self, end_offset: u64) {
        self.end_offset.store(end_offset, Ordering::Release);
    }
}
