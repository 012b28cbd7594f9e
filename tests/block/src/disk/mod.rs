//! The disk: its content, every write and flush that came, and what it was told to refuse.
//!
//! A write is on the medium at once as far as readers can tell; what a power failure would have kept of
//! it is decided afterwards, from the record (`crash.rs`).

mod attached;
mod faults;
mod file;
mod image;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use attached::Attached;
pub(crate) use faults::{Faults, Refused, What};
pub(crate) use image::{Image, PAGE};

/// Something that the device was asked to do, in the order in which it answered.
#[derive(Clone)]
pub(crate) enum Event {
    Write { position: u64, bytes: Arc<[u8]> },
    Flush,
}

/// Cheap to clone; all clones are one disk.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<State>>);

struct State {
    image: Image,
    record: Vec<Event>,
    recording: bool,
    faults: Faults,
    flushes: u64,
}

impl Disk {
    pub(crate) fn new(bytes: usize) -> Disk {
        let image = Image::zeros(bytes);
        Disk(Arc::new(Mutex::new(State {
            image,
            record: Vec::new(),
            recording: false,
            faults: Faults::default(),
            flushes: 0,
        })))
    }

    /// What it holds now.
    pub(crate) fn image(&self) -> Image {
        self.state().image.clone()
    }

    /// Another content, of the same size. Only while nothing has it mounted.
    pub(crate) fn put(&self, image: Image) {
        self.state().image = image;
    }

    /// Forgets what was recorded, and records from now on.
    pub(crate) fn record(&self) {
        let mut state = self.state();
        state.record.clear();
        state.recording = true;
    }

    /// Ends recording, and gives what there is.
    pub(crate) fn take_record(&self) -> Vec<Event> {
        let mut state = self.state();
        state.recording = false;
        std::mem::take(&mut state.record)
    }

    /// How many events are recorded.
    pub(crate) fn position(&self) -> usize {
        self.state().record.len()
    }

    /// How many flushes came, ever.
    pub(crate) fn flushes(&self) -> u64 {
        self.state().flushes
    }

    /// Refuses from now on what `faults` say.
    pub(crate) fn refuse(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Refuses nothing any more. How much was refused?
    pub(crate) fn mend(&self) -> Refused {
        std::mem::take(&mut self.state().faults).refused()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As the driver calls it; `false`: EIO.
    fn write(&self, position: u64, bytes: &[u8]) -> bool {
        let mut state = self.state();
        if state.faults.refuses_write(bytes) {
            return false;
        }
        state.image.write(position, bytes);
        if state.recording {
            state.record.push(Event::Write { position, bytes: bytes.into() });
        }
        true
    }

    /// As the driver calls it; `false`: EIO.
    fn flush(&self) -> bool {
        let mut state = self.state();
        state.flushes += 1;
        if state.faults.refuses_flush() {
            return false;
        }
        if state.recording {
            state.record.push(Event::Flush);
        }
        true
    }

    fn read(&self, position: u64, bytes: usize) -> Vec<u8> {
        self.state().image.read(position, bytes)
    }
}
