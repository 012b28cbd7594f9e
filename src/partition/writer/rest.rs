//! Closing the files of a partition that nothing is written to, and opening them again.

use super::{Active, Ending, PartitionWriter};
use crate::disk::{File, Queue};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::lock;
use crate::segment::read_header;

impl PartitionWriter {
    /// Whether it has files open.
    pub(crate) fn holds_files(&self) -> bool {
        let active = self.active.as_ref().is_some_and(|active| active.file.is_some());
        active || self.directory.is_some() || !self.sealed.is_empty()
    }

    /// Whether its next turn would open files.
    pub(crate) fn wants_files(&self) -> bool {
        let progress = &self.partition.progress;
        let has_work = progress.written() != progress.durable() || !lock(&self.partition.intake).is_empty();
        has_work && !self.holds_files() && self.job.is_none() && !progress.is_failed() && self.ending != Ending::Discard
    }

    /// Closes its files, if all records are durable or none is written any more; whether it has none open now.
    pub(crate) fn rest(&mut self) -> bool {
        let progress = &self.partition.progress;
        let failed = progress.is_failed();
        if self.job.is_some() || (progress.written() != progress.durable() && !failed) {
            return false;
        }
        if let Some(active) = &mut self.active
            && let Some(file) = active.file.take()
        {
            // What was reserved for more, others need. The zeros written ahead go with it.
            if !failed && active.allocated > active.position && file.give_back(active.position).is_ok() {
                (active.allocated, active.zeroed) = (active.position, 0);
            }
            active.rested = true;
        }
        self.sealed.clear();
        self.directory = None;
        true
    }

    /// Starts a sync, so that the partition can be closed; whether one is under way.
    pub(crate) fn sync_to_rest(&mut self, queue: &mut dyn Queue) -> bool {
        let progress = &self.partition.progress;
        let (written, durable) = (progress.written(), progress.durable());
        if self.job.is_none()
            && written != durable
            && !progress.is_failed()
            && let Err(error) = self.start_sync(queue, written, false)
        {
            self.partition.fail(&error);
        }
        self.job.is_some()
    }
}

/// Checks that a file that was closed and opened again is the one that was written before.
pub(super) fn check_reopened(active: &Active, file: &dyn File) -> Result<()> {
    let at = |error: std::io::Error| Error::io(error).with_kind(ErrorKind::Io).at_path(active.segment.path());
    if !active.rested || read_header(file).map_err(at)?.as_ref() == Ok(active.segment.header()) {
        return Ok(());
    }
    Err(at(std::io::Error::other("another file has its name than the one that was written before")))
}
