//! What the offset-commit log's batches hold: entries of 32 bytes and a payload padded to 8.
//!
//! An entry is read where it stands: its payload is borrowed. One that is too long for one entry goes
//! on in the next; joining the pieces is the reader's. Lengths, kinds and flags are checked here;
//! whether an entry may follow those before it (groups that are known) is the offset log's to say.

use bytemuck::{Pod, Zeroable};

use super::{FormatError, align8, bytes_at, invalid, newer};
use crate::ids::TopicId;

/// Before every payload.
const ENTRY_BYTES: usize = 32;
/// The longest payload of one entry: the last multiple of 8 that its length can say.
const MAX_PAYLOAD_BYTES: usize = 65_528;
/// The longest metadata of a commit.
pub(crate) const MAX_METADATA_BYTES: usize = 4_096;
/// Flag: the payload goes on in the next entry.
const MORE: u8 = 1;
/// Flag: the payload begins with the time of the commit.
const TIMED: u8 = 2;
/// Flag: of a commit, that it only says where the group begins.
const START: u8 = 4;
/// What such a time takes.
const TIME_BYTES: usize = 8;

/// What an entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum OffsetEntryKind {
    /// A group has read up to `offset`; the payload is its metadata.
    Commit = 1,
    /// The group's commit for this partition no longer counts; with topic 0 the whole group is
    /// gone, and nothing speaks of its number again.
    Delete = 2,
    /// The payload is the group's name.
    Group = 3,
    /// Members and assignment: the payload is a [`GroupSnapshot`](super::GroupSnapshot); `offset` is
    /// the time, `epoch` the directory's, to which the generation belongs.
    GroupState = 4,
    /// The group has had no members since the time that `offset` says.
    GroupEmpty = 5,
    /// How a transaction ended.
    TransactionDecision = 6,
}

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OffsetEntry<'a> {
    /// What it says.
    pub(crate) kind: OffsetEntryKind,
    /// Next to read; a time in some kinds.
    pub(crate) offset: u64,
    /// The life of the topic.
    pub(crate) topic_id: TopicId,
    /// Of the topic.
    pub(crate) partition: u32,
    /// Interned: an entry of kind [`Group`](OffsetEntryKind::Group) says its name.
    pub(crate) group: u32,
    /// The group's, when it was written.
    pub(crate) generation: u32,
    /// Of the batch that holds record `offset - 1`; 0 = no such record.
    pub(crate) epoch: u32,
    /// The payload goes on in the next entry.
    pub(crate) more: bool,
    /// A commit that only says where the group begins: nothing was committed yet, or what was is no longer kept.
    pub(crate) start: bool,
    /// When it was committed, where the batch doesn't say: only in a commit that compaction kept.
    pub(crate) committed_ms: Option<i64>,
    /// At most 65,528 bytes when read; of any length when written.
    pub(crate) payload: &'a [u8],
}

/// An entry's header as it stands in the file.
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

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Raw>() == ENTRY_BYTES);
    assert!(offset_of!(Raw, offset) == 0 && offset_of!(Raw, topic_id) == 8);
    assert!(offset_of!(Raw, partition) == 12 && offset_of!(Raw, group) == 16);
    assert!(offset_of!(Raw, generation) == 20 && offset_of!(Raw, epoch) == 24);
    assert!(offset_of!(Raw, payload_length) == 28 && offset_of!(Raw, kind) == 30);
    assert!(offset_of!(Raw, flags) == 31);
};

impl<'a> OffsetEntry<'a> {
    /// Appends the entry's bytes, a multiple of 8; a longer payload as several entries. Returns how many.
    #[inline]
    pub(crate) fn encode(&self, into: &mut Vec<u8>) -> u32 {
        if self.payload.is_empty() && self.committed_ms.is_none() {
            into.extend_from_slice(bytemuck::bytes_of(&self.raw(0, self.flags())));
            return 1;
        }
        self.encode_pieces(into)
    }

    fn encode_pieces(&self, into: &mut Vec<u8>) -> u32 {
        let time = self.committed_ms.map(i64::to_le_bytes);
        let time = time.as_ref().map_or(&[][..], |time| time);
        let flags = self.flags() | if time.is_empty() { 0 } else { TIMED };
        let mut rest = self.payload;
        let mut count = 0;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(MAX_PAYLOAD_BYTES - time.len()));
            let more = if after.is_empty() { 0 } else { MORE };
            into.extend_from_slice(bytemuck::bytes_of(&self.raw(time.len() + piece.len(), flags | more)));
            into.extend_from_slice(time);
            into.extend_from_slice(piece);
            into.resize(align8(into.len() as u64) as usize, 0);
            count += 1;
            rest = after;
            if rest.is_empty() {
                return count;
            }
        }
    }

    #[inline]
    fn flags(&self) -> u8 {
        (if self.more { MORE } else { 0 }) | (if self.start { START } else { 0 })
    }

    #[inline]
    fn raw(&self, payload_bytes: usize, flags: u8) -> Raw {
        Raw {
            offset: self.offset,
            topic_id: self.topic_id.0,
            partition: self.partition,
            group: self.group,
            generation: self.generation,
            epoch: self.epoch,
            payload_length: payload_bytes as u16,
            kind: self.kind as u8,
            flags,
        }
    }

    /// How many bytes [`encode`](OffsetEntry::encode) appends for a payload of one piece.
    pub(crate) const fn encoded_bytes(payload_bytes: usize, timed: bool) -> u64 {
        align8((ENTRY_BYTES + payload_bytes + if timed { TIME_BYTES } else { 0 }) as u64)
    }

    /// The same for a payload of any length, without a time.
    pub(crate) const fn pieces_bytes(payload_bytes: usize) -> u64 {
        let pieces = if payload_bytes == 0 { 1 } else { payload_bytes.div_ceil(MAX_PAYLOAD_BYTES) };
        (pieces * ENTRY_BYTES) as u64 + align8(payload_bytes as u64)
    }

    /// The entries of a batch's body as they stand there, one at a time; nothing follows an error.
    ///
    /// # Errors
    /// [`FormatError::Newer`] for an unknown kind or flag, else [`FormatError::Invalid`].
    pub(crate) fn each_of(body: &'a [u8]) -> impl Iterator<Item = Result<OffsetEntry<'a>, FormatError>> {
        let mut rest = body;
        let mut begun: Option<(OffsetEntryKind, u32)> = None;
        std::iter::from_fn(move || {
            if rest.is_empty() && begun.is_none() {
                return None;
            }
            let entry = next_entry(&mut rest).and_then(|entry| match begun {
                Some(first) if first != (entry.kind, entry.group) => {
                    Err(invalid("a payload doesn't go on where it must"))
                }
                _ => Ok(entry),
            });
            begun = entry.as_ref().ok().filter(|entry| entry.more).map(|entry| (entry.kind, entry.group));
            if entry.is_err() {
                rest = &[];
            }
            Some(entry)
        })
    }

    /// All entries of a batch's body, in memory; they may take several times the bytes.
    ///
    /// # Errors
    /// Those of [`each_of`](OffsetEntry::each_of).
    #[cfg(test)]
    pub(crate) fn decode_all(body: &'a [u8]) -> Result<Vec<OffsetEntry<'a>>, FormatError> {
        OffsetEntry::each_of(body).collect()
    }
}

/// Takes the first entry off `rest`.
fn next_entry<'a>(rest: &mut &'a [u8]) -> Result<OffsetEntry<'a>, FormatError> {
    let Some(head) = bytes_at::<ENTRY_BYTES>(rest, 0) else {
        return Err(invalid("the body ends within an offset entry, or before a payload goes on"));
    };
    let raw: Raw = bytemuck::must_cast(head);
    if raw.flags & !(MORE | TIMED | START) != 0 {
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
    let timed = raw.flags & TIMED != 0;
    if timed && kind != OffsetEntryKind::Commit {
        return Err(newer(format!("an offset entry of kind {kind:?} with a time of its own")));
    }
    let start = raw.flags & START != 0;
    if start && kind != OffsetEntryKind::Commit {
        return Err(newer(format!("an offset entry of kind {kind:?} that says where a group begins")));
    }
    let payload_length = usize::from(raw.payload_length);
    let time_bytes = if timed { TIME_BYTES } else { 0 };
    let limit = if kind == OffsetEntryKind::Commit { MAX_METADATA_BYTES + time_bytes } else { MAX_PAYLOAD_BYTES };
    if payload_length > limit {
        return Err(invalid(format!("an offset entry of kind {kind:?} with {payload_length} bytes")));
    }
    let length = ENTRY_BYTES + payload_length;
    let Some((entry, after)) = rest.split_at_checked(align8(length as u64) as usize) else {
        return Err(invalid(format!("an offset entry of {length} bytes, {} are left", rest.len())));
    };
    let mut payload = &entry[ENTRY_BYTES..length];
    let mut committed_ms = None;
    if timed {
        let Some((&time, metadata)) = payload.split_first_chunk::<TIME_BYTES>() else {
            return Err(invalid(format!("a commit's time in {payload_length} bytes")));
        };
        committed_ms = Some(i64::from_le_bytes(time));
        payload = metadata;
    }
    *rest = after;
    Ok(OffsetEntry {
        kind,
        offset: raw.offset,
        topic_id: TopicId(raw.topic_id),
        partition: raw.partition,
        group: raw.group,
        generation: raw.generation,
        epoch: raw.epoch,
        more: raw.flags & MORE != 0,
        start,
        committed_ms,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::unhex;

    fn commit() -> OffsetEntry<'static> {
        OffsetEntry {
            kind: OffsetEntryKind::Commit,
            offset: 42,
            topic_id: TopicId(1),
            partition: 2,
            group: 3,
            generation: 4,
            epoch: 5,
            more: false,
            start: false,
            committed_ms: None,
            payload: &[],
        }
    }

    fn group() -> OffsetEntry<'static> {
        OffsetEntry { kind: OffsetEntryKind::Group, payload: b"billing", ..commit() }
    }

    fn state(length: usize) -> OffsetEntry<'static> {
        OffsetEntry { kind: OffsetEntryKind::GroupState, payload: &[7; 200_000][..length], ..commit() }
    }

    #[test]
    fn round_trip_and_cuts() {
        let mut body = Vec::new();
        assert_eq!(commit().encode(&mut body), 1);
        assert_eq!(body.len(), 32);
        assert_eq!(group().encode(&mut body), 1);
        assert_eq!(body.len(), 72);
        assert_eq!(OffsetEntry::decode_all(&body), Ok(vec![commit(), group()]));
        for cut in (1..body.len()).filter(|&cut| cut != 32) {
            assert!(OffsetEntry::decode_all(&body[..cut]).is_err(), "cut at {cut}");
        }
        for (at, byte) in [(30, 0), (30, 7), (31, 8), (31, 0x80)] {
            let mut bytes = body.clone();
            bytes[at] = byte;
            assert!(matches!(OffsetEntry::decode_all(&bytes), Err(FormatError::Newer(_))), "byte {at} is {byte}");
        }
    }

    #[test]
    fn layout() {
        let mut body = Vec::new();
        commit().encode(&mut body);
        group().encode(&mut body);
        OffsetEntry { committed_ms: Some(0x0102), payload: b"me", ..commit() }.encode(&mut body);
        OffsetEntry { start: true, ..commit() }.encode(&mut body);
        let expected = unhex(
            "2a00000000000000010000000200000003000000040000000500000000000100
             2a0000000000000001000000020000000300000004000000050000000700030062696c6c696e6700
             2a0000000000000001000000020000000300000004000000050000000a00010202010000000000006d65000000000000
             2a00000000000000010000000200000003000000040000000500000000000104",
        );
        assert_eq!(body, expected);
    }

    #[test]
    fn a_commit_may_carry_its_time() {
        for metadata in [0, 1, 8, 4_096] {
            let entry = OffsetEntry { committed_ms: Some(-7), payload: &[1; 5_000][..metadata], ..commit() };
            let mut body = Vec::new();
            assert_eq!(entry.encode(&mut body), 1);
            assert_eq!(body.len() as u64, OffsetEntry::encoded_bytes(metadata, true));
            assert_eq!(OffsetEntry::decode_all(&body), Ok(vec![entry]));
            for cut in 1..body.len() {
                assert!(OffsetEntry::decode_all(&body[..cut]).is_err(), "cut at {cut}");
            }
        }
        let mut body = Vec::new();
        commit().encode(&mut body);
        body[31] = TIMED;
        assert!(matches!(OffsetEntry::decode_all(&body), Err(FormatError::Invalid(_))), "no room for a time");
        let mut body = Vec::new();
        group().encode(&mut body);
        body[31] = TIMED;
        assert!(matches!(OffsetEntry::decode_all(&body), Err(FormatError::Newer(_))), "only commits have one");
    }

    #[test]
    fn a_commit_may_say_where_a_group_begins() {
        for committed_ms in [None, Some(7)] {
            let entry = OffsetEntry { start: true, committed_ms, ..commit() };
            let mut body = Vec::new();
            assert_eq!(entry.encode(&mut body), 1);
            assert_eq!(OffsetEntry::decode_all(&body), Ok(vec![entry]));
        }
        let mut body = Vec::new();
        group().encode(&mut body);
        body[31] = START;
        assert!(matches!(OffsetEntry::decode_all(&body), Err(FormatError::Newer(_))), "only commits say so");
    }

    #[test]
    fn a_long_payload_goes_on_in_the_next_entry() {
        for (length, lengths) in [
            (0, &[0][..]),
            (65_528, &[65_528]),
            (65_529, &[65_528, 1]),
            (131_056, &[65_528, 65_528]),
            (131_057, &[65_528, 65_528, 1]),
        ] {
            let mut body = Vec::new();
            assert_eq!(state(length).encode(&mut body) as usize, lengths.len());
            let pieces = OffsetEntry::decode_all(&body).unwrap();
            assert_eq!(pieces.iter().map(|piece| piece.payload.len()).collect::<Vec<_>>(), lengths);
            let last = pieces.len() - 1;
            assert!(pieces.iter().enumerate().all(|(at, piece)| piece.more == (at < last)));
            let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.payload).copied().collect();
            assert_eq!(joined, state(length).payload);
        }
    }

    #[test]
    fn a_payload_that_does_not_go_on_is_refused() {
        let begun = OffsetEntry { more: true, ..state(8) };
        for next in [None, Some(commit()), Some(OffsetEntry { group: 9, ..state(8) })] {
            let mut body = Vec::new();
            begun.encode(&mut body);
            if let Some(next) = &next {
                next.encode(&mut body);
            }
            assert!(matches!(OffsetEntry::decode_all(&body), Err(FormatError::Invalid(_))), "{next:?}");
        }
        let mut body = Vec::new();
        begun.encode(&mut body);
        state(8).encode(&mut body);
        assert_eq!(OffsetEntry::decode_all(&body).map(|entries| entries.len()), Ok(2));
    }

    #[test]
    fn lengths_are_bounded() {
        let mut body = Vec::new();
        state(65_528).encode(&mut body);
        body.resize(body.len() + 8, 0);
        body[28..30].copy_from_slice(&65_529_u16.to_le_bytes());
        assert!(matches!(OffsetEntry::decode_all(&body), Err(FormatError::Invalid(_))));
        for (length, fits) in [(4_096, true), (4_097, false)] {
            let mut body = Vec::new();
            OffsetEntry { payload: &[1; 5_000][..length], ..commit() }.encode(&mut body);
            assert_eq!(OffsetEntry::decode_all(&body).is_ok(), fits, "metadata of {length} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(
            entries in proptest::collection::vec((0_u8..8, 0_u8..8, any::<u16>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..6),
        ) {
            let mut body = Vec::new();
            for (kind, flags, length, payload) in entries {
                body.resize(body.len() + 28, 1);
                body.extend_from_slice(&(length % 64).to_le_bytes());
                body.extend_from_slice(&[kind, flags]);
                body.extend_from_slice(&payload);
            }
            if let Ok(entries) = OffsetEntry::decode_all(&body) {
                let mut again = Vec::new();
                entries.iter().for_each(|entry| assert_eq!(entry.encode(&mut again), 1));
                prop_assert_eq!(OffsetEntry::decode_all(&again), Ok(entries));
            }
        }
    }
}
