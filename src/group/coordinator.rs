//! A group's coordinator: who is a member, who should read which partition, who holds it now.
//!
//! Events and the time go in, [`Effect`]s come out. A partition that moves is first given back by
//! its holder (or the holder is removed), then granted to the next; everybody else reads on. A member
//! asks for its changes when it polls; what it isn't told of can be taken back without asking.
//! Model: KIP-848's reconciliation, with Kafka's names for states and errors.

mod members;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::assignor::{Assignment, Assignor, MemberSubscription, Sticky, Subscriptions, TopicPartitions};
use super::{Subscription, TopicPartition, TopicTable};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::TopicId;
use crate::panics::caught;

/// Members that are gone and may still ask why: the oldest are forgotten beyond this.
const REMEMBERED: usize = 1_024;
/// After a panic the assignor is called again after the first of these; the wait doubles up to the second.
const ASSIGN_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// See the module.
pub(crate) struct Coordinator {
    name: String,
    /// The directory's epoch: part of members' ids, so that none is used twice.
    epoch: u32,
    /// Of the first member; every other must ask for the same.
    assignor: Arc<dyn Assignor>,
    assignor_name: String,
    /// Why the assignor's last call gave nothing usable; `None` after one that did.
    assignor_failure: Option<String>,
    /// The assignor panicked: when it is called again, and the wait that led to this time.
    assign_again: Option<(Duration, Duration)>,
    topics: Arc<TopicTable>,
    generation: u32,
    last_member: u32,
    members: BTreeMap<String, Member>,
    /// Who holds a partition: granted, and not given back yet.
    holders: HashMap<TopicPartition, String>,
    /// Why each is gone, and its instance id.
    departed: BTreeMap<String, (Departure, Option<String>)>,
    /// Whether everybody holds what it should.
    settled: bool,
}

/// What someone wants to be a member with.
#[derive(Clone)]
pub(crate) struct Join {
    /// Begins the member's id, for people.
    pub(crate) client_id: String,
    /// Keeps its place while it is away for less than the session time-out.
    pub(crate) instance_id: Option<String>,
    pub(crate) subscription: Subscription,
    pub(crate) assignor: Arc<dyn Assignor>,
    /// What the assignor said it is called. Asked once, by the user's own thread: it is the user's code.
    pub(crate) assignor_name: String,
    /// `None`: only `max_poll_interval` counts.
    pub(crate) session_timeout: Option<Duration>,
    pub(crate) max_poll_interval: Duration,
}

impl Join {
    /// A member that shows no sign of life is removed after this time at the earliest.
    pub(crate) fn patience(&self) -> Duration {
        self.session_timeout.map_or(self.max_poll_interval, |session| session.min(self.max_poll_interval))
    }

    /// A member with an instance id keeps its place for this time after its handle is gone.
    pub(crate) fn place_kept(&self) -> Duration {
        self.session_timeout.unwrap_or(self.max_poll_interval)
    }
}

/// How a member shows that it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A call on its handle that is no poll.
    Call,
    /// A poll.
    Poll,
    /// A poll that waits as a future. After half of the member's patience the member is woken, so that
    /// whoever owns the future polls it; a future that nobody polls is no sign of life.
    Awaited,
}

struct Member {
    join: Join,
    /// Alive at least until then; the session time-out counts from here.
    heard: Duration,
    /// In a poll at least until then; the poll time-out counts from here.
    polled: Duration,
    /// When it is woken to show that somebody still polls its future.
    ask_at: Option<Duration>,
    /// Its handle is gone, its place is kept.
    away: bool,
    /// The generation it was last told of.
    generation: u32,
    /// What it should hold.
    target: BTreeSet<TopicPartition>,
    /// What nobody else may be granted, sorted: each commit is held against it.
    held: Vec<TopicPartition>,
    /// The part of `held` that it hasn't been told of.
    fresh: BTreeSet<TopicPartition>,
    /// Taken from it because the topic is gone; to be told.
    lost: BTreeSet<TopicPartition>,
    /// It holds what it should not.
    must_give: bool,
}

impl Member {
    /// What it should hold and doesn't.
    fn missing(&self) -> impl Iterator<Item = &TopicPartition> {
        self.target.iter().filter(|partition| self.held.binary_search(partition).is_err())
    }
}

/// Why someone is no member any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It left.
    Left,
    /// No call on its handle within the session time-out.
    TimedOut,
    /// No poll within the poll time-out.
    Stalled,
    /// Another member came with its instance id.
    Fenced,
}

/// What follows from an event, for the one who owns the coordinator to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// There is news for this member: it should not wait in its poll.
    Wake(String),
    /// The state is worth storing.
    Store,
    /// The last member is gone.
    Empty,
    /// This generation began, with so many members.
    Rebalanced(u32, usize),
    /// This member has nothing to do.
    Idle(String),
    /// This one is no member any more.
    Gone(String, Departure),
    /// The assignor panicked or gave what can't be used: the reason, and what was done instead.
    AssignorFailed(String),
}

/// What a member must do next, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The generation that its commits carry from now on.
    pub(crate) generation: u32,
    /// No longer there: forget them.
    pub(crate) lost: Vec<TopicPartition>,
    /// Finish with these and [`release`](Coordinator::release) them.
    pub(crate) revoked: Vec<TopicPartition>,
    /// Read these too.
    pub(crate) granted: Vec<TopicPartition>,
}

/// A group as it stands, for people and for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupView {
    pub(crate) generation: u32,
    pub(crate) assignor: String,
    /// Why the assignor's last call gave nothing usable.
    pub(crate) assignor_failure: Option<String>,
    /// Whether everybody holds what it should.
    pub(crate) stable: bool,
    pub(crate) members: Vec<MemberView>,
}

/// One of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberView {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    /// The topics it subscribed to that there are.
    pub(crate) topics: Vec<TopicId>,
    pub(crate) held: Vec<TopicPartition>,
    /// Its own, but still in another's hands.
    pub(crate) awaited: Vec<TopicPartition>,
}

impl Coordinator {
    /// A group without members; its generations go on from `generation`.
    pub(crate) fn new(name: &str, epoch: u32, generation: u32, topics: Arc<TopicTable>) -> Coordinator {
        Coordinator {
            name: name.to_owned(),
            epoch,
            assignor: Arc::new(Sticky),
            assignor_name: Sticky.name().to_owned(),
            assignor_failure: None,
            assign_again: None,
            topics,
            generation,
            last_member: 0,
            members: BTreeMap::new(),
            holders: HashMap::new(),
            departed: BTreeMap::new(),
            settled: true,
        }
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members that are alive, as far as is known.
    pub(crate) fn member_ids(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Topics came, went or grew.
    pub(crate) fn set_topics(&mut self, topics: Arc<TopicTable>, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        if *topics == *self.topics {
            return effects;
        }
        self.topics = topics;
        let partitions: HashMap<TopicId, u32> =
            self.topics.iter().map(|(_, id, partitions)| (id, partitions)).collect();
        let exists = |&(id, partition): &TopicPartition| partitions.get(&id).is_some_and(|&count| partition < count);
        let wanted = |member: &Member| {
            self.topics.iter().any(|(name, id, count)| {
                let has_all = (0..count).all(|partition| self.holders.contains_key(&(id, partition)));
                member.join.subscription.wants(name) && !has_all
            })
        };
        let mut changed = self.members.values().any(wanted);
        for (id, member) in &mut self.members {
            let (held, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut member.held).into_iter().partition(exists);
            member.held = held;
            for partition in gone {
                self.holders.remove(&partition);
                if !member.fresh.remove(&partition) {
                    member.lost.insert(partition);
                }
                changed = true;
            }
            let has_nothing = !self.topics.iter().any(|(name, ..)| member.join.subscription.wants(name));
            if !member.lost.is_empty() || has_nothing {
                effects.push(Effect::Wake(id.clone()));
            }
            member.target.retain(|partition| exists(partition));
        }
        if changed {
            self.rebalance(now, &mut effects);
        }
        effects
    }

    /// What the member must do now. From here on its generation is the newest.
    ///
    /// # Errors
    /// Those of [`heartbeat`](Coordinator::heartbeat).
    pub(crate) fn changes(&mut self, id: &str) -> Result<Changes> {
        let generation = self.generation;
        let member = self.member_mut(id)?;
        member.generation = generation;
        let lost = std::mem::take(&mut member.lost).into_iter().collect();
        let granted = std::mem::take(&mut member.fresh).into_iter().collect();
        let revoked = member.held.iter().filter(|held| !member.target.contains(held)).copied().collect();
        Ok(Changes { generation, lost, revoked, granted })
    }

    /// Whether [`changes`](Coordinator::changes) has anything but the generation.
    pub(crate) fn has_changes(&self, id: &str) -> bool {
        self.members.get(id).is_some_and(|member| {
            member.generation != self.generation
                || !member.lost.is_empty()
                || !member.fresh.is_empty()
                || member.must_give
        })
    }

    /// The member is done with these: they go to whom they are meant for.
    pub(crate) fn release(&mut self, id: &str, partitions: &[TopicPartition]) -> Result<Vec<Effect>> {
        let member = self.member_mut(id)?;
        let asked: BTreeSet<_> = partitions.iter().copied().collect();
        let all = std::mem::take(&mut member.held).into_iter();
        let (given, kept): (Vec<_>, Vec<_>) = all.partition(|held| asked.contains(held));
        member.held = kept;
        let mut effects = Vec::new();
        for partition in given {
            self.holders.remove(&partition);
        }
        self.reconcile(&mut effects);
        Ok(effects)
    }

    /// Tells of a partition whether this member may commit for it in this generation: it is in its hands.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownMember`], [`ErrorKind::FencedInstance`], [`ErrorKind::IllegalGeneration`].
    pub(crate) fn may_commit(&self, id: &str, generation: u32) -> Result<impl FnMut(TopicPartition) -> bool> {
        let member = self.members.get(id).ok_or_else(|| self.why_gone(id))?;
        if generation != member.generation {
            let (group, current) = (self.name.clone(), member.generation);
            return Err(Error::new(ErrorKind::IllegalGeneration { group, generation, current }));
        }
        // In order, as they mostly come, both lists are walked once.
        let mut held = member.held.iter().peekable();
        Ok(move |partition: TopicPartition| {
            while held.next_if(|held| **held < partition).is_some() {}
            held.peek() == Some(&&partition) || member.held.binary_search(&partition).is_ok()
        })
    }

    /// Gives out everything anew: the next generation. If the assignor panics, each member keeps what it
    /// has, and the assignor is called again later.
    fn rebalance(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let (input, ids) = self.subscriptions();
        let Some(assignment) = self.assign(&input, now, effects) else {
            self.reconcile(effects);
            effects.push(Effect::Store);
            return;
        };
        self.generation = self.generation.saturating_add(1);
        effects.push(Effect::Rebalanced(self.generation, self.members.len()));
        for ((id, member), partitions) in self.members.iter_mut().zip(assignment) {
            let was_idle = member.target.is_empty() && member.generation != 0;
            member.target = partitions.into_iter().map(|(topic, partition)| (ids[topic], partition)).collect();
            if member.target.is_empty() && !was_idle {
                effects.push(Effect::Idle(id.clone()));
            }
        }
        self.settled = false;
        if !self.reconcile(effects) {
            effects.push(Effect::Store);
        }
    }

    /// What each member is to have; `None` if the assignor panicked.
    fn assign(&mut self, input: &Subscriptions, now: Duration, effects: &mut Vec<Effect>) -> Option<Assignment> {
        let waited = self.assign_again.take().map_or(Duration::ZERO, |(_, waited)| waited);
        self.assignor_failure = None;
        if self.members.is_empty() {
            return Some(Assignment::new());
        }
        let (assignment, failure) = match caught(|| self.assignor.assign(input)) {
            Ok(assignment) => match input.check(&assignment) {
                Ok(()) => return Some(assignment),
                Err(error) => {
                    (Some(Sticky.assign(input)), format!("{error}; the assignment of the sticky assignor is used"))
                }
            },
            Err(panicked) => {
                let wait = (waited * 2).clamp(ASSIGN_AGAIN[0], ASSIGN_AGAIN[1]);
                self.assign_again = Some((now.saturating_add(wait), wait));
                (None, format!("{panicked}; members keep their partitions until it is called again"))
            }
        };
        effects.push(Effect::AssignorFailed(failure.clone()));
        self.assignor_failure = Some(failure);
        assignment
    }

    /// The assignor's input, and the id of each of its topics.
    fn subscriptions(&self) -> (Subscriptions, Vec<TopicId>) {
        let mut topics = Vec::new();
        let mut ids = Vec::new();
        for (name, id, partitions) in self.topics.iter() {
            if self.members.values().any(|member| member.join.subscription.wants(name)) {
                topics.push(TopicPartitions { name: name.to_owned(), partitions });
                ids.push(id);
            }
        }
        let places: HashMap<TopicId, usize> = ids.iter().enumerate().map(|(at, &id)| (id, at)).collect();
        let members = self.members.iter().map(|(id, member)| {
            let wants = |&at: &usize| member.join.subscription.wants(&topics[at].name);
            let wanted: Vec<usize> = (0..topics.len()).filter(wants).collect();
            let place = |&(topic, partition): &TopicPartition| Some((*places.get(&topic)?, partition));
            MemberSubscription {
                id: id.clone(),
                instance_id: member.join.instance_id.clone(),
                owned: member.target.iter().filter_map(place).collect(),
                topics: wanted,
                generation: None,
            }
        });
        let members = members.collect();
        // Topics come by name, each with a subscriber: they keep their places.
        (Subscriptions::new(topics, members), ids)
    }

    /// Grants what is free to those it is meant for. Whether everybody now holds what it should and
    /// didn't before.
    fn reconcile(&mut self, effects: &mut Vec<Effect>) -> bool {
        for member in self.members.values_mut() {
            // Never told of it: nobody has to ask.
            let untold: BTreeSet<_> = member.fresh.difference(&member.target).copied().collect();
            if untold.is_empty() {
                continue;
            }
            for partition in &untold {
                member.fresh.remove(partition);
                self.holders.remove(partition);
            }
            member.held.retain(|held| !untold.contains(held));
        }
        let mut settled = true;
        for (id, member) in &mut self.members {
            let mut granted = Vec::new();
            for &partition in member.missing() {
                if let std::collections::hash_map::Entry::Vacant(free) = self.holders.entry(partition) {
                    free.insert(id.clone());
                    granted.push(partition);
                } else {
                    settled = false;
                }
            }
            let is_granted = !granted.is_empty();
            member.fresh.extend(&granted);
            member.held.append(&mut granted);
            member.held.sort();
            member.must_give = member.held.iter().any(|held| !member.target.contains(held));
            settled &= !member.must_give;
            if member.must_give || is_granted {
                effects.push(Effect::Wake(id.clone()));
            }
        }
        let newly = settled && !self.settled;
        self.settled = settled;
        if newly {
            effects.push(Effect::Store);
        }
        newly
    }

    /// Who is in the group and holds what.
    pub(crate) fn view(&self) -> GroupView {
        let members = self.members.iter().map(|(id, member)| MemberView {
            id: id.clone(),
            instance_id: member.join.instance_id.clone(),
            topics: self
                .topics
                .iter()
                .filter(|(name, ..)| member.join.subscription.wants(name))
                .map(|(_, id, _)| id)
                .collect(),
            held: member.held.clone(),
            awaited: member.missing().copied().collect(),
        });
        GroupView {
            generation: self.generation,
            assignor: self.assignor_name.clone(),
            assignor_failure: self.assignor_failure.clone(),
            stable: self.settled && self.assign_again.is_none(),
            members: members.collect(),
        }
    }
}
