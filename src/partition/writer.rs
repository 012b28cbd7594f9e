//! The writer of one partition: takes groups, gives batches their place, writes, syncs, rolls.
//!
//! Driven one step at a time by [`super::WriterLoop`]; never blocks but in file calls. Nothing is
//! published before it is written, nothing is durable before everything below it is. Bytes that a
//! half-done write may have left are never written over: the partition goes on in a new segment,
//! under a new epoch.

mod rest;
mod roll;
mod sync;
#[cfg(all(test, feature = "sim"))]
mod tests;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use super::Partition;
use super::gather::Gathering;
use super::intake::Group;
use crate::disk::{Access, File, Queue, check_place, shortened};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, Previous};
use crate::lock::lock;
use crate::segment::{Place, Segment};
use crate::teeth::bites;

use rest::check_reopened;
pub(crate) use roll::{NEXT_NAME, PREPARED_NAME, prepare_next, previous_of};
use sync::Job;

/// Blocks are reserved ahead in steps that double from the first to the second.
const FIRST_STEP_BYTES: u64 = 64 << 10;
const LAST_STEP_BYTES: u64 = 32 << 20;
/// What is reserved before a sync, at most.
const SYNC_AHEAD_MAX_BYTES: u64 = 256 << 20;
/// No more than this part of what the file system has left is reserved so far ahead: others need it too.
const ROOM_PART: u64 = 16;

/// Where a partition's writer begins.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) epoch: u32,
    /// The segment to go on in, and its length; `None` to begin a new one.
    pub(crate) active: Option<(Arc<Segment>, u64)>,
    /// What a new segment says of its predecessor.
    pub(crate) previous: Previous,
    /// Batches above the evidence: a sync must count for their files too, and the first one is proven.
    pub(crate) tail: Vec<TailPart>,
}

/// A stretch of batches that may be in memory only; with the file's header if it begins behind it.
#[derive(Debug)]
pub(crate) struct TailPart {
    pub(crate) segment: Arc<Segment>,
    pub(crate) from: Place,
    pub(crate) to: u64,
}

/// The segment being written.
#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    /// Opened at the first write.
    file: Option<Arc<dyn File>>,
    position: u64,
    allocated: u64,
    /// Up to here zeros were written ahead.
    zeroed: u64,
    step_bytes: u64,
    began: Duration,
    prepare_asked: bool,
    /// Its file was closed, and is opened again when it is needed.
    rested: bool,
}

impl Active {
    /// Reserves blocks of its file up to `end`, all or none.
    fn allocate(&mut self, file: &dyn File, end: u64) -> std::io::Result<()> {
        // Before it is made longer again: one that was emptied would have a hole.
        if file.length()? < self.allocated {
            return Err(shortened(file.length()?, self.allocated));
        }
        match file.allocate(self.allocated..end) {
            Ok(()) => self.allocated = end,
            Err(error) => {
                // It may have taken what room there was, which others need.
                let _ = file.give_back(self.allocated);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Checks that a segment's file is still where the next opening looks for it, as long as it was made.
fn check_active(partition: &Partition, active: &Active) -> Result<()> {
    let Some(file) = &active.file else { return Ok(()) };
    let path = active.segment.path();
    check_place(&*partition.env.disk, path, &**file, active.allocated)
        .map_err(|error| Error::io(error).with_kind(ErrorKind::Io).at_path(path))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    No,
    /// Write and sync what is there, then end.
    Close,
    /// Drop what is there, then end.
    Discard,
    Done,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct PartitionWriter {
    partition: Arc<Partition>,
    slot: u64,
    epoch: u32,
    active: Option<Active>,
    previous: Previous,
    /// A reader slept and was woken by what was written.
    pub(super) woke_reader: bool,
    /// What the first sync has to prove.
    tail: Vec<TailPart>,
    /// Sealed files that aren't synced yet, oldest first.
    sealed: Vec<Arc<dyn File>>,
    directory: Option<Arc<dyn File>>,
    directory_dirty: bool,
    unsynced_bytes: u64,
    dirty_since: Option<Duration>,
    job: Option<Job>,
    /// Syncs in a row of little that somebody waited for.
    little_syncs: u32,
    /// A write was half done: before the next one, a new epoch and a new segment.
    must_renew: bool,
    ending: Ending,
    groups: VecDeque<Group>,
    gathering: Gathering,
}

/// The time as one step sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) wall_ms: i64,
    pub(crate) monotonic: Duration,
}

/// Batches of one or more groups that go out in one write.
#[derive(Default)]
struct Pending {
    /// (group, from, to) in the order of the file.
    parts: Vec<(usize, usize, usize)>,
    headers: Vec<(BatchHeader, u64)>,
    position: u64,
    bytes: u64,
}

impl PartitionWriter {
    pub(crate) fn new(partition: Arc<Partition>, slot: usize, start: Start, now: Duration) -> PartitionWriter {
        let tail_bytes: u64 = start.tail.iter().map(|part| part.to - part.from.position).sum();
        let dirty = tail_bytes > 0;
        PartitionWriter {
            partition,
            slot: slot as u64,
            epoch: start.epoch,
            active: start.active.map(|(segment, allocated)| Active {
                position: segment.published(),
                segment,
                file: None,
                allocated,
                zeroed: 0,
                step_bytes: FIRST_STEP_BYTES,
                began: now,
                prepare_asked: false,
                rested: false,
            }),
            previous: start.previous,
            woke_reader: false,
            tail: start.tail,
            sealed: Vec::new(),
            directory: None,
            // A file of an earlier life may have a name that was never synced.
            directory_dirty: true,
            unsynced_bytes: tail_bytes,
            dirty_since: dirty.then_some(now),
            job: None,
            little_syncs: 0,
            must_renew: false,
            ending: Ending::No,
            groups: VecDeque::new(),
            gathering: Gathering::default(),
        }
    }

    pub(crate) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// One step: writes what is there, starts a sync if one is due. Whether to come again at once.
    ///
    /// `alone`: this writer's other partitions have nothing to do, so that it may wait for a sync itself.
    pub(crate) fn turn(&mut self, queue: &mut dyn Queue, now: Now, alone: bool) -> bool {
        if self.ending == Ending::Done {
            return false;
        }
        let wrote = if self.ending == Ending::Discard { self.discard() } else { self.write(now) };
        if self.ending != Ending::Discard {
            self.seal_if_asked(now);
        }
        if !self.partition.progress.is_failed() && self.ending != Ending::Discard {
            self.sync_if_due(queue, now, alone);
        }
        self.end_if_done();
        wrote
    }

    /// When it wants to be visited though nobody asks.
    pub(crate) fn due(&self) -> Option<Duration> {
        let since = self.dirty_since?;
        (self.job.is_none() && !self.partition.progress.is_failed())
            .then(|| since + Duration::from_millis(self.partition.env.config.sync_ms))
    }

    /// Writes and syncs what is there, then ends; or drops it.
    pub(crate) fn end(&mut self, discard: bool) {
        if self.ending != Ending::Done {
            self.ending = if discard { Ending::Discard } else { Ending::Close };
        }
    }

    /// Whether it had better wait a moment for those who were just woken.
    pub(crate) fn is_gathering(&mut self, now: Duration) -> bool {
        self.ending == Ending::No && self.gathering.goes_on(self.partition.progress.waiting(), now)
    }

    /// Whether a sync is under way in the queue.
    pub(crate) fn is_syncing(&self) -> bool {
        self.job.is_some()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.ending == Ending::Done
    }

    // ---- writing

    fn write(&mut self, now: Now) -> bool {
        let mut groups = std::mem::take(&mut self.groups);
        lock(&self.partition.intake).take(&mut groups);
        if groups.is_empty() {
            self.groups = groups;
            return false;
        }
        let result = self.write_groups(&mut groups, now);
        if let Err(error) = &result {
            self.fail_append(error);
        }
        let env = &self.partition.env;
        for group in groups.drain(..) {
            let woken = lock(&self.partition.intake).give_back(group, &env.pool);
            crate::panics::wake_each(woken);
        }
        self.groups = groups;
        true
    }

    /// Drops what producers still put in (the intake is closed already).
    fn discard(&mut self) -> bool {
        let mut intake = lock(&self.partition.intake);
        if !intake.is_empty() {
            let error = intake.refused().cloned().unwrap_or_else(|| Error::new(ErrorKind::Closed));
            let woken = intake.fail(error, &self.partition.env.pool, &self.partition.progress);
            drop(intake);
            crate::panics::wake_each(woken);
            self.partition.progress.wake_all();
        }
        false
    }

    /// What the append failed with reaches every record from the first that isn't written.
    fn fail_append(&mut self, error: &Error) {
        if error.kind() == &ErrorKind::NoRoom && !bites("a-full-disk-fails-the-partition") {
            let error = error.clone().at_partition(&self.partition.topic, self.partition.number);
            let env = &self.partition.env;
            let woken = lock(&self.partition.intake).fail(error, &env.pool, &self.partition.progress);
            crate::panics::wake_each(woken);
            self.partition.progress.wake_all();
        } else {
            self.partition.fail(error);
        }
    }

    fn write_groups(&mut self, groups: &mut VecDeque<Group>, now: Now) -> Result<()> {
        self.renew_epoch()?;
        let groups = groups.make_contiguous();
        let write_bytes = self.partition.env.config.write_bytes as u64;
        let mut pending = Pending::default();
        for at in 0..groups.len() {
            let mut from = 0;
            while from < groups[at].bytes.len() {
                let Some(head) = groups[at].bytes[from..].first_chunk() else { break };
                let draft = BatchHeader::read_draft(head);
                let length = draft.length as usize;
                if self.needs_roll(&draft, &pending, now) {
                    self.flush(groups, &mut pending, now)?;
                    self.roll(draft.base_offset, draft.term, u64::from(draft.length), now)?;
                    if bites("roll-loses-a-batch") {
                        from += length;
                        continue;
                    }
                }
                self.place(&mut groups[at].bytes[from..from + length], draft, &mut pending, now);
                match pending.parts.last_mut() {
                    Some((group, _, to)) if *group == at => *to = from + length,
                    _ => pending.parts.push((at, from, from + length)),
                }
                from += length;
            }
            if pending.bytes >= write_bytes {
                self.flush(groups, &mut pending, now)?;
            }
        }
        self.flush(groups, &mut pending, now)
    }

    /// Begins a new epoch if the last write was half done.
    fn renew_epoch(&mut self) -> Result<()> {
        if self.must_renew && !bites("no-epoch-after-a-half-done-write") {
            self.epoch = (self.partition.env.next_epoch)()?;
        }
        Ok(())
    }

    /// Whether the batch must begin a new segment.
    fn needs_roll(&self, draft: &BatchHeader, pending: &Pending, now: Now) -> bool {
        let Some(active) = &self.active else { return true };
        if self.must_renew {
            return true;
        }
        let segment = &active.segment;
        let end = active.position + pending.bytes;
        if end == BLOCK_BYTES {
            // An empty segment takes any batch that its reserved length holds.
            return end + u64::from(draft.length) > segment.reserved_bytes();
        }
        let too_far = draft.end_offset() - segment.base_offset() > u64::from(u32::MAX);
        let too_long =
            end + u64::from(draft.length) > segment.reserved_bytes().min(self.partition.config().sealed_at_bytes());
        too_far || too_long || (pending.parts.is_empty() && self.partition.is_last_too_old(now.wall_ms))
    }

    /// Completes a batch for its place in the file.
    fn place(&self, bytes: &mut [u8], draft: BatchHeader, pending: &mut Pending, now: Now) {
        let Some(active) = &self.active else { return };
        if pending.parts.is_empty() {
            pending.position = active.position;
        }
        let position = pending.position + pending.bytes;
        let header = BatchHeader {
            durable_before: match bites("evidence-before-it-is-durable") {
                false => self.partition.progress.durable(),
                true => self.partition.progress.written(),
            },
            appended_ms: now.wall_ms,
            epoch: self.epoch,
            ..draft
        };
        bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode(active.segment.seed(), position));
        pending.bytes += u64::from(header.length);
        pending.headers.push((header, position));
    }

    /// One write, then publishes it.
    fn flush(&mut self, groups: &[Group], pending: &mut Pending, now: Now) -> Result<()> {
        if pending.parts.is_empty() {
            return Ok(());
        }
        let end = pending.position + pending.bytes;
        let file = self.active_file()?;
        self.allocate_to(end)?;
        let slices: Vec<_> =
            pending.parts.iter().map(|&(group, from, to)| IoSlice::new(&groups[group].bytes[from..to])).collect();
        if bites("published-before-it-is-written")
            && let Some((last, _)) = pending.headers.last()
        {
            self.partition.publish_written(last.end_offset());
        }
        if let Err(error) = file.write_at(&slices, pending.position) {
            self.must_renew = !bites("half-done-write-not-renewed");
            return Err(self.error(error));
        }
        let Some(active) = &mut self.active else { return Ok(()) };
        active.position = end;
        let mut end_offset = self.partition.progress.written();
        for (header, position) in pending.headers.drain(..) {
            active.segment.note(&header, position);
            end_offset = header.end_offset();
        }
        active.segment.publish(end);
        self.unsynced_bytes += pending.bytes;
        self.dirty_since.get_or_insert(now.monotonic);
        pending.parts.clear();
        pending.bytes = 0;
        self.woke_reader |= self.partition.publish_written(end_offset);
        self.prepare_if_soon(now);
        Ok(())
    }

    fn active_file(&mut self) -> Result<Arc<dyn File>> {
        let Some(active) = &mut self.active else { return Err(Error::invalid("no segment is open")) };
        if active.file.is_none() {
            let opened = self.partition.env.disk.open(active.segment.path(), Access::Write);
            let file = opened.map_err(|error| Error::io(error).at_path(active.segment.path()))?;
            check_reopened(active, &*file)?;
            active.file = Some(file);
        }
        match &active.file {
            Some(file) => Ok(file.clone()),
            None => Err(Error::invalid("no segment is open")),
        }
    }

    /// Reserves blocks up to `end`, and a step ahead if there is room for it.
    fn allocate_to(&mut self, end: u64) -> Result<()> {
        let file = self.active_file()?;
        let Some(active) = &mut self.active else { return Ok(()) };
        if end <= active.allocated {
            return Ok(());
        }
        let ahead = (active.allocated + active.step_bytes).min(active.segment.reserved_bytes()).max(end);
        let mut result = active.allocate(&*file, ahead);
        if result.is_err() && ahead > end {
            result = active.allocate(&*file, end.next_multiple_of(BLOCK_BYTES));
        }
        active.step_bytes = (active.step_bytes * 2).min(LAST_STEP_BYTES);
        result.map_err(|error| self.error(error))
    }

    /// Reserves what is going to be written while a sync of what is written now is under way: a file system that
    /// has to read something for it (ext4 a bitmap of blocks) would wait behind all that the sync writes.
    fn allocate_for_sync(&mut self) {
        // What comes in a flow goes on coming; what somebody waits for may have been the last.
        let flows = self.unsynced_bytes >= self.partition.env.config.sync_bytes || !self.sealed.is_empty();
        if !flows || self.ending != Ending::No {
            return;
        }
        let Some(active) = &mut self.active else { return };
        let Some(file) = active.file.clone() else { return };
        // A writer may be faster than the drive.
        let ahead = (4 * self.unsynced_bytes).min(SYNC_AHEAD_MAX_BYTES);
        let to = (active.position + ahead).next_multiple_of(BLOCK_BYTES).min(active.segment.reserved_bytes());
        if ahead > active.step_bytes
            && to > active.allocated
            && file.room().is_ok_and(|room| to - active.allocated <= room / ROOM_PART)
        {
            // Without it what comes is reserved in steps, with an error that matters.
            let _ = active.allocate(&*file, to);
        }
    }

    fn error(&self, error: std::io::Error) -> Error {
        let error = Error::io(error);
        match &self.active {
            Some(active) => error.at_path(active.segment.path()).at_position(active.position),
            None => error.at_path(&self.partition.dir),
        }
    }

    // ---- ending

    fn end_if_done(&mut self) {
        let progress = &self.partition.progress;
        let done = match self.ending {
            Ending::No | Ending::Done => false,
            Ending::Close => {
                progress.is_failed()
                    || (lock(&self.partition.intake).is_empty()
                        && (progress.written() == progress.durable() || bites("closed-without-sync")))
            }
            Ending::Discard => true,
        };
        if !done || self.job.is_some() {
            return;
        }
        if self.ending == Ending::Close && !progress.is_failed() {
            self.leave_tidy();
        }
        if self.ending == Ending::Discard {
            self.partition.env.evidence.forget(&self.partition.log);
        }
        if let Some(prepared) = lock(&self.partition.prepared).take() {
            prepared.unnamed.abandon(&*self.partition.env.disk);
        }
        self.active = None;
        self.directory = None;
        self.ending = Ending::Done;
        self.partition.set_closed();
    }

    /// Gives back what was allocated and leaves the index beside the last segment. Neither is
    /// needed to open again, so errors don't matter.
    fn leave_tidy(&self) {
        let Some(active) = &self.active else { return };
        match &active.file {
            Some(file) if active.allocated > active.position => drop(file.give_back(active.position)),
            Some(_) => {}
            // Nothing was written in this life, or its room was given back before.
            None if !active.rested => return,
            None => {}
        }
        if active.position == BLOCK_BYTES {
            return;
        }
        if let Err(error) = write_index_of(&self.partition, &active.segment) {
            self.partition.env.events.emit(Event::Background { what: "writing an index", error });
        }
    }
}

/// Writes a segment's index file, if the index is whole in memory; whether it stands there now.
pub(crate) fn write_index_of(partition: &Partition, segment: &Segment) -> Result<bool> {
    let Some(bytes) = segment.encode_index() else { return Ok(false) };
    let path = crate::segment::index_path(segment.path());
    let written = crate::segment::write_index(&*partition.env.disk, &path, &bytes);
    written.map(|()| true).map_err(|error| Error::io(error).at_path(&path))
}
