//! How much of all mappings is in this process's memory, up to a number of bytes.
//!
//! Mapped pages are page cache, which the kernel takes back when it needs memory; but they count as this process's
//! (`RssFile`), and the tools that watch it don't know the difference. Beyond the number some stretch is left, by
//! chance: so a log that is a little longer, and is read over and over, keeps most of its pages mapped.

use std::ops::Range;
use std::sync::{Arc, Weak};

use super::mapped::{GRAIN_BYTES, Mapped};
use crate::clock::Clock;
use crate::lock::{Mutex, lock};

/// See the module.
#[derive(Debug)]
pub(crate) struct Resident {
    clock: Arc<dyn Clock>,
    most_grains: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    stretches: Vec<(Weak<Mapped>, Range<usize>)>,
    grains: usize,
    /// Where the next choice is made.
    chance: u64,
}

impl Resident {
    pub(crate) fn new(most_bytes: u64, clock: Arc<dyn Clock>) -> Resident {
        Resident { clock, most_grains: (most_bytes / GRAIN_BYTES) as usize, held: Mutex::default() }
    }

    /// The second that it is, from 1 on.
    pub(super) fn now(&self) -> u32 {
        (self.clock.monotonic().as_secs() as u32).saturating_add(1)
    }

    /// Counts grains that were populated, and leaves others if there are too many now.
    pub(super) fn add(&self, mapped: &Weak<Mapped>, grains: Range<usize>) {
        let mut left = Vec::new();
        {
            let mut held = lock(&self.held);
            held.grains += grains.len();
            held.stretches.push((mapped.clone(), grains));
            while held.grains > self.most_grains && !held.stretches.is_empty() {
                held.chance =
                    held.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let place = (held.chance >> 33) as usize % held.stretches.len();
                let stretch = held.stretches.swap_remove(place);
                held.grains -= stretch.1.len();
                left.push(stretch);
            }
        }
        for (mapped, grains) in left {
            if let Some(mapped) = mapped.upgrade() {
                mapped.leave_grains(grains);
            }
        }
    }
}
