//! What lies behind a keyed log's end: blocks reserved ahead, and zeros in them.

use std::io::{self, IoSlice};
use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::format::BLOCK_BYTES;
use crate::teeth::bites;

use super::KeyedLog;
use super::file::allocation_for;

/// Room kept allocated behind the last batch, so that appends work on a full disk.
pub(super) const AHEAD_BYTES: u64 = 32 << 10;

/// Zeros are written ahead for at least so many batches like the last, and up to this many more.
const BATCHES_LEAST: u64 = 2;
const BATCHES_MORE: u64 = 30;
/// But never further than this.
const ZEROS_BYTES_MAX: u64 = 1 << 20;
/// Zeros written at a time: somebody may wait to append.
const PIECE_BYTES: u64 = 32 << 10;

static ZEROS: [u8; PIECE_BYTES as usize] = [0; PIECE_BYTES as usize];

impl KeyedLog {
    /// Whether [`write_ahead`](KeyedLog::write_ahead) would make the next batches cheaper.
    pub(crate) fn wants_zeros(&self) -> bool {
        self.zeroed < (self.end.position + BATCHES_LEAST * self.batch_bytes).min(self.allocated)
    }

    /// Writes some zeros behind the end, into blocks that are reserved: writing and syncing a batch there is
    /// cheaper than in blocks that were never written, of which the file system has something to note.
    /// Whether to come again: not if there are enough, or none can be written. Only a log that was appended to
    /// in this life has them: what lies behind its end was durably zeros before that (`settle`).
    pub(crate) fn write_ahead(&mut self) -> bool {
        if self.failed.is_some() || self.batch_bytes == 0 {
            return false;
        }
        let end = self.end.position;
        let begin =
            if bites("keyed-zeros-over-the-end") { end.saturating_sub(8) } else { end.next_multiple_of(BLOCK_BYTES) };
        let from = begin.max(self.zeroed);
        let enough = end + ((BATCHES_LEAST + BATCHES_MORE) * self.batch_bytes).min(ZEROS_BYTES_MAX);
        let to = enough.next_multiple_of(BLOCK_BYTES).min(self.allocated).min(from + PIECE_BYTES);
        if from >= to {
            return false;
        }
        let written = self.file.write_at(&[IoSlice::new(&ZEROS[..(to - from) as usize])], from);
        // Nobody reads them: an error shows when a batch is written there. They aren't tried again.
        self.zeroed = if written.is_ok() { to } else { self.allocated };
        true
    }

    /// Sees to it that there are blocks up to `end`, and if possible some beyond.
    pub(super) fn allocate_ahead(&mut self, end: u64) -> Result<()> {
        if end + AHEAD_BYTES <= self.allocated {
            return Ok(());
        }
        let result = match self.allocate_to(allocation_for(end)) {
            Err(error) if error.kind() != &ErrorKind::NoRoom => Err(error),
            Err(_) if end <= self.allocated => Ok(()),
            // The last blocks may do for this batch, if not for more.
            Err(_) => self.allocate_to(end.next_multiple_of(BLOCK_BYTES)),
            Ok(()) => Ok(()),
        };
        result.map_err(|error| if error.kind() == &ErrorKind::NoRoom { error } else { self.latch(error) })
    }

    fn allocate_to(&mut self, target: u64) -> Result<()> {
        let result = self.file.allocate(self.allocated..target);
        result.map_err(|error| Error::io(error).at_path(&self.path).at_position(self.allocated))?;
        self.allocated = target;
        Ok(())
    }

    pub(super) fn erase(&self, range: Range<u64>) -> io::Result<()> {
        let mut at = range.start;
        loop {
            // What was never written is zeros as it is, and may be any length.
            at = self.file.stored_from(at)?;
            if at >= range.end {
                return Ok(());
            }
            // Up to a whole piece: a block that is written in part is stored, and would lead on into the hole.
            let to = ((at / PIECE_BYTES + 1) * PIECE_BYTES).min(range.end);
            self.file.write_at(&[IoSlice::new(&ZEROS[..(to - at) as usize])], at)?;
            at = to;
        }
    }
}
