//! How an engine is opened: settings, then [`Builder::open`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Engine;
use crate::clock::{Clock, Guarded, SystemClock};
use crate::config::{EngineConfig, SyncMode, Writers};
use crate::disk::{Disk, RealDisk};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Event, Events, Listener};

/// Settings for opening an engine; see [`Engine::builder`].
///
/// ```no_run
/// use thalweg::{Engine, Writers};
/// # fn main() -> thalweg::Result<()> {
/// let engine = Engine::builder("data")
///     .writers(Writers::Threads(2))
///     .buffer_bytes(128 << 20)
///     .on_event(|event| eprintln!("{event:?}"))
///     .open()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is opened until `open` is called"]
pub struct Builder {
    dir: PathBuf,
    config: EngineConfig,
    clock: Option<Arc<dyn Clock>>,
    listener: Option<Listener>,
    seed: Option<u64>,
    read_only: bool,
    create: bool,
    pub(super) disk: Option<Arc<dyn Disk>>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("dir", &self.dir).field("config", &self.config).finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(dir: &Path) -> Builder {
        Builder {
            dir: dir.to_owned(),
            config: EngineConfig::default(),
            clock: None,
            listener: None,
            seed: None,
            read_only: false,
            create: true,
            disk: None,
        }
    }

    /// Replaces all of the engine's own settings.
    pub fn config(mut self, config: EngineConfig) -> Builder {
        self.config = config;
        self
    }

    /// Which threads write. See [`EngineConfig::writers`].
    pub fn writers(mut self, writers: Writers) -> Builder {
        self.config.writers = writers;
        self
    }

    /// Whether writer threads are pinned to cores. See [`EngineConfig::pin_writers`].
    pub fn pin_writers(mut self, pin: bool) -> Builder {
        self.config.pin_writers = pin;
        self
    }

    /// How syncs reach the kernel. See [`EngineConfig::sync_mode`].
    pub fn sync_mode(mut self, mode: SyncMode) -> Builder {
        self.config.sync_mode = mode;
        self
    }

    /// Bytes that one write carries. See [`EngineConfig::write_bytes`].
    pub fn write_bytes(mut self, bytes: usize) -> Builder {
        self.config.write_bytes = bytes;
        self
    }

    /// Bytes of records that may wait to be written. See [`EngineConfig::buffer_bytes`].
    pub fn buffer_bytes(mut self, bytes: usize) -> Builder {
        self.config.buffer_bytes = bytes;
        self
    }

    /// The largest batch. See [`EngineConfig::max_batch_bytes`].
    pub fn max_batch_bytes(mut self, bytes: usize) -> Builder {
        self.config.max_batch_bytes = bytes;
        self
    }

    /// Unsynced bytes after which the engine syncs by itself. See [`EngineConfig::sync_bytes`].
    pub fn sync_bytes(mut self, bytes: u64) -> Builder {
        self.config.sync_bytes = bytes;
        self
    }

    /// Milliseconds after which the engine syncs by itself. See [`EngineConfig::sync_ms`].
    pub fn sync_ms(mut self, ms: u64) -> Builder {
        self.config.sync_ms = ms;
        self
    }

    /// When groups without members are forgotten. See [`EngineConfig::offsets_retention_ms`].
    pub fn offsets_retention_ms(mut self, ms: Option<u64>) -> Builder {
        self.config.offsets_retention_ms = ms;
        self
    }

    /// Where the time comes from. Default: the machine's clocks. Whenever it panics, the time that it gave last
    /// counts, and [`Engine::failures`] tells of it.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Builder {
        self.clock = Some(clock);
        self
    }

    /// Called for each [`Event`], from whichever thread it happens on: often in the middle of a writer's work. It must not
    /// wait for that work, as for a record of its own.
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Builder {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Where chance begins (the spreading of records without keys). Default: random.
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = Some(seed);
        self
    }

    /// Opens for reading only, also beside a process that has the directory open for writing.
    pub fn read_only(mut self) -> Builder {
        self.read_only = true;
        self
    }

    /// Whether an absent or empty directory becomes a new log. Default: true.
    pub fn create(mut self, create: bool) -> Builder {
        self.create = create;
        self
    }

    /// Runs on a simulated disk instead of the real one.
    #[cfg(feature = "sim")]
    pub fn sim(mut self, disk: &crate::sim::SimDisk) -> Builder {
        self.disk = Some(Arc::new(disk.clone()));
        self
    }

    /// Uses this disk.
    #[cfg(test)]
    pub(crate) fn disk(mut self, disk: Arc<dyn crate::disk::Disk>) -> Builder {
        self.disk = Some(disk);
        self
    }

    /// Opens the engine. Raises the process's limit of open files (`RLIMIT_NOFILE`) as far as its hard limit allows,
    /// and uses up to three quarters of it: files of partitions that are not written to are closed for others.
    /// Blocks while it recovers; there is no twin, since there are no threads of the engine's yet.
    ///
    /// # Errors
    /// `InvalidConfig`; `Locked` if another engine writes here; `NotThalweg` for a directory that
    /// holds something else; `Corrupt` or `NewerFormat` for the catalogue; `NoRoom` or `Io`. A
    /// damaged partition doesn't keep the engine from opening: see [`Engine::recovery`].
    pub fn open(self) -> Result<Engine> {
        self.config.check()?;
        let (mut driver, mut descriptors) = (None, usize::MAX);
        let disk = match self.disk {
            Some(disk) => disk,
            None => {
                let real = RealDisk::new(self.config.sync_mode, self.config.sync_threads).map_err(|error| {
                    Error::new(ErrorKind::NotSupported { reason: format!("io_uring was asked for: {error}") })
                })?;
                driver = Some(real.report());
                descriptors = crate::sys::descriptors::raise_limit();
                Arc::new(real)
            }
        };
        let seed = match self.seed {
            Some(seed) => seed,
            None => disk.random().map_err(Error::io)?,
        };
        let events = Events::new(self.listener);
        let clock: Arc<dyn Clock> = match self.clock {
            Some(clock) => Arc::new(Guarded::new(clock, events.clone())),
            None => Arc::new(SystemClock),
        };
        let options = super::options::Options {
            dir: self.dir,
            config: self.config,
            clock,
            events,
            seed,
            read_only: self.read_only,
            create: self.create,
            disk,
            driver,
            descriptors,
        };
        super::open::open(options)
    }
}
