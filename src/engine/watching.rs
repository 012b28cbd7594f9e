//! When a read-only engine looks for what another process has written.
//!
//! The disk tells which directories changed, if it can: an idle reader costs nothing then, however many partitions it
//! reads. Where it can't (a limit, a network file system), partitions are looked at again and again, in at most one
//! twentieth of the time. Besides, once a second, the catalogue and a few partitions are looked at unasked.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Core;
use crate::config::Writers;
use crate::disk::{Disk, Watch};
use crate::error::{Error, Result};
use crate::ids::TopicId;
use crate::lock::thread::{self, JoinHandle};
use crate::lock::{AtomicBool, Mutex, Ordering, Parker, Unparker, lock};
use crate::panics::caught;
use crate::partition::{EVIDENCE_NAME, Noted, Partition};

/// How often partitions are looked at of which the disk doesn't tell, while something comes.
pub(super) const FOLLOW_EVERY: Duration = Duration::from_millis(2);
/// The same while nothing comes, at most.
const IDLE_EVERY: Duration = Duration::from_millis(50);
/// A look at such partitions is followed by a pause of at least this multiple of its length.
const PAUSE_FACTOR: u32 = 20;
/// The thread doesn't look more often than this, should there be news all the time.
const NEWS_EVERY: Duration = Duration::from_millis(1);
/// How often, and how many at a time, partitions are looked at of which the disk does tell.
const UNASKED_EVERY: Duration = Duration::from_secs(1);
const UNASKED: usize = 64;

/// What the names of the files of the data directory begin with that are looked at.
const CATALOG: &str = "catalog";
const EVIDENCE: &str = EVIDENCE_NAME;

/// See the module.
pub(crate) struct Watching {
    watch: Option<Arc<dyn Watch>>,
    list: Mutex<List>,
    /// Held while somebody looks: whoever looks after a change finds it taken in.
    looking: Mutex<()>,
    thread: Mutex<Option<Looker>>,
}

/// Which partitions are read, and how is learnt of changes there.
#[derive(Default)]
struct List {
    known: HashSet<(TopicId, u32)>,
    watched: HashMap<u64, Arc<Partition>>,
    unwatched: Vec<Arc<Partition>>,
    /// To be looked at in any case.
    due: Vec<Arc<Partition>>,
    /// The data directory's number.
    directory: Option<u64>,
    unasked_at: Duration,
    /// Watched partitions below this number were looked at unasked.
    unasked: u64,
}

/// What a look is to look at.
struct Looks {
    partitions: Vec<Arc<Partition>>,
    catalog: bool,
    evidence: bool,
}

/// The thread that looks while consumers sleep.
struct Looker {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    unparker: Unparker,
}

impl Watching {
    /// Nothing is watched before there is a reader.
    pub(super) fn new(disk: &dyn Disk, read_only: bool) -> Watching {
        let watch = if read_only { disk.watch().map(Arc::from) } else { None };
        Watching { watch, list: Mutex::default(), looking: Mutex::default(), thread: Mutex::default() }
    }

    /// Loses what the disk has told.
    #[cfg(all(test, feature = "sim"))]
    pub(crate) fn forget_news(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.changed(&mut BTreeSet::new()))
    }

    /// Has a partition that is read looked at by the next who looks.
    pub(super) fn note(&self, partition: &Arc<Partition>) {
        if partition.has_subscribers() {
            lock(&self.list).due.push(partition.clone());
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(watch) = &self.watch {
            watch.wake();
        }
        if let Some(looker) = &*lock(&self.thread) {
            looker.unparker.unpark();
        }
    }

    /// Ends the thread, if there is one.
    pub(super) fn stop(&self) {
        let Some(looker) = lock(&self.thread).take() else { return };
        looker.stop.store(true, Ordering::SeqCst);
        looker.unparker.unpark();
        if let Some(watch) = &self.watch {
            watch.wake();
        }
        // The last handle may be dropped there.
        if looker.thread.thread().id() != thread::current().id() {
            let _ = looker.thread.join();
        }
    }
}

impl List {
    /// What to look at now.
    fn take(&mut self, watch: Option<&dyn Watch>, now: Duration) -> Looks {
        let mut changed = BTreeSet::new();
        let all_told = watch.is_none_or(|watch| watch.changed(&mut changed));
        let mut partitions = std::mem::take(&mut self.due);
        partitions.extend(self.unwatched.iter().cloned());
        if all_told {
            partitions.extend(changed.iter().filter_map(|(number, _)| self.watched.get(number)).cloned());
        } else {
            partitions.extend(self.watched.values().cloned());
        }
        let unasked = now >= self.unasked_at;
        if unasked {
            self.unasked_at = now + UNASKED_EVERY;
            self.clear(watch);
            partitions.extend(self.next_unasked());
        }
        let is_changed = |prefix| self.directory.is_none_or(|number| changed.contains(&(number, prefix)));
        let any = unasked || !all_told;
        let catalog = any || (self.directory.is_some() && is_changed(CATALOG));
        Looks { partitions, catalog, evidence: any || is_changed(EVIDENCE) }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.watched.values().chain(&self.unwatched)
    }

    /// Those that have records which aren't known to be durable, if only durable ones are read.
    fn not_durable(&self) -> Vec<Arc<Partition>> {
        let waits = |partition: &&Arc<Partition>| partition.config().read_durable && partition.waits_for_durable();
        self.all().filter(waits).cloned().collect()
    }

    /// The next few in turn.
    fn next_unasked(&mut self) -> Vec<Arc<Partition>> {
        let mut numbers: Vec<_> = self.watched.keys().copied().filter(|&number| number >= self.unasked).collect();
        numbers.sort_unstable();
        numbers.truncate(UNASKED);
        self.unasked = if numbers.len() < UNASKED { 0 } else { numbers.last().map_or(0, |last| last + 1) };
        numbers.iter().filter_map(|number| self.watched.get(number)).cloned().collect()
    }

    /// Forgets partitions that nobody reads any more.
    fn clear(&mut self, watch: Option<&dyn Watch>) {
        let is_read = |partition: &Arc<Partition>| partition.has_subscribers();
        let known = &mut self.known;
        let mut forget = |partition: &Arc<Partition>| known.remove(&key(partition));
        self.unwatched.retain(|partition| is_read(partition) || !forget(partition));
        self.watched.retain(|&number, partition| {
            let stays = is_read(partition) || !forget(partition);
            if let (false, Some(watch)) = (stays, watch) {
                watch.remove(number);
            }
            stays
        });
    }
}

fn key(partition: &Partition) -> (TopicId, u32) {
    (partition.log.topic_id, partition.number)
}

impl Core {
    /// In a read-only engine: has these partitions, which are read from now on, looked at.
    ///
    /// # Errors
    /// `Io` or `NoRoom` if there can be no thread for it.
    pub(super) fn follow(self: &Arc<Core>, partitions: &[Arc<Partition>]) -> Result<()> {
        if !self.read_only {
            return Ok(());
        }
        {
            let mut list = lock(&self.watching.list);
            let watch = self.watching.watch.as_deref();
            if list.directory.is_none() {
                let add = |watch: &dyn Watch| watch.add(&self.dir, CATALOG).and(watch.add(&self.dir, EVIDENCE));
                list.directory = watch.and_then(|watch| add(watch).ok());
            }
            for partition in partitions {
                if !list.known.insert(key(partition)) {
                    continue;
                }
                match watch.and_then(|watch| watch.add(&partition.dir, "").ok()) {
                    Some(number) => _ = list.watched.insert(number, partition.clone()),
                    None => list.unwatched.push(partition.clone()),
                }
                // What came before it was watched.
                list.due.push(partition.clone());
            }
        }
        if self.looks_itself() { Ok(()) } else { self.start_looker() }
    }

    /// Whether those who wait look for themselves, as there is no thread that does.
    pub(super) fn looks_itself(&self) -> bool {
        self.read_only && self.env.config.writers == Writers::Inline
    }

    /// In a read-only engine: takes in what has changed. Whether a partition has more records.
    ///
    /// # Errors
    /// Those of reading the catalogue. What is wrong with a partition is told to its readers.
    pub(super) fn look_around(&self) -> Result<bool> {
        if !self.read_only || self.closed.load(Ordering::SeqCst) {
            return Ok(false);
        }
        let _looking = lock(&self.watching.looking);
        let watch = self.watching.watch.as_deref();
        let looks = lock(&self.watching.list).take(watch, self.env.clock.monotonic());
        let mut partitions = looks.partitions;
        if looks.catalog || self.catalog_moved.load(Ordering::SeqCst) {
            let refreshed = self.refresh();
            // Where the catalogue says something that their files have to be read for.
            partitions.append(&mut lock(&self.watching.list).due);
            if let Err(error) = refreshed {
                lock(&self.watching.list).due.append(&mut partitions);
                return Err(error);
            }
        }
        let mut any = false;
        for partition in partitions {
            let before = partition.progress.written();
            if let Err(error) = partition.refresh() {
                partition.tell_unread(error);
                lock(&self.watching.list).due.push(partition.clone());
            }
            any |= partition.progress.written() > before;
        }
        if looks.evidence {
            self.follow_evidence();
        }
        Ok(any)
    }

    /// Takes in how far these partitions were synced. The notes are only a help: marks say the same later.
    fn follow_evidence(&self) {
        let partitions = lock(&self.watching.list).not_durable();
        if partitions.is_empty() {
            return;
        }
        let engine_id = lock(&self.catalog).engine_id();
        let Ok(noted) = Noted::read(&*self.env.disk, &self.dir, engine_id) else { return };
        for partition in partitions {
            partition.follow_durable(noted.of(partition.log.topic_id, partition.number).durable_offset);
        }
    }

    fn start_looker(self: &Arc<Core>) -> Result<()> {
        let mut looker = lock(&self.watching.thread);
        if looker.is_some() {
            return Ok(());
        }
        let (core, stop, parker) = (Arc::downgrade(self), Arc::new(AtomicBool::new(false)), Parker::new());
        let (stopped, unparker) = (stop.clone(), parker.unparker().clone());
        let run = move || look_on(&core, &stopped, &parker);
        let thread = thread::Builder::new().name("thalweg-follow".to_owned()).spawn(run).map_err(Error::io)?;
        *looker = Some(Looker { thread, stop, unparker });
        Ok(())
    }
}

/// Looks until it is stopped, or the engine is gone.
fn look_on(core: &Weak<Core>, stop: &AtomicBool, parker: &Parker) {
    let mut pause = FOLLOW_EVERY;
    while !stop.load(Ordering::SeqCst) {
        let Some(core) = core.upgrade() else { return };
        let clock = core.env.clock.clone();
        let watch = core.watching.watch.clone();
        let began = clock.monotonic();
        let looked = caught(|| core.look_around()).unwrap_or_else(|error| {
            core.env.events.panicked("looking for news", error);
            Ok(false)
        });
        let took = clock.monotonic().saturating_sub(began);
        if looked.is_err() {
            // They look for themselves then, and are told.
            let list = lock(&core.watching.list);
            let all: Vec<_> = list.all().cloned().collect();
            drop(list);
            all.iter().for_each(|partition| partition.call_subscribers());
        }
        let all_watched = {
            let list = lock(&core.watching.list);
            list.unwatched.is_empty() && list.directory.is_some()
        };
        pause = if looked == Ok(true) { FOLLOW_EVERY } else { (pause * 2).min(IDLE_EVERY) };
        // The last handle may have been dropped meanwhile: it ends here.
        drop(core);
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let until = if all_watched { UNASKED_EVERY } else { pause.max(took * PAUSE_FACTOR) };
        match &watch {
            Some(watch) if all_watched => {
                thread::sleep(NEWS_EVERY);
                watch.sleep(until);
            }
            _ => parker.park_timeout(until),
        }
    }
}
