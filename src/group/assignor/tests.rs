//! What the tests of assignors share. `vectors`: Kafka's own outcomes. `invariants`: what holds for
//! any input. `literal`: the general sticky algorithm in Kafka's words, against ours.

mod invariants;
mod literal;
mod vectors;

use std::collections::BTreeSet;

use super::sticky::{CONTESTED, NOBODY, Ranked, owners};
use super::{Assignment, MemberSubscription, Subscriptions, TopicPartitions};

fn topics(partitions: &[u32]) -> Vec<TopicPartitions> {
    // Names that sort as the indexes do.
    partitions.iter().zip(0..).map(|(&partitions, nth)| topic(&format!("t{nth:04}"), partitions)).collect()
}

fn topic(name: &str, partitions: u32) -> TopicPartitions {
    TopicPartitions { name: name.into(), partitions }
}

fn member(id: &str, topics: &[usize]) -> MemberSubscription {
    MemberSubscription { id: id.into(), topics: topics.into(), ..MemberSubscription::default() }
}

/// The same members, all of one generation, owning what `assignment` gives them.
fn settled(input: &Subscriptions, assignment: &Assignment) -> Subscriptions {
    let members = input.members().iter().zip(assignment);
    let members = members.map(|(member, owned)| MemberSubscription {
        owned: owned.clone(),
        generation: Some(1_000_000),
        ..member.clone()
    });
    Subscriptions::new(input.topics().to_vec(), members.collect())
}

/// Whether all members subscribe to the same topics.
fn equal(input: &Subscriptions) -> bool {
    input.members().windows(2).all(|pair| pair[0].topics == pair[1].topics)
}

/// Partitions that one member gets and another may still be reading: what a cooperative rebalance
/// withholds. Kafka's rule: with equal subscriptions what was cut from its rightful owner, or claimed
/// twice; else what one member gains and another that said it owns it doesn't keep.
fn in_transfer(input: &Subscriptions, target: &Assignment) -> BTreeSet<(usize, u32)> {
    let mut found = BTreeSet::new();
    let ranked = Ranked::new(input);
    let (order, owners) = (input.by_id(), owners(&ranked));
    let equal = equal(input);
    for (index, (member, list)) in input.members().iter().zip(target).enumerate() {
        for partition in list {
            let moves = if equal {
                match owners[ranked.number(*partition)] {
                    NOBODY => false,
                    CONTESTED => true,
                    owner => order[owner as usize] != index,
                }
            } else {
                let others = input.members().iter().enumerate().filter(|&(other, _)| other != index);
                !member.owned.contains(partition)
                    && others.into_iter().any(|(_, other)| other.owned.contains(partition))
            };
            if moves {
                found.insert(*partition);
            }
        }
    }
    found
}

/// Whether a partition could move to a subscriber that has at least two fewer.
fn can_improve(input: &Subscriptions, assignment: &Assignment) -> bool {
    let loads: Vec<usize> = assignment.iter().map(Vec::len).collect();
    assignment.iter().enumerate().any(|(owner, list)| {
        list.iter().any(|(topic, _)| {
            let subscribed = input.members().iter().enumerate().filter(|(_, member)| member.topics.contains(topic));
            subscribed.into_iter().any(|(other, _)| loads[other] + 2 <= loads[owner])
        })
    })
}
