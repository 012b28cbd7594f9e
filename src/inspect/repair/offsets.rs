//! The offset log, made anew of every whole entry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::catalog::keyed_header;
use super::keyed::{KeyedFiles, pieces};
use super::plan::{DoubtfulGroup, NewKeyedFile, Repair, RepairAction, RepairStep};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{FileKind, MAX_OFFSET};
use crate::ids::{EngineId, TopicId};
use crate::offsets::{OffsetDamage, Salvager, bodies};
use crate::partition::Noted;
use crate::topic::CatalogState;

/// The highest offset that a group has committed in each partition: records below it were there. And the newest
/// epoch that an entry speaks of.
pub(super) fn committed(disk: &dyn Disk, files: &KeyedFiles) -> (BTreeMap<(TopicId, u32), u64>, u32) {
    let mut salvager = Salvager::default();
    if let Some(newest) = &files.newest {
        let _ = pieces(disk, newest, 0, &mut |piece| salvager.take(piece));
    }
    let (state, _) = salvager.finish();
    let mut ends = BTreeMap::new();
    for (&place, commit) in state.groups().flat_map(|(_, group)| &group.commits) {
        let end: &mut u64 = ends.entry(place).or_default();
        *end = commit.offset.max(*end);
    }
    (ends, state.newest_epoch())
}

/// The file that takes the damaged one's place.
///
/// # Errors
/// Of the disk; `NewerFormat`.
#[expect(clippy::too_many_arguments, reason = "each is a different fact about the directory")]
pub(super) fn rebuild(
    disk: &dyn Disk,
    dir: &Path,
    files: KeyedFiles,
    engine_id: EngineId,
    catalog: &CatalogState,
    reason: String,
    now_ms: i64,
    shown: &mut Repair,
) -> Result<NewKeyedFile> {
    let proven = catalog.offsets_end().max(Noted::read(disk, dir, engine_id)?.offset_log());
    let mut salvager = Salvager::default();
    let mut evidence = proven;
    if let Some(newest) = &files.newest {
        evidence = evidence.max(newest.end_offset()).max(newest.evidence());
        pieces(disk, newest, proven, &mut |piece| salvager.take(piece))?;
    }
    let (state, damage) = salvager.finish();
    let damage = match damage {
        None if files.newest.is_none() => Some(OffsetDamage::all(Error::corrupt(reason.clone()))),
        damage => damage,
    };
    if let Some(damage) = damage {
        shown.group_names_lost = damage.names_lost || state.groups().next().is_none();
        shown.notes.push("groups that were first named where the offset log is damaged are forgotten".to_owned());
        let name = |id| catalog.topic_by_id(id).map_or_else(|| format!("id {id}"), |topic| topic.name.clone());
        let known: BTreeMap<&str, _> = state.groups().collect();
        for group in &damage.groups {
            let mut places: BTreeSet<_> =
                known.get(group.as_str()).map(|offsets| offsets.commits.keys().copied().collect()).unwrap_or_default();
            // Of a topic that it reads, a partition's only commit may be lost.
            let topics: BTreeSet<_> = places.iter().map(|(id, _)| *id).collect();
            for topic in topics.into_iter().filter_map(|id| catalog.topic_by_id(id)) {
                places.extend((0..topic.config.partitions).map(|partition| (topic.id, partition)));
            }
            let doubted = places.into_iter().filter(|&(id, partition)| damage.in_doubt(group, id, partition));
            let partitions = doubted.map(|(id, partition)| (name(id), partition)).collect();
            shown.in_doubt.push(DoubtfulGroup { group: group.clone(), partitions });
        }
    }
    let bodies = bodies(&state);
    let count: u64 = bodies.iter().map(|(_, entries)| u64::from(*entries)).sum();
    let end = evidence.checked_add(count).filter(|&end| end <= MAX_OFFSET);
    let end = end.ok_or_else(|| Error::corrupt("offsets are used up").at_path(dir))?;
    let header = keyed_header(disk, FileKind::Offsets, engine_id, catalog.epoch(), evidence, end, now_ms)?;
    let number = files.number.checked_add(1).ok_or_else(|| Error::corrupt("file numbers are used up").at_path(dir))?;
    let path = dir.join(format!("offsets-{number}"));
    let groups = state.groups().count() as u64;
    let commits = state.groups().map(|(_, offsets)| offsets.commits.len() as u64).sum();
    let action = RepairAction::RebuildOffsets { groups, commits };
    shown.steps.push(RepairStep { path: path.clone(), topic: None, partition: None, action, reason });
    let aside = files.aside.into_iter().map(|(aside, _)| aside).collect();
    Ok(NewKeyedFile { path, header, bodies, aside, now_ms })
}
