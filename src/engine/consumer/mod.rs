//! Reading several partitions: those assigned by hand, or a member's share of its group's topics.

mod assigned;
mod builder;
mod commit;
mod membership;
mod polled;
mod start;
mod stats;
mod stream;
#[cfg(all(test, feature = "sim"))]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Engine;
use super::watching::FOLLOW_EVERY;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Sign;
use crate::lock::{AtomicBool, Ordering};
use crate::partition::{Drive, FnFuture, Partition, ReadySet, TaskPlace};

use assigned::AssignedSet;
use membership::InGroup;

pub use builder::{ConsumerBuilder, StartPolicy};
pub use commit::{CommitReceipt, CommittedOffset, OffsetCommit};
pub use membership::RebalanceListener;
pub use polled::{Held, Polled};
pub use stats::{ConsumerStats, PartitionStats};
pub use stream::ConsumerStream;

/// Bytes of batches after which a poll returns: few enough to be in the processor's cache still when the caller comes
/// to the last of them.
const POLL_BYTES: u64 = 256 << 10;

/// Reads partitions in turn, each in order: those that [`Engine::assign`] names, or a member's share
/// of its group's topics. See [`Engine::consumer`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let engine = thalweg::Engine::open(dir.path())?;
/// use std::time::Duration;
/// use thalweg::{Record, TopicConfig};
/// engine.create_topic("ticks", TopicConfig::default())?;
/// engine.partition("ticks", 0)?.append(&Record::new("189.45"))?.wait()?;
///
/// let mut consumer = engine.assign([("ticks", 0)])?;
/// for batch in consumer.poll(Duration::from_secs(1))? {
///     for record in &batch {
///         println!("{}: {:?}", record.offset(), record.value());
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Signs of life
/// A member of a group that shows none for too long is removed, and its partitions go to others:
///
/// | call | counts against [`session_timeout`](ConsumerBuilder::session_timeout), if one is set | counts against [`max_poll_interval`](ConsumerBuilder::max_poll_interval) |
/// |---|---|---|
/// | [`poll`](Consumer::poll), for as long as it waits; [`keep_alive`](Consumer::keep_alive) | yes | yes |
/// | the future of [`next_batches`](Consumer::next_batches), and a [`stream`](Consumer::stream): each time the task polls it, and when it is dropped | yes | yes |
/// | `commit` and its kin, `committed`, `position`, `seek` and its kin, `pause`, `resume`, `lag` | yes | no |
/// | all others | no | no |
///
/// A future that waits is woken after half of the time, so a task that runs stays a member. If nobody polls
/// the future then, the member is removed like any other that is stuck.
pub struct Consumer {
    engine: Engine,
    set: AssignedSet,
    group: Option<InGroup>,
    woken: Arc<AtomicBool>,
    /// Whether something may be held back (G7).
    limited: bool,
    /// Whether a task polls it: nothing may block then.
    polled_by_task: bool,
    /// An automatic commit that a task waits for before it reads on.
    committing: Option<<CommitReceipt as IntoFuture>::IntoFuture>,
    on_damage: OnDamage,
    /// What a partition failed with, at its position, while others had records: the next poll returns it.
    owed: Option<(Arc<Partition>, u64, Error)>,
}

/// What a consumer does where a log is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnDamage {
    /// The poll fails with [`ErrorKind::Corrupt`]. The error names the partition, the offset of the first record that
    /// can't be read, and where to go on from ([`Error::next_intact`]): seek there to leave out what is between.
    #[default]
    Fail,
    /// Goes on at the next record that is intact, and reports [`Event::DamageSkipped`](crate::Event::DamageSkipped).
    Skip,
}

/// Ends a consumer's poll from another thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Wakeup {
    ready: Arc<ReadySet>,
    woken: Arc<AtomicBool>,
}

impl Wakeup {
    /// Has the poll that waits now, or else the next one, return at once with what there is.
    pub fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        crate::panics::wake_each(self.ready.call());
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("group", &self.group.as_ref().map(|in_group| &in_group.group.name))
            .field("assignment", &self.assignment().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Consumer {
    fn empty(engine: Engine, group: Option<InGroup>) -> Consumer {
        Consumer {
            engine,
            set: AssignedSet::default(),
            group,
            woken: Arc::default(),
            limited: false,
            polled_by_task: false,
            committing: None,
            on_damage: OnDamage::Fail,
            owed: None,
        }
    }

    /// Without a group, from each log start.
    pub(super) fn new(engine: Engine, partitions: Vec<Arc<Partition>>) -> Result<Consumer> {
        let mut consumer = Consumer::empty(engine, None);
        let core = consumer.engine.core.clone();
        let followed = if core.read_only { partitions.clone() } else { Vec::new() };
        for partition in partitions {
            let (start, durable_only) = (partition.progress.log_start(), partition.config().read_durable);
            consumer.set.add(partition, start, durable_only)?;
        }
        core.follow(&followed)?;
        Ok(consumer)
    }

    fn in_group(&self) -> Result<&InGroup> {
        self.engine.core.env.opener.check()?;
        self.group.as_ref().ok_or_else(|| {
            Error::invalid("this consumer belongs to no group, and so commits nothing; use Engine::consumer")
        })
    }

    /// What it does where a log is damaged. Default: [`OnDamage::Fail`].
    pub fn on_damage(&mut self, on_damage: OnDamage) {
        self.on_damage = on_damage;
    }

    /// The partitions it reads, by topic and number. A member has none before its first poll.
    pub fn assignment(&self) -> impl Iterator<Item = (&str, u32)> {
        self.set.iter().map(|assigned| (&*assigned.partition.topic, assigned.partition.number))
    }

    /// The group's name, if it belongs to one.
    pub fn group(&self) -> Option<&str> {
        self.group.as_ref().map(|in_group| &*in_group.group.name)
    }

    /// This member's id in its group, while it is a member.
    pub fn member_id(&self) -> Option<&str> {
        self.group.as_ref()?.member_id()
    }

    /// The generation of the assignment that it follows; 0 before the first poll.
    pub fn generation(&self) -> u32 {
        self.group.as_ref().map_or(0, |in_group| in_group.generation)
    }

    /// Records that came since the last poll; waits at most `timeout` for the first. It wakes at once
    /// when a record arrives, and returns early and empty when it is woken by [`wakeup`](Consumer::wakeup). The poll itself may
    /// write up to 16 KiB of records that were sent and not yet written.
    ///
    /// A member of a group takes over here what its group decided, and its listener is told.
    ///
    /// # Errors
    /// `OffsetOutOfRange` if a position is below the log start or beyond the end: seek, then go on (in
    /// a group its start policy goes on by itself). `Corrupt` where a log is damaged, unless
    /// [`on_damage`](Consumer::on_damage) says otherwise; what was read before was returned before. Other partitions
    /// go on: an error of one is returned by every other poll, as long as others have records. `UnknownTopic` where the topic was deleted: of a partition assigned by hand
    /// each time; in a group once, when none of the topics that the subscription names is left. (A subscription
    /// by pattern waits for the next topic that matches, and so does one by name after it has said so.) In a
    /// group: `FencedInstance` if another consumer took this one's
    /// place, `NoCommittedOffset` if the start policy says so, `Corrupt` if the offset log is damaged
    /// where its partitions' offsets may be.
    pub fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        let engine = self.engine.clone();
        let env = &engine.core.env;
        self.polled_by_task = false;
        self.begin_poll()?;
        let deadline = env.clock.monotonic().saturating_add(timeout);
        loop {
            engine.core.look_around()?;
            self.follow_group()?;
            let polled = self.collect()?;
            let now = env.clock.monotonic();
            if !polled.is_empty() || self.take_wakeup() {
                env.drive.nudge();
                return Ok(polled);
            }
            // Writing a few queued records takes less time than waking the writer thread.
            if self.set.latest().is_some_and(|partition| partition.write_few(now >= deadline)) {
                let polled = self.collect()?;
                if !polled.is_empty() {
                    return Ok(polled);
                }
            }
            if now >= deadline {
                env.drive.nudge();
                return self.collect();
            }
            // Somebody has to see that another member died; whoever waits, does.
            let group_deadline = self.group.as_ref().and_then(|in_group| in_group.group.next_deadline());
            self.promise(deadline, Sign::Poll);
            let until = group_deadline.filter(|&until| until > now).map_or(deadline, |until| until.min(deadline));
            let until = if engine.core.looks_itself() { until.min(now + FOLLOW_EVERY) } else { until };
            let (ready, latest) = (self.set.ready.clone(), self.set.latest());
            let news = FnFuture(|context: &mut Context<'_>| match ready.sleep(context.waker()) {
                true => {
                    // From here on the writer thread writes what is sent.
                    latest.inspect(|partition| partition.rouse_writer());
                    Poll::Pending
                }
                false => Poll::Ready(()),
            });
            let woken = env.drive.wait(news, Some((until - now, &*env.clock)));
            self.set.ready.awake();
            let after = env.clock.monotonic();
            self.promise(after, Sign::Poll);
            if woken.is_none() && after == now {
                // A simulated clock stands still while nothing happens: the time counts as passed.
                engine.core.look_around()?;
                self.follow_group()?;
                return self.collect();
            }
        }
    }

    /// The twin of [`poll`](Consumer::poll) for async code: done when there are records, or when it is
    /// woken by [`wakeup`](Consumer::wakeup).
    ///
    /// # Errors
    /// As [`poll`](Consumer::poll).
    pub fn next_batches(&mut self) -> impl Future<Output = Result<Polled>> + Unpin + '_ {
        let mut polling = InPoll::new(self);
        FnFuture(move |context: &mut Context<'_>| polling.poll(context))
    }

    /// What ends its poll from elsewhere.
    pub fn wakeup(&self) -> Wakeup {
        Wakeup { ready: self.set.ready.clone(), woken: self.woken.clone() }
    }

    fn take_wakeup(&self) -> bool {
        self.woken.swap(false, Ordering::SeqCst)
    }

    /// Without threads nothing syncs after `sync_ms` while a task waits: what a reader of durable records waits for is
    /// synced at once.
    fn want_durable(&self) {
        if let Drive::Inline(_) = self.engine.core.env.drive {
            for assigned in self.set.iter() {
                let written = assigned.partition.progress.written();
                if assigned.readable() < written {
                    assigned.partition.want_sync(written);
                }
            }
        }
    }

    /// What a poll does before it looks.
    fn begin_poll(&mut self) -> Result<()> {
        self.engine.core.env.opener.check()?;
        if self.group.as_ref().is_some_and(|in_group| in_group.in_callback) {
            return Err(Error::invalid("a rebalance listener can't poll"));
        }
        // What follows may take its time: the poll counts from its beginning.
        self.promise(self.engine.core.env.clock.monotonic(), Sign::Poll);
        self.auto_commit_if_due();
        if self.limited {
            self.set_limits();
        }
        Ok(())
    }

    /// What the ready partitions have, without waiting.
    fn collect(&mut self) -> Result<Polled> {
        if let Some((partition, position, error)) = self.owed.take()
            && self.set.get(&partition.topic, partition.number).is_ok_and(|assigned| assigned.position == position)
        {
            return Err(error);
        }
        let mut failed = Vec::new();
        let mut polled = Polled::default();
        let (mut bytes, mut stale) = (0, false);
        let mut records = self.group.as_ref().map_or(u64::MAX, |in_group| in_group.settings.max_poll_records);
        // Batches hold their segment's mapping.
        let mut partitions = self.engine.core.env.views.most.max(1);
        while bytes < POLL_BYTES
            && records > 0
            && partitions > 0
            && let Some((slot, assigned)) = self.set.next_ready()
        {
            let batches = polled.batches.len();
            while bytes < POLL_BYTES && records > 0 {
                match assigned.next_batch(records) {
                    Ok(Some(batch)) => {
                        bytes += batch.stored_bytes();
                        records = records.saturating_sub(batch.offsets().end - batch.offsets().start);
                        polled.batches.push(batch);
                    }
                    Ok(None) => {
                        stale |= assigned.is_stale();
                        break;
                    }
                    Err(error) => {
                        let (partition, position) = (assigned.partition.clone(), assigned.position);
                        if error.kind() == &ErrorKind::NoRoom && self.set.drop_rests() {
                            self.set.look_again(slot);
                            break;
                        }
                        let anew = match error.kind() {
                            ErrorKind::OffsetOutOfRange { .. } => match polled.is_empty() {
                                true => self.start_anew(&partition, position)?,
                                // What was collected is not lost by an error of that: later.
                                false => {
                                    failed.push((slot, None));
                                    break;
                                }
                            },
                            ErrorKind::Corrupt { .. } if self.on_damage == OnDamage::Skip => {
                                if error.next_intact().is_none() {
                                    // Nothing is left behind it.
                                    break;
                                }
                                self.tell_skipped(&partition, position, &error);
                                error.next_intact()
                            }
                            _ => None,
                        };
                        match anew {
                            Some(to) => self.set.get_mut(&partition.topic, partition.number)?.seek(to),
                            None => failed.push((slot, Some((partition, position, error)))),
                        }
                        break;
                    }
                }
            }
            self.set.rest(slot);
            partitions -= usize::from(polled.batches.len() > batches);
            if bytes >= POLL_BYTES || records == 0 {
                self.set.look_again(slot);
            }
        }
        // Not sooner: they would be the next that are ready, again and again.
        failed.iter().for_each(|(slot, _)| self.set.look_again(*slot));
        if let Some(first) = failed.into_iter().find_map(|(_, error)| error) {
            if polled.is_empty() {
                return Err(first.2);
            }
            self.owed = Some(first);
        }
        if stale {
            self.set_limits();
            self.set.look_at_all();
        }
        if self.limited {
            polled.held = self.held();
        }
        Ok(polled)
    }

    /// The offset that the next poll begins with.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition isn't assigned to this consumer.
    pub fn position(&self, topic: &str, partition: u32) -> Result<u64> {
        self.touch();
        Ok(self.set.get(topic, partition)?.position)
    }

    /// Goes to an offset. It is checked at the next poll.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition isn't assigned to this consumer.
    pub fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<()> {
        self.touch();
        self.set.get_mut(topic, partition)?.seek(offset);
        Ok(())
    }

    /// Goes to the log start.
    ///
    /// # Errors
    /// As [`seek`](Consumer::seek).
    pub fn seek_to_beginning(&mut self, topic: &str, partition: u32) -> Result<()> {
        let start = self.set.get(topic, partition)?.partition.progress.log_start();
        self.seek(topic, partition, start)
    }

    /// Goes to the end: the next poll returns what comes from now on.
    ///
    /// # Errors
    /// As [`seek`](Consumer::seek).
    pub fn seek_to_end(&mut self, topic: &str, partition: u32) -> Result<()> {
        let assigned = self.set.get(topic, partition)?;
        assigned.partition.refresh()?;
        let end = assigned.readable();
        self.seek(topic, partition, end)
    }

    /// Returns no records of this partition until it is resumed.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition isn't assigned to this consumer.
    pub fn pause(&mut self, topic: &str, partition: u32) -> Result<()> {
        self.touch();
        self.set.get_mut(topic, partition)?.paused = true;
        Ok(())
    }

    /// Goes on where it was paused.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition isn't assigned to this consumer.
    pub fn resume(&mut self, topic: &str, partition: u32) -> Result<()> {
        self.touch();
        self.set.get_mut(topic, partition)?.paused = false;
        Ok(())
    }
}

/// A consumer in async polls.
#[derive(Debug)]
struct InPoll<'a> {
    consumer: &'a mut Consumer,
    begun: bool,
    place: TaskPlace,
}

impl<'a> InPoll<'a> {
    fn new(consumer: &'a mut Consumer) -> InPoll<'a> {
        InPoll { consumer, begun: false, place: TaskPlace::default() }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Polled>> {
        let env = self.consumer.engine.core.env.clone();
        let mut place = std::mem::take(&mut self.place);
        let polled = env.drive.poll(&mut FnFuture(|context: &mut Context<'_>| self.look(context)), &mut place, context);
        self.place = place;
        if polled.is_ready() {
            env.drive.nudge();
        }
        polled
    }

    fn look(&mut self, context: &mut Context<'_>) -> Poll<Result<Polled>> {
        self.consumer.polled_by_task = true;
        if !std::mem::replace(&mut self.begun, true)
            && let Err(error) = self.consumer.begin_poll()
        {
            return Poll::Ready(Err(error));
        }
        loop {
            if self.consumer.poll_auto_commit(context).is_pending() {
                return Poll::Pending;
            }
            let core = self.consumer.engine.core.clone();
            let looked = core.look_around().and_then(|_| self.consumer.follow_group());
            let looked = looked.and_then(|()| self.consumer.collect());
            match looked {
                Ok(polled) if polled.is_empty() && !self.consumer.take_wakeup() => {}
                result => {
                    self.begun = false;
                    return Poll::Ready(result);
                }
            }
            self.consumer.promise(self.consumer.engine.core.env.clock.monotonic(), Sign::Awaited);
            if self.consumer.set.ready.sleep(context.waker()) {
                self.consumer.want_durable();
                if core.looks_itself() {
                    // Nobody else does: the task looks again.
                    context.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
    }
}

impl Drop for InPoll<'_> {
    fn drop(&mut self) {
        let opener = self.consumer.engine.core.env.opener;
        if !opener.is_this() {
            return self.place.forget_if_forked(opener);
        }
        self.consumer.set.ready.forget_sleeper();
        self.consumer.promise(self.consumer.engine.core.env.clock.monotonic(), Sign::Poll);
    }
}
