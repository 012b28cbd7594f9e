//! What every workload works with: where its files go, how far it is, whether it is to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::memory::Peak;
use super::scratch::Scratch;
use crate::output;
use crate::progress::StageBar;

/// What every workload works with.
pub(super) struct Bench {
    pub(super) scratch: Scratch,
    pub(super) interrupted: Arc<AtomicBool>,
    /// Whether the figures go to stdout alone: if it is closed, measuring ends.
    pub(super) only_stdout: bool,
    /// The most memory while the engine was at work, since the last line.
    pub(super) peak: Peak,
    pub(super) stage: Mutex<Option<Stage>>,
}

/// What is shown while it is on.
pub(super) struct Stage {
    pub(super) bar: StageBar,
    pub(super) begun: Instant,
    /// About how long it will take.
    pub(super) time: Duration,
}

impl Bench {
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Shows how far the stage is.
    pub(super) fn tick(&self) {
        if self.only_stdout && output::is_closed() {
            self.interrupted.store(true, Ordering::Relaxed);
        }
        if let Some(stage) = &*self.stage.lock().unwrap_or_else(PoisonError::into_inner) {
            stage.bar.is_at(stage.begun.elapsed().as_secs_f64() / stage.time.as_secs_f64().max(1e-3));
        }
    }

    /// A stage begins, or with `None` the last one ends.
    pub(super) fn show(&self, stage: Option<Stage>) {
        let mut shown = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = std::mem::replace(&mut *shown, stage) {
            old.bar.done();
        }
    }
}
