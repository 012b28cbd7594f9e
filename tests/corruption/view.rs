//! What an engine says of a directory: topics, every record, every group, and what it complains of.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use thalweg::sim::SimDisk;
use thalweg::{Engine, Error, ErrorKind, Event, TopicConfig};

use crate::sample::{Commit, Place, Sample, Sent};

/// What was told by events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Tails that were cut: file, position, bytes.
    pub(crate) cuts: Vec<(PathBuf, u64, u64)>,
    /// Damage to the offset log: groups in doubt, and whether names are lost.
    pub(crate) offset_log: Option<(Error, BTreeSet<String>, bool)>,
    pub(crate) corrupt: BTreeMap<Place, Error>,
}

/// What a partition gave.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) offsets: Range<u64>,
    pub(crate) records: BTreeMap<u64, Sent>,
    pub(crate) errors: Vec<Error>,
}

/// What a group's partition gave: the commit, and whether it is in doubt.
pub(crate) type Committed = BTreeMap<Place, (Option<Commit>, bool)>;

/// All that an engine says.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) topics: BTreeMap<String, TopicConfig>,
    pub(crate) partitions: BTreeMap<Place, Read>,
    pub(crate) groups: BTreeMap<String, Committed>,
    pub(crate) told: Told,
    pub(crate) damage: BTreeMap<Place, Error>,
}

/// Opens a directory, for reading only or for writing.
pub(crate) fn open(sample: &Sample, disk: &SimDisk, writable: bool) -> (thalweg::Result<Engine>, Arc<Mutex<Told>>) {
    let told = Arc::new(Mutex::new(Told::default()));
    let noted = told.clone();
    let builder = sample.builder(disk).on_event(move |event| {
        let mut told = noted.lock().unwrap();
        match event {
            Event::TornTailCut { path, position, bytes, .. } => told.cuts.push((path.clone(), *position, *bytes)),
            Event::OffsetLogCorrupt { error, groups, names_lost } => {
                told.offset_log = Some((error.clone(), groups.iter().cloned().collect(), *names_lost));
            }
            Event::PartitionCorrupt { topic, partition, error } => {
                told.corrupt.insert((topic.clone(), *partition), error.clone());
            }
            _ => {}
        }
    });
    let builder = if writable { builder } else { builder.read_only() };
    (builder.open(), told)
}

/// Asks for everything.
pub(crate) fn look(engine: &Engine, told: &Mutex<Told>) -> thalweg::Result<View> {
    let mut view = View {
        topics: BTreeMap::new(),
        partitions: BTreeMap::new(),
        groups: BTreeMap::new(),
        told: Told::default(),
        damage: BTreeMap::new(),
    };
    for topic in engine.topics()? {
        let config = engine.describe_topic(&topic)?.config;
        for partition in 0..config.partitions {
            view.partitions.insert((topic.clone(), partition), read(engine, &topic, partition));
        }
        view.topics.insert(topic, config);
    }
    for name in engine.groups()? {
        let offsets = match engine.describe_group(&name) {
            Ok(group) => group.offsets,
            Err(error) if matches!(error.kind(), ErrorKind::UnknownGroup { .. }) => continue,
            Err(error) => return Err(error),
        };
        let rows = offsets.into_iter().map(|row| {
            let commit = row.committed.map(|offset| (offset, row.metadata));
            ((row.topic, row.partition), (commit, row.in_doubt))
        });
        view.groups.insert(name, rows.collect());
    }
    for found in engine.recovery().partitions {
        if let Some(damage) = found.damage {
            view.damage.insert((found.topic, found.partition), damage);
        }
    }
    // What reading came upon.
    for (topic, partition) in view.partitions.keys() {
        let described = engine.describe_topic(topic)?.partitions.swap_remove(*partition as usize);
        if let Some(error) = described.failure {
            view.damage.entry((topic.clone(), *partition)).or_insert(error);
        }
    }
    view.told = told.lock().unwrap().clone();
    Ok(view)
}

/// All records, by batches, then a few by offset.
fn read(engine: &Engine, topic: &str, partition: u32) -> Read {
    let mut read = Read::default();
    let partition = match engine.partition(topic, partition) {
        Ok(partition) => partition,
        Err(error) => {
            read.errors.push(error);
            return read;
        }
    };
    match partition.read(..) {
        Err(error) => read.errors.push(error),
        Ok(reading) => {
            for batch in reading {
                match batch {
                    Err(error) => {
                        read.errors.push(error);
                        break;
                    }
                    Ok(batch) => {
                        for record in &batch {
                            let (key, value) = (record.key().map(<[u8]>::to_vec), record.value().map(<[u8]>::to_vec));
                            let before = read.records.insert(record.offset(), (record.timestamp(), key, value));
                            assert!(before.is_none(), "offset {} comes twice", record.offset());
                        }
                    }
                }
            }
        }
    }
    read.offsets = partition.log_start_offset()..partition.end_offset();
    // Behind damage, too, what is asked for comes or nothing.
    let last = read.records.keys().next_back().map_or(read.offsets.start, |last| last + 1);
    for offset in last..read.offsets.end {
        match partition.get(offset) {
            Ok(found) => {
                let record = found.view();
                assert_eq!(record.offset(), offset);
                let (key, value) = (record.key().map(<[u8]>::to_vec), record.value().map(<[u8]>::to_vec));
                read.records.insert(offset, (record.timestamp(), key, value));
            }
            Err(error) => read.errors.push(error),
        }
    }
    read
}
