//! In the place of the engine's `segment`: what of a segment threads meet at, without header and index.
//! Its bytes are numbers, one a batch, which loom watches: who reads one beside its writing is caught.
#![expect(clippy::arc_with_non_send_sync, reason = "loom's threads run one at a time, and watch the cells")]

#[path = "../../src/segment/extent.rs"]
mod extent;
#[path = "../../src/segment/views.rs"]
#[allow(dead_code)]
mod views;

/// How much is mapped plays no part here.
mod resident {
    #[derive(Debug)]
    pub(crate) struct Resident;
}

use std::sync::Arc;

use loom::cell::Cell;

use crate::lock::{Mutex, lock};

pub(crate) use extent::Extent;
pub(crate) use resident::Resident;
pub(crate) use views::Views;

/// Batches that a segment holds in these models.
pub(crate) const BATCHES: usize = 2;

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: u64,
    pub(crate) extent: Extent,
    bytes: Arc<Bytes>,
    view: Mutex<Option<Arc<Bytes>>>,
}

/// What a mapping shows.
#[derive(Debug)]
pub(crate) struct Bytes([Cell<u64>; BATCHES]);

impl Bytes {
    pub(crate) fn batch(&self, position: u64) -> u64 {
        self.0[position as usize].get()
    }
}

impl Segment {
    pub(crate) fn new(base_offset: u64) -> Arc<Segment> {
        let bytes = Arc::new(Bytes([Cell::new(0), Cell::new(0)]));
        Arc::new(Segment { base_offset, extent: Extent::new(0, None), bytes, view: Mutex::new(None) })
    }

    /// What the writer hands to the file.
    pub(crate) fn write(&self, position: u64, batch: u64) {
        self.bytes.0[position as usize].set(batch);
    }

    /// As the engine's.
    pub(crate) fn view(self: &Arc<Segment>, views: &Views) -> Arc<Bytes> {
        if let Some(view) = &*lock(&self.view) {
            return view.clone();
        }
        let view = self.bytes.clone();
        *lock(&self.view) = Some(view.clone());
        views.note(self);
        view
    }

    fn release_view(&self) {
        *lock(&self.view) = None;
    }

    pub(crate) fn is_mapped(&self) -> bool {
        lock(&self.view).is_some()
    }
}
