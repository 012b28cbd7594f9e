//! A keyed log's file: how it is made, and what its batches' headers say.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, BatchKind, FileHeader, FileKind, MAX_OFFSET};
use crate::segment::Place;

use super::ahead::AHEAD_BYTES;
use super::used_up;

/// The most that is allocated at once beyond what is needed.
const MAX_STEP_BYTES: u64 = 4 << 20;

/// The longest batch the format knows.
const MAX_BATCH_BYTES: u64 = 1 << 30;

/// A file just written, or about to be read.
pub(super) struct Made {
    pub(super) file: Arc<dyn File>,
    pub(super) end: Place,
    pub(super) allocated: u64,
}

impl Made {
    /// Writes and syncs a whole file under a temporary name; removes it again on an error.
    pub(super) fn write(
        disk: &dyn Disk,
        path: &Path,
        header: &FileHeader,
        bodies: &[(&[u8], u32)],
        now_ms: i64,
    ) -> Result<Made> {
        match disk.unlink(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io(error).at_path(path)),
            _ => {}
        }
        let file = disk.create(path).map_err(|error| Error::io(error).at_path(path))?;
        Made::fill(file, header, bodies, now_ms).map_err(|error| {
            let _ = disk.unlink(path);
            error.at_path(path)
        })
    }

    fn fill(file: Arc<dyn File>, header: &FileHeader, bodies: &[(&[u8], u32)], now_ms: i64) -> Result<Made> {
        let seed = header.seed();
        let mut end = start_of(header);
        let bytes: u64 = bodies.iter().map(|(body, _)| (BATCH_HEADER_BYTES + body.len()) as u64).sum();
        let allocated = allocation_for(BLOCK_BYTES + bytes);
        file.allocate(0..allocated).map_err(Error::io)?;
        file.write_at(&[IoSlice::new(&header.encode())], 0).map_err(Error::io)?;
        for &(body, entries) in bodies {
            let batch = batch_header(header.kind, end, header.base_offset, body, entries, now_ms)?;
            let bytes = batch.encode(seed, end.position);
            file.write_at(&[IoSlice::new(&bytes), IoSlice::new(body)], end.position).map_err(Error::io)?;
            end.position += u64::from(batch.length);
            end.next_offset = batch.end_offset();
        }
        if !crate::teeth::bites("keyed-file-not-synced-before-rename") {
            file.sync().map_err(Error::io)?;
        }
        Ok(Made { file, end, allocated })
    }
}

/// Writes a whole file, and gives it its name in `dir` when it is durable. When this returns, so is its name.
pub(crate) fn put_new_file(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    header: &FileHeader,
    bodies: &[(Vec<u8>, u32)],
    now_ms: i64,
) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let bodies: Vec<(&[u8], u32)> = bodies.iter().map(|(body, entries)| (&body[..], *entries)).collect();
    Made::write(disk, &temporary, header, &bodies, now_ms)?;
    take_name(disk, &temporary, path).map_err(|error| {
        let _ = disk.unlink(&temporary);
        Error::io(error).at_path(path)
    })?;
    disk.sync_dir(dir).map_err(|error| Error::io(error).at_path(dir))
}

/// Gives a file that is written and durable its name, in place of its temporary one. What has the name already is
/// never replaced: the list of the directory may have been wrong, or another directory mounted there meanwhile.
pub(super) fn take_name(disk: &dyn Disk, temporary: &Path, path: &Path) -> io::Result<()> {
    match disk.link(temporary, path) {
        // Not every file system has second names.
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
            match disk.open(path, Access::Read) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => disk.rename(temporary, path),
                Err(error) => Err(error),
                Ok(_) => Err(taken()),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(taken()),
        // One that stays is removed by the next open for writing.
        linked => linked.map(|()| drop(disk.unlink(temporary))),
    }
}

fn taken() -> io::Error {
    let reason =
        "a file has this name that the directory's list did not show: it stays as it is; open the directory again";
    io::Error::new(io::ErrorKind::AlreadyExists, reason)
}

/// Where a file's first batch stands.
pub(super) fn start_of(header: &FileHeader) -> Place {
    Place { position: BLOCK_BYTES, next_offset: header.base_offset, epoch: header.epoch }
}

/// How much is allocated for a log that ends at `end`: after this at least `AHEAD_BYTES` can be
/// appended before the next step. The steps grow with the log.
pub(super) fn allocation_for(end: u64) -> u64 {
    (end + 2 * AHEAD_BYTES + (end / 8).min(MAX_STEP_BYTES)).next_multiple_of(BLOCK_BYTES)
}

/// Whether there may be a batch with so many bytes of entries.
pub(super) fn check_batch_length(body_bytes: usize, entries: u32) -> Result<()> {
    let length = (BATCH_HEADER_BYTES + body_bytes) as u64;
    if !length.is_multiple_of(8) || length > MAX_BATCH_BYTES || entries == 0 {
        return Err(Error::invalid(format!(
            "a batch of {entries} entries in {body_bytes} bytes: there is at least one, and their bytes are a multiple of 8 and, with the header, 1 GiB at most",
        )));
    }
    Ok(())
}

pub(super) fn batch_header(
    kind: FileKind,
    end: Place,
    durable_before: u64,
    body: &[u8],
    entries: u32,
    now_ms: i64,
) -> Result<BatchHeader> {
    check_batch_length(body.len(), entries)?;
    if end.next_offset + u64::from(entries) > MAX_OFFSET {
        return Err(used_up("offsets"));
    }
    Ok(BatchHeader {
        base_offset: end.next_offset,
        durable_before,
        offset_count: entries,
        record_count: entries,
        base_timestamp: now_ms,
        max_timestamp: now_ms,
        appended_ms: now_ms,
        epoch: end.epoch,
        ..BatchHeader::of(batch_kind(kind), body)
    })
}

/// The kind of the batches in a file of this kind.
pub(super) fn batch_kind(kind: FileKind) -> BatchKind {
    match kind {
        FileKind::Catalog => BatchKind::Catalog,
        FileKind::Offsets => BatchKind::Offsets,
        FileKind::Segment | FileKind::Index => BatchKind::Records,
    }
}

/// Random: tells this file from every other, whatever its name.
pub(crate) fn fresh_file_id(disk: &dyn Disk) -> Result<u64> {
    disk.random().map(|id| id.max(1)).map_err(Error::io)
}
