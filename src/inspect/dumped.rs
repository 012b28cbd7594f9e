//! What [`dump`](super::dump) shows: plain fields of every structure, as they stand in the file.

use std::path::PathBuf;

use crate::format::{
    BatchHeader, BatchKind, CatalogEntry, FORMAT_VERSION, FileHeader, FileKind, GroupSnapshot, IndexEntry, OffsetEntry,
    OffsetEntryKind,
};
use crate::ids::TopicId;

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
    /// `commit`, `start` (where a group begins), `delete`, `group`, `group state`, `group empty` or `transaction decision`.
    pub kind: &'static str,
    pub offset: u64,
    pub topic_id: u32,
    pub partition: u32,
    pub group: u32,
    pub generation: u32,
    pub epoch: u32,
    /// When it was committed, where the batch doesn't say.
    pub committed_ms: Option<i64>,
    /// Whether the payload goes on in the next entry.
    pub more: bool,
    pub payload: Vec<u8>,
    /// What it says, for people, where the fields don't: a group's name, its members, a time. Of a payload
    /// in several entries, at the last.
    pub meaning: Option<String>,
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

pub(super) fn file_fields(header: &FileHeader) -> FileFields {
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

pub(super) fn batch_fields(
    header: &BatchHeader,
    position: u64,
    header_crc: u32,
    problem: Option<String>,
) -> DumpedBatch {
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

pub(super) fn catalog_fields(entry: CatalogEntry) -> DumpedEntry {
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
        CatalogEntry::Configured { topic_id, config } => {
            ("configured", vec![("topic_id", text(topic_id)), ("config", config.trim_end().replace('\n', " "))])
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
        CatalogEntry::Clean { epoch, offsets_end } => {
            ("clean", vec![("epoch", text(epoch)), ("offsets_end", text(offsets_end))])
        }
    };
    DumpedEntry { kind, fields }
}

/// `payload` is all of it, at the last entry that it stands in.
pub(super) fn offset_fields(entry: OffsetEntry<'_>, payload: Option<&[u8]>) -> DumpedOffset {
    DumpedOffset {
        meaning: payload.and_then(|payload| meaning_of(&entry, payload)),
        kind: match entry.kind {
            OffsetEntryKind::Commit if entry.start => "start",
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
        committed_ms: entry.committed_ms,
        more: entry.more,
        payload: entry.payload.to_vec(),
    }
}

fn meaning_of(entry: &OffsetEntry<'_>, payload: &[u8]) -> Option<String> {
    match entry.kind {
        OffsetEntryKind::Group => Some(format!("is called {:?}", String::from_utf8_lossy(payload))),
        OffsetEntryKind::Delete if entry.topic_id.0 == 0 => Some("the whole group".to_owned()),
        OffsetEntryKind::GroupEmpty => Some(format!("since {}", entry.offset)),
        OffsetEntryKind::GroupState => Some(match GroupSnapshot::decode(payload) {
            Ok(snapshot) => format!("at {}, {}", entry.offset, snapshot_text(&snapshot)),
            Err(error) => error.to_string(),
        }),
        OffsetEntryKind::Commit | OffsetEntryKind::Delete | OffsetEntryKind::TransactionDecision => None,
    }
}

fn snapshot_text(snapshot: &GroupSnapshot) -> String {
    let mut text = format!("assignor {:?}, {} members", snapshot.assignor, snapshot.members.len());
    for member in &snapshot.members {
        let instance = member.instance_id.as_ref().map(|id| format!(" (instance {id:?})")).unwrap_or_default();
        let topics: Vec<_> = member.topics.iter().map(|topic| topic.to_string()).collect();
        let places = |places: &[(TopicId, u32)]| {
            let places: Vec<_> = places.iter().map(|(topic, partition)| format!("{topic}/{partition}")).collect();
            places.join(" ")
        };
        text += &format!("; {:?}{instance} reads topics [{}]", member.id, topics.join(" "));
        text += &format!(", holds [{}], awaits [{}]", places(&member.partitions), places(&member.awaited));
    }
    text
}

pub(super) fn index_fields(entry: IndexEntry, base_offset: u64) -> IndexFields {
    IndexFields {
        offset: base_offset.saturating_add(u64::from(entry.relative_offset)),
        position: u64::from(entry.position),
        max_timestamp_before: Some(entry.max_timestamp_before).filter(|&time| time != i64::MIN),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
