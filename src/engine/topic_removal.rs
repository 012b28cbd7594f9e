//! Removing a deleted topic's files: only what is ours, in directories that are the topic's.
//!
//! Ours is a regular file with a name that we give, in a directory with a partition's number; a segment whose
//! header says that it is another topic's is not. What else is there stays, and with it the directories that it
//! lies in. No link is followed.

use std::io;
use std::path::{Path, PathBuf};

use crate::aside::is_aside_dir;
use crate::disk::{Access, Disk, Entry, EntryKind};
use crate::error::Error;
use crate::ids::LogId;
use crate::partition::{is_own_file, is_set_aside};
use crate::segment::{base_offset_of, read_header};
use crate::teeth::bites;

/// What was left of a topic's directory.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// What isn't ours.
    pub(crate) strangers: Vec<PathBuf>,
    /// Files of ours that could not be removed, and why.
    pub(crate) failed: Vec<Error>,
    /// Directories that hold nothing of ours, and why they could not be removed: a mount point, for one.
    pub(crate) empty: Vec<Error>,
    /// Nothing is removed.
    looks_only: bool,
}

/// What isn't the topic's below `dir`: what [`remove_topic`] would leave there.
pub(crate) fn strangers_in(disk: &dyn Disk, dir: &Path, log: &LogId) -> Vec<PathBuf> {
    let mut left = Left { looks_only: true, ..Left::default() };
    go_through(disk, dir, log, &mut left, &mut || true);
    left.strangers
}

/// Removes what is ours of the topic in `log` from `dir`; `dir` too, once it is empty. A link in its place goes,
/// what that leads to stays. `go_on` is called after each file and each partition; once it is false, the rest is left to
/// the next opening.
pub(crate) fn remove_topic(disk: &dyn Disk, dir: &Path, log: &LogId, go_on: &mut dyn FnMut() -> bool) -> Left {
    let mut left = Left::default();
    go_through(disk, dir, log, &mut left, go_on);
    left
}

fn go_through(disk: &dyn Disk, dir: &Path, log: &LogId, left: &mut Left, go_on: &mut dyn FnMut() -> bool) {
    match disk.kind(dir) {
        Ok(EntryKind::Directory) => {}
        Ok(EntryKind::Link) => {
            if left.looks_only {
                return;
            }
            left.note(dir, disk.unlink(dir));
            let told = Error::invalid("it was a symbolic link: the link was removed, what it leads to stays");
            left.empty.push(told.at_path(dir));
            return;
        }
        Ok(_) => {
            left.strangers.push(dir.to_owned());
            return;
        }
        Err(error) => {
            left.note(dir, Err(error));
            return;
        }
    }
    for entry in left.list(disk, dir) {
        let path = dir.join(&entry.name);
        if entry.kind == EntryKind::Directory && is_partition(&entry.name) {
            if !remove_partition(disk, &path, log, left, go_on) || !go_on() {
                return;
            }
        } else {
            left.strangers.push(path);
        }
    }
    left.remove_dir(disk, dir);
}

/// Whether it was to go on to the end.
fn remove_partition(
    disk: &dyn Disk,
    dir: &Path,
    log: &LogId,
    left: &mut Left,
    go_on: &mut dyn FnMut() -> bool,
) -> bool {
    for entry in left.list(disk, dir) {
        let path = dir.join(&entry.name);
        if is_aside_dir(&entry) {
            for Entry { name, kind } in left.list(disk, &path) {
                let path = path.join(&name);
                let ours = kind == EntryKind::File && is_set_aside(&name);
                left.remove_file(disk, path, ours);
            }
            left.remove_dir(disk, &path);
        } else {
            let Entry { name, kind } = entry;
            let ours = kind == EntryKind::File && is_own_file(&name) && !is_of_another(disk, &path, &name, log);
            left.remove_file(disk, path, ours);
            if !go_on() {
                return false;
            }
        }
    }
    left.remove_dir(disk, dir);
    true
}

/// Whether a segment's header says that it is another log's. One without a whole header is taken for ours.
fn is_of_another(disk: &dyn Disk, path: &Path, name: &str, log: &LogId) -> bool {
    let header = || disk.open(path, Access::Read).and_then(|file| read_header(&*file));
    base_offset_of(name).is_some()
        && matches!(header(), Ok(Ok(header)) if (header.log.engine_id, header.log.topic_id) != (log.engine_id, log.topic_id))
}

/// Whether a partition's directory has such a name.
pub(crate) fn is_partition(name: &str) -> bool {
    name.parse::<u32>().is_ok_and(|number| number.to_string() == name)
}

impl Left {
    fn list(&mut self, disk: &dyn Disk, dir: &Path) -> Vec<Entry> {
        disk.list(dir).unwrap_or_else(|error| {
            self.note(dir, Err(error));
            Vec::new()
        })
    }

    fn remove_file(&mut self, disk: &dyn Disk, path: PathBuf, ours: bool) {
        if ours || bites("strangers-removed") {
            if !self.looks_only {
                self.note(&path, disk.unlink(&path));
            }
        } else {
            self.strangers.push(path);
        }
    }

    fn note(&mut self, path: &Path, removed: io::Result<()>) {
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.failed.push(Error::io(error).at_path(path));
            }
            _ => {}
        }
    }

    /// One that isn't empty is explained by what was left in it.
    fn remove_dir(&mut self, disk: &dyn Disk, dir: &Path) {
        if self.looks_only {
            return;
        }
        match disk.remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.empty.push(Error::io(error).at_path(dir)),
            _ => {}
        }
    }
}
