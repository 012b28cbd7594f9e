//! One partition after the other to one member after the other.

use super::{Assignment, Assignor, Subscriptions};

/// Deals all partitions of all topics to the members in turn, as Kafka's `RoundRobinAssignor` does.
///
/// With equal subscriptions everyone gets equally many, give or take one. With unequal ones the turn
/// passes over members that don't subscribe, and some may end up with much less than others, or with
/// nothing.
///
/// Members with an instance id come first, by it; then the others, by id. Topics come by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundRobin;

impl Assignor for RoundRobin {
    fn name(&self) -> &str {
        "round-robin"
    }

    fn assign(&self, input: &Subscriptions) -> Assignment {
        let order = input.static_first();
        let mut assignment = vec![Vec::new(); order.len()];
        // Whose turn it is: a place in `order`, or one behind the last, which means the first.
        let mut turn = 0;
        for (topic, subscribers) in input.subscribers(&order).iter().enumerate() {
            let first = subscribers.partition_point(|&place| place < turn);
            let places = subscribers.iter().cycle().skip(first);
            for (partition, &place) in (0..input.topics()[topic].partitions).zip(places) {
                assignment[order[place]].push((topic, partition));
                turn = place + 1;
            }
        }
        assignment
    }
}
