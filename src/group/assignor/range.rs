//! Each topic by itself, in consecutive stretches.

use super::{Assignment, Assignor, Subscriptions};

/// Gives each topic's partitions in consecutive stretches to its subscribers, as Kafka's
/// `RangeAssignor` does (without racks).
///
/// Topics with equally many partitions and the same subscribers are co-partitioned: who reads
/// partition 3 of one reads partition 3 of the other, which a join needs. What doesn't divide evenly
/// goes to the first members, of each topic anew: with many small topics they read far more than the
/// last.
///
/// Members with an instance id come first, by it; then the others, by id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range;

impl Assignor for Range {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, input: &Subscriptions) -> Assignment {
        let order = input.static_first();
        let mut assignment = vec![Vec::new(); order.len()];
        for (topic, subscribers) in input.subscribers(&order).iter().enumerate() {
            let partitions = input.topics()[topic].partitions;
            let (each, extras) = (partitions / subscribers.len() as u32, partitions % subscribers.len() as u32);
            let mut begin = 0;
            for (&place, nth) in subscribers.iter().zip(0..) {
                let end = begin + each + u32::from(nth < extras);
                assignment[order[place]].extend((begin..end).map(|partition| (topic, partition)));
                begin = end;
            }
        }
        assignment
    }
}
