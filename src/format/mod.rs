//! Bytes and their meaning: every structure that stands in a file, and nothing else.
//!
//! Pure: no file, no thread, no clock. One framing for every file: a header block, then batches.
//! Every length read from bytes is compared with what is left before it is used. The authority on
//! the layouts is `docs/FORMAT.md`; the asserted structs here are tied to it by golden bytes.

mod batch;
mod catalog_entry;
mod checksum;
#[cfg(test)]
mod example;
mod file_header;
mod group_state;
mod index_entry;
mod note;
mod offset_entry;
mod record;

pub(crate) use batch::{Attributes, BATCH_HEADER_BYTES, BatchHeader, BatchKind, find_magic, seed_behind};
pub(crate) use catalog_entry::{CatalogEntry, Mark};
pub(crate) use checksum::{Seed, crc, crc_on};
#[cfg(test)]
pub(crate) use file_header::tests::example as example_header;
pub(crate) use file_header::{FILE_HEADER_BYTES, FileHeader, FileKind, Previous, seed_as_it_stands};
pub(crate) use group_state::{GroupSnapshot, MemberSnapshot};
pub(crate) use index_entry::{INDEX_ENTRY_BYTES, IndexEntry};
pub(crate) use note::Note;
pub(crate) use offset_entry::{MAX_METADATA_BYTES, OffsetEntry, OffsetEntryKind};
pub(crate) use record::{
    HeaderSection, MAX_KEY_BYTES, Places, RawRecord, RecordWalk, check_records, encode_record, find_record,
    record_bytes,
};

#[cfg(not(all(target_endian = "little", target_pointer_width = "64")))]
compile_error!("thalweg's files are mapped as they are: it needs a little-endian 64-bit target");

/// The version this code writes, and the newest it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// The header block of every file; batches begin behind it.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// Offsets are below 2^63.
pub(crate) const MAX_OFFSET: u64 = (1 << 63) - 1;

/// The next multiple of 8, at or above `bytes`, which is below 2^64 - 7: a sum of lengths of 32 bits.
#[inline]
pub(crate) const fn align8(bytes: u64) -> u64 {
    (bytes + 7) & !7
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    /// They don't fit: not there yet, torn or damaged; evidence decides which.
    #[error("{0}")]
    Invalid(String),
    /// They fit, and say something that this version doesn't know.
    #[error("newer format: {0}")]
    Newer(String),
    /// They fit, and belong to another log.
    #[error("{0}")]
    Foreign(String),
}

/// See [`FormatError::Invalid`].
#[cold]
fn invalid(reason: impl Into<String>) -> FormatError {
    FormatError::Invalid(reason.into())
}

/// See [`FormatError::Newer`].
#[cold]
fn newer(what: impl Into<String>) -> FormatError {
    FormatError::Newer(what.into())
}

/// The next `N` bytes at `at`, if they are there.
#[inline]
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// The number at `at`, if it is there.
#[inline]
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

/// Bytes from hexadecimal digits; white space is skipped.
#[cfg(test)]
fn unhex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
