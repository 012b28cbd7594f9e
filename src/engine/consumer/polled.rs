//! What a poll returns.

use crate::partition::Batch;

/// What a poll returned: batches, each of one partition, in that partition's order.
#[derive(Debug, Default)]
pub struct Polled {
    pub(super) batches: Vec<Batch>,
    pub(super) held: Vec<Held>,
}

/// A partition that has records its group must not see yet: the topic got more partitions, and the
/// group has not come to the end of every old one. See [`TopicConfig::fence`](crate::TopicConfig).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// The topic.
    pub topic: String,
    /// The partition that is held.
    pub partition: u32,
    /// An old partition in which the group must come further first.
    pub waits_for: u32,
    /// How far it must commit there (exclusive).
    pub until_offset: u64,
    /// How far it has come there.
    pub reached_offset: u64,
}

impl Polled {
    /// The batches.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// Whether the time passed without a record.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The partitions of this consumer that are held back after their topic got more partitions.
    pub fn held(&self) -> &[Held] {
        &self.held
    }
}

impl IntoIterator for Polled {
    type Item = Batch;
    type IntoIter = std::vec::IntoIter<Batch>;

    fn into_iter(self) -> Self::IntoIter {
        self.batches.into_iter()
    }
}

impl<'a> IntoIterator for &'a Polled {
    type Item = &'a Batch;
    type IntoIter = std::slice::Iter<'a, Batch>;

    fn into_iter(self) -> Self::IntoIter {
        self.batches.iter()
    }
}
