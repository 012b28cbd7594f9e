//! Which member of a group reads which partition: the assignors, and the way to bring your own.
//!
//! The three that are here are Apache Kafka's, and give what Kafka's classes of these names give:
//!
//! | assignor | gives | moves |
//! |---|---|---|
//! | [`Sticky`] (the default) | everyone equally many, as far as subscriptions allow | only what must move |
//! | [`RoundRobin`] | one partition after the other to one member after the other | nearly everything |
//! | [`Range`] | each topic by itself, in consecutive stretches: topics of equal count are co-partitioned | a lot |
//!
//! `Sticky` is the algorithm of KIP-54 with the generations of KIP-429 (incremental cooperative
//! rebalancing). An assignor says who is to have what in the end; that nobody reads a partition
//! before its last reader let go of it is the group's business, not the assignor's.
//!
//! # An assignor of your own
//!
//! Implement [`Assignor`]; [`Subscriptions::check`] tells in a test whether what it gives is whole.
//!
//! ```
//! use thalweg::assignor::{Assignment, Assignor, MemberSubscription, Subscriptions, TopicPartitions};
//!
//! /// Everything to the member with the smallest id; the others stand by.
//! struct OneAtATime;
//!
//! impl Assignor for OneAtATime {
//!     fn name(&self) -> &str {
//!         "one-at-a-time"
//!     }
//!
//!     fn assign(&self, input: &Subscriptions) -> Assignment {
//!         let mut assignment = vec![Vec::new(); input.members().len()];
//!         for (topic, TopicPartitions { partitions, .. }) in input.topics().iter().enumerate() {
//!             let subscribed = input.members().iter().enumerate().filter(|(_, member)| member.topics.contains(&topic));
//!             if let Some((reader, _)) = subscribed.min_by_key(|(_, member)| &member.id) {
//!                 assignment[reader].extend((0..*partitions).map(|partition| (topic, partition)));
//!             }
//!         }
//!         assignment
//!     }
//! }
//!
//! let topics = vec![TopicPartitions { name: "orders".into(), partitions: 3 }];
//! let members = ["b", "a"].map(|id| MemberSubscription { id: id.into(), topics: vec![0], ..Default::default() });
//! let input = Subscriptions::new(topics, members.into());
//! let assignment = OneAtATime.assign(&input);
//! assert_eq!(assignment, [vec![], vec![(0, 0), (0, 1), (0, 2)]]);
//! input.check(&assignment)?;
//! # Ok::<(), thalweg::Error>(())
//! ```

mod range;
mod round_robin;
mod sticky;
mod subscriptions;
#[cfg(test)]
mod tests;

pub use range::Range;
pub use round_robin::RoundRobin;
pub use sticky::Sticky;
pub use subscriptions::{MemberSubscription, Subscriptions, TopicPartitions};

/// What each member is to read: a list of (index in [`Subscriptions::topics`], partition) for each
/// of [`Subscriptions::members`], in their order.
pub type Assignment = Vec<Vec<(usize, u32)>>;

/// Decides which member of a group reads which partition.
///
/// The same input must give the same assignment, whoever computes it, and each partition must go to
/// exactly one member that subscribes to its topic: see [`Subscriptions::check`]. If it doesn't, the assignment
/// of [`Sticky`] is used. If the assignor panics, members keep what they have and it is called again later; see
/// [`GroupDescription::assignor_failure`](crate::GroupDescription::assignor_failure).
///
/// It is called while its group is locked: it must not use the engine.
pub trait Assignor: Send + Sync {
    /// What the assignor is called, such as `sticky`. Members of a group must agree on it.
    fn name(&self) -> &str;

    /// The whole target: every partition of the input's topics, those that must still be taken from
    /// another member too. The order within a member's list doesn't matter.
    fn assign(&self, input: &Subscriptions) -> Assignment;
}
