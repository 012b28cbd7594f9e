//! Whose a data directory is: the engine that most of its files name.
//!
//! A file that was copied from another directory has a right header with another engine's id. One file, the
//! catalogue included, doesn't outweigh the others: each file whose header is whole, or can be made whole,
//! has one vote.

use std::collections::BTreeMap;
use std::path::Path;

use super::directories::Directories;
use super::plan::{at, list};
use super::source;
use crate::disk::{Disk, EntryKind};
use crate::error::Result;
use crate::format::FileKind;
use crate::ids::EngineId;
use crate::keyed::number_of;

/// What the files say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// No file says anything.
    Unknown,
    /// Most files name this engine.
    Known { engine_id: EngineId, files: usize, of: usize },
    /// No engine has more files than every other.
    Tied(String),
}

/// The files of one engine.
#[derive(Clone, Copy, Default)]
struct Votes {
    files: usize,
    /// Of these, segments and their indexes.
    segments: usize,
    catalogs: usize,
}

/// Counts the files of each engine.
///
/// # Errors
/// Of the disk, where they say nothing about the files.
pub(super) fn find(disk: &dyn Disk, dir: &Path, directories: &Directories) -> Result<Identity> {
    let mut votes: BTreeMap<[u8; 16], Votes> = BTreeMap::new();
    for header in directories.topics.iter().flat_map(|topic| &topic.headers) {
        let votes = votes.entry(header.log.engine_id.0).or_default();
        votes.files += 1;
        votes.segments += 1;
    }
    for entry in list(disk, dir)? {
        let kind = match (number_of(&entry.name, "catalog"), number_of(&entry.name, "offsets")) {
            (Some(_), _) => FileKind::Catalog,
            (_, Some(_)) => FileKind::Offsets,
            _ => continue,
        };
        if entry.kind != EntryKind::File {
            continue;
        }
        let path = dir.join(&entry.name);
        let header = source::header_at(disk, &path).map_err(at(&path))?;
        if let Some(header) = header.filter(|header| header.kind == kind) {
            let votes = votes.entry(header.log.engine_id.0).or_default();
            votes.files += 1;
            votes.catalogs += usize::from(kind == FileKind::Catalog);
        }
    }
    Ok(decide(&votes))
}

fn decide(votes: &BTreeMap<[u8; 16], Votes>) -> Identity {
    let most = votes.values().map(|votes| votes.files).max().unwrap_or(0);
    let first: Vec<_> = votes.iter().filter(|(_, votes)| votes.files == most).collect();
    let of = votes.values().map(|votes| votes.files).sum();
    let known = |id: &[u8; 16]| Identity::Known { engine_id: EngineId(*id), files: most, of };
    match first[..] {
        [] => Identity::Unknown,
        [(id, _)] => known(id),
        // No records are at stake: the catalogue says most of a directory.
        _ if first.iter().all(|(_, votes)| votes.segments == 0)
            && first.iter().filter(|(_, votes)| votes.catalogs > 0).count() == 1 =>
        {
            first.iter().find(|(_, votes)| votes.catalogs > 0).map_or(Identity::Unknown, |(id, _)| known(id))
        }
        _ => {
            let engines: Vec<_> = first.iter().map(|(id, _)| EngineId(**id).to_string()).collect();
            Identity::Tied(format!(
                "the files here are of {} engines, {most} of each: {}; move away those of the other directory, then \
                 repair again",
                first.len(),
                engines.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(votes: &[(u8, usize, usize, usize)]) -> Identity {
        let votes =
            votes.iter().map(|&(id, files, segments, catalogs)| ([id; 16], Votes { files, segments, catalogs }));
        decide(&votes.collect())
    }

    #[test]
    fn most_files_decide_and_a_tie_over_records_is_nobodys() {
        let known = |id, files, of| Identity::Known { engine_id: EngineId([id; 16]), files, of };
        assert_eq!(of(&[]), Identity::Unknown);
        assert_eq!(of(&[(1, 3, 2, 0), (2, 1, 0, 1)]), known(1, 3, 4));
        assert_eq!(of(&[(1, 1, 0, 0), (2, 1, 0, 1)]), known(2, 1, 2));
        assert!(matches!(of(&[(1, 1, 1, 0), (2, 1, 0, 1)]), Identity::Tied(_)));
        assert!(matches!(of(&[(1, 2, 1, 1), (2, 2, 1, 0)]), Identity::Tied(_)));
        assert!(matches!(of(&[(1, 1, 0, 1), (2, 1, 0, 1)]), Identity::Tied(_)));
    }
}
