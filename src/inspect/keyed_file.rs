//! Checks the file of a keyed log: the catalogue, the offset log.
//!
//! Opening decides where it ends. What stands behind that is a tail which the next open for writing cuts and tells
//! of, and no damage here either. Besides: what else is damaged behind the first damage, and whether the end is
//! where it was when the directory was closed, if `LOCK` says so.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::meter::Meter;
use super::report::{Damage, Unfinished, Verification, prevents};
use super::walk::{Step, Walk, header_block, last_written};
use crate::disk::{Access, Disk, File};
use crate::engine::parse_closed;
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, BatchHeader, FileHeader, FileKind};
use crate::ids::EngineId;
use crate::keyed::{KeyedLog, Opened, refused};
use crate::offsets::OffsetState;
use crate::segment::Place;

/// A keyed log's file, as far as opening it said.
pub(super) struct KeyedFile<'a> {
    pub(super) path: &'a Path,
    pub(super) kind: FileKind,
    /// Where what counts ends; `None` if it can't be opened.
    pub(super) end: Option<u64>,
    /// Name and end of the catalogue when the directory was closed last.
    pub(super) closed_at: Option<(String, u64)>,
    pub(super) live: bool,
}

/// What `LOCK` says of the catalogue, if it says that the directory was closed.
pub(super) fn closed_at(disk: &dyn Disk, lock: &Path) -> Option<(String, u64)> {
    let file = disk.open(lock, Access::Read).ok()?;
    let mut text = [0; 256];
    let read = file.read_at(&mut text, 0).ok()?;
    parse_closed(std::str::from_utf8(&text[..read]).ok()?)
}

/// Opens the offset log: its file, where it ends, and the newest epoch that it speaks of.
pub(super) fn open_offsets(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    engine_id: Option<EngineId>,
    proven: u64,
) -> Result<Option<(PathBuf, u64, u32)>> {
    let (kind, access) = (FileKind::Offsets, Access::Read);
    // What contradicts what came before is as bad as a checksum that doesn't fit.
    let mut state = OffsetState::default();
    let mut replay = |header: &BatchHeader, body: &[u8]| {
        state.apply_batch(body, header.record_count, header.appended_ms).map_err(refused)
    };
    let opened = KeyedLog::open_proven(disk.clone(), dir, "offsets", kind, engine_id, access, proven, &mut replay)?;
    let newest = state.newest_epoch();
    Ok(opened.map(|Opened { log, .. }| (log.path().to_owned(), log.bytes(), newest.max(log.epoch()))))
}

/// Checks the file; what opening it found is noted already.
///
/// # Errors
/// What keeps it from being checked.
pub(super) fn check(
    disk: &dyn Disk,
    file: &KeyedFile<'_>,
    meter: &mut Meter<'_>,
    found: &mut Verification,
) -> Result<()> {
    let read = || -> io::Result<(Arc<dyn File>, u64)> {
        let opened = disk.open(file.path, Access::Read)?;
        let length = opened.length()?;
        Ok((opened, length))
    };
    let (opened, length) = match read() {
        Ok(opened) => opened,
        // Its writer compacted since, or opening has told already why it can't be read.
        Err(error) => return prevented(Error::io(error).at_path(file.path)),
    };
    found.bytes += length;
    let mut look = Look { file, opened: &*opened, length, damage: Vec::new(), unfinished: None };
    let looked = look.run(meter);
    let (damage, unfinished) = (look.damage, look.unfinished);
    for damage in damage {
        found.note(damage);
    }
    found.unfinished.extend(unfinished);
    match looked {
        Ok(()) => Ok(()),
        Err(error) => {
            let error = Error::io(error).at_path(file.path);
            found.note(Damage::of_error(&error, file.path));
            prevented(error)
        }
    }
}

fn prevented(error: Error) -> Result<()> {
    if prevents(&error) { Err(error) } else { Ok(()) }
}

struct Look<'a> {
    file: &'a KeyedFile<'a>,
    opened: &'a dyn File,
    length: u64,
    damage: Vec<Damage>,
    unfinished: Option<Unfinished>,
}

impl Look<'_> {
    fn run(&mut self, meter: &mut Meter<'_>) -> io::Result<()> {
        let (header, set) = header_block(self.opened)?;
        meter.add(self.file.path, self.length);
        let Ok(header) = header else { return Ok(()) };
        if let Some(position) = set {
            self.damage(position, "bytes of the header block that are never written are set");
        }
        let end = self.batches(&header)?;
        match end {
            Some(end) => self.tail(end),
            None => Ok(()),
        }
    }

    /// Walks the batches; where they end, if the file could be opened.
    fn batches(&mut self, header: &FileHeader) -> io::Result<Option<u64>> {
        let place = Place { position: BLOCK_BYTES, next_offset: header.base_offset, epoch: header.epoch };
        let mut walk = Walk::new(self.opened, self.length, self.file.kind, header.seed(), place);
        let mut gap = None;
        loop {
            let at = walk.place().position;
            let ended = self.file.end.is_some_and(|end| at >= end);
            if ended && !self.file.live {
                return Ok(self.file.end);
            }
            match walk.next()? {
                // Beside a live writer batches may have come since it was opened.
                None | Some(Step::Gap { .. } | Step::Batch { problem: Some(_), .. }) if ended => {
                    return Ok(Some(at));
                }
                None => return Ok(self.file.end),
                Some(Step::Gap { from, reason, .. }) => gap = Some((from, reason)),
                Some(Step::Batch { problem, .. }) => {
                    if let Some((from, reason)) = gap.take() {
                        self.damage(from, reason.to_string());
                    }
                    if let Some(problem) = problem {
                        self.damage(at, problem.to_string());
                    }
                }
            }
        }
    }

    /// What stands behind the end.
    fn tail(&mut self, end: u64) -> io::Result<()> {
        let name = self.file.path.file_name().unwrap_or_default();
        let closed_at = self.file.closed_at.as_ref().filter(|(file, _)| name == file.as_str());
        let closed_at = closed_at.map(|(_, position)| *position);
        if let Some(position) = closed_at.filter(|&position| position > end) {
            let reason =
                format!("it ended at position {position} when the directory was closed, and from here on nothing fits");
            self.damage(end, reason);
            return Ok(());
        }
        let written_end = last_written(self.opened, end, self.length)?;
        if written_end == end {
            return Ok(());
        }
        let path = self.file.path.to_owned();
        let bytes = written_end - end;
        self.unfinished = Some(Unfinished { path, position: end, bytes, topic: None, partition: None });
        Ok(())
    }

    fn damage(&mut self, position: u64, reason: impl Into<String>) {
        self.damage.push(Damage { position: Some(position), ..Damage::of_path(self.file.path, reason.into()) });
    }
}
