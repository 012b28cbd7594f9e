//! One entry of a sparse index: 24 bytes that point to a batch.

use bytemuck::{Pod, Zeroable};

use super::checksum::Seed;
use super::{FormatError, invalid, newer};

pub(crate) const INDEX_ENTRY_BYTES: usize = 24;

/// Where a batch stands, and the largest timestamp before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IndexEntry {
    /// The batch's base offset less the segment's.
    pub(crate) relative_offset: u32,
    pub(crate) position: u32,
    /// Of all batches of the segment before this position (exclusive).
    pub(crate) max_timestamp_before: i64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Raw {
    relative_offset: u32,
    position: u32,
    max_timestamp_before: i64,
    crc: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Raw>() == INDEX_ENTRY_BYTES && core::mem::offset_of!(Raw, crc) == 16);

impl IndexEntry {
    /// The bytes with their checksum.
    pub(crate) fn encode(&self, seed: Seed) -> [u8; INDEX_ENTRY_BYTES] {
        let mut raw = Raw {
            relative_offset: self.relative_offset,
            position: self.position,
            max_timestamp_before: self.max_timestamp_before,
            crc: 0,
            reserved: 0,
        };
        raw.crc = seed.crc(&[&bytemuck::bytes_of(&raw)[..16]]);
        bytemuck::must_cast(raw)
    }

    /// Checks the first 24 bytes.
    pub(crate) fn decode(bytes: &[u8], seed: Seed) -> Result<IndexEntry, FormatError> {
        let Some(bytes) = bytes.first_chunk::<INDEX_ENTRY_BYTES>() else {
            return Err(invalid("the index ends within an entry"));
        };
        let raw: Raw = bytemuck::pod_read_unaligned(bytes);
        let computed = seed.crc(&[&bytes[..16]]);
        if raw.crc != computed {
            return Err(invalid(format!("index entry checksum is {:#010x}, computed {computed:#010x}", raw.crc)));
        }
        if raw.reserved != 0 {
            return Err(newer("reserved bytes of an index entry are set"));
        }
        Ok(IndexEntry {
            relative_offset: raw.relative_offset,
            position: raw.position,
            max_timestamp_before: raw.max_timestamp_before,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::file_header::tests::example as file;

    #[test]
    fn round_trip_and_flips() {
        let entry = IndexEntry { relative_offset: 7, position: 4096, max_timestamp_before: -5 };
        let seed = file().seed();
        let good = entry.encode(seed);
        assert_eq!(IndexEntry::decode(&good, seed), Ok(entry));
        for bit in 0..INDEX_ENTRY_BYTES * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(IndexEntry::decode(&bytes, seed).is_err(), "bit {bit}");
        }
        assert!(IndexEntry::decode(&[0; 24], seed).is_err());
        assert!(IndexEntry::decode(&good[..23], seed).is_err());
    }
}
