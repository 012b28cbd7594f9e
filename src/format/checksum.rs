//! CRC-32 (IEEE), plain for bodies and seeded for everything that is bound to its file.
//!
//! A seed is the CRC-32 of a file's identity; a seeded checksum is the CRC-32 of that identity and
//! the bytes, one behind the other. So what was written for another file never validates here.

use crate::ids::LogId;

/// Where every checksum of one file begins: bytes of another file, or of another rewrite of the
/// same one, don't validate here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seed(u32);

impl Seed {
    /// CRC-32 of engine id, topic id, partition, file id and rewrite, little-endian, one behind the other.
    pub(crate) fn new(log: &LogId, file_id: u64, rewrite: u32) -> Seed {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&log.engine_id.0);
        hasher.update(&log.topic_id.0.to_le_bytes());
        hasher.update(&log.partition.to_le_bytes());
        hasher.update(&file_id.to_le_bytes());
        hasher.update(&rewrite.to_le_bytes());
        Seed(hasher.finalize())
    }

    /// The checksum of the parts, one behind the other, from this seed on.
    pub(crate) fn crc(self, parts: &[&[u8]]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize()
    }
}

/// The seed with which the parts have this checksum: every step of the sum can be taken back.
pub(crate) fn seed_for(checksum: u32, parts: &[&[u8]]) -> Seed {
    let mut table = [0_u32; 256];
    let mut by_top = [0_usize; 256];
    for (at, entry) in table.iter_mut().enumerate() {
        let step = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
        *entry = (0..8).fold(at as u32, step);
        by_top[(*entry >> 24) as usize] = at;
    }
    let mut sum = !checksum;
    for &byte in parts.iter().rev().flat_map(|part| part.iter().rev()) {
        let at = by_top[(sum >> 24) as usize];
        sum = (sum ^ table[at]) << 8 | (at as u32 ^ u32::from(byte));
    }
    Seed(!sum)
}

/// The plain checksum.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The plain checksum of what had the checksum `before` (0 of nothing) and these bytes behind it.
pub(crate) fn crc_on(before: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(before);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{EngineId, TopicId};

    #[test]
    fn plain_is_ieee() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn every_part_of_the_identity_changes_the_seed() {
        let log = LogId { engine_id: EngineId([1; 16]), topic_id: TopicId(2), partition: 3 };
        let seeds = [
            Seed::new(&log, 4, 0),
            Seed::new(&LogId { engine_id: EngineId([9; 16]), ..log }, 4, 0),
            Seed::new(&LogId { topic_id: TopicId(9), ..log }, 4, 0),
            Seed::new(&LogId { partition: 9, ..log }, 4, 0),
            Seed::new(&log, 9, 0),
            Seed::new(&log, 4, 9),
        ];
        for (at, seed) in seeds.iter().enumerate() {
            assert!(seeds[..at].iter().all(|other| other.crc(&[b"x"]) != seed.crc(&[b"x"])), "seed {at}");
        }
    }

    #[test]
    fn a_seed_follows_from_what_it_seeded() {
        let log = LogId { engine_id: EngineId([1; 16]), topic_id: TopicId(2), partition: 3 };
        for number in 0..100_u64 {
            let seed = Seed::new(&log, number, 0);
            let parts = [&number.to_le_bytes()[..], &[number as u8; 17]];
            assert_eq!(seed_for(seed.crc(&parts), &parts), seed);
        }
    }

    #[test]
    fn the_seed_stands_before_the_bytes() {
        let log = LogId { engine_id: EngineId(*b"0123456789abcdef"), topic_id: TopicId(7), partition: 2 };
        let seed = Seed::new(&log, 0x1122_3344_5566_7788, 0);
        assert_eq!(seed, Seed(0x2290_c93f));
        let identity = [
            &b"0123456789abcdef"[..],
            &7_u32.to_le_bytes(),
            &2_u32.to_le_bytes(),
            &0x1122_3344_5566_7788_u64.to_le_bytes(),
            &0_u32.to_le_bytes(),
        ]
        .concat();
        assert_eq!(seed.crc(&[b"12", b"", b"3"]), crc(&[&identity[..], b"123"].concat()));
    }
}
