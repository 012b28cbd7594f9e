//! The writer of one partition: takes groups, gives batches their place, writes, syncs, rolls.
//!
//! Driven one step at a time by [`super::WriterLoop`]; never blocks but in file calls. Nothing is
//! published before it is written, nothing is durable before everything below it is. Bytes that a
//! half-done write may have left are never written over: the partition goes on in a new segment,
//! under a new epoch.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use super::aside::set_aside;
use super::gather::Gathering;
use super::intake::Group;
use super::{FileChore, Partition, Prepared};
use crate::disk::{Access, File, Queue};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, FileHeader, FileKind, Mark, Previous, crc};
use crate::lock::{lock, read, write};
use crate::segment::{Found, Place, Scan, Segment, SegmentIndex, SegmentParts, log_name};
use crate::teeth::bites;

/// Blocks are reserved ahead in steps that double from the first to the second.
const FIRST_STEP_BYTES: u64 = 64 << 10;
const LAST_STEP_BYTES: u64 = 32 << 20;
/// The name of a segment's file until its header is written.
pub(crate) const NEXT_NAME: &str = "next.tmp";
/// The same for one made ahead of need.
pub(crate) const PREPARED_NAME: &str = "prepared.tmp";

/// Where a partition's writer begins.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) epoch: u32,
    /// The segment to go on in, and its length; `None` to begin a new one.
    pub(crate) active: Option<(Arc<Segment>, u64)>,
    /// What a new segment says of its predecessor.
    pub(crate) previous: Previous,
    /// Batches above the evidence, to be written again before a sync counts for them.
    pub(crate) tail: Vec<TailPart>,
}

/// A stretch of batches that may be in the page cache only; with the file's header if it begins
/// behind it.
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
}

/// A sync of everything written so far, in flight.
#[derive(Debug)]
struct Job {
    /// Durable then: the offset, its segment's base offset, its position.
    mark: Mark,
    bytes: u64,
    sealed: usize,
    left: usize,
    error: Option<Error>,
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
    tail: Vec<TailPart>,
    /// Sealed files that aren't synced yet, oldest first.
    sealed: Vec<Arc<dyn File>>,
    directory: Option<Arc<dyn File>>,
    directory_dirty: bool,
    unsynced_bytes: u64,
    dirty_since: Option<Duration>,
    job: Option<Job>,
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

/// More than so much is synced through the queue, so that writing goes on meanwhile.
const SYNCED_ITSELF_BYTES: u64 = 256 << 10;

/// How far zeros are written ahead.
const AHEAD_BYTES: u64 = 64 << 10;
static ZEROS: [u8; AHEAD_BYTES as usize] = [0; AHEAD_BYTES as usize];

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
            }),
            previous: start.previous,
            tail: start.tail,
            sealed: Vec::new(),
            directory: None,
            // A file of an earlier life may have a name that was never synced.
            directory_dirty: true,
            unsynced_bytes: tail_bytes,
            dirty_since: dirty.then_some(now),
            job: None,
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
            let waker = lock(&self.partition.intake).give_back(group, &env.pool);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        self.groups = groups;
        true
    }

    /// Drops what producers still put in (the intake is closed already).
    fn discard(&mut self) -> bool {
        let mut intake = lock(&self.partition.intake);
        if !intake.is_empty() {
            let error = intake.refused().cloned().unwrap_or_else(|| Error::new(ErrorKind::Closed));
            intake.fail(error, &self.partition.env.pool, &self.partition.progress);
            drop(intake);
            self.partition.progress.wake_all();
        }
        false
    }

    /// What the append failed with reaches every record from the first that isn't written.
    fn fail_append(&mut self, error: &Error) {
        if error.kind() == &ErrorKind::NoRoom && !bites("a-full-disk-fails-the-partition") {
            let error = error.clone().at_partition(&self.partition.topic, self.partition.number);
            lock(&self.partition.intake).fail(error, &self.partition.env.pool, &self.partition.progress);
            self.partition.progress.wake_all();
        } else {
            self.partition.fail(error);
        }
    }

    fn write_groups(&mut self, groups: &mut VecDeque<Group>, now: Now) -> Result<()> {
        if self.must_renew && !bites("no-epoch-after-a-half-done-write") {
            self.epoch = (self.partition.env.next_epoch)()?;
        }
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
                    self.roll(&draft, now)?;
                    if bites("roll-loses-a-batch") {
                        from += length;
                        continue;
                    }
                }
                self.place(&mut groups[at].bytes[from..from + length], draft, &mut pending, now);
                match pending.parts.last_mut() {
                    Some((group, _, to)) if *group == at && *to == from => *to = from + length,
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
        let too_long = end + u64::from(draft.length)
            > segment.reserved_bytes().min(self.partition.config().segment_bytes.max(BLOCK_BYTES));
        let age = now.wall_ms.saturating_sub(segment.header().created_ms);
        let too_old =
            self.partition.config().segment_ms.is_some_and(|ms| u64::try_from(age).is_ok_and(|age| age >= ms));
        too_far || too_long || too_old
    }

    /// Completes a batch for its place in the file.
    fn place(&self, bytes: &mut [u8], draft: BatchHeader, pending: &mut Pending, now: Now) {
        let Some(active) = &self.active else { return };
        if pending.parts.is_empty() {
            pending.position = active.position;
        }
        let position = pending.position + pending.bytes;
        let (head, body) = bytes.split_at_mut(BATCH_HEADER_BYTES);
        let header = BatchHeader {
            body_crc: crc(body),
            durable_before: match bites("evidence-before-it-is-durable") {
                false => self.partition.progress.durable(),
                true => self.partition.progress.written(),
            },
            appended_ms: now.wall_ms,
            epoch: self.epoch,
            ..draft
        };
        head.copy_from_slice(&header.encode(active.segment.seed(), position));
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
        self.partition.publish_written(end_offset);
        self.prepare_if_soon(now);
        Ok(())
    }

    fn active_file(&mut self) -> Result<Arc<dyn File>> {
        let Some(active) = &mut self.active else { return Err(Error::invalid("no segment is open")) };
        if active.file.is_none() {
            let opened = self.partition.env.disk.open(active.segment.path(), Access::Write);
            active.file = Some(opened.map_err(|error| Error::io(error).at_path(active.segment.path()))?);
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
        let from = active.allocated;
        let ahead = (from + active.step_bytes).min(active.segment.reserved_bytes()).max(end);
        let mut result = file.allocate(from..ahead).map(|()| ahead);
        if result.is_err() && ahead > end {
            let least = end.next_multiple_of(BLOCK_BYTES);
            result = file.allocate(from..least).map(|()| least);
        }
        match result {
            Ok(allocated) => {
                active.allocated = allocated;
                active.step_bytes = (active.step_bytes * 2).min(LAST_STEP_BYTES);
                Ok(())
            }
            Err(error) => Err(self.error(error)),
        }
    }

    fn error(&self, error: std::io::Error) -> Error {
        let error = Error::io(error);
        match &self.active {
            Some(active) => error.at_path(active.segment.path()).at_position(active.position),
            None => error.at_path(&self.partition.dir),
        }
    }

    // ---- rolling

    /// Seals the active segment, if there is one, and begins the next with this batch.
    fn roll(&mut self, first: &BatchHeader, now: Now) -> Result<()> {
        let partition = self.partition.clone();
        let previous = self.previous_of_next(first.base_offset);
        if self.directory.is_none() {
            let opened = partition.env.disk.open_dir(&partition.dir);
            self.directory = Some(opened.map_err(|error| Error::io(error).at_path(&partition.dir))?);
        }
        let replaced = self.active.as_ref().filter(|active| active.segment.base_offset() == first.base_offset);
        if let Some(empty) = replaced {
            // Nothing of it counts, and its successor bears the same name.
            let file_id = empty.segment.header().file_id;
            set_aside(&*partition.env.disk, &partition.dir, empty.segment.path(), file_id)?;
            let _ = partition.env.disk.unlink(&crate::segment::index_path(empty.segment.path()));
            let path = empty.segment.path();
            self.tail.retain(|part| part.segment.path() != path);
            self.previous = previous;
            self.active = None;
        }
        let file_id = partition.env.disk.random().map_err(Error::io)?;
        let header = FileHeader {
            kind: FileKind::Segment,
            log: partition.log,
            epoch: self.epoch,
            file_id: file_id.max(1),
            base_offset: first.base_offset,
            created_ms: now.wall_ms,
            term: first.term,
            log_start_offset: partition.progress.log_start(),
            durable_before: partition.progress.durable(),
            previous,
            rewrite: 0,
            rewritten_end_offset: 0,
            rewritten_length: 0,
            name: partition.topic.to_string(),
        };
        let length = BLOCK_BYTES + u64::from(first.length);
        let reserved_bytes = partition.config().segment_bytes.max(length).next_multiple_of(BLOCK_BYTES);
        let ahead = lock(&partition.prepared).take();
        let prepared = match ahead {
            Some(prepared) => prepared,
            None => make_next(&partition, NEXT_NAME, FIRST_STEP_BYTES.min(reserved_bytes))?,
        };
        let path = partition.dir.join(log_name(first.base_offset));
        let began = prepared
            .file
            .write_at(&[IoSlice::new(&header.encode())], 0)
            .and_then(|()| partition.env.disk.rename(&prepared.path, &path));
        if let Err(error) = began {
            let _ = partition.env.disk.unlink(&prepared.path);
            return Err(Error::io(error).at_path(&path));
        }
        let segment = Arc::new(Segment::new(SegmentParts {
            path,
            header,
            reserved_bytes,
            index_interval_bytes: partition.config().index_interval_bytes,
            published: BLOCK_BYTES,
            end_offset: None,
            max_timestamp: i64::MIN,
            appended_ms: i64::MIN,
            index: Some((SegmentIndex::new(partition.config().index_interval_bytes), BLOCK_BYTES)),
        }));
        partition.add_segment(segment.clone());
        let step_bytes = prepared.allocated.clamp(FIRST_STEP_BYTES, LAST_STEP_BYTES / 2) * 2;
        let next = Active {
            segment,
            file: Some(prepared.file),
            position: BLOCK_BYTES,
            allocated: prepared.allocated,
            zeroed: 0,
            step_bytes,
            began: now.monotonic,
            prepare_asked: false,
        };
        if let Some(old) = self.active.replace(next) {
            old.segment.seal(first.base_offset);
            self.sealed.extend(old.file.clone());
            partition.env.chores.add(FileChore::Sealed {
                partition: partition.clone(),
                segment: old.segment,
                file: old.file,
            });
        }
        self.directory_dirty = !bites("no-directory-sync-after-roll");
        self.must_renew = false;
        Ok(())
    }

    /// What the next segment's header says of its predecessor.
    fn previous_of_next(&self, base_offset: u64) -> Previous {
        match &self.active {
            Some(active) if active.segment.base_offset() == base_offset => active.segment.header().previous,
            Some(active) => {
                let env = &self.partition.env;
                active.segment.complete_times(&*env.disk, &env.views);
                previous_of(&active.segment, base_offset, active.position)
            }
            None => self.previous,
        }
    }

    /// Has the next segment's file made if, at this rate, it is needed within seconds.
    fn prepare_if_soon(&mut self, now: Now) {
        const SOON: Duration = Duration::from_secs(3);
        let Some(active) = &mut self.active else { return };
        let size = active.segment.reserved_bytes();
        if active.prepare_asked || active.position < size / 2 {
            return;
        }
        let left = size.saturating_sub(active.position);
        let elapsed = now.monotonic.saturating_sub(active.began);
        if elapsed.as_secs_f64() * left as f64 <= SOON.as_secs_f64() * active.position as f64 {
            active.prepare_asked = true;
            let bytes = LAST_STEP_BYTES.min(size);
            self.partition.env.chores.add(FileChore::Prepare { partition: self.partition.clone(), bytes });
        }
    }

    // ---- syncing

    fn sync_if_due(&mut self, queue: &mut dyn Queue, now: Now, alone: bool) {
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

    fn start_sync(&mut self, queue: &mut dyn Queue, written: u64, itself: bool) -> Result<()> {
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
            for file in files {
                self.synced(file.sync());
            }
            let now = clock.monotonic();
            self.gathering.synced(self.partition.progress.crowd(), now, now.saturating_sub(began));
            self.write_ahead();
        }
        Ok(())
    }

    /// Writes zeros behind the end, into blocks that are reserved: a sync of a few bytes is cheaper in blocks
    /// that were written before, as the file system has nothing to note of them.
    fn write_ahead(&mut self) {
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

    /// One of the job's syncs ended.
    pub(crate) fn synced(&mut self, result: std::io::Result<()>) {
        let Some(job) = &mut self.job else { return };
        if let Err(error) = result {
            job.error.get_or_insert(Error::io(error).with_kind(ErrorKind::Io).at_path(&self.partition.dir));
        }
        job.left -= 1;
        if job.left > 0 {
            return;
        }
        let Some(mut job) = self.job.take() else { return };
        if bites("failed-sync-is-durable") {
            job.error = None;
        }
        if job.error.is_some() && bites("failed-sync-retried") {
            return;
        }
        if bites("durable-taken-after-the-sync") {
            job.mark.durable_offset = self.partition.progress.written();
        }
        if let Some(error) = job.error {
            // What is on disk is unknown now; trying again might say "done" without being so.
            self.partition.fail(&error);
            return;
        }
        self.sealed.drain(..job.sealed);
        // The place first: who sees the offset may ask for the place.
        let durable_offset = job.mark.durable_offset;
        self.partition.note_durable(job.mark, job.bytes);
        self.partition.publish_durable(durable_offset);
    }

    /// Writes batches of an earlier life again: after a failed sync the page cache may hold what
    /// the drive doesn't, and the next sync would not notice.
    fn write_again(&mut self, part: &TailPart) -> Result<()> {
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
        if let Some(prepared) = lock(&self.partition.prepared).take() {
            let _ = self.partition.env.disk.unlink(&prepared.path);
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
        let Some(file) = &active.file else { return };
        if active.allocated > active.position {
            let _ = file.give_back(active.position);
        }
        write_index_of(&self.partition, &active.segment);
    }
}

/// Writes a segment's index file, if the index is whole in memory; whether it stands there now.
pub(crate) fn write_index_of(partition: &Partition, segment: &Segment) -> bool {
    let Some(bytes) = segment.encode_index() else { return false };
    let path = crate::segment::index_path(segment.path());
    match crate::segment::write_index(&*partition.env.disk, &path, &bytes) {
        Ok(()) => true,
        Err(error) => {
            let error = Error::io(error).at_path(&path);
            partition.env.events.emit(crate::events::Event::Background { what: "writing an index", error });
            false
        }
    }
}

/// What a successor's header says of `segment`, of which `length` bytes count. Times that aren't
/// known ([`Segment::complete_times`]) are the greatest: a lookup has to look inside.
pub(crate) fn previous_of(segment: &Segment, end_offset: u64, length: u64) -> Previous {
    let known = segment.knows_times();
    Previous {
        file_id: segment.header().file_id,
        base_offset: segment.base_offset(),
        end_offset,
        length,
        appended_ms: if known { segment.appended_ms() } else { i64::MAX },
        max_timestamp: if known { segment.max_timestamp() } else { i64::MAX },
    }
}

/// Makes the file of the next segment, under its temporary name.
fn make_next(partition: &Partition, name: &str, bytes: u64) -> Result<Prepared> {
    let path = partition.dir.join(name);
    let disk = &partition.env.disk;
    let made = match disk.create(&path) {
        // Left by a roll that failed. A prepared one is never a leftover: the writer may just be giving
        // it its name.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && name == NEXT_NAME => {
            disk.unlink(&path).and_then(|()| disk.create(&path))
        }
        made => made,
    };
    let file = made.map_err(|error| Error::io(error).at_path(&path))?;
    if let Err(error) = file.allocate(0..bytes) {
        let _ = disk.unlink(&path);
        return Err(Error::io(error).at_path(&path));
    }
    Ok(Prepared { path, file, allocated: bytes })
}

/// Makes the next segment's file ahead of need (a chore of the files thread).
pub(crate) fn prepare_next(partition: &Partition, bytes: u64) {
    let mut slot = lock(&partition.prepared);
    if slot.is_none() && !partition.closed.load(std::sync::atomic::Ordering::SeqCst) {
        // Without it the writer makes the file itself, and tells of an error that matters.
        *slot = make_next(partition, PREPARED_NAME, bytes).ok();
    }
}

impl Partition {
    /// Drops segments below the log start from the list; what their files are called.
    pub(crate) fn forget_segments_below(&self, offset: u64) -> Vec<Arc<Segment>> {
        let mut segments = write(&self.segments);
        let dropped: Vec<_> = segments
            .range(..offset)
            .filter(|(_, segment)| segment.end_offset() <= offset)
            .map(|(base, _)| *base)
            .collect();
        dropped.iter().filter_map(|base| segments.remove(base)).collect()
    }

    /// How many segments there are.
    pub(crate) fn segment_count(&self) -> usize {
        read(&self.segments).len()
    }
}
