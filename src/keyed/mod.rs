//! A keyed log: a small file of entries that is compacted whole (the catalogue, the offset log).
//!
//! What a batch holds is its owner's business. Kept here: a batch counts whole or not at all;
//! what a finished [`sync`](KeyedLog::sync) covered survives power loss; bytes that don't fit are
//! *corrupt* only if something at or above them is known to have been durable, else a torn tail.
//! Reads are copies, so a cut tail is written over; that the next epoch is higher keeps it from
//! coming back. One thread at a time owns a log; it takes no lock and starts no thread.

mod ahead;
mod file;
mod names;
mod open;
mod salvage;
mod sync;
#[cfg(all(test, feature = "sim"))]
mod tests;

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk, File};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BATCH_HEADER_BYTES, BatchHeader, FileHeader, FileKind, FormatError, MAX_OFFSET, Previous, Seed};
use crate::ids::{EngineId, LogId};
use crate::segment::Place;
use crate::teeth::bites;

use file::{Made, batch_header, take_name};

pub(crate) use file::{fresh_file_id, put_new_file};
pub(crate) use names::number_of;
pub(crate) use salvage::{Piece, is_damage};
pub(crate) use sync::Syncing;

/// See the module.
pub(crate) struct KeyedLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    prefix: &'static str,
    access: Access,
    /// The `n` of `<prefix>-<n>`.
    number: u64,
    path: PathBuf,
    file: Arc<dyn File>,
    header: FileHeader,
    seed: Seed,
    /// Where the next batch goes, and the offset and least epoch it has.
    end: Place,
    /// Entries below this offset survive power loss.
    durable_offset: u64,
    /// Bytes of the file that have blocks.
    allocated: u64,
    /// Up to here zeros were written ahead; may lie below the end.
    zeroed: u64,
    /// What the last batch took.
    batch_bytes: u64,
    appended_ms: i64,
    /// A tail found at open that nothing proves durable; written again before the first sync.
    unproven: Option<Unproven>,
    /// An error, found at open, that kept some of what an earlier life had written from the drive.
    not_written: Option<Error>,
    /// Epoch of the last batch before a cut: the next one's must be higher.
    cut_epoch: Option<u32>,
    /// Where a cut tail ends that isn't erased yet.
    cut_end: Option<u64>,
    /// What lies behind the end is durably zeros.
    ends_durably: bool,
    /// Where the last replayed batch stands, and its header: tells a follower of an undone append.
    last: Option<(u64, [u8; BATCH_HEADER_BYTES])>,
    /// A follower's replay broke off: start over.
    reload: bool,
    /// The first failure; it is what every later call returns.
    failed: Option<Error>,
}

/// Whole batches, as they were read, from `position` on.
struct Unproven {
    position: u64,
    bytes: Vec<u8>,
}

/// A torn tail that no longer counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    pub(crate) path: PathBuf,
    /// Where the part that counts ends.
    pub(crate) position: u64,
    /// Bytes from there on that had been written.
    pub(crate) bytes: u64,
}

/// What [`KeyedLog::open`] found.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) log: KeyedLog,
    pub(crate) cut: Option<Cut>,
}

/// Where a batch's entries go: to [`KeyedLog::open`]'s caller, in order.
pub(crate) type Replay<'a> = dyn FnMut(&BatchHeader, &[u8]) -> Result<()> + 'a;

impl KeyedLog {
    /// Makes `<prefix>-1` in `dir` (which exists), holding one batch with `body` (`entries`
    /// entries). When it returns, file and name are durable.
    ///
    /// # Errors
    /// Of the disk; [`ErrorKind::InvalidArgument`] if there is such a log already.
    #[expect(clippy::too_many_arguments, reason = "each is a different fact about the new file")]
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        prefix: &'static str,
        kind: FileKind,
        engine_id: EngineId,
        epoch: u32,
        now_ms: i64,
        body: &[u8],
        entries: u32,
    ) -> Result<KeyedLog> {
        if let Some(number) = names::Names::list(&*disk, dir, prefix)?.newest() {
            let path = dir.join(names::file_name(prefix, number));
            return Err(Error::invalid("there is such a log already").at_path(&path));
        }
        let header = FileHeader {
            kind,
            log: LogId::keyed(engine_id),
            epoch,
            file_id: fresh_file_id(&*disk)?,
            base_offset: 0,
            created_ms: now_ms,
            term: 0,
            log_start_offset: 0,
            durable_before: u64::from(entries),
            previous: Previous::default(),
            rewrite: 0,
            rewritten_end_offset: 0,
            rewritten_length: 0,
            name: String::new(),
        };
        let directory = disk.open_dir(dir).map_err(|error| Error::io(error).at_path(dir))?;
        let temporary = dir.join(names::temporary_name(prefix, 1));
        let path = dir.join(names::file_name(prefix, 1));
        let made = Made::write(&*disk, &temporary, &header, &[(body, entries)], now_ms)?;
        take_name(&*disk, &temporary, &path).map_err(|error| {
            let _ = disk.unlink(&temporary);
            Error::io(error).at_path(&path)
        })?;
        let synced = if bites("new-keyed-log-without-directory-sync") { Ok(()) } else { directory.sync() };
        synced.map_err(|error| {
            // Else a later try would find a log that nobody knows of.
            let _ = disk.unlink(&path);
            Error::io(error).at_path(dir)
        })?;
        let log = KeyedLog::assemble(disk, dir, prefix, Access::Write, 1, header, made, now_ms);
        Ok(KeyedLog { ends_durably: true, ..log })
    }

    #[expect(clippy::too_many_arguments, reason = "private; puts together what was just read or written")]
    fn assemble(
        disk: Arc<dyn Disk>,
        dir: &Path,
        prefix: &'static str,
        access: Access,
        number: u64,
        header: FileHeader,
        made: Made,
        appended_ms: i64,
    ) -> KeyedLog {
        KeyedLog {
            disk,
            dir: dir.to_owned(),
            prefix,
            access,
            number,
            path: dir.join(names::file_name(prefix, number)),
            seed: header.seed(),
            durable_offset: header.durable_before,
            header,
            file: made.file,
            end: made.end,
            allocated: made.allocated,
            zeroed: 0,
            batch_bytes: 0,
            appended_ms,
            unproven: None,
            not_written: None,
            cut_epoch: None,
            cut_end: None,
            ends_durably: false,
            last: None,
            reload: false,
            failed: None,
        }
    }

    pub(crate) fn engine_id(&self) -> EngineId {
        self.header.log.engine_id
    }

    /// Takes the error that opening found, if it did: what was written, and never synced, is lost by it.
    pub(crate) fn take_not_written(&mut self) -> Option<Error> {
        self.not_written.take()
    }

    /// Whether nothing says that the end found at open is durable, and no sync has made it so.
    pub(crate) fn is_unproven(&self) -> bool {
        self.unproven.is_some()
    }

    /// Takes nothing any more: the directory is about to be another's.
    pub(crate) fn close(&mut self) {
        self.failed.get_or_insert_with(|| Error::new(ErrorKind::Closed));
    }

    /// The file that holds the log now.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The epoch that batches carry from now on; it never gets lower.
    pub(crate) fn set_epoch(&mut self, epoch: u32) {
        self.end.epoch = self.end.epoch.max(epoch);
    }

    /// The epoch of the newest batch, or a later one that was [set](KeyedLog::set_epoch).
    pub(crate) fn epoch(&self) -> u32 {
        self.end.epoch
    }

    /// Bytes of the file that count, to decide when to compact.
    pub(crate) fn bytes(&self) -> u64 {
        self.end.position
    }

    /// Appends one batch: written, not synced.
    ///
    /// # Errors
    /// [`ErrorKind::NoRoom`]: nothing was appended, the log goes on. [`ErrorKind::Failed`]: this
    /// or an earlier write or sync failed; nothing works until the log is opened again.
    pub(crate) fn append(&mut self, body: &[u8], entries: u32, now_ms: i64) -> Result<()> {
        self.check_usable()?;
        if self.cut_epoch.is_some_and(|cut| self.end.epoch <= cut) {
            return Err(Error::invalid("the tail was cut: the next batch needs a higher epoch").at_path(&self.path));
        }
        let header = batch_header(self.header.kind, self.end, self.durable_offset, body, entries, now_ms)?;
        self.settle()?;
        self.allocate_ahead(self.end.position + u64::from(header.length))?;
        let position = self.end.position;
        let bytes = header.encode(self.seed, position);
        if let Err(error) = self.file.write_at(&[IoSlice::new(&bytes), IoSlice::new(body)], position) {
            let error = Error::io(error).at_path(&self.path).at_position(position);
            return Err(match error.kind() {
                ErrorKind::NoRoom if self.erase_start().is_ok() => error,
                _ => self.latch(error),
            });
        }
        self.end.position += u64::from(header.length);
        self.batch_bytes = u64::from(header.length);
        self.end.next_offset = header.end_offset();
        self.appended_ms = now_ms;
        self.cut_epoch = None;
        Ok(())
    }

    /// Compacts: replaces the file by one that holds `bodies` (each with its count of entries) and
    /// nothing else. When it returns, that is durable.
    ///
    /// # Errors
    /// [`ErrorKind::NoRoom`]: the old file goes on unharmed. [`ErrorKind::Failed`] as in
    /// [`append`](KeyedLog::append).
    pub(crate) fn rewrite(&mut self, bodies: &[(Vec<u8>, u32)], now_ms: i64) -> Result<()> {
        self.check_usable()?;
        let entries: u64 = bodies.iter().map(|(_, entries)| u64::from(*entries)).sum();
        let number = self.number.checked_add(1).ok_or_else(|| used_up("file numbers"))?;
        let end_offset = self.end.next_offset.checked_add(entries).filter(|&end| end <= MAX_OFFSET);
        let header = FileHeader {
            epoch: self.end.epoch,
            file_id: fresh_file_id(&*self.disk)?,
            base_offset: self.end.next_offset,
            created_ms: now_ms,
            log_start_offset: self.end.next_offset,
            durable_before: end_offset.ok_or_else(|| used_up("offsets"))?,
            previous: Previous {
                file_id: self.header.file_id,
                base_offset: self.header.base_offset,
                end_offset: self.end.next_offset,
                length: self.end.position,
                appended_ms: self.appended_ms,
                max_timestamp: self.appended_ms,
            },
            ..self.header.clone()
        };
        match self.replace(number, &header, bodies, now_ms) {
            Ok(made) => {
                let old = std::mem::replace(&mut self.path, self.dir.join(names::file_name(self.prefix, number)));
                // The newest wins; an open for writing removes what is left here.
                let _ = self.disk.unlink(&old);
                self.number = number;
                self.seed = header.seed();
                self.durable_offset = header.durable_before;
                self.header = header;
                (self.file, self.end, self.allocated) = (made.file, made.end, made.allocated);
                self.zeroed = 0;
                self.appended_ms = now_ms;
                self.unproven = None;
                self.cut_epoch = None;
                self.cut_end = None;
                self.ends_durably = true;
                Ok(())
            }
            Err(Unreplaced::Unharmed(error)) if error.kind() == &ErrorKind::NoRoom => Err(error),
            Err(Unreplaced::Unharmed(error) | Unreplaced::Unknown(error)) => Err(self.latch(error)),
        }
    }

    /// Writes the next file and gives it its name.
    fn replace(
        &self,
        number: u64,
        header: &FileHeader,
        bodies: &[(Vec<u8>, u32)],
        now_ms: i64,
    ) -> std::result::Result<Made, Unreplaced> {
        let at_dir = |error| Error::io(error).at_path(&self.dir);
        let temporary = self.dir.join(names::temporary_name(self.prefix, number));
        let path = self.dir.join(names::file_name(self.prefix, number));
        let bodies: Vec<(&[u8], u32)> = bodies.iter().map(|(body, entries)| (&body[..], *entries)).collect();
        let directory = self.disk.open_dir(&self.dir).map_err(at_dir).map_err(Unreplaced::Unharmed)?;
        let made = Made::write(&*self.disk, &temporary, header, &bodies, now_ms).map_err(Unreplaced::Unharmed)?;
        if bites("old-file-unlinked-before-the-new-is-durable") {
            let _ = self.disk.unlink(&self.path);
        }
        if let Err(error) = take_name(&*self.disk, &temporary, &path) {
            let error = Error::io(error).at_path(&path);
            let _ = self.disk.unlink(&temporary);
            // Should the new name stand nevertheless, it wins at the next open: what is appended
            // to the old file from now on would be lost.
            let names = names::Names::list(&*self.disk, &self.dir, self.prefix);
            return Err(match names {
                Ok(names) if names.newest() == Some(self.number) => Unreplaced::Unharmed(error),
                _ => Unreplaced::Unknown(error),
            });
        }
        if !bites("compaction-without-directory-sync") {
            directory.sync().map_err(at_dir).map_err(Unreplaced::Unknown)?;
        }
        Ok(made)
    }

    /// Why it takes nothing more, if an earlier write or sync failed.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    fn check_usable(&self) -> Result<()> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.access == Access::Read => Err(Error::new(ErrorKind::ReadOnly).at_path(&self.path)),
            None => Ok(()),
        }
    }

    /// The first failure is the answer to every later call.
    fn latch(&mut self, error: Error) -> Error {
        self.failed.insert(error.with_kind(ErrorKind::Failed)).clone()
    }

    /// Writes the unproven tail again, so that the next sync covers it: after a failed sync in an
    /// earlier life the kernel may hold pages that it believes are written (DURABILITY 1.3).
    ///
    /// Erases a cut tail first, so that it is reported once: behind the end there are zeros.
    fn settle(&mut self) -> Result<()> {
        if bites("keyed-tail-not-erased") {
            self.cut_end = None;
        }
        if let Some(cut_end) = self.cut_end {
            if let Err(error) = self.erase(self.end.position..cut_end) {
                let error = Error::io(error).at_path(&self.path).at_position(self.end.position);
                return Err(if error.kind() == &ErrorKind::NoRoom { error } else { self.latch(error) });
            }
            self.cut_end = None;
        }
        // The zeros behind the end may be those of an earlier life that was killed before it had synced them.
        // After a power failure parts of an old tail, and equal parts of what is written next, might add up
        // to a batch of that tail, which was found to be gone.
        if !self.ends_durably && !bites("keyed-erased-tail-not-synced") {
            if let Err(error) = self.file.sync() {
                return Err(self.latch(Error::io(error).at_path(&self.path)));
            }
            self.ends_durably = true;
        }
        if bites("keyed-tail-not-written-again") {
            self.unproven = None;
        }
        let Some(tail) = &self.unproven else { return Ok(()) };
        if let Err(error) = self.file.write_at(&[IoSlice::new(&tail.bytes)], tail.position) {
            let error = Error::io(error).at_path(&self.path).at_position(tail.position);
            // The same bytes stood there: half of it done changes nothing.
            return Err(if error.kind() == &ErrorKind::NoRoom { error } else { self.latch(error) });
        }
        self.unproven = None;
        Ok(())
    }

    /// After a write that found no room: nothing of it may be taken for a batch.
    fn erase_start(&self) -> io::Result<()> {
        let mut start = [0; 8];
        let read = self.file.read_at(&mut start, self.end.position)?;
        if start[..read].iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        self.file.write_at(&[IoSlice::new(&[0; 8])], self.end.position)
    }
}

impl fmt::Debug for KeyedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLog")
            .field("path", &self.path)
            .field("end", &self.end)
            .field("durable_offset", &self.durable_offset)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// Why a file was not replaced by the next.
enum Unreplaced {
    /// Nothing changed.
    Unharmed(Error),
    /// Which of the two a later open finds can't be known.
    Unknown(Error),
}

/// What bytes that passed their checksum but can't be used mean.
pub(crate) fn refused(error: FormatError) -> Error {
    match error {
        FormatError::Invalid(reason) => Error::corrupt(reason),
        FormatError::Newer(found) => Error::new(ErrorKind::NewerFormat { found }),
        FormatError::Foreign(reason) => Error::new(ErrorKind::Foreign { reason }),
    }
}

fn used_up(what: &str) -> Error {
    Error::corrupt(format!("{what} are used up"))
}
