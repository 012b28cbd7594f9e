//! A consumer's part in its group: joining, giving partitions back, taking new ones, being lost.

use std::sync::Arc;
use std::time::Duration;

use super::Consumer;
use super::builder::Settings;
use crate::engine::Engine;
use crate::engine::groups::Group;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::group::{Join, TopicPartition};
use crate::lock::read;

/// Told by a consumer when partitions come and go, from within its [`poll`](Consumer::poll). Each
/// method may use the consumer: commit, seek, ask for positions (but not poll).
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
        Ok(consumer)
    }

    pub(super) fn start_assigned(
        engine: Engine,
        in_group: InGroup,
        partitions: Vec<(String, u32)>,
    ) -> Result<Consumer> {
        let mut consumer = Consumer::empty(engine, Some(in_group));
        for (topic, partition) in partitions {
            let partition = consumer.engine.core.topic(&topic)?.partition(partition)?.clone();
            consumer.begin(partition)?;
        }
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
    /// `FencedInstance`; those of finding out where to begin.
    pub(super) fn follow_group(&mut self) -> Result<()> {
        if self.set.ready.take_call() && self.limited {
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
            let news = match in_group.group.heartbeat(groups, &member, now, true) {
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

    /// Tells the group that this consumer is in a poll until then; after it, until now.
    pub(super) fn promise(&self, until: Duration) {
        if let Some(InGroup { group, member: Some(member), membership: Some(join), .. }) = &self.group {
            // That it was removed meanwhile shows in the next look.
            let _ = group.heartbeat(&self.engine.core.groups, member, until, true);
            let late = until.saturating_add(join.session_timeout.min(join.max_poll_interval));
            self.engine.core.background.look_at_groups_by(late);
        }
    }

    /// A call that is no poll.
    pub(super) fn touch(&self) {
        if let Some(InGroup { group, member: Some(member), .. }) = &self.group {
            let groups = &self.engine.core.groups;
            let _ = group.heartbeat(groups, member, groups.clock().monotonic(), false);
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
        let mut begun = Vec::new();
        let mut failed = None;
        let mut looked_at = 0;
        for &(topic, partition) in &waiting {
            let found = read(&self.engine.core.topics).values().find(|known| known.id == topic).cloned();
            if let Some(found) = found {
                let started = found.partition(partition).cloned().and_then(|partition| self.begin(partition));
                if let Err(error) = started {
                    failed = Some(error);
                    break;
                }
                begun.push((found.name.to_string(), partition));
            }
            looked_at += 1;
        }
        waiting.drain(..looked_at);
        if let Some(in_group) = &mut self.group {
            in_group.unstarted = waiting;
        }
        self.set_limits();
        begun.sort_unstable();
        self.tell(Told::Assigned, &begun);
        failed.map_or(Ok(()), Err)
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
        let Some(mut listener) = in_group.listener.take() else { return };
        in_group.in_callback = true;
        match what {
            Told::Assigned => listener.on_assigned(self, partitions),
            Told::Revoked => listener.on_revoked(self, partitions),
            Told::Lost => listener.on_lost(self, partitions),
        }
        if let Some(in_group) = &mut self.group {
            in_group.in_callback = false;
            in_group.listener = Some(listener);
        }
    }

    /// An automatic commit failed: nobody called for it, so nobody else is told.
    pub(super) fn auto_commit_failed(&self, error: Error) {
        self.engine.core.env.events.emit(Event::Background { what: "committing automatically", error });
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(InGroup { group, member: Some(member), membership: Some(join), .. }) = &self.group {
            let groups = &self.engine.core.groups;
            group.leave(groups, member);
            // With an instance id its place is kept until then.
            let deadline = groups.clock().monotonic().saturating_add(join.session_timeout);
            self.engine.core.background.look_at_groups_by(deadline);
        }
    }
}
