//! With what an engine is opened.

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::EngineConfig;
use crate::disk::{Disk, QueueReport};
use crate::events::Events;

/// What [`super::Builder`] gathered.
pub(crate) struct Options {
    pub(crate) dir: PathBuf,
    pub(crate) config: EngineConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Events,
    pub(crate) seed: u64,
    pub(crate) read_only: bool,
    pub(crate) create: bool,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) driver: Option<QueueReport>,
    /// Files that the process may have open.
    pub(crate) descriptors: usize,
}
