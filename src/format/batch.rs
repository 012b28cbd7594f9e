//! The batch: 96 bytes of header, then a body. The unit of checksum, compression and atomicity.
//!
//! The header has a checksum of its own, bound to the file and to its place there, which is checked
//! before the length is used; it covers the body's checksum, so the body is bound to its place too.

use bytemuck::{Pod, Zeroable};

use super::checksum::{Seed, crc, seed_for};
use super::{FormatError, MAX_OFFSET, invalid, newer};
use crate::teeth::bites;

/// The header before every body.
pub(crate) const BATCH_HEADER_BYTES: usize = 96;
/// Not zero: preallocated zeros are never a batch, whatever the seed.
const MAGIC: u32 = 0xb47c_5e8d;
/// The longest batch, with its header.
const MAX_BATCH_BYTES: u32 = 1 << 30;

/// What a batch's body holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum BatchKind {
    /// Records of users; in segments.
    Records = 0,
    /// Takes exactly one offset.
    Control = 1,
    /// Padding; takes no offset and means nothing.
    Filler = 2,
    /// Repeats what could be recomputed; takes no offset.
    Snapshot = 3,
    /// Entries of the catalogue, one an offset.
    Catalog = 4,
    /// Entries of the offset log, one an offset.
    Offsets = 5,
}

/// Bits 0-3 codec, 4-6 kind, 7 transactional, 8 timestamps are append times, rest 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attributes(pub(crate) u16);

impl Attributes {
    /// Of a plain batch of this kind.
    pub(crate) const fn new(kind: BatchKind) -> Attributes {
        Attributes((kind as u16) << 4)
    }

    /// 0 none, 1 lz4, 2 zstd.
    pub(crate) const fn codec(self) -> u16 {
        self.0 & 0xf
    }

    /// What the body holds.
    ///
    /// # Errors
    /// [`FormatError::Newer`] for a kind that this version doesn't know.
    pub(crate) fn kind(self) -> Result<BatchKind, FormatError> {
        Ok(match self.0 >> 4 & 7 {
            0 => BatchKind::Records,
            1 => BatchKind::Control,
            2 => BatchKind::Filler,
            3 => BatchKind::Snapshot,
            4 => BatchKind::Catalog,
            5 => BatchKind::Offsets,
            other => return Err(newer(format!("batch kind {other}"))),
        })
    }
}

/// What must seed the file's checksums for the header in `bytes`, at this position, to be whole.
pub(crate) fn seed_behind(bytes: &[u8], position: u64) -> Option<Seed> {
    let bytes = bytes.first_chunk::<BATCH_HEADER_BYTES>()?;
    let raw: Raw = bytemuck::must_cast(*bytes);
    (raw.magic == MAGIC).then(|| seed_for(raw.header_crc, &[&position.to_le_bytes(), &bytes[8..]]))
}

/// A batch header as it is used; magic and checksum of the header are made when it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// The whole batch with header and padding, a multiple of 8.
    pub(crate) length: u32,
    /// Plain, of everything behind the header as stored.
    pub(crate) body_crc: u32,
    /// The first offset it takes.
    pub(crate) base_offset: u64,
    /// The partition's durable offset when this was written: evidence.
    pub(crate) durable_before: u64,
    /// Offsets it takes.
    pub(crate) offset_count: u32,
    /// Fewer than offsets only after compaction.
    pub(crate) record_count: u32,
    /// Of its first record, in ms.
    pub(crate) base_timestamp: i64,
    /// Of its records, in ms.
    pub(crate) max_timestamp: i64,
    /// Wall clock at the write, in ms.
    pub(crate) appended_ms: i64,
    /// 0 = none.
    pub(crate) producer_id: u64,
    /// Of its first record.
    pub(crate) base_sequence: u32,
    /// Tells a producer's lives apart.
    pub(crate) producer_epoch: u16,
    /// Kind, codec and flags.
    pub(crate) attributes: Attributes,
    /// The caller's leader epoch; never decreasing along a log.
    pub(crate) term: u64,
    /// Never decreasing along a log.
    pub(crate) epoch: u32,
    /// 0 when stored plain.
    pub(crate) uncompressed_length: u32,
}

/// The header as it stands in the file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Raw {
    magic: u32,
    header_crc: u32,
    length: u32,
    body_crc: u32,
    base_offset: u64,
    durable_before: u64,
    offset_count: u32,
    record_count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    appended_ms: i64,
    producer_id: u64,
    base_sequence: u32,
    producer_epoch: u16,
    attributes: u16,
    term: u64,
    epoch: u32,
    uncompressed_length: u32,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Raw>() == BATCH_HEADER_BYTES);
    assert!(offset_of!(Raw, magic) == 0);
    assert!(offset_of!(Raw, header_crc) == 4 && offset_of!(Raw, length) == 8 && offset_of!(Raw, body_crc) == 12);
    assert!(offset_of!(Raw, base_offset) == 16 && offset_of!(Raw, durable_before) == 24);
    assert!(offset_of!(Raw, offset_count) == 32 && offset_of!(Raw, record_count) == 36);
    assert!(offset_of!(Raw, base_timestamp) == 40 && offset_of!(Raw, max_timestamp) == 48);
    assert!(offset_of!(Raw, appended_ms) == 56 && offset_of!(Raw, producer_id) == 64);
    assert!(offset_of!(Raw, base_sequence) == 72 && offset_of!(Raw, producer_epoch) == 76);
    assert!(offset_of!(Raw, attributes) == 78 && offset_of!(Raw, term) == 80);
    assert!(offset_of!(Raw, epoch) == 88 && offset_of!(Raw, uncompressed_length) == 92);
};

impl BatchHeader {
    /// Of a batch of this kind with this body, stored plain; what isn't said by these is 0.
    pub(crate) fn of(kind: BatchKind, body: &[u8]) -> BatchHeader {
        BatchHeader {
            length: (BATCH_HEADER_BYTES + body.len()) as u32,
            body_crc: crc(body),
            base_offset: 0,
            durable_before: 0,
            offset_count: 0,
            record_count: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            appended_ms: 0,
            producer_id: 0,
            base_sequence: 0,
            producer_epoch: 0,
            attributes: Attributes::new(kind),
            term: 0,
            epoch: 0,
            uncompressed_length: 0,
        }
    }

    /// One past the last offset it takes.
    pub(crate) fn end_offset(&self) -> u64 {
        self.base_offset.saturating_add(u64::from(self.offset_count))
    }

    /// The bytes with their checksum for this place in this file.
    pub(crate) fn encode(&self, seed: Seed, position: u64) -> [u8; BATCH_HEADER_BYTES] {
        let mut raw = Raw { magic: MAGIC, ..self.raw() };
        let covered = &bytemuck::bytes_of(&raw)[8..];
        raw.header_crc = seed.crc(&[&position.to_le_bytes(), covered]);
        bytemuck::must_cast(raw)
    }

    /// The same fields without magic and checksum, for a batch that has no place yet.
    pub(crate) fn encode_draft(&self) -> [u8; BATCH_HEADER_BYTES] {
        bytemuck::must_cast(self.raw())
    }

    /// Reads back what [`encode_draft`](BatchHeader::encode_draft) wrote. For own memory only: nothing is checked.
    pub(crate) fn read_draft(bytes: &[u8; BATCH_HEADER_BYTES]) -> BatchHeader {
        BatchHeader::from_raw(&bytemuck::pod_read_unaligned(bytes))
    }

    /// Checks the header at `position` of the file with this seed; `room` is what is left there.
    ///
    /// The bytes are copied before they are looked at: in a mapping they may change meanwhile.
    ///
    /// # Errors
    /// [`FormatError::Newer`] if the checksum fits and a reserved bit, kind or codec is not known,
    /// else [`FormatError::Invalid`].
    pub(crate) fn decode(bytes: &[u8], seed: Seed, position: u64, room: u64) -> Result<BatchHeader, FormatError> {
        let Some(&bytes) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Err(invalid("the file ends before a batch header does"));
        };
        let raw: Raw = bytemuck::must_cast(bytes);
        if raw.magic != MAGIC {
            return Err(invalid("no batch begins here"));
        }
        let computed = seed.crc(&[&position.to_le_bytes(), &bytes[8..]]);
        if raw.header_crc != computed && !bites("header-checksum-not-checked") {
            return Err(invalid(format!(
                "batch header checksum is {:#010x}, computed {computed:#010x}",
                raw.header_crc
            )));
        }
        let header = BatchHeader::from_raw(&raw);
        header.check(room).map(|()| header)
    }

    /// The range of every field, behind a checksum that fits.
    fn check(&self, room: u64) -> Result<(), FormatError> {
        if self.attributes.0 >> 9 != 0 {
            return Err(newer(format!("batch attributes {:#06x}", self.attributes.0)));
        }
        let kind = self.attributes.kind()?;
        if self.attributes.codec() > 2 {
            return Err(newer(format!("codec {}", self.attributes.codec())));
        }
        let length = self.length;
        if length < BATCH_HEADER_BYTES as u32 || length > MAX_BATCH_BYTES || !length.is_multiple_of(8) {
            return Err(invalid(format!("a batch of {length} bytes can't be")));
        }
        if u64::from(length) > room {
            return Err(invalid(format!("the batch has {length} bytes, the file {room} from there on")));
        }
        if self.base_offset > MAX_OFFSET || self.end_offset() > MAX_OFFSET + 1 {
            return Err(invalid("the batch's offsets reach 2^63"));
        }
        if self.durable_before > self.base_offset {
            return Err(invalid("the batch says that it was durable before it was written"));
        }
        if self.record_count > self.offset_count {
            return Err(invalid(format!("{} records in {} offsets", self.record_count, self.offset_count)));
        }
        let counts_fit = match kind {
            BatchKind::Records => self.offset_count > 0,
            BatchKind::Catalog | BatchKind::Offsets => self.offset_count > 0 && self.record_count == self.offset_count,
            BatchKind::Control => self.offset_count == 1,
            BatchKind::Filler | BatchKind::Snapshot => self.offset_count == 0,
        };
        if !counts_fit {
            return Err(invalid(format!(
                "a batch of kind {kind:?} with {} offsets for {} entries",
                self.offset_count, self.record_count
            )));
        }
        let plain = self.attributes.codec() == 0;
        if (plain && self.uncompressed_length != 0) || self.uncompressed_length > MAX_BATCH_BYTES {
            let uncompressed_length = self.uncompressed_length;
            return Err(invalid(format!("a body of {uncompressed_length} bytes before compression can't be")));
        }
        Ok(())
    }

    /// Compares the body (everything behind the header, as stored) with its checksum.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] with both checksums.
    pub(crate) fn check_body(&self, body: &[u8]) -> Result<(), FormatError> {
        let computed = crc(body);
        if computed == self.body_crc {
            return Ok(());
        }
        Err(invalid(format!("batch checksum is {:#010x}, computed {computed:#010x}", self.body_crc)))
    }

    /// Without magic and checksum.
    fn raw(&self) -> Raw {
        Raw {
            magic: 0,
            header_crc: 0,
            length: self.length,
            body_crc: self.body_crc,
            base_offset: self.base_offset,
            durable_before: self.durable_before,
            offset_count: self.offset_count,
            record_count: self.record_count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            appended_ms: self.appended_ms,
            producer_id: self.producer_id,
            base_sequence: self.base_sequence,
            producer_epoch: self.producer_epoch,
            attributes: self.attributes.0,
            term: self.term,
            epoch: self.epoch,
            uncompressed_length: self.uncompressed_length,
        }
    }

    fn from_raw(raw: &Raw) -> BatchHeader {
        BatchHeader {
            length: raw.length,
            body_crc: raw.body_crc,
            base_offset: raw.base_offset,
            durable_before: raw.durable_before,
            offset_count: raw.offset_count,
            record_count: raw.record_count,
            base_timestamp: raw.base_timestamp,
            max_timestamp: raw.max_timestamp,
            appended_ms: raw.appended_ms,
            producer_id: raw.producer_id,
            base_sequence: raw.base_sequence,
            producer_epoch: raw.producer_epoch,
            attributes: Attributes(raw.attributes),
            term: raw.term,
            epoch: raw.epoch,
            uncompressed_length: raw.uncompressed_length,
        }
    }
}

/// The first place at or after `from` where a batch may begin, in steps of 8 from `from` on.
pub(crate) fn find_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let magic = MAGIC.to_le_bytes();
    let words = bytes.get(from..)?.as_chunks::<8>().0;
    words.iter().position(|word| word[..4] == magic).map(|at| from + at * 8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::file_header::tests::example as file;
    use crate::format::unhex;
    use crate::ids::LogId;

    fn example(body: &[u8]) -> BatchHeader {
        BatchHeader {
            length: (BATCH_HEADER_BYTES + body.len()) as u32,
            body_crc: crc(body),
            base_offset: 1_000,
            durable_before: 990,
            offset_count: 3,
            record_count: 3,
            base_timestamp: 1_700_000_000_000,
            max_timestamp: 1_700_000_000_009,
            appended_ms: 1_700_000_000_010,
            producer_id: 11,
            base_sequence: 12,
            producer_epoch: 13,
            attributes: Attributes::new(BatchKind::Records),
            term: 14,
            epoch: 15,
            uncompressed_length: 0,
        }
    }

    #[test]
    fn round_trip_and_place() {
        let header = example(&[7; 64]);
        let seed = file().seed();
        let bytes = header.encode(seed, 4096);
        assert_eq!(BatchHeader::decode(&bytes, seed, 4096, 160), Ok(header));
        assert_eq!(BatchHeader::read_draft(&header.encode_draft()), header);
        assert!(BatchHeader::decode(&bytes, seed, 4104, 160).is_err(), "another place");
        assert!(BatchHeader::decode(&bytes, Seed::new(&file().log, 5, 0), 4096, 160).is_err(), "another file");
        assert!(BatchHeader::decode(&bytes, seed, 4096, 159).is_err(), "no room");
        assert!(BatchHeader::decode(&bytes[..95], seed, 4096, 160).is_err(), "short");
        assert_eq!(header.check_body(&[7; 64]), Ok(()));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let body: Vec<u8> = (0..200).collect();
        let header = example(&body);
        let seed = file().seed();
        let good = header.encode(seed, 4096);
        for bit in 0..BATCH_HEADER_BYTES * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(BatchHeader::decode(&bytes, seed, 4096, 1 << 20), Err(FormatError::Invalid(_))),
                "bit {bit}"
            );
        }
        for bit in 0..body.len() * 8 {
            let mut bytes = body.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(header.check_body(&bytes).is_err(), "body bit {bit}");
        }
    }

    #[test]
    fn ranges_are_checked_behind_a_right_checksum() {
        let seed = file().seed();
        let good = example(&[]);
        let decode = |header: BatchHeader| BatchHeader::decode(&header.encode(seed, 0), seed, 0, u64::MAX);
        assert_eq!(decode(good), Ok(good));
        for bad in [
            BatchHeader { length: 88, ..good },
            BatchHeader { length: 100, ..good },
            BatchHeader { length: (1 << 30) + 8, ..good },
            BatchHeader { base_offset: 1 << 63, durable_before: 0, ..good },
            BatchHeader { base_offset: MAX_OFFSET, offset_count: 2, record_count: 2, ..good },
            BatchHeader { durable_before: 1_001, ..good },
            BatchHeader { record_count: 4, ..good },
            BatchHeader { offset_count: 0, record_count: 0, ..good },
            BatchHeader { attributes: Attributes::new(BatchKind::Filler), ..good },
            BatchHeader { attributes: Attributes::new(BatchKind::Control), ..good },
            BatchHeader { uncompressed_length: 1, ..good },
        ] {
            assert!(matches!(decode(bad), Err(FormatError::Invalid(_))), "{bad:?}");
        }
        for attributes in [1 << 9, 6 << 4, 3] {
            let bad = BatchHeader { attributes: Attributes(attributes), ..good };
            assert!(matches!(decode(bad), Err(FormatError::Newer(_))), "{attributes:#x}");
        }
    }

    #[test]
    fn magic_is_found_at_multiples_of_8_only() {
        let mut bytes = vec![0; 64];
        bytes[12..16].copy_from_slice(&MAGIC.to_le_bytes());
        assert_eq!(find_magic(&bytes, 0), None);
        bytes[40..44].copy_from_slice(&MAGIC.to_le_bytes());
        assert_eq!(find_magic(&bytes, 0), Some(40));
        assert_eq!(find_magic(&bytes, 40), Some(40));
        assert_eq!(find_magic(&bytes, 48), None);
        assert_eq!(find_magic(&bytes, 100), None);
    }

    #[test]
    fn layout() {
        let header = example(&[7; 64]);
        let expected = unhex(
            "8d5e7cb479b0a4aaa0000000b8593cd5e803000000000000de03000000000000
             03000000030000000068e5cf8b0100000968e5cf8b0100000a68e5cf8b010000
             0b000000000000000c0000000d0000000e000000000000000f00000000000000",
        );
        assert_eq!(header.encode(file().seed(), 4_096)[..], expected);
        let draft = header.encode_draft();
        assert_eq!((&draft[..8], &draft[8..]), (&[0; 8][..], &expected[8..]));
    }

    #[test]
    fn another_place_or_file_is_refused() {
        let header = example(&[]);
        let seed = file().seed();
        let bytes = header.encode(seed, 4_096);
        let refused = |seed: Seed, position: u64| {
            matches!(BatchHeader::decode(&bytes, seed, position, 1 << 20), Err(FormatError::Invalid(_)))
        };
        assert!(!refused(seed, 4_096));
        for bit in 0..64 {
            assert!(refused(seed, 4_096 ^ (1 << bit)), "position with bit {bit} flipped");
        }
        let (log, id) = (file().log, file().file_id);
        assert!(refused(Seed::new(&log, id ^ 1, 0), 4_096), "another file");
        assert!(refused(Seed::new(&log, id, 1), 4_096), "another rewrite");
        assert!(refused(Seed::new(&LogId { partition: 9, ..log }, id, 0), 4_096), "another partition");
    }

    #[test]
    fn zeros_are_never_a_batch() {
        for position in (0..65_536).step_by(8) {
            assert!(BatchHeader::decode(&[0; 96], file().seed(), position, 1 << 20).is_err(), "at {position}");
        }
    }

    #[test]
    fn each_kind_takes_its_offsets() {
        let seed = file().seed();
        let fits = |kind: BatchKind, offset_count: u32, record_count: u32| {
            let attributes = Attributes::new(kind);
            assert_eq!(attributes.kind(), Ok(kind));
            let header = BatchHeader { attributes, offset_count, record_count, ..example(&[]) };
            BatchHeader::decode(&header.encode(seed, 8), seed, 8, 96).is_ok()
        };
        for (kind, good, bad) in [
            (BatchKind::Records, &[(1, 1), (3, 1), (3, 0)][..], &[(0, 0), (1, 2)][..]),
            (BatchKind::Control, &[(1, 1)], &[(0, 0), (2, 1)]),
            (BatchKind::Filler, &[(0, 0)], &[(1, 0), (1, 1), (0, 1)]),
            (BatchKind::Snapshot, &[(0, 0)], &[(1, 0), (0, 1)]),
            (BatchKind::Catalog, &[(1, 1), (3, 3)], &[(0, 0), (3, 2)]),
            (BatchKind::Offsets, &[(1, 1), (3, 3)], &[(0, 0), (3, 2)]),
        ] {
            for &(offsets, records) in good {
                assert!(fits(kind, offsets, records), "{kind:?} {offsets} {records}");
            }
            for &(offsets, records) in bad {
                assert!(!fits(kind, offsets, records), "{kind:?} {offsets} {records}");
            }
        }
    }

    #[test]
    fn every_reserved_attribute_is_newer_and_every_known_one_is_not() {
        let seed = file().seed();
        let decode = |attributes: u16, uncompressed_length: u32| {
            let header = BatchHeader { attributes: Attributes(attributes), uncompressed_length, ..example(&[]) };
            BatchHeader::decode(&header.encode(seed, 0), seed, 0, 1 << 20).map(|found| found.attributes.codec())
        };
        for bit in 9..16 {
            assert!(matches!(decode(1 << bit, 0), Err(FormatError::Newer(_))), "bit {bit}");
        }
        for codec in 3..16 {
            assert!(matches!(decode(codec, 9), Err(FormatError::Newer(_))), "codec {codec}");
        }
        assert_eq!((decode(1, 9), decode(2, 1 << 30), decode(0x180, 0)), (Ok(1), Ok(2), Ok(0)));
        for (codec, uncompressed_length) in [(0, 9), (1, (1 << 30) + 1), (2, u32::MAX)] {
            assert!(matches!(decode(codec, uncompressed_length), Err(FormatError::Invalid(_))), "{codec}");
        }
    }

    proptest! {
        #[test]
        fn any_fields_behind_a_right_checksum_are_decoded_without_panic(
            mut bytes in proptest::collection::vec(prop_oneof![3 => Just(0), 1 => any::<u8>()], BATCH_HEADER_BYTES),
            position in any::<u64>(),
            room in any::<u64>(),
        ) {
            let seed = file().seed();
            bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
            let crc = seed.crc(&[&position.to_le_bytes(), &bytes[8..]]).to_le_bytes();
            bytes[4..8].copy_from_slice(&crc);
            if let Ok(header) = BatchHeader::decode(&bytes, seed, position, room) {
                prop_assert!(u64::from(header.length) <= room && header.length % 8 == 0);
                prop_assert!(header.end_offset() <= MAX_OFFSET + 1 && header.durable_before <= header.base_offset);
                prop_assert_eq!(&header.encode(seed, position)[..], &bytes[..]);
            }
        }

        #[test]
        fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), from in 0_usize..300) {
            prop_assert!(BatchHeader::decode(&bytes, file().seed(), 4_096, 1 << 20).is_err());
            let slow = (from..bytes.len()).step_by(8).find(|&at| at + 8 <= bytes.len() && bytes[at..at + 4] == MAGIC.to_le_bytes());
            prop_assert_eq!(find_magic(&bytes, from), slow);
        }
    }
}
