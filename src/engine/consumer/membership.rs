//! A consumer's part in its group: joining, giving partitions back, taking new ones, being lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Consumer;
use super::builder::Settings;
use crate::engine::Engine;
use crate::engine::groups::Group;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::group::{Join, Sign, Subscription, TopicPartition};
use crate::ids::TopicId;
use crate::lock::read;

/// Told by a consumer when partitions come and go, from within its [`poll`](Consumer::poll). Each
/// method may use the consumer: commit, seek, ask for positions (but not poll).
///
/// A panic in a method leaves `poll` as any panic does. The consumer stays usable, and its next poll goes on
/// where this one stopped: partitions are given back only after `on_revoked` has returned, so it is called
/// again for them; `on_assigned` and `on_lost` are called once.
///
/// ```
/// use thalweg::{Consumer, RebalanceListener};
///
/// struct Flush;
/// impl RebalanceListener for Flush {
///     fn on_revoked(&mut self, consumer: &mut Consumer, partitions: &[(String, u32)]) {
///         // finish what is half done for `partitions`, then:
///         let _ = consumer.commit();
///     }
/// }
/// ```
pub trait RebalanceListener: Send {
    /// These partitions are this consumer's from now on; their positions are set.
    fn on_assigned(&mut self, consumer: &mut Consumer, partitions: &[(String, u32)]) {
        let _ = (consumer, partitions);
    }

    /// These partitions go to another member when this returns: the last moment to commit.
    fn on_revoked(&mut self, consumer: &mut Consumer, partitions: &[(String, u32)]) {
        let _ = (consumer, partitions);
    }

    /// These partitions are gone already: the consumer was taken for dead, or the topic was deleted.
    /// Commits for them are refused.
    fn on_lost(&mut self, consumer: &mut Consumer, partitions: &[(String, u32)]) {
        let _ = (consumer, partitions);
    }
}

/// What a consumer of a group has beside its partitions.
pub(super) struct InGroup {
    pub(super) group: Arc<Group>,
    pub(super) settings: Settings,
    pub(super) listener: Option<Box<dyn RebalanceListener>>,
    /// `None`: partitions were assigned by hand.
    pub(super) membership: Option<Join>,
    /// Its id while it is a member, and when it was fenced: it doesn't come back then.
    pub(super) member: Option<String>,
    pub(super) generation: u32,
    /// Another came with its instance id: coming back would fence that one in turn.
    fenced: bool,
    /// The last look found none of the topics that it names, and a poll said so.
    told_of_no_topic: bool,
    /// How many partitions each topic of its subscription had when the consumer started.
    pub(super) met: HashMap<TopicId, u32>,
    /// Where it begins, as fixed when it started, in partitions for which the offset log didn't take that.
    pub(super) not_stored: HashMap<(TopicId, u32), u64>,
    /// Granted, but where to begin could not be found yet.
    unstarted: Vec<TopicPartition>,
    /// When the last automatic commit was.
    pub(super) committed_at: Duration,
    /// Inside a listener's method.
    pub(super) in_callback: bool,
}

impl InGroup {
    pub(super) fn new(group: Arc<Group>, settings: Settings, listener: Option<Box<dyn RebalanceListener>>) -> InGroup {
        InGroup {
            group,
            settings,
            listener,
            membership: None,
            member: None,
            generation: 0,
            fenced: false,
            told_of_no_topic: false,
            met: HashMap::new(),
            not_stored: HashMap::new(),
            unstarted: Vec::new(),
            committed_at: Duration::ZERO,
            in_callback: false,
        }
    }

    /// What it is told once another came with its instance id.
    ///
    /// # Errors
    /// `FencedInstance`.
    pub(super) fn check_fenced(&self) -> Result<()> {
        match &self.member {
            Some(member) if self.fenced => {
                let (group, member) = (self.group.name.clone(), member.clone());
                Err(Error::new(ErrorKind::FencedInstance { group, member }))
            }
            _ => Ok(()),
        }
    }

    /// Its id while it is a member.
    pub(super) fn member_id(&self) -> Option<&str> {
        self.member.as_deref().filter(|_| !self.fenced)
    }

    /// Whether it can commit: it belongs to no group as a member, or is one.
    ///
    /// # Errors
    /// `FencedInstance`, `UnknownMember`.
    pub(super) fn check_member(&self) -> Result<()> {
        self.check_fenced()?;
        if self.membership.is_some() && self.member.is_none() {
            let (group, member) = (self.group.name.clone(), String::new());
            return Err(Error::new(ErrorKind::UnknownMember { group, member, reason: "it hasn't joined again yet" }));
        }
        Ok(())
    }

    /// The member's id and generation.
    pub(super) fn identity(&self) -> Option<(&str, u32)> {
        self.member.as_deref().map(|member| (member, self.generation))
    }
}

/// What a listener is told.
#[derive(Clone, Copy)]
enum Told {
    Assigned,
    Revoked,
    Lost,
}

impl Consumer {
    pub(super) fn start_member(engine: Engine, in_group: InGroup) -> Result<Consumer> {
        let mut consumer = Consumer::empty(engine, Some(in_group));
        consumer.join()?;
        let Some(InGroup { membership: Some(join), .. }) = &consumer.group else { return Ok(consumer) };
        let topics = read(&consumer.engine.core.topics);
        let wanted: Vec<_> = topics.values().filter(|topic| join.subscription.wants(&topic.name)).cloned().collect();
        drop(topics);
        consumer.fix_starts(&wanted)?;
        Ok(consumer)
    }

    pub(super) fn start_assigned(
        engine: Engine,
        in_group: InGroup,
        partitions: Vec<(String, u32)>,
    ) -> Result<Consumer> {
        in_group.group.count_by_hand(&engine.core.groups, true);
        let mut consumer = Consumer::empty(engine, Some(in_group));
        let found = partitions.iter().map(|(topic, partition)| {
            let topic = consumer.engine.core.topic(topic)?;
            topic.partition(*partition).cloned()
        });
        let found = found.collect::<Result<Vec<_>>>()?;
        let begun = consumer.begin(&found);
        begun.failed.map_or(Ok(()), Err)?;
        // It has begun: that it isn't stored matters to the next.
        let _stored = consumer.store_now(&begun.starts)?;
        Ok(consumer)
    }

    fn join(&mut self) -> Result<()> {
        let Some(in_group) = &mut self.group else { return Ok(()) };
        let Some(join) = &in_group.membership else { return Ok(()) };
        let groups = &self.engine.core.groups;
        let member = in_group.group.join(groups, join.clone(), &self.set.ready)?;
        in_group.member = Some(member);
        in_group.generation = 0;
        self.engine.core.background.look_at_groups();
        Ok(())
    }

    /// In a poll: shows that it is alive, and takes over what the group decided.
    ///
    /// # Errors
    /// `FencedInstance`; `UnknownTopic`; those of finding out where to begin.
    pub(super) fn follow_group(&mut self) -> Result<()> {
        let called = self.set.ready.take_call();
        if called && self.limited {
            // Perhaps by a commit of another member that lets this one go on (G7).
            self.set_limits();
        }
        loop {
            let Some(in_group) = &mut self.group else { return Ok(()) };
            if in_group.membership.is_none() {
                return Ok(());
            }
            self.engine.core.check_open()?;
            in_group.check_fenced()?;
            let groups = &self.engine.core.groups;
            let Some(member) = in_group.member.clone() else {
                self.join()?;
                continue;
            };
            let now = groups.clock().monotonic();
            let news = match in_group.group.heartbeat(groups, &member, now, Sign::Poll) {
                Ok(news) => news,
                Err(error) => {
                    self.lose_everything(&error);
                    match error.kind() {
                        ErrorKind::UnknownMember { .. } => continue,
                        _ => return Err(error),
                    }
                }
            };
            if !news {
                if called || in_group.told_of_no_topic {
                    self.check_topics()?;
                }
                return self.begin_unstarted();
            }
            // Removed since the heartbeat: the next one says why.
            let Ok(changes) = in_group.group.changes(&member) else { continue };
            in_group.generation = changes.generation;
            in_group
                .unstarted
                .retain(|partition| !changes.lost.contains(partition) && !changes.revoked.contains(partition));
            in_group.unstarted.extend(&changes.granted);
            self.drop_lost(&changes.lost);
            self.give_back(&member, &changes.revoked)?;
            // Topics may have got more partitions, though none of them came here (G7).
            self.set_limits();
            self.begin_unstarted()?;
        }
    }

    /// Says once that all topics that the subscription names are gone.
    ///
    /// # Errors
    /// `UnknownTopic`, until a topic of one of the names was made again.
    fn check_topics(&mut self) -> Result<()> {
        let Some(in_group) = &mut self.group else { return Ok(()) };
        let Some(Join { subscription: Subscription::Topics(names), .. }) = &in_group.membership else { return Ok(()) };
        let topics = read(&self.engine.core.topics);
        let none = !names.iter().any(|name| topics.contains_key(name));
        if !none || std::mem::replace(&mut in_group.told_of_no_topic, true) {
            in_group.told_of_no_topic = none;
            return Ok(());
        }
        let topic = names.first().cloned().unwrap_or_default();
        Err(Error::new(ErrorKind::UnknownTopic { topic }))
    }

    /// Tells the group that this consumer is in a poll until then; after it, until now.
    pub(super) fn promise(&self, until: Duration, sign: Sign) {
        if let Some(InGroup { group, member: Some(member), membership: Some(join), .. }) = &self.group
            && self.engine.core.env.opener.is_this()
        {
            // That it was removed meanwhile shows in the next look.
            let _ = group.heartbeat(&self.engine.core.groups, member, until, sign);
            let patience = if sign == Sign::Awaited { join.patience() / 2 } else { join.patience() };
            self.engine.core.background.look_at_groups_by(until.saturating_add(patience));
        }
    }

    /// Says that this consumer is alive and at work, as a poll does, without polling: for a job that takes
    /// longer than [`max_poll_interval`](super::ConsumerBuilder::max_poll_interval). Does nothing for a consumer
    /// with partitions assigned by hand.
    ///
    /// # Errors
    /// `UnknownMember`, `FencedInstance` if its partitions are others' now: what the job does will be done again
    /// elsewhere. `Closed`.
    pub fn keep_alive(&self) -> Result<()> {
        self.engine.core.check_open()?;
        let Some(in_group) = &self.group else { return Ok(()) };
        in_group.check_member()?;
        if let Some(member) = &in_group.member {
            let groups = &self.engine.core.groups;
            in_group.group.heartbeat(groups, member, groups.clock().monotonic(), Sign::Poll)?;
        }
        Ok(())
    }

    /// A call that is no poll.
    pub(super) fn touch(&self) {
        if let Some(InGroup { group, member: Some(member), .. }) = &self.group
            && self.engine.core.env.opener.is_this()
        {
            let groups = &self.engine.core.groups;
            let _ = group.heartbeat(groups, member, groups.clock().monotonic(), Sign::Call);
        }
    }

    /// It is no member any more.
    fn lose_everything(&mut self, error: &Error) {
        let lost = self.names(|_| true);
        self.set.clear();
        let Some(in_group) = &mut self.group else { return };
        in_group.unstarted.clear();
        if matches!(error.kind(), ErrorKind::FencedInstance { .. }) {
            in_group.fenced = true;
        } else if let Some(member) = in_group.member.take() {
            in_group.group.leave(&self.engine.core.groups, &member);
        }
        self.tell(Told::Lost, &lost);
    }

    fn drop_lost(&mut self, lost: &[TopicPartition]) {
        let names = self.names(|key| lost.contains(&key));
        for (topic, partition) in &names {
            self.set.remove(topic, *partition);
        }
        self.tell(Told::Lost, &names);
    }

    fn give_back(&mut self, member: &str, revoked: &[TopicPartition]) -> Result<()> {
        if revoked.is_empty() {
            return Ok(());
        }
        let names = self.names(|key| revoked.contains(&key));
        self.tell(Told::Revoked, &names);
        self.auto_commit_now();
        for (topic, partition) in &names {
            self.set.remove(topic, *partition);
        }
        let Some(in_group) = &self.group else { return Ok(()) };
        match in_group.group.release(&self.engine.core.groups, member, revoked) {
            // Removed meanwhile: the next look tells.
            Err(error)
                if matches!(error.kind(), ErrorKind::UnknownMember { .. } | ErrorKind::FencedInstance { .. }) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// Begins to read what was granted.
    fn begin_unstarted(&mut self) -> Result<()> {
        let Some(in_group) = &mut self.group else { return Ok(()) };
        if in_group.unstarted.is_empty() {
            return Ok(());
        }
        let mut waiting = std::mem::take(&mut in_group.unstarted);
        // In the order in which they are committed.
        waiting.sort_unstable();
        let topics: HashMap<_, _> =
            read(&self.engine.core.topics).values().map(|topic| (topic.id, topic.clone())).collect();
        let find = |(topic, partition): &TopicPartition| topics.get(topic)?.partition(*partition).ok().cloned();
        let found: Vec<_> = waiting.iter().filter_map(find).collect();
        let begun = self.begin(&found);
        let (done, rest) = found.split_at(begun.count);
        if let Some(in_group) = &mut self.group {
            in_group.unstarted = rest.iter().map(|partition| (partition.log.topic_id, partition.number)).collect();
        }
        self.store_later(&begun.starts);
        self.set_limits();
        let mut names: Vec<_> = done.iter().map(|partition| (partition.topic.to_string(), partition.number)).collect();
        names.sort_unstable();
        self.tell(Told::Assigned, &names);
        begun.failed.map_or(Ok(()), Err)
    }

    /// Topic and number of those that are read and fit.
    fn names(&self, fits: impl Fn(TopicPartition) -> bool) -> Vec<(String, u32)> {
        let fitting = self.set.iter().filter(|assigned| fits(assigned.key()));
        fitting.map(|assigned| (assigned.partition.topic.to_string(), assigned.partition.number)).collect()
    }

    fn tell(&mut self, what: Told, partitions: &[(String, u32)]) {
        if partitions.is_empty() {
            return;
        }
        let Some(in_group) = &mut self.group else { return };
        let Some(listener) = in_group.listener.take() else { return };
        in_group.in_callback = true;
        let mut callback = Callback { consumer: self, listener: Some(listener) };
        let Callback { consumer, listener: Some(listener) } = &mut callback else { return };
        match what {
            Told::Assigned => listener.on_assigned(consumer, partitions),
            Told::Revoked => listener.on_revoked(consumer, partitions),
            Told::Lost => listener.on_lost(consumer, partitions),
        }
    }

    /// An automatic commit failed: nobody called for it, so nobody else is told.
    pub(super) fn auto_commit_failed(&self, error: Error) {
        self.engine.core.env.events.emit(Event::Background { what: "committing automatically", error });
    }
}

/// A consumer while its listener is called. Puts the listener back, also when it panics.
struct Callback<'a> {
    consumer: &'a mut Consumer,
    listener: Option<Box<dyn RebalanceListener>>,
}

impl Drop for Callback<'_> {
    fn drop(&mut self) {
        if let Some(in_group) = &mut self.consumer.group {
            in_group.in_callback = false;
            in_group.listener = self.listener.take();
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if !self.engine.core.env.opener.is_this() {
            return;
        }
        if let Some(InGroup { group, membership: None, .. }) = &self.group {
            group.count_by_hand(&self.engine.core.groups, false);
        }
        if let Some(InGroup { group, member: Some(member), .. }) = &self.group {
            group.leave(&self.engine.core.groups, member);
            // With an instance id its place is kept for a while; an assignor that panicked is called again.
            if let Some(deadline) = group.next_deadline() {
                self.engine.core.background.look_at_groups_by(deadline);
            }
        }
    }
}
