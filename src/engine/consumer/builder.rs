//! How a consumer of a group is set up.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{Consumer, InGroup, OnDamage, RebalanceListener};
use crate::config::Acks;
use crate::engine::groups::check_name;
use crate::engine::{Engine, ResetTo};
use crate::error::{Error, ErrorKind, Result};
use crate::group::Subscription;
use crate::group::assignor::{Assignor, Sticky};

/// Where a group begins in a partition in which it has no committed offset, or one whose record is
/// no longer kept.
///
/// The place is fixed and durable when the group's first [`start`](ConsumerBuilder::start) returns: whoever reads
/// the partition next begins there until the group commits, whatever its own policy. A partition that is made
/// after that, by adding partitions or by a new topic that a pattern matches, is read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StartPolicy {
    /// At the log start.
    #[default]
    Earliest,
    /// At the end: only what comes from now on.
    Latest,
    /// At the first record with at least this timestamp, in milliseconds since 1970; else at the end.
    Timestamp(i64),
    /// Not at all: [`ErrorKind::NoCommittedOffset`].
    Error,
}

impl StartPolicy {
    /// The same as a reset, unless it is to be an error.
    pub(super) fn reset(self) -> Option<ResetTo> {
        match self {
            StartPolicy::Earliest => Some(ResetTo::Earliest),
            StartPolicy::Latest => Some(ResetTo::Latest),
            StartPolicy::Timestamp(timestamp) => Some(ResetTo::Timestamp(timestamp)),
            StartPolicy::Error => None,
        }
    }
}

/// Settings of a consumer, before it starts. See [`Engine::consumer`].
#[must_use = "a consumer reads nothing before it is started"]
pub struct ConsumerBuilder {
    engine: Engine,
    group: String,
    wants: Wants,
    client_id: Option<String>,
    instance_id: Option<String>,
    assignor: Arc<dyn Assignor>,
    session_timeout: Option<Duration>,
    max_poll_interval: Duration,
    listener: Option<Box<dyn RebalanceListener>>,
    on_damage: OnDamage,
    pub(super) settings: Settings,
}

/// What a running consumer looks up.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) start: StartPolicy,
    pub(super) commit_acks: Acks,
    pub(super) auto_commit: Option<Duration>,
    pub(super) max_poll_records: u64,
    /// `None`: as the topic says.
    pub(super) read_durable: Option<bool>,
    pub(super) skip_fence: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            start: StartPolicy::Earliest,
            commit_acks: Acks::Synced,
            auto_commit: None,
            max_poll_records: u64::MAX,
            read_durable: None,
            skip_fence: false,
        }
    }
}

enum Wants {
    Nothing,
    Topics(Vec<String>),
    Pattern(String),
    Partitions(Vec<(String, u32)>),
}

impl ConsumerBuilder {
    pub(in crate::engine) fn new(engine: Engine, group: &str) -> ConsumerBuilder {
        ConsumerBuilder {
            engine,
            group: group.to_owned(),
            wants: Wants::Nothing,
            client_id: None,
            instance_id: None,
            assignor: Arc::new(Sticky),
            session_timeout: None,
            max_poll_interval: Duration::from_secs(300),
            listener: None,
            on_damage: OnDamage::Fail,
            settings: Settings::default(),
        }
    }

    /// Shares these topics with the group's other members.
    pub fn subscribe<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> ConsumerBuilder {
        self.wants = Wants::Topics(topics.into_iter().map(Into::into).collect());
        self
    }

    /// Shares every topic whose whole name matches this regular expression, those made later too.
    pub fn subscribe_pattern(mut self, pattern: impl Into<String>) -> ConsumerBuilder {
        self.wants = Wants::Pattern(pattern.into());
        self
    }

    /// Reads just these partitions, with the group's committed offsets but without being a member.
    pub fn assign<T: Into<String>>(mut self, partitions: impl IntoIterator<Item = (T, u32)>) -> ConsumerBuilder {
        self.wants = Wants::Partitions(partitions.into_iter().map(|(topic, number)| (topic.into(), number)).collect());
        self
    }

    /// The beginning of the member's id, for people. Default: `consumer`.
    pub fn client_id(mut self, id: impl Into<String>) -> ConsumerBuilder {
        self.client_id = Some(id.into());
        self
    }

    /// A name of its own by which this consumer keeps its partitions while it is away for less than
    /// the session time-out, or `max_poll_interval` without one (static membership).
    pub fn instance_id(mut self, id: impl Into<String>) -> ConsumerBuilder {
        self.instance_id = Some(id.into());
        self
    }

    /// What gives out the partitions; all members of a group ask for the same. Default:
    /// [`Sticky`](crate::assignor::Sticky).
    pub fn assignor(mut self, assignor: impl Assignor + 'static) -> ConsumerBuilder {
        self.assignor = Arc::new(assignor);
        self
    }

    /// What to do where a log is damaged. Default: [`OnDamage::Fail`].
    pub fn on_damage(mut self, on_damage: OnDamage) -> ConsumerBuilder {
        self.on_damage = on_damage;
        self
    }

    /// Where to begin without a committed offset. Default: [`StartPolicy::Earliest`].
    pub fn start_from(mut self, start: StartPolicy) -> ConsumerBuilder {
        self.settings.start = start;
        self
    }

    /// After this time without any [sign of life](Consumer#signs-of-life) the consumer is taken for dead, and
    /// its partitions go to others. At least 1 ms. Default: none. A consumer that dies drops its handle, and a
    /// stuck one meets `max_poll_interval`.
    pub fn session_timeout(mut self, timeout: Duration) -> ConsumerBuilder {
        self.session_timeout = Some(timeout);
        self
    }

    /// After this time without a poll the consumer is taken for stuck, and its partitions go to others. A
    /// longer job calls [`keep_alive`](Consumer::keep_alive). At least 1 ms. Default: 5 min.
    pub fn max_poll_interval(mut self, interval: Duration) -> ConsumerBuilder {
        self.max_poll_interval = interval;
        self
    }

    /// The most records that a poll returns, 1 or more. Default: as many as there are in about 256 KiB.
    pub fn max_poll_records(mut self, records: u64) -> ConsumerBuilder {
        self.settings.max_poll_records = records;
        self
    }

    /// How safe a commit is when it returns. Default: [`Acks::Synced`].
    pub fn commit_acks(mut self, acks: Acks) -> ConsumerBuilder {
        self.settings.commit_acks = acks;
        self
    }

    /// Commits by itself, at most once in `every`, what the poll before returned: it counts as
    /// processed when the next poll begins. Default: never.
    pub fn auto_commit(mut self, every: Duration) -> ConsumerBuilder {
        self.settings.auto_commit = Some(every);
        self
    }

    /// Whether to read only what survives power loss. Default: as the topic says.
    pub fn read_durable(mut self, durable: bool) -> ConsumerBuilder {
        self.settings.read_durable = Some(durable);
        self
    }

    /// Reads on at once when a topic gets more partitions, without regard to the order of records
    /// with equal keys across that. Default: false.
    pub fn skip_fence(mut self, skip: bool) -> ConsumerBuilder {
        self.settings.skip_fence = skip;
        self
    }

    /// Told when partitions come and go.
    pub fn listener(mut self, listener: impl RebalanceListener + 'static) -> ConsumerBuilder {
        self.listener = Some(Box::new(listener));
        self
    }

    /// The twin of [`start`](ConsumerBuilder::start) for async code.
    ///
    /// # Errors
    /// As [`start`](ConsumerBuilder::start).
    pub fn start_async(self) -> impl Future<Output = Result<Consumer>> + Send + Unpin + use<> {
        let calls = self.engine.core.calls.clone();
        calls.make(move || self.start())
    }

    /// Starts the consumer; as a member of its group it gets its partitions in its first poll. Blocks until it is durable
    /// where the group begins in partitions that are new to it; in async code:
    /// [`start_async`](ConsumerBuilder::start_async).
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`; `InvalidArgument` for a setting that makes no sense (named
    /// in the error), a pattern that is none, or another assignor than the group's; `ReadOnly`; `NoRoom` or
    /// `Failed` of the offset log, where the place of a group that is new couldn't be stored. With
    /// partitions assigned by hand, `Corrupt` if the offset log is damaged where their offsets may be.
    pub fn start(self) -> Result<Consumer> {
        let core = &self.engine.core;
        self.check()?;
        if core.read_only {
            return Err(Error::new(ErrorKind::ReadOnly).at_path(&core.dir));
        }
        core.check_open()?;
        let group = core.groups.group(&self.group)?;
        let mut in_group = InGroup::new(group, self.settings, self.listener);
        let subscription = match self.wants {
            Wants::Nothing => return Err(Error::invalid("the consumer has nothing to read: subscribe or assign")),
            Wants::Partitions(partitions) => {
                let mut consumer = Consumer::start_assigned(self.engine, in_group, partitions)?;
                consumer.on_damage(self.on_damage);
                return Ok(consumer);
            }
            Wants::Topics(topics) => {
                topics.iter().try_for_each(|topic| core.topic(topic).map(drop))?;
                Subscription::Topics(topics)
            }
            Wants::Pattern(pattern) => Subscription::pattern(&pattern)?,
        };
        in_group.membership = Some(crate::group::Join {
            client_id: self.client_id.unwrap_or_else(|| "consumer".to_owned()),
            instance_id: self.instance_id,
            subscription,
            assignor_name: self.assignor.name().to_owned(),
            assignor: self.assignor,
            session_timeout: self.session_timeout,
            max_poll_interval: self.max_poll_interval,
        });
        let mut consumer = Consumer::start_member(self.engine, in_group)?;
        consumer.on_damage(self.on_damage);
        Ok(consumer)
    }

    fn check(&self) -> Result<()> {
        check_name("a group's name", &self.group)?;
        self.client_id.as_deref().map_or(Ok(()), |id| check_name("a client id", id))?;
        self.instance_id.as_deref().map_or(Ok(()), |id| check_name("an instance id", id))?;
        let shortest = Duration::from_millis(1);
        if self.session_timeout.is_some_and(|timeout| timeout < shortest) || self.max_poll_interval < shortest {
            return Err(Error::invalid("session_timeout and max_poll_interval are 1 ms or more"));
        }
        if self.settings.max_poll_records == 0 {
            return Err(Error::invalid("max_poll_records is 1 or more"));
        }
        Ok(())
    }
}

impl std::fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("group", &self.group)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
