//! Shows what stands in one file, damaged or not.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::error::Result;

/// What [`dump`] shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DumpOptions {
    /// Each batch's records or entries too.
    pub contents: bool,
}

impl DumpOptions {
    /// Shows each batch's records or entries too.
    pub fn contents(mut self, contents: bool) -> DumpOptions {
        self.contents = contents;
        self
    }
}

/// One thing in a file, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Dumped<'a> {
    /// The file and its header; comes first, once.
    File(DumpedFile),
    /// A batch whose header is whole; its body may not be.
    Batch(DumpedBatch),
    /// A record of the batch before.
    Record(DumpedRecord<'a>),
    /// An entry of the catalogue, of the batch before.
    Entry(DumpedEntry),
    /// An entry of the offset log, of the batch before.
    Offset(DumpedOffset<'a>),
    /// An entry of an index.
    IndexEntry(DumpedIndexEntry),
    /// A stretch where nothing fits, up to the next batch or the end of the file.
    Gap(DumpedGap),
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DumpedFile {
    /// Its path, as given.
    pub path: PathBuf,
    /// How long it is.
    pub length_bytes: u64,
    /// What is wrong with its header.
    pub problem: Option<String>,
    /// What the header says; `None` if it is not whole.
    pub fields: Option<FileFields>,
}

/// The fields of a file's header; see `docs/FORMAT.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "docs/FORMAT.md explains every field")]
pub struct FileFields {
    pub version: u32,
    /// `segment`, `index`, `catalogue` or `offsets`.
    pub kind: &'static str,
    /// 32 hexadecimal digits.
    pub engine_id: String,
    pub topic_id: u32,
    /// The topic's name; empty in the catalogue and the offset log.
    pub topic: String,
    pub partition: u32,
    pub epoch: u32,
    pub file_id: u64,
    pub base_offset: u64,
    pub created_ms: i64,
    pub term: u64,
    pub log_start_offset: u64,
    pub durable_before: u64,
    /// `None`: it is the first.
    pub previous: Option<DumpedPrevious>,
    pub rewrite: u32,
    pub rewritten_end_offset: u64,
    pub rewritten_length: u64,
}

/// What a header says of the file before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "docs/FORMAT.md explains every field")]
pub struct DumpedPrevious {
    pub file_id: u64,
    pub base_offset: u64,
    pub end_offset: u64,
    pub length: u64,
    pub appended_ms: i64,
    /// `None`: not known.
    pub max_timestamp: Option<i64>,
}

/// A batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "docs/FORMAT.md explains every field")]
pub struct DumpedBatch {
    pub position: u64,
    pub length: u32,
    /// `records`, `control`, `filler`, `snapshot`, `catalogue` or `offsets`.
    pub kind: &'static str,
    /// `none`, `lz4` or `zstd`.
    pub codec: &'static str,
    pub transactional: bool,
    /// Whether the timestamps are append times.
    pub append_time: bool,
    pub base_offset: u64,
    pub offset_count: u32,
    pub record_count: u32,
    pub durable_before: u64,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub appended_ms: i64,
    pub producer_id: u64,
    pub producer_epoch: u16,
    pub base_sequence: u32,
    pub term: u64,
    pub epoch: u32,
    pub uncompressed_length: u32,
    pub header_crc: u32,
    pub body_crc: u32,
    /// Why it doesn't count, if it doesn't: its body, or its place behind the batch before.
    pub problem: Option<String>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DumpedRecord<'a> {
    /// Its offset.
    pub offset: u64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Its key; `None` is not the same as empty.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is not the same as empty.
    pub value: Option<&'a [u8]>,
    /// Names and values of its headers, in order.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

/// An entry of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DumpedEntry {
    /// `engine`, `epoch`, `topic`, `deleted`, `expanded`, `mark`, `truncated` or `clean`.
    pub kind: &'static str,
    /// Name and value of each of its fields, in order.
    pub fields: Vec<(&'static str, String)>,
}

/// An entry of the offset log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "docs/FORMAT.md explains every field")]
pub struct DumpedOffset<'a> {
    /// `commit`, `delete`, `group`, `group state`, `group empty` or `transaction decision`.
    pub kind: &'static str,
    pub offset: u64,
    pub topic_id: u32,
    pub partition: u32,
    pub group: u32,
    pub generation: u32,
    pub epoch: u32,
    /// Whether the payload goes on in the next entry.
    pub more: bool,
    pub payload: &'a [u8],
}

/// An entry of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DumpedIndexEntry {
    /// Where in the index file it stands.
    pub at: u64,
    /// What it points to, unless it is damaged.
    pub fields: std::result::Result<IndexFields, String>,
}

/// What an index entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexFields {
    /// The base offset of the batch it points to.
    pub offset: u64,
    /// Where that batch stands in the segment.
    pub position: u64,
    /// The largest timestamp of all batches before; `None` if there are none with records.
    pub max_timestamp_before: Option<i64>,
}

/// A stretch where nothing fits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DumpedGap {
    /// Where it begins.
    pub position: u64,
    /// How long it is.
    pub bytes: u64,
    /// Whether all of it is zero: space that was allocated and never written.
    pub zero: bool,
    /// Why nothing fits.
    pub reason: String,
}

/// Shows what stands in a file, in its order, until `each` breaks. Changes nothing; works on
/// damaged files: where nothing fits it says so, and goes on at the next batch.
///
/// # Errors
/// `Io`, `NoRoom`; `NotThalweg` for what isn't a regular file.
pub fn dump(
    path: impl AsRef<Path>,
    options: DumpOptions,
    each: &mut dyn FnMut(Dumped<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let _ = (path.as_ref(), options, each);
    Ok(())
}
