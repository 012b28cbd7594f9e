//! What the offset-commit log's batches hold: entries of 32 bytes and a payload padded to 8.
//!
//! Part of the format from the first version on; the log of commits is written by consumer groups.
#![cfg_attr(not(test), expect(dead_code, reason = "consumer groups write these; the bytes are fixed now"))]

use bytemuck::{Pod, Zeroable};

use super::{FormatError, align8, bytes_at, invalid, newer};
use crate::ids::TopicId;

const ENTRY_BYTES: usize = 32;
const MORE: u8 = 1;

/// What an entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum OffsetEntryKind {
    Commit = 1,
    Delete = 2,
    /// The payload is the group's name.
    Group = 3,
    GroupState = 4,
    GroupEmpty = 5,
    TransactionDecision = 6,
}

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OffsetEntry {
    pub(crate) kind: OffsetEntryKind,
    /// Next to read.
    pub(crate) offset: u64,
    pub(crate) topic_id: TopicId,
    pub(crate) partition: u32,
    /// Interned.
    pub(crate) group: u32,
    pub(crate) generation: u32,
    /// Of the batch that holds record `offset - 1`; 0 = no such record.
    pub(crate) epoch: u32,
    /// The payload goes on in the next entry.
    pub(crate) more: bool,
    /// At most 65,528 bytes.
    pub(crate) payload: Vec<u8>,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Raw {
    offset: u64,
    topic_id: u32,
    partition: u32,
    group: u32,
    generation: u32,
    epoch: u32,
    payload_length: u16,
    kind: u8,
    flags: u8,
}

const _: () = assert!(size_of::<Raw>() == ENTRY_BYTES && core::mem::offset_of!(Raw, kind) == 30);

impl OffsetEntry {
    /// Appends the entry's bytes.
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        let raw = Raw {
            offset: self.offset,
            topic_id: self.topic_id.0,
            partition: self.partition,
            group: self.group,
            generation: self.generation,
            epoch: self.epoch,
            payload_length: self.payload.len() as u16,
            kind: self.kind as u8,
            flags: if self.more { MORE } else { 0 },
        };
        into.extend_from_slice(bytemuck::bytes_of(&raw));
        into.extend_from_slice(&self.payload);
        into.resize(align8(into.len() as u64) as usize, 0);
    }

    /// All entries of a batch's body.
    pub(crate) fn decode_all(body: &[u8]) -> Result<Vec<OffsetEntry>, FormatError> {
        let mut entries = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let Some(head) = bytes_at::<ENTRY_BYTES>(rest, 0) else {
                return Err(invalid("the body ends within an offset entry"));
            };
            let raw: Raw = bytemuck::must_cast(head);
            if raw.flags & !MORE != 0 {
                return Err(newer(format!("offset entry flags {:#x}", raw.flags)));
            }
            let kind = match raw.kind {
                1 => OffsetEntryKind::Commit,
                2 => OffsetEntryKind::Delete,
                3 => OffsetEntryKind::Group,
                4 => OffsetEntryKind::GroupState,
                5 => OffsetEntryKind::GroupEmpty,
                6 => OffsetEntryKind::TransactionDecision,
                other => return Err(newer(format!("offset entry of kind {other}"))),
            };
            let length = ENTRY_BYTES + usize::from(raw.payload_length);
            let Some((entry, after)) = rest.split_at_checked(align8(length as u64) as usize) else {
                return Err(invalid(format!("an offset entry of {length} bytes, {} are left", rest.len())));
            };
            entries.push(OffsetEntry {
                kind,
                offset: raw.offset,
                topic_id: TopicId(raw.topic_id),
                partition: raw.partition,
                group: raw.group,
                generation: raw.generation,
                epoch: raw.epoch,
                more: raw.flags & MORE != 0,
                payload: entry[ENTRY_BYTES..length].to_vec(),
            });
            rest = after;
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_cuts() {
        let commit = OffsetEntry {
            kind: OffsetEntryKind::Commit,
            offset: 42,
            topic_id: TopicId(1),
            partition: 2,
            group: 3,
            generation: 4,
            epoch: 5,
            more: false,
            payload: Vec::new(),
        };
        let group =
            OffsetEntry { kind: OffsetEntryKind::Group, payload: b"billing".to_vec(), more: true, ..commit.clone() };
        let mut body = Vec::new();
        commit.encode(&mut body);
        assert_eq!(body.len(), 32);
        group.encode(&mut body);
        assert_eq!(body.len(), 72);
        assert_eq!(OffsetEntry::decode_all(&body), Ok(vec![commit, group]));
        for cut in (1..body.len()).filter(|&cut| cut != 32) {
            assert!(OffsetEntry::decode_all(&body[..cut]).is_err(), "cut at {cut}");
        }
        body[30] = 7;
        assert!(matches!(OffsetEntry::decode_all(&body), Err(FormatError::Newer(_))));
    }
}
