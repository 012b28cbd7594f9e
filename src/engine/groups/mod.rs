//! The groups of an engine: each a coordinator under one lock, and the offset log they share.
//!
//! A commit is checked and appended under its group's lock, so that none of a member that was just
//! removed comes behind the next owner's. What a coordinator asks for is done here: its state
//! stored in order, its members woken and the listener told after the lock is gone.

mod admin;
mod describe;
mod stands;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::events::{Event, Events};
use crate::format::{GroupSnapshot, MemberSnapshot};
use crate::group::{
    Changes, Coordinator, Departure, Effect, Fence, GroupView, Join, Positions, Sign, TopicPartition, TopicTable,
};
use crate::ids::TopicId;
use crate::lock::{Mutex, RwLock, lock, read, write};
use crate::offsets::{Commit, NewCommit, Offsets, Ticket};
use crate::partition::{Env, Partition, ReadySet};

use super::Topic;

pub use admin::{OffsetReset, ResetTo};
pub use describe::{GroupDescription, GroupOffset, GroupState, MemberDescription};
pub(super) use stands::goes_on_at;

/// How often is looked for groups that expire, as a part of the time that they are kept.
const LOOKS: u64 = 100;
const SHORTEST_LOOK: Duration = Duration::from_secs(1);

/// The longest name of a group, member or instance.
const MAX_NAME_BYTES: usize = 249;

/// See the module.
pub(crate) struct Groups {
    env: Arc<Env>,
    pub(crate) offsets: Offsets,
    epoch: u32,
    groups: Mutex<BTreeMap<String, Arc<Group>>>,
    topics: RwLock<Arc<TopicTable>>,
    /// Groups at rest are forgotten after this time.
    retention_ms: Option<u64>,
    /// When the engine was opened: no group rests longer than it has been open.
    opened: Duration,
    /// When is looked for groups that expire.
    expire_at: Mutex<Duration>,
}

/// One group.
pub(crate) struct Group {
    pub(crate) name: String,
    state: Mutex<State>,
}

struct State {
    coordinator: Coordinator,
    /// Consumers with partitions assigned by hand.
    by_hand: u32,
    /// When something was last done with the group: it rests from here, while it has no consumers.
    rests_since: Duration,
    /// How to wake each member.
    members: HashMap<String, Arc<ReadySet>>,
    /// What holds the group back, by topic (G7).
    fences: HashMap<TopicId, Fence>,
    /// Commits that were held against the log, by partition: offset, epoch, and where the group goes on.
    /// That can't change while the engine is open.
    checked: HashMap<TopicPartition, (u64, u32, u64)>,
    /// How many expansions of a topic the group has come past.
    passed: HashMap<TopicId, usize>,
}

/// What a group's state says of a partition: offset, epoch, and whether the group only begins there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored(Option<(u64, u32, bool)>);

impl Stored {
    pub(crate) fn of(commit: Option<&Commit>) -> Stored {
        Stored(commit.map(|commit| (commit.offset, commit.epoch, commit.start)))
    }
}

/// Commits to be made together.
pub(crate) struct Committing<'a> {
    pub(crate) member: Option<(&'a str, u32)>,
    pub(crate) commits: &'a [NewCommit<'a>],
}

/// What became of them.
pub(crate) struct Committed {
    /// `None` if there was nothing to append.
    pub(crate) ticket: Option<Ticket>,
    /// Those of partitions that aren't the member's.
    pub(crate) refused: Vec<TopicPartition>,
}

impl Groups {
    pub(crate) fn new(env: Arc<Env>, offsets: Offsets, epoch: u32, retention_ms: Option<u64>) -> Groups {
        let opened = env.clock.monotonic();
        let (groups, topics, expire_at) = (Mutex::default(), RwLock::default(), Mutex::new(opened));
        Groups { env, offsets, epoch, groups, topics, retention_ms, opened, expire_at }
    }

    /// The group of this name; it is made if need be.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a name that is empty or too long.
    pub(crate) fn group(&self, name: &str) -> Result<Arc<Group>> {
        check_name("a group's name", name)?;
        let mut groups = lock(&self.groups);
        if let Some(group) = groups.get(name) {
            return Ok(group.clone());
        }
        let generation = self.offsets.with(|state| state.group(name).map_or(0, |group| group.generation));
        let coordinator = Coordinator::new(name, self.epoch, generation, read(&self.topics).clone());
        let state = State {
            coordinator,
            by_hand: 0,
            rests_since: self.opened,
            members: HashMap::new(),
            fences: HashMap::new(),
            checked: HashMap::new(),
            passed: HashMap::new(),
        };
        let group = Arc::new(Group { name: name.to_owned(), state: Mutex::new(state) });
        groups.insert(name.to_owned(), group.clone());
        Ok(group)
    }

    /// The group if it is in use in this engine.
    fn known(&self, name: &str) -> Option<Arc<Group>> {
        lock(&self.groups).get(name).cloned()
    }

    fn all(&self) -> Vec<Arc<Group>> {
        lock(&self.groups).values().cloned().collect()
    }

    /// Topics came, went or grew.
    pub(crate) fn set_topics<'a>(&self, topics: impl Iterator<Item = &'a Arc<Topic>>) {
        let table = topics.map(|topic| (topic.name.to_string(), topic.id, topic.partitions.len() as u32));
        let table = Arc::new(TopicTable::new(table));
        *write(&self.topics) = table.clone();
        self.give_out(&table);
    }

    /// One topic came, grew or went (`None`). The table is copied only if a group has it: with many topics, that
    /// takes longer than all the rest of making one.
    pub(crate) fn set_topic(&self, name: &str, topic: Option<&Topic>) {
        let table = {
            let mut table = write(&self.topics);
            let entry = topic.map(|topic| (topic.id, topic.partitions.len() as u32));
            Arc::make_mut(&mut table).set(name, entry);
            table.clone()
        };
        self.give_out(&table);
    }

    fn give_out(&self, table: &Arc<TopicTable>) {
        let now = self.env.clock.monotonic();
        for group in self.all() {
            group.act(self, |coordinator| ((), coordinator.set_topics(table.clone(), now)));
        }
    }

    /// The damage in which this group's newest commit for this partition may be lost, if there is some.
    pub(crate) fn doubt(&self, group: &str, (topic_id, partition): TopicPartition) -> Option<Error> {
        let damage = self.offsets.damage()?;
        let unnamed = damage.names_lost && self.offsets.with(|state| state.group(group).is_none());
        (unnamed || damage.in_doubt(group, topic_id, partition)).then_some(damage.error)
    }

    /// Removes members that weren't heard of in time; when to look again.
    pub(crate) fn tick(&self) -> Option<Duration> {
        let now = self.env.clock.monotonic();
        let groups = self.all();
        groups
            .iter()
            .filter_map(|group| {
                group.act(self, |coordinator| {
                    let effects = coordinator.tick(now);
                    (coordinator.next_deadline(), effects)
                })
            })
            .min()
    }

    /// Forgets groups that have been at rest for longer than the embedder wants: without consumers and
    /// commits, while the engine was open. How long until that is to be done again, if groups expire at all.
    ///
    /// By the monotonic clock: neither the time before the opening nor a jump of the wall clock is rest.
    pub(crate) fn expire(&self) -> Option<Duration> {
        let retention_ms = self.retention_ms?;
        let now = self.env.clock.monotonic();
        {
            let mut expire_at = lock(&self.expire_at);
            if now < *expire_at {
                return Some(*expire_at - now);
            }
            *expire_at = now.saturating_add(Duration::from_millis(retention_ms / LOOKS).max(SHORTEST_LOOK));
        }
        let retention = Duration::from_millis(retention_ms);
        if now.saturating_sub(self.opened) >= retention {
            let names: Vec<_> = self.offsets.with(|state| state.groups().map(|(name, _)| name.to_owned()).collect());
            for name in names {
                match self.group(&name).and_then(|group| group.expire(self, now, retention)) {
                    Ok(false) => {}
                    Ok(true) => self.env.events.emit(Event::GroupExpired { group: name }),
                    Err(error) => {
                        self.env.events.emit(Event::Background { what: "expiring groups", error });
                        break;
                    }
                }
            }
        }
        Some(lock(&self.expire_at).saturating_sub(now))
    }

    pub(crate) fn clock(&self) -> &dyn crate::clock::Clock {
        &*self.env.clock
    }

    /// Has every member look up: the engine is being closed.
    pub(crate) fn call_all(&self) {
        for group in self.all() {
            let woken: Vec<_> = lock(&group.state).members.values().filter_map(|ready| ready.call()).collect();
            crate::panics::wake_each(woken);
        }
    }

    /// No group has a member from now on: the engine was opened, or is being closed.
    pub(crate) fn note_all_empty(&self) {
        let groups = self.offsets.with(|state| {
            let alive = state.groups().filter(|(_, group)| group.state.is_some() && group.empty_since_ms.is_none());
            alive.map(|(name, group)| (name.to_owned(), group.generation)).collect::<Vec<_>>()
        });
        for (name, generation) in groups {
            if let Err(error) = self.offsets.put_empty(&name, generation, self.env.clock.wall_ms()) {
                self.env.events.emit(Event::Background { what: "storing that a group is empty", error });
                return;
            }
        }
    }

    /// The topic is gone: so are its commits.
    pub(crate) fn forget_topic(&self, id: TopicId) {
        self.offsets.keep_topics(|topic| topic != id);
        for group in self.all() {
            let mut state = lock(&group.state);
            state.fences.remove(&id);
            state.passed.remove(&id);
            state.checked.retain(|(topic, _), _| *topic != id);
        }
    }
}

impl Group {
    /// Has the coordinator do something, and does what follows from it.
    fn act<R>(&self, groups: &Groups, what: impl FnOnce(&mut Coordinator) -> (R, Vec<Effect>)) -> R {
        let mut state = lock(&self.state);
        let (result, effects) = what(&mut state.coordinator);
        if effects.is_empty() {
            return result;
        }
        if state.coordinator.is_empty() {
            state.rests_since = groups.env.clock.monotonic();
        }
        let (mut woken, mut told) = (Vec::new(), Vec::new());
        let mut stored = false;
        for effect in effects {
            match effect {
                Effect::Wake(id) => woken.extend(state.members.get(&id).and_then(|ready| ready.call())),
                Effect::Store if !stored => {
                    stored = true;
                    told.extend(state.store(self, groups).err().map(storing_failed));
                }
                Effect::Store => {}
                Effect::Empty => {
                    let generation = state.coordinator.generation();
                    let now_ms = groups.env.clock.wall_ms();
                    told.extend(groups.offsets.put_empty(&self.name, generation, now_ms).err().map(storing_failed));
                }
                Effect::Rebalanced(generation, members) => {
                    let group = self.name.clone();
                    told.push(Event::GroupRebalanced { group, generation, members });
                }
                Effect::Idle(member) => told.push(Event::MemberIdle { group: self.name.clone(), member }),
                Effect::Gone(member, departure) => {
                    let reason = match departure {
                        Departure::Left => "it left",
                        Departure::TimedOut => "it made no call within the session time-out",
                        Departure::Stalled => "it did not poll within the poll time-out",
                        Departure::Fenced => "another came with its instance id",
                    };
                    told.push(Event::MemberGone { group: self.name.clone(), member, reason });
                }
                Effect::AssignorFailed(reason) => {
                    told.push(Event::AssignorFailed { group: self.name.clone(), reason });
                }
            }
        }
        drop(state);
        crate::panics::wake_each(woken);
        told.into_iter().for_each(|event| groups.env.events.emit(event));
        result
    }

    /// A consumer with partitions assigned by hand came, or went.
    pub(crate) fn count_by_hand(&self, groups: &Groups, came: bool) {
        let mut state = lock(&self.state);
        state.by_hand = if came { state.by_hand.saturating_add(1) } else { state.by_hand.saturating_sub(1) };
        state.rests_since = groups.env.clock.monotonic();
    }

    /// Forgets the group if it has been at rest for this time; whether it has. Under its lock, so that nothing
    /// is committed meanwhile.
    fn expire(&self, groups: &Groups, now: Duration, retention: Duration) -> Result<bool> {
        let state = lock(&self.state);
        let rested = now.saturating_sub(state.rests_since);
        if state.by_hand > 0 || !state.coordinator.is_empty() || rested < retention {
            return Ok(false);
        }
        groups.offsets.delete_group(&self.name, groups.env.clock.wall_ms())?;
        Ok(true)
    }

    /// Takes a member in; `ready` is how to wake it.
    pub(crate) fn join(&self, groups: &Groups, join: Join, ready: &Arc<ReadySet>) -> Result<String> {
        let now = groups.env.clock.monotonic();
        let joined = self.act(groups, |coordinator| match coordinator.join(join, now) {
            Ok((id, effects)) => (Ok(id), effects),
            Err(error) => (Err(error), Vec::new()),
        })?;
        lock(&self.state).members.insert(joined.clone(), ready.clone());
        Ok(joined)
    }

    pub(crate) fn leave(&self, groups: &Groups, member: &str) {
        let now = groups.env.clock.monotonic();
        lock(&self.state).members.remove(member);
        self.act(groups, |coordinator| {
            // One that is late already is no member any more, and keeps no place.
            let mut effects = coordinator.tick(now);
            effects.extend(coordinator.leave(member, now));
            ((), effects)
        });
    }

    /// A sign of life, good until `until`. Whether there are changes for the member.
    pub(crate) fn heartbeat(&self, groups: &Groups, member: &str, until: Duration, sign: Sign) -> Result<bool> {
        let now = groups.env.clock.monotonic();
        self.act(groups, |coordinator| {
            let effects = coordinator.tick(now);
            let alive = coordinator.heartbeat(member, until, sign);
            (alive.map(|()| coordinator.has_changes(member)), effects)
        })
    }

    /// What the member must do now.
    pub(crate) fn changes(&self, member: &str) -> Result<Changes> {
        lock(&self.state).coordinator.changes(member)
    }

    /// The member is done with these.
    pub(crate) fn release(&self, groups: &Groups, member: &str, partitions: &[TopicPartition]) -> Result<()> {
        self.act(groups, |coordinator| match coordinator.release(member, partitions) {
            Ok(effects) => (Ok(()), effects),
            Err(error) => (Err(error), Vec::new()),
        })
    }

    /// When a member may have to be removed.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        lock(&self.state).coordinator.next_deadline()
    }

    pub(crate) fn view(&self) -> GroupView {
        lock(&self.state).coordinator.view()
    }

    /// Appends commits, all at once, of those partitions for which whoever makes them may.
    pub(crate) fn commit(&self, groups: &Groups, committing: &Committing<'_>) -> Result<Committed> {
        let mut state = lock(&self.state);
        state.rests_since = groups.env.clock.monotonic();
        let mut refused = Vec::new();
        let generation = match committing.member {
            Some((member, generation)) => {
                let mut may = state.coordinator.may_commit(member, generation)?;
                let places = committing.commits.iter().map(|commit| (commit.topic_id, commit.partition));
                refused.extend(places.filter(|&place| !may(place)));
                generation
            }
            None if state.coordinator.is_empty() => state.coordinator.generation(),
            None => return Err(self.alive(&state)),
        };
        let kept: Vec<_>;
        let commits = match refused.is_empty() {
            true => committing.commits,
            false => {
                let is_kept = |commit: &&NewCommit<'_>| !refused.contains(&(commit.topic_id, commit.partition));
                kept = committing.commits.iter().filter(is_kept).copied().collect();
                &kept
            }
        };
        if commits.is_empty() {
            return Ok(Committed { ticket: None, refused });
        }
        let ticket = groups.offsets.commit(&self.name, generation, commits, groups.env.clock.wall_ms())?;
        Ok(Committed { ticket: Some(ticket), refused })
    }

    fn alive(&self, state: &State) -> Error {
        let members = state.coordinator.member_ids().map(str::to_owned).collect();
        Error::new(ErrorKind::GroupNotEmpty { group: self.name.clone(), members })
    }

    /// Stores where the group begins in partitions, each if its state says the same as before. `None` if nothing
    /// was to be stored.
    pub(crate) fn store_starts(&self, groups: &Groups, starts: &[(NewCommit<'_>, Stored)]) -> Result<Option<Ticket>> {
        let state = lock(&self.state);
        let new: Vec<_> = groups.offsets.with(|offsets| {
            let group = offsets.group(&self.name);
            let is_as_before = |(start, before): &&(NewCommit<'_>, Stored)| {
                let commit = group.and_then(|group| group.commits.get(&(start.topic_id, start.partition)));
                Stored::of(commit) == *before
            };
            starts.iter().filter(is_as_before).map(|(start, _)| *start).collect()
        });
        if new.is_empty() {
            return Ok(None);
        }
        let generation = state.coordinator.generation();
        groups.offsets.commit(&self.name, generation, &new, groups.env.clock.wall_ms()).map(Some)
    }

    /// Whether this partition was added to the topic after the group had come to it: then nothing in it
    /// is older than the group, and all of it is the group's to read.
    pub(crate) fn is_added(&self, groups: &Groups, topic: &Topic, partition: u32) -> bool {
        topic.expansions.first().is_some_and(|ends| partition as usize >= ends.len())
            && groups.offsets.with(|offsets| {
                let group = offsets.group(&self.name);
                group.is_some_and(|group| group.commits.keys().any(|(id, _)| *id == topic.id))
            })
    }

    /// What holds the group back in this topic, as of now. Members are woken when they may read more.
    pub(crate) fn fence(&self, groups: &Groups, topic: &Topic) -> Option<Fence> {
        if topic.expansions.is_empty() || !topic.config.fence {
            return None;
        }
        let mut state = lock(&self.state);
        let passed = state.passed.get(&topic.id).copied().unwrap_or(0);
        let before = state.fences.get(&topic.id).cloned();
        if passed == topic.expansions.len() {
            return None;
        }
        let commits: Vec<Option<(u64, u32)>> = groups.offsets.with(|offsets| {
            let group = offsets.group(&self.name);
            let commit = |partition| {
                let commit = group?.commits.get(&(topic.id, partition))?;
                Some((commit.offset, commit.epoch))
            };
            (0..topic.partitions.len() as u32).map(commit).collect()
        });
        // One whose record was lost says nothing of the records that took its place (D5).
        let committed: Vec<Option<u64>> = topic
            .partitions
            .iter()
            .zip(commits)
            .map(|(partition, commit)| commit.map(|commit| state.reached(groups, partition, commit)))
            .collect();
        let positions = |partition: u32| Positions {
            committed: committed.get(partition as usize).copied().flatten(),
            log_start: topic.partitions.get(partition as usize).map_or(0, |partition| partition.progress.log_start()),
        };
        let fence = Fence::find(topic.expansions.iter().map(|ends| &ends[..]), positions);
        match &fence {
            Some(fence) => drop(state.fences.insert(topic.id, fence.clone())),
            None => {
                state.fences.remove(&topic.id);
                state.passed.insert(topic.id, topic.expansions.len());
            }
        }
        let same_limits = match (&fence, &before) {
            (Some(fence), Some(before)) => fence.has_limits_of(before),
            (fence, before) => fence.is_none() && before.is_none(),
        };
        let woken: Vec<_> = match same_limits {
            true => Vec::new(),
            false => state.members.values().filter_map(|ready| ready.call()).collect(),
        };
        drop(state);
        crate::panics::wake_each(woken);
        if let (Some(fence), None) = (&fence, before)
            && let Some(&(waits_for, until_offset, reached_offset)) = fence.waits_for.first()
        {
            let (group, topic) = (self.name.clone(), topic.name.to_string());
            groups.env.events.emit(Event::GroupHeld { group, topic, waits_for, until_offset, reached_offset });
        }
        fence
    }
}

impl State {
    /// How far the group has come by this commit: if its record was lost, as far as others were written instead.
    fn reached(&mut self, groups: &Groups, partition: &Arc<Partition>, (offset, epoch): (u64, u32)) -> u64 {
        // What was written since the engine was opened is not lost while it is open.
        if epoch == groups.epoch && offset <= partition.progress.written() {
            return offset;
        }
        let key = (partition.log.topic_id, partition.number);
        match self.checked.get(&key) {
            Some(&(at, of, reached)) if (at, of) == (offset, epoch) => reached,
            _ => {
                let reached = goes_on_at(partition, offset, epoch).unwrap_or(None).unwrap_or(offset);
                self.checked.insert(key, (offset, epoch, reached));
                reached
            }
        }
    }

    /// Appends the group's state, unsynced: what `describe` in another process shows.
    fn store(&self, group: &Group, groups: &Groups) -> Result<Ticket> {
        let view = self.coordinator.view();
        let members = view.members.into_iter().map(|member| MemberSnapshot {
            id: member.id,
            instance_id: member.instance_id,
            topics: member.topics,
            partitions: member.held,
            awaited: member.awaited,
        });
        let snapshot = GroupSnapshot { assignor: view.assignor, members: members.collect() };
        groups.offsets.put_state(&group.name, view.generation, &snapshot, groups.env.clock.wall_ms())
    }
}

fn storing_failed(error: Error) -> Event {
    Event::Background { what: "storing a group's state", error }
}

/// Refuses names of groups, members and instances that are empty or too long.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let reason = format!("{what} has 1 to {MAX_NAME_BYTES} bytes and no control characters, not {name:?}");
        return Err(Error::invalid(reason));
    }
    Ok(())
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Groups").finish_non_exhaustive()
    }
}

impl Events {
    /// Tells of commits that no longer count as they stand.
    pub(crate) fn reset(
        &self,
        group: &str,
        topic: &str,
        partition: u32,
        committed: Option<u64>,
        to: u64,
        reason: &'static str,
    ) {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        self.emit(Event::OffsetReset { group, topic, partition, committed, to, reason });
    }
}
