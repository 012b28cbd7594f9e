//! Opening a keyed log and following one: replay, and the verdict on what doesn't fit.
//!
//! The newest file wins, whatever stands in older ones. A reader changes nothing and stands a
//! live writer: an unfinished tail is not there yet, and a file that vanished has a successor.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Access, Disk, reread};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BATCH_HEADER_BYTES, BatchHeader, BatchKind, FILE_HEADER_BYTES, FileHeader, FileKind, FormatError};
use crate::ids::{EngineId, LogId};
use crate::segment::{Beyond, Found, Scan, search};
use crate::teeth::bites;

use super::file::{Made, batch_kind, start_of};
use super::names::{self, Names};
use super::{Cut, KeyedLog, Opened, Replay, Unproven, refused};

/// How often a reader looks for a file again that its writer just replaced.
const LOOKS: u32 = 100;

impl KeyedLog {
    /// Opens the newest `<prefix>-<n>` and hands every whole batch to `replay`, in order; `None` if
    /// there is none. For writing it also makes the names durable and removes what is left over of
    /// older and unfinished files. After an error what was replayed means nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] with path and position if something that was durable is damaged,
    /// [`ErrorKind::NewerFormat`], [`ErrorKind::Foreign`]; nothing was changed then. Errors of the
    /// disk, and those of `replay`.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        prefix: &'static str,
        kind: FileKind,
        engine_id: Option<EngineId>,
        access: Access,
        replay: &mut Replay<'_>,
    ) -> Result<Option<Opened>> {
        KeyedLog::open_proven(disk, dir, prefix, kind, engine_id, access, 0, replay)
    }

    /// [`open`](KeyedLog::open) a log of which entries below `proven` are known from elsewhere to have
    /// been durable.
    #[expect(clippy::too_many_arguments, reason = "each is a different fact about the log")]
    pub(crate) fn open_proven(
        disk: Arc<dyn Disk>,
        dir: &Path,
        prefix: &'static str,
        kind: FileKind,
        engine_id: Option<EngineId>,
        access: Access,
        proven: u64,
        replay: &mut Replay<'_>,
    ) -> Result<Option<Opened>> {
        let (names, found) = KeyedLog::attach_newest(&disk, dir, prefix, kind, engine_id, access)?;
        let Some(mut log) = found else {
            if access == Access::Write {
                remove_temporary(&*disk, dir, &names);
            }
            return Ok(None);
        };
        log.durable_offset = log.durable_offset.max(proven);
        let beyond = log.catch_up(replay)?;
        if access == Access::Read {
            return Ok(Some(Opened { log, cut: None }));
        }
        // Nothing may be acknowledged in a file whose name could be lost, and none be removed.
        let directory = disk.open_dir(dir).map_err(|error| Error::io(error).at_path(dir))?;
        if !bites("keyed-name-not-synced-at-open") {
            directory.sync().map_err(|error| Error::io(error).at_path(dir))?;
        }
        remove_temporary(&*disk, dir, &names);
        for &number in names.numbers.iter().filter(|&&number| number < log.number) {
            let _ = disk.unlink(&dir.join(names::file_name(prefix, number)));
        }
        let end = log.end.position;
        let cut = (beyond.written_end > end).then(|| {
            log.cut_epoch = Some(log.end.epoch);
            log.cut_end = Some(beyond.written_end);
            Cut { path: log.path.clone(), position: end, bytes: beyond.written_end - end }
        });
        Ok(Some(Opened { log, cut }))
    }

    /// For a log opened for reading: replays what was appended since, or all of a newer file, for
    /// which `reset` is called first. True if anything came. After an error the next call starts
    /// over with `reset`.
    pub(crate) fn refresh(&mut self, reset: &mut dyn FnMut(), replay: &mut Replay<'_>) -> Result<bool> {
        if self.access == Access::Write {
            return Ok(false);
        }
        let newest = Names::list(&*self.disk, &self.dir, self.prefix)?.newest();
        if newest == Some(self.number) && !self.reload && self.last_batch_stands()? {
            let before = self.end;
            let result = self.catch_up(replay);
            self.reload = result.is_err();
            return result.map(|_| self.end != before);
        }
        self.reload = true;
        let (kind, engine_id) = (self.header.kind, Some(self.engine_id()));
        let (_, found) = KeyedLog::attach_newest(&self.disk, &self.dir, self.prefix, kind, engine_id, Access::Read)?;
        let Some(mut log) = found else { return Err(vanished(&self.path)) };
        reset();
        log.catch_up(replay)?;
        *self = log;
        Ok(true)
    }

    /// Opens the newest file, and reads its header only.
    pub(super) fn attach_newest(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        prefix: &'static str,
        kind: FileKind,
        engine_id: Option<EngineId>,
        access: Access,
    ) -> Result<(Names, Option<KeyedLog>)> {
        for _ in 0..LOOKS {
            let names = Names::list(&**disk, dir, prefix)?;
            let Some(number) = names.newest() else { return Ok((names, None)) };
            let path = dir.join(names::file_name(prefix, number));
            let file = match disk.open(&path, access) {
                // Its writer compacted between list and open.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(names::not_a_file(&path)),
                file => file.map_err(|error| Error::io(error).at_path(&path))?,
            };
            let mut not_written = None;
            if access == Access::Write && !bites("keyed-cache-believed-at-open") {
                not_written = reread(&*file).map_err(|error| Error::io(error).at_path(&path))?;
            }
            let at_start = |error: Error| error.at_path(&path).at_position(0);
            let mut bytes = [0; FILE_HEADER_BYTES];
            let read = file.read_at(&mut bytes, 0).map_err(|error| at_start(Error::io(error)))?;
            let header = FileHeader::decode(&bytes[..read]).map_err(|error| at_start(refused(error)))?;
            let log = LogId::keyed(engine_id.unwrap_or(header.log.engine_id));
            header.expect(kind, &log).map_err(|error| at_start(refused(error)))?;
            check_older(&**disk, dir, prefix, &names, &header)?;
            let allocated = file.length().map_err(|error| Error::io(error).at_path(&path))?;
            let made = Made { end: start_of(&header), file, allocated };
            let created_ms = header.created_ms;
            let mut log = KeyedLog::assemble(disk.clone(), dir, prefix, access, number, header, made, created_ms);
            log.not_written = not_written.map(|error| Error::io(error).at_path(&path));
            return Ok((names, Some(log)));
        }
        Err(vanished(dir))
    }

    /// Replays from the end known so far to the end there is, and decides what lies beyond.
    fn catch_up(&mut self, replay: &mut Replay<'_>) -> Result<Beyond> {
        let file = self.file.clone();
        let at_file = |error| Error::io(error).at_path(&self.path);
        let length = file.length().map_err(at_file)?;
        self.allocated = length;
        let mut stuck_at = None;
        loop {
            let reason = self.replay_batches(length, replay)?;
            let end = self.end;
            let beyond = search(&*file, length, self.seed, end.position..length, end.epoch)
                .map_err(|error| Error::io(error).at_path(&self.path))?;
            self.durable_offset = self.durable_offset.max(beyond.durable_before);
            if self.durable_offset <= end.next_offset {
                return Ok(beyond);
            }
            // Beside a live writer the batch may have been finished, and a later one written, while
            // we looked: what is proven durable must fit when it is read once more.
            if self.access == Access::Write || stuck_at == Some(end) {
                let durable = self.durable_offset;
                let reason = format!(
                    "entries up to {durable} were durable, those from {} on are not there: {reason}",
                    end.next_offset
                );
                return Err(Error::corrupt(reason).at_path(&self.path).at_position(end.position));
            }
            stuck_at = Some(end);
        }
    }

    /// Replays every batch that fits; returns why the next doesn't.
    fn replay_batches(&mut self, length: u64, replay: &mut Replay<'_>) -> Result<String> {
        let file = self.file.clone();
        let path = self.path.clone();
        let mut scan = Scan::new(&*file, length, self.seed, self.end);
        let mut tail = Tail::default();
        let reason = loop {
            let place = scan.place().position;
            let at_place = |error: Error| error.at_path(&path).at_position(place);
            let header = match scan.next().map_err(|error| at_place(Error::io(error)))? {
                Found::Batch { header, .. } => header,
                Found::End(error @ FormatError::Newer(_)) => return Err(at_place(refused(error))),
                Found::End(error) => break error.to_string(),
            };
            let end = scan.place();
            let bytes = scan.batch_bytes().map_err(|error| at_place(Error::io(error)))?;
            let (head, body) = bytes.split_at_checked(BATCH_HEADER_BYTES).unwrap_or((bytes, &[]));
            if self.is_ours(&header).map_err(at_place)? {
                replay(&header, body).map_err(at_place)?;
            }
            self.durable_offset = self.durable_offset.max(header.durable_before);
            self.appended_ms = header.appended_ms;
            self.last = head.try_into().ok().map(|head| (place, head));
            self.end = end;
            if self.access == Access::Write {
                tail.push(bytes, end.next_offset, self.durable_offset);
            }
        };
        self.unproven = tail.unproven(self.end.position);
        Ok(reason)
    }

    /// Whether the batch holds entries; filler doesn't. Other kinds have no business here.
    pub(super) fn is_ours(&self, header: &BatchHeader) -> Result<bool> {
        let kind = header.attributes.kind().map_err(refused)?;
        if kind == BatchKind::Filler {
            return Ok(false);
        }
        if kind != batch_kind(self.header.kind) {
            return Err(Error::corrupt(format!("a batch of kind {kind:?} stands in a keyed log")));
        }
        match header.attributes.codec() {
            0 => Ok(true),
            codec => {
                Err(Error::new(ErrorKind::NewerFormat { found: format!("entries compressed with codec {codec}") }))
            }
        }
    }

    /// Whether the last batch replayed is still the one on disk. A writer that found no room undoes
    /// an append which a follower may have seen.
    fn last_batch_stands(&self) -> Result<bool> {
        let Some((position, head)) = &self.last else { return Ok(true) };
        let mut bytes = [0; BATCH_HEADER_BYTES];
        let read = self.file.read_at(&mut bytes, *position);
        read.map_err(|error| Error::io(error).at_path(&self.path).at_position(*position))?;
        Ok(bytes == *head)
    }
}

/// The batches at the end of what was replayed that no evidence covers.
#[derive(Default)]
struct Tail {
    /// End offset and length of each.
    batches: VecDeque<(u64, usize)>,
    /// Their bytes.
    bytes: VecDeque<u8>,
}

impl Tail {
    fn push(&mut self, bytes: &[u8], end_offset: u64, durable_offset: u64) {
        while let Some(&(end, length)) = self.batches.front()
            && end <= durable_offset
        {
            self.batches.pop_front();
            self.bytes.drain(..length);
        }
        if end_offset > durable_offset {
            self.batches.push_back((end_offset, bytes.len()));
            self.bytes.extend(bytes);
        }
    }

    fn unproven(self, end_position: u64) -> Option<Unproven> {
        let bytes = Vec::from(self.bytes);
        (!bytes.is_empty()).then(|| Unproven { position: end_position - bytes.len() as u64, bytes })
    }
}

/// Refuses a newest file of another engine than an older one that stands beside it: one of them was copied
/// here, and an open for writing removes the older.
fn check_older(disk: &dyn Disk, dir: &Path, prefix: &str, names: &Names, newest: &FileHeader) -> Result<()> {
    for &number in names.numbers.iter().rev().skip(1) {
        let path = dir.join(names::file_name(prefix, number));
        // What can't be read says nothing.
        let Ok(file) = disk.open(&path, Access::Read) else { continue };
        let mut bytes = [0; FILE_HEADER_BYTES];
        let read = file.read_at(&mut bytes, 0).unwrap_or(0);
        let Ok(older) = FileHeader::decode(&bytes[..read]) else { continue };
        let (found, expected) = (older.log.engine_id, newest.log.engine_id);
        if older.kind == newest.kind && found != expected {
            let reason = format!("its header says engine {found}, and that of a newer file {expected}");
            return Err(Error::new(ErrorKind::Foreign { reason }).at_path(&path).at_position(0));
        }
    }
    Ok(())
}

fn remove_temporary(disk: &dyn Disk, dir: &Path, names: &Names) {
    for name in &names.temporary {
        let _ = disk.unlink(&dir.join(name));
    }
}

fn vanished(path: &Path) -> Error {
    Error::io(io::Error::new(io::ErrorKind::NotFound, "the file vanished each time it was to be opened")).at_path(path)
}
