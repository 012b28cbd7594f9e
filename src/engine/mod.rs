//! The roof: the engine that opens and owns everything, and the handles that users hold.
//!
//! [`Core`] is shared by all handles; when the last one goes, it closes. Writer and background
//! threads hold no [`Core`], so they never keep an engine alive.

mod alter;
mod background;
mod builder;
mod consumer;
mod directory;
mod groups;
mod lock_file;
pub(crate) mod lost_entries;
mod open;
mod partition_handle;
mod producer;
mod receipt;
mod record;
mod topic_dirs;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Acks, TopicConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::TopicId;
use crate::lock::{AtomicBool, AtomicUsize, Mutex, MutexGuard, OnceLock, Ordering, RwLock, lock, read, write};
use crate::partition::{Doubt, Env, WriterHandle};
use crate::teeth::bites;
use crate::topic::{Catalog, StickyPartitioner, check_topic_name, deleted_dir, topic_dir, topics_dir};

pub(crate) use directory::take_lock;
pub(crate) use lock_file::{LOCK_NAME, closed_note, parse_closed};
pub(crate) use open::TOPICS_NAME;

pub use builder::Builder;
pub use consumer::{
    CommitReceipt, CommittedOffset, Consumer, ConsumerBuilder, ConsumerStats, ConsumerStream, Held, OffsetCommit,
    PartitionStats, Polled, RebalanceListener, StartPolicy, Wakeup,
};
pub use groups::{GroupDescription, GroupOffset, GroupState, MemberDescription, OffsetReset, ResetTo};
pub use partition_handle::{Partition, Reading};
pub use producer::Producer;
pub use receipt::{Receipt, RecordMetadata};
pub use record::Record;

use background::{Background, Threads, is_failure};
use groups::Groups;
use open::TopicSpec;
use topic_dirs::{make_topic_dirs, remove_tree};

/// An open data directory. Cheap to clone; dropping the last handle closes it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use thalweg::{Engine, Record, TopicConfig};
///
/// let engine = Engine::open(dir)?;
/// engine.create_topic("orders", TopicConfig::default().partitions(6))?;
/// let producer = engine.producer_for("orders")?;
/// let at = producer.send(Record::new("189.45").key("AAPL"))?.wait()?;
/// let record = engine.partition("orders", at.partition)?.get(at.offset)?;
/// assert_eq!(record.view().value(), Some(&b"189.45"[..]));
/// engine.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Engine {
    pub(crate) core: Arc<Core>,
}

/// What all handles share.
pub(crate) struct Core {
    pub(crate) dir: PathBuf,
    pub(crate) env: Arc<Env>,
    catalog: Arc<Mutex<Catalog>>,
    background: Arc<Background>,
    pub(crate) groups: Arc<Groups>,
    topics: RwLock<HashMap<String, Arc<Topic>>>,
    /// Held while topics are made and deleted.
    admin: Mutex<()>,
    handles: Vec<WriterHandle>,
    next_writer: AtomicUsize,
    threads: Mutex<Option<Threads>>,
    guard: Mutex<Option<Box<dyn Send + Sync>>>,
    pub(crate) read_only: bool,
    closed: AtomicBool,
    /// A reader's catalogue was read on, and its topics haven't followed yet.
    catalog_moved: AtomicBool,
    seed: u64,
    recovery: OnceLock<Recovery>,
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
    next: OnceLock<Arc<Topic>>,
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

/// What opening the directory found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Recovery {
    /// Whether the engine that had it open before was closed; else it died, or another still writes.
    pub clean: bool,
    /// Whether a sync failed it, as far as that is known.
    pub sync_failed: bool,
    /// The partitions where something was cut or is damaged; all others are whole.
    pub partitions: Vec<PartitionRecovery>,
}

impl Recovery {
    /// What is in doubt of the partitions.
    fn doubt(&self) -> Doubt {
        match (self.clean, self.sync_failed) {
            (true, _) => Doubt::Nothing,
            (false, false) => Doubt::Tail,
            (false, true) => Doubt::Memory,
        }
    }
}

/// What opening found in one partition.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PartitionRecovery {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The end offset after recovery (exclusive).
    pub end_offset: u64,
    /// Bytes of an unfinished tail that no longer count.
    pub cut_bytes: u64,
    /// The file whose tail it was.
    pub cut_path: Option<PathBuf>,
    /// Where in that file what counts ends.
    pub cut_position: u64,
    /// Damage at or below what was durable: appends are refused, what is intact stays readable.
    pub damage: Option<Error>,
}

/// A topic, described.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// The life of the topic: another one of the same name has another id.
    pub id: TopicId,
    /// Its settings.
    pub config: TopicConfig,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: i64,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition, described.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number.
    pub partition: u32,
    /// The first offset that is kept (inclusive).
    pub log_start_offset: u64,
    /// Below it everything survives power loss (exclusive).
    pub durable_offset: u64,
    /// Below it everything is in the file (exclusive).
    pub end_offset: u64,
    /// How many segment files there are.
    pub segments: usize,
    /// Bytes in them.
    pub bytes: u64,
    /// Why it takes no records, if it takes none.
    pub failure: Option<Error>,
}

impl Engine {
    /// Opens a data directory with the default settings; an absent or empty one becomes a new log.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Engine> {
        Engine::builder(dir).open()
    }

    /// Settings for opening a data directory.
    pub fn builder(dir: impl AsRef<Path>) -> Builder {
        Builder::new(dir.as_ref())
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.core.dir
    }

    /// What opening found: torn tails that were cut, damage.
    pub fn recovery(&self) -> Recovery {
        let none = || Recovery { clean: true, sync_failed: false, partitions: Vec::new() };
        self.core.recovery.get().cloned().unwrap_or_else(none)
    }

    // ---- topics

    /// Makes a topic. It is durable when this returns.
    ///
    /// # Errors
    /// `InvalidTopicName`, `InvalidConfig`, `TopicExists`, `NoRoom`, `ReadOnly`, `Closed`.
    pub fn create_topic(&self, name: &str, config: TopicConfig) -> Result<()> {
        let core = &self.core;
        check_topic_name(name)?;
        config.check().map_err(|error| error.at_topic(name))?;
        let _admin = core.writable()?;
        if let Some(topic) = read(&core.topics).values().find(|topic| topic.name.eq_ignore_ascii_case(name)) {
            return Err(Error::new(ErrorKind::TopicExists { topic: topic.name.to_string() }));
        }
        let disk = &*core.env.disk;
        let now_ms = core.env.clock.wall_ms();
        core.clear_name(name)?;
        let made = make_topic_dirs(disk, &core.dir, name, 0..config.partitions)
            .and_then(|()| lock(&core.catalog).create_topic(name, &config, now_ms));
        let id = match made {
            Ok(id) => id,
            Err(error) => {
                // At once: later, it would take the directories of the next try.
                core.clear_unfinished(&topic_dir(&core.dir, name));
                return Err(error.at_topic(name));
            }
        };
        let epoch = lock(&core.catalog).state().epoch();
        let mut recovery = Recovery { clean: true, sync_failed: false, partitions: Vec::new() };
        let spec = TopicSpec { id, name, config: &config, created_ms: now_ms, expansions: Vec::new() };
        let opened = core.open_topic(&spec, epoch, &|_| None, &mut recovery);
        let topic = opened.inspect_err(|_| {
            // Not made then: as if it had been deleted, its directory goes when the name is taken again.
            let _ = lock(&core.catalog).delete_topic(name, now_ms);
        })?;
        write(&core.topics).insert(name.to_owned(), topic);
        core.tell_groups();
        Ok(())
    }

    /// Deletes a topic and its records. Views that are held stay readable.
    ///
    /// # Errors
    /// `UnknownTopic`, `NoRoom`, `ReadOnly`, `Closed`.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let core = &self.core;
        let _admin = core.writable()?;
        let topic = core.topic(name)?;
        if bites("files-removed-before-the-catalogue-says-so") {
            core.env.chores.add(remove_tree(&*core.env.disk, &topic_dir(&core.dir, name)));
            core.background.do_files();
        }
        let id = lock(&core.catalog).delete_topic(name, core.env.clock.wall_ms())?;
        write(&core.topics).remove(name);
        core.groups.forget_topic(id);
        core.tell_groups();
        core.end_partitions(&topic.partitions, true, &Error::new(ErrorKind::UnknownTopic { topic: name.to_owned() }));
        let (from, to) = (topic_dir(&core.dir, name), deleted_dir(&core.dir, id));
        let disk = &*core.env.disk;
        disk.rename(&from, &to)
            .and_then(|()| disk.sync_dir(&topics_dir(&core.dir)))
            .map_err(|error| Error::io(error).at_path(&from))?;
        core.env.chores.add(remove_tree(disk, &to));
        Ok(())
    }

    /// The names of all topics, in order.
    ///
    /// # Errors
    /// In a read-only engine, those of reading the catalogue again.
    pub fn topics(&self) -> Result<Vec<String>> {
        self.core.refresh()?;
        let mut names: Vec<_> = read(&self.core.topics).keys().cloned().collect();
        names.sort_unstable();
        Ok(names)
    }

    /// A topic's settings and how far each of its partitions is.
    ///
    /// # Errors
    /// `UnknownTopic`.
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        self.core.refresh()?;
        let topic = self.core.topic(name)?;
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            partition.refresh()?;
            // Read in this order, so that durable <= end holds though both move.
            let durable_offset = partition.progress.durable();
            partitions.push(PartitionDescription {
                partition: partition.number,
                log_start_offset: partition.progress.log_start(),
                durable_offset,
                end_offset: partition.progress.written(),
                segments: partition.segment_count(),
                bytes: partition.stored_bytes(),
                failure: partition.damage().or_else(|| partition.stopped()),
            });
        }
        Ok(TopicDescription {
            name: topic.name.to_string(),
            id: topic.id,
            config: (*topic.config).clone(),
            created_ms: topic.created_ms,
            partitions,
        })
    }

    // ---- handles

    /// A producer that sends to any topic; each record names its own.
    pub fn producer(&self) -> Producer {
        Producer::new(self.clone(), None)
    }

    /// A producer for one topic, looked up once.
    ///
    /// # Errors
    /// `UnknownTopic`.
    pub fn producer_for(&self, topic: &str) -> Result<Producer> {
        Ok(Producer::new(self.clone(), Some(self.core.topic(topic)?)))
    }

    /// One partition by itself, for databases and replicated logs.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`.
    pub fn partition(&self, topic: &str, partition: u32) -> Result<Partition> {
        self.core.refresh()?;
        let topic = self.core.topic(topic)?;
        let inner = topic.partition(partition)?.clone();
        Ok(Partition::new(self.clone(), topic, inner))
    }

    /// A consumer of these partitions, from the log start of each. It belongs to no group.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`; `InvalidArgument` for a partition named twice.
    pub fn assign<T: AsRef<str>>(&self, partitions: impl IntoIterator<Item = (T, u32)>) -> Result<Consumer> {
        self.core.refresh()?;
        let mut assigned = Vec::new();
        for (topic, partition) in partitions {
            assigned.push(self.core.topic(topic.as_ref())?.partition(partition)?.clone());
        }
        Consumer::new(self.clone(), assigned)
    }

    /// A consumer that belongs to a group: shares topics with the group's other members, and goes on
    /// from what the group has committed.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = thalweg::Engine::open(dir.path())?;
    /// use std::time::Duration;
    /// use thalweg::{Record, TopicConfig};
    /// engine.create_topic("orders", TopicConfig::default().partitions(6))?;
    /// engine.producer_for("orders")?.send(Record::new("189.45").key("AAPL"))?.wait()?;
    ///
    /// let mut consumer = engine.consumer("billing").subscribe(["orders"]).start()?;
    /// for batch in consumer.poll(Duration::from_secs(1))? {
    ///     for record in &batch {
    ///         println!("{}: {:?}", record.offset(), record.value());
    ///     }
    /// }
    /// consumer.commit()?;                                // durable: the group goes on from here
    /// assert_eq!(engine.describe_group("billing")?.offsets.iter().map(|row| row.lag()).sum::<u64>(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn consumer(&self, group: &str) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), group)
    }

    // ---- the whole engine

    /// Waits until everything sent before is written.
    ///
    /// # Errors
    /// The first failure, if anything sent since the last `flush` or `sync` is not in the log: its
    /// receipt says so too. Each failure is told once; a partition that stopped says so every time.
    pub fn flush(&self) -> Result<()> {
        self.core.settle(Acks::Written)
    }

    /// Waits until everything sent before is durable.
    ///
    /// # Errors
    /// As [`flush`](Engine::flush).
    pub fn sync(&self) -> Result<()> {
        self.core.settle(Acks::Synced)
    }

    /// Writes and syncs everything, and gives the directory up. Handles that remain answer `Closed`.
    ///
    /// # Errors
    /// The first failure of a partition or the catalogue: what was acknowledged before holds all the
    /// same, and the next open recovers.
    pub fn close(&self) -> Result<()> {
        self.core.close()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("dir", &self.core.dir).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        if let Some(topic) = read(&self.topics).get(name) {
            return Ok(topic.clone());
        }
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed));
        }
        Err(Error::new(ErrorKind::UnknownTopic { topic: name.to_owned() }))
    }

    /// # Errors
    /// [`ErrorKind::Closed`] once the engine is closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed).at_path(&self.dir));
        }
        Ok(())
    }

    /// Topics came, went or grew: the groups give out what there is now.
    fn tell_groups(&self) {
        let topics: Vec<_> = read(&self.topics).values().cloned().collect();
        self.groups.set_topics(topics.iter());
    }

    /// Whether some process has the directory open for writing, as far as can be found out.
    fn may_have_writer(&self) -> bool {
        !self.read_only || !matches!(self.env.disk.lock_holder(&self.dir.join(LOCK_NAME)), Ok(None))
    }

    /// The lock under which topics are made and deleted, if that is possible here.
    fn writable(&self) -> Result<MutexGuard<'_, ()>> {
        if self.read_only {
            return Err(Error::new(ErrorKind::ReadOnly).at_path(&self.dir));
        }
        let admin = lock(&self.admin);
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed).at_path(&self.dir));
        }
        Ok(admin)
    }

    /// In a read-only engine: takes in topics that were made or deleted since.
    fn refresh(&self) -> Result<()> {
        if !self.read_only || self.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let _admin = lock(&self.admin);
        let (listed, epoch) = {
            let mut catalog = lock(&self.catalog);
            let moved = self.catalog_moved.swap(false, Ordering::SeqCst);
            if !catalog.refresh()? && !moved {
                return Ok(());
            }
            (catalog.state().topics().cloned().collect::<Vec<_>>(), catalog.state().epoch())
        };
        let known = read(&self.topics).clone();
        let mut topics = HashMap::new();
        let mut recovery = Recovery { clean: true, sync_failed: false, partitions: Vec::new() };
        for topic in &listed {
            let opened = match known.get(&topic.name) {
                Some(known) if known.id == topic.id && known.config.partitions == topic.config.partitions => {
                    for partition in &known.partitions {
                        let start = topic.mark(partition.number).map_or(0, |mark| mark.log_start_offset);
                        partition.progress.raise_log_start(start);
                        partition.forget_segments_below(start);
                    }
                    if *known.config == topic.config {
                        known.clone()
                    } else {
                        let config = Arc::new(topic.config.clone());
                        known.partitions.iter().for_each(|partition| partition.set_config(config.clone()));
                        self.topic_of(&TopicSpec::of(topic), known.name.clone(), config, known.partitions.clone())
                    }
                }
                _ => {
                    let marks = |partition| topic.mark(partition).copied();
                    self.open_topic(&TopicSpec::of(topic), epoch, &marks, &mut recovery)?
                }
            };
            topics.insert(topic.name.clone(), opened);
        }
        *write(&self.topics) = topics;
        self.tell_groups();
        Ok(())
    }

    /// Makes partitions durable up to these offsets (exclusive): all syncs are started, then awaited. The
    /// runs are those of the moment when the offsets were looked up.
    fn sync_up_to(&self, behind: &[(Arc<crate::partition::Partition>, u64, u32)]) -> Result<()> {
        for (partition, offset, _) in behind {
            partition.want_sync(*offset);
        }
        for (partition, offset, run) in behind {
            let done = partition.acknowledged(Acks::Synced, *offset, *run);
            self.env.drive.wait(done, None).unwrap_or(Ok(()))?;
        }
        Ok(())
    }

    /// Waits until all partitions have reached a level, up to what was sent before.
    fn settle(&self, level: Acks) -> Result<()> {
        let partitions: Vec<_> =
            read(&self.topics).values().flat_map(|topic| topic.partitions.iter().cloned()).collect();
        let ends: Vec<_> =
            partitions.iter().map(|partition| (partition.next_offset(), partition.progress.run())).collect();
        if level == Acks::Synced {
            for (partition, (end, _)) in partitions.iter().zip(&ends) {
                partition.want_sync(*end);
            }
        }
        let mut failure = None;
        for (partition, (end, run)) in partitions.iter().zip(ends) {
            if partition.damage().is_none() {
                let done = partition.acknowledged(level, end, run);
                let outcome = self.env.drive.wait(done, None).unwrap_or(Ok(())).err();
                failure = failure.or(outcome).or(partition.take_failure());
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Ends partitions: takes no more records, writes what they have (or drops it), waits.
    fn end_partitions(&self, partitions: &[Arc<crate::partition::Partition>], discard: bool, reason: &Error) {
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

    fn close(&self) -> Result<()> {
        let admin = lock(&self.admin);
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        if self.read_only {
            write(&self.topics).clear();
            return Ok(());
        }
        let topics: Vec<_> = read(&self.topics).values().cloned().collect();
        let reason = Error::new(ErrorKind::Closed);
        let mut failure = None;
        for topic in &topics {
            for partition in &topic.partitions {
                failure = failure.or_else(|| partition.refused().filter(is_failure));
                partition.stop_intake(reason.clone());
                partition.end_writer(false);
            }
        }
        for topic in &topics {
            self.end_partitions(&topic.partitions, false, &reason);
            for partition in &topic.partitions {
                failure = failure.or_else(|| partition.refused().filter(is_failure));
            }
        }
        self.groups.call_all();
        if let Some(threads) = lock(&self.threads).take() {
            threads.stop();
        }
        self.groups.note_all_empty();
        if !bites("commits-not-synced-at-close") {
            failure = failure.or_else(|| self.groups.offsets.sync_all().err().filter(is_failure));
        }
        self.background.do_files();
        self.background.store_marks(true);
        if failure.is_none() {
            let mut catalog = lock(&self.catalog);
            match catalog.put_clean(self.groups.offsets.durable_end(), self.env.clock.wall_ms()) {
                Ok(()) => {
                    let end = catalog.end_position();
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
        drop(admin);
        failure.map_or(Ok(()), Err)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            self.env.events.emit(crate::events::Event::Background { what: "closing", error });
        }
    }
}
