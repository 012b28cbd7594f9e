//! The bytes of a file, sparse and cheap to copy: what a disk or a page cache holds.
//!
//! Chunks are shared between copies until one is written, so a crash costs what it changes and not
//! what the files hold. Bytes never written, and bytes beyond a cut, read as zero.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, LazyLock, OnceLock};

use super::random::Trace;

const CHUNK_BYTES: usize = 4096;

/// Bytes, and their hash once somebody asked: images are hashed much more often than they are made.
#[derive(Debug, Clone)]
struct Chunk {
    bytes: [u8; CHUNK_BYTES],
    hash: OnceLock<u64>,
}

impl Chunk {
    fn zeros() -> Chunk {
        Chunk { bytes: [0; CHUNK_BYTES], hash: OnceLock::new() }
    }

    /// `None` if all are zeros.
    fn hash(&self) -> Option<u64> {
        static OF_ZEROS: LazyLock<u64> = LazyLock::new(|| fold(&[0; CHUNK_BYTES]));
        let hash = *self.hash.get_or_init(|| fold(&self.bytes));
        (hash != *OF_ZEROS).then_some(hash)
    }

    /// To be written; what it hashed to is forgotten.
    fn bytes_mut(this: &mut Arc<Chunk>) -> &mut [u8; CHUNK_BYTES] {
        let chunk = Arc::make_mut(this);
        chunk.hash = OnceLock::new();
        &mut chunk.bytes
    }
}

/// A file's length and bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    length: u64,
    /// `None` and everything beyond the vector are zeros.
    chunks: Vec<Option<Arc<Chunk>>>,
}

impl Image {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Copies what lies below the length; the number of bytes copied.
    pub(super) fn read(&self, position: u64, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.length.saturating_sub(position) as usize);
        self.read_or_zero(position, &mut buffer[..count]);
        count
    }

    /// Fills the buffer; bytes beyond the length are zeros.
    pub(super) fn read_or_zero(&self, position: u64, buffer: &mut [u8]) {
        for_each_chunk(position, buffer.len(), |chunk, within, part| {
            let part = &mut buffer[part];
            match self.chunks.get(chunk) {
                Some(Some(chunk)) => part.copy_from_slice(&chunk.bytes[within]),
                _ => part.fill(0),
            }
        });
    }

    /// Whether a block of 4,096 bytes holds nothing but zeros.
    pub(super) fn is_empty_block(&self, number: u64) -> bool {
        let chunk = self.chunks.get(number as usize).and_then(Option::as_ref);
        chunk.is_none_or(|chunk| chunk.hash().is_none())
    }

    /// All bytes from here on are zeros.
    pub(super) fn stored_end(&self) -> u64 {
        (self.chunks.len() * CHUNK_BYTES) as u64
    }

    /// The first place from `from` on where something was written; the length if there is none.
    pub(super) fn stored_from(&self, from: u64) -> u64 {
        let first = (from / CHUNK_BYTES as u64) as usize;
        let stored = self.chunks.iter().skip(first).position(Option::is_some);
        let at = stored.map_or(self.length, |after| ((first + after) * CHUNK_BYTES) as u64);
        at.min(self.length).max(from)
    }

    /// Bytes in chunks that were written.
    pub(super) fn stored_bytes(&self) -> u64 {
        (self.chunks.iter().filter(|chunk| chunk.is_some()).count() * CHUNK_BYTES) as u64
    }

    /// Adds length and bytes to a hash; zeros that were written don't differ from others.
    pub(super) fn hash_into(&self, hash: &mut impl Hasher) {
        self.length.hash(hash);
        for (at, chunk) in self.chunks.iter().enumerate() {
            if let Some(content) = chunk.as_ref().and_then(|chunk| chunk.hash()) {
                (at, content).hash(hash);
            }
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length as usize];
        self.read_or_zero(0, &mut bytes);
        bytes
    }

    /// Writes below the length; the rest is dropped.
    pub(super) fn write(&mut self, position: u64, bytes: &[u8]) {
        let count = bytes.len().min(self.length.saturating_sub(position) as usize);
        for_each_chunk(position, count, |chunk, within, part| {
            if self.chunks.len() <= chunk {
                self.chunks.resize(chunk + 1, None);
            }
            let stored = self.chunks[chunk].get_or_insert_with(|| Arc::new(Chunk::zeros()));
            Chunk::bytes_mut(stored)[within].copy_from_slice(&bytes[part]);
        });
    }

    /// Lengthens with zeros, or cuts.
    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            let whole = (length / CHUNK_BYTES as u64) as usize;
            let within = (length % CHUNK_BYTES as u64) as usize;
            self.chunks.truncate(whole + 1);
            if let Some(Some(last)) = self.chunks.get_mut(whole) {
                Chunk::bytes_mut(last)[within..].fill(0);
            }
        }
        self.length = length;
    }
}

/// A hash of a chunk, four words at a time.
fn fold(bytes: &[u8; CHUNK_BYTES]) -> u64 {
    const FACTORS: [u64; 4] =
        [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93];
    let mut lanes = FACTORS;
    for block in bytes.as_chunks::<8>().0.as_chunks::<4>().0 {
        for (lane, word) in block.iter().enumerate() {
            let mixed = (lanes[lane] ^ u64::from_le_bytes(*word)).wrapping_mul(FACTORS[lane]);
            lanes[lane] = mixed ^ (mixed >> 29);
        }
    }
    let mut hash = Trace::default();
    lanes.hash(&mut hash);
    hash.finish()
}

/// Calls with each chunk's index, the bytes within it, and their place in the buffer.
fn for_each_chunk(position: u64, count: usize, mut each: impl FnMut(usize, Range<usize>, Range<usize>)) {
    let mut done = 0;
    while done < count {
        let at = position + done as u64;
        let start = (at % CHUNK_BYTES as u64) as usize;
        let length = (CHUNK_BYTES - start).min(count - done);
        each((at / CHUNK_BYTES as u64) as usize, start..start + length, done..done + length);
        done += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_what_a_plain_vector_does() {
        let mut random = super::super::random::Random::new(1);
        let (mut image, mut model) = (Image::default(), Vec::<u8>::new());
        for round in 0..2_000u32 {
            let at = random.below(20_000);
            if random.below(4) == 0 {
                image.set_length(at as u64);
                model.resize(at, 0);
            } else {
                let bytes = vec![round as u8; random.below(9_000)];
                image.write(at as u64, &bytes);
                for (place, byte) in model.iter_mut().skip(at).zip(&bytes) {
                    *place = *byte;
                }
            }
            assert_eq!(image.length(), model.len() as u64);
        }
        assert_eq!(image.bytes(), model);
        let mut buffer = vec![1; 20_000];
        let count = image.read(100, &mut buffer);
        assert_eq!(buffer[..count], model[100..]);
    }

    #[test]
    fn a_copy_keeps_its_bytes() {
        let mut image = Image::default();
        image.set_length(1 << 35);
        image.write(10_000, b"before");
        let copy = image.clone();
        image.write(10_000, b"after!");
        let mut buffer = [0; 6];
        assert_eq!(copy.read(10_000, &mut buffer), 6);
        assert_eq!(&buffer, b"before");
    }
}
