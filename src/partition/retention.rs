//! Sealing and dropping old segments: what the limits ask for, and what is done once the log start is durable.

use std::sync::Arc;

use super::{FileChore, Partition};
use crate::config::TopicConfig;
use crate::format::BLOCK_BYTES;
use crate::lock::{Ordering, read, write};
use crate::segment::Segment;

/// A segment that began later than this from now began while the clock was ahead.
const CLOCK_AHEAD_MS: i64 = 60_000;

/// The log start that the topic's limits ask for: the base of the oldest segment that stays.
///
/// Only sealed segments go, oldest first, never past `durable`. Ages are taken by last append time, and
/// a segment counts as at least as old as any later one: one that was written while the clock stood in
/// the future, or whose times aren't known, doesn't stay for ever.
pub(crate) fn start_by_limits(
    segments: &[Arc<Segment>],
    config: &TopicConfig,
    durable: u64,
    now_ms: i64,
) -> Option<u64> {
    let droppable = segments.iter().take_while(|segment| segment.end_offset() <= durable).count();
    let mut appended_ms = i64::MAX;
    let is_old = |appended_ms: i64| {
        let age = now_ms.saturating_sub(appended_ms);
        config.retention_ms.is_some_and(|limit| u64::try_from(age).is_ok_and(|age| age > limit))
    };
    let mut old = 0;
    for (number, segment) in segments.iter().enumerate().rev() {
        let known = if segment.knows_times() { segment.appended_ms() } else { i64::MAX };
        appended_ms = appended_ms.min(known.max(segment.header().created_ms));
        if is_old(appended_ms) {
            old = number + 1;
            break;
        }
    }
    let mut bytes: u64 = segments.iter().map(|segment| segment.published()).sum();
    let mut start = None;
    for (number, segment) in segments[..droppable].iter().enumerate() {
        let too_many = config.retention_bytes.is_some_and(|limit| bytes - segment.published() >= limit);
        if !too_many && number >= old {
            break;
        }
        bytes -= segment.published();
        start = Some(segment.end_offset());
    }
    start
}

/// Drops what lies wholly below `offset`. The catalogue already says, durably, that the log starts there.
pub(crate) fn drop_before(partition: &Arc<Partition>, offset: u64) {
    partition.progress.raise_log_start(offset);
    let segments = partition.forget_segments_below(offset);
    if !segments.is_empty() {
        partition.env.chores.add(FileChore::Dropped { partition: partition.clone(), segments });
    }
}

impl Partition {
    /// Whether the last segment is to be sealed by its age: if it has records, and its oldest is too old, or of a time
    /// that has not come yet, from which no age follows.
    pub(crate) fn is_last_too_old(&self, now_ms: i64) -> bool {
        let Some(limit) = self.config().sealed_after_ms() else { return false };
        let last = read(&self.segments).last_key_value().map(|(_, segment)| segment.clone());
        let Some(segment) = last.filter(|segment| segment.published() > BLOCK_BYTES) else { return false };
        let is_over = |since_ms: i64| {
            let age = now_ms.saturating_sub(since_ms);
            age < -CLOCK_AHEAD_MS || u64::try_from(age).is_ok_and(|age| age >= limit)
        };
        // No record is older than the file; when the first one came may have to be read.
        is_over(segment.header().created_ms) && is_over(segment.began_ms(&*self.env.disk, &self.env.views))
    }

    /// Learns when the sealed segments that may be too old were appended to last, where recovery left that open.
    pub(crate) fn learn_times(&self, now_ms: i64) {
        let Some(limit) = self.config().retention_ms else { return };
        for segment in self.segments() {
            let age = now_ms.saturating_sub(segment.header().created_ms);
            if segment.is_sealed() && !segment.knows_times() && u64::try_from(age).is_ok_and(|age| age > limit) {
                segment.complete_times(&*self.env.disk, &self.env.views);
            }
        }
    }

    /// Has the writer seal the last segment, if it is too old.
    pub(crate) fn seal_by_age(&self, now_ms: i64) {
        if self.is_last_too_old(now_ms) && !self.progress.is_failed() {
            self.seal_asked.store(true, Ordering::SeqCst);
            self.notify_writer();
        }
    }

    /// Drops segments below the log start from the list; what their files are called.
    pub(crate) fn forget_segments_below(&self, offset: u64) -> Vec<Arc<Segment>> {
        let mut segments = write(&self.segments);
        let dropped: Vec<_> = segments
            .range(..offset)
            .filter(|(_, segment)| segment.end_offset() <= offset)
            .map(|(base, _)| *base)
            .collect();
        dropped.iter().filter_map(|base| segments.remove(base)).collect()
    }
}
