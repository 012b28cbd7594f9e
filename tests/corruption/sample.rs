//! The directories that are damaged, and what stands in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thalweg::sim::{CrashPolicy, SimClock, SimDisk};
use thalweg::{Acks, Builder, Engine, OffsetCommit, Record, ResetTo, TopicConfig, Writers};

pub(crate) const DATA: &str = "data";

/// Topic and partition.
pub(crate) type Place = (String, u32);

/// Offset and metadata of a commit.
pub(crate) type Commit = (u64, Vec<u8>);

/// A record: timestamp, key, value.
pub(crate) type Sent = (i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// A directory on a disk of its own, all of it durable, and what is true of it.
pub(crate) struct Sample {
    pub(crate) disk: SimDisk,
    /// The same, which nobody damages.
    pub(crate) pristine: SimDisk,
    pub(crate) clock: SimClock,
    /// The topics there are, each with its settings.
    pub(crate) topics: BTreeMap<String, TopicConfig>,
    /// The records of each partition, by offset.
    pub(crate) sent: BTreeMap<Place, Vec<Sent>>,
    /// Where the log of a partition starts, if not at 0.
    pub(crate) log_starts: BTreeMap<Place, u64>,
    /// All that was ever committed, oldest first, by group; of deleted groups too.
    pub(crate) commits: BTreeMap<String, BTreeMap<Place, Vec<Commit>>>,
    /// Groups that are there no more.
    pub(crate) deleted_groups: BTreeSet<String>,
    /// The last life ended with a crash: what no evidence covers may be a torn tail.
    pub(crate) crashed: bool,
}

impl Sample {
    fn new() -> Sample {
        Sample {
            disk: SimDisk::new(),
            pristine: SimDisk::new(),
            clock: SimClock::new(),
            topics: BTreeMap::new(),
            sent: BTreeMap::new(),
            log_starts: BTreeMap::new(),
            commits: BTreeMap::new(),
            deleted_groups: BTreeSet::new(),
            crashed: false,
        }
    }

    /// Three topics, one of them deleted, one with partitions added; up to four segments in a partition; four
    /// groups, one of them deleted. Two lives, both closed.
    pub(crate) fn closed() -> Sample {
        let mut sample = Sample::new();
        sample.live();
        sample.settled()
    }

    /// The same, and a third life that a crash ended: of everything some was synced and some not.
    pub(crate) fn crashed() -> Sample {
        let mut sample = Sample::new();
        sample.live();
        let engine = sample.open();
        sample.append(&engine, "quotes", 0, &[30, 4], Acks::Synced);
        sample.commit(&engine, "billing", ("quotes", 0), (12, b"third life", Acks::Synced));
        sample.append(&engine, "quotes", 0, &[25], Acks::Synced);
        sample.append(&engine, "quotes", 1, &[50], Acks::Synced);
        sample.append(&engine, "quotes", 0, &[7, 7], Acks::Written);
        sample.append(&engine, "quotes", 0, &[60], Acks::Written);
        sample.append(&engine, "orders", 1, &[20], Acks::Written);
        sample.commit(&engine, "audit", ("quotes", 0), (9, b"", Acks::Written));
        sample.commit(&engine, "billing", ("quotes", 0), (13, b"unsynced", Acks::Written));
        engine.flush().unwrap();
        let left = sample.disk.crash(CrashPolicy::Kill);
        sample.disk.cut_power_after(0);
        drop(engine);
        sample.disk = left;
        sample.crashed = true;
        sample.settled()
    }

    /// The two lives that end with a clean close.
    fn live(&mut self) {
        let engine = self.open();
        let config = TopicConfig::default().segment_ms(Some(1_000)).index_interval_bytes(4096);
        self.create(&engine, "quotes", config.clone().partitions(2));
        self.create(&engine, "gone", config.clone().partitions(1));
        self.create(&engine, "orders", config.partitions(1).batch_bytes(2_048));
        self.append(&engine, "quotes", 0, &[40, 30], Acks::Synced);
        self.append(&engine, "quotes", 0, &[3], Acks::Synced);
        self.append(&engine, "quotes", 1, &[10, 20], Acks::Synced);
        self.append(&engine, "gone", 0, &[10], Acks::Synced);
        self.append(&engine, "orders", 0, &[5], Acks::Synced);
        self.commit(&engine, "billing", ("quotes", 0), (2, b"", Acks::Synced));
        self.commit(&engine, "forgotten", ("quotes", 0), (1, b"", Acks::Synced));
        self.roll();
        // Long enough for an index with an entry.
        self.append(&engine, "quotes", 0, &[1_200], Acks::Synced);
        self.append(&engine, "quotes", 0, &[], Acks::Synced);
        self.append(&engine, "quotes", 0, &[2_900], Acks::Synced);
        self.append(&engine, "quotes", 0, &[9], Acks::Synced);
        self.append(&engine, "quotes", 1, &[6, 3], Acks::Synced);
        self.append(&engine, "orders", 0, &[5, 80], Acks::Synced);
        self.commit(&engine, "billing", ("quotes", 0), (5, b"where I was", Acks::Synced));
        self.commit(&engine, "billing", ("quotes", 1), (2, b"", Acks::Synced));
        self.reset(&engine, "audit", "orders", ResetTo::Offset(1));
        self.reset(&engine, "audit", "quotes", ResetTo::Earliest);
        engine.delete_topic("gone").unwrap();
        self.topics.remove("gone");
        self.sent.retain(|(topic, _), _| topic != "gone");
        engine.delete_group("forgotten").unwrap();
        self.deleted_groups.insert("forgotten".to_owned());
        self.roll();
        self.append(&engine, "orders", 0, &[70], Acks::Synced);
        engine.partition("orders", 0).unwrap().delete_records(1).unwrap();
        self.log_starts.insert(("orders".to_owned(), 0), 1);
        let more = self.topics["orders"].clone().partitions(2);
        engine.alter_topic("orders", more.clone()).unwrap();
        self.topics.insert("orders".to_owned(), more);
        self.sent.insert(("orders".to_owned(), 1), Vec::new());
        engine.close().unwrap();

        let engine = self.open();
        self.roll();
        self.append(&engine, "quotes", 0, &[9, 15], Acks::Synced);
        self.append(&engine, "quotes", 0, &[16], Acks::Synced);
        self.append(&engine, "orders", 1, &[8], Acks::Synced);
        self.commit(&engine, "billing", ("quotes", 0), (8, b"second life", Acks::Synced));
        self.commit(&engine, "late", ("orders", 1), (1, b"", Acks::Synced));
        engine.close().unwrap();
    }

    /// The same on a disk without a past, and without most of what catalogue and offset log have allocated.
    fn settled(self) -> Sample {
        let disk = SimDisk::new();
        for path in self.disk.list_files() {
            let mut bytes = self.disk.read_file(&path).unwrap();
            if path.parent() == Some(Path::new(DATA)) && path.file_name().is_some_and(|name| name != "LOCK") {
                let written = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
                bytes.truncate(written.next_multiple_of(512) + 512);
            }
            disk.write_file(&path, bytes).unwrap();
        }
        let pristine = disk.crash(CrashPolicy::Kill);
        Sample { disk, pristine, ..self }
    }

    fn open(&self) -> Engine {
        self.builder(&self.disk).open().unwrap()
    }

    pub(crate) fn builder(&self, disk: &SimDisk) -> Builder {
        Engine::builder(DATA).sim(disk).clock(Arc::new(self.clock.clone())).writers(Writers::Inline).seed(1)
    }

    fn create(&mut self, engine: &Engine, name: &str, config: TopicConfig) {
        engine.create_topic(name, config.clone()).unwrap();
        for partition in 0..config.partitions {
            self.sent.insert((name.to_owned(), partition), Vec::new());
        }
        self.topics.insert(name.to_owned(), config);
    }

    /// Appends one batch of records with values of these lengths; keys and null values come in turn.
    fn append(&mut self, engine: &Engine, topic: &str, partition: u32, sizes: &[usize], acks: Acks) {
        let sent = self.sent.get_mut(&(topic.to_owned(), partition)).unwrap();
        let first = sent.len();
        let sizes = if sizes.is_empty() { &[0] } else { sizes };
        for (at, &size) in sizes.iter().enumerate() {
            let number = first + at;
            let value: Vec<u8> = (0..size).map(|byte| (number * 31 + byte * 7) as u8).collect();
            let key = (number % 3 != 1).then(|| format!("{topic} {number}").into_bytes());
            sent.push((1_704_067_200_000 + number as i64 * 10, key, (number != 3).then_some(value)));
        }
        let records: Vec<Record<'_>> = sent[first..]
            .iter()
            .map(|(timestamp, key, value)| {
                let record = value.as_ref().map_or_else(Record::tombstone, Record::new);
                let record = key.iter().fold(record, |record, key| record.key(key));
                record.timestamp(*timestamp).acks(acks)
            })
            .collect();
        let receipt = engine.partition(topic, partition).unwrap().append_batch(&records).unwrap();
        assert_eq!(receipt.wait().unwrap().offset as usize, first);
    }

    /// Commits one offset, as a member of the group.
    fn commit(&mut self, engine: &Engine, group: &str, (topic, partition): (&str, u32), commit: (u64, &[u8], Acks)) {
        let (offset, metadata, acks) = commit;
        let mut consumer = engine.consumer(group).assign([(topic, partition)]).start().unwrap();
        let commit = OffsetCommit::new(topic, partition, offset).metadata(metadata);
        consumer.commit_offsets([commit], acks).unwrap();
        self.note(group, (topic.to_owned(), partition), (offset, metadata.to_vec()));
    }

    /// Sets a group's offsets in all partitions of a topic.
    fn reset(&mut self, engine: &Engine, group: &str, topic: &str, to: ResetTo) {
        for reset in engine.reset_group(group, topic, to, false).unwrap() {
            self.note(group, (topic.to_owned(), reset.partition), (reset.to, Vec::new()));
        }
    }

    fn note(&mut self, group: &str, place: Place, commit: Commit) {
        self.commits.entry(group.to_owned()).or_default().entry(place).or_default().push(commit);
    }

    /// The newest commits of a group, by partition.
    pub(crate) fn newest(&self, group: &str) -> BTreeMap<Place, Commit> {
        if self.deleted_groups.contains(group) {
            return BTreeMap::new();
        }
        let commits = self.commits.get(group).into_iter().flatten();
        commits.filter_map(|(place, commits)| Some((place.clone(), commits.last()?.clone()))).collect()
    }

    /// The next batch begins a new segment.
    fn roll(&self) {
        self.clock.advance(Duration::from_secs(2));
    }

    /// All files, in order.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.disk.list_files()
    }

    pub(crate) fn read(&self, path: &Path) -> Vec<u8> {
        self.pristine.read_file(path).unwrap()
    }
}
