//! Putting files aside of which nothing counts any more: moved, never deleted.

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use crate::aside::SET_ASIDE;
use crate::aside::aside_name;
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};

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
