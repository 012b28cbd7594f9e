//! What recovery found: where the log ends, what the writer begins with, and what is to be done.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{Mark, Previous};
use crate::partition::aside::set_aside;
use crate::partition::writer::{Start, TailPart};
use crate::segment::{Place, Segment};
use crate::teeth::bites;

/// A tail that no longer counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TailCut {
    pub(crate) path: PathBuf,
    pub(crate) position: u64,
    /// Bytes that were written there, in this file and later ones.
    pub(crate) bytes: u64,
}

/// A partition as its files and the catalogue's mark give it.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) log_start: u64,
    pub(crate) durable_offset: u64,
    pub(crate) end_offset: u64,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) cut: Option<TailCut>,
    /// Damage at or below durable evidence: appends are refused, what is intact stays readable.
    pub(crate) damage: Option<Error>,
    /// The damage reaches to the end: durable records are missing there.
    pub(crate) end_is_lost: bool,
    /// Files that aren't ours.
    pub(crate) ignored: Vec<PathBuf>,
    /// Where a follower goes on reading.
    pub(crate) end: Option<EndPlace>,
    pub(super) set_aside: Vec<(PathBuf, u64)>,
    pub(super) unlink: Vec<PathBuf>,
    pub(super) tail: Vec<TailPart>,
    pub(super) active: Option<(Arc<Segment>, u64)>,
    pub(super) previous: Previous,
}

/// Where the last segment ends, and what must come next.
#[derive(Clone, Debug)]
pub(crate) struct EndPlace {
    pub(crate) segment: Arc<Segment>,
    pub(crate) place: Place,
}

impl Recovered {
    /// A partition whose files can't be taken for its own: nothing is read or written.
    pub(crate) fn unusable(error: Error) -> Recovered {
        Recovered { damage: Some(error), ..Recovered::empty() }
    }

    /// One of which there is nothing.
    pub(crate) fn empty() -> Recovered {
        Recovered {
            log_start: 0,
            durable_offset: 0,
            end_offset: 0,
            segments: Vec::new(),
            cut: None,
            damage: None,
            end_is_lost: false,
            ignored: Vec::new(),
            end: None,
            set_aside: Vec::new(),
            unlink: Vec::new(),
            tail: Vec::new(),
            active: None,
            previous: Previous::default(),
        }
    }

    /// The epoch of the last batch that counts.
    pub(crate) fn epoch(&self) -> u32 {
        self.end.as_ref().map_or(0, |end| end.place.epoch)
    }

    /// Nothing can be of an epoch that has not begun: if it is, the catalogue has lost entries that
    /// were durable, and what were appended now would not fit to what is there.
    pub(crate) fn check_epoch(&mut self, new_epoch: u32) {
        if let Some(end) = &self.end
            && end.place.epoch >= new_epoch
            && self.damage.is_none()
        {
            let reason = format!(
                "it holds epoch {}, and the catalogue knew epochs below {new_epoch} only: entries that were durable \
                 are missing from the catalogue",
                end.place.epoch
            );
            self.damage = Some(Error::corrupt(reason).at_path(end.segment.path()));
        }
    }

    /// The place everything is durable up to, if that is the end.
    pub(crate) fn mark(&self) -> Option<Mark> {
        let end = self.end.as_ref()?;
        (self.durable_offset == self.end_offset && self.damage.is_none()).then(|| Mark {
            epoch: end.place.epoch,
            log_start_offset: self.log_start,
            durable_offset: self.end_offset,
            segment_base_offset: end.segment.base_offset(),
            position: end.place.position,
        })
    }

    /// Nothing is written here any more, so there is nothing to wait for. What is left may end below
    /// the log start.
    pub(super) fn end_at_once(&mut self) {
        self.end_offset = self.end_offset.max(self.log_start);
        self.durable_offset = self.end_offset;
    }

    /// Where the writer begins.
    pub(crate) fn into_start(self, epoch: u32) -> Start {
        Start { epoch, active: self.active, previous: self.previous, tail: self.tail }
    }

    /// Does what recovery found to do: files of which nothing counts are set aside (and the
    /// directory synced, before anything is appended), leftovers removed.
    pub(crate) fn apply(&self, disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| Error::io(error).at_path(&path)
        };
        for path in &self.unlink {
            match disk.unlink(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(path)(error)),
                _ => {}
            }
        }
        let mut moved = Vec::new();
        // From the last to the first: what is left in between is a shorter torn tail.
        for (path, file_id) in self.set_aside.iter().rev() {
            moved.push(set_aside(disk, dir, path, *file_id)?);
        }
        if !moved.is_empty() && !bites("set-aside-not-synced") {
            disk.sync_dir(dir).map_err(at(dir))?;
        }
        Ok(moved)
    }
}
