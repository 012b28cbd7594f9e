//! Equally many for everyone, moving as little as possible.
//!
//! Two algorithms behind one name, as in Kafka: a short one where all subscriptions are equal, and
//! the general one. Both work on *ranks*, places in the order of member ids, and on partitions
//! *numbered through* all topics.

mod constrained;
mod general;
mod ownership;

#[cfg(test)]
pub(super) use ownership::CONTESTED;
pub(super) use ownership::{NOBODY, owners};

use super::{Assignment, Assignor, MemberSubscription, Subscriptions};

/// Keeps every partition where it is as long as the balance allows it: Kafka's `StickyAssignor`, and
/// the target of its `CooperativeStickyAssignor` (KIP-54, KIP-429).
///
/// With equal subscriptions nobody has two partitions more than another, and only what must moves:
/// when a member leaves, its own partitions; when one joins, what it is short of. With unequal
/// subscriptions no partition could go to a subscriber with at least two fewer.
///
/// What a member says it owns counts if the partition exists and no member of a newer generation
/// claims it; two claims of the same generation are both void. Ties go to the smaller member id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sticky;

impl Assignor for Sticky {
    fn name(&self) -> &str {
        "sticky"
    }

    fn assign(&self, input: &Subscriptions) -> Assignment {
        let ranked = Ranked::new(input);
        let equal = input.members().windows(2).all(|pair| pair[0].topics == pair[1].topics);
        let by_rank = if equal { constrained::assign(&ranked) } else { general::assign(&ranked) };
        let mut assignment = vec![Vec::new(); input.members().len()];
        for (&member, list) in ranked.order.iter().zip(by_rank) {
            assignment[member] = list;
        }
        assignment
    }
}

/// The input with its members ranked and its partitions numbered through.
pub(super) struct Ranked<'a> {
    input: &'a Subscriptions,
    /// The members' indexes, by id.
    order: Vec<usize>,
    /// The number of each topic's first partition, and at the end how many there are.
    starts: Vec<usize>,
}

impl<'a> Ranked<'a> {
    pub(super) fn new(input: &'a Subscriptions) -> Ranked<'a> {
        Ranked { input, order: input.by_id(), starts: input.starts() }
    }

    /// The members by rising rank.
    fn members(&self) -> impl Iterator<Item = &'a MemberSubscription> {
        self.order.iter().map(|&member| &self.input.members()[member])
    }

    fn member(&self, rank: u32) -> &'a MemberSubscription {
        &self.input.members()[self.order[rank as usize]]
    }

    fn subscribes(&self, rank: u32, topic: usize) -> bool {
        self.member(rank).topics.binary_search(&topic).is_ok()
    }

    /// How many partitions there are in all.
    fn total(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The number of a partition of a topic.
    pub(super) fn number(&self, (topic, partition): (usize, u32)) -> usize {
        self.starts[topic] + partition as usize
    }

    /// All partitions by rising number: topics by name, and within them partitions.
    fn partitions(&self) -> impl Iterator<Item = (usize, u32)> {
        let topics = self.input.topics().iter().enumerate();
        topics.flat_map(|(index, topic)| (0..topic.partitions).map(move |partition| (index, partition)))
    }

    /// The partitions of each rank, where `owners` says who has which.
    fn lists(&self, owners: &[u32]) -> Assignment {
        let mut lists = vec![Vec::new(); self.order.len()];
        for (partition, &owner) in self.partitions().zip(owners) {
            if let Some(list) = lists.get_mut(owner as usize) {
                list.push(partition);
            }
        }
        lists
    }
}
