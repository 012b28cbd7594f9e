//! Which segments are mapped: the recently read ones, up to a number.
//!
//! A process may have 65,530 mappings by the kernel's default, and a log has no bound on its
//! segments: so a segment is mapped when it is read and given up when enough others were.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::Segment;
use super::resident::Resident;
use crate::lock::{Mutex, lock};

/// Mapped segments, oldest first.
#[derive(Debug)]
pub(crate) struct Views {
    /// So many may be mapped, besides those that batches hold.
    pub(crate) most: usize,
    mapped: Mutex<VecDeque<Weak<Segment>>>,
    /// How much of them is in memory.
    pub(super) resident: Arc<Resident>,
}

impl Views {
    pub(crate) fn new(most: usize, resident: Arc<Resident>) -> Views {
        Views { most, mapped: Mutex::default(), resident }
    }

    /// Notes a new mapping, and gives the oldest up if there are too many.
    pub(crate) fn note(&self, segment: &Arc<Segment>) {
        let oldest = {
            let mut mapped = lock(&self.mapped);
            mapped.push_back(Arc::downgrade(segment));
            if mapped.len() > self.most { mapped.pop_front() } else { None }
        };
        if let Some(oldest) = oldest.and_then(|weak| weak.upgrade()) {
            oldest.release_view();
        }
    }

    /// Gives all mappings up that no reader holds, when the system has no room for another.
    pub(crate) fn release_all(&self) {
        let mapped = std::mem::take(&mut *lock(&self.mapped));
        for segment in mapped.iter().filter_map(Weak::upgrade) {
            segment.release_view();
        }
    }
}
