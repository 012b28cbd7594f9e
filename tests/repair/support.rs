//! The directory that is damaged, and what must hold once it is repaired.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thalweg::inspect::{Repair, repair_sim, verify_sim};
use thalweg::sim::{CrashPolicy, SimClock, SimDisk};
use thalweg::{Acks, Engine, Record, ResetTo, TopicConfig, Writers};

pub(crate) const TOPIC: &str = "quotes";
pub(crate) const DATA: &str = "data";

/// A directory, and what stands in it.
pub(crate) struct Sample {
    pub(crate) disk: SimDisk,
    pub(crate) clock: SimClock,
    /// The records of each partition, by offset.
    pub(crate) sent: BTreeMap<u32, Vec<Vec<u8>>>,
    /// The offsets of each batch, by partition.
    pub(crate) batches: BTreeMap<u32, Vec<std::ops::Range<u64>>>,
}

impl Sample {
    /// A topic without records.
    fn empty(disk: SimDisk, config: TopicConfig) -> (Sample, Engine) {
        let sample = Sample { disk, clock: SimClock::new(), sent: BTreeMap::new(), batches: BTreeMap::new() };
        let engine = sample.open();
        engine.create_topic(TOPIC, config.index_interval_bytes(4096)).unwrap();
        (sample, engine)
    }

    /// Three segments, written in one go: only the catalogue says that any of it was durable.
    pub(crate) fn in_one_go() -> Sample {
        let (mut sample, engine) =
            Sample::empty(SimDisk::new(), TopicConfig::default().segment_bytes(64 << 10).acks(Acks::Written));
        for _ in 0..3 {
            sample.append(&engine, 0, &[50_000]);
            sample.append(&engine, 0, &[20, 30]);
        }
        engine.close().unwrap();
        sample
    }

    /// Partition 0 has four segments, partition 1 two; two lives, both closed; two groups.
    pub(crate) fn new() -> Sample {
        Sample::on(SimDisk::new())
    }

    /// The same in a directory of another engine.
    pub(crate) fn of_another_engine() -> Sample {
        let disk = SimDisk::new();
        // The disk gives each directory another id, in turn.
        Engine::builder("elsewhere").sim(&disk).writers(Writers::Inline).open().unwrap().close().unwrap();
        disk.list_files().iter().filter(|path| path.starts_with("elsewhere")).for_each(|path| {
            disk.remove_file(path).unwrap();
        });
        Sample::on(disk)
    }

    fn on(disk: SimDisk) -> Sample {
        let (mut sample, engine) = Sample::empty(disk, TopicConfig::default().partitions(2).segment_ms(Some(1_000)));
        sample.append(&engine, 0, &[40, 30]);
        sample.append(&engine, 0, &[700]);
        sample.append(&engine, 1, &[10, 20]);
        sample.roll();
        for _ in 0..5 {
            sample.append(&engine, 0, &[1_500, 20]);
        }
        sample.append(&engine, 1, &[600, 3]);
        sample.roll();
        sample.append(&engine, 0, &[5, 6, 7]);
        engine.reset_group("billing", TOPIC, ResetTo::Offset(2), false).unwrap();
        engine.reset_group("audit", TOPIC, ResetTo::Offset(1), false).unwrap();
        engine.close().unwrap();
        let engine = sample.open();
        sample.roll();
        sample.append(&engine, 0, &[9]);
        sample.append(&engine, 0, &[800, 1]);
        engine.reset_group("billing", TOPIC, ResetTo::Latest, false).unwrap();
        engine.close().unwrap();
        sample
    }

    pub(crate) fn open(&self) -> Engine {
        open(&self.disk, &self.clock).unwrap()
    }

    pub(crate) fn append(&mut self, engine: &Engine, partition: u32, sizes: &[usize]) {
        let sent = self.sent.entry(partition).or_default();
        let first = sent.len();
        let fill = |at: usize, size: usize| (0..size).map(|byte| (at * 31 + byte * 7) as u8).collect::<Vec<u8>>();
        sent.extend(sizes.iter().enumerate().map(|(at, &size)| fill(first + at, size)));
        let records: Vec<Record<'_>> = sent[first..].iter().map(Record::new).collect();
        let receipt = engine.partition(TOPIC, partition).unwrap().append_batch(&records).unwrap();
        assert_eq!(receipt.wait().unwrap().offset as usize, first);
        self.batches.entry(partition).or_default().push(first as u64..sent.len() as u64);
    }

    /// The next batch begins a new segment.
    pub(crate) fn roll(&self) {
        self.clock.advance(Duration::from_secs(2));
    }

    /// The same directory on another disk, all of it durable.
    pub(crate) fn copy(&self) -> SimDisk {
        let disk = SimDisk::new();
        for path in self.disk.list_files() {
            disk.write_file(&path, self.disk.read_file(&path).unwrap()).unwrap();
        }
        disk
    }

    /// All files but `LOCK`.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.disk.list_files().into_iter().filter(|path| !path.ends_with("LOCK")).collect()
    }

    pub(crate) fn segments(&self, partition: u32) -> Vec<PathBuf> {
        let dir = Path::new(DATA).join("topics").join(TOPIC).join(partition.to_string());
        let is_segment = |path: &PathBuf| path.starts_with(&dir) && path.extension().is_some_and(|ext| ext == "log");
        self.files().into_iter().filter(is_segment).collect()
    }

    pub(crate) fn named(&self, prefix: &str) -> PathBuf {
        let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(prefix);
        self.files().into_iter().find(is_it).unwrap()
    }
}

pub(crate) fn open(disk: &SimDisk, clock: &SimClock) -> thalweg::Result<Engine> {
    Engine::builder(DATA).sim(disk).clock(Arc::new(clock.clone())).writers(Writers::Inline).seed(1).open()
}

pub(crate) fn repair(disk: &SimDisk) -> thalweg::Result<Repair> {
    repair_sim(disk, DATA, false, &mut |_| {})
}

/// Repairs a damaged directory, and checks all that must hold then. What was done.
#[track_caller]
pub(crate) fn repaired(sample: &Sample, disk: &SimDisk, what: &str) -> Repair {
    let planned = repair_sim(disk, DATA, true, &mut |_| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
    let before = disk.crash(CrashPolicy::Kill);
    let done = repair(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(summary(&planned), summary(&done), "{what}: what was planned and what was done");
    assert!(done.impossible.is_empty(), "{what}: {:#?}", done.impossible);
    assert_nothing_deleted(&before, disk, what);
    check(sample, disk, &done, what);
    done
}

/// Every file that was there still is, or has moved to `set-aside/`, byte by byte.
#[track_caller]
pub(crate) fn assert_nothing_deleted(before: &SimDisk, after: &SimDisk, what: &str) {
    let aside: Vec<Vec<u8>> = after
        .list_files()
        .iter()
        .filter(|path| path.components().any(|part| part.as_os_str() == "set-aside"))
        .map(|path| after.read_file(path).unwrap())
        .collect();
    for path in before.list_files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "LOCK" || name.ends_with(".index") {
            continue;
        }
        let bytes = before.read_file(&path).unwrap();
        let is_there = after.read_file(&path).is_ok_and(|now| now == bytes) || aside.contains(&bytes);
        assert!(is_there, "{what}: {} is gone", path.display());
    }
}

/// Without what is random, and without numbers of rounds.
fn summary(repair: &Repair) -> String {
    format!("{:#?} {:#?} {:#?} {:#?}", repair.steps, repair.lost, repair.in_doubt, repair.notes)
}

/// Whatever was done: verify is clean, nothing is left to repair, all that isn't said to be lost is
/// there, and the log goes on at an end that no offset is given again by.
#[track_caller]
pub(crate) fn check(sample: &Sample, disk: &SimDisk, done: &Repair, what: &str) {
    let found = verify_sim(disk, DATA, &mut |_| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(found.is_sound(), "{what}: {:#?}\n{done:#?}", found.damage);
    let before = disk.content_hash();
    assert!(repair(disk).unwrap().is_nothing(), "{what}");
    assert_eq!(disk.content_hash(), before, "{what}: nothing to repair changes nothing");
    let engine = open(disk, &sample.clock).unwrap_or_else(|error| panic!("{what}: {error}"));
    let damage = engine.recovery().partitions;
    assert!(damage.iter().all(|found| found.damage.is_none()), "{what}: {damage:#?}");
    for (&number, sent) in &sample.sent {
        let there = read(&engine, number, what);
        let lost = |offset: u64| {
            done.lost
                .iter()
                .any(|lost| lost.partition == number && lost.topic == TOPIC && lost.offsets.contains(&offset))
        };
        for (offset, value) in &there {
            assert_eq!(Some(value), sent.get(*offset as usize), "{what}: partition {number}, offset {offset}");
        }
        for offset in 0..sent.len() as u64 {
            let is_there = there.contains_key(&offset);
            assert_eq!(is_there, !lost(offset), "{what}: partition {number}, offset {offset}\n{done:#?}");
        }
        let partition = engine.partition(TOPIC, number).unwrap();
        assert_eq!(partition.next_offset(), sent.len() as u64, "{what}: partition {number} ends elsewhere");
        let receipt = partition.append(&Record::new("goes on")).unwrap();
        assert_eq!(receipt.wait().unwrap().offset, sent.len() as u64, "{what}");
    }
    engine.close().unwrap();
    let engine = open(disk, &sample.clock).unwrap();
    for (&number, sent) in &sample.sent {
        let last = engine.partition(TOPIC, number).unwrap().get(sent.len() as u64).unwrap();
        assert_eq!(last.view().value(), Some(&b"goes on"[..]), "{what}");
    }
    engine.close().unwrap();
    let found = verify_sim(disk, DATA, &mut |_| {}).unwrap();
    assert!(found.is_sound(), "{what}, after going on: {:#?}", found.damage);
}

/// All records of a partition, by offset.
pub(crate) fn read(engine: &Engine, number: u32, what: &str) -> BTreeMap<u64, Vec<u8>> {
    let mut there = BTreeMap::new();
    for batch in engine.partition(TOPIC, number).unwrap().read(..).unwrap() {
        let batch = batch.unwrap_or_else(|error| panic!("{what}: {error}"));
        for record in &batch {
            there.insert(record.offset(), record.value().unwrap().to_vec());
        }
    }
    there
}

/// How many offsets are said to be lost.
pub(crate) fn lost(done: &Repair) -> u64 {
    done.lost.iter().map(|lost| lost.offsets.end - lost.offsets.start).sum()
}

pub(crate) fn change(disk: &SimDisk, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.read_file(path).unwrap();
    change(&mut bytes);
    disk.write_file(path, &bytes).unwrap();
}
