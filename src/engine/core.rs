//! What all handles of an open directory share, and how it ends.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use super::background::{Background, Threads, is_failure};
use super::calls::Calls;
use super::description::Recovery;
use super::following::end_following;
use super::groups::Groups;
use super::lock_file::{self, LOCK_NAME};
use super::watching::Watching;
use crate::config::{Acks, TopicConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Failure;
use crate::ids::TopicId;
use crate::lock::{
    AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, OnceLock, Ordering, RwLock, lock, read, try_lock, write,
};
use crate::partition::{Env, Noted, WriterHandle};
use crate::teeth::bites;
use crate::topic::{Catalog, StickyPartitioner};

/// What all handles share.
pub(crate) struct Core {
    pub(crate) dir: PathBuf,
    pub(crate) env: Arc<Env>,
    pub(crate) catalog: Arc<Mutex<Catalog>>,
    pub(super) background: Arc<Background>,
    pub(crate) groups: Arc<Groups>,
    pub(super) topics: RwLock<HashMap<String, Arc<Topic>>>,
    /// Held while topics are made and deleted.
    pub(super) admin: Mutex<()>,
    pub(super) handles: Vec<WriterHandle>,
    pub(super) next_writer: AtomicUsize,
    pub(super) threads: Mutex<Option<Threads>>,
    pub(super) calls: Arc<Calls>,
    pub(super) guard: Mutex<Option<Box<dyn Send + Sync>>>,
    pub(crate) read_only: bool,
    pub(super) closed: AtomicBool,
    /// A reader's catalogue was read on, and its topics haven't followed yet.
    pub(super) catalog_moved: AtomicBool,
    /// When a reader looks at the catalogue next without being asked to, in nanoseconds of the clock.
    pub(super) next_look: AtomicU64,
    /// How far partitions were synced, as was noted when the directory was opened.
    pub(super) noted: Noted,
    pub(crate) watching: Watching,
    pub(super) seed: u64,
    pub(super) recovery: OnceLock<Recovery>,
}

/// A topic as its handles share it.
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) name: Arc<str>,
    pub(crate) config: Arc<TopicConfig>,
    pub(crate) created_ms: i64,
    pub(crate) partitions: Vec<Arc<crate::partition::Partition>>,
    /// Each time partitions were added: the end offsets of the old ones (exclusive).
    pub(crate) expansions: Vec<Vec<u64>>,
    pub(crate) sticky: StickyPartitioner,
    /// What the topic is now, once it was altered.
    pub(super) next: OnceLock<Arc<Topic>>,
}

impl Topic {
    /// The topic as it is now.
    #[inline]
    pub(crate) fn current(self: &Arc<Topic>) -> &Arc<Topic> {
        let mut topic = self;
        while let Some(next) = topic.next.get() {
            topic = next;
        }
        topic
    }

    pub(crate) fn partition(&self, number: u32) -> Result<&Arc<crate::partition::Partition>> {
        let partitions = self.partitions.len() as u32;
        self.partitions.get(number as usize).ok_or_else(|| {
            Error::new(ErrorKind::UnknownPartition { partition: number, partitions }).at_topic(&self.name)
        })
    }
}

impl Core {
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        self.env.opener.check()?;
        if let Some(topic) = read(&self.topics).get(name) {
            return Ok(topic.clone());
        }
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed));
        }
        Err(Error::new(ErrorKind::UnknownTopic { topic: name.to_owned() }))
    }

    /// # Errors
    /// [`ErrorKind::Closed`] once the engine is closed, [`ErrorKind::Forked`] in a child.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.env.opener.check()?;
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed).at_path(&self.dir));
        }
        Ok(())
    }

    /// All topics, in the same order each time, so that a simulated run can be repeated.
    fn topics_in_order(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> = read(&self.topics).values().cloned().collect();
        topics.sort_by_key(|topic| topic.id);
        topics
    }

    /// Topics came, went or grew: the groups give out what there is now.
    pub(super) fn tell_groups(&self) {
        let topics = self.topics_in_order();
        self.groups.set_topics(topics.iter());
        self.background.look_at_groups();
    }

    /// One topic came, grew or went (`None`).
    pub(super) fn tell_groups_of(&self, name: &str, topic: Option<&Topic>) {
        self.groups.set_topic(name, topic);
        self.background.look_at_groups();
    }

    /// Whether some process has the directory open for writing, as far as can be found out.
    pub(super) fn may_have_writer(&self) -> bool {
        !self.read_only || !matches!(self.env.disk.lock_holder(&self.dir.join(LOCK_NAME)), Ok(None))
    }

    /// The lock under which topics are made and deleted, if that is possible here.
    pub(super) fn writable(&self) -> Result<MutexGuard<'_, ()>> {
        self.env.opener.check()?;
        if self.read_only {
            return Err(Error::new(ErrorKind::ReadOnly).at_path(&self.dir));
        }
        let admin = lock(&self.admin);
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed).at_path(&self.dir));
        }
        Ok(admin)
    }

    /// Makes partitions durable up to these offsets (exclusive): all syncs are started, then awaited. The
    /// runs are those of the moment when the offsets were looked up.
    pub(super) fn sync_up_to(&self, behind: &[Behind]) -> Result<()> {
        self.env.drive.wait(synced_up_to(behind), None).unwrap_or(Ok(()))
    }

    /// Waits until all partitions have reached a level, up to what was sent before.
    pub(super) fn settle(&self, level: Acks) -> Result<()> {
        self.env.drive.wait(self.settled(level), None).unwrap_or(Ok(()))
    }

    /// Done when all partitions have reached a level, up to what was sent before this call.
    pub(super) fn settled(&self, level: Acks) -> impl Future<Output = Result<()>> + Send + use<> {
        let begun = self.env.opener.check().map(|()| {
            let topics = self.topics_in_order();
            let partitions: Vec<_> = topics.iter().flat_map(|topic| topic.partitions.iter().cloned()).collect();
            let ends: Vec<_> = partitions.iter().map(|partition| partition.sent()).collect();
            if level == Acks::Synced {
                for (partition, (end, _)) in partitions.iter().zip(&ends) {
                    partition.want_sync(*end);
                }
            }
            partitions.into_iter().zip(ends)
        });
        async move {
            let mut failure = None;
            for (partition, (end, run)) in begun? {
                if partition.damage().is_none() {
                    let outcome = partition.acknowledged(level, end, run).await.err();
                    failure = failure.or(outcome).or(partition.take_failure());
                }
            }
            failure.map_or(Ok(()), Err)
        }
    }

    /// Ends partitions: takes no more records, writes what they have (or drops it), waits.
    pub(super) fn end_partitions(
        &self,
        partitions: &[Arc<crate::partition::Partition>],
        discard: bool,
        reason: &Error,
    ) {
        for partition in partitions {
            partition.stop_intake(reason.clone());
            partition.end_writer(discard);
        }
        for partition in partitions {
            if partition.has_writer() {
                self.env.drive.wait(partition.closed(), None);
            }
        }
    }

    /// See [`Engine::failures`](super::Engine::failures).
    pub(super) fn failures(&self) -> Vec<Failure> {
        self.env.events.emit_untold();
        let stopped = |what, error| Failure { what, error, count: 1, stopped: true };
        let mut failures = Vec::new();
        let topics = self.topics_in_order();
        for partition in topics.iter().flat_map(|topic| &topic.partitions) {
            let failure = partition.damage().or_else(|| partition.stopped().filter(is_failure));
            failures.extend(failure.map(|error| stopped("a partition", error)));
        }
        let catalog = lock(&self.catalog).failure().cloned().filter(is_failure);
        failures.extend(catalog.map(|error| stopped("the catalogue", error)));
        let offsets = self.groups.offsets.failure().filter(is_failure);
        failures.extend(offsets.map(|error| stopped("the offset log", error)));
        failures.extend(self.env.events.failures());
        failures
    }

    pub(super) fn close(&self) -> Result<()> {
        self.env.opener.check()?;
        let admin = lock(&self.admin);
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        if self.read_only {
            let topics = std::mem::take(&mut *write(&self.topics));
            topics.values().for_each(|topic| end_following(&topic.partitions, &Error::new(ErrorKind::Closed)));
            // Its threads may be about to take the lock.
            drop(admin);
            self.calls.stop();
            self.watching.stop();
            return Ok(());
        }
        self.background.limit_removals();
        let topics = self.topics_in_order();
        let reason = Error::new(ErrorKind::Closed);
        // What is too old by now is sealed by the writers, and dropped below with all else that the limits don't keep.
        self.background.keep_limits();
        let mut failure = None;
        // Other failures are returned first: damage was reported when it was found.
        let mut damaged = None;
        for topic in &topics {
            for partition in &topic.partitions {
                note_failure(partition, &mut failure, &mut damaged);
                partition.stop_intake(reason.clone());
                partition.end_writer(false);
            }
        }
        for topic in &topics {
            self.end_partitions(&topic.partitions, false, &reason);
            for partition in &topic.partitions {
                note_failure(partition, &mut failure, &mut damaged);
            }
        }
        self.groups.call_all();
        if let Some(threads) = lock(&self.threads).take() {
            failure = failure.or(threads.stop().err());
        }
        failure = failure.or(self.env.events.own_panic());
        self.groups.note_all_empty();
        if !bites("commits-not-synced-at-close") {
            failure = failure.or_else(|| self.groups.offsets.sync_all().err().filter(is_failure));
        }
        self.background.keep_limits();
        self.background.do_files();
        self.background.store_marks(true);
        let mut failure = failure.or(damaged);
        if failure.is_none() {
            let mut catalog = lock(&self.catalog);
            match catalog.put_clean(self.groups.offsets.durable_end(), self.env.clock.wall_ms()) {
                Ok(()) => {
                    let end = catalog.end_position();
                    // All that it says stands in the catalogue: with damage, closing fails.
                    self.env.evidence.remove();
                    // A note for `verify`, which does without.
                    let _ = lock_file::note_closed(&*self.env.disk, &self.dir, catalog.path(), end);
                }
                Err(error) => failure = Some(error),
            }
        }
        // Handles that live on must not write into what may be another's from now on.
        lock(&self.catalog).close();
        self.groups.offsets.close();
        write(&self.topics).clear();
        // Memory that is mapped can't be forgotten, should the next one have to.
        self.env.views.release_all();
        *lock(&self.guard) = None;
        // One of them may wait for this lock.
        drop(admin);
        self.calls.stop();
        failure.map_or(Ok(()), Err)
    }
}

impl Core {
    /// In a forked child: leaves what the parent's threads use as it is. Nothing waits for a lock: a thread that the
    /// child doesn't have may hold it.
    fn forget(&self) {
        if let Some(mut threads) = try_lock(&self.threads) {
            std::mem::forget(threads.take());
        }
        std::mem::forget((self.env.clone(), self.catalog.clone(), self.background.clone(), self.groups.clone()));
        std::mem::forget(self.calls.clone());
    }
}

/// Remembers why a partition takes no more: because it is damaged, or because something failed.
fn note_failure(partition: &crate::partition::Partition, failure: &mut Option<Error>, damaged: &mut Option<Error>) {
    if let Some(error) = partition.refused().filter(is_failure) {
        let is_damage = matches!(error.kind(), ErrorKind::Corrupt { .. });
        if is_damage { damaged } else { failure }.get_or_insert(error);
    }
}

/// A partition that must be durable, up to where, and the run of that number.
pub(crate) type Behind = (Arc<crate::partition::Partition>, u64, u32);

/// Done when these are durable: all syncs are started, then awaited.
pub(super) async fn synced_up_to(behind: &[Behind]) -> Result<()> {
    for (partition, offset, _) in behind {
        partition.want_sync(*offset);
    }
    for (partition, offset, run) in behind {
        partition.acknowledged(Acks::Synced, *offset, *run).await?;
    }
    Ok(())
}

impl Drop for Core {
    fn drop(&mut self) {
        if !self.env.opener.is_this() {
            return self.forget();
        }
        if let Err(error) = self.close() {
            self.env.events.emit(crate::events::Event::Background { what: "closing", error });
        }
    }
}
