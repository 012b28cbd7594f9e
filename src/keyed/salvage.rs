//! What is left of a damaged keyed log: every whole batch, before and behind the damage.
//!
//! For an owner who can do with a part. Nothing on disk changes, and nothing can be written. The
//! verdict is that of opening: what nothing proves to have been durable is a torn tail, no hole.

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Access, Disk};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BATCH_HEADER_BYTES, BatchHeader, FileKind, FormatError};
use crate::ids::EngineId;
use crate::segment::{Found, Scan, next_batch_within, search};

use super::{KeyedLog, refused};

/// How much is read, in all, of batches that turn out damaged: so many times the file.
const READ_AT_MOST: u64 = 16;

/// A part of a log, in order.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    Batch {
        header: &'a BatchHeader,
        body: &'a [u8],
        position: u64,
    },
    /// Something that was durable is damaged or missing; what and where.
    Hole(Error),
}

/// Where they go.
pub(crate) type Salvage<'a> = dyn FnMut(Piece<'_>) -> Result<()> + 'a;

impl KeyedLog {
    /// Hands on what is left of the newest `<prefix>-<n>`. A file that can't be read at all is one hole.
    ///
    /// # Errors
    /// [`ErrorKind::NewerFormat`]; errors of the disk, and those of `each`.
    pub(crate) fn salvage(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        prefix: &'static str,
        kind: FileKind,
        engine_id: EngineId,
        proven: u64,
        each: &mut Salvage<'_>,
    ) -> Result<()> {
        match KeyedLog::attach_newest(disk, dir, prefix, kind, Some(engine_id), Access::Read) {
            Ok((_, None)) => Ok(()),
            Ok((_, Some(mut log))) => {
                log.durable_offset = log.durable_offset.max(proven);
                log.salvage_batches(each)
            }
            Err(error) if is_damage(&error) => each(Piece::Hole(error)),
            Err(error) => Err(error),
        }
    }

    fn salvage_batches(&self, each: &mut Salvage<'_>) -> Result<()> {
        let file = &*self.file;
        let at_file = |error| Error::io(error).at_path(&self.path);
        let length = file.length().map_err(at_file)?;
        let mut budget = length.saturating_mul(READ_AT_MOST);
        let mut place = self.end;
        let mut durable = self.durable_offset;
        let mut stuck_at = None;
        let mut searched = false;
        loop {
            let mut scan = Scan::new(file, length, self.seed, place);
            let reason = loop {
                let position = scan.place().position;
                let at_place = |error: Error| error.at_path(&self.path).at_position(position);
                let header = match scan.next().map_err(at_file)? {
                    Found::Batch { header, .. } => header,
                    Found::End(error @ FormatError::Newer(_)) => return Err(at_place(refused(error))),
                    Found::End(error) => break error,
                };
                durable = durable.max(header.durable_before);
                let bytes = scan.batch_bytes().map_err(at_file)?;
                let body = bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default();
                match self.is_ours(&header).map_err(at_place) {
                    Ok(true) => each(Piece::Batch { header: &header, body, position })?,
                    Ok(false) => {}
                    Err(error) if is_damage(&error) => each(Piece::Hole(error))?,
                    Err(error) => return Err(error),
                }
            };
            place = scan.place();
            if !searched {
                // It holds for all that follows: what was durable once was durable.
                let beyond = search(file, length, self.seed, place.position..length, place.epoch).map_err(at_file)?;
                durable = durable.max(beyond.durable_before);
            }
            if durable <= place.next_offset {
                return Ok(());
            }
            // Beside a live writer it may have been finished meanwhile: look once more.
            if !searched && stuck_at != Some(place) {
                stuck_at = Some(place);
                continue;
            }
            searched = true;
            let reason = format!(
                "entries up to {durable} were durable, those from {} on are not there: {reason}",
                place.next_offset
            );
            each(Piece::Hole(Error::corrupt(reason).at_path(&self.path).at_position(place.position)))?;
            match next_batch_within(file, length, self.seed, place, &mut budget).map_err(at_file)? {
                Some(next) => place = next,
                None => return Ok(()),
            }
        }
    }
}

/// Whether the error is one that a part of the file may survive.
pub(crate) fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt { .. } | ErrorKind::Foreign { .. })
}
