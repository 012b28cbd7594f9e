//! The one scanner: walks the batches of any file with read-at, and searches for evidence.
//!
//! It says where what fits ends and why; whether that is a torn tail or damage is decided by its
//! caller, from evidence. It never maps a file and never trusts a length it has not checked.

use std::io;
use std::ops::Range;

use crate::disk::File;
use crate::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, FormatError, Seed, find_magic};
use crate::teeth::bites;

/// How much is read at once, unless a batch is larger: little at first, as most files end soon.
const FIRST_BYTES: usize = 16 << 10;
const WINDOW_BYTES: usize = 1 << 20;
/// How far a search goes on: each window ends with a header's length of bytes that the next one begins with.
const STEP_BYTES: u64 = (WINDOW_BYTES - BATCH_HEADER_BYTES) as u64;

/// A piece of a file in memory.
pub(crate) struct Window<'f> {
    file: &'f dyn File,
    length: u64,
    start: u64,
    bytes: Vec<u8>,
    /// How many of them are the file's.
    filled: usize,
    /// What the next read takes at least.
    ahead: usize,
}

impl<'f> Window<'f> {
    /// Nothing yet of the first `length` bytes of `file`.
    pub(crate) fn new(file: &'f dyn File, length: u64) -> Window<'f> {
        Window { file, length, start: 0, bytes: Vec::new(), filled: 0, ahead: FIRST_BYTES }
    }

    /// The first place from `position` on, a multiple of 8 if that is one, where something may have been written; at
    /// least the length if there is none.
    pub(crate) fn skip_hole(&self, position: u64) -> io::Result<u64> {
        if position >= self.length {
            return Ok(position);
        }
        Ok(position.max(self.file.stored_from(position)? & !7))
    }

    /// Makes `wanted` bytes from `position` available (fewer only where the file ends); returns them.
    pub(crate) fn at(&mut self, position: u64, wanted: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.length.saturating_sub(position)).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        let have_end = self.start + self.filled as u64;
        if position < self.start || position + wanted as u64 > have_end {
            let size = wanted.max(self.ahead).min(left);
            self.ahead = (self.ahead * 4).min(WINDOW_BYTES);
            if self.bytes.len() < size {
                // The system's own zeros cost nothing.
                self.bytes = vec![0; size];
            }
            (self.start, self.filled) = (position, 0);
            self.filled = self.file.read_at(&mut self.bytes[..size], position)?;
        }
        let from = (position - self.start) as usize;
        Ok(&self.bytes[from..(from + wanted).min(self.filled)])
    }
}

/// What [`Scan::next`] found.
#[derive(Debug)]
pub(crate) enum Found {
    /// A whole batch that fits behind the one before.
    Batch {
        /// Its checked header.
        header: BatchHeader,
        /// Where it stands.
        position: u64,
    },
    /// Nothing that fits stands at [`Scan::position`]; the reason, for people.
    End(FormatError),
}

/// Walks batches from a place on, accepting those whose checksums, position, base offset and epoch fit.
pub(crate) struct Scan<'f> {
    window: Window<'f>,
    seed: Seed,
    position: u64,
    next_offset: u64,
    epoch: u32,
    last: Option<(u64, u32)>,
    /// Offsets may be left out, as in a rewritten file.
    sparse: bool,
}

/// Where a scan stands: what the next batch must fit to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// Byte place in the file, a multiple of 8.
    pub(crate) position: u64,
    /// Base offset the next batch must have.
    pub(crate) next_offset: u64,
    /// Its epoch must not be below this.
    pub(crate) epoch: u32,
}

impl<'f> Scan<'f> {
    /// A scan of the first `length` bytes of `file`, from `place` on.
    pub(crate) fn new(file: &'f dyn File, length: u64, seed: Seed, place: Place) -> Scan<'f> {
        Scan {
            window: Window::new(file, length),
            seed,
            position: place.position,
            next_offset: place.next_offset,
            epoch: place.epoch,
            last: None,
            sparse: false,
        }
    }

    /// Whether offsets may be left out between batches: only in a rewritten file.
    pub(crate) fn sparse(mut self, sparse: bool) -> Scan<'f> {
        self.sparse = sparse;
        self
    }

    /// Where the next batch must stand.
    pub(crate) fn place(&self) -> Place {
        Place { position: self.position, next_offset: self.next_offset, epoch: self.epoch }
    }

    /// The next batch that fits, or the end.
    pub(crate) fn next(&mut self) -> io::Result<Found> {
        let position = self.position;
        let room = self.window.length.saturating_sub(position);
        let bytes = self.window.at(position, BATCH_HEADER_BYTES)?;
        let header = match BatchHeader::decode(bytes, self.seed, position, room) {
            Ok(header) => header,
            Err(error) => return Ok(Found::End(error)),
        };
        let expected = self.next_offset;
        let fits = if self.sparse { header.base_offset >= expected } else { header.base_offset == expected };
        if !fits {
            return Ok(Found::End(FormatError::Invalid(format!(
                "base offset is {}, expected {expected}",
                header.base_offset
            ))));
        }
        if header.epoch < self.epoch && !bites("epoch-not-checked") {
            return Ok(Found::End(FormatError::Invalid(format!(
                "epoch is {}, below the {} before it",
                header.epoch, self.epoch
            ))));
        }
        let length = header.length as usize;
        let batch = self.window.at(position, length)?;
        if batch.len() < length {
            return Ok(Found::End(FormatError::Invalid("the file ends within the batch".into())));
        }
        if let Err(error) = header.check_body(&batch[BATCH_HEADER_BYTES..])
            && !bites("body-checksum-not-checked")
        {
            return Ok(Found::End(error));
        }
        self.last = Some((position, header.length));
        self.position = position + u64::from(header.length);
        self.next_offset = header.end_offset();
        self.epoch = header.epoch;
        Ok(Found::Batch { header, position })
    }

    /// The whole bytes of the batch that [`next`](Scan::next) returned last.
    pub(crate) fn batch_bytes(&mut self) -> io::Result<&[u8]> {
        match self.last {
            Some((position, length)) => self.window.at(position, length as usize),
            None => Ok(&[]),
        }
    }
}

/// What a search beyond the end of a log found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Beyond {
    /// The largest `durable_before` of a valid header with an epoch not below the asked one.
    pub(crate) durable_before: u64,
    /// Whether any header validates, of whatever epoch: its place must not be written over.
    pub(crate) any_valid: bool,
    /// End of the last byte that isn't zero; the first place if there is none.
    pub(crate) written_end: u64,
}

/// Looks at every 8 bytes of `places` for headers of batches that end within the first `length` bytes of this file.
pub(crate) fn search(
    file: &dyn File,
    length: u64,
    seed: Seed,
    places: Range<u64>,
    min_epoch: u32,
) -> io::Result<Beyond> {
    let mut window = Window::new(file, length);
    let mut beyond = Beyond { written_end: places.start, ..Beyond::default() };
    let mut at = places.start.next_multiple_of(8);
    loop {
        at = window.skip_hole(at)?;
        if at >= places.end {
            break;
        }
        let bytes = window.at(at, WINDOW_BYTES)?;
        if let Some(last) = last_nonzero(bytes) {
            beyond.written_end = at + last as u64 + 1;
            let mut next = 0;
            while let Some(found) = find_magic(bytes, next) {
                let position = at + found as u64;
                if let Ok(header) = BatchHeader::decode(&bytes[found..], seed, position, length - position) {
                    beyond.any_valid = true;
                    if header.epoch >= min_epoch || bites("evidence-of-an-older-epoch") {
                        beyond.durable_before = beyond.durable_before.max(header.durable_before);
                    }
                }
                next = found + 8;
            }
        }
        // The file ends, or its writer gave space back meanwhile.
        if bytes.len() < WINDOW_BYTES {
            break;
        }
        at += STEP_BYTES;
    }
    Ok(beyond)
}

/// The last byte that isn't zero. Most of what is looked at is zero: whole blocks are compared first.
pub(crate) fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    while end > 0 {
        let start = end.saturating_sub(ZEROS.len());
        if bytes[start..end] != ZEROS[..end - start] {
            return bytes[start..end].iter().rposition(|&byte| byte != 0).map(|at| start + at);
        }
        end = start;
    }
    None
}

/// Whether a batch ends at position `end` with end offset `end_offset`, according to its header; the body isn't read. The
/// search goes backwards in growing windows, so that a small batch takes one small read.
pub(crate) fn is_batch_end(file: &dyn File, seed: Seed, end: u64, end_offset: u64) -> io::Result<bool> {
    const FIRST_BYTES: u64 = 4 << 10;
    let mut known = end;
    let mut bytes = FIRST_BYTES;
    while known > BLOCK_BYTES {
        let from = end.saturating_sub(bytes).max(BLOCK_BYTES);
        // Overlaps the previous window by a header, which may lie across the border.
        let until = end.min(known + BATCH_HEADER_BYTES as u64);
        let mut window = Window::new(file, until);
        let mut at = from;
        loop {
            at = window.skip_hole(at)?;
            if at >= known {
                break;
            }
            let piece = window.at(at, WINDOW_BYTES)?;
            let mut next = 0;
            while let Some(found) = find_magic(piece, next) {
                let position = at + found as u64;
                let header = BatchHeader::decode(&piece[found..], seed, position, end - position);
                if header
                    .is_ok_and(|header| position + u64::from(header.length) == end && header.end_offset() == end_offset)
                {
                    return Ok(true);
                }
                next = found + 8;
            }
            at += STEP_BYTES;
        }
        known = from;
        bytes = bytes.saturating_mul(16);
    }
    Ok(false)
}

/// The first whole batch of this file beyond `after` that may stand there: its base offset and epoch
/// are not below the expected ones. How reading goes on behind damage.
pub(crate) fn next_batch(file: &dyn File, length: u64, seed: Seed, after: Place) -> io::Result<Option<Place>> {
    let mut budget = u64::MAX;
    next_batch_within(file, length, seed, after, &mut budget)
}

/// The same with a limit: `budget` is how many bytes of batches that turn out damaged may be read. A
/// file made for it could have a header at every step, each of a batch as long as the file.
pub(crate) fn next_batch_within(
    file: &dyn File,
    length: u64,
    seed: Seed,
    after: Place,
    budget: &mut u64,
) -> io::Result<Option<Place>> {
    let mut window = Window::new(file, length);
    let mut at = after.position + 8;
    loop {
        at = window.skip_hole(at)?;
        if at >= length {
            break;
        }
        let bytes = window.at(at, WINDOW_BYTES)?;
        let mut next = 0;
        while let Some(found) = find_magic(bytes, next) {
            let position = at + found as u64;
            if let Ok(header) = BatchHeader::decode(&bytes[found..], seed, position, length - position)
                && header.base_offset >= after.next_offset
                && header.epoch >= after.epoch
            {
                let place = Place { position, next_offset: header.base_offset, epoch: header.epoch };
                let Some(left) = budget.checked_sub(u64::from(header.length)) else { return Ok(None) };
                *budget = left;
                if let Found::Batch { .. } = Scan::new(file, length, seed, place).next()? {
                    return Ok(Some(place));
                }
            }
            next = found + 8;
        }
        // The file ends, or its writer gave space back meanwhile.
        if bytes.len() < WINDOW_BYTES {
            break;
        }
        at += STEP_BYTES;
    }
    Ok(None)
}
