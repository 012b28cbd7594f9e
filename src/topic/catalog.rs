//! The catalogue: which topics exist, the directory's epochs, and how far each partition was
//! known to be durable. A keyed log of entries over a pure [`CatalogState`].
//!
//! State in memory changes only after the entry is written (and synced, where that is asked for).
//! It compacts itself before it writes, so that an error of a call means its entry isn't there.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use crate::config::TopicConfig;
use crate::disk::{Access, Disk};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, CatalogEntry, FileKind, Mark};
use crate::ids::{EngineId, TopicId};
use crate::keyed::{Cut, KeyedLog, Opened, refused};

use crate::teeth::bites;

use super::name::check_topic_name;
use super::state::CatalogState;

/// What the files are called: `catalog-<n>`.
const PREFIX: &str = "catalog";

/// Below this size the file is never compacted.
const COMPACT_BYTES: u64 = 1 << 20;

/// After a compaction that found no room: how much is appended before the next try.
const RETRY_BYTES: u64 = 64 << 10;

/// How large a compacted catalogue's batches get.
const BODY_BYTES: usize = 1 << 20;

/// See the module. One thread at a time.
#[derive(Debug)]
pub(crate) struct Catalog {
    log: KeyedLog,
    state: CatalogState,
    was_clean: bool,
    /// Size of the file at which compacting is considered again.
    compact_at: u64,
    /// However small the file is.
    compacts_early: bool,
}

impl Catalog {
    /// Makes the catalogue of a new directory, durably: its engine id and epoch 1.
    pub(crate) fn create(disk: Arc<dyn Disk>, dir: &Path, engine_id: EngineId, now_ms: i64) -> Result<Catalog> {
        let entries = [CatalogEntry::Engine { engine_id, created_ms: now_ms }, CatalogEntry::Epoch { epoch: 1 }];
        let mut state = CatalogState::default();
        let body = encode(&entries);
        entries.iter().try_for_each(|entry| state.apply(entry)).map_err(refused)?;
        let log = KeyedLog::create(disk, dir, PREFIX, FileKind::Catalog, engine_id, 1, now_ms, &body, 2)?;
        Ok(Catalog { log, state, was_clean: false, compact_at: COMPACT_BYTES, compacts_early: false })
    }

    /// Opens the catalogue in `dir`, if there is one; says what was cut off its end.
    ///
    /// # Errors
    /// Those of [`KeyedLog::open`]; [`ErrorKind::Corrupt`] for entries that contradict each other.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, access: Access) -> Result<Option<(Catalog, Option<Cut>)>> {
        let mut state = CatalogState::default();
        let mut replay = |header: &BatchHeader, body: &[u8]| replay(&mut state, header, body);
        let opened = KeyedLog::open(disk, dir, PREFIX, FileKind::Catalog, None, access, &mut replay)?;
        let Some(Opened { log, cut }) = opened else { return Ok(None) };
        check_engine(&log, &state)?;
        // What was cut may have been the start of another life.
        let was_clean = state.is_clean() && cut.is_none();
        Ok(Some((Catalog { log, state, was_clean, compact_at: COMPACT_BYTES, compacts_early: false }, cut)))
    }

    /// Has the file compacted as soon as that halves its entries, however small it is.
    #[cfg(feature = "sim")]
    pub(crate) fn compact_early(&mut self) {
        (self.compacts_early, self.compact_at) = (true, 0);
    }

    pub(crate) fn state(&self) -> &CatalogState {
        &self.state
    }

    pub(crate) fn engine_id(&self) -> EngineId {
        self.log.engine_id()
    }

    /// The file that holds it now.
    pub(crate) fn path(&self) -> &Path {
        self.log.path()
    }

    /// Where in that file the part that counts ends.
    pub(crate) fn end_position(&self) -> u64 {
        self.log.bytes()
    }

    /// The error, if opening found one, that kept entries which were only written from the drive.
    pub(crate) fn take_not_written(&mut self) -> Option<Error> {
        self.log.take_not_written()
    }

    /// Why it takes nothing more, if an earlier write or sync failed.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.log.failure()
    }

    /// Whether, as found at open, the newest epoch had ended cleanly.
    pub(crate) fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// Begins the next epoch, durably: at each open for writing, at a truncation, after a failed write.
    pub(crate) fn begin_epoch(&mut self, now_ms: i64) -> Result<u32> {
        self.begin_epoch_above(0, now_ms)
    }

    /// The same, above an epoch that was found in another file: the catalogue may have lost it.
    pub(crate) fn begin_epoch_above(&mut self, found: u32, now_ms: i64) -> Result<u32> {
        let epoch = self.state.epoch().max(found).checked_add(1).ok_or_else(|| used_up("epochs"))?;
        self.compact_if_due(now_ms)?;
        self.log.set_epoch(epoch);
        self.put(&[CatalogEntry::Epoch { epoch }], now_ms, !bites("epoch-not-synced"))?;
        Ok(epoch)
    }

    /// Makes a topic, durably.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidTopicName`], [`ErrorKind::InvalidConfig`]; [`ErrorKind::TopicExists`] also
    /// for a name that differs only in case; those of [`KeyedLog::append`].
    pub(crate) fn create_topic(&mut self, name: &str, config: &TopicConfig, now_ms: i64) -> Result<TopicId> {
        check_topic_name(name)?;
        config.check().map_err(|error| error.at_topic(name))?;
        if let Some(topic) = self.state.topic_like(name) {
            return Err(Error::new(ErrorKind::TopicExists { topic: topic.name.clone() }));
        }
        let topic_id = self.state.next_topic_id().ok_or_else(|| used_up("topic ids"))?;
        let entry = CatalogEntry::Topic {
            topic_id,
            name: name.to_owned(),
            partitions: config.partitions,
            created_ms: now_ms,
            config: config.to_text(),
        };
        self.compact_if_due(now_ms)?;
        self.put(&[entry], now_ms, !bites("topic-not-synced"))?;
        Ok(topic_id)
    }

    /// Deletes a topic, durably; its files are the caller's to remove.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTopic`]; those of [`KeyedLog::append`].
    pub(crate) fn delete_topic(&mut self, name: &str, now_ms: i64) -> Result<TopicId> {
        let topic = self.state.topic(name);
        let topic_id = topic.ok_or_else(|| Error::new(ErrorKind::UnknownTopic { topic: name.to_owned() }))?.id;
        self.compact_if_due(now_ms)?;
        self.put(&[CatalogEntry::Deleted { topic_id }], now_ms, !bites("topic-deletion-not-synced"))?;
        Ok(topic_id)
    }

    /// Gives a topic more partitions (`end_offsets`: those of the old ones at that moment) or other
    /// settings, or both, durably.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTopic`], [`ErrorKind::InvalidConfig`]; those of [`KeyedLog::append`].
    pub(crate) fn alter_topic(
        &mut self,
        name: &str,
        config: &TopicConfig,
        end_offsets: &[u64],
        now_ms: i64,
    ) -> Result<()> {
        config.check().map_err(|error| error.at_topic(name))?;
        let topic = self.state.topic(name);
        let topic = topic.ok_or_else(|| Error::new(ErrorKind::UnknownTopic { topic: name.to_owned() }))?;
        let (topic_id, partitions) = (topic.id, config.partitions);
        let mut entries = Vec::new();
        if partitions != topic.config.partitions {
            entries.push(CatalogEntry::Expanded { topic_id, partitions, end_offsets: end_offsets.to_vec() });
        }
        if config.to_text() != topic.config.to_text() {
            entries.push(CatalogEntry::Configured { topic_id, config: config.to_text() });
        }
        if entries.is_empty() {
            return Ok(());
        }
        self.compact_if_due(now_ms)?;
        self.put(&entries, now_ms, !bites("new-partitions-not-synced"))
    }

    /// Nothing is left of a deleted topic's files: the next compaction need not remember it.
    pub(crate) fn forget_deleted(&mut self, id: TopicId) {
        self.state.forget_deleted(id);
    }

    /// Records marks, all or none; those of topics deleted meanwhile are left out.
    pub(crate) fn put_marks(&mut self, marks: &[(TopicId, u32, Mark)], now_ms: i64, sync: bool) -> Result<()> {
        let live = marks.iter().filter(|(topic_id, ..)| self.state.topic_by_id(*topic_id).is_some());
        let entry = |&(topic_id, partition, mark)| CatalogEntry::Mark { topic_id, partition, mark };
        let entries: Vec<CatalogEntry> = live.map(entry).collect();
        if entries.is_empty() {
            return if sync { self.log.sync() } else { Ok(()) };
        }
        self.compact_if_due(now_ms)?;
        self.put(&entries, now_ms, sync)
    }

    /// Says, durably, that the epoch ended with all marks in place. Anything put later unsays it.
    /// So is the offset log, below `offsets_end`.
    pub(crate) fn put_clean(&mut self, offsets_end: u64, now_ms: i64) -> Result<()> {
        let epoch = self.state.epoch();
        self.put(&[CatalogEntry::Clean { epoch, offsets_end }], now_ms, true)
    }

    /// Takes nothing any more: the directory is about to be another's.
    pub(crate) fn close(&mut self) {
        self.log.close();
    }

    /// Opened for reading: takes in what was written since. True if anything was. After an error
    /// the state means nothing until a later call succeeds.
    pub(crate) fn refresh(&mut self) -> Result<bool> {
        let state = RefCell::new(std::mem::take(&mut self.state));
        let mut reset = || *state.borrow_mut() = CatalogState::default();
        let mut replay = |header: &BatchHeader, body: &[u8]| replay(&mut state.borrow_mut(), header, body);
        let result = self.log.refresh(&mut reset, &mut replay);
        self.state = state.into_inner();
        let any = result?;
        check_engine(&self.log, &self.state)?;
        Ok(any)
    }

    /// Writes entries that fit, in one batch, then takes them in.
    fn put(&mut self, entries: &[CatalogEntry], now_ms: i64, sync: bool) -> Result<()> {
        for entry in entries {
            self.state.check(entry).map_err(|error| Error::invalid(error.to_string()))?;
        }
        let count = u32::try_from(entries.len()).map_err(|_| Error::invalid("too many entries at once"))?;
        self.log.append(&encode(entries), count, now_ms)?;
        if sync {
            self.log.sync()?;
        }
        entries.iter().try_for_each(|entry| self.state.apply(entry)).map_err(refused)
    }

    /// Compacts a file that is large, and more than twice as large as what it says.
    fn compact_if_due(&mut self, now_ms: i64) -> Result<()> {
        let bytes = self.log.bytes();
        if bytes <= self.compact_at {
            return Ok(());
        }
        let bodies = self.bodies();
        let live: u64 = bodies.iter().map(|(body, _)| (BATCH_HEADER_BYTES + body.len()) as u64).sum();
        let limit = match self.compacts_early {
            true => BLOCK_BYTES + 2 * live,
            false => (2 * (BLOCK_BYTES + live)).max(COMPACT_BYTES),
        };
        if bytes <= limit {
            self.compact_at = limit;
            return Ok(());
        }
        match self.log.rewrite(&bodies, now_ms) {
            Ok(()) => self.compact_at = limit,
            // The old file does as well.
            Err(error) if error.kind() == &ErrorKind::NoRoom => self.compact_at = bytes + RETRY_BYTES,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The whole state as batch bodies, with the entries in each.
    fn bodies(&self) -> Vec<(Vec<u8>, u32)> {
        let mut bodies: Vec<(Vec<u8>, u32)> = Vec::new();
        self.state.entries(|entry| {
            let body = match bodies.pop() {
                Some(body) if body.0.len() < BODY_BYTES => body,
                full => {
                    bodies.extend(full);
                    (Vec::new(), 0)
                }
            };
            let (mut body, count) = body;
            entry.encode(&mut body);
            bodies.push((body, count + 1));
        });
        bodies
    }
}

fn encode(entries: &[CatalogEntry]) -> Vec<u8> {
    let mut body = Vec::new();
    entries.iter().for_each(|entry| entry.encode(&mut body));
    body
}

fn replay(state: &mut CatalogState, header: &BatchHeader, body: &[u8]) -> Result<()> {
    // One at a time: all of them decoded would take several times the batch's bytes.
    let mut count = 0_u32;
    for entry in CatalogEntry::each_of(body) {
        state.apply(&entry.map_err(refused)?).map_err(refused)?;
        count += 1;
    }
    if count != header.record_count {
        return Err(Error::corrupt(format!("{count} entries in a batch of {}", header.record_count)));
    }
    if header.epoch < state.epoch() {
        return Err(Error::corrupt(format!("epoch {} begins in a batch of epoch {}", state.epoch(), header.epoch)));
    }
    Ok(())
}

fn check_engine(log: &KeyedLog, state: &CatalogState) -> Result<()> {
    match state.engine() {
        Some((engine_id, _)) if engine_id == log.engine_id() => Ok(()),
        _ => Err(Error::corrupt("the engine's entry is missing or another's").at_path(log.path())),
    }
}

fn used_up(what: &str) -> Error {
    Error::corrupt(format!("{what} are used up"))
}
