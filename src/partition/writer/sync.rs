//! What makes a partition's records durable: when a sync begins, what it covers, what its end means.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use super::{Ending, Now, PartitionWriter, TailPart};
use crate::disk::{Access, Queue};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK_BYTES, Mark};
use crate::lock::lock;
use crate::segment::{Found, Scan};
use crate::teeth::bites;

/// More than so much is synced through the queue, so that writing goes on meanwhile.
const SYNCED_ITSELF_BYTES: u64 = 256 << 10;

/// How far zeros are written ahead.
const AHEAD_BYTES: u64 = 64 << 10;
static ZEROS: [u8; AHEAD_BYTES as usize] = [0; AHEAD_BYTES as usize];

/// A sync of everything written so far, in flight.
#[derive(Debug)]
pub(super) struct Job {
    /// Durable then: the offset, its segment's base offset, its position.
    mark: Mark,
    bytes: u64,
    sealed: usize,
    left: usize,
    error: Option<Error>,
}

impl PartitionWriter {
    pub(super) fn sync_if_due(&mut self, queue: &mut dyn Queue, now: Now, alone: bool) {
        let progress = &self.partition.progress;
        let (written, durable) = (progress.written(), progress.durable());
        if self.job.is_some() || written == durable {
            return;
        }
        let config = &self.partition.env.config;
        let wanted = lock(&self.partition.intake).sync_wanted().min(written);
        let waited = self.dirty_since.map_or(Duration::ZERO, |since| now.monotonic.saturating_sub(since));
        let due = wanted > durable
            || self.ending == Ending::Close
            || !self.sealed.is_empty()
            || self.unsynced_bytes >= config.sync_bytes
            || waited >= Duration::from_millis(config.sync_ms);
        // Somebody waits for little: a sync of one's own takes two threads' hand-overs less than one through
        // the queue.
        let itself = alone && wanted > durable && self.unsynced_bytes <= SYNCED_ITSELF_BYTES;
        if due && let Err(error) = self.start_sync(queue, written, itself) {
            self.partition.fail(&error);
        }
    }

    pub(super) fn start_sync(&mut self, queue: &mut dyn Queue, written: u64, itself: bool) -> Result<()> {
        for part in std::mem::take(&mut self.tail) {
            if bites("tail-not-written-again") {
                break;
            }
            self.write_again(&part)?;
        }
        let (segment_base_offset, position) = match &self.active {
            Some(active) => (active.segment.base_offset(), active.position),
            None => (self.previous.base_offset, self.previous.length),
        };
        let mark =
            Mark { epoch: self.epoch, log_start_offset: 0, durable_offset: written, segment_base_offset, position };
        let mut files: Vec<_> = self.sealed.to_vec();
        if bites("sealed-file-not-synced") {
            files.clear();
        }
        files.extend(self.active.as_ref().and_then(|active| active.file.clone()));
        if bites("wrong-file-synced") && files.len() > 1 {
            files.pop();
        }
        if bites("no-data-sync") {
            files.clear();
            self.directory_dirty = true;
        }
        if self.directory_dirty && !bites("no-directory-sync") {
            let directory = match self.directory.take() {
                Some(directory) => directory,
                None => self
                    .partition
                    .env
                    .disk
                    .open_dir(&self.partition.dir)
                    .map_err(|error| Error::io(error).at_path(&self.partition.dir).with_kind(ErrorKind::Io))?,
            };
            files.push(directory);
            self.directory_dirty = false;
        }
        if !itself {
            files.iter().for_each(|file| queue.start(self.slot, file));
        }
        if bites("acknowledged-at-sync-start") {
            self.partition.publish_durable(written);
        }
        if bites("mark-at-sync-start") {
            self.partition.note_durable(mark, 0);
        }
        self.job = Some(Job {
            mark,
            bytes: std::mem::take(&mut self.unsynced_bytes),
            sealed: self.sealed.len(),
            left: files.len(),
            error: None,
        });
        self.dirty_since = None;
        if itself {
            let clock = self.partition.env.clock.clone();
            let began = clock.monotonic();
            let mut crowd = 0;
            for file in files {
                crowd = self.synced(file.sync());
            }
            let now = clock.monotonic();
            self.gathering.synced(crowd, now, now.saturating_sub(began));
            self.write_ahead();
        }
        Ok(())
    }

    /// Writes zeros behind the end, into blocks that are reserved: a sync of a few bytes is cheaper in blocks
    /// that were written before, as the file system has nothing to note of them.
    pub(super) fn write_ahead(&mut self) {
        let Some(active) = &mut self.active else { return };
        let Some(file) = &active.file else { return };
        if self.must_renew || self.partition.progress.is_failed() || active.zeroed >= active.position + AHEAD_BYTES / 2
        {
            return;
        }
        let mut from = active.position.next_multiple_of(BLOCK_BYTES).max(active.zeroed);
        if bites("zeros-over-the-end") {
            from = active.position - 8;
        }
        let to = (from + AHEAD_BYTES).min(active.allocated);
        // Nobody reads them: an error shows when records are written there.
        if to > from && file.write_at(&[IoSlice::new(&ZEROS[..(to - from) as usize])], from).is_ok() {
            active.zeroed = to;
        }
    }

    /// One of the job's syncs ended. If it was the last and all went well: how many waited until then.
    pub(crate) fn synced(&mut self, result: std::io::Result<()>) -> usize {
        let Some(job) = &mut self.job else { return 0 };
        if let Err(error) = result {
            job.error.get_or_insert(Error::io(error).with_kind(ErrorKind::Io).at_path(&self.partition.dir));
        }
        job.left -= 1;
        if job.left > 0 {
            return 0;
        }
        let Some(mut job) = self.job.take() else { return 0 };
        if bites("failed-sync-is-durable") {
            job.error = None;
        }
        if job.error.is_some() && bites("failed-sync-retried") {
            return 0;
        }
        if bites("durable-taken-after-the-sync") {
            job.mark.durable_offset = self.partition.progress.written();
        }
        if let Some(error) = job.error {
            // What is on disk is unknown now; trying again might say "done" without being so.
            self.partition.fail(&error);
            return 0;
        }
        self.sealed.drain(..job.sealed);
        // The place first: who sees the offset may ask for the place.
        let durable_offset = job.mark.durable_offset;
        self.partition.note_durable(job.mark, job.bytes);
        self.partition.publish_durable(durable_offset)
    }

    /// Writes batches of an earlier life again: after a failed sync the page cache may hold what
    /// the drive doesn't, and the next sync would not notice.
    pub(super) fn write_again(&mut self, part: &TailPart) -> Result<()> {
        let segment = &part.segment;
        let is_active = self.active.as_ref().is_some_and(|active| Arc::ptr_eq(&active.segment, segment));
        let place = |error| Error::io(error).at_path(segment.path()).with_kind(ErrorKind::Io);
        let is_dropped = segment.end_offset() <= self.partition.progress.log_start();
        let file = if is_active {
            self.active_file()?
        } else {
            match self.partition.env.disk.open(segment.path(), Access::Write) {
                // The log starts behind it, which is durable: nobody misses it.
                Err(error) if error.kind() == io::ErrorKind::NotFound && is_dropped => return Ok(()),
                file => file.map_err(place)?,
            }
        };
        if part.from.position == BLOCK_BYTES {
            file.write_at(&[IoSlice::new(&segment.header().encode())], 0).map_err(place)?;
        }
        let mut scan = Scan::new(&*file, part.to, segment.seed(), part.from);
        while scan.place().position < part.to {
            match scan.next().map_err(place)? {
                Found::Batch { position, .. } => {
                    let bytes = scan.batch_bytes().map_err(place)?;
                    file.write_at(&[IoSlice::new(bytes)], position).map_err(place)?;
                }
                Found::End(error) => {
                    let reason = format!("what was read when the log was opened has changed since: {error}");
                    return Err(segment.damage(scan.place().position, reason));
                }
            }
        }
        if !is_active {
            self.sealed.push(file);
        }
        Ok(())
    }
}
