//! What is appended, and what came back: records that can't be compressed and are all different,
//! and a running count and hash of those that were read.
//!
//! Record *n* is a window into one block of random bytes, so handing it over costs the caller
//! nothing, and what it must be when it is read is known without being kept.

use std::sync::OnceLock;
use std::time::Instant;

const BLOCK: usize = 1 << 20;

/// Odd, so that successive records begin at different places, and all places are used.
const STRIDE: u64 = 131;

/// The random bytes, made once, the same in each run.
fn block() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut bytes = Vec::with_capacity(BLOCK);
        while bytes.len() < BLOCK {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
        bytes
    })
}

/// The records `next` (inclusive) to `end` (exclusive), of one size each.
#[derive(Clone)]
pub(crate) struct Span {
    block: &'static [u8],
    bytes: usize,
    next: u64,
    end: u64,
}

impl Span {
    pub(crate) fn new(bytes: usize, records: std::ops::Range<u64>) -> Span {
        Span { block: block(), bytes, next: records.start, end: records.end }
    }

    /// Splits off the first `count` records, or fewer if there are no more.
    pub(crate) fn take_span(&mut self, count: u64) -> Span {
        let middle = self.next.saturating_add(count).min(self.end);
        let head = Span { end: middle, ..self.clone() };
        self.next = middle;
        head
    }
}

impl Iterator for Span {
    type Item = &'static [u8];

    #[inline]
    fn next(&mut self) -> Option<&'static [u8]> {
        if self.next == self.end {
            return None;
        }
        let places = (BLOCK - self.bytes) as u64;
        let start = (self.next.wrapping_mul(STRIDE) % places) as usize;
        self.next += 1;
        Some(&self.block[start..start + self.bytes])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.end - self.next) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Span {}

/// Count and hash of records: every byte of each goes in.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Changes with the order of the records.
    pub(crate) in_order: u64,
    /// Doesn't: for what several threads appended at once.
    pub(crate) any_order: u64,
    deadline: Option<Instant>,
}

impl Tally {
    pub(crate) fn until(deadline: Option<Instant>) -> Tally {
        Tally { records: 0, bytes: 0, in_order: 0, any_order: 0, deadline }
    }

    /// What reading these records must give.
    pub(crate) fn of(records: impl Iterator<Item = &'static [u8]>) -> Tally {
        let mut tally = Tally::until(None);
        for record in records {
            tally.add(record);
        }
        tally
    }

    /// At each of the first records, because they may be slow ones, then at every 64th.
    #[inline]
    fn looks_at_clock(&self) -> bool {
        self.records <= 64 || self.records.is_multiple_of(64)
    }

    /// Counts one record in. False when the time is up: then stop reading.
    #[inline]
    pub(crate) fn add(&mut self, record: &[u8]) -> bool {
        let hash = sum(record).wrapping_add(record.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.records += 1;
        self.bytes += record.len() as u64;
        self.in_order = (self.in_order.rotate_left(5) ^ hash).wrapping_mul(0x2545_F491_4F6C_DD1D);
        self.any_order = self.any_order.wrapping_add(hash);
        !(self.looks_at_clock() && self.deadline.is_some_and(|deadline| Instant::now() >= deadline))
    }
}

/// The sum of a record's words: as cheap as looking at every byte can be.
#[inline]
fn sum(record: &[u8]) -> u64 {
    let (words, rest) = record.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().fold(u64::from_le_bytes(last), |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_loss_and_damage_show_in_the_tally() {
        let all = Tally::of(Span::new(100, 0..1000));
        let swapped =
            Tally::of(Span::new(100, 0..998).chain(Span::new(100, 999..1000)).chain(Span::new(100, 998..999)));
        assert_ne!(all.in_order, swapped.in_order);
        assert_eq!(all.any_order, swapped.any_order);
        assert_ne!(all.any_order, Tally::of(Span::new(100, 0..999)).any_order);
        let mut damaged = Tally::of(Span::new(100, 0..999));
        let mut record = Span::new(100, 999..1000).next().unwrap().to_vec();
        record[99] ^= 1;
        damaged.add(&record);
        assert_ne!(all.in_order, damaged.in_order);
    }

    #[test]
    fn a_million_records_are_nearly_all_different() {
        let mut starts: Vec<_> = Span::new(100, 0..1_000_000).map(|record| record.as_ptr()).collect();
        starts.sort_unstable();
        starts.dedup();
        assert!(starts.len() > 990_000, "{}", starts.len());
    }
}
