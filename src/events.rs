//! What the engine tells a listener: things worth a log line that no call returns.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Error;

/// Something that happened inside the engine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Syncs go through `driver` (`"io_uring"` or `"threads"`); `reason` says why not the ring.
    SyncDriver {
        /// The driver in use.
        driver: &'static str,
        /// Why io_uring isn't used, if it was wanted.
        reason: Option<String>,
    },
    /// A writer thread could not be pinned to its core; it runs free.
    PinningRefused {
        /// What the system said.
        reason: String,
    },
    /// Recovery found an unfinished tail and no longer counts it.
    TornTailCut {
        /// The topic; empty for the catalogue.
        topic: String,
        /// The partition.
        partition: u32,
        /// The file whose tail was cut.
        path: PathBuf,
        /// Where in the file the part that counts ends.
        position: u64,
        /// Bytes from there on that were written and no longer count.
        bytes: u64,
        /// The partition's end offset after the cut.
        end_offset: u64,
    },
    /// A file was put into `set-aside/` because nothing of it counts any more.
    SetAside {
        /// Its new place.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file that isn't ours was left alone.
    Ignored {
        /// Where it lies.
        path: PathBuf,
    },
    /// A partition takes no more records until the engine is opened again.
    PartitionFailed {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// What went wrong.
        error: Error,
    },
    /// A partition is damaged below what was durable: what is intact stays readable, appends are refused.
    PartitionCorrupt {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// What is wrong, and where.
        error: Error,
    },
    /// Work in the background did not succeed; it is tried again or done without.
    Background {
        /// What was tried.
        what: &'static str,
        /// What went wrong.
        error: Error,
    },
}

/// Called for each [`Event`], from whichever thread it happens on, with no lock held.
pub type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

/// The listener, or none. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Events(Option<Listener>);

impl Events {
    pub(crate) fn new(listener: Option<Listener>) -> Events {
        Events(listener)
    }

    pub(crate) fn emit(&self, event: Event) {
        if let Some(listener) = &self.0 {
            listener(&event);
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Events").field(&self.0.is_some()).finish()
    }
}
