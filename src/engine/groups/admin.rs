//! What is done to a group from outside: its offsets set, copied, forgotten. Never to a live one.

use std::sync::Arc;

use super::{Committing, Group, Groups};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::TopicId;
use crate::lock::{lock, read};
use crate::offsets::NewCommit;
use crate::partition::{Partition, Reader};
use crate::teeth::bites;

/// Where a group's offsets are set to. What lies outside the log is moved to its start or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetTo {
    /// The log start of each partition.
    Earliest,
    /// The end of each partition: only what comes from now on.
    Latest,
    /// This offset.
    Offset(u64),
    /// The first record with at least this timestamp, in milliseconds since 1970; the end if all are
    /// earlier.
    Timestamp(i64),
}

/// What a reset does to one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetReset {
    /// The partition.
    pub partition: u32,
    /// The committed offset before.
    pub from: Option<u64>,
    /// The committed offset after.
    pub to: u64,
}

impl ResetTo {
    /// The offset it means in this partition.
    pub(in crate::engine) fn resolve(self, partition: &Arc<Partition>) -> Result<u64> {
        partition.refresh()?;
        let (start, end) = (partition.progress.log_start(), partition.progress.written());
        Ok(match self {
            ResetTo::Earliest => start,
            ResetTo::Latest => end,
            ResetTo::Offset(offset) => offset.clamp(start, end.max(start)),
            ResetTo::Timestamp(timestamp) => {
                let reader = Reader::new(partition.clone(), start, false);
                reader.offset_for_timestamp(timestamp)?.unwrap_or(end)
            }
        })
    }
}

impl Engine {
    /// Sets a group's committed offsets in all partitions of a topic. Blocks until that is durable; in async code:
    /// [`reset_group_async`](Engine::reset_group_async). With `dry_run` only says what that would do. The group need not exist.
    ///
    /// # Errors
    /// `GroupNotEmpty` while the group has members; `UnknownTopic`; `ReadOnly`; those of the offset log.
    pub fn reset_group(&self, group: &str, topic: &str, to: ResetTo, dry_run: bool) -> Result<Vec<OffsetReset>> {
        let groups = self.refreshed_groups()?;
        let topic = self.core.topic(topic)?;
        let known = groups.idle_group(group)?;
        let committed = |partition| {
            groups.offsets.with(|state| {
                state.group(group).and_then(|group| group.committed(&(topic.id, partition))).map(|commit| commit.offset)
            })
        };
        let mut resets = Vec::new();
        for partition in &topic.partitions {
            let (partition, to) = (partition.number, to.resolve(partition)?);
            resets.push(OffsetReset { partition, from: committed(partition), to });
        }
        if dry_run {
            return Ok(resets);
        }
        self.check_writable()?;
        let mut commits = Vec::new();
        for reset in &resets {
            let partition = &topic.partitions[reset.partition as usize];
            let epoch = Reader::epoch_before(partition, reset.to)?;
            let (topic_id, partition, offset) = (topic.id, reset.partition, reset.to);
            commits.push(NewCommit { topic_id, partition, offset, epoch, metadata: &[], start: false });
        }
        self.commit_for(&known, &commits)?;
        Ok(resets)
    }

    /// Forgets a group and its committed offsets. Blocks until that is durable; in async code:
    /// [`delete_group_async`](Engine::delete_group_async).
    ///
    /// # Errors
    /// `GroupNotEmpty` while it has members; `UnknownGroup`; `ReadOnly`; those of the offset log.
    pub fn delete_group(&self, group: &str) -> Result<()> {
        let groups = self.refreshed_groups()?;
        self.check_writable()?;
        groups.idle_group(group)?;
        groups.must_be_stored(group)?;
        let ticket = groups.offsets.delete_group(group, self.core.env.clock.wall_ms())?;
        if bites("group-deletion-not-synced") {
            return Ok(());
        }
        groups.offsets.sync_to(ticket)
    }

    /// Gives a group the committed offsets of another, and the places where the other begins without one. Blocks
    /// until that is durable; in async code: [`copy_group_async`](Engine::copy_group_async). A standby takes over
    /// where the other was. Returns how many committed offsets that were.
    ///
    /// # Errors
    /// `UnknownGroup` for `from`; `GroupNotEmpty` while `to` has members; `ReadOnly`; those of the
    /// offset log.
    pub fn copy_group(&self, from: &str, to: &str) -> Result<usize> {
        let groups = self.refreshed_groups()?;
        self.check_writable()?;
        groups.must_be_stored(from)?;
        let known = groups.idle_group(to)?;
        let live: Vec<TopicId> = read(&self.core.topics).values().map(|topic| topic.id).collect();
        let copied: Vec<_> = groups.offsets.with(|state| {
            // What was committed before a group began anew comes first.
            let commits = state.group(from).into_iter().flat_map(|group| group.overtaken.iter().chain(&group.commits));
            commits.filter(|((id, _), _)| live.contains(id)).map(|(key, commit)| (*key, commit.clone())).collect()
        });
        let commits: Vec<_> = copied
            .iter()
            .map(|((topic_id, partition), commit)| NewCommit {
                topic_id: *topic_id,
                partition: *partition,
                offset: commit.offset,
                epoch: commit.epoch,
                metadata: &commit.metadata,
                start: commit.start,
            })
            .collect();
        self.commit_for(&known, &commits)?;
        Ok(commits.iter().filter(|commit| !commit.start).count())
    }

    /// Commits for a group without members, synced.
    fn commit_for(&self, group: &Group, commits: &[NewCommit<'_>]) -> Result<()> {
        let groups = &self.core.groups;
        let behind: Vec<_> = {
            let topics = read(&self.core.topics);
            let partition = |commit: &NewCommit<'_>| {
                let topic = topics.values().find(|topic| topic.id == commit.topic_id)?;
                let partition = topic.partition(commit.partition).ok()?.clone();
                let run = partition.progress.run();
                Some((partition, commit.offset, run))
            };
            let behind = commits.iter().filter_map(partition);
            // Of a copied commit the records may have been lost: there is nothing to wait for then.
            let is_behind =
                |of: &Partition, offset: u64| (of.progress.durable() + 1..=of.progress.written()).contains(&offset);
            behind.filter(|(of, offset, _)| is_behind(of, *offset)).collect()
        };
        if !bites("offsets-set-before-their-records") {
            self.core.sync_up_to(&behind)?;
        }
        let committed = group.commit(groups, &Committing { member: None, commits })?;
        let Some(ticket) = committed.ticket else { return Ok(()) };
        // It may stand before an expansion again that it had come past (G7).
        let mut state = lock(&group.state);
        for commit in commits {
            state.fences.remove(&commit.topic_id);
            state.passed.remove(&commit.topic_id);
        }
        drop(state);
        if bites("offsets-set-not-synced") {
            return Ok(());
        }
        groups.offsets.sync_to(ticket)
    }

    fn check_writable(&self) -> Result<()> {
        match self.core.read_only {
            true => Err(Error::new(ErrorKind::ReadOnly).at_path(&self.core.dir)),
            false => Ok(()),
        }
    }
}

impl Groups {
    /// The group, if it has no members.
    fn idle_group(&self, name: &str) -> Result<Arc<Group>> {
        let group = self.group(name)?;
        self.tick();
        let state = lock(&group.state);
        if !state.coordinator.is_empty() {
            return Err(group.alive(&state));
        }
        drop(state);
        Ok(group)
    }

    fn must_be_stored(&self, name: &str) -> Result<()> {
        let known = self.offsets.with(|state| state.group(name).is_some());
        if known { Ok(()) } else { Err(Error::new(ErrorKind::UnknownGroup { group: name.to_owned() })) }
    }
}
