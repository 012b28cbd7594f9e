//! The directories of topics: made before the catalogue names them, removed after it has forgotten them.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::Core;
use crate::disk::{Disk, EntryKind};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::ids::TopicId;
use crate::lock::lock;
use crate::partition::FileChore;
use crate::teeth::bites;
use crate::topic::{DELETED_PREFIX, deleted_dir, partition_dir, topic_dir, topics_dir};

impl Core {
    /// Removes what deleted topics left, and directories of topics that were never finished.
    pub(super) fn clear_away(&self, live: &[crate::topic::Topic]) -> Result<()> {
        let disk = &*self.env.disk;
        let topics = topics_dir(&self.dir);
        let entries = disk.list(&topics).map_err(|error| Error::io(error).at_path(&topics))?;
        let deleted: HashMap<String, TopicId> =
            lock(&self.catalog).state().deleted().map(|(id, name)| (name.to_owned(), id)).collect();
        let names: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
        for entry in entries {
            let path = topics.join(&entry.name);
            if entry.kind != EntryKind::Directory {
                self.env.events.emit(Event::Ignored { path });
            } else if entry.name.starts_with(DELETED_PREFIX) {
                self.env.chores.add(remove_tree(disk, &path));
            } else if live.iter().any(|topic| topic.name == entry.name) {
                continue;
            } else if deleted.contains_key(&entry.name) {
                self.clear_name(&entry.name)?;
            } else {
                self.clear_unfinished(&path);
            }
        }
        self.forget_deleted(&names);
        Ok(())
    }

    /// Moves away what a deletion that was interrupted left under a topic's name.
    pub(crate) fn clear_name(&self, name: &str) -> Result<()> {
        if bites("rest-of-a-deleted-topic-kept") {
            return Ok(());
        }
        let deleted = lock(&self.catalog).state().deleted().filter(|(_, of)| *of == name).map(|(id, _)| id).last();
        let Some(id) = deleted else { return Ok(()) };
        let disk = &*self.env.disk;
        let (from, to) = (topic_dir(&self.dir, name), deleted_dir(&self.dir, id));
        match disk.rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // What was deleted is there already: under the name stands a topic that was never finished.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                self.clear_unfinished(&from);
                return Ok(());
            }
            moved => moved.and_then(|()| disk.sync_dir(&topics_dir(&self.dir))),
        }
        .map_err(|error| Error::io(error).at_path(&from))?;
        self.env.chores.add(remove_tree(disk, &to));
        Ok(())
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

    /// A topic's directory that the catalogue doesn't know: unfinished if it holds no file.
    pub(crate) fn clear_unfinished(&self, path: &Path) {
        let disk = &*self.env.disk;
        let FileChore::Remove { files, dirs } = remove_tree(disk, path) else { return };
        if !files.is_empty() {
            self.env.events.emit(Event::Ignored { path: path.to_owned() });
            return;
        }
        for dir in dirs {
            let _ = disk.remove_dir(&dir);
        }
    }
}

/// All files below a topic's directory, then its directories from the inside out.
pub(crate) fn remove_tree(disk: &dyn Disk, dir: &Path) -> FileChore {
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in disk.list(&dir).unwrap_or_default() {
            let path = dir.join(&entry.name);
            if entry.kind == EntryKind::Directory {
                open.push(path);
            } else {
                files.push(path);
            }
        }
        dirs.push(dir);
    }
    dirs.reverse();
    FileChore::Remove { files, dirs }
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
