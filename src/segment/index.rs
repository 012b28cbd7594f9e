//! The sparse index of one segment: derived from the log, never on the sync path.
//!
//! At most one entry a batch and one an interval. A file that isn't whole, or isn't this
//! segment's, counts as missing: a bad index may slow a read, never mislead it. Whoever uses a hit
//! still checks it against the batch it points to.

use std::io::{self, IoSlice};
use std::path::Path;

use crate::disk::{Access, Disk, Unnamed};
use crate::format::{BLOCK_BYTES, FILE_HEADER_BYTES, FileHeader, FileKind, FormatError, INDEX_ENTRY_BYTES, IndexEntry};
use crate::teeth::bites;

/// More entries than a segment of 4 GiB (where positions end) has at the smallest interval, 4 KiB.
const MAX_INDEX_BYTES: u64 = BLOCK_BYTES + (INDEX_ENTRY_BYTES as u64) * (1 << 20);

/// See the module. Both offsets and positions of the entries rise strictly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentIndex {
    interval_bytes: u64,
    entries: Vec<IndexEntry>,
    /// The next batch gets an entry whatever the distance.
    due: bool,
    /// The largest noted, `i64::MIN` if none; a decoded index knows of those before its last entry.
    max_timestamp: i64,
}

impl SegmentIndex {
    pub(crate) fn new(interval_bytes: u64) -> SegmentIndex {
        SegmentIndex { interval_bytes, entries: Vec::new(), due: false, max_timestamp: i64::MIN }
    }

    /// Notes a batch; called for each in order. After [`decode`](SegmentIndex::decode) those from
    /// the last entry on are noted again.
    pub(crate) fn note(&mut self, relative_offset: u32, position: u32, max_timestamp: i64) {
        let last = self.entries.last().map_or(BLOCK_BYTES, |entry| u64::from(entry.position));
        let due = std::mem::take(&mut self.due) || u64::from(position) >= last + self.interval_bytes;
        if due && self.entries.last().is_none_or(|entry| entry.relative_offset < relative_offset) {
            self.entries.push(IndexEntry { relative_offset, position, max_timestamp_before: self.max_timestamp });
        }
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
    }

    /// Something that can't be read lies before the next batch: nobody should have to walk over it.
    pub(crate) fn gap(&mut self) {
        self.due = true;
    }

    /// Learns the largest timestamp that `noted` knows: batches are noted before they are published,
    /// so what was published doesn't tell all that lies before the next batch.
    pub(crate) fn take_times_of(&mut self, noted: &SegmentIndex) {
        self.max_timestamp = self.max_timestamp.max(noted.max_timestamp);
    }

    /// The last entry at or below `relative_offset`; `None`: begin at the segment's start.
    pub(crate) fn floor_offset(&self, relative_offset: u32) -> Option<IndexEntry> {
        let mut count = self.entries.partition_point(|entry| entry.relative_offset <= relative_offset);
        if bites("index-off-by-one") {
            count = (count + 1).min(self.entries.len());
        }
        self.entries[..count].last().copied()
    }

    /// The last entry before which every timestamp is smaller than `timestamp`; `None`: begin at
    /// the segment's start.
    pub(crate) fn floor_timestamp(&self, timestamp: i64) -> Option<IndexEntry> {
        let mut count = self.entries.partition_point(|entry| entry.max_timestamp_before < timestamp);
        if bites("time-order-assumed") {
            count = self.entries.partition_point(|entry| entry.max_timestamp_before <= timestamp);
        }
        self.entries[..count].last().copied()
    }

    /// The whole `.index` file: a copy of the segment's header, then the entries.
    pub(crate) fn encode(&self, segment_header: &FileHeader) -> Vec<u8> {
        let header = index_header(segment_header);
        let seed = header.seed();
        let mut bytes = Vec::with_capacity(BLOCK_BYTES as usize + self.entries.len() * INDEX_ENTRY_BYTES);
        bytes.extend_from_slice(&header.encode());
        bytes.resize(BLOCK_BYTES as usize, 0);
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.encode(seed));
        }
        bytes
    }

    /// Reads what [`encode`](SegmentIndex::encode) wrote.
    ///
    /// # Errors
    /// [`FormatError`] unless the header is this segment's and every entry is whole and rises.
    pub(crate) fn decode(
        bytes: &[u8],
        segment_header: &FileHeader,
        interval_bytes: u64,
    ) -> Result<SegmentIndex, FormatError> {
        let Some((block, rest)) = bytes.split_at_checked(BLOCK_BYTES as usize) else {
            return Err(invalid("the file ends within its header block"));
        };
        let header = FileHeader::decode(&block[..FILE_HEADER_BYTES])?;
        if header != index_header(segment_header) && !bites("index-of-another-file-trusted") {
            return Err(FormatError::Foreign("the index is of another segment".into()));
        }
        if !rest.len().is_multiple_of(INDEX_ENTRY_BYTES) {
            return Err(invalid("the file ends within an entry"));
        }
        let seed = header.seed();
        let mut entries: Vec<IndexEntry> = Vec::with_capacity(rest.len() / INDEX_ENTRY_BYTES);
        for bytes in rest.chunks_exact(INDEX_ENTRY_BYTES) {
            let entry = IndexEntry::decode(bytes, seed)?;
            let rises = match entries.last() {
                None => u64::from(entry.position) > BLOCK_BYTES,
                Some(last) => {
                    entry.relative_offset > last.relative_offset
                        && entry.position > last.position
                        && entry.max_timestamp_before >= last.max_timestamp_before
                }
            };
            if !rises || !entry.position.is_multiple_of(8) {
                return Err(invalid("entries don't rise"));
            }
            entries.push(entry);
        }
        let max_timestamp = entries.last().map_or(i64::MIN, |entry| entry.max_timestamp_before);
        Ok(SegmentIndex { interval_bytes, entries, due: false, max_timestamp })
    }
}

/// The header an index of this segment has.
fn index_header(segment_header: &FileHeader) -> FileHeader {
    FileHeader { kind: FileKind::Index, ..segment_header.clone() }
}

fn invalid(reason: &str) -> FormatError {
    FormatError::Invalid(reason.into())
}

/// Puts an index file in place, under its name only once it is written. It is never synced: after
/// a power loss it may be missing or unfinished, which a checksum tells.
///
/// # Errors
/// Of the disk; what was under the name still is.
pub(crate) fn write_index(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("index.tmp");
    match disk.unlink(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let unnamed = Unnamed::create(disk, &temporary)?;
    if let Err(error) = unnamed.file.write_at(&[IoSlice::new(bytes)], 0) {
        unnamed.abandon(disk);
        return Err(error);
    }
    unnamed.name(disk, path)
}

/// The index in the file at `path`, if one is there that can be read, is whole, and belongs to the
/// segment with this header.
pub(crate) fn read_index(
    disk: &dyn Disk,
    path: &Path,
    segment_header: &FileHeader,
    interval_bytes: u64,
) -> Option<SegmentIndex> {
    let file = disk.open(path, Access::Read).ok()?;
    let length = file.length().ok()?;
    if length > MAX_INDEX_BYTES {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    let read = file.read_at(&mut bytes, 0).ok()?;
    SegmentIndex::decode(&bytes[..read], segment_header, interval_bytes).ok()
}

#[cfg(test)]
mod tests {
    //! The index against a plain list of batches, its file against every flipped bit and cut.

    use super::*;
    use crate::format::example_header as header;

    /// Batches as (relative offset, position, largest timestamp); timestamps jump about.
    fn batches() -> Vec<(u32, u32, i64)> {
        let mut random = 1_u64;
        let (mut offset, mut position) = (0, BLOCK_BYTES as u32);
        let mut batches = Vec::new();
        for _ in 0..500 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let drawn = (random >> 33) as u32;
            batches.push((offset, position, i64::from(drawn % 1_000) - 300));
            offset += 1 + drawn % 7;
            position += 96 + drawn / 8 % 400 * 8;
        }
        batches
    }

    fn index() -> SegmentIndex {
        let mut index = SegmentIndex::new(4_096);
        for (offset, position, timestamp) in batches() {
            index.note(offset, position, timestamp);
        }
        index
    }

    #[test]
    fn entries_are_sparse_and_true() {
        let (index, batches) = (index(), batches());
        assert!(index.entries.len() > 50);
        for entry in &index.entries {
            let at = batches.iter().position(|batch| batch.1 == entry.position).unwrap();
            assert_eq!(batches[at].0, entry.relative_offset);
            assert_eq!(batches[..at].iter().map(|batch| batch.2).max().unwrap(), entry.max_timestamp_before);
        }
        assert!(index.entries.windows(2).all(|pair| pair[1].position - pair[0].position >= 4_096));
        assert_eq!(index.max_timestamp, batches.iter().map(|batch| batch.2).max().unwrap());
        assert_eq!(SegmentIndex::new(4_096).max_timestamp, i64::MIN);
    }

    #[test]
    fn lookups_never_begin_too_late() {
        let (index, batches) = (index(), batches());
        for offset in 0..=batches[499].0 + 10 {
            let floor = index.floor_offset(offset);
            let expected = index.entries.iter().rev().find(|entry| entry.relative_offset <= offset).copied();
            assert_eq!(floor, expected, "{offset}");
        }
        for timestamp in -310..=710 {
            let floor = index.floor_timestamp(timestamp).map_or(0, |entry| entry.position);
            let first = batches.iter().find(|batch| batch.2 >= timestamp);
            assert!(first.is_none_or(|batch| floor <= batch.1), "{timestamp}");
        }
        assert_eq!(index.floor_timestamp(i64::MIN), None);
        assert_eq!(index.floor_timestamp(i64::MAX), index.entries.last().copied());
    }

    #[test]
    fn batches_that_take_no_offset_get_no_second_entry() {
        let mut index = SegmentIndex::new(4_096);
        for position in [4_096, 10_000, 20_000, 30_000] {
            index.note(9, position, 1);
        }
        assert_eq!(index.entries.len(), 1);
    }

    #[test]
    fn a_decoded_index_goes_on() {
        let (whole, batches) = (index(), batches());
        let mut half = SegmentIndex::new(4_096);
        batches[..250].iter().for_each(|&(offset, position, timestamp)| half.note(offset, position, timestamp));
        let mut index = SegmentIndex::decode(&half.encode(&header()), &header(), 4_096).unwrap();
        let from = index.entries.last().unwrap().position;
        for &(offset, position, timestamp) in batches.iter().filter(|batch| batch.1 >= from) {
            index.note(offset, position, timestamp);
        }
        assert_eq!(index, whole);
    }

    #[test]
    fn the_file_is_whole_and_ours_or_nothing() {
        let header = header();
        let mut index = SegmentIndex::new(4_096);
        batches()[..40].iter().for_each(|&(offset, position, timestamp)| index.note(offset, position, timestamp));
        let bytes = index.encode(&header);
        let mut decoded = SegmentIndex::decode(&bytes, &header, 4_096).unwrap();
        decoded.max_timestamp = index.max_timestamp;
        assert_eq!(decoded, index);
        for length in 0..bytes.len() {
            let shorter = SegmentIndex::decode(&bytes[..length], &header, 4_096);
            let whole_entries = length >= 4_096 && (length - 4_096).is_multiple_of(INDEX_ENTRY_BYTES);
            assert_eq!(shorter.is_ok(), whole_entries, "cut to {length}");
        }
        for at in (0..512).chain(4_096..bytes.len()) {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(SegmentIndex::decode(&flipped, &header, 4_096).is_err(), "bit {bit} of byte {at}");
            }
        }
        let mut other = header.clone();
        other.file_id += 1;
        assert!(matches!(SegmentIndex::decode(&bytes, &other, 4_096), Err(FormatError::Foreign(_))));
    }

    #[test]
    fn entries_that_are_right_by_themselves_must_rise_from_behind_the_header() {
        let entry = |relative_offset, position, max_timestamp_before| IndexEntry {
            relative_offset,
            position,
            max_timestamp_before,
        };
        let decoded = |entries: &[IndexEntry]| {
            let index = SegmentIndex { entries: entries.to_vec(), ..SegmentIndex::new(4_096) };
            SegmentIndex::decode(&index.encode(&header()), &header(), 4_096).map(|decoded| decoded.entries)
        };
        let first = entry(5, 8_192, 70);
        for good in [vec![], vec![entry(0, 4_104, i64::MIN)], vec![first, entry(6, 8_200, 70)]] {
            assert_eq!(decoded(&good), Ok(good));
        }
        for bad in [
            vec![entry(5, 4_096, 70)],
            vec![entry(5, 8_188, 70)],
            vec![first, first],
            vec![first, entry(5, 12_288, 70)],
            vec![first, entry(4, 12_288, 70)],
            vec![first, entry(6, 8_192, 70)],
            vec![first, entry(6, 8_184, 70)],
            vec![first, entry(6, 12_288, 69)],
        ] {
            assert!(matches!(decoded(&bad), Err(FormatError::Invalid(_))), "{bad:?}");
        }
    }

    #[test]
    fn the_batch_behind_a_gap_has_an_entry_however_near_the_last_one_is() {
        let mut index = SegmentIndex::new(4_096);
        index.note(0, 4_096, 1);
        index.gap();
        for number in 1..4 {
            index.note(number, 4_096 + number * 96, 1);
        }
        assert_eq!(index.entries.iter().map(|entry| entry.position).collect::<Vec<_>>(), [4_192]);
    }
}
