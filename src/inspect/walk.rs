//! Walks all of a file: every batch whose header is whole, and every stretch where nothing fits.
//!
//! Where [`Scan`](crate::segment::Scan) stops, this goes on: it says what is wrong and resumes at
//! the next batch. It judges a batch by the same rules, and its contents too; what follows from a
//! fault is decided by its caller.

use std::io;

use crate::disk::File;
use crate::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, BatchKind, CatalogEntry, FILE_HEADER_BYTES, FileHeader, FileKind,
    FormatError, OffsetEntry, Seed, check_records, find_magic,
};
use crate::segment::{Place, Window, last_nonzero};

/// How much is searched at once.
const STRIDE_BYTES: usize = 1 << 20;

/// What stands next in a file.
#[derive(Debug)]
pub(super) enum Step {
    Batch {
        header: BatchHeader,
        position: u64,
        header_crc: u32,
        /// Why it doesn't count, if it doesn't.
        problem: Option<FormatError>,
    },
    Gap {
        from: u64,
        to: u64,
        /// End of the last byte that isn't zero; `from` if there is none.
        written_end: u64,
        reason: FormatError,
    },
}

/// See the module.
pub(super) struct Walk<'f> {
    window: Window<'f>,
    kind: FileKind,
    seed: Seed,
    length: u64,
    place: Place,
    /// Behind a gap offsets may be missing: that is the gap's fault.
    behind_gap: bool,
    last: Option<(u64, u32)>,
    /// Offsets may be left out, as in a rewritten file.
    sparse: bool,
}

impl<'f> Walk<'f> {
    /// From `place` to the end of the first `length` bytes of a file of this kind.
    pub(super) fn new(file: &'f dyn File, length: u64, kind: FileKind, seed: Seed, place: Place) -> Walk<'f> {
        Walk {
            window: Window::new(file, length),
            kind,
            seed,
            length,
            place,
            behind_gap: false,
            last: None,
            sparse: false,
        }
    }

    /// Whether offsets may be left out between batches: only in a rewritten file.
    pub(super) fn sparse(mut self, sparse: bool) -> Walk<'f> {
        self.sparse = sparse;
        self
    }

    /// What the next batch must fit to.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The next step; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Step>> {
        let position = self.place.position;
        if position >= self.length {
            return Ok(None);
        }
        let room = self.length - position;
        let bytes = self.window.at(position, BATCH_HEADER_BYTES)?;
        let header = match BatchHeader::decode(bytes, self.seed, position, room) {
            Ok(header) => header,
            Err(reason) => return self.gap(position, reason).map(Some),
        };
        let header_crc = bytes.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
        let problem = self.problem(&header, position)?;
        self.last = Some((position, header.length));
        self.place.position = position + u64::from(header.length);
        if header.epoch >= self.place.epoch && header.base_offset >= self.place.next_offset {
            self.place.epoch = header.epoch;
            self.place.next_offset = header.end_offset();
        }
        self.behind_gap = false;
        Ok(Some(Step::Batch { header, position, header_crc, problem }))
    }

    /// The body of the batch that [`next`](Walk::next) returned last.
    pub(super) fn body(&mut self) -> io::Result<&[u8]> {
        match self.last {
            Some((position, length)) => {
                Ok(self.window.at(position, length as usize)?.get(BATCH_HEADER_BYTES..).unwrap_or(&[]))
            }
            None => Ok(&[]),
        }
    }

    fn problem(&mut self, header: &BatchHeader, position: u64) -> io::Result<Option<FormatError>> {
        let expected = self.place;
        let invalid = |reason: String| Ok(Some(FormatError::Invalid(reason)));
        if header.epoch < expected.epoch {
            return invalid(format!("epoch is {}, below the {} before it", header.epoch, expected.epoch));
        }
        let fits = header.base_offset == expected.next_offset
            || ((self.behind_gap || self.sparse) && header.base_offset > expected.next_offset);
        if !fits {
            return invalid(format!("base offset is {}, expected {}", header.base_offset, expected.next_offset));
        }
        let batch = self.window.at(position, header.length as usize)?;
        if batch.len() < header.length as usize {
            return invalid("the file ends within the batch".into());
        }
        let body = &batch[BATCH_HEADER_BYTES..];
        Ok(header.check_body(body).and_then(|()| check_contents(self.kind, header, body)).err())
    }

    /// Nothing fits at `from`: looks for the next header of this file.
    fn gap(&mut self, from: u64, reason: FormatError) -> io::Result<Step> {
        let (seed, length) = (self.seed, self.length);
        let mut written_end = from;
        let mut at = from;
        let mut to = length;
        loop {
            at = self.window.skip_hole(at)?;
            if at >= length {
                break;
            }
            let bytes = self.window.at(at, STRIDE_BYTES)?;
            // Each stretch ends with less than a header, which the next one begins with.
            let last = bytes.len() < STRIDE_BYTES || at + bytes.len() as u64 >= length;
            let end = if last { bytes.len() } else { (bytes.len() - BATCH_HEADER_BYTES) & !7 };
            let found = first_header(bytes, if at == from { 8 } else { 0 }, seed, at, length);
            let passed = found.unwrap_or(end);
            if let Some(nonzero) = last_nonzero(&bytes[..passed]) {
                written_end = at + nonzero as u64 + 1;
            }
            if found.is_some() || last {
                to = found.map_or(length, |found| at + found as u64);
                break;
            }
            at += end as u64;
        }
        self.place.position = to;
        self.behind_gap = true;
        Ok(Step::Gap { from, to, written_end, reason })
    }
}

/// The first place in `bytes`, which stand at file position `at`, where a header of this file is whole.
fn first_header(bytes: &[u8], from: usize, seed: Seed, at: u64, length: u64) -> Option<usize> {
    let mut next = from;
    while let Some(found) = find_magic(bytes, next) {
        let position = at + found as u64;
        if BatchHeader::decode(&bytes[found..], seed, position, length - position).is_ok() {
            return Some(found);
        }
        next = found + 8;
    }
    None
}

/// Whether a whole body holds what its header says.
fn check_contents(file: FileKind, header: &BatchHeader, body: &[u8]) -> Result<(), FormatError> {
    let kind = header.attributes.kind()?;
    let belongs = match file {
        FileKind::Segment => !matches!(kind, BatchKind::Catalog | BatchKind::Offsets),
        FileKind::Catalog => matches!(kind, BatchKind::Catalog | BatchKind::Filler),
        FileKind::Offsets => matches!(kind, BatchKind::Offsets | BatchKind::Filler),
        FileKind::Index => false,
    };
    if !belongs {
        return Err(FormatError::Invalid(format!("a batch of kind {kind:?} has no business here")));
    }
    let count = match kind {
        BatchKind::Records => return check_records(header, body),
        BatchKind::Control | BatchKind::Filler | BatchKind::Snapshot => return Ok(()),
        BatchKind::Catalog => CatalogEntry::decode_all(body)?.len(),
        BatchKind::Offsets => OffsetEntry::each_of(body).try_fold(0, |count, entry| entry.map(|_| count + 1))?,
    };
    if count == header.record_count as usize {
        return Ok(());
    }
    Err(FormatError::Invalid(format!("{count} entries in a batch of {}", header.record_count)))
}

/// A file's header, and the first byte behind it in its block that isn't zero.
pub(super) fn header_block(file: &dyn File) -> io::Result<(Result<FileHeader, FormatError>, Option<u64>)> {
    let mut block = vec![0; BLOCK_BYTES as usize];
    let read = file.read_at(&mut block, 0)?;
    let (head, rest) = block.split_at(FILE_HEADER_BYTES);
    let header = match FileHeader::decode(&head[..read.min(FILE_HEADER_BYTES)]) {
        Ok(_) if read < block.len() => Err(FormatError::Invalid("the file ends within its header block".into())),
        header => header,
    };
    let set = rest.iter().position(|&byte| byte != 0);
    Ok((header, set.map(|at| (FILE_HEADER_BYTES + at) as u64)))
}

/// End of the last byte from `from` to `length` that isn't zero; `from` if there is none.
pub(super) fn last_written(file: &dyn File, from: u64, length: u64) -> io::Result<u64> {
    let mut end = from;
    each_stretch(file, from, length, |at, bytes| {
        if let Some(last) = last_nonzero(bytes) {
            end = at + last as u64 + 1;
        }
        true
    })?;
    Ok(end)
}

/// Hands over the bytes from `from` to `length` in order, while more is wanted.
fn each_stretch(file: &dyn File, from: u64, length: u64, mut each: impl FnMut(u64, &[u8]) -> bool) -> io::Result<()> {
    let mut window = Window::new(file, length);
    let mut at = from;
    loop {
        at = window.skip_hole(at)?;
        if at >= length {
            break;
        }
        let bytes = window.at(at, STRIDE_BYTES)?;
        if bytes.is_empty() || !each(at, bytes) {
            break;
        }
        at += bytes.len() as u64;
    }
    Ok(())
}
