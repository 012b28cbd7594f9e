//! The directories of topics: made before the catalogue names them, removed after it has forgotten them.

use std::io;
use std::path::Path;

use super::topic_removal::{Left, is_partition, remove_topic};
use super::{Core, Recovery};
use crate::disk::{Disk, Entry, EntryKind};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::ids::{LogId, TopicId};
use crate::lock::lock;
use crate::partition::Env;
use crate::teeth::bites;
use crate::topic::{DELETED_PREFIX, deleted_dir, partition_dir, topic_dir, topics_dir};

impl Core {
    /// Removes what deleted topics left, and directories of topics that were never finished. What can't be
    /// removed keeps nothing from being opened.
    pub(super) fn clear_away(&self, live: &[crate::topic::Topic], recovery: &mut Recovery) -> Result<()> {
        let disk = &*self.env.disk;
        let topics = topics_dir(&self.dir);
        let entries = disk.list(&topics).map_err(|error| Error::io(error).at_path(&topics))?;
        let deleted: Vec<(TopicId, String)> =
            lock(&self.catalog).state().deleted().map(|(id, name)| (id, name.to_owned())).collect();
        for entry in &entries {
            let path = topics.join(&entry.name);
            if live.iter().any(|topic| topic.name == entry.name) {
                continue;
            }
            let id = deleted.iter().map(|(id, _)| *id).find(|id| entry.name == format!("{DELETED_PREFIX}{id}"));
            if let Some(id) = id {
                self.env.chores.add_removal(path, self.log_of(id));
            } else if entry.kind != EntryKind::Directory || entry.name.starts_with(DELETED_PREFIX) {
                self.env.events.emit(Event::Ignored { path });
            } else if deleted.iter().any(|(_, name)| *name == entry.name) {
                if let Err(error) = self.clear_name(&entry.name) {
                    recovery.not_removed.push(error);
                }
            } else {
                self.clear_unfinished(&path);
            }
        }
        let names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
        self.forget_deleted(&names);
        Ok(())
    }

    fn log_of(&self, topic_id: TopicId) -> LogId {
        LogId { engine_id: lock(&self.catalog).engine_id(), topic_id, partition: 0 }
    }

    /// Frees a topic's name of what a deletion left under it.
    ///
    /// # Errors
    /// If some of it stays there.
    pub(crate) fn clear_name(&self, name: &str) -> Result<()> {
        if bites("rest-of-a-deleted-topic-kept") {
            return Ok(());
        }
        let deleted = lock(&self.catalog).state().deleted().filter(|(_, of)| *of == name).map(|(id, _)| id).last();
        deleted.map_or(Ok(()), |id| self.remove_deleted(name, id))
    }

    /// Moves a deleted topic's directory away, to be removed behind the caller's back. A directory that can't be
    /// moved (a mount point, the lower layer of an overlay) is emptied where it is.
    ///
    /// # Errors
    /// If files of the topic stay under its name.
    pub(crate) fn remove_deleted(&self, name: &str, id: TopicId) -> Result<()> {
        let disk = &*self.env.disk;
        let (from, to) = (topic_dir(&self.dir, name), deleted_dir(&self.dir, id));
        match disk.rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // What was deleted is there already: under the name stands a topic that was never finished.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                self.clear_unfinished(&from);
                Ok(())
            }
            Err(_) => {
                // At once: later, the name may be another topic's.
                let left = remove_topic(disk, &from, &self.log_of(id), &mut || true);
                let failed = left.failed.first().cloned();
                tell_left(&self.env, left);
                failed.map_or(Ok(()), Err)
            }
            Ok(()) => {
                // Should the old name come back after a power failure, opening finds it.
                if let Err(error) = disk.sync_dir(&topics_dir(&self.dir)) {
                    let error = Error::io(error).at_path(&from);
                    self.env.events.emit(Event::Background { what: "removing a deleted topic", error });
                }
                self.env.chores.add_removal(to, self.log_of(id));
                Ok(())
            }
        }
    }

    /// Deleted topics of which nothing is left need not be remembered.
    fn forget_deleted(&self, names: &[String]) {
        let mut catalog = lock(&self.catalog);
        let gone: Vec<_> = catalog
            .state()
            .deleted()
            .filter(|(id, name)| !names.iter().any(|there| there == name || *there == format!("{DELETED_PREFIX}{id}")))
            .map(|(id, _)| id)
            .collect();
        for id in gone {
            catalog.forget_deleted(id);
        }
    }

    /// A topic's directory that the catalogue doesn't know: unfinished if it holds the empty directories of its first
    /// partitions, and nothing else.
    pub(crate) fn clear_unfinished(&self, path: &Path) {
        let disk = &*self.env.disk;
        let partitions = disk.list(path).unwrap_or_default();
        let is_empty = |entry: &Entry| {
            entry.kind == EntryKind::Directory
                && entry.name.parse().is_ok_and(|number: usize| number < partitions.len())
                && is_partition(&entry.name)
                && disk.list(&path.join(&entry.name)).is_ok_and(|entries| entries.is_empty())
        };
        if partitions.is_empty() || !partitions.iter().all(is_empty) {
            self.env.events.emit(Event::Ignored { path: path.to_owned() });
            return;
        }
        for entry in partitions {
            let _ = disk.remove_dir(&path.join(&entry.name));
        }
        let _ = disk.remove_dir(path);
    }
}

/// Tells what was left of a deleted topic, and why.
pub(crate) fn tell_left(env: &Env, left: Left) {
    let Left { strangers, failed, empty, .. } = left;
    for path in strangers {
        env.events.emit(Event::Ignored { path });
    }
    for error in failed.into_iter().chain(empty) {
        env.events.emit(Event::Background { what: "removing a deleted topic", error });
    }
}

/// The topic's directory and its partitions', made and synced before the catalogue names them.
pub(crate) fn make_topic_dirs(
    disk: &dyn Disk,
    root: &Path,
    name: &str,
    partitions: std::ops::Range<u32>,
) -> Result<()> {
    let topic = topic_dir(root, name);
    let no_sync = bites("topic-directories-not-synced");
    let at = |error| Error::io(error).at_path(&topic);
    for number in partitions {
        disk.create_dir_all(&partition_dir(root, name, number)).map_err(at)?;
    }
    if no_sync {
        return Ok(());
    }
    disk.sync_dir(&topic).map_err(at)?;
    disk.sync_dir(&topics_dir(root)).map_err(at)?;
    disk.sync_dir(root).map_err(at)
}
