//! What the catalogue's batches hold: entries of 16 bytes and a payload padded to 8.

use bytemuck::{Pod, Zeroable};

use super::{FormatError, align8, bytes_at, invalid, newer, u32_at};
use crate::ids::{EngineId, TopicId};

const ENTRY_HEADER_BYTES: usize = 16;

/// How far a partition was known durable: everything below `durable_offset`, which ends at
/// `position` of the segment with this base offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) epoch: u32,
    pub(crate) log_start_offset: u64,
    pub(crate) durable_offset: u64,
    pub(crate) segment_base_offset: u64,
    pub(crate) position: u64,
}

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CatalogEntry {
    Engine {
        engine_id: EngineId,
        created_ms: i64,
    },
    Epoch {
        epoch: u32,
    },
    /// `config` is `key=value` lines.
    Topic {
        topic_id: TopicId,
        name: String,
        partitions: u32,
        created_ms: i64,
        config: String,
    },
    Deleted {
        topic_id: TopicId,
    },
    Expanded {
        topic_id: TopicId,
        partitions: u32,
        end_offsets: Vec<u64>,
    },
    Mark {
        topic_id: TopicId,
        partition: u32,
        mark: Mark,
    },
    Truncated {
        topic_id: TopicId,
        partition: u32,
        offset: u64,
        epoch: u32,
    },
    Clean {
        epoch: u32,
    },
}

/// An entry's header as it stands in the file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Raw {
    topic_id: u32,
    partition: u32,
    kind: u16,
    flags: u16,
    payload_length: u32,
}

const _: () = assert!(size_of::<Raw>() == ENTRY_HEADER_BYTES && core::mem::offset_of!(Raw, payload_length) == 12);

const ENGINE: u16 = 1;
const EPOCH: u16 = 2;
const TOPIC: u16 = 3;
const DELETED: u16 = 4;
const EXPANDED: u16 = 5;
const MARK: u16 = 6;
const TRUNCATED: u16 = 7;
const CLEAN: u16 = 8;

impl CatalogEntry {
    /// Appends the entry's bytes.
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        let (kind, topic_id, partition) = match self {
            CatalogEntry::Engine { .. } => (ENGINE, TopicId(0), 0),
            CatalogEntry::Epoch { .. } => (EPOCH, TopicId(0), 0),
            CatalogEntry::Topic { topic_id, .. } => (TOPIC, *topic_id, 0),
            CatalogEntry::Deleted { topic_id } => (DELETED, *topic_id, 0),
            CatalogEntry::Expanded { topic_id, .. } => (EXPANDED, *topic_id, 0),
            CatalogEntry::Mark { topic_id, partition, .. } => (MARK, *topic_id, *partition),
            CatalogEntry::Truncated { topic_id, partition, .. } => (TRUNCATED, *topic_id, *partition),
            CatalogEntry::Clean { .. } => (CLEAN, TopicId(0), 0),
        };
        let start = into.len();
        into.extend_from_slice(&[0; ENTRY_HEADER_BYTES]);
        self.encode_payload(into);
        let payload_length = into.len() - start - ENTRY_HEADER_BYTES;
        into.resize(start + align8((into.len() - start) as u64) as usize, 0);
        let raw = Raw { topic_id: topic_id.0, partition, kind, flags: 0, payload_length: payload_length as u32 };
        into[start..start + ENTRY_HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&raw));
    }

    fn encode_payload(&self, into: &mut Vec<u8>) {
        match self {
            CatalogEntry::Engine { engine_id, created_ms } => {
                into.extend_from_slice(&engine_id.0);
                into.extend_from_slice(&created_ms.to_le_bytes());
            }
            CatalogEntry::Epoch { epoch } | CatalogEntry::Clean { epoch } => {
                into.extend_from_slice(&epoch.to_le_bytes())
            }
            CatalogEntry::Topic { name, partitions, created_ms, config, .. } => {
                into.extend_from_slice(&created_ms.to_le_bytes());
                into.extend_from_slice(&partitions.to_le_bytes());
                into.extend_from_slice(&(name.len() as u32).to_le_bytes());
                into.extend_from_slice(name.as_bytes());
                into.extend_from_slice(config.as_bytes());
            }
            CatalogEntry::Deleted { .. } => {}
            CatalogEntry::Expanded { partitions, end_offsets, .. } => {
                into.extend_from_slice(&partitions.to_le_bytes());
                into.extend_from_slice(&0u32.to_le_bytes());
                for offset in end_offsets {
                    into.extend_from_slice(&offset.to_le_bytes());
                }
            }
            CatalogEntry::Mark { mark, .. } => {
                for number in [mark.log_start_offset, mark.durable_offset, mark.segment_base_offset, mark.position] {
                    into.extend_from_slice(&number.to_le_bytes());
                }
                into.extend_from_slice(&mark.epoch.to_le_bytes());
            }
            CatalogEntry::Truncated { offset, epoch, .. } => {
                into.extend_from_slice(&offset.to_le_bytes());
                into.extend_from_slice(&epoch.to_le_bytes());
            }
        }
    }

    /// All entries of a batch's body.
    pub(crate) fn decode_all(body: &[u8]) -> Result<Vec<CatalogEntry>, FormatError> {
        let mut entries = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let Some(head) = bytes_at::<ENTRY_HEADER_BYTES>(rest, 0) else {
                return Err(invalid("the body ends within a catalogue entry"));
            };
            let raw: Raw = bytemuck::must_cast(head);
            if raw.flags != 0 {
                return Err(newer(format!("catalogue entry flags {:#x}", raw.flags)));
            }
            let length = ENTRY_HEADER_BYTES as u64 + u64::from(raw.payload_length);
            let padded = align8(length) as usize;
            if padded > rest.len() {
                return Err(invalid(format!("a catalogue entry of {length} bytes, {} are left", rest.len())));
            }
            let (entry, after) = rest.split_at(padded);
            entries.push(decode_one(&raw, &entry[ENTRY_HEADER_BYTES..length as usize])?);
            rest = after;
        }
        Ok(entries)
    }
}

fn decode_one(raw: &Raw, payload: &[u8]) -> Result<CatalogEntry, FormatError> {
    let short = || invalid(format!("a catalogue entry of kind {} with {} bytes", raw.kind, payload.len()));
    let exactly = |bytes: usize| if payload.len() == bytes { Ok(()) } else { Err(short()) };
    let u32_in = |at: usize| u32_at(payload, at).ok_or_else(short);
    let u64_in = |at: usize| bytes_at(payload, at).map(u64::from_le_bytes).ok_or_else(short);
    let topic_id = TopicId(raw.topic_id);
    let partition = raw.partition;
    Ok(match raw.kind {
        ENGINE => {
            exactly(24)?;
            let engine_id = EngineId(bytes_at(payload, 0).ok_or_else(short)?);
            CatalogEntry::Engine { engine_id, created_ms: u64_in(16)? as i64 }
        }
        EPOCH => {
            exactly(4)?;
            CatalogEntry::Epoch { epoch: u32_in(0)? }
        }
        TOPIC => {
            let name_length = u32_in(12)? as usize;
            let texts = payload.get(16..).ok_or_else(short)?;
            let (name, config) = texts.split_at_checked(name_length).ok_or_else(short)?;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| invalid("a text that isn't UTF-8"));
            CatalogEntry::Topic {
                topic_id,
                name: text(name)?,
                partitions: u32_in(8)?,
                created_ms: u64_in(0)? as i64,
                config: text(config)?,
            }
        }
        DELETED => {
            exactly(0)?;
            CatalogEntry::Deleted { topic_id }
        }
        EXPANDED => {
            let (offsets, rest) = payload.get(8..).ok_or_else(short)?.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(short());
            }
            let end_offsets = offsets.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
            CatalogEntry::Expanded { topic_id, partitions: u32_in(0)?, end_offsets }
        }
        MARK => {
            exactly(36)?;
            let mark = Mark {
                log_start_offset: u64_in(0)?,
                durable_offset: u64_in(8)?,
                segment_base_offset: u64_in(16)?,
                position: u64_in(24)?,
                epoch: u32_in(32)?,
            };
            CatalogEntry::Mark { topic_id, partition, mark }
        }
        TRUNCATED => {
            exactly(12)?;
            CatalogEntry::Truncated { topic_id, partition, offset: u64_in(0)?, epoch: u32_in(8)? }
        }
        CLEAN => {
            exactly(4)?;
            CatalogEntry::Clean { epoch: u32_in(0)? }
        }
        other => return Err(newer(format!("catalogue entry of kind {other}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<CatalogEntry> {
        let topic_id = TopicId(7);
        let mark = Mark { epoch: 1, log_start_offset: 2, durable_offset: 3, segment_base_offset: 4, position: 5 };
        vec![
            CatalogEntry::Engine { engine_id: EngineId([9; 16]), created_ms: -1 },
            CatalogEntry::Epoch { epoch: 4 },
            CatalogEntry::Topic {
                topic_id,
                name: "orders".into(),
                partitions: 6,
                created_ms: 5,
                config: "a=1\n".into(),
            },
            CatalogEntry::Expanded { topic_id, partitions: 9, end_offsets: vec![1, 2, 3] },
            CatalogEntry::Mark { topic_id, partition: 3, mark },
            CatalogEntry::Truncated { topic_id, partition: 1, offset: 8, epoch: 9 },
            CatalogEntry::Deleted { topic_id },
            CatalogEntry::Clean { epoch: 4 },
        ]
    }

    #[test]
    fn round_trip() {
        let mut body = Vec::new();
        for entry in examples() {
            entry.encode(&mut body);
            assert!(body.len().is_multiple_of(8));
        }
        assert_eq!(CatalogEntry::decode_all(&body), Ok(examples()));
    }

    #[test]
    fn wrong_lengths_and_unknown_kinds() {
        for entry in examples() {
            let mut body = Vec::new();
            entry.encode(&mut body);
            for cut in 1..body.len() {
                assert!(CatalogEntry::decode_all(&body[..cut]).is_err(), "{entry:?} cut at {cut}");
            }
            for length in [0, 1, 3, 1_000, u32::MAX] {
                let mut bad = body.clone();
                if bad[12..16] == length.to_le_bytes()[..] {
                    continue;
                }
                bad[12..16].copy_from_slice(&length.to_le_bytes());
                let _ = CatalogEntry::decode_all(&bad);
            }
            let mut bad = body.clone();
            bad[8] = 99;
            assert!(matches!(CatalogEntry::decode_all(&bad), Err(FormatError::Newer(_))));
            bad[8] = body[8];
            bad[10] = 1;
            assert!(matches!(CatalogEntry::decode_all(&bad), Err(FormatError::Newer(_))));
        }
    }
}
