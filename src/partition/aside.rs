//! Putting files aside of which nothing counts any more: moved, never deleted.
//!
//! They go to `set-aside/`. If something that isn't a directory has that name, they go to `set-aside-2/`, and so on.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};

/// The directory they go to; also the prefix of their names where it can't be made.
pub(crate) const SET_ASIDE: &str = "set-aside";

/// The directory in `dir` for what no longer counts, by its name: the first that is one, or isn't taken.
pub(crate) fn aside_name(disk: &dyn Disk, dir: &Path) -> io::Result<String> {
    let mut name = SET_ASIDE.to_owned();
    let mut number = 1;
    loop {
        match disk.kind(&dir.join(&name)) {
            Ok(EntryKind::Directory) => return Ok(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(name),
            Err(error) => return Err(error),
            Ok(_) => number += 1,
        }
        name = format!("{SET_ASIDE}-{number}");
    }
}

/// Whether it is such a directory.
pub(crate) fn is_aside_dir(entry: &Entry) -> bool {
    let is_number = |number: &str| number.parse::<u32>().is_ok_and(|n| n > 1 && n.to_string() == number);
    let rest = entry.name.strip_prefix(SET_ASIDE);
    entry.kind == EntryKind::Directory
        && rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(is_number))
}

/// Moves a file of the partition's directory aside, durably at its new place; the caller syncs the
/// directory it leaves before anything takes its name. Returns the new path.
///
/// On a full disk there may be no room for another directory: then it gets another name beside the log.
pub(crate) fn set_aside(disk: &dyn Disk, dir: &Path, path: &Path, file_id: u64) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let directory = dir.join(aside_name(disk, dir).map_err(|error| Error::io(error).at_path(dir))?);
    let new_name = format!("{name}.{file_id:016x}");
    let made = disk.create_dir_all(&directory).map_err(|error| Error::io(error).at_path(&directory));
    let inside = match made {
        Ok(()) => {
            let to = directory.join(&new_name);
            move_to(disk, path, &to, Some(&directory)).map(|()| to)
        }
        Err(error) => Err(error),
    };
    match inside {
        Err(error) if error.kind() == &ErrorKind::NoRoom => {
            let to = dir.join(format!("{SET_ASIDE}-{new_name}"));
            move_to(disk, path, &to, None).map(|()| to)
        }
        outcome => outcome,
    }
}

fn move_to(disk: &dyn Disk, from: &Path, to: &Path, directory: Option<&PathBuf>) -> Result<()> {
    disk.rename(from, to)
        .and_then(|()| directory.map_or(Ok(()), |directory| disk.sync_dir(directory)))
        .map_err(|error: io::Error| Error::io(error).at_path(from))
}
