//! What is left of the catalogue's and the offset log's file, batch by batch.

use std::path::{Path, PathBuf};

use super::execute::body_of;
use super::plan::{Aside, at, list};
use super::source::{self, Source};
use crate::disk::{Disk, EntryKind};
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, BatchHeader, BatchKind, FileHeader, FileKind, FormatError};
use crate::ids::{EngineId, LogId};
use crate::keyed::{Piece, number_of};

/// The newest file that is ours, and all others that stand under such names.
#[derive(Default)]
pub(super) struct KeyedFiles {
    pub(super) newest: Option<Salvaged>,
    pub(super) aside: Vec<(Aside, String)>,
    /// The highest number in use.
    pub(super) number: u64,
    /// Files of a later version: nothing may be done then.
    pub(super) newer: Option<(PathBuf, String)>,
}

pub(super) struct Salvaged {
    pub(super) path: PathBuf,
    pub(super) header: Option<FileHeader>,
    pub(super) source: Source,
    /// Why it can't stay.
    pub(super) reason: Option<String>,
}

/// Takes a batch's header and body, and the damage before it.
type EachBatch<'a> = dyn FnMut(&BatchHeader, &[u8], Option<Error>) -> Result<()> + 'a;

impl Salvaged {
    pub(super) fn end_offset(&self) -> u64 {
        let start = self.header.as_ref().map_or(0, |header| header.base_offset);
        self.source.batches.last().map_or(start, |batch| batch.header.end_offset()).max(start)
    }

    pub(super) fn evidence(&self) -> u64 {
        self.source.evidence.max(self.header.as_ref().map_or(0, |header| header.durable_before))
    }

    pub(super) fn epoch(&self) -> u32 {
        self.source.epoch.max(self.header.as_ref().map_or(0, |header| header.epoch))
    }

    /// Hands on every whole batch, and what is missing between.
    pub(super) fn each(&self, disk: &dyn Disk, each: &mut EachBatch<'_>) -> Result<()> {
        let file = source::open(disk, &self.path).map_err(at(&self.path))?;
        let mut damage = self.source.damage.iter().peekable();
        for batch in &self.source.batches {
            let mut hole = None;
            while let Some((position, reason)) = damage.next_if(|(position, _)| *position < batch.position) {
                hole = Some(Error::corrupt(reason.clone()).at_path(&self.path).at_position(*position));
            }
            let body = body_of(&*file, batch.position, &batch.header).map_err(at(&self.path))?;
            if batch.header.attributes.kind().ok() != Some(BatchKind::Filler) {
                each(&batch.header, &body, hole)?;
            }
        }
        Ok(())
    }
}

/// The pieces of an offset log, as its salvager wants them.
pub(super) fn pieces(
    disk: &dyn Disk,
    salvaged: &Salvaged,
    proven: u64,
    take: &mut dyn FnMut(Piece<'_>) -> Result<()>,
) -> Result<()> {
    if salvaged.header.is_none()
        && let Some(reason) = &salvaged.reason
        && salvaged.source.batches.first().is_none_or(|first| first.position > BLOCK_BYTES)
    {
        take(Piece::Hole(Error::corrupt(reason.clone()).at_path(&salvaged.path).at_position(0)))?;
    }
    salvaged.each(disk, &mut |header, body, hole| {
        if let Some(hole) = hole {
            take(Piece::Hole(hole))?;
        }
        take(Piece::Batch { header, body, position: 0 })
    })?;
    let end = salvaged.end_offset();
    if end < proven.max(salvaged.evidence()) {
        let reason = format!("entries from {end} on are not there");
        take(Piece::Hole(Error::corrupt(reason).at_path(&salvaged.path).at_position(1)))?;
    }
    Ok(())
}

/// Looks at all files `<prefix>-<n>`; the newest that is of this engine counts.
///
/// # Errors
/// Of the disk, where they say nothing about the files.
pub(super) fn look(
    disk: &dyn Disk,
    dir: &Path,
    prefix: &str,
    kind: FileKind,
    engine_id: Option<EngineId>,
) -> Result<KeyedFiles> {
    let mut found = KeyedFiles::default();
    let mut names: Vec<_> =
        list(disk, dir)?.into_iter().filter_map(|entry| Some((number_of(&entry.name, prefix)?, entry))).collect();
    names.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    found.number = names.first().map_or(0, |(number, _)| *number);
    for (_, entry) in names {
        let path = dir.join(&entry.name);
        let aside = |file_id: u64, is_file| Aside {
            path: path.clone(),
            name: format!("{}.{file_id:016x}", entry.name),
            is_file,
        };
        if entry.kind != EntryKind::File {
            found.aside.push((aside(0, false), "it is not a regular file".to_owned()));
            continue;
        }
        if let Some(newest) = &found.newest {
            let reason = format!("{} is newer", newest.path.display());
            found.aside.push((aside(0, true), reason));
            continue;
        }
        match salvage(disk, &path, kind, engine_id)? {
            Ok(Some(salvaged)) if salvaged.source.newer.is_some() => {
                found.newer = salvaged.source.newer.map(|newer| (path.clone(), newer));
                return Ok(found);
            }
            Ok(Some(salvaged)) => {
                let file_id = salvaged.header.as_ref().map_or(0, |header| header.file_id);
                found.aside.push((aside(file_id, true), salvaged.reason.clone().unwrap_or_default()));
                found.newest = Some(salvaged);
            }
            Ok(None) => found.aside.push((aside(0, true), "nothing of it can be read".to_owned())),
            Err(FormatError::Newer(newer)) => {
                found.newer = Some((path.clone(), newer));
                return Ok(found);
            }
            Err(error) => found.aside.push((aside(0, true), error.to_string())),
        }
    }
    Ok(found)
}

type Told<T> = std::result::Result<T, FormatError>;

/// One file; `None` if nothing is left of it.
fn salvage(
    disk: &dyn Disk,
    path: &Path,
    kind: FileKind,
    engine_id: Option<EngineId>,
) -> Result<Told<Option<Salvaged>>> {
    let file = source::open(disk, path).map_err(at(path))?;
    let (header, block_is_zero) = source::header_of(&*file).map_err(at(path))?;
    let mut reason = (!block_is_zero).then(|| "bytes of the header block that are never written are set".to_owned());
    let header = match header {
        Ok(header) => Some(header),
        Err(error @ FormatError::Newer(_)) => return Ok(Err(error)),
        Err(error) => {
            reason = Some(error.to_string());
            source::corrected(&*file).map_err(at(path))?
        }
    };
    let log =
        LogId::keyed(engine_id.or(header.as_ref().map(|header| header.log.engine_id)).unwrap_or(EngineId([0; 16])));
    let source = match &header {
        Some(header) => {
            if let Err(error) = header.expect(kind, &log) {
                return Ok(Err(error));
            }
            source::read(&*file, header, kind).map_err(at(path))?
        }
        None => {
            let seed = source::find_seed(disk, path, &*file, &log, None, &[]).map_err(at(path))?;
            let Some((seed, _)) = seed else { return Ok(Ok(None)) };
            source::read_seeded(&*file, seed, true, kind, 0, 0).map_err(at(path))?
        }
    };
    if reason.is_none() {
        reason = source.damage.first().map(|(position, reason)| format!("at position {position}: {reason}"));
    }
    Ok(Ok(Some(Salvaged { path: path.to_owned(), header, source, reason })))
}
