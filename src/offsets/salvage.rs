//! What a damaged offset log still says, and of which groups it can't be sure.

use crate::error::Error;
use crate::ids::TopicId;

/// The file is damaged. Each whole entry counts, before or after the damage.
#[derive(Clone, Debug)]
pub(crate) struct OffsetDamage {
    /// What is wrong first: path, position and reason.
    pub(crate) error: Error,
    /// Groups whose newest commits may lie in the damage, by name.
    pub(crate) groups: Vec<GroupInDoubt>,
    /// Whether there may be groups besides, whose names lie in the damage.
    pub(crate) names_lost: bool,
}

/// A group that was known before damage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct GroupInDoubt {
    pub(crate) name: String,
    /// The partitions whose newest commit (or its deletion) stands behind all damage, sorted: these
    /// are sure. Of every other, the newest commit may be lost, also where none is known.
    pub(crate) sure: Vec<(TopicId, u32)>,
}

impl OffsetDamage {
    /// Whether a newer commit of this group for this partition may have been lost.
    pub(crate) fn in_doubt(&self, group: &str, topic_id: TopicId, partition: u32) -> bool {
        let known = self.groups.iter().find(|known| known.name == group);
        known.is_some_and(|known| known.sure.binary_search(&(topic_id, partition)).is_err())
    }
}
