//! Uses the engine as chance says, and notes in the history what was asked and acknowledged, and where the
//! disk's record was at that moment.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use thalweg::{
    Acks, Engine, Error, ErrorKind, OffsetCommit, Partition, Receipt, Record, SyncMode, TopicConfig, Writers,
};

use crate::chance::Chance;
use crate::disk::Disk;
use crate::failure::{Failure, Result, broken};
use crate::history::{Asked, Commit, History, Log, Position, Sent, Topic};
use crate::payload;
use crate::watch;

const NAMES: [&str; 3] = ["orders", "trades", "prices"];
const GROUPS: [&str; 2] = ["billing", "audit"];

/// Whether this error may come, and is as it should be; else why not.
pub(crate) type Allowed = fn(&Error) -> std::result::Result<(), String>;

/// Nothing fails.
pub(crate) fn nothing(error: &Error) -> std::result::Result<(), String> {
    Err(format!("nothing was to fail here: {error}"))
}

pub(crate) struct Driver<'a> {
    pub(crate) engine: Engine,
    pub(crate) history: &'a mut History,
    pub(crate) allowed: Allowed,
    /// Errors that came and were allowed, with what was tried.
    pub(crate) errors: Vec<(&'static str, Error)>,
    /// Where calls may fail: appends are waited for, so that it is known what the next one stands behind,
    /// and no step closes the engine.
    pub(crate) careful: bool,
    /// Partitions that stopped: they take nothing any more.
    failed: HashSet<(usize, u32)>,
    disk: Disk,
    directory: PathBuf,
    chance: Chance,
    salt: u64,
    pending: Vec<Pending>,
}

/// Sent to be synced, and not waited for yet.
struct Pending {
    topic: usize,
    receipt: Receipt,
}

/// Opens the engine as all lives do: little is kept back, so that much happens on the disk.
pub(crate) fn open(directory: &Path, chance: &mut Chance) -> thalweg::Result<Engine> {
    let writers = if chance.one_in(3) { Writers::Inline } else { Writers::Threads(1 + chance.below(2)) };
    // By itself it syncs soon, or hardly ever.
    let sync_ms = if chance.one_in(2) { 15 } else { 5_000 };
    let mode = if chance.one_in(2) { SyncMode::Auto } else { SyncMode::Threads };
    Engine::builder(directory)
        .writers(writers)
        .pin_writers(false)
        .sync_mode(mode)
        .write_bytes(16 << 10)
        .buffer_bytes(4 << 20)
        .max_batch_bytes(1 << 20)
        .sync_bytes(sync_ms << 13)
        .sync_ms(sync_ms)
        .seed(chance.next())
        .open()
}

impl<'a> Driver<'a> {
    pub(crate) fn new(engine: Engine, directory: &Path, disk: &Disk, history: &'a mut History, chance: Chance) -> Self {
        let mut chance = chance;
        let salt = chance.next();
        Driver {
            engine,
            history,
            allowed: nothing,
            errors: Vec::new(),
            careful: false,
            failed: HashSet::new(),
            disk: disk.clone(),
            directory: directory.to_owned(),
            chance,
            salt,
            pending: Vec::new(),
        }
    }

    /// Does something; nearly always an append.
    pub(crate) fn step(&mut self) -> Result<()> {
        watch::beat();
        match self.chance.below(40) {
            0 => self.create_topic(),
            1 if self.chance.one_in(3) => self.delete_topic(),
            2 | 3 => self.delete_records(),
            4..=8 => self.commit(),
            9 | 10 => self.sync(),
            11 if !self.careful && self.chance.one_in(3) => self.reopen(),
            12 | 13 => {
                thread::sleep(Duration::from_millis(self.chance.below(12) as u64));
                Ok(())
            }
            14..=16 => self.settle(),
            _ => self.append(),
        }
    }

    /// One append of one to many records.
    pub(crate) fn append(&mut self) -> Result<()> {
        let Some((topic, number)) = self.some_log() else { return self.create_topic() };
        let count = if self.chance.one_in(3) { 1 + self.chance.below(40) } else { 1 + self.chance.below(4) };
        let acks = match self.chance.below(8) {
            0 if !self.careful => Acks::None,
            0..=3 => Acks::Written,
            _ => Acks::Synced,
        };
        let waits = self.careful || self.chance.one_in(2);
        self.append_to(topic, number, count, acks, waits).map(drop)
    }

    /// Whether it was acknowledged, or may still be.
    pub(crate) fn append_to(
        &mut self,
        topic: usize,
        number: u32,
        count: usize,
        acks: Acks,
        waits: bool,
    ) -> Result<bool> {
        let partition = self.partition(topic, number)?;
        let (salt, asked) = (self.salt, self.disk.position());
        let log = &mut self.history.topics[topic].logs[number as usize];
        // What failed since the last append has no offset any more.
        log.sent.truncate(partition.next_offset() as usize);
        let first = log.sent.len() as u64;
        let values: Vec<_> = (first..first + count as u64).map(|offset| payload::make(salt, offset)).collect();
        let records: Vec<_> = values.iter().map(|value| Record::new(value).acks(acks)).collect();
        let receipt = match partition.append_batch(&records) {
            Ok(receipt) => receipt,
            Err(error) => {
                self.note_failed(topic, number, &error);
                return self.allow(error, "append").map(|()| false);
            }
        };
        if receipt.offset() != first {
            return broken(format!("I3: offset {} is given, the log ended at {first}", receipt.offset()));
        }
        log.sent.extend((0..count).map(|at| Sent { salt, asked, last: at + 1 == count }));
        let synced = acks == Acks::Synced;
        if synced && !waits {
            self.pending.push(Pending { topic, receipt });
            return Ok(true);
        }
        if !waits {
            return Ok(true);
        }
        match receipt.wait() {
            Ok(_) if self.failed.contains(&(topic, number)) => {
                return broken(format!("D4: partition {number} had stopped, and acknowledges offset {first}"));
            }
            Ok(_) if synced => self.synced(topic, number, receipt.offsets().end),
            Ok(_) => {}
            Err(error) => {
                self.stays_invisible(&partition, &error, first)?;
                self.note_failed(topic, number, &error);
                return self.allow(error, "append").map(|()| false);
            }
        }
        Ok(true)
    }

    fn note_failed(&mut self, topic: usize, number: u32, error: &Error) {
        if matches!(error.kind(), ErrorKind::Failed) {
            self.failed.insert((topic, number));
        }
    }

    /// D4: a partition that stopped says so to whoever asks.
    pub(crate) fn check_failed_are_told(&self) -> Result<usize> {
        for (topic, number) in &self.failed {
            let topic = &self.history.topics[*topic];
            let name = &topic.name;
            let described = match topic.is_live() {
                true => self.engine.describe_topic(name).map_err(|error| said("describe a topic", &error))?,
                false => continue,
            };
            if described.partitions[*number as usize].failure.is_none() {
                return broken(format!("D4: partition {number} of {name} stopped, and its description says nothing"));
            }
        }
        Ok(self.failed.len())
    }

    /// D4: what had no room is never visible.
    fn stays_invisible(&self, partition: &Partition, error: &Error, first: u64) -> Result<()> {
        let end = partition.end_offset();
        if matches!(error.kind(), ErrorKind::NoRoom) && end > first {
            return broken(format!("D4: an append at {first} failed ({error}), and the log ends at {end}"));
        }
        Ok(())
    }

    /// Asks which appends are acknowledged by now, without waiting.
    pub(crate) fn settle(&mut self) -> Result<()> {
        for pending in std::mem::take(&mut self.pending) {
            match pending.receipt.is_acknowledged() {
                Ok(true) => self.synced(pending.topic, pending.receipt.partition(), pending.receipt.offsets().end),
                Ok(false) => self.pending.push(pending),
                Err(error) => self.allow(error, "append")?,
            }
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<()> {
        let ends = self.ends();
        match self.engine.sync() {
            Ok(()) => self.all_synced(&ends),
            Err(error) => self.allow(error, "sync")?,
        }
        Ok(())
    }

    pub(crate) fn commit(&mut self) -> Result<()> {
        let Some((topic, number)) = self.some_log() else { return Ok(()) };
        let partition = self.partition(topic, number)?;
        let (start, end) = (partition.log_start_offset(), partition.end_offset());
        // Often the end, whose records may not be durable yet.
        let offset = match self.chance.one_in(3) {
            true => end,
            false => start + self.chance.below((end - start) as usize + 1) as u64,
        };
        let acks = if self.chance.one_in(3) { Acks::Written } else { Acks::Synced };
        if self.chance.one_in(3) {
            self.burst_of_commits(acks)?;
        }
        let padding = if self.chance.one_in(2) { 3_500 } else { self.chance.below(100) };
        self.commit_at(topic, number, offset, acks, padding).map(drop)
    }

    /// Some long commits, so that their log is compacted now and then.
    pub(crate) fn burst_of_commits(&mut self, acks: Acks) -> Result<()> {
        for _ in 0..10 {
            let Some((topic, number)) = self.some_log() else { return Ok(()) };
            let end = self.partition(topic, number)?.end_offset();
            self.commit_at(topic, number, end, acks, 3_500)?;
        }
        Ok(())
    }

    /// Whether it was acknowledged.
    pub(crate) fn commit_at(
        &mut self,
        topic: usize,
        number: u32,
        offset: u64,
        acks: Acks,
        padding: usize,
    ) -> Result<bool> {
        let group = GROUPS[self.chance.below(GROUPS.len())];
        let name = self.history.topics[topic].name.clone();
        let mut consumer = match self.engine.consumer(group).assign([(name.as_str(), number)]).start() {
            Ok(consumer) => consumer,
            Err(error) => return self.allow(error, "start a consumer").map(|()| false),
        };
        let made = self.history.number();
        let mut metadata = made.to_le_bytes().to_vec();
        metadata.resize(8 + padding, b'.');
        let asked = self.disk.position();
        let commit = Commit { number: made, offset, lost_at: None, refused: false };
        let known = self.history.topics[topic].commits.entry((group.to_owned(), number)).or_default();
        known.push(Asked::new(commit, asked));
        let committed = consumer.commit_offsets([OffsetCommit::new(name, number, offset).metadata(metadata)], acks);
        let at = self.disk.position();
        match committed {
            Ok(()) if acks == Acks::Synced => {
                acknowledge(known, at);
                // A synced commit first syncs the records that it speaks of.
                self.synced(topic, number, offset);
            }
            Ok(()) => {}
            Err(error) => {
                if let Some(commit) = known.last_mut() {
                    commit.what.refused = true;
                }
                return self.allow(error, "commit").map(|()| false);
            }
        }
        Ok(true)
    }

    pub(crate) fn delete_records(&mut self) -> Result<()> {
        let Some((topic, number)) = self.some_log() else { return Ok(()) };
        let partition = self.partition(topic, number)?;
        let (start, end) = (partition.log_start_offset(), partition.end_offset());
        let to = start + self.chance.below((end - start) as usize / 2 + 1) as u64;
        let asked = self.disk.position();
        let starts = &mut self.history.topics[topic].logs[number as usize].starts;
        starts.push(Asked::new(to, asked));
        match partition.delete_records(to) {
            Ok(()) => {
                if let Some(start) = starts.last_mut() {
                    start.acknowledged = Some(self.disk.position());
                }
                Ok(())
            }
            Err(error) => self.allow(error, "delete records"),
        }
    }

    /// Makes one of the topics that aren't there, if one isn't.
    pub(crate) fn create_topic(&mut self) -> Result<()> {
        // One whose deletion failed may be listed still.
        let listed = self.engine.topics().map_err(|error| said("list topics", &error))?;
        let Some(name) = NAMES.iter().find(|name| !listed.iter().any(|listed| listed == **name)) else { return Ok(()) };
        let name = *name;
        let partitions = 1 + self.chance.below(3) as u32;
        let mut topic = Topic {
            name: name.to_owned(),
            created: Asked::new(None, self.disk.position()),
            deleted: None,
            logs: vec![Log::default(); partitions as usize],
            commits: Default::default(),
        };
        // Small segments, of two sizes.
        let segment = if self.chance.one_in(2) { 64 << 10 } else { 100_000 };
        let config = TopicConfig::default().partitions(partitions).segment_bytes(segment);
        match self.engine.create_topic(name, config) {
            Ok(()) => {
                topic.created.acknowledged = Some(self.disk.position());
                let described = self.engine.describe_topic(name);
                topic.created.what = Some(described.map_err(|error| said("describe a topic", &error))?.id);
                self.history.topics.push(topic);
                Ok(())
            }
            Err(error) => {
                // It may be there in the next life; then it is told by its name.
                self.history.topics.push(topic);
                self.allow(error, "create a topic")
            }
        }
    }

    fn delete_topic(&mut self) -> Result<()> {
        let live: Vec<_> = (0..self.history.topics.len()).filter(|at| self.history.topics[*at].is_live()).collect();
        if live.len() < 2 {
            return Ok(());
        }
        let at = live[self.chance.below(live.len())];
        self.pending.retain(|pending| pending.topic != at);
        let topic = &mut self.history.topics[at];
        let mut deleted = Asked::new((), self.disk.position());
        let result = self.engine.delete_topic(&topic.name);
        if result.is_ok() {
            deleted.acknowledged = Some(self.disk.position());
        }
        topic.deleted = Some(deleted);
        result.or_else(|error| self.allow(error, "delete a topic"))
    }

    /// Closes the engine and opens it again.
    pub(crate) fn reopen(&mut self) -> Result<()> {
        self.close()?;
        self.engine = open(&self.directory, &mut self.chance).map_err(|error| said("open again", &error))?;
        self.salt = self.chance.next();
        Ok(())
    }

    /// Closing acknowledges all that was sent.
    pub(crate) fn close(&mut self) -> Result<()> {
        if let Err(error) = self.engine.flush() {
            self.allow(error, "flush")?;
        }
        let ends = self.ends();
        match self.engine.close() {
            Ok(()) => {
                self.all_synced(&ends);
                let at = self.disk.position();
                self.history.topics.iter_mut().flat_map(|topic| topic.commits.values_mut()).for_each(|commits| {
                    acknowledge(commits, at);
                });
                self.pending.clear();
                Ok(())
            }
            Err(error) => self.allow(error, "close"),
        }
    }

    /// Appends to every live log and commits it, synced. Whether all of it was acknowledged?
    pub(crate) fn touch_all(&mut self) -> Result<bool> {
        let mut all = true;
        for topic in (0..self.history.topics.len()).filter(|at| self.history.topics[*at].is_live()).collect::<Vec<_>>()
        {
            for number in 0..self.history.topics[topic].logs.len() as u32 {
                all &= self.append_to(topic, number, 3, Acks::Synced, true)?;
                let end = self.partition(topic, number)?.end_offset();
                all &= self.commit_at(topic, number, end, Acks::Synced, 10)?;
            }
        }
        Ok(all)
    }

    /// A log to use, of a topic that is there.
    fn some_log(&mut self) -> Option<(usize, u32)> {
        let live: Vec<_> = (0..self.history.topics.len()).filter(|at| self.history.topics[*at].is_live()).collect();
        let topic = *live.get(self.chance.below(live.len()))?;
        let partitions = self.history.topics[topic].logs.len();
        Some((topic, self.chance.below(partitions) as u32))
    }

    pub(crate) fn partition(&self, topic: usize, number: u32) -> Result<Partition> {
        let name = &self.history.topics[topic].name;
        self.engine.partition(name, number).map_err(|error| said("get a partition", &error))
    }

    /// How far each live log was written.
    fn ends(&self) -> Vec<(usize, u32, u64)> {
        let mut ends = Vec::new();
        for (at, topic) in self.history.topics.iter().enumerate().filter(|(_, topic)| topic.is_live()) {
            for number in 0..topic.logs.len() as u32 {
                if let Ok(partition) = self.partition(at, number) {
                    ends.push((at, number, partition.next_offset()));
                }
            }
        }
        ends
    }

    fn all_synced(&mut self, ends: &[(usize, u32, u64)]) {
        for (topic, number, end) in ends {
            self.synced(*topic, *number, *end);
        }
    }

    fn synced(&mut self, topic: usize, number: u32, end: u64) {
        let at: Position = self.disk.position();
        self.history.topics[topic].logs[number as usize].synced.push((at, end));
    }

    fn allow(&mut self, error: Error, what: &'static str) -> Result<()> {
        match (self.allowed)(&error) {
            Ok(()) => {
                self.errors.push((what, error));
                Ok(())
            }
            Err(why) => broken(format!("D4: {what}: {why}")),
        }
    }
}

/// All that were made and didn't fail are durable now.
fn acknowledge(commits: &mut [Asked<Commit>], at: Position) {
    for commit in commits.iter_mut().filter(|commit| commit.acknowledged.is_none() && !commit.what.refused) {
        commit.acknowledged = Some(at);
    }
}

/// An error where none was to come.
pub(crate) fn said(what: &str, error: &Error) -> Failure {
    Failure::Broken(format!("I10: can't {what}: {error}"))
}
