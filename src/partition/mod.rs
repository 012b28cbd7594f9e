//! One log: segments in order, the open group, its writer, its readers, its recovery.
//!
//! [`Partition`] is what producers, readers and the writer share. The writer alone changes files
//! ([`writer`]); it learns of work through the intake and tells of progress through [`progress`].

mod append;
mod aside;
mod batch;
mod chores;
mod drive;
mod evidence;
mod followed_files;
mod follower;
mod gather;
mod inbox;
mod intake;
mod names;
mod open_files;
mod pool;
mod progress;
mod reader;
mod ready;
#[cfg(test)]
mod ready_tests;
mod recovery;
mod retention;
mod shared;
#[cfg(all(test, feature = "sim"))]
mod tests;
mod wait;
mod writer;
mod writer_loop;
mod writer_thread;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{EngineConfig, TopicConfig};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Events;
use crate::format::Mark;
use crate::ids::LogId;
use crate::lock::{AtomicBool, AtomicU32, AtomicUsize, Mutex, OnceLock, Ordering, RwLock, fence, lock, read, write};
use crate::opener::Opener;
use crate::panics::wake_each;
use crate::segment::{Segment, Views};

pub(crate) use append::{Appended, Placed, Terms};
pub(crate) use aside::SET_ASIDE;
pub use batch::{Batch, FetchedRecord, RecordView, Records};
pub(crate) use chores::{Chores, FileChore};
pub(crate) use drive::{Drive, Driven, Inline, UnparkWaker};
pub(crate) use evidence::{EVIDENCE_NAME, Evidence, Noted, NotedOf};
pub(crate) use followed_files::FollowedFiles;
pub(crate) use follower::Follower;
pub(crate) use inbox::{Command, TaskPlace, WriterHandle};
pub(crate) use intake::{Incoming, SizeLimits};
pub(crate) use names::{is_own_file, is_set_aside};
pub(crate) use pool::Pool;
pub(crate) use progress::{Caller, FnFuture, Progress};
pub(crate) use reader::Reader;
pub(crate) use ready::ReadySet;
pub(crate) use recovery::{Doubt, REPAIR_INFIX, Recovered, recover};
pub(crate) use retention::{drop_before, start_by_limits};
pub(crate) use writer::{PartitionWriter, prepare_next, write_index_of};
pub(crate) use writer_loop::{WriterLoop, is_at_work};

use intake::Intake;

/// What every partition of an engine uses.
pub(crate) struct Env {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Events,
    pub(crate) config: EngineConfig,
    /// Which process may do anything here.
    pub(crate) opener: Opener,
    pub(crate) pool: Pool,
    pub(crate) views: Views,
    pub(crate) followed_files: FollowedFiles,
    /// Work that is done behind the writer's back.
    pub(crate) chores: Chores,
    /// Who does the work while somebody waits.
    pub(crate) drive: Drive,
    /// How far each partition was synced, for those who open the log next.
    pub(crate) evidence: Arc<Evidence>,
    /// Begins a new epoch in the catalogue, synced: asked for after a failed write.
    pub(crate) next_epoch: Box<dyn Fn() -> Result<u32> + Send + Sync>,
    /// Tells those who open the log next that a sync failed: memory may hold what the drive lacks.
    pub(crate) sync_failed: Box<dyn Fn() + Send + Sync>,
    /// In a read-only engine: reads the catalogue on, at once (`true`) or if that was not done for a while.
    pub(crate) look: OnceLock<Box<dyn Fn(bool) -> Result<()> + Send + Sync>>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Which partition it is, and where it lies.
#[derive(Debug)]
pub(crate) struct PartitionPlace {
    pub(crate) topic: Arc<str>,
    pub(crate) log: LogId,
    pub(crate) config: Arc<TopicConfig>,
    pub(crate) dir: PathBuf,
}

/// One partition, as everybody shares it.
pub(crate) struct Partition {
    pub(crate) env: Arc<Env>,
    pub(crate) topic: Arc<str>,
    pub(crate) number: u32,
    pub(crate) log: LogId,
    config: RwLock<Arc<TopicConfig>>,
    pub(crate) dir: PathBuf,
    pub(crate) progress: Progress,
    limits: SizeLimits,
    intake: Mutex<Intake>,
    writer: OnceLock<(WriterHandle, usize)>,
    segments: RwLock<BTreeMap<u64, Arc<Segment>>>,
    subscribers: RwLock<Vec<Subscriber>>,
    subscriber_count: AtomicU32,
    /// How often its topic had got more partitions when that last happened in this life; known before any record
    /// that follows.
    pub(crate) expansions: AtomicUsize,
    mark: Mutex<MarkState>,
    /// A file made ahead for the next segment.
    prepared: Mutex<Option<Prepared>>,
    /// Its topic was deleted: under its files' names may stand another's. Held while something is done to a file by
    /// its name that the writer doesn't do.
    gone: Mutex<bool>,
    /// Where damage begins, if recovery found some.
    damage: Mutex<Option<Error>>,
    /// Durable records at its end are damaged or missing.
    end_is_lost: AtomicBool,
    follower: Mutex<Option<Follower>>,
    closed: AtomicBool,
    /// The writer is to look whether the last segment is too old.
    seal_asked: AtomicBool,
    /// The run up to which failures were told by a flush or sync.
    told_run: AtomicU32,
}

/// A consumer that wants to know of new records.
#[derive(Debug)]
struct Subscriber {
    ready: Arc<ReadySet>,
    bit: usize,
}

/// The newest place that is known durable, and what of it stands in the catalogue.
#[derive(Debug, Default)]
struct MarkState {
    current: Option<Mark>,
    stored: Option<Mark>,
    queued: bool,
    unmarked_bytes: u64,
}

/// A file that has no header yet, nor a name.
#[derive(Debug)]
struct Prepared {
    unnamed: crate::disk::Unnamed,
    allocated: u64,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition")
            .field("topic", &self.topic)
            .field("number", &self.number)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl Partition {
    /// A partition as recovery found it; `mark` is the catalogue's.
    pub(crate) fn new(env: Arc<Env>, place: PartitionPlace, recovered: &Recovered, mark: Option<Mark>) -> Partition {
        let PartitionPlace { topic, log, config, dir } = place;
        let limits = SizeLimits {
            max_message_bytes: config.max_message_bytes.into(),
            max_batch_bytes: env.config.max_batch_bytes as u64,
        };
        let batch_bytes = config.batch_bytes.min(env.config.write_bytes as u64) as usize;
        let mut intake = Intake::new(recovered.end_offset, batch_bytes, config.partitions);
        if let Some(damage) = &recovered.damage {
            intake.refuse(damage.clone());
        }
        let segments: BTreeMap<_, _> =
            recovered.segments.iter().map(|segment| (segment.base_offset(), segment.clone())).collect();
        Partition {
            number: log.partition,
            log,
            progress: Progress::new(recovered.log_start, recovered.durable_offset, recovered.end_offset),
            limits,
            intake: Mutex::new(intake),
            writer: OnceLock::new(),
            closed: AtomicBool::new(false),
            seal_asked: AtomicBool::new(false),
            told_run: AtomicU32::new(0),
            segments: RwLock::new(segments),
            subscribers: RwLock::default(),
            subscriber_count: AtomicU32::new(0),
            expansions: AtomicUsize::new(0),
            mark: Mutex::new(MarkState {
                current: recovered.mark().or(mark),
                stored: mark,
                queued: false,
                unmarked_bytes: 0,
            }),
            prepared: Mutex::default(),
            gone: Mutex::new(false),
            damage: Mutex::new(recovered.damage.clone()),
            end_is_lost: AtomicBool::new(recovered.end_is_lost),
            follower: Mutex::default(),
            env,
            topic,
            config: RwLock::new(config),
            dir,
        }
    }

    /// The topic's settings as they are now.
    pub(crate) fn config(&self) -> Arc<TopicConfig> {
        read(&self.config).clone()
    }

    /// The topic's settings from now on; a segment's size holds from the next segment on.
    pub(crate) fn set_config(&self, config: Arc<TopicConfig>) {
        self.limits.max_message_bytes.store(config.max_message_bytes, Ordering::Relaxed);
        let batch_bytes = config.batch_bytes.min(self.env.config.write_bytes as u64) as usize;
        lock(&self.intake).set_batch_bytes(batch_bytes);
        *write(&self.config) = config;
    }

    /// Says who writes this partition. Called once.
    pub(crate) fn set_writer(&self, handle: WriterHandle, slot: usize) {
        let _ = self.writer.set((handle, slot));
    }

    /// Adds this partition's place to an error.
    pub(crate) fn place(&self, error: Error, offset: u64) -> Error {
        error.at_partition(&self.topic, self.number).at_offset(offset)
    }

    /// Where damage begins, if recovery found some.
    pub(crate) fn damage(&self) -> Option<Error> {
        lock(&self.damage).clone()
    }

    /// What a reader at `next_offset` is told at the end of what is there: damage that took records which should
    /// follow. Nothing, if the damage lies before it and the end is intact.
    pub(crate) fn damage_ahead(&self, next_offset: u64) -> Option<Error> {
        let damage = self.damage()?;
        let lies_before = damage.offset().is_some_and(|offset| offset < next_offset);
        (!lies_before || self.end_is_lost.load(Ordering::SeqCst)).then_some(damage)
    }

    /// A reader of the process that writes met damage: no more records are taken, and the next opening looks there.
    #[cold]
    fn met_damage(&self, error: &Error) {
        if self.writer.get().is_none() {
            return;
        }
        {
            let mut damage = lock(&self.damage);
            if damage.is_some() {
                return;
            }
            *damage = Some(error.clone());
        }
        self.env.evidence.note_damage(&self.log, error.offset());
        self.stop_intake(error.clone());
        self.tell_damage();
    }

    /// Damage that one who reads beside the writer came upon; told by [`tell_damage`](Partition::tell_damage).
    fn set_damage(&self, error: Error) {
        *lock(&self.damage) = Some(error.at_partition(&self.topic, self.number));
    }

    /// Tells the listener, with no lock held.
    fn tell_damage(&self) {
        let Some(error) = self.damage() else { return };
        let (topic, partition) = (self.topic.to_string(), self.number);
        self.env.events.emit(crate::events::Event::PartitionCorrupt { topic, partition, error });
    }

    // ---- its writer

    /// Writes the few queued records if the writer is free, so that a reader need not wait for its thread. Returns whether
    /// it did. `comes_back`: the reader polls again at once, so the thread may nap.
    pub(crate) fn write_few(&self, comes_back: bool) -> bool {
        let Some((handle, slot)) = self.writer.get() else { return false };
        handle.has_work() && lock(&self.intake).is_little() && handle.help_to_read(*slot, comes_back)
    }

    /// Ends the writer thread's nap: a thread waits for its work.
    pub(crate) fn rouse_writer(&self) {
        if let Some((handle, _)) = self.writer.get() {
            handle.rouse();
        }
    }

    /// Tells the writer that there is work. Cheap if it is awake.
    pub(crate) fn notify_writer(&self) {
        if let Some((handle, slot)) = self.writer.get() {
            handle.ready(*slot);
        }
    }

    /// Asks for everything below `end_offset` to be made durable.
    pub(crate) fn want_sync(&self, end_offset: u64) {
        let news = || self.progress.durable() < end_offset && lock(&self.intake).want_sync(end_offset);
        if self.env.opener.is_this() && news() {
            self.notify_writer();
        }
    }

    /// The offset the next record gets; above the written offset while records wait to be written.
    pub(crate) fn next_offset(&self) -> u64 {
        self.sent().0
    }

    /// The offset the next record gets, and the run of its number: both of one moment.
    pub(crate) fn sent(&self) -> (u64, u32) {
        let intake = lock(&self.intake);
        (intake.next_offset(), self.progress.run())
    }

    /// Why no records are taken, if none are.
    pub(crate) fn refused(&self) -> Option<Error> {
        lock(&self.intake).refused().cloned()
    }

    // ---- segments

    /// The segment that holds `offset`.
    pub(crate) fn segment_for(&self, offset: u64) -> Result<Arc<Segment>> {
        let segments = read(&self.segments);
        match segments.range(..=offset).next_back() {
            Some((_, segment)) if offset >= self.progress.log_start() => Ok(segment.clone()),
            _ => Err(Error::new(ErrorKind::OffsetOutOfRange {
                requested: offset,
                start: self.progress.log_start(),
                end: self.progress.written(),
            })
            .at_partition(&self.topic, self.number)),
        }
    }

    /// How many segments there are.
    pub(crate) fn segment_count(&self) -> usize {
        read(&self.segments).len()
    }

    /// All segments, oldest first.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        read(&self.segments).values().cloned().collect()
    }

    fn add_segment(&self, segment: Arc<Segment>) {
        write(&self.segments).insert(segment.base_offset(), segment);
    }

    // ---- those who read

    /// Tells `ready` of new records from now on, through `bit`.
    pub(crate) fn subscribe(&self, ready: Arc<ReadySet>, bit: usize) {
        let mut subscribers = write(&self.subscribers);
        subscribers.push(Subscriber { ready, bit });
        self.subscriber_count.store(subscribers.len() as u32, Ordering::SeqCst);
    }

    pub(crate) fn unsubscribe(&self, ready: &Arc<ReadySet>) {
        if !self.env.opener.is_this() {
            return;
        }
        let mut subscribers = write(&self.subscribers);
        subscribers.retain(|subscriber| !Arc::ptr_eq(&subscriber.ready, ready));
        self.subscriber_count.store(subscribers.len() as u32, Ordering::SeqCst);
    }

    pub(crate) fn has_subscribers(&self) -> bool {
        self.subscriber_count.load(Ordering::SeqCst) > 0
    }

    /// Whether one that slept was woken.
    fn tell_subscribers(&self) -> bool {
        fence(Ordering::SeqCst);
        if self.subscriber_count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let told: Vec<_> =
            read(&self.subscribers).iter().filter_map(|subscriber| subscriber.ready.set(subscriber.bit)).collect();
        let woke = !told.is_empty();
        wake_each(told);
        woke
    }

    /// Whether a reader that slept was woken.
    fn publish_written(&self, end_offset: u64) -> bool {
        self.progress.set_written(end_offset);
        self.tell_subscribers()
    }

    /// How many waited until now, for this or more.
    fn publish_durable(&self, end_offset: u64) -> usize {
        let crowd = self.progress.set_durable(end_offset);
        self.tell_subscribers();
        crowd
    }

    /// Fails the partition until the engine is opened again (D4).
    pub(crate) fn fail(&self, error: &Error) {
        let error = error.clone().at_partition(&self.topic, self.number);
        let latched = error.clone().with_kind(ErrorKind::Failed);
        let wakers = {
            let mut intake = lock(&self.intake);
            if self.progress.is_failed() {
                return;
            }
            intake.refuse_failed(latched.clone());
            self.progress.set_failed();
            let mut wakers = intake.fail(latched, &self.env.pool, &self.progress);
            wakers.extend(intake.queue.call_all());
            wakers
        };
        wake_each(wakers);
        self.progress.wake_all();
        self.tell_subscribers();
        self.env.events.emit(crate::events::Event::PartitionFailed {
            topic: self.topic.to_string(),
            partition: self.number,
            error,
        });
    }

    // ---- deletion

    /// From now on its files' names may be another's. Waits for what is being done to files by their names.
    pub(crate) fn set_gone(&self) {
        *lock(&self.gone) = true;
    }

    /// Does something to files by their names, unless these may be another's. Under a lock: it calls nobody back.
    pub(crate) fn unless_gone<R>(&self, act: impl FnOnce() -> R) -> Option<R> {
        let gone = lock(&self.gone);
        (!*gone).then(act)
    }

    // ---- marks

    /// Notes a place that is durable now; queued for the catalogue when it is worth an entry. What no mark covers is
    /// read when the log is opened after a crash, so that after `sync_bytes` it is.
    fn note_durable(self: &Arc<Partition>, mark: Mark, bytes: u64) {
        let (queue, far) = {
            let mut state = lock(&self.mark);
            let (before, limit) = (state.unmarked_bytes, self.env.config.sync_bytes);
            state.current = Some(mark);
            state.unmarked_bytes += bytes;
            let far = before < limit && state.unmarked_bytes >= limit;
            (!std::mem::replace(&mut state.queued, true), far)
        };
        if queue {
            self.env.chores.add_mark(self.clone());
        }
        if far {
            self.env.chores.add_far(self.clone());
        }
    }

    /// Has the place stored that opening found durable, if the catalogue lacks it: what else says so goes with a
    /// clean close.
    pub(crate) fn queue_found_mark(self: &Arc<Partition>) {
        let durable = |mark: &Option<Mark>| mark.map(|mark| mark.durable_offset);
        let queue = {
            let mut state = lock(&self.mark);
            state.queued |= durable(&state.current) > durable(&state.stored);
            state.queued
        };
        if queue {
            self.env.chores.add_mark(self.clone());
        }
    }

    /// The newest place that is known durable.
    pub(crate) fn mark(&self) -> Option<Mark> {
        lock(&self.mark).current
    }

    /// The newest mark, to be stored, if it isn't yet.
    pub(crate) fn take_mark(&self) -> Option<Mark> {
        let mut state = lock(&self.mark);
        state.queued = false;
        let current = state.current.filter(|current| state.stored.as_ref() != Some(current))?;
        state.unmarked_bytes = 0;
        state.stored = Some(current);
        Some(Mark { log_start_offset: self.progress.log_start(), ..current })
    }

    /// Whether nothing has become durable since this was last asked with the same `seen`.
    pub(crate) fn is_idle(&self, seen: &mut Option<u64>) -> bool {
        let durable = self.mark().map(|mark| mark.durable_offset);
        std::mem::replace(seen, durable) == durable
    }

    /// What failed since this was last asked: each failure is told once.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        let run = self.progress.run();
        let since = self.told_run.fetch_max(run, Ordering::SeqCst);
        self.progress.failure_between(since, run).or_else(|| self.stopped())
    }

    /// Bytes of all segments, as far as they are written.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.segments().iter().map(|segment| segment.published()).sum()
    }
}
