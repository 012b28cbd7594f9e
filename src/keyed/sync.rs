//! Syncing a keyed log, in two steps, so that its owner may let others append while the disk works.
//!
//! Between the steps the log may grow, be compacted, or fail: what a finished sync covers is what
//! had been appended when it began, to the file that was the log's then.

use std::io;
use std::sync::Arc;

use crate::disk::{File, check_place};
use crate::error::{Error, Result};

use super::KeyedLog;
use crate::teeth::bites;

/// A sync that has begun: [`run`](Syncing::run) it, then hand the outcome back.
#[derive(Debug)]
pub(crate) struct Syncing {
    file: Arc<dyn File>,
    /// Tells the file from the one that a compaction may put in its place.
    file_id: u64,
    /// Entries below this are written.
    end_offset: u64,
}

impl Syncing {
    /// Waits for the disk.
    pub(crate) fn run(&self) -> io::Result<()> {
        if bites("keyed-log-not-synced") { Ok(()) } else { self.file.sync() }
    }
}

impl KeyedLog {
    /// Makes everything appended durable. After [`NoRoom`](crate::ErrorKind::NoRoom) it may be called again.
    pub(crate) fn sync(&mut self) -> Result<()> {
        let Some(syncing) = self.start_sync()? else { return Ok(()) };
        let result = syncing.run();
        self.finish_sync(&syncing, result)
    }

    /// The first step of [`sync`](KeyedLog::sync); `None` if all is durable. One sync at a time.
    pub(crate) fn start_sync(&mut self) -> Result<Option<Syncing>> {
        self.check_usable()?;
        self.settle()?;
        if !self.has_unsynced() {
            return Ok(None);
        }
        let (file_id, end_offset) = (self.header.file_id, self.end.next_offset);
        Ok(Some(Syncing { file: self.file.clone(), file_id, end_offset }))
    }

    /// The last step of [`sync`](KeyedLog::sync).
    ///
    /// # Errors
    /// [`ErrorKind::Failed`](crate::ErrorKind::Failed) if the disk failed; nothing works until the log
    /// is opened again.
    pub(crate) fn finish_sync(&mut self, syncing: &Syncing, result: io::Result<()>) -> Result<()> {
        // A compaction meanwhile made all of it durable, in another file.
        if syncing.file_id != self.header.file_id {
            return Ok(());
        }
        let place = || check_place(&*self.disk, &self.path, &*self.file, self.allocated);
        match result.and_then(|()| place()) {
            Ok(()) => {
                self.durable_offset = self.durable_offset.max(syncing.end_offset);
                Ok(())
            }
            Err(_) if bites("keyed-failed-sync-is-durable") => {
                self.durable_offset = syncing.end_offset;
                Ok(())
            }
            Err(error) if bites("keyed-failed-sync-retried") => Err(Error::io(error).at_path(&self.path)),
            Err(error) => Err(self.latch(Error::io(error).at_path(&self.path))),
        }
    }

    /// The next entry's offset: what was appended so far lies below it.
    pub(crate) fn end_offset(&self) -> u64 {
        self.end.next_offset
    }

    /// Entries below this survive power loss.
    pub(crate) fn durable_offset(&self) -> u64 {
        self.durable_offset
    }

    /// Whether entries were appended that no sync covers.
    pub(crate) fn has_unsynced(&self) -> bool {
        self.durable_offset != self.end.next_offset
    }
}
