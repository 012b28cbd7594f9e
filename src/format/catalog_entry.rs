//! What the catalogue's batches hold: entries of 16 bytes and a payload padded to 8.
//!
//! Lengths and reserved bytes are checked here; whether an entry may follow those before it (epochs
//! that rise, topics that are known) is the catalogue's to say.

use bytemuck::{Pod, Zeroable};

use super::{FormatError, align8, bytes_at, invalid, newer, u32_at};
use crate::ids::{EngineId, TopicId};

/// Before every payload.
const ENTRY_HEADER_BYTES: usize = 16;

/// How far a partition was known durable: everything below `durable_offset`, which ends at
/// `position` of the segment with this base offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    /// Batches from `position` on have this epoch or a higher one.
    pub(crate) epoch: u32,
    /// The first offset that there is (inclusive).
    pub(crate) log_start_offset: u64,
    /// Everything below it survives power loss (exclusive).
    pub(crate) durable_offset: u64,
    /// Names the segment.
    pub(crate) segment_base_offset: u64,
    /// The end of a batch in it.
    pub(crate) position: u64,
}

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CatalogEntry {
    /// The first entry of all: whose directory it is.
    Engine { engine_id: EngineId, created_ms: i64 },
    /// A new life of the directory or of a partition begins.
    Epoch { epoch: u32 },
    /// A topic was made; `config` is lines of `key=value`.
    Topic { topic_id: TopicId, name: String, partitions: u32, created_ms: i64, config: String },
    /// A topic was deleted; its files may be left.
    Deleted { topic_id: TopicId },
    /// A topic has `partitions` now; `end_offsets` are those of the old ones.
    Expanded { topic_id: TopicId, partitions: u32, end_offsets: Vec<u64> },
    /// How far a partition was durable.
    Mark { topic_id: TopicId, partition: u32, mark: Mark },
    /// Records from `offset` on (inclusive) that are older than `epoch` no longer exist.
    Truncated { topic_id: TopicId, partition: u32, offset: u64, epoch: u32 },
    /// A topic has other settings now; `config` is lines of `key=value`.
    Configured { topic_id: TopicId, config: String },
    /// The epoch ended with everything durable and marked; counts while it is the newest. Entries of
    /// the offset log below `offsets_end` were durable then.
    Clean { epoch: u32, offsets_end: u64 },
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

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Raw>() == ENTRY_HEADER_BYTES);
    assert!(offset_of!(Raw, topic_id) == 0 && offset_of!(Raw, partition) == 4);
    assert!(offset_of!(Raw, kind) == 8 && offset_of!(Raw, flags) == 10);
    assert!(offset_of!(Raw, payload_length) == 12);
};

const ENGINE: u16 = 1;
const EPOCH: u16 = 2;
const TOPIC: u16 = 3;
const DELETED: u16 = 4;
const EXPANDED: u16 = 5;
const MARK: u16 = 6;
const TRUNCATED: u16 = 7;
const CLEAN: u16 = 8;
const CONFIGURED: u16 = 9;

impl CatalogEntry {
    /// Appends the entry's bytes, a multiple of 8.
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
            CatalogEntry::Configured { topic_id, .. } => (CONFIGURED, *topic_id, 0),
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
            CatalogEntry::Epoch { epoch } => into.extend_from_slice(&epoch.to_le_bytes()),
            CatalogEntry::Clean { epoch, offsets_end } => {
                into.extend_from_slice(&offsets_end.to_le_bytes());
                into.extend_from_slice(&epoch.to_le_bytes());
            }
            CatalogEntry::Topic { name, partitions, created_ms, config, .. } => {
                into.extend_from_slice(&created_ms.to_le_bytes());
                into.extend_from_slice(&partitions.to_le_bytes());
                into.extend_from_slice(&(name.len() as u32).to_le_bytes());
                into.extend_from_slice(name.as_bytes());
                into.extend_from_slice(config.as_bytes());
            }
            CatalogEntry::Deleted { .. } => {}
            CatalogEntry::Configured { config, .. } => into.extend_from_slice(config.as_bytes()),
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

    /// The entries of a batch's body, one at a time; nothing follows an error.
    ///
    /// # Errors
    /// [`FormatError::Newer`] for an unknown kind, flag or reserved byte, else [`FormatError::Invalid`].
    pub(crate) fn each_of(body: &[u8]) -> impl Iterator<Item = Result<CatalogEntry, FormatError>> {
        let mut rest = body;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let split = split_entry(rest);
            rest = split.as_ref().map_or(&[], |&(_, _, after)| after);
            Some(split.and_then(|(raw, payload, _)| decode_one(&raw, payload)))
        })
    }

    /// All entries of a batch's body, in memory; they may take several times the bytes.
    ///
    /// # Errors
    /// Those of [`each_of`](CatalogEntry::each_of).
    pub(crate) fn decode_all(body: &[u8]) -> Result<Vec<CatalogEntry>, FormatError> {
        CatalogEntry::each_of(body).collect()
    }
}

/// The first entry's header and payload, and what is behind it.
fn split_entry(bytes: &[u8]) -> Result<(Raw, &[u8], &[u8]), FormatError> {
    let Some(head) = bytes_at::<ENTRY_HEADER_BYTES>(bytes, 0) else {
        return Err(invalid("the body ends within a catalogue entry"));
    };
    let raw: Raw = bytemuck::must_cast(head);
    if raw.flags != 0 {
        return Err(newer(format!("catalogue entry flags {:#x}", raw.flags)));
    }
    let length = ENTRY_HEADER_BYTES as u64 + u64::from(raw.payload_length);
    let Some((entry, after)) = bytes.split_at_checked(align8(length) as usize) else {
        return Err(invalid(format!("a catalogue entry of {length} bytes, {} are left", bytes.len())));
    };
    Ok((raw, &entry[ENTRY_HEADER_BYTES..length as usize], after))
}

fn text(bytes: &[u8]) -> Result<String, FormatError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| invalid("a text that isn't UTF-8"))
}

/// What the entry says.
fn decode_one(raw: &Raw, payload: &[u8]) -> Result<CatalogEntry, FormatError> {
    let short = || invalid(format!("a catalogue entry of kind {} with {} bytes", raw.kind, payload.len()));
    let exactly = |bytes: usize| if payload.len() == bytes { Ok(()) } else { Err(short()) };
    let u32_in = |at: usize| u32_at(payload, at).ok_or_else(short);
    let u64_in = |at: usize| bytes_at(payload, at).map(u64::from_le_bytes).ok_or_else(short);
    let topic_id = TopicId(raw.topic_id);
    let partition = raw.partition;
    let (names_topic, names_partition) = match raw.kind {
        ENGINE | EPOCH | CLEAN => (false, false),
        TOPIC | DELETED | EXPANDED | CONFIGURED => (true, false),
        _ => (true, true),
    };
    if (!names_topic && topic_id.0 != 0) || (!names_partition && partition != 0) {
        return Err(newer(format!("a catalogue entry of kind {} for {topic_id}/{partition}", raw.kind)));
    }
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
            if u32_in(4)? != 0 {
                return Err(newer("reserved bytes of a catalogue entry are set"));
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
            exactly(12)?;
            CatalogEntry::Clean { epoch: u32_in(8)?, offsets_end: u64_in(0)? }
        }
        CONFIGURED => CatalogEntry::Configured { topic_id, config: text(payload)? },
        other => return Err(newer(format!("catalogue entry of kind {other}"))),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::unhex;

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
            CatalogEntry::Clean { epoch: 4, offsets_end: 6 },
            CatalogEntry::Configured { topic_id, config: "b=2\n".into() },
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
    fn cuts_and_unknown_kinds() {
        for entry in examples() {
            let mut body = Vec::new();
            entry.encode(&mut body);
            for cut in 1..body.len() {
                assert!(CatalogEntry::decode_all(&body[..cut]).is_err(), "{entry:?} cut at {cut}");
            }
            let mut bad = body.clone();
            bad[8] = 99;
            assert!(matches!(CatalogEntry::decode_all(&bad), Err(FormatError::Newer(_))));
            bad[8] = body[8];
            bad[10] = 1;
            assert!(matches!(CatalogEntry::decode_all(&bad), Err(FormatError::Newer(_))));
        }
    }

    #[test]
    fn layout() {
        let mut body = Vec::new();
        examples().iter().for_each(|entry| entry.encode(&mut body));
        let expected = unhex(
            "0000000000000000010000001800000009090909090909090909090909090909ffffffffffffffff
             000000000000000002000000040000000400000000000000
             0700000000000000030000001a000000050000000000000006000000060000006f7264657273613d310a000000000000
             070000000000000005000000200000000900000000000000010000000000000002000000000000000300000000000000
             070000000300000006000000240000000200000000000000030000000000000004000000000000000500000000000000
             0100000000000000
             0700000001000000070000000c00000008000000000000000900000000000000
             07000000000000000400000000000000
             0000000000000000080000000c00000006000000000000000400000000000000
             07000000000000000900000004000000623d320a00000000",
        );
        assert_eq!(body, expected);
    }

    #[test]
    fn bytes_without_a_meaning_are_newer() {
        for entry in examples() {
            let mut body = Vec::new();
            entry.encode(&mut body);
            let names_topic = body[0] != 0;
            let names_partition = matches!(entry, CatalogEntry::Mark { .. } | CatalogEntry::Truncated { .. });
            let mut reserved = vec![8, 10, 11];
            reserved.extend((!names_topic).then_some(0));
            reserved.extend((!names_partition).then_some(4));
            reserved.extend(matches!(entry, CatalogEntry::Expanded { .. }).then_some(20));
            for at in reserved {
                let mut bytes = body.clone();
                bytes[at] = 0x80;
                let found = CatalogEntry::decode_all(&bytes);
                assert!(matches!(found, Err(FormatError::Newer(_))), "{entry:?}, byte {at}: {found:?}");
            }
        }
    }

    #[test]
    fn every_wrong_payload_length_is_refused() {
        for entry in examples() {
            let (topic, expanded) =
                (matches!(entry, CatalogEntry::Topic { .. }), matches!(entry, CatalogEntry::Expanded { .. }));
            let mut body = Vec::new();
            entry.encode(&mut body);
            let right = u32_at(&body, 12).unwrap();
            body.resize(4_096, 0);
            for length in (0..200).filter(|&length| length != right) {
                // These say how long they are: a name and lines, or whole offsets, or lines.
                let lines = matches!(entry, CatalogEntry::Configured { .. });
                if (topic && length >= 22) || (expanded && length >= 8 && length % 8 == 0) || lines {
                    continue;
                }
                body[12..16].copy_from_slice(&length.to_le_bytes());
                let first = CatalogEntry::each_of(&body).next();
                assert!(
                    matches!(first, Some(Err(FormatError::Invalid(_)))),
                    "{entry:?} with {length} bytes: {first:?}"
                );
            }
            for length in [5_000, u32::MAX - 7, u32::MAX] {
                body[12..16].copy_from_slice(&length.to_le_bytes());
                assert!(matches!(CatalogEntry::decode_all(&body), Err(FormatError::Invalid(_))), "{entry:?} {length}");
            }
        }
    }

    #[test]
    fn nothing_follows_an_error() {
        let mut body = Vec::new();
        CatalogEntry::Epoch { epoch: 1 }.encode(&mut body);
        body.resize(body.len() + 8, 0);
        let found: Vec<_> = CatalogEntry::each_of(&body).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Ok(CatalogEntry::Epoch { epoch: 1 }));
        assert!(matches!(found[1], Err(FormatError::Invalid(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(
            kinds in proptest::collection::vec((0_u8..10, 0_u8..60, proptest::collection::vec(any::<u8>(), 0..80)), 0..6),
        ) {
            let mut body = Vec::new();
            for (kind, length, payload) in kinds {
                body.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, kind, 0, 0, 0, length, 0, 0, 0]);
                body.extend_from_slice(&payload);
            }
            if let Ok(entries) = CatalogEntry::decode_all(&body) {
                let mut again = Vec::new();
                entries.iter().for_each(|entry| entry.encode(&mut again));
                prop_assert_eq!(CatalogEntry::decode_all(&again), Ok(entries));
            }
        }
    }
}
