//! A mapping of a segment's file, and what the engine knows of its bytes: which pages it populated, and which batches
//! it checked for lookups.
//!
//! Nothing of it is believed for longer than two seconds. The kernel may drop a page meanwhile and read it from the
//! drive again: then populating it says whether it can be read, and the checksum whether its bytes are the same.
//! All of it goes with the mapping, so a file that takes another's name starts unknown.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};

use super::resident::Resident;
use crate::disk::View;
use crate::format::Places;
use crate::lock::{AtomicU64, Mutex, OnceLock, Ordering, lock};

/// Populated bytes are noted by grains of this size.
pub(crate) const GRAIN_BYTES: u64 = 64 << 10;
/// Grains whose notes are allocated together, once one of them is populated.
const ROW: usize = 32;
const PAGE_BYTES: u64 = 4096;

/// See the module.
#[derive(Debug)]
pub(crate) struct Mapped {
    own: Weak<Mapped>,
    view: Arc<dyn View>,
    resident: Arc<Resident>,
    /// For each grain when it was populated, and up to which byte of it; 0 if it wasn't, or was left since.
    rows: Box<[OnceLock<Box<[AtomicU64; ROW]>>]>,
    /// When the batch at a position was checked, and where its records lie.
    checked: Mutex<HashMap<u64, (u32, Places)>>,
}

impl Mapped {
    pub(crate) fn new(view: Arc<dyn View>, reserved_bytes: u64, resident: Arc<Resident>) -> Arc<Mapped> {
        Arc::new_cyclic(|own| Mapped {
            own: own.clone(),
            view,
            resident,
            rows: (0..reserved_bytes.div_ceil(GRAIN_BYTES * ROW as u64)).map(|_| OnceLock::new()).collect(),
            checked: Mutex::default(),
        })
    }

    /// Remembers that the batch at `position` was checked whole: so its pages were in memory, too.
    pub(crate) fn note_checked(&self, position: u64, places: Places) {
        let mut checked = lock(&self.checked);
        // Twice as many as there are batches of the usual size.
        if checked.len() >= 2 * ROW * self.rows.len() {
            checked.clear();
        }
        checked.insert(position, (self.resident.now(), places));
    }

    /// Where the records of the batch at `position` lie, if it was checked whole lately.
    pub(crate) fn checked(&self, position: u64) -> Option<Places> {
        let now = self.resident.now();
        let checked = lock(&self.checked);
        checked.get(&position).filter(|(at, _)| is_fresh(*at, now)).map(|(_, places)| *places)
    }

    /// What of `range` isn't known to be in memory. It begins where its first grain is known up to, perhaps before
    /// `range`.
    fn missing(&self, range: &Range<u64>, now: u32) -> Option<Range<u64>> {
        grains_of(range).find_map(|number| {
            let start = number as u64 * GRAIN_BYTES;
            let (at, known) = self.grain(number);
            let known = start + if is_fresh(at, now) { known } else { 0 };
            (known < range.end.min(start + GRAIN_BYTES)).then_some(known..range.end)
        })
    }

    /// When a grain was populated, and how many of its bytes.
    fn grain(&self, number: usize) -> (u32, u64) {
        let row = self.rows.get(number / ROW).and_then(|row| row.get());
        let word = row.map_or(0, |row| row[number % ROW].load(Ordering::Relaxed));
        ((word >> 32) as u32, word & u64::from(u32::MAX))
    }

    /// `range` was populated just now: it begins at a grain's start, or where that was known up to.
    fn note(&self, range: &Range<u64>, now: u32) {
        let mut new = 0..0;
        for number in grains_of(range) {
            let Some(row) = self.rows.get(number / ROW) else { break };
            let row = row.get_or_init(|| Box::new(std::array::from_fn(|_| AtomicU64::new(0))));
            let start = number as u64 * GRAIN_BYTES;
            // Going on in a grain doesn't make its beginning any younger.
            let at = if range.start > start { self.grain(number).0 } else { now };
            let until = (range.end - start).next_multiple_of(PAGE_BYTES).min(GRAIN_BYTES);
            let was = row[number % ROW].swap(u64::from(at) << 32 | until, Ordering::Relaxed);
            if was == 0 && new.end != number {
                self.add(std::mem::replace(&mut new, number..number));
            }
            new.end += usize::from(was == 0);
        }
        self.add(new);
    }

    fn add(&self, new: Range<usize>) {
        if !new.is_empty() {
            self.resident.add(&self.own, new);
        }
    }

    /// Takes grains out of this process's memory. A reader there gets them back from the page cache.
    pub(super) fn leave_grains(&self, grains: Range<usize>) {
        for number in grains.clone() {
            if let Some(row) = self.rows.get(number / ROW).and_then(|row| row.get()) {
                row[number % ROW].store(0, Ordering::Relaxed);
            }
        }
        self.view.leave(grains.start as u64 * GRAIN_BYTES..grains.end as u64 * GRAIN_BYTES);
    }
}

impl View for Mapped {
    fn bytes(&self, range: Range<u64>) -> io::Result<&[u8]> {
        self.view.bytes(range)
    }

    /// Brings `range` into memory if it isn't known to be there.
    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        let now = self.resident.now();
        let Some(missing) = self.missing(&range, now) else { return Ok(()) };
        match self.view.populate(missing.clone()) {
            Ok(()) => self.note(&missing, now),
            // What can't be read may lie before the range.
            Err(_) if missing.start < range.start => self.view.populate(range)?,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn grains_of(range: &Range<u64>) -> Range<usize> {
    (range.start / GRAIN_BYTES) as usize..range.end.div_ceil(GRAIN_BYTES) as usize
}

/// Whether what was so at a time still counts.
fn is_fresh(at: u32, now: u32) -> bool {
    at != 0 && now.saturating_sub(at) <= 1
}
