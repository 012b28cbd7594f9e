//! Committing how far a group has come.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Consumer;
use super::builder::StartPolicy;
use crate::config::Acks;
use crate::engine::Engine;
use crate::engine::core::{Behind, synced_up_to};
use crate::engine::groups::{Committed, Committing};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::TopicId;
use crate::offsets::{NewCommit, Ticket};
use crate::partition::{Driven, Partition, Reader};

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
    behind: Vec<Behind>,
    ticket: Ticket,
    /// What could not be committed, to be told when the rest is safe.
    failure: Option<Error>,
}

/// What was appended of a commit, and why the rest wasn't.
struct Appended {
    ticket: Option<Ticket>,
    failure: Option<Error>,
}

impl CommitReceipt {
    /// Blocks until the commit survives power loss. In async code: `.await` the receipt.
    ///
    /// # Errors
    /// Those of the offset log, and of the partitions that had to be synced first. `RebalanceInProgress` names
    /// the partitions that are others' now; the rest of the commit is durable then.
    pub fn wait(self) -> Result<()> {
        self.engine.core.sync_up_to(&self.behind)?;
        self.engine.core.groups.offsets.sync_to(self.ticket)?;
        self.failure.map_or(Ok(()), Err)
    }
}

/// Done when the commit survives power loss. The offset log is synced by one of the engine's threads, for all commits
/// that wait at that time.
impl IntoFuture for CommitReceipt {
    type Output = Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let CommitReceipt { engine, behind, ticket, failure } = self;
        let partitions = Box::pin(async move { synced_up_to(&behind).await });
        let partitions = Driven::new(&engine.core.env, partitions);
        let groups = engine.core.groups.clone();
        let commit = engine.core.calls.make(move || groups.offsets.sync_to(ticket));
        Box::pin(async move {
            // Until then: closing waits for the commit, and it is closed with its last handle.
            let _open = engine;
            partitions.await?;
            commit.await?;
            failure.map_or(Ok(()), Err)
        })
    }
}

impl std::fmt::Debug for CommitReceipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitReceipt").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl Consumer {
    /// Commits the positions of all partitions: everything that polls have returned. Blocks until that is as safe as
    /// [`commit_acks`](super::ConsumerBuilder::commit_acks) says; in async code: [`commit_async`](Consumer::commit_async).
    ///
    /// # Errors
    /// `RebalanceInProgress` names the partitions that are others' now, or whose topic was deleted: all others
    /// are committed, poll to go on. `UnknownMember`, `IllegalGeneration`, `FencedInstance` if this consumer is
    /// no member any more: nothing was committed, poll again. `InvalidArgument` for a consumer without a group.
    /// `NoRoom` or `Failed` of the offset log. If one partition fails, its error comes after all others are
    /// committed.
    pub fn commit(&mut self) -> Result<()> {
        let acks = self.in_group()?.settings.commit_acks;
        self.commit_at(acks)
    }

    /// [`commit`](Consumer::commit), as safe as it is said here.
    ///
    /// # Errors
    /// As [`commit`](Consumer::commit).
    pub fn commit_at(&mut self, acks: Acks) -> Result<()> {
        let appended = self.append_positions()?;
        self.finish(appended, acks)
    }

    /// [`commit`](Consumer::commit), written when this returns and durable when its receipt says so. It waits for no sync,
    /// but when the offset log has doubled (4 MiB at least): then it is compacted first.
    ///
    /// # Errors
    /// As [`commit`](Consumer::commit), but for partitions that could not be committed: the receipt tells of them.
    pub fn commit_async(&mut self) -> Result<CommitReceipt> {
        let appended = self.append_positions()?;
        Ok(self.receipt(appended))
    }

    fn finish(&self, appended: Appended, acks: Acks) -> Result<()> {
        match acks {
            Acks::Synced => self.receipt(appended).wait(),
            _ => appended.failure.map_or(Ok(()), Err),
        }
    }

    /// Appends the positions that aren't committed yet.
    fn append_positions(&mut self) -> Result<Appended> {
        self.in_group()?;
        let mut commits = Vec::with_capacity(self.set.len());
        let mut failed = Vec::new();
        for assigned in self.set.iter_mut() {
            if assigned.committed != Some(assigned.position) {
                let (topic_id, partition) = assigned.key();
                let offset = assigned.position;
                match assigned.epoch_before() {
                    Ok(epoch) => {
                        commits.push(NewCommit { topic_id, partition, offset, epoch, metadata: &[], start: false })
                    }
                    Err(error) => failed.push((assigned.partition.clone(), error)),
                }
            }
        }
        let (mut left, mut failure) = (Vec::new(), None);
        for (partition, error) in failed {
            match self.is_gone(&partition) {
                true => left.push((partition.topic.to_string(), partition.number)),
                false => failure = failure.or(Some(error)),
            }
        }
        // In the order of the group's own list of what its members hold.
        commits.sort_unstable_by_key(|commit| (commit.topic_id, commit.partition));
        let made: Vec<_> = commits.iter().map(|commit| (commit.topic_id, commit.partition, commit.offset)).collect();
        self.append(&commits, &made, left, failure)
    }

    /// Whether the partition's topic was deleted, of which the next poll tells.
    fn is_gone(&self, partition: &Partition) -> bool {
        match self.engine.core.topic(&partition.topic) {
            Ok(topic) => topic.id != partition.log.topic_id,
            Err(error) => matches!(error.kind(), ErrorKind::UnknownTopic { .. }),
        }
    }

    /// A receipt for what was just committed.
    fn receipt(&self, Appended { ticket, failure }: Appended) -> CommitReceipt {
        let upto = self.set.iter().filter_map(|assigned| Some((&assigned.partition, assigned.committed?)));
        let behind = upto.filter(|(partition, offset)| partition.progress.durable() < *offset);
        let behind = behind.filter(|_| !crate::teeth::bites("commit-before-its-records"));
        let behind = behind.map(|(partition, offset)| (partition.clone(), offset, partition.progress.run())).collect();
        // With nothing new, what was committed unsynced before, by whichever member, is to be safe too.
        let ticket = ticket.unwrap_or_else(|| self.engine.core.groups.offsets.end());
        CommitReceipt { engine: self.engine.clone(), behind, ticket, failure }
    }

    /// Commits these offsets in one batch: after a crash all are there, or none. Blocks if they are to be *synced*; in
    /// async code: [`commit_offsets_async`](Consumer::commit_offsets_async).
    ///
    /// # Errors
    /// As [`commit`](Consumer::commit): partitions that are others' now are named, and the rest is committed.
    /// Nothing is committed with `OffsetOutOfRange` for an offset beyond the end or below the log start, and
    /// with `InvalidArgument` for a partition that can't be this consumer's, one named twice, or more than
    /// 4,096 bytes of metadata.
    pub fn commit_offsets(&mut self, offsets: impl IntoIterator<Item = OffsetCommit>, acks: Acks) -> Result<()> {
        let appended = self.append_offsets(offsets)?;
        self.finish(appended, acks)
    }

    /// [`commit_offsets`](Consumer::commit_offsets), written when this returns and durable when its receipt says so.
    ///
    /// # Errors
    /// As [`commit_offsets`](Consumer::commit_offsets), but for partitions that could not be committed: the receipt tells
    /// of them.
    pub fn commit_offsets_async(&mut self, offsets: impl IntoIterator<Item = OffsetCommit>) -> Result<CommitReceipt> {
        let appended = self.append_offsets(offsets)?;
        Ok(self.receipt(appended))
    }

    fn append_offsets(&mut self, offsets: impl IntoIterator<Item = OffsetCommit>) -> Result<Appended> {
        let is_member = self.in_group()?.membership.is_some();
        let (mut items, mut left, mut failure) = (Vec::new(), Vec::new(), None);
        for commit in offsets {
            let OffsetCommit { topic, partition: number, offset, metadata } = commit;
            if metadata.len() > MAX_METADATA_BYTES {
                let reason =
                    format!("{} bytes of metadata are more than the limit of {MAX_METADATA_BYTES}", metadata.len());
                return Err(Error::invalid(reason).at_partition(&topic, number));
            }
            let partition = match self.set.get(&topic, number) {
                Ok(assigned) => assigned.partition.clone(),
                Err(_) if is_member && self.may_have_been(&topic, number) => {
                    left.push((topic, number));
                    continue;
                }
                Err(error) => return Err(error),
            };
            check_within(&partition, offset)?;
            match Reader::epoch_before(&partition, offset) {
                Ok(epoch) => items.push((partition.log.topic_id, number, offset, epoch, metadata)),
                Err(_) if self.is_gone(&partition) => left.push((topic, number)),
                Err(error) => failure = failure.or(Some(error)),
            }
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
                start: false,
            })
            .collect();
        let made: Vec<_> = items.iter().map(|item| (item.0, item.1, item.2)).collect();
        self.append(&commits, &made, left, failure)
    }

    /// Whether a member may have had this partition before: the topic has it, or was deleted.
    fn may_have_been(&self, topic: &str, partition: u32) -> bool {
        match self.engine.core.topic(topic) {
            Ok(topic) => topic.partition(partition).is_ok(),
            Err(error) => matches!(error.kind(), ErrorKind::UnknownTopic { .. }),
        }
    }

    /// Appends commits, written; and looks whether the group may read on (G7). `made` says what they commit, by
    /// place. `left` are partitions that aren't this member's any more, and `failure` is what one of its own
    /// says.
    fn append(
        &mut self,
        commits: &[NewCommit<'_>],
        made: &[(TopicId, u32, u64)],
        mut left: Vec<(String, u32)>,
        failure: Option<Error>,
    ) -> Result<Appended> {
        self.touch();
        let in_group = self.in_group()?;
        in_group.check_member()?;
        let committing = Committing { member: in_group.identity(), commits };
        let group = in_group.group.name.clone();
        let Committed { ticket, refused } = in_group.group.commit(&self.engine.core.groups, &committing)?;
        for assigned in self.set.iter_mut() {
            if let Ok(at) = made.binary_search_by_key(&assigned.key(), |made| (made.0, made.1)) {
                match refused.contains(&assigned.key()) {
                    true => left.push((assigned.partition.topic.to_string(), assigned.partition.number)),
                    false => assigned.committed = Some(made[at].2),
                }
            }
        }
        if ticket.is_some() {
            self.engine.core.background.committed();
            if self.limited {
                self.set_limits();
            }
        }
        left.sort_unstable();
        let rest = (!left.is_empty()).then(|| Error::new(ErrorKind::RebalanceInProgress { group, partitions: left }));
        Ok(Appended { ticket, failure: failure.or(rest) })
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
        let committed = match self.group.as_ref().map(|in_group| in_group.settings.commit_acks) {
            Some(Acks::Synced) if self.polled_by_task => {
                self.commit_async().map(|receipt| self.committing = Some(receipt.into_future()))
            }
            _ => self.commit(),
        };
        self.auto_committed(committed);
    }

    /// The task's part of an automatic commit: its end is awaited.
    pub(super) fn poll_auto_commit(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(committing) = &mut self.committing else { return Poll::Ready(()) };
        committing.as_mut().poll(context).map(|committed| {
            self.committing = None;
            self.auto_committed(committed);
        })
    }

    fn auto_committed(&self, committed: Result<()>) {
        match committed {
            // It is told so in the poll that follows.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnknownMember { .. }
                        | ErrorKind::FencedInstance { .. }
                        | ErrorKind::RebalanceInProgress { .. }
                ) => {}
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
            let commit = state.group(&in_group.group.name)?.committed(&(id, partition))?;
            let (offset, committed_ms) = (commit.offset, commit.committed_ms);
            Some(CommittedOffset { offset, metadata: commit.metadata.to_vec(), committed_ms })
        }))
    }

    /// After `OffsetOutOfRange`: where the policy says to go on, if there is one. The group begins anew there.
    pub(super) fn start_anew(&self, partition: &Arc<Partition>, position: u64) -> Result<Option<u64>> {
        let Some(in_group) = &self.group else { return Ok(None) };
        if in_group.settings.start == StartPolicy::Error || position > partition.progress.log_start() {
            return Ok(None);
        }
        let to = self.by_policy(in_group, partition)?;
        self.tell_reset(partition, Some(position), to, "the records from there on are no longer kept");
        self.begins_anew(partition, to);
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
