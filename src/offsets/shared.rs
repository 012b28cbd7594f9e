//! The offset log as threads share it: one short lock for appending and looking, another for the
//! turn to sync.
//!
//! Whoever has the turn syncs for all that was appended before, without the first lock: the others
//! append meanwhile, and those who wait find their commit durable when their turn comes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::format::GroupSnapshot;
use crate::ids::{EngineId, TopicId};
use crate::keyed::Cut;
use crate::lock::{Mutex, OnceLock, lock};
use crate::partition::Evidence;

use super::log::{LogFile, OffsetLog};
use super::salvage::OffsetDamage;
use super::state::{NewCommit, OffsetState};

/// An entry's place in the order of all: what [`Offsets::sync_to`] waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Ticket(pub(super) u64);

/// See the module.
#[derive(Debug)]
pub(crate) struct Offsets {
    pub(super) log: Mutex<OffsetLog>,
    /// Held while the disk syncs; taken before `log`, never while holding it.
    turn: Mutex<()>,
    /// Where each sync is noted.
    evidence: OnceLock<Arc<Evidence>>,
}

impl Offsets {
    /// Opens the newest file in `dir`, if there is one; says what was cut off its end. `epoch` is what
    /// batches carry at least; before one is written, [`set_epoch`](Offsets::set_epoch) says more. Entries below `proven` are known to have
    /// been durable from elsewhere.
    ///
    /// # Errors
    /// [`NewerFormat`](crate::ErrorKind::NewerFormat), and those of the disk. Damage is no error: see
    /// [`damage`](Offsets::damage).
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        engine_id: EngineId,
        epoch: u32,
        access: Access,
        proven: u64,
    ) -> Result<(Offsets, Option<Cut>)> {
        let (log, cut) = OffsetLog::open(disk, dir, engine_id, epoch, access, proven)?;
        Ok((Offsets { log: Mutex::new(log), turn: Mutex::new(()), evidence: OnceLock::new() }, cut))
    }

    /// The epoch that batches carry from now on: higher than in any earlier life.
    pub(crate) fn set_epoch(&self, epoch: u32) {
        lock(&self.log).set_epoch(epoch);
    }

    /// The newest epoch that the file speaks of, and its path; `None` if there is no file.
    pub(crate) fn newest_epoch(&self) -> Option<(PathBuf, u32)> {
        lock(&self.log).newest_epoch()
    }

    /// Notes each sync there from now on.
    pub(crate) fn note_syncs(&self, evidence: Arc<Evidence>) {
        let _ = self.evidence.set(evidence);
    }

    /// Has the log compacted as soon as that halves it, however small it is.
    #[cfg(feature = "sim")]
    pub(crate) fn compact_early(&self) {
        lock(&self.log).compact_from = 0;
    }

    /// What is wrong with the file, if anything is: then every write is refused.
    pub(crate) fn damage(&self) -> Option<OffsetDamage> {
        lock(&self.log).damage().cloned()
    }

    /// Why it takes nothing more, if it is damaged, or an earlier write or sync failed.
    pub(crate) fn failure(&self) -> Option<Error> {
        match &lock(&self.log).file {
            LogFile::Open(log) => log.failure().cloned(),
            LogFile::Damaged(damage) => Some(damage.error.clone()),
            LogFile::Failed(error) => Some(error.clone()),
            LogFile::None => None,
        }
    }

    /// The error, if opening found one, that kept commits which were only written from the drive.
    pub(crate) fn take_not_written(&self) -> Option<Error> {
        match &mut lock(&self.log).file {
            LogFile::Open(log) => log.take_not_written(),
            _ => None,
        }
    }

    /// Looks at the state, under the lock.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&OffsetState) -> R) -> R {
        f(lock(&self.log).state())
    }

    /// Writes commits of a group, all or none; of two for one partition the later counts.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a name, offset, topic or metadata that can't be;
    /// [`NoRoom`](crate::ErrorKind::NoRoom): nothing was written, the log goes on;
    /// [`Failed`](crate::ErrorKind::Failed), [`Corrupt`](crate::ErrorKind::Corrupt),
    /// [`ReadOnly`](crate::ErrorKind::ReadOnly): nothing can be.
    pub(crate) fn commit(
        &self,
        group: &str,
        generation: u32,
        commits: &[NewCommit<'_>],
        now_ms: i64,
    ) -> Result<Ticket> {
        lock(&self.log).commit(group, generation, commits, now_ms)
    }

    /// Writes who the members are; the group need not be known. Errors as of [`commit`](Offsets::commit).
    pub(crate) fn put_state(
        &self,
        group: &str,
        generation: u32,
        snapshot: &GroupSnapshot,
        now_ms: i64,
    ) -> Result<Ticket> {
        lock(&self.log).put_state(group, generation, snapshot, now_ms)
    }

    /// Writes that the members are gone: from now on expiry counts. Errors as of [`commit`](Offsets::commit).
    pub(crate) fn put_empty(&self, group: &str, generation: u32, now_ms: i64) -> Result<Ticket> {
        lock(&self.log).put_empty(group, generation, now_ms)
    }

    /// Deletes those commits of a group that there are, all or none. Errors as of [`commit`](Offsets::commit).
    #[cfg(feature = "sim")]
    pub(crate) fn delete_commits(&self, group: &str, partitions: &[(TopicId, u32)], now_ms: i64) -> Result<Ticket> {
        lock(&self.log).delete_commits(group, partitions, now_ms)
    }

    /// Deletes a group and all it committed; one that isn't known is fine. Errors as of
    /// [`commit`](Offsets::commit).
    pub(crate) fn delete_group(&self, group: &str, now_ms: i64) -> Result<Ticket> {
        lock(&self.log).delete_group(group, now_ms)
    }

    /// Returns when everything up to the ticket survives power loss. One sync serves all who wait.
    ///
    /// # Errors
    /// [`NoRoom`](crate::ErrorKind::NoRoom): it may be called again. [`Failed`](crate::ErrorKind::Failed) if this or
    /// an earlier sync or write failed, and what the ticket stands for isn't durable.
    pub(crate) fn sync_to(&self, ticket: Ticket) -> Result<()> {
        if lock(&self.log).is_durable(ticket) {
            return Ok(());
        }
        let _turn = lock(&self.turn);
        let Some(syncing) = lock(&self.log).start_sync(ticket)? else { return Ok(()) };
        let result = syncing.run();
        let mut log = lock(&self.log);
        let finished = log.finish_sync(&syncing, result, ticket);
        if let Some(evidence) = self.evidence.get()
            && finished.is_ok()
        {
            // Before anybody is told.
            evidence.note_offset_log(log.durable_end());
        }
        finished
    }

    /// [`sync_to`](Offsets::sync_to) for all that was written.
    pub(crate) fn sync_all(&self) -> Result<()> {
        self.sync_to(self.end())
    }

    /// What everything written so far lies below.
    pub(crate) fn end(&self) -> Ticket {
        lock(&self.log).end()
    }

    /// Entries below this (exclusive) survive power loss.
    pub(crate) fn durable_end(&self) -> u64 {
        lock(&self.log).durable_end()
    }

    pub(crate) fn has_unsynced(&self) -> bool {
        lock(&self.log).has_unsynced()
    }

    /// Whether [`write_ahead`](Offsets::write_ahead) would make the next commits cheaper.
    pub(crate) fn wants_zeros(&self) -> bool {
        lock(&self.log).wants_zeros()
    }

    /// Writes zeros behind the end, where the next commits will stand: they cost less there. Nobody waits long
    /// for it.
    pub(crate) fn write_ahead(&self) {
        while lock(&self.log).write_ahead() {}
    }

    /// Forgets the commits of topics that are gone; which those were, by group. Writes nothing: the
    /// catalogue knows, and the next compaction leaves them out.
    pub(crate) fn keep_topics(&self, live: impl Fn(TopicId) -> bool) -> Vec<(String, TopicId)> {
        lock(&self.log).keep_topics(live)
    }

    /// Takes nothing any more: the directory is about to be another's.
    pub(crate) fn close(&self) {
        lock(&self.log).close();
    }

    /// Opened for reading: takes in what was written since. True if anything was.
    pub(crate) fn refresh(&self) -> Result<bool> {
        lock(&self.log).refresh()
    }
}
