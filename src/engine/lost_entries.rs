//! Whether the catalogue lacks entries that were durable.
//!
//! A catalogue that was cut behind a batch looks whole. But a topic's entry is durable before its
//! first file is made: a file of a topic id that was never given proves that entries are missing. And who
//! closed the directory noted where the catalogue ended.

use std::path::{Path, PathBuf};

use crate::disk::{Access, Disk, EntryKind};
use crate::error::{Error, Result};
use crate::ids::{LogId, TopicId};
use crate::keyed::number_of;
use crate::segment::{base_offset_of, read_header};
use crate::topic::{Catalog, CatalogState, DELETED_PREFIX, topics_dir};

/// The directory of a topic that the catalogue must have known, if there is one.
///
/// # Errors
/// Of listing the topics' directory.
pub(crate) fn find(disk: &dyn Disk, dir: &Path, state: &CatalogState) -> Result<Option<(PathBuf, TopicId)>> {
    let topics = topics_dir(dir);
    let entries = match disk.list(&topics) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(|error| Error::io(error).at_path(&topics))?,
    };
    let engine_id = state.engine().map(|(id, _)| id);
    for entry in entries {
        let known = entry.name.starts_with(DELETED_PREFIX) || state.topic(&entry.name).is_some();
        if known || entry.kind != EntryKind::Directory {
            continue;
        }
        let path = topics.join(&entry.name);
        let partitions = disk.list(&path).unwrap_or_default();
        let lost = partitions.iter().filter_map(|entry| log_of(disk, &path.join(&entry.name))).find(|log| {
            Some(log.engine_id) == engine_id && state.next_topic_id().is_some_and(|next| log.topic_id >= next)
        });
        if let Some(log) = lost {
            return Ok(Some((path, log.topic_id)));
        }
    }
    Ok(None)
}

/// What is missing of the catalogue since the directory was closed, when it ended as `closed` says (file and
/// position); `None` if nothing is.
pub(crate) fn since_closed((name, position): &(String, u64), catalog: &Catalog) -> Option<String> {
    let number_of = |name: &str| number_of(name, "catalog");
    let found = catalog.path().file_name().unwrap_or_default().to_string_lossy();
    let (end, noted) = (catalog.end_position(), number_of(name)?);
    if noted > number_of(&found)? {
        return Some(format!("when the directory was closed the catalogue was {name}, which is missing"));
    }
    (*name == found && end < *position).then(|| {
        format!("it ended at position {position} when the directory was closed, and from here on nothing fits")
    })
}

/// What a topic's directory says of the catalogue.
pub(crate) fn reason(id: TopicId) -> String {
    format!(
        "it holds records of topic id {id}, which was never given: entries that were durable are missing from the catalogue"
    )
}

/// Whose the partition in a directory is, by the first of its files that tells.
pub(crate) fn log_of(disk: &dyn Disk, dir: &Path) -> Option<LogId> {
    let entries = disk.list(dir).ok()?;
    let segments =
        entries.iter().filter(|entry| entry.kind == EntryKind::File && base_offset_of(&entry.name).is_some());
    segments.into_iter().find_map(|entry| {
        let file = disk.open(&dir.join(&entry.name), Access::Read).ok()?;
        Some(read_header(&*file).ok()?.ok()?.log)
    })
}
