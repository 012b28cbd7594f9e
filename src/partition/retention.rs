//! Dropping old segments: what the limits allow, and what is done once the log start is durable.

use std::sync::Arc;

use super::{FileChore, Partition};
use crate::config::TopicConfig;
use crate::segment::{Segment, index_path};

/// The log start that the topic's limits ask for: the base of the oldest segment that stays.
///
/// Only sealed segments go, oldest first, never past `durable`. A segment counts as at least as old
/// as any later one, so ages are taken by last append time (D: a wall clock set back drops nothing early).
pub(crate) fn start_by_limits(
    segments: &[Arc<Segment>],
    config: &TopicConfig,
    durable: u64,
    now_ms: i64,
) -> Option<u64> {
    let mut bytes: u64 = segments.iter().map(|segment| segment.published()).sum();
    let mut start = None;
    for segment in segments {
        let end = segment.end_offset();
        if end > durable {
            break;
        }
        let too_many = config.retention_bytes.is_some_and(|limit| bytes - segment.published() >= limit);
        let age = now_ms.saturating_sub(segment.appended_ms().max(segment.header().created_ms));
        let too_old = config.retention_ms.is_some_and(|limit| u64::try_from(age).is_ok_and(|age| age > limit));
        if !too_many && !too_old {
            break;
        }
        bytes -= segment.published();
        start = Some(end);
    }
    start
}

/// Drops what lies wholly below `offset`. The catalogue already says, durably, that the log starts there.
pub(crate) fn drop_before(partition: &Partition, offset: u64) {
    partition.progress.raise_log_start(offset);
    let dropped = partition.forget_segments_below(offset);
    if dropped.is_empty() {
        return;
    }
    let files = dropped.iter().flat_map(|segment| [index_path(segment.path()), segment.path().to_owned()]).collect();
    partition.env.chores.add(FileChore::Remove { files, dirs: Vec::new() });
}
