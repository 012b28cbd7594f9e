//! Work that no record waits for: *files* (index files, giving back space, making the next
//! segment, unlinking) and *upkeep* (marks, retention). And the threads that do it and the writing.

#[cfg(all(test, feature = "sim"))]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::panic::resume_unwind;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result, thread_not_started};
use crate::events::Event;
use crate::format::Mark;
use crate::ids::TopicId;
use crate::lock::thread::{self, JoinHandle};
use crate::lock::{AtomicBool, AtomicU64, Mutex, Ordering, Parker, Unparker, lock};
use crate::panics::caught;
use crate::partition::{
    Command, Env, FileChore, Partition, UnparkWaker, WriterHandle, WriterLoop, drop_before, prepare_next,
    start_by_limits, write_index_of,
};
use crate::segment::index_path;
use crate::teeth::bites;
use crate::topic::Catalog;

use super::groups::Groups;
use super::topic_dirs::tell_left;
use super::topic_removal::remove_topic;

/// How long a partition must be quiet before its mark is stored, and how often limits are looked at.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Log starts that one entry of the catalogue raises, at most.
const RAISED_TOGETHER: usize = 1_000;

/// Files and directories of deleted topics that closing removes, at most; the rest the next opening does. A topic with
/// many partitions would hold up the end of a process for minutes.
const REMOVED_AT_CLOSE: u64 = 1_000;

/// What the background threads do, without the threads.
pub(crate) struct Background {
    env: Arc<Env>,
    catalog: Arc<Mutex<Catalog>>,
    groups: Arc<Groups>,
    /// Partitions whose place hasn't been stored yet, and how far they were when last looked at.
    moving: Mutex<HashMap<(TopicId, u32), Moving>>,
    /// Partitions whose topic limits what is kept, or how long a segment is written.
    limited: Mutex<BTreeMap<(TopicId, u32), Weak<Partition>>>,
    /// When marks are stored and limits are looked at next.
    next_upkeep: Mutex<Duration>,
    /// Whether that is to be done once a second: there are limits, or marks.
    is_busy: AtomicBool,
    /// When commits that nobody waits for are made durable.
    sync_offsets_at: Mutex<Option<Duration>>,
    /// When the upkeep looks for late members next, in nanoseconds; `u64::MAX` while it does, or if nothing is due.
    next_look: AtomicU64,
    /// Files and directories of deleted topics that may still be removed; unlimited until the engine is closed.
    removals_left: AtomicU64,
}

/// A partition whose place hasn't been stored, and how far it was when last looked at.
struct Moving {
    partition: Arc<Partition>,
    seen: Option<u64>,
}

impl Background {
    pub(crate) fn new(env: Arc<Env>, catalog: Arc<Mutex<Catalog>>, groups: Arc<Groups>) -> Background {
        Background {
            env,
            catalog,
            groups,
            moving: Mutex::default(),
            limited: Mutex::default(),
            next_upkeep: Mutex::default(),
            is_busy: AtomicBool::new(false),
            sync_offsets_at: Mutex::default(),
            next_look: AtomicU64::new(u64::MAX),
            removals_left: AtomicU64::new(u64::MAX),
        }
    }

    /// For an engine without threads: all that there is to do now if the writers have just `worked`, else what is due.
    pub(crate) fn round(&self, worked: bool) {
        if worked {
            self.do_files();
            self.look_soon();
        } else if self.env.clock.monotonic() < *lock(&self.next_upkeep) {
            return;
        }
        self.upkeep();
        self.do_files();
        self.env.events.emit_untold();
    }

    /// One turn of the upkeep. How long until the next if nothing wakes it.
    fn upkeep(&self) -> Option<Duration> {
        let now = self.env.clock.monotonic();
        let is_due = {
            let mut next = lock(&self.next_upkeep);
            let is_due = now >= *next;
            if is_due {
                *next = now + UPKEEP_EVERY;
            }
            is_due
        };
        if is_due {
            let moving = self.store_marks(false);
            let limited = self.keep_limits();
            self.is_busy.store(moving || limited, Ordering::SeqCst);
        }
        self.look_at_far();
        let groups = self.keep_groups();
        let is_busy = self.is_busy.load(Ordering::SeqCst) || self.env.chores.has_marks();
        let look = is_busy.then(|| lock(&self.next_upkeep).saturating_sub(now));
        look.into_iter().chain(groups).min()
    }

    /// Limits may have to be kept that weren't before: looks at all of them now.
    pub(crate) fn look_soon(&self) {
        *lock(&self.next_upkeep) = Duration::ZERO;
        self.is_busy.store(true, Ordering::SeqCst);
        self.env.chores.wake_upkeep();
    }

    /// Removes members that are late, makes commits durable that nobody waits for, forgets groups.
    /// How long until that is to be done again, if it is.
    pub(crate) fn keep_groups(&self) -> Option<Duration> {
        self.next_look.store(u64::MAX, Ordering::SeqCst);
        let deadline = self.groups.tick();
        self.next_look.store(deadline.map_or(u64::MAX, nanoseconds), Ordering::SeqCst);
        let now = self.env.clock.monotonic();
        if self.groups.offsets.wants_zeros() {
            self.groups.offsets.write_ahead();
        }
        let sync_at = self.sync_offsets_if_due(now);
        let expires = self.groups.expire();
        let wait = [deadline, sync_at].into_iter().flatten().min().map(|at| at.saturating_sub(now));
        wait.into_iter().chain(expires).min()
    }

    /// Makes commits durable that nobody waits for, when it is time; when that is.
    fn sync_offsets_if_due(&self, now: Duration) -> Option<Duration> {
        let offsets = &self.groups.offsets;
        {
            let mut sync_at = lock(&self.sync_offsets_at);
            if !offsets.has_unsynced() {
                *sync_at = None;
                return None;
            }
            let at = *sync_at.get_or_insert(now + Duration::from_millis(self.env.config.sync_ms));
            if now < at {
                return Some(at);
            }
            *sync_at = None;
        }
        // Without the lock, which every commit takes.
        if let Err(error) = offsets.sync_all() {
            self.tell("syncing the offset log", error);
        }
        *lock(&self.sync_offsets_at)
    }

    /// There is a member whose time may be over, or a commit that nobody waits for.
    pub(crate) fn look_at_groups(&self) {
        self.env.chores.wake_upkeep();
    }

    /// A member may be late at this time. Wakes the upkeep only if it would come later.
    pub(crate) fn look_at_groups_by(&self, deadline: Duration) {
        if nanoseconds(deadline) < self.next_look.load(Ordering::SeqCst) {
            self.look_at_groups();
        }
    }

    /// A commit was written. Wakes the upkeep only if that has to do something that it doesn't know of.
    pub(crate) fn committed(&self) {
        let mut sync_at = lock(&self.sync_offsets_at);
        let is_news = sync_at.is_none();
        if is_news {
            *sync_at = Some(self.env.clock.monotonic() + Duration::from_millis(self.env.config.sync_ms));
        }
        drop(sync_at);
        if is_news || self.groups.offsets.wants_zeros() {
            self.look_at_groups();
        }
    }

    /// Does what waits for the files thread; whether there was anything.
    pub(crate) fn do_files(&self) -> bool {
        let mut any = self.do_file_chores();
        while self.removals_left.load(Ordering::SeqCst) > 0
            && let Some((dir, log)) = self.env.chores.next_removal()
        {
            any = true;
            // What comes meanwhile doesn't wait for the rest of a topic with many partitions.
            let left = remove_topic(&*self.env.disk, &dir, &log, &mut || {
                self.do_file_chores();
                self.may_remove()
            });
            tell_left(&self.env, left);
            self.do_file_chores();
        }
        any
    }

    /// The engine is being closed, which doesn't wait for much of what the next opening does.
    pub(crate) fn limit_removals(&self) {
        self.removals_left.store(REMOVED_AT_CLOSE, Ordering::SeqCst);
    }

    /// Counts one that was removed. Whether there may be more.
    fn may_remove(&self) -> bool {
        let counted = self.removals_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        counted.is_ok_and(|before| before > 1)
    }

    fn do_file_chores(&self) -> bool {
        let mut any = false;
        while let Some(chore) = self.env.chores.next_file_chore() {
            any = true;
            match chore {
                FileChore::Sealed { partition, segment, file } => {
                    if let Some(file) = file {
                        let _ = file.give_back(segment.published());
                    }
                    match partition.unless_gone(|| write_index_of(&partition, &segment)) {
                        Some(Ok(true)) => segment.forget_index(),
                        Some(Err(error)) => self.tell("writing an index", error),
                        Some(Ok(false)) | None => {}
                    }
                }
                FileChore::Dropped { partition, segments } => {
                    let files = segments.iter().flat_map(|segment| [index_path(segment.path()), segment.path().into()]);
                    let files: Vec<_> = files.collect();
                    let failed = partition.unless_gone(|| self.remove(&files));
                    failed.into_iter().flatten().for_each(|error| self.tell("removing a file", error));
                }
                FileChore::Prepare { partition, bytes } => prepare_next(&partition, bytes),
            }
        }
        any
    }

    /// Removes files; one that isn't there is fine, other errors are returned.
    fn remove(&self, files: &[std::path::PathBuf]) -> Vec<Error> {
        let results = files.iter().map(|path| (path, self.env.disk.unlink(path)));
        let failed = results.filter_map(|(path, result)| Some((path, result.err()?)));
        let failed = failed.filter(|(_, error)| error.kind() != io::ErrorKind::NotFound);
        failed.map(|(path, error)| Error::io(error).at_path(path)).collect()
    }

    fn tell(&self, what: &'static str, error: Error) {
        self.env.events.emit(Event::Background { what, error });
    }

    /// Stores the marks that are due: those of partitions that fell idle or went far; with `all`,
    /// every one that isn't stored. Whether some partitions are still moving.
    pub(crate) fn store_marks(&self, all: bool) -> bool {
        let mut moving = lock(&self.moving);
        while let Some(partition) = self.env.chores.next_mark() {
            let key = (partition.log.topic_id, partition.number);
            moving.entry(key).or_insert(Moving { partition, seen: None });
        }
        let idle = moving.extract_if(|_, Moving { partition, seen }| all || partition.is_idle(seen));
        let mut idle: Vec<_> = idle.map(|(_, Moving { partition, .. })| partition).collect();
        // In the same order each time, so that a simulated run can be repeated.
        idle.sort_by_key(|partition| (partition.log.topic_id, partition.number));
        let any = !moving.is_empty();
        drop(moving);
        self.put_marks(&idle);
        if all {
            // They were among those, and nobody looks at them any more.
            while self.env.chores.next_far().is_some() {}
        }
        any
    }

    /// Stores the marks of partitions that went far, and keeps their limits: a fast one would leave them far behind
    /// in the time between two looks.
    fn look_at_far(&self) {
        let far: Vec<_> = std::iter::from_fn(|| self.env.chores.next_far()).collect();
        self.put_marks(&far);
        self.keep_limits_of(&far);
    }

    fn put_marks(&self, of: &[Arc<Partition>]) {
        let mark =
            |partition: &Arc<Partition>| Some((partition.log.topic_id, partition.number, partition.take_mark()?));
        let marks: Vec<_> = of.iter().filter_map(mark).collect();
        if !marks.is_empty()
            && let Err(error) = lock(&self.catalog).put_marks(&marks, self.env.clock.wall_ms(), false)
        {
            self.tell("storing marks", error);
        }
    }

    /// Has the partition's limits kept from now on, if it has some: once a second, and
    /// [soon](Background::look_soon) when asked.
    pub(crate) fn watch_limits(&self, partition: &Arc<Partition>) {
        let key = (partition.log.topic_id, partition.number);
        let is_first = {
            let mut limited = lock(&self.limited);
            match partition.config().has_limits() {
                true => limited.insert(key, Arc::downgrade(partition)),
                false => limited.remove(&key),
            };
            limited.len() == 1
        };
        if is_first {
            self.look_soon();
        }
    }

    /// Seals segments that are too old, and drops those that the topics' limits no longer keep. Whether any topic has
    /// limits.
    pub(crate) fn keep_limits(&self) -> bool {
        let partitions: Vec<_> = {
            let mut limited = lock(&self.limited);
            limited.retain(|_, partition| partition.strong_count() > 0);
            limited.values().filter_map(Weak::upgrade).collect()
        };
        self.keep_limits_of(&partitions);
        !partitions.is_empty()
    }

    /// One sync of the catalogue serves many partitions.
    fn keep_limits_of(&self, partitions: &[Arc<Partition>]) {
        let now_ms = self.env.clock.wall_ms();
        let mut raised = Vec::new();
        for partition in partitions {
            partition.seal_by_age(now_ms);
            partition.learn_times(now_ms);
            let Some(mark) = partition.mark() else { continue };
            let start = start_by_limits(&partition.segments(), &partition.config(), mark.durable_offset, now_ms);
            raised.extend(start.map(|start| (partition.clone(), start)));
        }
        for raised in raised.chunks(RAISED_TOGETHER) {
            if let Err(error) = self.raise_log_starts(raised) {
                self.tell("dropping old segments", error);
            }
        }
    }

    /// Raises the log start, durably, and drops what lies wholly below it. Everything below `offset`
    /// is durable.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTopic`], and those of the catalogue.
    pub(crate) fn raise_log_start(&self, partition: &Arc<Partition>, offset: u64) -> Result<()> {
        if partition.mark().is_none() {
            return Ok(());
        }
        match self.raise_log_starts(&[(partition.clone(), offset)])? {
            0 => Err(Error::new(ErrorKind::UnknownTopic { topic: partition.topic.to_string() })),
            _ => Ok(()),
        }
    }

    /// The same for several partitions. How many of them have a topic that still exists.
    fn raise_log_starts(&self, raised: &[(Arc<Partition>, u64)]) -> Result<usize> {
        if bites("unlinked-before-the-log-start-is-durable") {
            raised.iter().for_each(|(partition, offset)| drop_before(partition, *offset));
            self.do_files();
        }
        let mut catalog = lock(&self.catalog);
        let is_known = |raised: &&(Arc<Partition>, u64)| catalog.state().topic_by_id(raised.0.log.topic_id).is_some();
        let known: Vec<_> = raised.iter().filter(is_known).collect();
        let marks = known.iter().filter_map(|(partition, offset)| {
            let mark = Mark { log_start_offset: *offset, ..partition.mark()? };
            Some((partition.log.topic_id, partition.number, mark))
        });
        let marks: Vec<_> = marks.collect();
        if !marks.is_empty() {
            catalog.put_marks(&marks, self.env.clock.wall_ms(), !bites("log-start-not-synced"))?;
        }
        drop(catalog);
        known.iter().for_each(|(partition, offset)| drop_before(partition, *offset));
        Ok(known.len())
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The engine's threads. Dropped only after [`Threads::stop`].
pub(crate) struct Threads {
    writers: Vec<(WriterHandle, JoinHandle<()>)>,
    background: Vec<(Unparker, JoinHandle<()>)>,
    stop: Arc<AtomicBool>,
}

impl Threads {
    /// Starts a thread for each writer, and the two background threads; all or none: who waits for a
    /// writer without a thread would wait for ever.
    pub(crate) fn start(env: &Arc<Env>, loops: Vec<WriterLoop>, background: &Arc<Background>) -> Result<Threads> {
        let mut threads = Threads { writers: Vec::new(), background: Vec::new(), stop: Arc::default() };
        match threads.start_all(env, loops, background) {
            Ok(()) => Ok(threads),
            Err(error) => {
                let _ = threads.stop();
                Err(Error::io(error))
            }
        }
    }

    fn start_all(&mut self, env: &Arc<Env>, loops: Vec<WriterLoop>, background: &Arc<Background>) -> io::Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for (number, writer) in loops.into_iter().enumerate() {
            let handle = writer.handle();
            let core = (env.config.pin_writers && number < cores).then_some(number);
            let events = env.events.clone();
            let name = format!("thalweg-write-{number}");
            let spawned = thread::Builder::new().name(name.clone()).spawn(move || {
                if let Some(Err(error)) = core.map(crate::sys::affinity::pin_to) {
                    events.emit(Event::PinningRefused { reason: error.to_string() });
                }
                writer.run();
            });
            let spawned = spawned.map_err(|error| thread_not_started(&name, &error))?;
            self.writers.push((handle, spawned));
        }
        let files = Parker::new();
        let upkeep = Parker::new();
        let waker = |parker: &Parker| Waker::from(Arc::new(UnparkWaker(parker.unparker().clone())));
        env.chores.set_wakers(waker(&files), waker(&upkeep));
        self.spawn("thalweg-files", "the files thread", files, background, |background, parker| {
            if !background.do_files() {
                parker.park();
            }
        })?;
        self.spawn("thalweg-upkeep", "the upkeep thread", upkeep, background, |background, parker| {
            match background.upkeep() {
                Some(limit) => parker.park_timeout(limit),
                None => parker.park(),
            }
        })
    }

    fn spawn(
        &mut self,
        name: &str,
        what: &'static str,
        parker: Parker,
        background: &Arc<Background>,
        turn: impl Fn(&Background, &Parker) + Send + 'static,
    ) -> io::Result<()> {
        let (background, stop) = (background.clone(), self.stop.clone());
        let unparker = parker.unparker().clone();
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                if let Err(error) = caught(|| turn(&background, &parker)) {
                    background.env.events.panicked(what, error);
                    parker.park_timeout(UPKEEP_EVERY);
                }
                background.env.events.emit_untold();
            }
        });
        let spawned = spawned.map_err(|error| thread_not_started(name, &error))?;
        self.background.push((unparker, spawned));
        Ok(())
    }

    /// Ends all threads; the partitions have ended before.
    ///
    /// # Errors
    /// [`ErrorKind::Panicked`] if one had ended by itself.
    pub(crate) fn stop(self) -> Result<()> {
        let mut ended = Ok(());
        let mut join = |thread: JoinHandle<()>| {
            if let Err(panic) = thread.join() {
                ended = caught(|| resume_unwind(panic));
            }
        };
        self.stop.store(true, Ordering::SeqCst);
        let this = thread::current().id();
        for (handle, thread) in self.writers {
            handle.send(Command::Stop);
            if thread.thread().id() != this {
                join(thread);
            }
        }
        for (unparker, thread) in self.background {
            unparker.unpark();
            if thread.thread().id() != this {
                join(thread);
            }
        }
        ended
    }
}

/// The failure that closing reports, if there was one: the first of a partition or the catalogue.
pub(crate) fn is_failure(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Closed | ErrorKind::UnknownTopic { .. })
}
