//! The directory for files of which nothing counts any more, in the data directory and in each partition's.
//!
//! It is `set-aside/`. If something that isn't a directory has that name, it is `set-aside-2/`, and so on.

use std::io;
use std::path::Path;

use crate::disk::{Disk, Entry, EntryKind};

/// Its name; also the prefix of their names where it can't be made.
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
