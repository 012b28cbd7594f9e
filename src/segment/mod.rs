//! One segment file as its readers see it: header, published length, index, mapped view.
//!
//! Bytes below the published length never change, so a view of them may be handed out for as long
//! as anybody holds it. Who writes the file is the partition's writer; nothing here writes a log.

mod extent;
mod index;
mod mapped;
mod resident;
mod scan;
#[cfg(all(test, feature = "sim"))]
mod tests;
mod views;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk, View};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, FILE_HEADER_BYTES, FileHeader, FormatError, Seed, find_magic,
};
use crate::lock::{AtomicI64, Mutex, Ordering, lock};
use crate::teeth::bites;

use extent::Extent;

pub(crate) use index::{SegmentIndex, read_index, write_index};
pub(crate) use mapped::Mapped;
pub(crate) use resident::Resident;
pub(crate) use scan::{
    Beyond, Found, Place, Scan, Window, is_batch_end, last_nonzero, next_batch, next_batch_within, search,
};
pub(crate) use views::Views;

/// No segment file is longer: batches begin below 4 GiB, and have at most 1 GiB.
pub(crate) const MAX_SEGMENT_BYTES: u64 = (4 << 30) + (1 << 30);

/// Pages are populated in windows that end at multiples of this when an index is rebuilt.
const REBUILD_WINDOW_BYTES: u64 = 64 << 10;

/// A segment file. Shared by the writer, which publishes, and all readers.
#[derive(Debug)]
pub(crate) struct Segment {
    path: PathBuf,
    header: FileHeader,
    seed: Seed,
    /// Length of the view: the file never grows beyond it.
    reserved_bytes: u64,
    index_interval_bytes: u64,
    extent: Extent,
    /// Largest timestamp and last append time, where known (`i64::MIN` if not).
    max_timestamp: AtomicI64,
    appended_ms: AtomicI64,
    /// Wall time of the first append, where known (`i64::MIN` if not).
    began_ms: AtomicI64,
    index: Mutex<Index>,
    view: Mutex<Option<Arc<Mapped>>>,
}

/// What is known of a segment's index.
#[derive(Debug)]
enum Index {
    /// In memory, covering positions from the given one on.
    Memory { index: SegmentIndex, from: u64 },
    /// In its file, or to be rebuilt.
    File,
}

/// What a segment is made of.
#[derive(Debug)]
pub(crate) struct SegmentParts {
    pub(crate) path: PathBuf,
    pub(crate) header: FileHeader,
    pub(crate) reserved_bytes: u64,
    pub(crate) index_interval_bytes: u64,
    pub(crate) published: u64,
    pub(crate) end_offset: Option<u64>,
    pub(crate) max_timestamp: i64,
    pub(crate) appended_ms: i64,
    /// The index gathered so far, and the position it begins at.
    pub(crate) index: Option<(SegmentIndex, u64)>,
}

impl Segment {
    /// One without batches yet.
    pub(crate) fn empty(path: PathBuf, header: FileHeader, reserved_bytes: u64, index_interval_bytes: u64) -> Segment {
        Segment::new(SegmentParts {
            path,
            header,
            reserved_bytes,
            index_interval_bytes,
            published: BLOCK_BYTES,
            end_offset: None,
            max_timestamp: i64::MIN,
            appended_ms: i64::MIN,
            index: Some((SegmentIndex::new(index_interval_bytes), BLOCK_BYTES)),
        })
    }

    pub(crate) fn new(parts: SegmentParts) -> Segment {
        Segment {
            seed: parts.header.seed(),
            path: parts.path,
            header: parts.header,
            reserved_bytes: parts.reserved_bytes.min(MAX_SEGMENT_BYTES),
            index_interval_bytes: parts.index_interval_bytes,
            extent: Extent::new(parts.published, parts.end_offset),
            max_timestamp: AtomicI64::new(parts.max_timestamp),
            appended_ms: AtomicI64::new(parts.appended_ms),
            began_ms: AtomicI64::new(i64::MIN),
            index: Mutex::new(match parts.index {
                Some((index, from)) => Index::Memory { index, from },
                None => Index::File,
            }),
            view: Mutex::new(None),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn header(&self) -> &FileHeader {
        &self.header
    }

    pub(crate) fn seed(&self) -> Seed {
        self.seed
    }

    pub(crate) fn base_offset(&self) -> u64 {
        self.header.base_offset
    }

    pub(crate) fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes
    }

    /// Bytes that count; rises while the segment is written.
    pub(crate) fn published(&self) -> u64 {
        self.extent.published()
    }

    /// Publishes what was written up to `position`.
    pub(crate) fn publish(&self, position: u64) {
        self.extent.publish(position);
    }

    /// The first offset that is the successor's, if there is one.
    pub(crate) fn end_offset(&self) -> u64 {
        self.extent.end_offset()
    }

    /// A successor was begun.
    pub(crate) fn seal(&self, end_offset: u64) {
        self.extent.seal(end_offset);
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.end_offset() != u64::MAX
    }

    /// Largest timestamp in it; `i64::MIN` if it has no records or that isn't known.
    pub(crate) fn max_timestamp(&self) -> i64 {
        self.max_timestamp.load(Ordering::Acquire)
    }

    /// Wall time of its last append; `i64::MIN` if there was none or that isn't known, `i64::MAX` if its
    /// successor was begun without knowing.
    pub(crate) fn appended_ms(&self) -> i64 {
        self.appended_ms.load(Ordering::Acquire)
    }

    /// Wall time of its first append; that of its making if that can't be read.
    pub(crate) fn began_ms(self: &Arc<Segment>, disk: &dyn Disk, views: &Views) -> i64 {
        let known = self.began_ms.load(Ordering::Acquire);
        if known != i64::MIN {
            return known;
        }
        let first = self.view(disk, views).ok().and_then(|view| self.header_at(&*view, BLOCK_BYTES).ok());
        let began_ms = first.map_or(self.header.created_ms, |header| header.appended_ms);
        self.began_ms.store(began_ms, Ordering::Release);
        began_ms
    }

    /// Notes a batch that is about to be published.
    pub(crate) fn note(&self, header: &BatchHeader, position: u64) {
        if position == BLOCK_BYTES {
            self.began_ms.store(header.appended_ms, Ordering::Release);
        }
        self.max_timestamp.fetch_max(header.max_timestamp, Ordering::AcqRel);
        self.appended_ms.fetch_max(header.appended_ms, Ordering::AcqRel);
        if let Index::Memory { index, .. } = &mut *lock(&self.index) {
            let relative = (header.base_offset - self.header.base_offset) as u32;
            index.note(relative, position as u32, header.max_timestamp);
        }
    }

    /// The view, mapped now if it wasn't.
    pub(crate) fn view(self: &Arc<Segment>, disk: &dyn Disk, views: &Views) -> Result<Arc<Mapped>> {
        if let Some(view) = &*lock(&self.view) {
            return Ok(view.clone());
        }
        let map = || disk.open(&self.path, Access::Read)?.view(self.reserved_bytes);
        let view = match map() {
            Err(error) => match Error::io(error).at_path(&self.path) {
                error if error.kind() == &ErrorKind::NoRoom => {
                    views.release_all();
                    map().map_err(|error| Error::io(error).at_path(&self.path))?
                }
                error => return Err(error),
            },
            Ok(view) => view,
        };
        let view = Mapped::new(view, self.reserved_bytes, views.resident.clone());
        *lock(&self.view) = Some(view.clone());
        views.note(self);
        Ok(view)
    }

    /// Gives the mapping up; readers that hold it keep it.
    pub(crate) fn release_view(&self) {
        *lock(&self.view) = None;
    }

    /// The place to begin looking for `offset` from: the start of a batch at or before it.
    pub(crate) fn position_at_or_before(
        self: &Arc<Segment>,
        offset: u64,
        disk: &dyn Disk,
        views: &Views,
    ) -> Result<u64> {
        let relative = u32::try_from(offset.saturating_sub(self.header.base_offset)).unwrap_or(u32::MAX);
        self.with_index(disk, views, |index| {
            index.floor_offset(relative).map(|entry| (entry.position, entry.relative_offset))
        })
    }

    /// The place to begin looking from for the first batch with a timestamp of at least `timestamp`.
    pub(crate) fn position_before_timestamp(
        self: &Arc<Segment>,
        timestamp: i64,
        disk: &dyn Disk,
        views: &Views,
    ) -> Result<u64> {
        self.with_index(disk, views, |index| {
            index.floor_timestamp(timestamp).map(|entry| (entry.position, entry.relative_offset))
        })
    }

    /// Asks the index; what it says is checked against the batch it points to, and if that doesn't
    /// fit the index is rebuilt from the log.
    fn with_index(
        self: &Arc<Segment>,
        disk: &dyn Disk,
        views: &Views,
        ask: impl Fn(&SegmentIndex) -> Option<(u32, u32)>,
    ) -> Result<u64> {
        let view = self.view(disk, views)?;
        for rebuild in [false, true] {
            let mut state = lock(&self.index);
            let complete = matches!(&*state, Index::Memory { from, .. } if *from == BLOCK_BYTES);
            if rebuild || !complete {
                // Where the times of a part aren't known, all headers are read: the file doesn't tell them.
                let is_partial = matches!(&*state, Index::Memory { .. });
                let gathered = if rebuild || is_partial { None } else { self.index_from_file(disk) };
                let index = match gathered {
                    Some(index) => index,
                    None => {
                        let mut index = self.rebuild(&*view).map_err(|error| Error::io(error).at_path(&self.path))?;
                        if let Index::Memory { index: known, .. } = &*state
                            && !bites("noted-not-published-forgotten")
                        {
                            index.take_times_of(known);
                        }
                        index
                    }
                };
                *state = Index::Memory { index, from: BLOCK_BYTES };
            }
            let Index::Memory { index, .. } = &*state else { return Ok(BLOCK_BYTES) };
            let Some((position, relative)) = ask(index) else { return Ok(BLOCK_BYTES) };
            let position = u64::from(position);
            if bites("index-hit-not-checked") {
                return Ok(position);
            }
            if let Ok(header) = self.header_at(&*view, position)
                && header.base_offset == self.header.base_offset + u64::from(relative)
            {
                return Ok(position);
            }
        }
        Ok(BLOCK_BYTES)
    }

    /// The index file, if it is whole, ours, and reaches as far as the segment was sealed.
    fn index_from_file(&self, disk: &dyn Disk) -> Option<SegmentIndex> {
        if !self.is_sealed() {
            return None;
        }
        read_index(disk, &index_path(&self.path), &self.header, self.index_interval_bytes)
    }

    /// Whether the times are those of the whole segment.
    pub(crate) fn knows_times(&self) -> bool {
        !matches!(&*lock(&self.index), Index::Memory { from, .. } if *from != BLOCK_BYTES)
    }

    /// Learns the times of the whole segment, also of what was there before this life and wasn't read
    /// since; if it can't be read they stay unknown.
    pub(crate) fn complete_times(self: &Arc<Segment>, disk: &dyn Disk, views: &Views) {
        let _ = self.with_index(disk, views, |_| None);
    }

    /// The index as the log's own batch headers give it. Learns the segment's times on the way.
    ///
    /// What is damaged is stepped over; what can't be read is an error, because nothing would be known
    /// of all that lies behind it.
    fn rebuild(&self, view: &dyn View) -> std::io::Result<SegmentIndex> {
        let mut index = SegmentIndex::new(self.index_interval_bytes);
        let mut position = BLOCK_BYTES;
        let mut populated = position;
        let end = self.published();
        while position < end {
            let header_end = position + BATCH_HEADER_BYTES as u64;
            if header_end > populated {
                populated = header_end.next_multiple_of(REBUILD_WINDOW_BYTES).min(end);
                view.populate(position.min(populated)..populated)?;
            }
            let Ok(header) = self.decode_at(view, position) else {
                let Some(next) = self.next_header(view, position + 8)? else { break };
                position = next;
                index.gap();
                continue;
            };
            let Some(relative) = header.base_offset.checked_sub(self.header.base_offset) else { break };
            index.note(relative as u32, position as u32, header.max_timestamp);
            self.max_timestamp.fetch_max(header.max_timestamp, Ordering::AcqRel);
            self.appended_ms.fetch_max(header.appended_ms, Ordering::AcqRel);
            position += u64::from(header.length);
        }
        Ok(index)
    }

    /// The first place at or after `from` where a batch of this segment begins.
    fn next_header(&self, view: &dyn View, from: u64) -> std::io::Result<Option<u64>> {
        let range = from..self.published().max(from);
        view.populate(range.clone())?;
        let bytes = view.bytes(range)?;
        let mut at = 0;
        while let Some(found) = find_magic(bytes, at) {
            if self.decode_at(view, from + found as u64).is_ok() {
                return Ok(Some(from + found as u64));
            }
            at = found + 8;
        }
        Ok(None)
    }

    /// The checked header of the batch at `position`, which lies below the published length.
    pub(crate) fn header_at(&self, view: &dyn View, position: u64) -> std::result::Result<BatchHeader, FormatError> {
        let end = (position + BATCH_HEADER_BYTES as u64).min(self.published());
        view.populate(position.min(end)..end).map_err(|error| FormatError::Invalid(error.to_string()))?;
        self.decode_at(view, position)
    }

    /// As [`header_at`](Segment::header_at), of pages that are populated.
    fn decode_at(&self, view: &dyn View, position: u64) -> std::result::Result<BatchHeader, FormatError> {
        let end = self.published();
        let wanted = position..position + BATCH_HEADER_BYTES as u64;
        if wanted.end > end {
            return Err(FormatError::Invalid("no batch header fits before the end".into()));
        }
        let bytes = view.bytes(wanted).map_err(|error| FormatError::Invalid(error.to_string()))?;
        BatchHeader::decode(bytes, self.seed, position, end - position)
    }

    /// The whole index file of a sealed segment, while its index is complete in memory.
    pub(crate) fn encode_index(&self) -> Option<Vec<u8>> {
        match &*lock(&self.index) {
            Index::Memory { index, from } if *from == BLOCK_BYTES => Some(index.encode(&self.header)),
            _ => None,
        }
    }

    /// Says that nothing is known of its times: a lookup by time has to look inside.
    pub(crate) fn forget_times(&self) {
        self.max_timestamp.store(i64::MAX, Ordering::Release);
        self.appended_ms.store(i64::MAX, Ordering::Release);
    }

    /// Forgets the index in memory, once it stands in its file.
    pub(crate) fn forget_index(&self) {
        *lock(&self.index) = Index::File;
    }

    /// An error of this segment at a place in it.
    pub(crate) fn damage(&self, position: u64, reason: impl Into<String>) -> Error {
        Error::corrupt(reason).at_path(&self.path).at_position(position)
    }
}

/// `<base offset>.log`, twenty digits.
pub(crate) fn log_name(base_offset: u64) -> String {
    format!("{base_offset:020}.log")
}

/// The base offset in a segment's name, if it is one.
pub(crate) fn base_offset_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The index that belongs to a segment file.
pub(crate) fn index_path(log: &Path) -> PathBuf {
    log.with_extension("index")
}

/// Reads and decodes a file's header; `Ok(Err(..))` says why the bytes are none.
pub(crate) fn read_header(
    file: &dyn crate::disk::File,
) -> std::io::Result<std::result::Result<FileHeader, FormatError>> {
    let mut bytes = [0; FILE_HEADER_BYTES];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(FileHeader::decode(&bytes[..read]))
}
