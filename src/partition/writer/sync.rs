//! What makes a partition's records durable: when a sync begins, what it covers, what its end means.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use super::{Ending, Now, PartitionWriter, check_active};
use crate::disk::{Access, File, Queue};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK_BYTES, Mark};
use crate::lock::lock;
use crate::segment::{Found, Scan, Segment, read_header};
use crate::teeth::bites;

/// More than so much is synced through the queue, so that writing goes on meanwhile.
const SYNCED_ITSELF_BYTES: u64 = 256 << 10;

/// The distance to which zeros are written ahead; the longer one after `FAR_AFTER` small syncs in a row that a thread
/// waited for.
const AHEAD_BYTES: u64 = 64 << 10;
const FAR_AHEAD_BYTES: u64 = 1 << 20;
const FAR_AFTER: u32 = 8;
static ZEROS: [u8; AHEAD_BYTES as usize] = [0; AHEAD_BYTES as usize];

/// This many sealed files make a sync due, because each keeps a descriptor open.
pub(super) const SEALED_MAX: usize = 8;

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
            || self.sealed.len() >= SEALED_MAX
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
        self.open_tail()?;
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
            self.allocate_for_sync();
            files.iter().for_each(|file| queue.start(self.slot, file));
        }
        if bites("acknowledged-at-sync-start") {
            self.partition.publish_durable(written);
        }
        if bites("noted-at-sync-start") {
            self.partition.env.evidence.note(&self.partition.log, written);
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
        self.little_syncs = if itself { self.little_syncs.saturating_add(1) } else { 0 };
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
        let ahead = if self.little_syncs > FAR_AFTER { FAR_AHEAD_BYTES } else { AHEAD_BYTES };
        let least = (ahead / 8).max(AHEAD_BYTES / 2);
        if self.must_renew || self.partition.progress.is_failed() || active.zeroed >= active.position + least {
            return;
        }
        let mut from = active.position.next_multiple_of(BLOCK_BYTES).max(active.zeroed);
        if bites("zeros-over-the-end") {
            from = active.position - 8;
        }
        let to = (from + ahead).min(active.allocated);
        if to <= from {
            return;
        }
        let zeros = |at: u64| IoSlice::new(&ZEROS[..(to - at).min(AHEAD_BYTES) as usize]);
        let slices: Vec<_> = (from..to).step_by(AHEAD_BYTES as usize).map(zeros).collect();
        // Nobody reads them: an error shows when records are written there.
        if file.write_at(&slices, from).is_ok() {
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
            return self.sync_failed(&error);
        }
        if let Err(error) = self.prove_tail(&job.mark) {
            return self.sync_failed(&error);
        }
        if let Some(Err(error)) = self.active.as_ref().map(|active| check_active(&self.partition, active))
            && !bites("place-not-checked")
        {
            self.partition.fail(&error);
            return 0;
        }
        self.sealed.drain(..job.sealed);
        // The place first: who sees the offset may ask for the place.
        let durable_offset = job.mark.durable_offset;
        // Before anybody is told: what is acknowledged has evidence.
        self.partition.env.evidence.note(&self.partition.log, durable_offset);
        self.partition.note_durable(job.mark, job.bytes);
        self.partition.publish_durable(durable_offset)
    }

    /// The partition has failed, and the end of its sync may never be told: it ends without, if it was to end.
    pub(crate) fn forget_sync(&mut self) {
        self.job = None;
        self.end_if_done();
    }

    fn sync_failed(&self, error: &Error) -> usize {
        // First, as whoever hears of it may end at once.
        (self.partition.env.sync_failed)();
        self.partition.fail(error);
        0
    }

    /// What an earlier life wrote is synced with what this one writes, by the first sync: then nothing of it is left.
    fn open_tail(&mut self) -> Result<()> {
        if bites("tail-not-synced") {
            return Ok(());
        }
        for at in 0..self.tail.len() {
            let segment = self.tail[at].segment.clone();
            if self.active.as_ref().is_some_and(|active| Arc::ptr_eq(&active.segment, &segment)) {
                self.active_file()?;
            } else {
                self.sealed.extend(self.open_of_tail(&segment, Access::Write)?);
            }
        }
        Ok(())
    }

    /// `None` for a file below the log start that is gone: nobody misses it.
    fn open_of_tail(&self, segment: &Segment, access: Access) -> Result<Option<Arc<dyn File>>> {
        let is_dropped = segment.end_offset() <= self.partition.progress.log_start();
        match self.partition.env.disk.open(segment.path(), access) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_dropped => Ok(None),
            file => Ok(Some(file.map_err(|error| failed(segment, error))?)),
        }
    }

    /// Reads from the drive what the first sync has made durable of files that an earlier life wrote. After that
    /// one's failed write-back memory holds what the drive lacks, and neither writing it again nor syncing it
    /// need change that.
    fn prove_tail(&mut self, mark: &Mark) -> Result<()> {
        for part in std::mem::take(&mut self.tail) {
            let segment = &part.segment;
            let is_last = segment.base_offset() == mark.segment_base_offset;
            let to = if is_last { mark.position } else { segment.published() };
            let Some(file) = self.open_of_tail(segment, Access::Drive)? else { continue };
            let header = read_header(&*file).map_err(|error| failed(segment, error))?;
            let mut missing = header.as_ref() != Ok(segment.header());
            let mut scan = Scan::new(&*file, to, segment.seed(), part.from);
            while !missing && scan.place().position < to {
                missing = matches!(scan.next().map_err(|error| failed(segment, error))?, Found::End(_));
            }
            if missing && !bites("first-sync-believed") {
                let reason = "the drive doesn't have what it was given before the log was opened: an earlier write \
                              failed. Drop all batches, end all processes that read here, and open the log again";
                return Err(failed(segment, io::Error::other(reason)).at_position(scan.place().position));
            }
        }
        Ok(())
    }
}

fn failed(segment: &Segment, error: io::Error) -> Error {
    Error::io(error).at_path(segment.path()).with_kind(ErrorKind::Io)
}
