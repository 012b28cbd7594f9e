//! What checking a data directory found.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::repair::Repair;
use crate::error::{Error, ErrorKind};

/// How far [`verify`](super::verify) is; for a progress bar.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The file being checked.
    pub path: &'a Path,
    /// Bytes of all files that were checked.
    pub bytes_done: u64,
    /// Bytes of all files there were when checking began; a live writer may add some.
    pub bytes_total: u64,
}

/// What [`verify`](super::verify) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// Topics in the catalogue.
    pub topics: u64,
    /// Their partitions.
    pub partitions: u64,
    /// Segment files that count.
    pub segments: u64,
    /// Whole batches in them.
    pub batches: u64,
    /// Records in those.
    pub records: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Everything that is wrong, in the order of the files.
    pub damage: Vec<Damage>,
    /// Tails that nothing proves to have been durable: a crash left them, or a live writer is at
    /// work there. No damage; opening for writing cuts them.
    pub unfinished: Vec<Unfinished>,
    /// Files and directories that are not ours, and leftovers that opening for writing removes.
    pub ignored: Vec<PathBuf>,
    /// What the engine that has the directory open for writing wrote down about itself.
    pub live_writer: Option<String>,
    /// What [`repair`](super::repair()) would do, if there is damage and nobody has the directory open.
    pub repair: Option<Repair>,
    /// The newest epoch that stands in a segment.
    pub(super) epoch: u32,
}

impl Verification {
    /// Whether no damage was found.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }

    /// Notes damage, unless the same place is noted already.
    pub(super) fn note(&mut self, damage: Damage) {
        if !self.damage.iter().any(|known| known.path == damage.path && known.position == damage.position) {
            self.damage.push(damage);
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The file; the directory if a file is missing.
    pub path: PathBuf,
    /// Where in the file.
    pub position: Option<u64>,
    /// The topic it belongs to.
    pub topic: Option<String>,
    /// The partition it belongs to.
    pub partition: Option<u32>,
    /// Offsets that can't be read because of it.
    pub offsets: Option<Range<u64>>,
    /// What doesn't fit.
    pub reason: String,
}

impl Damage {
    pub(super) fn of_path(path: &Path, reason: String) -> Damage {
        Damage { path: path.to_owned(), position: None, topic: None, partition: None, offsets: None, reason }
    }

    /// What an error says; where it names no path, `path`.
    pub(super) fn of_error(error: &Error, path: &Path) -> Damage {
        let reason = match (error.kind(), error.io_error()) {
            (ErrorKind::Corrupt { reason } | ErrorKind::Foreign { reason }, _) => reason.clone(),
            (_, Some(error)) => format!("it can't be read: {error}"),
            (kind, None) => kind.to_string(),
        };
        let path = error.path().unwrap_or(path);
        Damage { position: error.position(), ..Damage::of_path(path, reason) }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(position) = self.position {
            write!(f, ", position {position}")?;
        }
        if let Some(topic) = &self.topic {
            write!(f, ", topic {topic}")?;
        }
        if let Some(partition) = self.partition {
            write!(f, ", partition {partition}")?;
        }
        if let Some(offsets) = &self.offsets {
            write!(f, ", offsets {} to {}", offsets.start, offsets.end.saturating_sub(1))?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// A tail that was never finished.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// The file.
    pub path: PathBuf,
    /// Where what counts ends.
    pub position: u64,
    /// Bytes written from there on, in this file and later ones.
    pub bytes: u64,
    /// The topic it belongs to; `None` for the catalogue.
    pub topic: Option<String>,
    /// The partition it belongs to.
    pub partition: Option<u32>,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, position {}: {} bytes of an unfinished tail", self.path.display(), self.position, self.bytes)
    }
}

/// Whether an error says nothing about the files but that they can't be checked.
pub(super) fn prevents(error: &Error) -> bool {
    let forbidden = error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    forbidden || error.kind() == &ErrorKind::NoRoom
}
