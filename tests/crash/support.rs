//! An engine on a simulated disk, and one topic with one partition of small segments.

use std::path::PathBuf;
use std::sync::Arc;

use thalweg::sim::{SimClock, SimDisk};
use thalweg::{Acks, Engine, Partition, Record, TopicConfig, Writers};

pub(crate) const EIO: i32 = 5;
pub(crate) const EACCES: i32 = 13;
pub(crate) const ENOSPC: i32 = 28;

pub(crate) fn open(disk: &SimDisk) -> Engine {
    let clock = Arc::new(SimClock::new());
    Engine::builder("data").writers(Writers::Inline).sim(disk).clock(clock).seed(1).open().unwrap()
}

pub(crate) fn topic(engine: &Engine) -> Partition {
    let config = TopicConfig::default().segment_bytes(64 << 10).acks(Acks::Written);
    engine.create_topic("t", config).unwrap();
    engine.partition("t", 0).unwrap()
}

pub(crate) fn append(partition: &Partition, from: u64, count: u64, bytes: usize, acks: Acks) {
    for number in from..from + count {
        let value = format!("{number:0bytes$}");
        let at = partition.append(&Record::new(&value).acks(acks)).unwrap().wait().unwrap();
        assert_eq!(at.offset, number);
    }
}

pub(crate) fn numbers(partition: &Partition) -> Vec<u64> {
    let batches: Vec<_> = partition.read(..).unwrap().map(Result::unwrap).collect();
    let text = |value: &[u8]| std::str::from_utf8(value).unwrap().trim_start_matches('0').parse().unwrap_or(0);
    batches.iter().flat_map(|batch| batch.iter()).map(|record| text(record.value().unwrap())).collect()
}

pub(crate) fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let all = disk.list_files();
    all.into_iter()
        .filter(|path| path.starts_with("data/topics/t/0") && !path.to_string_lossy().contains("set-aside"))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect()
}

/// Lets an engine die without a word.
pub(crate) fn die(engine: Engine, disk: &SimDisk) {
    disk.cut_power_after(0);
    drop(engine);
}
