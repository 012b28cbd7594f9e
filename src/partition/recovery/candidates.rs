//! The segment files of a directory, and whether one continues another.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{REPAIR_INFIX, Recovered};
use crate::aside::is_aside_dir;
use crate::disk::{Access, Disk, EntryKind, File};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK_BYTES, FileHeader, FileKind, FormatError, Previous};
use crate::ids::LogId;
use crate::partition::names::is_own_aside;
use crate::partition::writer::{NEXT_NAME, PREPARED_NAME};
use crate::segment::{base_offset_of, read_header};
use crate::teeth::bites;

/// A segment file found in the directory.
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) base_offset: u64,
    pub(super) file: Arc<dyn File>,
    pub(super) length: u64,
    /// `Err`: no header of ours, and why.
    pub(super) header: std::result::Result<FileHeader, FormatError>,
}

impl Candidate {
    /// Whether `next` says that it continues this file; then where this one ends.
    pub(super) fn continued_by(&self, next: &Candidate) -> Option<Previous> {
        let (Ok(header), Ok(next_header)) = (&self.header, &next.header) else { return None };
        let previous = next_header.previous;
        if header.rewrite > 0 {
            // It says itself where it ends; what it was when its successor was made no longer matters.
            let fits = header.rewritten_end_offset == next.base_offset
                && header.rewritten_length <= self.length
                && next_header.epoch >= header.epoch;
            let (end_offset, length) = (header.rewritten_end_offset, header.rewritten_length);
            return fits.then_some(Previous { end_offset, length, ..previous });
        }
        let fits = previous.file_id == header.file_id
            && previous.base_offset == header.base_offset
            && previous.end_offset == next.base_offset
            && previous.length >= BLOCK_BYTES
            && previous.length <= self.length
            && next_header.epoch >= header.epoch;
        (fits || (bites("predecessor-not-checked") && previous.length <= self.length)).then_some(previous)
    }
}

/// The segment files in order, with their headers; of those from base offset `forget_from` on memory
/// forgets what it takes the drive to have. Notes leftovers and foreign files.
pub(super) fn list(
    disk: &dyn Disk,
    dir: &Path,
    log: &LogId,
    forget_from: Option<u64>,
    recovered: &mut Recovered,
) -> Result<Vec<Candidate>> {
    let entries = match disk.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io(error).at_path(dir)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = dir.join(&entry.name);
        let Some(base_offset) = base_offset_of(&entry.name) else {
            match entry.name.as_str() {
                NEXT_NAME | PREPARED_NAME if entry.kind == EntryKind::File => recovered.unlink.push(path),
                _ if is_aside_dir(&entry) || is_own_aside(&entry) => {}
                name if name.ends_with(".index.tmp") && entry.kind == EntryKind::File => recovered.unlink.push(path),
                // What an interrupted repair left: it is needed no more if nothing is damaged.
                name if name.contains(REPAIR_INFIX) && entry.kind == EntryKind::File => recovered.unlink.push(path),
                name if name.ends_with(".index") => {}
                _ => recovered.ignored.push(path),
            }
            continue;
        };
        if entry.kind != EntryKind::File {
            return Err(
                Error::new(ErrorKind::Foreign { reason: "a segment must be a regular file".into() }).at_path(&path)
            );
        }
        let open = || {
            let file = disk.open(&path, Access::Read)?;
            if forget_from.is_some_and(|from| base_offset >= from) && !bites("cache-believed-at-open") {
                file.forget()?;
            }
            let length = file.length()?;
            let header = read_header(&*file)?;
            Ok((file, length, header))
        };
        let (file, length, header) = open().map_err(|error: io::Error| Error::io(error).at_path(&path))?;
        let checked =
            header.and_then(|header| header.expect(FileKind::Segment, log).map(|()| header)).and_then(|header| {
                if header.base_offset == base_offset {
                    Ok(header)
                } else {
                    Err(FormatError::Foreign(format!("its header says base offset {}", header.base_offset)))
                }
            });
        match &checked {
            Err(FormatError::Newer(found)) => {
                return Err(Error::new(ErrorKind::NewerFormat { found: found.clone() }).at_path(&path));
            }
            Err(FormatError::Foreign(reason)) => {
                return Err(Error::new(ErrorKind::Foreign { reason: reason.clone() }).at_path(&path));
            }
            _ => {}
        }
        files.push(Candidate { path, base_offset, file, length, header: checked });
    }
    Ok(files)
}
