//! The batch: 96 bytes of header, then a body. The unit of checksum, compression and atomicity.
//!
//! The header has a checksum of its own, bound to the file and to its place there, which is checked
//! before the length is used; it covers the body's checksum, so the body is bound to its place too.

use bytemuck::{Pod, Zeroable};

use super::checksum::{Seed, crc};
use super::{FormatError, MAX_OFFSET, invalid, newer};

pub(crate) const BATCH_HEADER_BYTES: usize = 96;
/// Not zero: preallocated zeros are never a batch, whatever the seed.
const MAGIC: u32 = 0xb47c_5e8d;
const MAX_BATCH_BYTES: u32 = 1 << 30;

/// What a batch's body holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum BatchKind {
    Records = 0,
    /// Takes exactly one offset.
    Control = 1,
    /// Padding; takes no offset and means nothing.
    Filler = 2,
    /// Repeats what could be recomputed; takes no offset.
    Snapshot = 3,
    Catalog = 4,
    Offsets = 5,
}

/// Bits 0-3 codec, 4-6 kind, 7 transactional, 8 timestamps are append times, rest 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attributes(pub(crate) u16);

impl Attributes {
    pub(crate) const fn new(kind: BatchKind) -> Attributes {
        Attributes((kind as u16) << 4)
    }

    /// 0 none, 1 lz4, 2 zstd.
    pub(crate) const fn codec(self) -> u16 {
        self.0 & 0xf
    }

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

/// A batch header as it is used; magic and checksum of the header are made when it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// The whole batch with header and padding, a multiple of 8.
    pub(crate) length: u32,
    pub(crate) body_crc: u32,
    pub(crate) base_offset: u64,
    /// The partition's durable offset when this was written: evidence.
    pub(crate) durable_before: u64,
    /// Offsets it takes.
    pub(crate) offset_count: u32,
    /// Fewer than offsets only after compaction.
    pub(crate) record_count: u32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    /// Wall clock at the write.
    pub(crate) appended_ms: i64,
    pub(crate) producer_id: u64,
    pub(crate) base_sequence: u32,
    pub(crate) producer_epoch: u16,
    pub(crate) attributes: Attributes,
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
    pub(crate) fn decode(bytes: &[u8], seed: Seed, position: u64, room: u64) -> Result<BatchHeader, FormatError> {
        let Some(&bytes) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Err(invalid("the file ends before a batch header does"));
        };
        let raw: Raw = bytemuck::must_cast(bytes);
        if raw.magic != MAGIC {
            return Err(invalid("no batch begins here"));
        }
        let computed = seed.crc(&[&position.to_le_bytes(), &bytes[8..]]);
        if raw.header_crc != computed {
            return Err(invalid(format!(
                "batch header checksum is {:#010x}, computed {computed:#010x}",
                raw.header_crc
            )));
        }
        let header = BatchHeader::from_raw(&raw);
        header.check(room).map(|()| header)
    }

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
            BatchKind::Records | BatchKind::Catalog | BatchKind::Offsets => self.offset_count > 0,
            BatchKind::Control => self.offset_count == 1,
            BatchKind::Filler | BatchKind::Snapshot => self.offset_count == 0,
        };
        if !counts_fit {
            return Err(invalid(format!("a batch of kind {kind:?} with {} offsets", self.offset_count)));
        }
        if self.attributes.codec() == 0 && self.uncompressed_length != 0 {
            return Err(invalid("a plain batch with an uncompressed length"));
        }
        Ok(())
    }

    /// Compares the body (everything behind the header, as stored) with its checksum.
    pub(crate) fn check_body(&self, body: &[u8]) -> Result<(), FormatError> {
        let computed = crc(body);
        if computed == self.body_crc {
            return Ok(());
        }
        Err(invalid(format!("batch checksum is {:#010x}, computed {computed:#010x}", self.body_crc)))
    }

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

/// The first place at or after `from` (a multiple of 8) where a batch may begin.
pub(crate) fn find_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let magic = MAGIC.to_le_bytes();
    let words = bytes.get(from..)?.as_chunks::<8>().0;
    words.iter().position(|word| word[..4] == magic).map(|at| from + at * 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::file_header::tests::example as file;

    pub(crate) fn example(body: &[u8]) -> BatchHeader {
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
}
