//! What the topics' directories say by themselves: names, and the headers of the segments in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::plan::{at, list};
use super::source;
use crate::disk::{Disk, EntryKind};
use crate::error::Result;
use crate::format::{FileHeader, FileKind};
use crate::ids::{EngineId, TopicId};
use crate::topic::{DELETED_PREFIX, check_topic_name, topics_dir};

/// What stands below `topics/`.
#[derive(Default)]
pub(super) struct Directories {
    pub(super) topics: Vec<FoundTopic>,
    /// Ids of deleted topics that aren't unlinked yet.
    pub(super) deleted: Vec<TopicId>,
    /// Things under our names that are no directories.
    pub(super) no_directories: Vec<PathBuf>,
    /// Links under names of topics or partitions: what they lead to is somebody's intact log, perhaps.
    pub(super) links: Vec<PathBuf>,
}

impl Directories {
    fn no_directory(&mut self, path: PathBuf, kind: EntryKind) {
        if kind == EntryKind::Link { &mut self.links } else { &mut self.no_directories }.push(path);
    }

    /// The link that `dir` is, or lies behind.
    pub(super) fn link_to(&self, dir: &Path) -> Option<&PathBuf> {
        self.links.iter().find(|link| dir.starts_with(link))
    }
}

/// A topic's directory.
pub(super) struct FoundTopic {
    pub(super) name: String,
    pub(super) headers: Vec<FileHeader>,
    /// The partitions' numbers, by the directories' names.
    pub(super) numbers: Vec<u32>,
}

impl FoundTopic {
    /// Its id, as most of its files of this engine say; the newest of equally many.
    pub(super) fn id(&self, engine_id: EngineId) -> Option<TopicId> {
        let mut counts: BTreeMap<TopicId, usize> = BTreeMap::new();
        for header in self.headers.iter().filter(|header| header.log.engine_id == engine_id) {
            *counts.entry(header.log.topic_id).or_default() += 1;
        }
        counts.into_iter().max_by_key(|&(id, count)| (count, id)).map(|(id, _)| id)
    }

    /// How many partitions it has, as far as its files and directories tell.
    pub(super) fn partitions(&self, id: Option<TopicId>) -> u32 {
        let of_id = self.headers.iter().filter(|header| Some(header.log.topic_id) == id);
        let by_header = of_id.map(|header| header.log.partition).max().map_or(0, |last| last.saturating_add(1));
        // Directories without a gap were made for it; others may be anybody's.
        let by_name = (0..).zip(&self.numbers).take_while(|(at, number)| at == *number).count() as u32;
        by_header.max(by_name).max(1)
    }
}

/// Reads the names and headers.
///
/// # Errors
/// Of listing a directory.
pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Directories> {
    let mut found = Directories::default();
    let topics = topics_dir(dir);
    if let Some(entry) = list(disk, dir)?.iter().find(|entry| topics.ends_with(&entry.name))
        && entry.kind != EntryKind::Directory
    {
        found.no_directory(topics, entry.kind);
        return Ok(found);
    }
    for entry in list(disk, &topics)? {
        let path = topics.join(&entry.name);
        if let Some(id) = entry.name.strip_prefix(DELETED_PREFIX) {
            found.deleted.extend(id.parse().map(TopicId));
            continue;
        }
        if check_topic_name(&entry.name).is_err() {
            continue;
        }
        if entry.kind != EntryKind::Directory {
            found.no_directory(path, entry.kind);
            continue;
        }
        let mut topic = FoundTopic { name: entry.name, headers: Vec::new(), numbers: Vec::new() };
        for entry in list(disk, &path)? {
            let Some(number) = entry.name.parse::<u32>().ok().filter(|number| entry.name == number.to_string()) else {
                continue;
            };
            let path = path.join(&entry.name);
            if entry.kind == EntryKind::Directory {
                topic.numbers.push(number);
                topic.headers.extend(headers_in(disk, &path, number)?);
            } else {
                found.no_directory(path, entry.kind);
            }
        }
        topic.numbers.sort_unstable();
        found.topics.push(topic);
    }
    Ok(found)
}

/// The headers of a partition's segments; where one is damaged, its index has a copy.
fn headers_in(disk: &dyn Disk, dir: &Path, number: u32) -> Result<Vec<FileHeader>> {
    let mut headers = Vec::new();
    for entry in list(disk, dir)? {
        let is_ours = entry.name.ends_with(".log") || entry.name.ends_with(".index");
        if entry.kind != EntryKind::File || !is_ours {
            continue;
        }
        let path = dir.join(&entry.name);
        let header = source::header_at(disk, &path).map_err(at(&path))?;
        let is_segment = |header: &FileHeader| matches!(header.kind, FileKind::Segment | FileKind::Index);
        headers.extend(header.filter(|header| is_segment(header) && header.log.partition == number));
    }
    Ok(headers)
}
