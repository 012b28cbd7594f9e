//! The offset log of one owner: a keyed log over an [`OffsetState`].

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    BLOCK_BYTES, BatchHeader, FileKind, FormatError, GroupSnapshot, MAX_METADATA_BYTES, MAX_OFFSET, OffsetEntry,
    OffsetEntryKind,
};
use crate::ids::{EngineId, TopicId};
use crate::keyed::{Cut, KeyedLog, Opened, Piece, Syncing, is_damage, refused};

use super::PREFIX;
use super::salvage::{OffsetDamage, Salvager};
use super::shared::Ticket;
use super::state::{NewCommit, OffsetState, blank, check_name};

/// Below this size the file is never compacted.
pub(super) const COMPACT_BYTES: u64 = 4 << 20;

/// After a compaction that found no room: how much is appended before the next try.
const RETRY_BYTES: u64 = 64 << 10;

/// How large a compacted log's batches get.
const BODY_BYTES: usize = 1 << 20;

/// How often a reader looks again at what its writer replaces meanwhile.
const LOOKS: u32 = 100;

/// What is kept of the memory that a batch was put together in.
const BUFFER_BYTES: usize = 1 << 20;

/// See the module. One thread at a time.
#[derive(Debug)]
pub(super) struct OffsetLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    engine_id: EngineId,
    epoch: u32,
    access: Access,
    /// Entries below were durable, as the catalogue says.
    proven: u64,
    pub(super) file: LogFile,
    state: OffsetState,
    /// Where batches are put together; empty between calls.
    buffer: Vec<u8>,
    /// Below this size the file is never compacted.
    pub(super) compact_from: u64,
    /// The same after a compaction that found no room.
    retry_from: u64,
}

/// What stands in the directory.
#[derive(Debug)]
pub(super) enum LogFile {
    /// Nothing: there was never a group.
    None,
    Open(Box<KeyedLog>),
    /// Something that can be read in part, and not written.
    Damaged(OffsetDamage),
    /// Making it failed.
    Failed(Error),
}

impl OffsetLog {
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        engine_id: EngineId,
        epoch: u32,
        access: Access,
        proven: u64,
    ) -> Result<(OffsetLog, Option<Cut>)> {
        let mut log = OffsetLog {
            disk,
            dir: dir.to_owned(),
            engine_id,
            epoch,
            access,
            proven,
            file: LogFile::None,
            state: OffsetState::default(),
            buffer: Vec::new(),
            compact_from: COMPACT_BYTES,
            retry_from: 0,
        };
        let cut = log.load()?;
        Ok((log, cut))
    }

    /// Reads the newest file from its start.
    fn load(&mut self) -> Result<Option<Cut>> {
        self.file = LogFile::None;
        let mut looks = 1;
        loop {
            self.state = OffsetState::default();
            let mut replay = |header: &BatchHeader, body: &[u8]| replay(&mut self.state, header, body);
            let (disk, engine_id) = (self.disk.clone(), Some(self.engine_id));
            let opened = KeyedLog::open_proven(
                disk,
                &self.dir,
                PREFIX,
                FileKind::Offsets,
                engine_id,
                self.access,
                self.proven,
                &mut replay,
            );
            match opened {
                Ok(None) if self.proven > 0 => {
                    let reason = format!("the offset log is missing, though it had {} entries", self.proven);
                    self.file = LogFile::Damaged(OffsetDamage::all(Error::corrupt(reason).at_path(&self.dir)));
                    return Ok(None);
                }
                Ok(None) => return Ok(None),
                Ok(Some(Opened { mut log, cut })) => {
                    log.set_epoch(self.epoch);
                    self.file = LogFile::Open(Box::new(log));
                    return Ok(cut);
                }
                Err(error) if is_damage(&error) => {
                    if self.salvage()? {
                        return Ok(None);
                    }
                    // A live writer has put another file in its place meanwhile.
                    if looks == LOOKS {
                        return Err(error);
                    }
                    looks += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what is left of a damaged file; false if it isn't damaged.
    fn salvage(&mut self) -> Result<bool> {
        let mut salvager = Salvager::default();
        let mut each = |piece: Piece<'_>| salvager.take(piece);
        KeyedLog::salvage(&self.disk, &self.dir, PREFIX, FileKind::Offsets, self.engine_id, self.proven, &mut each)?;
        let (state, damage) = salvager.finish();
        self.state = state;
        let Some(damage) = damage else { return Ok(false) };
        self.file = LogFile::Damaged(damage);
        Ok(true)
    }

    pub(super) fn set_epoch(&mut self, epoch: u32) {
        self.epoch = self.epoch.max(epoch);
        if let LogFile::Open(log) = &mut self.file {
            log.set_epoch(epoch);
        }
    }

    pub(super) fn newest_epoch(&self) -> Option<(PathBuf, u32)> {
        let of_entries = self.state.newest_epoch();
        match &self.file {
            LogFile::Open(log) => Some((log.path().to_owned(), of_entries.max(log.epoch()))),
            LogFile::Damaged(damage) => {
                let path = damage.error.path().unwrap_or(&self.dir);
                Some((path.to_owned(), of_entries.max(damage.epoch)))
            }
            LogFile::None | LogFile::Failed(_) => None,
        }
    }

    pub(super) fn state(&self) -> &OffsetState {
        &self.state
    }

    pub(super) fn damage(&self) -> Option<&OffsetDamage> {
        match &self.file {
            LogFile::Damaged(damage) => Some(damage),
            _ => None,
        }
    }

    pub(super) fn commit(
        &mut self,
        group: &str,
        generation: u32,
        commits: &[NewCommit<'_>],
        now_ms: i64,
    ) -> Result<Ticket> {
        for commit in commits {
            check_commit(commit)?;
        }
        let entries_of = |number| {
            commits.iter().map(move |&NewCommit { topic_id, partition, offset, epoch, metadata, start }| OffsetEntry {
                offset,
                topic_id,
                partition,
                generation,
                epoch,
                start,
                payload: metadata,
                ..blank(OffsetEntryKind::Commit, number)
            })
        };
        let fill = |number, body: &mut Vec<u8>| entries_of(number).map(|entry| u64::from(entry.encode(body))).sum();
        match self.state.number(group) {
            None => self.write_of(group, now_ms, fill),
            // What was just put together need not be taken apart again.
            Some(number) => {
                let take_in = |state: &mut OffsetState, _: &[u8], _| {
                    state.commit(number, entries_of(number), now_ms);
                    Ok(())
                };
                self.write_then(now_ms, |_, body| fill(number, body), take_in)
            }
        }
    }

    pub(super) fn put_state(
        &mut self,
        group: &str,
        generation: u32,
        snapshot: &GroupSnapshot,
        now_ms: i64,
    ) -> Result<Ticket> {
        let (offset, epoch) = (now_ms.max(0) as u64, self.epoch);
        let mut payload = Vec::new();
        snapshot.encode(&mut payload).map_err(|error| Error::invalid(error.to_string()))?;
        self.write_of(group, now_ms, |number, body| {
            let entry = blank(OffsetEntryKind::GroupState, number);
            let entries = OffsetEntry { offset, generation, epoch, payload: &payload, ..entry }.encode(body);
            u64::from(entries)
        })
    }

    pub(super) fn put_empty(&mut self, group: &str, generation: u32, now_ms: i64) -> Result<Ticket> {
        let (offset, epoch) = (now_ms.max(0) as u64, self.epoch);
        self.write_of(group, now_ms, |number, body| {
            let entry = blank(OffsetEntryKind::GroupEmpty, number);
            OffsetEntry { offset, generation, epoch, ..entry }.encode(body);
            1
        })
    }

    /// Deletes those of the commits that there are.
    #[cfg(feature = "sim")]
    pub(super) fn delete_commits(&mut self, group: &str, partitions: &[(TopicId, u32)], now_ms: i64) -> Result<Ticket> {
        let Some(number) = self.state.number(group) else { return Ok(self.end()) };
        let known = self.state.group(group);
        let is_known = |&&(topic_id, partition): &&(TopicId, u32)| {
            known.is_some_and(|offsets| offsets.commit(topic_id, partition).is_some())
        };
        let there: Vec<(TopicId, u32)> = partitions.iter().filter(is_known).copied().collect();
        self.write(now_ms, |_, body| {
            for &(topic_id, partition) in &there {
                let entry = blank(OffsetEntryKind::Delete, number);
                OffsetEntry { topic_id, partition, ..entry }.encode(body);
            }
            there.len() as u64
        })
    }

    /// Deletes the group, if it is there.
    pub(super) fn delete_group(&mut self, name: &str, now_ms: i64) -> Result<Ticket> {
        self.write(now_ms, |state, body| {
            state.number(name).map_or(0, |number| u64::from(blank(OffsetEntryKind::Delete, number).encode(body)))
        })
    }

    pub(super) fn keep_topics(&mut self, live: impl Fn(TopicId) -> bool) -> Vec<(String, TopicId)> {
        self.state.keep_topics(live)
    }

    /// What everything written so far lies below.
    pub(super) fn end(&self) -> Ticket {
        match &self.file {
            LogFile::Open(log) => Ticket(log.end_offset()),
            _ => Ticket(0),
        }
    }

    pub(super) fn is_durable(&self, ticket: Ticket) -> bool {
        match &self.file {
            LogFile::Open(log) => ticket.0 <= log.durable_offset(),
            _ => ticket.0 == 0,
        }
    }

    pub(super) fn has_unsynced(&self) -> bool {
        matches!(&self.file, LogFile::Open(log) if log.has_unsynced())
    }

    /// Whether [`write_ahead`](OffsetLog::write_ahead) would make the next commits cheaper.
    pub(super) fn wants_zeros(&self) -> bool {
        matches!(&self.file, LogFile::Open(log) if log.wants_zeros())
    }

    /// Writes some zeros behind the end; whether to come again.
    pub(super) fn write_ahead(&mut self) -> bool {
        let LogFile::Open(log) = &mut self.file else { return false };
        log.write_ahead()
    }

    /// Begins a sync, unless the ticket's entries are durable.
    pub(super) fn start_sync(&mut self, ticket: Ticket) -> Result<Option<Syncing>> {
        if self.is_durable(ticket) {
            return Ok(None);
        }
        match &mut self.file {
            LogFile::Open(log) => log.start_sync(),
            LogFile::None => Ok(None),
            LogFile::Damaged(damage) => Err(damage.error.clone()),
            LogFile::Failed(error) => Err(error.clone()),
        }
    }

    /// Entries below this survive power loss.
    pub(super) fn durable_end(&self) -> u64 {
        match &self.file {
            LogFile::Open(log) => log.durable_offset(),
            _ => self.proven,
        }
    }

    /// Takes nothing any more: the directory is about to be another's. What is durable stays so.
    pub(super) fn close(&mut self) {
        match &mut self.file {
            LogFile::Open(log) => log.close(),
            file => *file = LogFile::Failed(Error::new(ErrorKind::Closed)),
        }
    }

    /// Ends it. What it covered is durable, whatever else failed meanwhile.
    pub(super) fn finish_sync(&mut self, syncing: &Syncing, result: io::Result<()>, ticket: Ticket) -> Result<()> {
        let LogFile::Open(log) = &mut self.file else { return Ok(()) };
        let finished = log.finish_sync(syncing, result);
        if self.is_durable(ticket) { Ok(()) } else { finished }
    }

    pub(super) fn refresh(&mut self) -> Result<bool> {
        if self.access == Access::Write {
            return Ok(false);
        }
        let LogFile::Open(log) = &mut self.file else {
            // There may be a file now, or another one.
            let before = std::mem::take(&mut self.state);
            self.load()?;
            return Ok(self.state != before);
        };
        let state = RefCell::new(std::mem::take(&mut self.state));
        let mut reset = || *state.borrow_mut() = OffsetState::default();
        let mut replay = |header: &BatchHeader, body: &[u8]| replay(&mut state.borrow_mut(), header, body);
        let result = log.refresh(&mut reset, &mut replay);
        self.state = state.into_inner();
        match result {
            Err(error) if is_damage(&error) => self.load().map(|_| true),
            result => result,
        }
    }

    /// Writes one batch of a group, whose name goes first if it is new.
    fn write_of(&mut self, group: &str, now_ms: i64, fill: impl FnOnce(u32, &mut Vec<u8>) -> u64) -> Result<Ticket> {
        check_name(group).map_err(Error::invalid)?;
        if let Some(number) = self.state.number(group) {
            return self.write(now_ms, |_, body| fill(number, body));
        }
        let number = self.state.next_number().ok_or_else(|| Error::corrupt("group numbers are used up"))?;
        self.write(now_ms, |_, body| {
            let entry = blank(OffsetEntryKind::Group, number);
            let name = OffsetEntry { payload: group.as_bytes(), ..entry }.encode(body);
            match fill(number, body) {
                0 => 0,
                entries => u64::from(name) + entries,
            }
        })
    }

    /// Writes one batch, with the entries that `fill` counts, then takes it in. Nothing if there are none.
    fn write(&mut self, now_ms: i64, fill: impl FnOnce(&OffsetState, &mut Vec<u8>) -> u64) -> Result<Ticket> {
        let take_in = |state: &mut OffsetState, body: &[u8], entries| state.apply_batch(body, entries, now_ms);
        self.write_then(now_ms, fill, take_in)
    }

    /// [`write`](OffsetLog::write), taken in by `take_in`: what it makes of the state is what a replay of the
    /// batch makes of it.
    fn write_then(
        &mut self,
        now_ms: i64,
        fill: impl FnOnce(&OffsetState, &mut Vec<u8>) -> u64,
        take_in: impl FnOnce(&mut OffsetState, &[u8], u32) -> std::result::Result<(), FormatError>,
    ) -> Result<Ticket> {
        let mut body = std::mem::take(&mut self.buffer);
        let entries = fill(&self.state, &mut body);
        let written = match u32::try_from(entries) {
            Ok(0) => Ok(()),
            Ok(entries) => {
                let put = self.put(&body, entries, now_ms);
                put.and_then(|()| take_in(&mut self.state, &body, entries).map_err(refused))
            }
            Err(_) => Err(Error::invalid("too many entries at once")),
        };
        body.clear();
        body.shrink_to(BUFFER_BYTES);
        self.buffer = body;
        written.map(|()| self.end())
    }

    fn put(&mut self, body: &[u8], entries: u32, now_ms: i64) -> Result<()> {
        if self.access == Access::Read {
            return Err(Error::new(ErrorKind::ReadOnly).at_path(&self.dir));
        }
        self.compact_if_due(now_ms);
        match &mut self.file {
            LogFile::Open(log) => {
                // So that all that earlier lives left has evidence behind it: it may have been acknowledged.
                if log.is_unproven() && !crate::teeth::bites("earlier-commits-without-evidence") {
                    log.sync()?;
                }
                log.append(body, entries, now_ms)
            }
            LogFile::None => self.create(body, entries, now_ms),
            LogFile::Damaged(damage) => Err(damage.error.clone()),
            LogFile::Failed(error) => Err(error.clone()),
        }
    }

    /// Makes the file, with its first batch, durably.
    fn create(&mut self, body: &[u8], entries: u32, now_ms: i64) -> Result<()> {
        let (disk, kind) = (self.disk.clone(), FileKind::Offsets);
        let made = KeyedLog::create(disk, &self.dir, PREFIX, kind, self.engine_id, self.epoch, now_ms, body, entries);
        match made {
            Ok(log) => self.file = LogFile::Open(Box::new(log)),
            Err(error) if error.kind() == &ErrorKind::NoRoom => return Err(error),
            Err(error) => {
                let error = error.with_kind(ErrorKind::Failed);
                self.file = LogFile::Failed(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Compacts a file that is large, and more than twice as large as what it says.
    fn compact_if_due(&mut self, now_ms: i64) {
        let LogFile::Open(log) = &mut self.file else { return };
        let bytes = log.bytes();
        if bytes <= self.compact_from.max(self.retry_from).max(2 * (BLOCK_BYTES + self.state.live_bytes())) {
            return;
        }
        self.retry_from = match log.rewrite(&bodies(&self.state), now_ms) {
            Ok(()) => 0,
            // The old file does as well; if not, the log has failed, and the next append says so.
            Err(_) => bytes + RETRY_BYTES,
        };
    }
}

/// The whole state as batch bodies, with the entries in each.
pub(crate) fn bodies(state: &OffsetState) -> Vec<(Vec<u8>, u32)> {
    let mut bodies: Vec<(Vec<u8>, u32)> = Vec::new();
    state.entries(|entry| {
        let (mut body, count) = match bodies.pop() {
            Some(body) if body.0.len() < BODY_BYTES => body,
            full => {
                bodies.extend(full);
                (Vec::new(), 0)
            }
        };
        let entries = entry.encode(&mut body);
        bodies.push((body, count + entries));
    });
    bodies
}

fn replay(state: &mut OffsetState, header: &BatchHeader, body: &[u8]) -> Result<()> {
    state.apply_batch(body, header.record_count, header.appended_ms).map_err(refused)
}

fn check_commit(commit: &NewCommit<'_>) -> Result<()> {
    if commit.metadata.len() > MAX_METADATA_BYTES {
        let bytes = commit.metadata.len();
        return Err(Error::invalid(format!(
            "a commit's metadata has at most {MAX_METADATA_BYTES} bytes, this has {bytes}"
        )));
    }
    if commit.offset > MAX_OFFSET || commit.topic_id == TopicId(0) {
        let NewCommit { topic_id, offset, .. } = commit;
        return Err(Error::invalid(format!("a commit of offset {offset} for topic id {topic_id} can't be")));
    }
    Ok(())
}
