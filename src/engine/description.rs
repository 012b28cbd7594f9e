//! What an engine tells of its directory: what opening found, what topics hold.

use std::path::PathBuf;

use crate::config::TopicConfig;
use crate::error::Error;
use crate::ids::TopicId;
use crate::partition::Doubt;

/// What opening the directory found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Recovery {
    /// Whether the engine that had it open before was closed; else it died, or another still writes.
    pub clean: bool,
    /// Whether a sync failed it, as far as that is known.
    pub sync_failed: bool,
    /// The partitions where something was cut or is damaged; all others are whole.
    pub partitions: Vec<PartitionRecovery>,
    /// Files of deleted topics that could not be removed, and why. They take room and do no other harm; each
    /// opening tries again.
    pub not_removed: Vec<Error>,
}

impl Recovery {
    /// Of what was just made: nothing was there.
    pub(super) fn none() -> Recovery {
        Recovery { clean: true, sync_failed: false, partitions: Vec::new(), not_removed: Vec::new() }
    }

    /// What is in doubt of the partitions.
    pub(super) fn doubt(&self) -> Doubt {
        match (self.clean, self.sync_failed) {
            (true, _) => Doubt::Nothing,
            (false, false) => Doubt::Tail,
            (false, true) => Doubt::Memory,
        }
    }
}

/// What opening found in one partition.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PartitionRecovery {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The end offset after recovery (exclusive).
    pub end_offset: u64,
    /// Bytes of an unfinished tail that no longer count.
    pub cut_bytes: u64,
    /// The file whose tail it was.
    pub cut_path: Option<PathBuf>,
    /// Where in that file what counts ends.
    pub cut_position: u64,
    /// Damage at or below what was durable: appends are refused, what is intact stays readable.
    pub damage: Option<Error>,
}

/// A topic, described.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// The life of the topic: another one of the same name has another id.
    pub id: TopicId,
    /// Its settings.
    pub config: TopicConfig,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: i64,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition, described.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number.
    pub partition: u32,
    /// The first offset that is kept (inclusive).
    pub log_start_offset: u64,
    /// Below it everything survives power loss (exclusive).
    pub durable_offset: u64,
    /// Below it everything is in the file (exclusive).
    pub end_offset: u64,
    /// How many segment files there are.
    pub segments: usize,
    /// Bytes in them.
    pub bytes: u64,
    /// Why it takes no records, if it takes none.
    pub failure: Option<Error>,
}
