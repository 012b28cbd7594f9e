//! Shows what stands in one file, damaged or not.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::walk::{Step, Walk};
use crate::config::SyncMode;
use crate::disk::{Access, Disk, File, RealDisk};
use crate::error::{Error, Result};
use crate::format::{
    BLOCK_BYTES, BatchHeader, BatchKind, CatalogEntry, FILE_HEADER_BYTES, FORMAT_VERSION, FileHeader, FileKind,
    INDEX_ENTRY_BYTES, IndexEntry, OffsetEntry, OffsetEntryKind, RecordWalk, Seed, seed_as_it_stands,
};
use crate::segment::{Place, Window, base_offset_of};

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
    Offset(DumpedOffset),
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
pub struct DumpedOffset {
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
    pub payload: Vec<u8>,
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
/// `Io`, `NoRoom`; `InvalidArgument` for what isn't a regular file.
pub fn dump(
    path: impl AsRef<Path>,
    options: DumpOptions,
    each: &mut dyn FnMut(Dumped<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let path = path.as_ref();
    let disk = RealDisk::new(SyncMode::Threads, 1).map_err(|error| Error::io(error).at_path(path))?;
    dump_on(&disk, path, options, each)
}

/// The same on any disk.
pub(crate) fn dump_on(
    disk: &dyn Disk,
    path: &Path,
    options: DumpOptions,
    each: &mut dyn FnMut(Dumped<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let file = disk.open(path, Access::Read).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Error::invalid("this is not a regular file").at_path(path),
        _ => Error::io(error).at_path(path),
    })?;
    let mut dump = Dump { path, file: &*file, options, each };
    dump.run().map(|_| ()).map_err(|error| Error::io(error).at_path(path))
}

/// `Continue` while more is wanted.
type Shown = io::Result<ControlFlow<()>>;

/// Hands something on; returns if no more is wanted.
macro_rules! show {
    ($flow:expr) => {
        if $flow.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    };
}

struct Dump<'a> {
    path: &'a Path,
    file: &'a dyn File,
    options: DumpOptions,
    each: &'a mut dyn FnMut(Dumped<'_>) -> ControlFlow<()>,
}

impl Dump<'_> {
    fn run(&mut self) -> Shown {
        let length_bytes = self.file.length()?;
        let mut block = vec![0; BLOCK_BYTES as usize];
        let read = self.file.read_at(&mut block, 0)?;
        let head: [u8; FILE_HEADER_BYTES] = std::array::from_fn(|at| block[at]);
        let header = FileHeader::decode(&head[..read.min(FILE_HEADER_BYTES)]);
        let rest_is_zero = block[FILE_HEADER_BYTES..].iter().all(|&byte| byte == 0);
        let problem = match &header {
            Err(error) => Some(error.to_string()),
            Ok(_) if read < block.len() => Some("the file ends within its header block".to_owned()),
            Ok(_) if !rest_is_zero => Some("bytes of the header block that are never written are set".to_owned()),
            Ok(_) => None,
        };
        let fields = header.as_ref().ok().map(file_fields);
        let path = self.path.to_owned();
        show!((self.each)(Dumped::File(DumpedFile { path, length_bytes, problem, fields })));
        let (kind, seed, base_offset, epoch) = match &header {
            Ok(header) => (header.kind, header.seed(), header.base_offset, header.epoch),
            Err(_) => {
                let (kind, base_offset) = by_name(self.path);
                (kind, seed_as_it_stands(&head), base_offset, 0)
            }
        };
        if kind == FileKind::Index {
            return self.index_entries(length_bytes, seed, base_offset);
        }
        let place = Place { position: BLOCK_BYTES, next_offset: base_offset, epoch };
        self.batches(Walk::new(self.file, length_bytes, kind, seed, place))
    }

    fn batches(&mut self, mut walk: Walk<'_>) -> Shown {
        while let Some(step) = walk.next()? {
            match step {
                Step::Gap { from, to, written_end, reason } => {
                    let (zero, reason) = (written_end == from, reason.to_string());
                    show!((self.each)(Dumped::Gap(DumpedGap { position: from, bytes: to - from, zero, reason })));
                }
                Step::Batch { header, position, header_crc, problem } => {
                    let problem = problem.map(|error| error.to_string());
                    let shown = batch_fields(&header, position, header_crc, problem);
                    show!((self.each)(Dumped::Batch(shown)));
                    let body = walk.body()?;
                    if self.options.contents && header.check_body(body).is_ok() {
                        show!(self.contents(&header, body));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// What a whole body holds, as far as this version can tell.
    fn contents(&mut self, header: &BatchHeader, body: &[u8]) -> ControlFlow<()> {
        match header.attributes.kind() {
            Ok(BatchKind::Records) if header.attributes.codec() == 0 => {
                for record in RecordWalk::new(body, header.record_count) {
                    (self.each)(Dumped::Record(DumpedRecord {
                        offset: header.base_offset.saturating_add(u64::from(record.offset_delta)),
                        timestamp: header.base_timestamp.saturating_add(i64::from(record.timestamp_delta)),
                        key: record.key,
                        value: record.value,
                        headers: record.headers.iter().collect(),
                    }))?;
                }
            }
            Ok(BatchKind::Catalog) => {
                for entry in CatalogEntry::decode_all(body).unwrap_or_default() {
                    (self.each)(Dumped::Entry(catalog_fields(entry)))?;
                }
            }
            Ok(BatchKind::Offsets) => {
                for entry in OffsetEntry::decode_all(body).unwrap_or_default() {
                    (self.each)(Dumped::Offset(offset_fields(entry)))?;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn index_entries(&mut self, length: u64, seed: Seed, base_offset: u64) -> Shown {
        let mut window = Window::new(self.file, length);
        let mut at = BLOCK_BYTES;
        while at < length {
            let bytes = window.at(at, INDEX_ENTRY_BYTES)?;
            if bytes.is_empty() {
                break;
            }
            let fields = match IndexEntry::decode(bytes, seed) {
                Ok(entry) => Ok(IndexFields {
                    offset: base_offset.saturating_add(u64::from(entry.relative_offset)),
                    position: u64::from(entry.position),
                    max_timestamp_before: Some(entry.max_timestamp_before).filter(|&time| time != i64::MIN),
                }),
                Err(error) => Err(error.to_string()),
            };
            show!((self.each)(Dumped::IndexEntry(DumpedIndexEntry { at, fields })));
            at += INDEX_ENTRY_BYTES as u64;
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Kind and base offset that a file's name speaks of, where its header doesn't.
fn by_name(path: &Path) -> (FileKind, u64) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("catalog-") {
        (FileKind::Catalog, 0)
    } else if name.starts_with("offsets-") {
        (FileKind::Offsets, 0)
    } else if let Some(stem) = name.strip_suffix(".index") {
        (FileKind::Index, base_offset_of(&format!("{stem}.log")).unwrap_or(0))
    } else {
        (FileKind::Segment, base_offset_of(&name).unwrap_or(0))
    }
}

fn file_fields(header: &FileHeader) -> FileFields {
    let previous = header.previous;
    FileFields {
        version: FORMAT_VERSION,
        kind: match header.kind {
            FileKind::Segment => "segment",
            FileKind::Index => "index",
            FileKind::Catalog => "catalogue",
            FileKind::Offsets => "offsets",
        },
        engine_id: hex(&header.log.engine_id.0),
        topic_id: header.log.topic_id.0,
        topic: header.name.clone(),
        partition: header.log.partition,
        epoch: header.epoch,
        file_id: header.file_id,
        base_offset: header.base_offset,
        created_ms: header.created_ms,
        term: header.term,
        log_start_offset: header.log_start_offset,
        durable_before: header.durable_before,
        previous: (previous.file_id != 0).then(|| DumpedPrevious {
            file_id: previous.file_id,
            base_offset: previous.base_offset,
            end_offset: previous.end_offset,
            length: previous.length,
            appended_ms: previous.appended_ms,
            max_timestamp: Some(previous.max_timestamp).filter(|&time| time != i64::MAX),
        }),
        rewrite: header.rewrite,
        rewritten_end_offset: header.rewritten_end_offset,
        rewritten_length: header.rewritten_length,
    }
}

fn batch_fields(header: &BatchHeader, position: u64, header_crc: u32, problem: Option<String>) -> DumpedBatch {
    DumpedBatch {
        position,
        length: header.length,
        kind: match header.attributes.kind() {
            Ok(BatchKind::Records) => "records",
            Ok(BatchKind::Control) => "control",
            Ok(BatchKind::Filler) => "filler",
            Ok(BatchKind::Snapshot) => "snapshot",
            Ok(BatchKind::Catalog) => "catalogue",
            Ok(BatchKind::Offsets) => "offsets",
            Err(_) => "unknown",
        },
        codec: match header.attributes.codec() {
            0 => "none",
            1 => "lz4",
            2 => "zstd",
            _ => "unknown",
        },
        transactional: header.attributes.0 >> 7 & 1 == 1,
        append_time: header.attributes.0 >> 8 & 1 == 1,
        base_offset: header.base_offset,
        offset_count: header.offset_count,
        record_count: header.record_count,
        durable_before: header.durable_before,
        base_timestamp: header.base_timestamp,
        max_timestamp: header.max_timestamp,
        appended_ms: header.appended_ms,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        term: header.term,
        epoch: header.epoch,
        uncompressed_length: header.uncompressed_length,
        header_crc,
        body_crc: header.body_crc,
        problem,
    }
}

fn catalog_fields(entry: CatalogEntry) -> DumpedEntry {
    let text = |value: &dyn ToString| value.to_string();
    let (kind, fields) = match &entry {
        CatalogEntry::Engine { engine_id, created_ms } => {
            ("engine", vec![("engine_id", hex(&engine_id.0)), ("created_ms", text(created_ms))])
        }
        CatalogEntry::Epoch { epoch } => ("epoch", vec![("epoch", text(epoch))]),
        CatalogEntry::Topic { topic_id, name, partitions, created_ms, config } => {
            let config = config.lines().collect::<Vec<_>>().join(" ");
            let fields = vec![
                ("topic_id", text(topic_id)),
                ("name", name.clone()),
                ("partitions", text(partitions)),
                ("created_ms", text(created_ms)),
                ("config", config),
            ];
            ("topic", fields)
        }
        CatalogEntry::Deleted { topic_id } => ("deleted", vec![("topic_id", text(topic_id))]),
        CatalogEntry::Expanded { topic_id, partitions, end_offsets } => {
            let ends: Vec<_> = end_offsets.iter().map(u64::to_string).collect();
            let fields =
                vec![("topic_id", text(topic_id)), ("partitions", text(partitions)), ("end_offsets", ends.join(" "))];
            ("expanded", fields)
        }
        CatalogEntry::Mark { topic_id, partition, mark } => {
            let fields = vec![
                ("topic_id", text(topic_id)),
                ("partition", text(partition)),
                ("epoch", text(&mark.epoch)),
                ("log_start_offset", text(&mark.log_start_offset)),
                ("durable_offset", text(&mark.durable_offset)),
                ("segment_base_offset", text(&mark.segment_base_offset)),
                ("position", text(&mark.position)),
            ];
            ("mark", fields)
        }
        CatalogEntry::Truncated { topic_id, partition, offset, epoch } => {
            let fields = vec![
                ("topic_id", text(topic_id)),
                ("partition", text(partition)),
                ("offset", text(offset)),
                ("epoch", text(epoch)),
            ];
            ("truncated", fields)
        }
        CatalogEntry::Clean { epoch } => ("clean", vec![("epoch", text(epoch))]),
    };
    DumpedEntry { kind, fields }
}

fn offset_fields(entry: OffsetEntry) -> DumpedOffset {
    DumpedOffset {
        kind: match entry.kind {
            OffsetEntryKind::Commit => "commit",
            OffsetEntryKind::Delete => "delete",
            OffsetEntryKind::Group => "group",
            OffsetEntryKind::GroupState => "group state",
            OffsetEntryKind::GroupEmpty => "group empty",
            OffsetEntryKind::TransactionDecision => "transaction decision",
        },
        offset: entry.offset,
        topic_id: entry.topic_id.0,
        partition: entry.partition,
        group: entry.group,
        generation: entry.generation,
        epoch: entry.epoch,
        more: entry.more,
        payload: entry.payload,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
