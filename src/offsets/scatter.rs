//! The hash of the offset log's tables: small whole numbers as keys, millions of look-ups a second.
//!
//! A secret drawn once per process keeps a file from being made to collide; nothing depends on the
//! order that it gives.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::lock::OnceLock;

/// Makes [`Scatter`]s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scattered {
    secret: u64,
}

impl Default for Scattered {
    fn default() -> Scattered {
        static SECRET: OnceLock<u64> = OnceLock::new();
        Scattered { secret: *SECRET.get_or_init(|| RandomState::new().hash_one(0_u64)) }
    }
}

impl BuildHasher for Scattered {
    type Hasher = Scatter;

    fn build_hasher(&self) -> Scatter {
        Scatter { secret: self.secret, state: self.secret }
    }
}

/// Folds each number in with a multiplication of twice its width.
pub(crate) struct Scatter {
    secret: u64,
    state: u64,
}

impl Hasher for Scatter {
    fn finish(&self) -> u64 {
        fold(self.state ^ self.secret.rotate_left(32))
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.state = fold(self.state.rotate_left(23) ^ number).wrapping_add(self.secret);
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
        self.write_u64(bytes.len() as u64);
    }
}

fn fold(number: u64) -> u64 {
    let product = u128::from(number) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn neighbours_are_far_apart() {
        let scattered = Scattered::default();
        // As a table of 4,096 places and 7 bits of tag would see them.
        for shift in [0, 52] {
            let places: HashSet<_> =
                (0..4_096_u32).map(|at| scattered.hash_one((1_u32, at)) >> shift & 0xfff).collect();
            assert!((2_300..2_900).contains(&places.len()), "a random one fills 2,589: {}", places.len());
        }
        let all: HashSet<_> =
            (0..300_u32).flat_map(|a| (0..300_u32).map(move |b| scattered.hash_one((a, b)))).collect();
        assert_eq!(all.len(), 90_000);
        assert_eq!(scattered.hash_one((3_u32, 4_u32)), Scattered::default().hash_one((3_u32, 4_u32)));
    }

    #[test]
    fn bytes_count_and_how_many_they_are() {
        let hash = |bytes: &[u8]| {
            let mut scatter = Scattered::default().build_hasher();
            scatter.write(bytes);
            scatter.finish()
        };
        let all = [&b""[..], &[0], &[1], &[0, 0], &[0; 8], &[0; 9], b"eight by", b"eight bytes", b"eight bytez"];
        assert_eq!(all.map(hash).iter().collect::<HashSet<_>>().len(), all.len());
        assert_eq!(hash(b"eight bytes"), hash(b"eight bytes"));
    }
}
