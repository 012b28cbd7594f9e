//! The catalogue, put together from what is whole of it and what the segments' headers say.

use std::collections::BTreeSet;
use std::path::Path;

use super::directories::{Directories, FoundTopic};
use super::keyed::{KeyedFiles, Salvaged};
use super::plan::{NewKeyedFile, Repair, RepairAction, RepairStep};
use crate::config::TopicConfig;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, CatalogEntry, FileHeader, FileKind, FormatError, MAX_OFFSET, Mark, Previous};
use crate::ids::{EngineId, LogId, TopicId};
use crate::keyed::fresh_file_id;
use crate::topic::{CatalogState, Topic};

/// How large a batch of entries gets.
const BODY_BYTES: usize = 1 << 20;

/// What the old catalogue still says.
#[derive(Default)]
pub(super) struct Left {
    pub(super) state: CatalogState,
    engine: Option<(EngineId, i64)>,
    /// Entries that don't follow from what is left before them.
    orphans: Vec<CatalogEntry>,
    pub(super) epoch: u32,
    any: bool,
}

/// Reads it.
///
/// # Errors
/// Of the disk; `NewerFormat`.
pub(super) fn left_of(disk: &dyn Disk, salvaged: Option<&Salvaged>, engine_id: Option<EngineId>) -> Result<Left> {
    let mut left = Left::default();
    let Some(salvaged) = salvaged else { return Ok(left) };
    let by_header = salvaged.header.as_ref().map(|header| (header.log.engine_id, header.created_ms));
    let mut entries = Vec::new();
    salvaged.each(disk, &mut |_, body, _| {
        entries.extend(CatalogEntry::each_of(body).map_while(|entry| entry.ok()));
        Ok(())
    })?;
    let said = entries.iter().find_map(|entry| match entry {
        CatalogEntry::Engine { engine_id, created_ms } => Some((*engine_id, *created_ms)),
        _ => None,
    });
    left.engine = said.or(by_header).or(engine_id.map(|id| (id, 0)));
    // Its batches are sealed for the engine of its header, whatever an entry says.
    left.engine = left.engine.map(|(id, created_ms)| (engine_id.unwrap_or(id), created_ms));
    left.any = !entries.is_empty();
    left.epoch = salvaged.epoch();
    if let Some((engine_id, created_ms)) = left.engine {
        let _ = left.state.apply(&CatalogEntry::Engine { engine_id, created_ms });
    }
    for entry in entries {
        match left.state.apply(&entry) {
            Ok(()) => {}
            Err(FormatError::Newer(found)) => {
                let error = Error::new(crate::error::ErrorKind::NewerFormat { found });
                return Err(error.at_path(&salvaged.path));
            }
            Err(_) => left.orphans.push(entry),
        }
    }
    left.epoch = left.epoch.max(left.state.epoch());
    Ok(left)
}

/// Everything that a new catalogue is made of.
pub(super) struct Found<'a> {
    pub(super) files: KeyedFiles,
    pub(super) left: Left,
    pub(super) directories: &'a Directories,
    /// The newest epoch and topic id that any other file knows.
    pub(super) epoch: u32,
    pub(super) topic_id: u32,
    /// The engine, as most files say.
    pub(super) engine_id: Option<EngineId>,
    pub(super) reason: String,
    pub(super) now_ms: i64,
}

/// The new catalogue's state, and the file that says it.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt) if epochs are used up.
pub(super) fn rebuild(
    disk: &dyn Disk,
    dir: &Path,
    found: Found<'_>,
    shown: &mut Repair,
) -> Result<(CatalogState, NewKeyedFile)> {
    let Found { files, left, directories, epoch, topic_id, engine_id, reason, now_ms } = found;
    let engine = match engine_id.or(left.engine.map(|(id, _)| id)) {
        Some(engine) => engine,
        None => {
            let (low, high) = (disk.random().map_err(Error::io)?, disk.random().map_err(Error::io)?);
            EngineId((u128::from(high) << 64 | u128::from(low)).to_le_bytes())
        }
    };
    let created_ms = left.engine.map_or(now_ms, |(_, created_ms)| created_ms);
    let epoch = epoch.max(left.epoch).checked_add(1);
    let epoch = epoch.ok_or_else(|| Error::corrupt("epochs are used up").at_path(dir))?;
    let is_torn = |old: &Salvaged| !old.source.damage.is_empty() || old.evidence() > old.end_offset();
    if files.newest.as_ref().is_some_and(is_torn) {
        let lost = "what the damaged part of the catalogue said is forgotten: newer settings and deletions of topics";
        shown.notes.push(lost.to_owned());
    }
    let unproven = "how far the logs were durable isn't known any more: all that is whole of them stays, what is missing \
                    before it counts as lost, and what is missing behind it can be named only as far as a group has \
                    committed it";
    shown.notes.push(unproven.to_owned());
    let mut entries = vec![CatalogEntry::Engine { engine_id: engine, created_ms }];
    if left.state.offsets_end() > 0 && epoch > 1 {
        let epoch = epoch - 1;
        entries.push(CatalogEntry::Epoch { epoch });
        entries.push(CatalogEntry::Clean { epoch, offsets_end: left.state.offsets_end() });
    }
    entries.push(CatalogEntry::Epoch { epoch });
    let mut of_topics = topic_entries(&left, directories, engine, topic_id, shown);
    of_topics.extend(left.orphans.iter().filter(|entry| id_of(entry).is_some()).cloned());
    of_topics.sort_by_key(|entry| id_of(entry).unwrap_or(TopicId(0)));
    let mut state = CatalogState::default();
    let mut kept = Vec::new();
    for entry in entries.into_iter().chain(of_topics) {
        if state.apply(&entry).is_ok() {
            kept.push(entry);
        }
    }
    for entry in marks(&state, directories, engine, shown) {
        if state.apply(&entry).is_ok() {
            kept.push(entry);
        }
    }
    let count = kept.len() as u64;
    let old = files.newest.as_ref();
    let base_offset = old.map_or(0, |old| old.end_offset().max(old.evidence()));
    let end = base_offset.checked_add(count).filter(|&end| end <= MAX_OFFSET);
    let header = keyed_header(
        disk,
        FileKind::Catalog,
        engine,
        epoch,
        base_offset,
        end.ok_or_else(|| Error::corrupt("offsets are used up").at_path(dir))?,
        now_ms,
    )?;
    let number = files.number.checked_add(1).ok_or_else(|| Error::corrupt("file numbers are used up").at_path(dir))?;
    let path = dir.join(format!("catalog-{number}"));
    let topics = state.topics().count() as u64;
    let action = RepairAction::RebuildCatalog { topics, epoch };
    shown.steps.push(RepairStep { path: path.clone(), topic: None, partition: None, action, reason });
    let aside = files.aside.into_iter().map(|(aside, _)| aside).collect();
    let bodies = encode(&kept);
    Ok((state, NewKeyedFile { path, header, bodies, aside, now_ms }))
}

/// The header of a new keyed file: it is durable when it gets its name.
pub(super) fn keyed_header(
    disk: &dyn Disk,
    kind: FileKind,
    engine_id: EngineId,
    epoch: u32,
    base_offset: u64,
    durable_before: u64,
    created_ms: i64,
) -> Result<FileHeader> {
    Ok(FileHeader {
        kind,
        log: LogId::keyed(engine_id),
        epoch,
        file_id: fresh_file_id(disk)?,
        base_offset,
        created_ms,
        term: 0,
        log_start_offset: base_offset,
        durable_before,
        previous: Previous::default(),
        rewrite: 0,
        rewritten_end_offset: 0,
        rewritten_length: 0,
        name: String::new(),
    })
}

/// Entries for the topics that are known, and for those that only their directories tell of.
fn topic_entries(
    left: &Left,
    directories: &Directories,
    engine: EngineId,
    topic_id: u32,
    shown: &mut Repair,
) -> Vec<CatalogEntry> {
    let mut entries = Vec::new();
    left.state.entries(|entry| {
        if id_of(&entry).is_some() {
            entries.push(entry);
        }
    });
    let deleted: BTreeSet<TopicId> =
        left.state.deleted().map(|(id, _)| id).chain(directories.deleted.iter().copied()).collect();
    for &id in directories.deleted.iter().filter(|&&id| left.state.topic_by_id(id).is_some()) {
        entries.push(CatalogEntry::Deleted { topic_id: id });
    }
    let mut last = topic_id.max(entries.iter().filter_map(id_of).map(|id| id.0).max().unwrap_or(0));
    last = last.max(directories.deleted.iter().map(|id| id.0).max().unwrap_or(0));
    let ids: Vec<Option<TopicId>> = directories.topics.iter().map(|topic| topic.id(engine)).collect();
    last = last.max(ids.iter().flatten().map(|id| id.0).max().unwrap_or(0));
    for (topic, id) in directories.topics.iter().zip(ids) {
        let known = left.state.topic(&topic.name);
        match (known, id) {
            (Some(known), Some(id)) if known.id >= id => entries.extend(more_partitions(known, topic, shown)),
            (Some(_), None) => {}
            (_, Some(id)) if deleted.contains(&id) || left.state.topic_by_id(id).is_some() => {}
            (None, None) if left.any => {}
            (known, id) => {
                if let Some(known) = known {
                    entries.push(CatalogEntry::Deleted { topic_id: known.id });
                }
                let topic_id = id.unwrap_or_else(|| {
                    last += 1;
                    TopicId(last)
                });
                let partitions = topic.partitions(id);
                let created_ms = topic.headers.iter().map(|header| header.created_ms).min().unwrap_or(0);
                shown.notes.push(format!(
                    "topic {}: the catalogue doesn't know it any more; it gets {partitions} partitions, as its files \
                     say, and the default settings",
                    topic.name
                ));
                let (name, config) = (topic.name.clone(), TopicConfig::default().to_text());
                entries.push(CatalogEntry::Topic { topic_id, name, partitions, created_ms, config });
            }
        }
    }
    // So that no id is given twice.
    let highest = entries.iter().filter_map(id_of).map(|id| id.0).max().unwrap_or(0);
    if last > highest {
        let topic_id = TopicId(last);
        let name = (0..).map(|at| format!("lost-{last}-{at}")).find(|name| left.state.topic_like(name).is_none());
        let (partitions, config) = (1, String::new());
        entries.push(CatalogEntry::Topic {
            topic_id,
            name: name.unwrap_or_default(),
            partitions,
            created_ms: 0,
            config,
        });
        entries.push(CatalogEntry::Deleted { topic_id });
    }
    entries
}

/// An expansion of which only the new partitions' files tell.
fn more_partitions(known: &Topic, found: &FoundTopic, shown: &mut Repair) -> Option<CatalogEntry> {
    let of_id = found.headers.iter().filter(|header| header.log.topic_id == known.id);
    let partitions = of_id.map(|header| header.log.partition).max()?.checked_add(1)?;
    let before = known.config.partitions;
    if partitions <= before {
        return None;
    }
    shown.notes.push(format!(
        "topic {}: {partitions} partitions, as its files say, and not {before}; groups don't wait for what was \
         written before there were so many",
        known.name
    ));
    let end_offsets = vec![0; before as usize];
    Some(CatalogEntry::Expanded { topic_id: known.id, partitions, end_offsets })
}

/// Where each partition's log starts, as far as its files tell more than is known.
fn marks(state: &CatalogState, directories: &Directories, engine: EngineId, shown: &mut Repair) -> Vec<CatalogEntry> {
    let mut entries = Vec::new();
    for topic in state.topics() {
        let Some(found) = directories.topics.iter().find(|found| found.name == topic.name) else { continue };
        for partition in 0..topic.config.partitions {
            let log = LogId { engine_id: engine, topic_id: topic.id, partition };
            let headers = || found.headers.iter().filter(|header| header.log == log);
            let Some(first) = headers().min_by_key(|header| header.base_offset) else { continue };
            let said = headers().map(|header| header.log_start_offset).max().unwrap_or(0);
            let known = topic.mark(partition).map_or(0, |mark| mark.log_start_offset);
            let log_start_offset = said.max(first.base_offset).max(known);
            if log_start_offset <= known {
                continue;
            }
            if first.base_offset > said.max(known) {
                shown.notes.push(format!(
                    "topic {}, partition {partition}: where the log starts isn't known any more; it is taken to be offset \
                     {log_start_offset}, where the first file begins",
                    topic.name
                ));
            }
            let mark = Mark {
                epoch: first.epoch,
                log_start_offset,
                durable_offset: first.base_offset,
                segment_base_offset: first.base_offset,
                position: BLOCK_BYTES,
            };
            entries.push(CatalogEntry::Mark { topic_id: topic.id, partition, mark });
        }
    }
    entries
}

fn id_of(entry: &CatalogEntry) -> Option<TopicId> {
    match entry {
        CatalogEntry::Engine { .. } | CatalogEntry::Epoch { .. } | CatalogEntry::Clean { .. } => None,
        CatalogEntry::Topic { topic_id, .. }
        | CatalogEntry::Deleted { topic_id }
        | CatalogEntry::Expanded { topic_id, .. }
        | CatalogEntry::Configured { topic_id, .. }
        | CatalogEntry::Mark { topic_id, .. }
        | CatalogEntry::Truncated { topic_id, .. } => Some(*topic_id),
    }
}

fn encode(entries: &[CatalogEntry]) -> Vec<(Vec<u8>, u32)> {
    let mut bodies: Vec<(Vec<u8>, u32)> = Vec::new();
    for entry in entries {
        match bodies.last_mut() {
            Some((body, count)) if body.len() < BODY_BYTES => {
                entry.encode(body);
                *count += 1;
            }
            _ => {
                let mut body = Vec::new();
                entry.encode(&mut body);
                bodies.push((body, 1));
            }
        }
    }
    bodies
}
