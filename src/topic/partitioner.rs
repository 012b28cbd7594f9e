//! Which partition a record goes to: Kafka's rules, so that keys land where Kafka puts them.
//!
//! With a key: murmur2 of the key. Without: one partition until a batch's worth of bytes went
//! there, then another drawn at random, which fills batches instead of spreading single records.

use crate::lock::{AtomicU64, Ordering};

/// The partition of a key: `(murmur2(key) & 0x7fffffff) % partitions`. An empty key is a key.
pub(crate) fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// MurmurHash2, 32 bits, with Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, &byte| tail << 8 | u32::from(byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

/// Where a topic's keyless records go. Shared by all producers of the topic; no lock.
#[derive(Debug)]
pub(crate) struct StickyPartitioner {
    batch_bytes: u64,
    /// The partition in the upper bits; in the lower ones the bytes that went to it.
    state: AtomicU64,
    /// Random numbers: splitmix64.
    random: AtomicU64,
}

/// Bits of the state that count bytes; no count comes near it.
const BYTES_BITS: u32 = 40;
const BYTES_MASK: u64 = (1 << BYTES_BITS) - 1;
/// In place of a partition: none was chosen yet.
const NONE: u64 = u64::MAX >> BYTES_BITS;

impl StickyPartitioner {
    /// Changes the partition once `batch_bytes` went to it; draws depend on `seed` alone.
    pub(crate) fn new(batch_bytes: u64, seed: u64) -> StickyPartitioner {
        StickyPartitioner {
            batch_bytes: batch_bytes.min(BYTES_MASK),
            state: AtomicU64::new(NONE << BYTES_BITS | BYTES_MASK),
            random: AtomicU64::new(seed),
        }
    }

    /// The partition for a keyless record of `bytes` as stored: the one before until at least
    /// `batch_bytes` went there, then another.
    #[inline]
    pub(crate) fn choose(&self, partitions: u32, bytes: u64) -> u32 {
        if partitions <= 1 {
            return 0;
        }
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let (current, filled) = (state >> BYTES_BITS, state & BYTES_MASK);
            let (chosen, before) = if filled < self.batch_bytes && current < u64::from(partitions) {
                (current, filled)
            } else {
                (self.draw(current, u64::from(partitions)), 0)
            };
            let after = chosen << BYTES_BITS | before.saturating_add(bytes).min(BYTES_MASK);
            match self.state.compare_exchange_weak(state, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return chosen as u32,
                Err(now) => state = now,
            }
        }
    }

    /// One of `partitions` (two or more), but not `current`.
    #[cold]
    fn draw(&self, current: u64, partitions: u64) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut random = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        random = (random ^ random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        random = (random ^ random >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        random ^= random >> 31;
        let others = if current < partitions { partitions - 1 } else { partitions };
        let drawn = ((u128::from(random) * u128::from(others)) >> 64) as u64;
        if current <= drawn { drawn + 1 } else { drawn }
    }
}

#[cfg(test)]
mod tests {
    //! Keys against Kafka's own outcomes (`tests/data/partitioner.json`), the sticky rule by its
    //! words: stays, moves on, never twice in a row, spreads evenly, same seed same draws.

    use super::*;

    fn vectors() -> serde_json::Value {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/partitioner.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn key(vector: &serde_json::Value) -> Vec<u8> {
        let hex = vector["key_hex"].as_str().unwrap();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn murmur2_is_kafkas() {
        let vectors = vectors();
        let vectors = vectors["murmur2"].as_array().unwrap();
        assert_eq!(vectors.len(), 12);
        for vector in vectors {
            let expected = vector["murmur2_i32"].as_i64().unwrap();
            assert_eq!(i64::from(murmur2(&key(vector)).cast_signed()), expected, "{vector}");
        }
        assert_eq!(murmur2(b""), 0x106e_08d9);
    }

    #[test]
    fn keys_go_where_kafka_puts_them() {
        let vectors = vectors();
        let vectors = vectors["partition_choice_keyed"].as_array().unwrap();
        assert_eq!(vectors.len(), 12);
        for vector in vectors {
            for (count, expected) in vector["partition_by_count"].as_object().unwrap() {
                let chosen = partition_for_key(&key(vector), count.parse().unwrap());
                assert_eq!(u64::from(chosen), expected.as_u64().unwrap(), "{count} partitions, {vector}");
            }
        }
        assert_eq!(partition_for_key(b"x", 0), 0);
    }

    #[test]
    fn sticks_until_a_batch_is_full_then_moves() {
        let sticky = StickyPartitioner::new(100, 7);
        let mut before = None;
        for _ in 0..1_000 {
            // 40 + 40 < 100, so a third goes there too; then 120 >= 100.
            let chosen: Vec<u32> = (0..3).map(|_| sticky.choose(5, 40)).collect();
            assert!(chosen[0] < 5 && chosen.iter().all(|&one| one == chosen[0]), "{chosen:?}");
            assert_ne!(Some(chosen[0]), before);
            before = Some(chosen[0]);
        }
    }

    #[test]
    fn one_record_of_a_batch_or_more_moves_each_time() {
        let sticky = StickyPartitioner::new(100, 1);
        let chosen: Vec<u32> = (0..100).map(|_| sticky.choose(2, u64::MAX)).collect();
        assert!(chosen.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!((0..10).map(|_| sticky.choose(1, 1_000)).max(), Some(0));
    }

    #[test]
    fn spreads_evenly_and_alike_for_one_seed() {
        let run = |seed| {
            let sticky = StickyPartitioner::new(1, seed);
            (0..60_000).map(|_| sticky.choose(6, 1)).collect::<Vec<u32>>()
        };
        let chosen = run(42);
        for partition in 0..6 {
            let count = chosen.iter().filter(|&&one| one == partition).count();
            assert!((9_500..10_500).contains(&count), "partition {partition}: {count}");
        }
        assert_eq!(chosen, run(42));
        assert_ne!(chosen, run(43));
    }

    #[test]
    fn a_smaller_topic_of_the_same_name_is_in_bounds() {
        let sticky = StickyPartitioner::new(1 << 20, 3);
        for partitions in [100_000, 2, 50, 3] {
            for _ in 0..50 {
                assert!(sticky.choose(partitions, 1) < partitions);
            }
        }
    }

    #[test]
    fn many_threads_lose_no_bytes() {
        let sticky = StickyPartitioner::new(1_000, 9);
        let counts: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25_000 {
                        counts[sticky.choose(4, 10) as usize].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        // A partition is left after exactly 100 records of 10 bytes, whoever sent them.
        for count in counts {
            assert_eq!(count.into_inner() % 100, 0);
        }
    }
}
