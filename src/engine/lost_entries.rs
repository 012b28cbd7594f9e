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

/// The directory of a topic that the catalogue must have known, if there is one, and what it proves.
///
/// # Errors
/// Of listing the topics' directory.
pub(crate) fn find(disk: &dyn Disk, dir: &Path, state: &CatalogState) -> Result<Option<(PathBuf, String)>> {
    let topics = topics_dir(dir);
    let entries = match disk.list(&topics) {
        // A link is not followed: those who need what it leads to say so.
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidInput) => {
            return Ok(None);
        }
        entries => entries.map_err(|error| Error::io(error).at_path(&topics))?,
    };
    let Some((engine_id, _)) = state.engine() else { return Ok(None) };
    let of_topics =
        entries.iter().filter(|entry| entry.kind == EntryKind::Directory && !entry.name.starts_with(DELETED_PREFIX));
    let (known, unknown): (Vec<_>, Vec<_>) = of_topics.partition(|entry| state.topic(&entry.name).is_some());
    for (path, topic) in known.iter().filter_map(|entry| Some((topics.join(&entry.name), state.topic(&entry.name)?))) {
        let more = disk.list(&path).unwrap_or_default().into_iter().filter_map(|entry| {
            let number = entry.name.parse::<u32>().ok()?;
            (number >= topic.config.partitions).then(|| path.join(entry.name))
        });
        for path in more {
            let is_ours = |log: &LogId| (log.engine_id, log.topic_id) == (engine_id, topic.id);
            if log_of(disk, &path).as_ref().is_some_and(is_ours) {
                return Ok(Some((path, more_partitions(topic.config.partitions))));
            }
        }
    }
    let mut foreign = None;
    for path in unknown.iter().map(|entry| topics.join(&entry.name)) {
        for log in logs_below(disk, &path) {
            if log.engine_id != engine_id {
                foreign.get_or_insert((path.clone(), log.engine_id));
            } else if state.next_topic_id().is_some_and(|next| log.topic_id >= next) {
                return Ok(Some((path, never_given(log.topic_id))));
            }
        }
    }
    let Some((path, found)) = foreign else { return Ok(None) };
    // A topic's directory that was copied here says nothing against the catalogue; if none is of its engine,
    // it is the catalogue that was.
    let paths = known.iter().chain(&unknown).map(|entry| topics.join(&entry.name));
    let any_ours = paths.flat_map(|path| logs_below(disk, &path)).any(|log| log.engine_id == engine_id);
    let reason = || {
        format!(
            "it holds records of engine {found}, and the catalogue is of engine {engine_id}, of which no segment is: the \
             catalogue is another directory's"
        )
    };
    Ok((!any_ours).then(|| (path, reason())))
}

/// Whose the partitions of a topic's directory are.
fn logs_below<'a>(disk: &'a dyn Disk, topic: &Path) -> impl Iterator<Item = LogId> + use<'a> {
    let topic = topic.to_owned();
    let partitions = disk.list(&topic).unwrap_or_default();
    partitions.into_iter().filter_map(move |entry| log_of(disk, &topic.join(&entry.name)))
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

/// What a partition's directory says of the catalogue.
fn more_partitions(known: u32) -> String {
    format!(
        "it holds records of its topic, of which the catalogue knows {known} partitions: entries that were durable are \
         missing from the catalogue"
    )
}

/// What an epoch in the offset log says of the catalogue.
pub(crate) fn of_epoch(found: u32, known: u32) -> String {
    format!(
        "it holds epoch {found}, and the catalogue's newest is {known}: the catalogue is older than this file, entries that \
         were durable are missing from it"
    )
}

/// What a topic's directory says of the catalogue.
fn never_given(id: TopicId) -> String {
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
