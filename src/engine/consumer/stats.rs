//! A consumer in numbers.

use super::Consumer;
use crate::error::Result;

/// How far a consumer is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// Its id in its group, while it is a member.
    pub member_id: Option<String>,
    /// The generation that it follows.
    pub generation: u32,
    /// Its partitions, by topic and number.
    pub partitions: Vec<PartitionStats>,
}

/// How far a consumer is in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionStats {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset that the next poll begins with.
    pub position: u64,
    /// What this consumer last committed, or found committed.
    pub committed: Option<u64>,
    /// The end of what it may read now (exclusive).
    pub end_offset: u64,
    /// Whether it is paused.
    pub paused: bool,
}

impl PartitionStats {
    /// Records between position and end.
    pub fn lag(&self) -> u64 {
        self.end_offset.saturating_sub(self.position)
    }
}

impl Consumer {
    /// Records of a partition between this consumer's position and the end.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition isn't assigned to this consumer.
    pub fn lag(&self, topic: &str, partition: u32) -> Result<u64> {
        self.touch();
        let assigned = self.set.get(topic, partition)?;
        Ok(assigned.readable().saturating_sub(assigned.position))
    }

    /// Positions, commits and lag of all its partitions.
    pub fn stats(&self) -> ConsumerStats {
        let partitions = self.set.iter().map(|assigned| PartitionStats {
            topic: assigned.partition.topic.to_string(),
            partition: assigned.partition.number,
            position: assigned.position,
            committed: assigned.committed,
            end_offset: assigned.readable(),
            paused: assigned.paused,
        });
        ConsumerStats {
            member_id: self.member_id().map(str::to_owned),
            generation: self.generation(),
            partitions: partitions.collect(),
        }
    }
}
