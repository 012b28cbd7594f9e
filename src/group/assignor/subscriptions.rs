//! What an assignor is given: topics with their partitions, members with what they want and have.
//!
//! Invariant: topics are in the order of their names and each has a subscriber; every index is in
//! bounds, every owned partition exists, and nothing stands twice in a member's lists.

use std::cmp::Ordering;

use crate::error::{Error, ErrorKind, Result};

/// The topics and members that partitions are assigned for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions {
    topics: Vec<TopicPartitions>,
    members: Vec<MemberSubscription>,
}

/// A topic, as far as an assignor needs to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicPartitions {
    /// Its name; no other topic of the input has it.
    pub name: String,
    /// How many partitions it has, numbered from 0.
    pub partitions: u32,
}

/// A member of a group: what it wants to read, and what it reads now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberSubscription {
    /// Its id; no other member of the input has it.
    pub id: String,
    /// The name it keeps over restarts, if it has one.
    pub instance_id: Option<String>,
    /// The topics it subscribes to: indexes of the input's topics.
    pub topics: Vec<usize>,
    /// The partitions it says it holds: index of the topic, and partition.
    pub owned: Vec<(usize, u32)>,
    /// The generation of the assignment that gave it these. Where two members claim a partition,
    /// the newer generation is right; `None` is older than all.
    pub generation: Option<u32>,
}

impl Subscriptions {
    /// Topics and members whose indexes point into `topics` as given here. What no assignor should
    /// have to deal with is left out: topics that nobody subscribes to, indexes out of bounds, what
    /// stands in a list twice, owned partitions that don't exist. The topics are then sorted by name,
    /// and the indexes follow them; the members keep their order.
    pub fn new(topics: Vec<TopicPartitions>, mut members: Vec<MemberSubscription>) -> Subscriptions {
        let mut places = vec![None; topics.len()];
        for &topic in members.iter().flat_map(|member| &member.topics) {
            if let Some(place) = places.get_mut(topic) {
                *place = Some(0);
            }
        }
        let mut kept: Vec<(usize, TopicPartitions)> =
            topics.into_iter().enumerate().filter(|&(topic, _)| places[topic].is_some()).collect();
        kept.sort_by(|(_, a), (_, b)| java_order(&a.name, &b.name));
        for (place, &(topic, _)) in kept.iter().enumerate() {
            places[topic] = Some(place);
        }
        let topics: Vec<TopicPartitions> = kept.into_iter().map(|(_, topic)| topic).collect();
        let place = |topic: usize| places.get(topic).copied().flatten();
        for member in &mut members {
            member.topics = member.topics.iter().filter_map(|&topic| place(topic)).collect();
            member.topics.sort_unstable();
            member.topics.dedup();
            let owned = member.owned.iter().filter_map(|&(topic, partition)| Some((place(topic)?, partition)));
            member.owned = owned.filter(|&(topic, partition)| partition < topics[topic].partitions).collect();
            member.owned.sort_unstable();
            member.owned.dedup();
        }
        Subscriptions { topics, members }
    }

    /// The topics that somebody subscribes to, by rising name (in Java's order of strings, as Kafka
    /// has it: by UTF-16 code units).
    pub fn topics(&self) -> &[TopicPartitions] {
        &self.topics
    }

    /// The members, in the order they were given in.
    pub fn members(&self) -> &[MemberSubscription] {
        &self.members
    }

    /// Whether `assignment` gives each partition of the topics to exactly one member, one that
    /// subscribes to it, and nothing else.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] names the first partition or member that doesn't fit.
    pub fn check(&self, assignment: &[Vec<(usize, u32)>]) -> Result<()> {
        if assignment.len() != self.members.len() {
            return wrong(format!("{} lists for {} members", assignment.len(), self.members.len()));
        }
        let starts = self.starts();
        let mut given = vec![false; starts.last().copied().unwrap_or(0)];
        for (member, list) in self.members.iter().zip(assignment) {
            for &(topic, partition) in list {
                let Some(TopicPartitions { name, .. }) =
                    self.topics.get(topic).filter(|topic| partition < topic.partitions)
                else {
                    return wrong(format!("member {:?} gets ({topic}, {partition}), which doesn't exist", member.id));
                };
                if member.topics.binary_search(&topic).is_err() {
                    return wrong(format!(
                        "member {:?} gets partition {partition} of {name:?}, which it doesn't subscribe to",
                        member.id
                    ));
                }
                if std::mem::replace(&mut given[starts[topic] + partition as usize], true) {
                    return wrong(format!("partition {partition} of {name:?} is given twice"));
                }
            }
        }
        match given.iter().position(|given| !given) {
            None => Ok(()),
            Some(left) => {
                let topic = starts.partition_point(|&start| start <= left) - 1;
                wrong(format!("nobody gets partition {} of {:?}", left - starts[topic], self.topics[topic].name))
            }
        }
    }

    /// The members' indexes in Kafka's order for `range` and `round-robin`: those with an instance
    /// id first, by it; then the others, by id.
    pub(super) fn static_first(&self) -> Vec<usize> {
        self.ordered(|a, b| match (&a.instance_id, &b.instance_id) {
            (Some(a_instance), Some(b_instance)) => java_order(a_instance, b_instance).then(java_order(&a.id, &b.id)),
            (None, None) => java_order(&a.id, &b.id),
            (a_instance, b_instance) => b_instance.is_some().cmp(&a_instance.is_some()),
        })
    }

    /// The members' indexes in Kafka's order for `sticky`: by id.
    pub(super) fn by_id(&self) -> Vec<usize> {
        self.ordered(|a, b| java_order(&a.id, &b.id))
    }

    fn ordered(&self, compare: impl Fn(&MemberSubscription, &MemberSubscription) -> Ordering) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_by(|&a, &b| compare(&self.members[a], &self.members[b]));
        order
    }

    /// Who subscribes to each topic: rising places in `order`, which lists the members.
    pub(super) fn subscribers(&self, order: &[usize]) -> Vec<Vec<usize>> {
        let mut subscribers = vec![Vec::new(); self.topics.len()];
        for (place, &member) in order.iter().enumerate() {
            for &topic in &self.members[member].topics {
                subscribers[topic].push(place);
            }
        }
        subscribers
    }

    /// The number of each topic's first partition when all partitions are numbered through, and at
    /// the end how many there are.
    pub(super) fn starts(&self) -> Vec<usize> {
        let mut starts = Vec::with_capacity(self.topics.len() + 1);
        starts.push(0);
        for (topic, start) in self.topics.iter().zip(0..) {
            let end: usize = starts[start] + topic.partitions as usize;
            starts.push(end);
        }
        starts
    }
}

/// As Java compares strings: by UTF-16 code units. Rust's order differs only where a character
/// beyond U+FFFF meets one from U+E000 on.
pub(super) fn java_order(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

fn wrong(what: String) -> Result<()> {
    Err(Error::new(ErrorKind::InvalidArgument { reason: format!("the assignment is not valid: {what}") }))
}
