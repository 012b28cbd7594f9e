//! A small data directory to put fuzzed bytes into, the same in every process.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::stamp::{stamp_batches, stamp_header};
use crate::config::{Acks, TopicConfig, Writers};
use crate::engine::{Engine, Record};
use crate::error::Result;
use crate::format::FileHeader;
use crate::sim::{SimClock, SimDisk};

/// The data directory.
pub(super) const DIR: &str = "data";
/// Its catalogue.
pub(super) const CATALOG: &str = "data/catalog-1";
/// The first segment of the only partition of the only topic.
pub(super) const SEGMENT: &str = "data/topics/t/0/00000000000000000000.log";

/// See the module.
#[derive(Default)]
pub(super) struct Template {
    /// The files as a clean close leaves them, without lock and indexes.
    pub(super) files: Vec<(PathBuf, Vec<u8>)>,
    /// The catalogue as it was before the first record: without marks.
    pub(super) young_catalog: Vec<u8>,
}

impl Template {
    pub(super) fn get() -> &'static Template {
        static TEMPLATE: OnceLock<Template> = OnceLock::new();
        let template = TEMPLATE.get_or_init(|| make().unwrap_or_default());
        assert!(template.files.len() == 3, "a catalogue and two segments");
        template
    }

    #[cfg(test)]
    pub(super) fn file(&self, path: &str) -> &[u8] {
        self.files.iter().find(|(known, _)| known == std::path::Path::new(path)).map_or(&[], |(_, bytes)| bytes)
    }
}

fn make() -> Result<Template> {
    let disk = SimDisk::new();
    let clock = SimClock::new();
    let engine = Engine::builder(DIR).sim(&disk).clock(Arc::new(clock.clone())).writers(Writers::Inline).open()?;
    let config = TopicConfig::default().segment_bytes(64 << 10).segment_ms(Some(1_000)).acks(Acks::Written);
    engine.create_topic("t", config)?;
    let mut young_catalog = disk.read_file(CATALOG).unwrap_or_default();
    let partition = engine.partition("t", 0)?;
    let several =
        [Record::new("value").key("key").header("name", "value"), Record::tombstone().key("key"), Record::new("")];
    partition.append_batch(&several)?.wait()?;
    partition.append(&Record::new("of the second batch"))?.wait()?;
    clock.advance(Duration::from_secs(2));
    partition.append(&Record::new("of the second segment"))?.wait()?;
    engine.close()?;

    let mut files = Vec::new();
    for path in disk.list_files() {
        let name = path.to_string_lossy();
        if name.ends_with(".log") || name.contains("catalog-") {
            let bytes = disk.read_file(&path).unwrap_or_default();
            files.push((path, bytes));
        }
    }
    let mut all: Vec<_> = files.iter_mut().map(|(_, bytes)| bytes).collect();
    all.push(&mut young_catalog);
    settle_identities(&mut all);
    Ok(Template { files, young_catalog })
}

/// Replaces what the engine draws at random by numbers that are always the same.
pub(super) fn settle_identities(files: &mut [&mut Vec<u8>]) {
    let mut replaced: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for header in files.iter().filter_map(|bytes| FileHeader::decode(bytes).ok()) {
        let known = replaced.len() as u64;
        for (old, new) in [
            (header.log.engine_id.0.to_vec(), vec![0xe1; 16]),
            (header.file_id.to_le_bytes().to_vec(), (0xf11e_0000 + known).to_le_bytes().to_vec()),
        ] {
            if !replaced.iter().any(|(known, _)| *known == old) {
                replaced.push((old, new));
            }
        }
    }
    for bytes in files {
        for (old, new) in &replaced {
            for at in (0..bytes.len().saturating_sub(old.len())).step_by(8) {
                if bytes[at..].starts_with(old) {
                    bytes[at..at + old.len()].copy_from_slice(new);
                }
            }
        }
        let like = bytes.clone();
        stamp_header(bytes, &like);
        stamp_batches_written(bytes);
    }
}

/// Not what lies allocated behind the last batch: that stays zero.
fn stamp_batches_written(bytes: &mut [u8]) {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| (last + 1).next_multiple_of(8));
    let end = end.min(bytes.len());
    stamp_batches(&mut bytes[..end], &[]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_clean_and_whole() {
        let template = Template::get();
        let disk = SimDisk::new();
        for (path, bytes) in &template.files {
            disk.write_file(path, bytes).unwrap();
        }
        let engine = Engine::builder(DIR).sim(&disk).writers(Writers::Inline).open().unwrap();
        let recovery = engine.recovery();
        assert!(recovery.clean && recovery.partitions.is_empty(), "{recovery:?}");
        let partition = engine.partition("t", 0).unwrap();
        let read: usize = partition.read(..).unwrap().map(|batch| batch.unwrap().iter().count()).sum();
        assert_eq!((read, partition.end_offset()), (5, 5));
        assert_eq!(engine.describe_topic("t").unwrap().partitions[0].segments, 2);
    }

    #[test]
    fn it_is_always_the_same() {
        let (one, other) = (make().unwrap(), make().unwrap());
        assert!(one.files == other.files && one.young_catalog == other.young_catalog);
    }
}
