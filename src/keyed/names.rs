//! The names of a keyed log's files: `<prefix>-<n>`, and `<prefix>-<n>.tmp` while one is made.
//!
//! Anything else in the directory is not ours and is left alone.

use std::io;
use std::path::Path;

use crate::disk::{Disk, EntryKind};
use crate::error::{Error, ErrorKind, Result};

const TEMPORARY: &str = ".tmp";

/// What stands in the directory under our names.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The numbers of finished files, rising.
    pub(super) numbers: Vec<u64>,
    /// Files that were never finished.
    pub(super) temporary: Vec<String>,
}

impl Names {
    /// Lists `dir`; one that doesn't exist holds nothing.
    pub(super) fn list(disk: &dyn Disk, dir: &Path, prefix: &str) -> Result<Names> {
        let entries = match disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Names::default()),
            entries => entries.map_err(|error| Error::io(error).at_path(dir))?,
        };
        let mut names = Names::default();
        for entry in entries {
            let temporary = entry.name.strip_suffix(TEMPORARY);
            let Some(number) = number_of(temporary.unwrap_or(&entry.name), prefix) else { continue };
            match temporary {
                // It could be neither removed nor replaced.
                Some(_) if entry.kind == EntryKind::Directory => return Err(not_a_file(&dir.join(entry.name))),
                Some(_) => names.temporary.push(entry.name),
                // Whether it can be opened is the disk's to say.
                None => names.numbers.push(number),
            }
        }
        names.numbers.sort_unstable();
        Ok(names)
    }

    pub(super) fn newest(&self) -> Option<u64> {
        if crate::teeth::bites("oldest-keyed-file-wins") {
            return self.numbers.first().copied();
        }
        self.numbers.last().copied()
    }
}

pub(super) fn file_name(prefix: &str, number: u64) -> String {
    format!("{prefix}-{number}")
}

pub(super) fn temporary_name(prefix: &str, number: u64) -> String {
    format!("{prefix}-{number}{TEMPORARY}")
}

/// The number in `<prefix>-<n>`, if it is spelled as we spell it.
pub(crate) fn number_of(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_prefix('-')?;
    let number = digits.parse().ok()?;
    (number > 0 && digits == u64::to_string(&number)).then_some(number)
}

/// A link, pipe, directory or the like where one of our files should be.
pub(super) fn not_a_file(path: &Path) -> Error {
    Error::new(ErrorKind::Foreign { reason: "it is not a regular file".into() }).at_path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_spelling_counts() {
        assert_eq!(number_of("catalog-1", "catalog"), Some(1));
        assert_eq!(number_of("catalog-18446744073709551615", "catalog"), Some(u64::MAX));
        for name in [
            "catalog",
            "catalog-",
            "catalog-0",
            "catalog-01",
            "catalog-+1",
            "catalog-x",
            "catalog-18446744073709551616",
            "catalog-1.tmp",
            "offsets-1",
        ] {
            assert_eq!(number_of(name, "catalog"), None, "{name}");
        }
    }
}
