//! A note in the file `evidence`: 32 bytes, none of which lies in two sectors.

use super::crc;
use crate::ids::{EngineId, TopicId};

/// What is noted of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) topic_id: TopicId,
    pub(crate) partition: u32,
    /// Everything below this offset was durable.
    pub(crate) durable_offset: u64,
    /// At this offset a reader met damage.
    pub(crate) damaged_at: Option<u64>,
}

impl Note {
    pub(crate) const BYTES: u64 = 32;

    /// Its bytes in the file with this inode number.
    pub(crate) fn encode(self, engine_id: EngineId, inode: u64) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[4..8].copy_from_slice(&self.partition.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.topic_id.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.durable_offset.to_le_bytes());
        let damaged_at = self.damaged_at.map_or(0, |offset| offset.saturating_add(1));
        bytes[24..].copy_from_slice(&damaged_at.to_le_bytes());
        let checksum = checksum(&bytes, engine_id, inode);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The note in these bytes, if they are one of this engine and this file.
    pub(crate) fn decode(bytes: &[u8], engine_id: EngineId, inode: u64) -> Option<Note> {
        let bytes: &[u8; 32] = bytes.first_chunk()?;
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let long = |at: usize| u64::from(word(at + 4)) << 32 | u64::from(word(at));
        let note = Note {
            topic_id: TopicId(word(8)),
            partition: word(4),
            durable_offset: long(16),
            damaged_at: long(24).checked_sub(1),
        };
        // A topic's id is never 0, so that zeros are no note whatever their checksum.
        (note.topic_id.0 != 0 && word(0) == checksum(bytes, engine_id, inode)).then_some(note)
    }
}

fn checksum(bytes: &[u8; 32], engine_id: EngineId, inode: u64) -> u32 {
    let mut covered = [0; 16 + 8 + 28];
    covered[..16].copy_from_slice(&engine_id.0);
    covered[16..24].copy_from_slice(&inode.to_le_bytes());
    covered[24..].copy_from_slice(&bytes[4..]);
    crc(&covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_whole_and_of_this_file_or_none() {
        let engine = EngineId([7; 16]);
        let note = Note { topic_id: TopicId(3), partition: 9, durable_offset: (1 << 62) + 5, damaged_at: None };
        let bytes = note.encode(engine, 11);
        assert_eq!(bytes[4..], [9, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Note::decode(&bytes, engine, 11), Some(note));
        assert_eq!(Note::decode(&bytes, engine, 12), None);
        assert_eq!(Note::decode(&bytes, EngineId([8; 16]), 11), None);
        assert_eq!(Note::decode(&bytes[..31], engine, 11), None);
        for bit in 0..256 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Note::decode(&flipped, engine, 11), None, "bit {bit}");
        }
        assert_eq!(Note::decode(&[0; 32], engine, 11), None);
        let damaged = Note { damaged_at: Some(258), ..note };
        assert_eq!(damaged.encode(engine, 11)[24..], [3, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Note::decode(&damaged.encode(engine, 11), engine, 11), Some(damaged));
    }
}
