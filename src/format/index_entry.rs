//! One entry of a sparse index: 24 bytes that point to a batch.
//!
//! Offset and position can be checked against the batch; the timestamp can't, so the entry has a
//! checksum of its own, seeded by the file. How entries follow one another is not looked at here.

use bytemuck::{Pod, Zeroable};

use super::checksum::Seed;
use super::{FormatError, invalid, newer};

/// An entry's length.
pub(crate) const INDEX_ENTRY_BYTES: usize = 24;

/// Where a batch stands, and the largest timestamp before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IndexEntry {
    /// The batch's base offset less the segment's.
    pub(crate) relative_offset: u32,
    /// Where the batch stands in the segment.
    pub(crate) position: u32,
    /// Of all batches of the segment before this position (exclusive).
    pub(crate) max_timestamp_before: i64,
}

/// The entry as it stands in the file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Raw {
    relative_offset: u32,
    position: u32,
    max_timestamp_before: i64,
    crc: u32,
    reserved: u32,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Raw>() == INDEX_ENTRY_BYTES);
    assert!(offset_of!(Raw, relative_offset) == 0 && offset_of!(Raw, position) == 4);
    assert!(offset_of!(Raw, max_timestamp_before) == 8);
    assert!(offset_of!(Raw, crc) == 16 && offset_of!(Raw, reserved) == 20);
};

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
    ///
    /// # Errors
    /// [`FormatError::Newer`] if the checksum fits and the reserved bytes are set, else
    /// [`FormatError::Invalid`].
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
    use proptest::prelude::*;

    use super::*;
    use crate::format::file_header::tests::example as file;
    use crate::format::unhex;

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

    #[test]
    fn layout_and_seed() {
        let entry = IndexEntry { relative_offset: 7, position: 4096, max_timestamp_before: -5 };
        let bytes = entry.encode(file().seed());
        assert_eq!(bytes[..], unhex("0700000000100000fbffffffffffffff24ea87c400000000"));
        let other = Seed::new(&file().log, 5, 0);
        assert!(matches!(IndexEntry::decode(&bytes, other), Err(FormatError::Invalid(_))), "another file");
        for at in 20..24 {
            let mut bytes = bytes;
            bytes[at] = 1;
            assert!(matches!(IndexEntry::decode(&bytes, file().seed()), Err(FormatError::Newer(_))), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn any_entry_round_trips(relative_offset in any::<u32>(), position in any::<u32>(), max_timestamp_before in any::<i64>()) {
            let entry = IndexEntry { relative_offset, position, max_timestamp_before };
            prop_assert_eq!(IndexEntry::decode(&entry.encode(file().seed()), file().seed()), Ok(entry));
        }
    }
}
