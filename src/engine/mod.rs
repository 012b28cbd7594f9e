//! The roof: the engine that opens and owns everything, and the handles that users hold.
//!
//! [`Core`] is shared by all handles; when the last one goes, it closes. Writer and background
//! threads hold no [`Core`], so they never keep an engine alive.

mod alter;
mod background;
mod builder;
mod calls;
mod consumer;
mod core;
mod description;
mod directory;
mod following;
mod groups;
mod last_handle;
mod lock_file;
pub(crate) mod lost_entries;
mod open;
mod options;
mod partition_handle;
mod producer;
mod receipt;
mod record;
mod tasks;
mod topic_dirs;
mod topic_removal;
mod watching;

use std::path::Path;
use std::sync::Arc;

use crate::config::{Acks, TopicConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Failure;
use crate::lock::{lock, read, write};
use crate::partition::is_at_work;
use crate::teeth::bites;
use crate::topic::{check_topic_name, topic_dir};

pub(crate) use self::core::{Core, Topic};
pub(crate) use directory::TOPICS_NAME;
pub(crate) use directory::take_lock;
pub(crate) use lock_file::{LOCK_NAME, Left, holder_in, left, parse_closed};
pub(crate) use topic_removal::strangers_in;

pub use builder::Builder;
pub use consumer::{
    CommitReceipt, CommittedOffset, Consumer, ConsumerBuilder, ConsumerStats, ConsumerStream, Held, OffsetCommit,
    OnDamage, PartitionStats, Polled, RebalanceListener, StartPolicy, Wakeup,
};
pub use description::{PartitionDescription, PartitionRecovery, Recovery, TopicDescription};
pub use groups::{GroupDescription, GroupOffset, GroupState, MemberDescription, OffsetReset, ResetTo};
pub use partition_handle::{Partition, Reading};
pub use producer::Producer;
pub use receipt::{Receipt, RecordMetadata};
pub use record::Record;

use last_handle::LastHandle;
use open::{Opening, TopicSpec};
use topic_dirs::make_topic_dirs;

/// An open data directory. Cheap to clone; dropping the last handle closes it, which blocks until everything is synced
/// (in async code: [`close_async`](Engine::close_async) first). In a waker or listener that a writer calls it doesn't
/// block: another thread closes the engine then.
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
    /// Behind the other, which is dropped first.
    _last: Arc<LastHandle>,
}

impl Engine {
    /// Opens a data directory with the default settings; an absent or empty one becomes a new log.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Engine> {
        Engine::builder(dir).open()
    }

    fn of(core: Arc<Core>) -> Engine {
        let last = LastHandle::new(&core);
        Engine { core, _last: last }
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
        self.core.recovery.get().cloned().unwrap_or_else(Recovery::none)
    }

    // ---- topics

    /// Makes a topic. Blocks until it is durable; in async code: [`create_topic_async`](Engine::create_topic_async).
    ///
    /// # Errors
    /// `InvalidTopicName`, `InvalidConfig`, `TopicExists`, `NoRoom`, `ReadOnly`, `Closed`.
    pub fn create_topic(&self, name: &str, config: TopicConfig) -> Result<()> {
        let core = &self.core;
        check_topic_name(name)?;
        config.check().map_err(|error| error.at_topic(name))?;
        let _admin = core.writable()?;
        if let Some(topic) = lock(&core.catalog).state().topic_like(name) {
            return Err(Error::new(ErrorKind::TopicExists { topic: topic.name.clone() }));
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
        let mut opening = Opening::none();
        let spec = TopicSpec { id, name, config: &config, created_ms: now_ms, expansions: Vec::new() };
        let opened = core.open_topic(&spec, epoch, &|_| None, &mut opening);
        let topic = opened.inspect_err(|_| {
            // Not made then: as if it had been deleted, its directory goes when the name is taken again.
            let _ = lock(&core.catalog).delete_topic(name, now_ms);
        })?;
        write(&core.topics).insert(name.to_owned(), topic.clone());
        core.tell_groups_of(name, Some(&topic));
        Ok(())
    }

    /// Makes a topic unless it exists; whether it was made. Blocks as [`create_topic`](Engine::create_topic); in async
    /// code: [`ensure_topic_async`](Engine::ensure_topic_async). One that exists stays as it is, also if its settings
    /// are others: [`alter_topic`](Engine::alter_topic) changes them.
    ///
    /// # Errors
    /// As [`create_topic`](Engine::create_topic); `TopicExists` only for a name that differs in ASCII case.
    pub fn ensure_topic(&self, name: &str, config: TopicConfig) -> Result<bool> {
        check_topic_name(name)?;
        config.check().map_err(|error| error.at_topic(name))?;
        self.core.refresh()?;
        if read(&self.core.topics).contains_key(name) {
            return Ok(false);
        }
        match self.create_topic(name, config) {
            // Another thread was faster.
            Err(error) if matches!(error.kind(), ErrorKind::TopicExists { topic } if topic == name) => Ok(false),
            made => made.map(|()| true),
        }
    }

    /// Deletes a topic and its records. Blocks until that is durable; in async code:
    /// [`delete_topic_async`](Engine::delete_topic_async). Its files are removed behind the caller's back: only those
    /// that are the topic's own; of a large topic, closing leaves most to the next opening. What else lies in its
    /// directory stays, as does what cannot be removed;
    /// an event tells ([`Event::Ignored`](crate::Event::Ignored), [`Event::Background`](crate::Event::Background)).
    /// Views that are held stay readable, unless another program shortens their files.
    ///
    /// # Errors
    /// `UnknownTopic`, `NoRoom`, `ReadOnly`, `Closed`.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let core = &self.core;
        let _admin = core.writable()?;
        let topic = core.topic(name)?;
        if bites("files-removed-before-the-catalogue-says-so") {
            let log = topic.partitions[0].log;
            core.env.chores.add_removal(topic_dir(&core.dir, name), log);
            core.background.do_files();
        }
        let id = lock(&core.catalog).delete_topic(name, core.env.clock.wall_ms())?;
        write(&core.topics).remove(name);
        core.groups.forget_topic(id);
        core.tell_groups_of(name, None);
        core.end_partitions(&topic.partitions, true, &Error::new(ErrorKind::UnknownTopic { topic: name.to_owned() }));
        topic.partitions.iter().for_each(|partition| partition.set_gone());
        // It is deleted, whatever becomes of its files: what is left of them was told, and opening tries again.
        let _ = core.remove_deleted(name, id);
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

    /// Blocks until everything sent before is written. In async code: [`flush_async`](Engine::flush_async).
    ///
    /// # Errors
    /// The first failure, if anything sent since the last `flush` or `sync` is not in the log: its
    /// receipt says so too. Each failure is told once; a partition that stopped says so every time.
    pub fn flush(&self) -> Result<()> {
        self.core.settle(Acks::Written)
    }

    /// Blocks until everything sent before is durable. In async code: [`sync_async`](Engine::sync_async).
    ///
    /// # Errors
    /// As [`flush`](Engine::flush).
    pub fn sync(&self) -> Result<()> {
        self.core.settle(Acks::Synced)
    }

    /// What has failed since the directory was opened: partitions, the catalogue and the offset log that have
    /// stopped, and work in the background that was tried again or done without. Empty: nothing.
    ///
    /// Events tell the same as it happens; this is for a caller that has no listener, or whose listener failed.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = thalweg::Engine::open(dir.path())?;
    /// for failure in engine.failures() {
    ///     eprintln!("{} failed {} times: {}", failure.what, failure.count, failure.error);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn failures(&self) -> Vec<Failure> {
        self.core.failures()
    }

    /// Writes and syncs everything, and gives the directory up. Blocks until that is done; in async code:
    /// [`close_async`](Engine::close_async). Handles that remain answer `Closed`.
    ///
    /// # Errors
    /// The first failure of a partition or the catalogue: what was acknowledged before holds all the
    /// same, and the next open recovers. `Corrupt` if nothing failed, and a partition is known to be damaged.
    /// `Panicked` if code of the engine itself panicked on one of its threads.
    /// `InvalidArgument` from a waker or listener that a writer calls, whose end this would wait for: another thread
    /// closes the engine then.
    pub fn close(&self) -> Result<()> {
        if is_at_work() {
            last_handle::close_elsewhere(self.core.clone());
            return Err(Error::invalid(
                "a waker or listener that a writer calls can't wait for the engine's end; another thread closes it",
            ));
        }
        self.core.close()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("dir", &self.core.dir).finish_non_exhaustive()
    }
}
