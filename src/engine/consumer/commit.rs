//! Committing how far a group has come.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::Consumer;
use super::builder::StartPolicy;
use crate::config::Acks;
use crate::engine::Engine;
use crate::engine::groups::Committing;
use crate::error::{Error, ErrorKind, Result};
use crate::offsets::{NewCommit, Ticket};
use crate::partition::{Partition, Reader};

/// The most bytes that may be committed beside an offset.
const MAX_METADATA_BYTES: usize = 4_096;

/// An offset to commit: the next to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) offset: u64,
    pub(super) metadata: Vec<u8>,
}

impl OffsetCommit {
    /// Everything below `offset` (exclusive) is processed.
    pub fn new(topic: impl Into<String>, partition: u32, offset: u64) -> OffsetCommit {
        OffsetCommit { topic: topic.into(), partition, offset, metadata: Vec::new() }
    }

    /// Bytes to be kept with it, at most 4,096.
    pub fn metadata(mut self, metadata: impl Into<Vec<u8>>) -> OffsetCommit {
        self.metadata = metadata.into();
        self
    }
}

/// A committed offset as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedOffset {
    /// The next to be read.
    pub offset: u64,
    /// What was committed with it.
    pub metadata: Vec<u8>,
    /// When, in milliseconds since 1970.
    pub committed_ms: i64,
}

/// A commit that is written and becomes durable when somebody waits, or within `sync_ms`.
#[must_use = "what isn't waited for may be lost with the power"]
pub struct CommitReceipt {
    engine: Engine,
    /// The partitions that must be durable first, up to where, and the run of their numbering.
    behind: Vec<(Arc<Partition>, u64, u32)>,
    ticket: Ticket,
}

impl CommitReceipt {
    /// Waits until the commit survives power loss.
    ///
    /// # Errors
    /// Those of the offset log, and of the partitions that had to be synced first.
    pub fn wait(self) -> Result<()> {
        self.engine.core.sync_up_to(&self.behind)?;
        self.engine.core.groups.offsets.sync_to(self.ticket)
    }
}

/// Done when the commit survives power loss.
///
/// The partitions' syncs are awaited; the offset log's own sync, if nobody else does it first, is
/// done by the task that awaits.
impl IntoFuture for CommitReceipt {
    type Output = Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            for (partition, offset, _) in &self.behind {
                partition.want_sync(*offset);
            }
            for (partition, offset, run) in &self.behind {
                partition.acknowledged(Acks::Synced, *offset, *run).await?;
            }
            self.engine.core.groups.offsets.sync_to(self.ticket)
        })
    }
}

impl std::fmt::Debug for CommitReceipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitReceipt").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl Consumer {
    /// Commits the positions of all partitions: everything that polls have returned. How safe that is
    /// when it returns was set by [`commit_acks`](super::ConsumerBuilder::commit_acks).
    ///
    /// # Errors
    /// `UnknownMember`, `IllegalGeneration`, `FencedInstance`, `RebalanceInProgress` if partitions are
    /// others' now: nothing was committed, poll again. `InvalidArgument` for a consumer without a
    /// group. `NoRoom` or `Failed` of the offset log.
    pub fn commit(&mut self) -> Result<()> {
        let acks = self.in_group()?.settings.commit_acks;
        self.commit_at(acks)
    }

    /// [`commit`](Consumer::commit), as safe as it is said here.
    ///
    /// # Errors
    /// As [`commit`](Consumer::commit).
    pub fn commit_at(&mut self, acks: Acks) -> Result<()> {
        let ticket = self.append_positions()?;
        if acks == Acks::Synced { self.receipt(ticket).wait() } else { Ok(()) }
    }

    /// [`commit`](Consumer::commit), written when this returns and durable when its receipt says so.
    ///
    /// # Errors
    /// As [`commit`](Consumer::commit).
    pub fn commit_async(&mut self) -> Result<CommitReceipt> {
        let ticket = self.append_positions()?;
        Ok(self.receipt(ticket))
    }

    /// Appends the positions that aren't committed yet.
    fn append_positions(&mut self) -> Result<Option<Ticket>> {
        self.in_group()?;
        let mut commits = Vec::with_capacity(self.set.len());
        let mut failed = None;
        for assigned in self.set.iter_mut() {
            if assigned.committed != Some(assigned.position) {
                let (topic_id, partition) = assigned.key();
                let offset = assigned.position;
                match assigned.epoch_before() {
                    Ok(epoch) => commits.push(NewCommit { topic_id, partition, offset, epoch, metadata: &[] }),
                    Err(error) => failed = Some((assigned.partition.clone(), error)),
                }
            }
        }
        if let Some((partition, error)) = failed {
            return Err(self.gone_or(&partition, error));
        }
        // In the order of the group's own list of what its members hold.
        commits.sort_unstable_by_key(|commit| (commit.topic_id, commit.partition));
        let ticket = self.append(&commits)?;
        for assigned in self.set.iter_mut() {
            assigned.committed = Some(assigned.position);
        }
        Ok(ticket)
    }

    /// Why a partition couldn't be read: its topic was deleted, which the next poll tells, or the error.
    fn gone_or(&self, partition: &Partition, error: Error) -> Error {
        let found = self.engine.core.topic(&partition.topic);
        match &self.group {
            Some(in_group) if !found.is_ok_and(|topic| topic.id == partition.log.topic_id) => {
                Error::new(ErrorKind::RebalanceInProgress { group: in_group.group.name.clone() })
            }
            _ => error,
        }
    }

    /// A receipt for what was just committed.
    fn receipt(&self, ticket: Option<Ticket>) -> CommitReceipt {
        let upto = self.set.iter().filter_map(|assigned| Some((&assigned.partition, assigned.committed?)));
        let behind = upto.filter(|(partition, offset)| partition.progress.durable() < *offset);
        let behind = behind.filter(|_| !crate::teeth::bites("commit-before-its-records"));
        let behind = behind.map(|(partition, offset)| (partition.clone(), offset, partition.progress.run())).collect();
        // With nothing new, what was committed unsynced before, by whichever member, is to be safe too.
        let ticket = ticket.unwrap_or_else(|| self.engine.core.groups.offsets.end());
        CommitReceipt { engine: self.engine.clone(), behind, ticket }
    }

    /// Commits these offsets, all or none.
    ///
    /// # Errors
    /// As [`commit`](Consumer::commit); `OffsetOutOfRange` for an offset beyond the end or below the
    /// log start; `InvalidArgument` for a partition that isn't assigned here, one named twice, or
    /// more than 4,096 bytes of metadata.
    pub fn commit_offsets(&mut self, offsets: impl IntoIterator<Item = OffsetCommit>, acks: Acks) -> Result<()> {
        self.in_group()?;
        let mut items = Vec::new();
        for commit in offsets {
            let OffsetCommit { topic, partition: number, offset, metadata } = commit;
            if metadata.len() > MAX_METADATA_BYTES {
                let reason =
                    format!("{} bytes of metadata are more than the limit of {MAX_METADATA_BYTES}", metadata.len());
                return Err(Error::invalid(reason).at_partition(&topic, number));
            }
            let partition = self.set.get(&topic, number)?.partition.clone();
            check_within(&partition, offset)?;
            let epoch = Reader::epoch_before(&partition, offset).map_err(|error| self.gone_or(&partition, error))?;
            items.push((partition.log.topic_id, number, offset, epoch, metadata));
        }
        items.sort_unstable_by_key(|item| (item.0, item.1));
        if items.windows(2).any(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1)) {
            return Err(Error::invalid("a partition is named twice in one commit"));
        }
        let commits: Vec<_> = items
            .iter()
            .map(|(topic_id, partition, offset, epoch, metadata)| NewCommit {
                topic_id: *topic_id,
                partition: *partition,
                offset: *offset,
                epoch: *epoch,
                metadata,
            })
            .collect();
        let ticket = self.append(&commits)?;
        for assigned in self.set.iter_mut() {
            if let Ok(at) = items.binary_search_by_key(&assigned.key(), |item| (item.0, item.1)) {
                assigned.committed = Some(items[at].2);
            }
        }
        if acks == Acks::Synced { self.receipt(ticket).wait() } else { Ok(()) }
    }

    /// Appends commits, written; and looks whether the group may read on (G7).
    fn append(&mut self, commits: &[NewCommit<'_>]) -> Result<Option<Ticket>> {
        self.touch();
        let in_group = self.in_group()?;
        in_group.check_member()?;
        let committing = Committing { member: in_group.identity(), commits };
        let ticket = in_group.group.commit(&self.engine.core.groups, &committing)?;
        if ticket.is_some() {
            self.engine.core.background.committed();
            if self.limited {
                self.set_limits();
            }
        }
        Ok(ticket)
    }

    /// Commits by itself if it is time: what the poll before returned is processed now.
    pub(super) fn auto_commit_if_due(&mut self) {
        let now = self.engine.core.env.clock.monotonic();
        let Some(in_group) = &mut self.group else { return };
        let Some(every) = in_group.settings.auto_commit else { return };
        if now.saturating_sub(in_group.committed_at) >= every {
            in_group.committed_at = now;
            self.auto_commit_now();
        }
    }

    pub(super) fn auto_commit_now(&mut self) {
        if self.group.as_ref().is_none_or(|in_group| in_group.settings.auto_commit.is_none()) {
            return;
        }
        match self.commit() {
            // It is told so in the poll that follows.
            Err(error)
                if matches!(error.kind(), ErrorKind::UnknownMember { .. } | ErrorKind::FencedInstance { .. }) => {}
            Err(error) => self.auto_commit_failed(error),
            Ok(()) => {}
        }
    }

    /// What the group committed for a partition, by whichever member, if anything.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`; `InvalidArgument` for a consumer without a group.
    pub fn committed(&self, topic: &str, partition: u32) -> Result<Option<CommittedOffset>> {
        self.touch();
        let in_group = self.in_group()?;
        let id = self.engine.core.topic(topic)?.partition(partition)?.log.topic_id;
        Ok(self.engine.core.groups.offsets.with(|state| {
            let commit = state.group(&in_group.group.name)?.commits.get(&(id, partition))?;
            let (offset, committed_ms) = (commit.offset, commit.committed_ms);
            Some(CommittedOffset { offset, metadata: commit.metadata.to_vec(), committed_ms })
        }))
    }

    /// After `OffsetOutOfRange`: where the policy says to go on, if there is one.
    pub(super) fn start_anew(&self, partition: &Arc<Partition>, position: u64) -> Result<Option<u64>> {
        let Some(in_group) = &self.group else { return Ok(None) };
        if in_group.settings.start == StartPolicy::Error || position > partition.progress.log_start() {
            return Ok(None);
        }
        let to = self.by_policy(in_group, partition)?;
        self.tell_reset(partition, position, to, "the records from there on are no longer kept");
        Ok(Some(to))
    }
}

fn check_within(partition: &Partition, offset: u64) -> Result<()> {
    let (start, end) = (partition.progress.log_start(), partition.progress.written());
    if offset < start || offset > end {
        return Err(Error::new(ErrorKind::OffsetOutOfRange { requested: offset, start, end })
            .at_partition(&partition.topic, partition.number));
    }
    Ok(())
}
