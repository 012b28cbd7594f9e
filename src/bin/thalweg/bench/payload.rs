//! The bytes of records: incompressible, the same for the same seed, and known again when they are read.
//!
//! Value n of producer p is a piece of one pool of random bytes, at a place that seed, p and n give: it
//! is sent without being copied first, and can be said again without having been kept.

use super::values::RecordSize;

/// Fits into a core's cache, so that reading it costs the engine and its floor little, and alike.
const POOL_BYTES: usize = 1 << 20;

/// So many producers have values of their own; of more, some share them.
const PRODUCERS: usize = 64;

#[derive(Debug)]
pub(crate) struct Payloads {
    pool: Vec<u8>,
    size: RecordSize,
    seed: u64,
}

impl Payloads {
    pub(crate) fn new(size: RecordSize, seed: u64) -> Payloads {
        let mut pool = Vec::with_capacity(POOL_BYTES + size.max + 8);
        let mut state = seed;
        while pool.len() < POOL_BYTES + size.max {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            pool.extend_from_slice(&mix(state).to_le_bytes());
        }
        Payloads { pool, size, seed: mix(seed) }
    }

    /// Random bytes to fill buffers with.
    pub(crate) fn pool(&self) -> &[u8] {
        &self.pool
    }

    /// Value number `n` of a producer.
    #[inline]
    pub(crate) fn value(&self, producer: usize, n: u64) -> &[u8] {
        let chance = mix(self.seed ^ ((producer as u64) << 48) ^ n);
        // No two producers share a place: else it couldn't be told whose value is read.
        let start = (chance as usize % (POOL_BYTES / 8 / PRODUCERS) * PRODUCERS + producer % PRODUCERS) * 8;
        let span = (self.size.max - self.size.min + 1) as u64;
        let length = self.size.min + (((chance >> 32) * span) >> 32) as usize;
        &self.pool[start..start + length]
    }
}

/// Splitmix64's last step: every bit of the outcome depends on every bit of `x`.
#[inline]
pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Which partition a producer sends its value number `n` to, and back: one after the other, so that
/// producer p's values n, n + P, n + 2P… go to one of P partitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) partitions: u32,
    /// Each producer keeps to one partition instead.
    pub(crate) fixed: bool,
}

impl Spread {
    /// The first value of a producer that goes to `partition`, and the step to the next; none does if
    /// there is no first.
    fn of(self, producer: usize, partition: u32) -> Option<(u64, u64)> {
        let own = producer as u32 % self.partitions;
        if self.fixed {
            return (own == partition).then_some((0, 1));
        }
        Some((u64::from((partition + self.partitions - own) % self.partitions), u64::from(self.partitions)))
    }

    /// Where a producer's value number `n` goes.
    pub(crate) fn at(self, producer: usize, n: u64) -> u32 {
        let n = if self.fixed { 0 } else { n };
        ((producer as u64 + n) % u64::from(self.partitions)) as u32
    }

    /// Where it goes on after `partition`.
    #[inline]
    pub(crate) fn next(self, partition: u32) -> u32 {
        match partition + 1 {
            _ if self.fixed => partition,
            next if next == self.partitions => 0,
            next => next,
        }
    }
}

/// Compares what a partition holds with what was sent to it: each producer's values, all of them and in
/// order, mixed as it may be.
#[derive(Debug)]
pub(crate) struct Checker<'a> {
    payloads: &'a Payloads,
    /// Of each producer that sends here: its number, its next value, the step to the one after.
    next: Vec<(usize, u64, u64)>,
    partition: u32,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(payloads: &'a Payloads, producers: usize, spread: Spread, partition: u32) -> Checker<'a> {
        let next = (0..producers)
            .filter_map(|producer| spread.of(producer, partition).map(|(first, step)| (producer, first, step)))
            .collect();
        Checker { payloads, next, partition }
    }

    /// The value at `offset` must be the next one of some producer.
    pub(crate) fn check(&mut self, offset: u64, value: Option<&[u8]>) -> Result<(), String> {
        for (producer, n, step) in &mut self.next {
            if value == Some(self.payloads.value(*producer, *n)) {
                *n += *step;
                return Ok(());
            }
        }
        Err(self.wrong(offset, value))
    }

    /// Every value that was sent must have been there: each producer sent so many, to all partitions.
    pub(crate) fn finish(&self, sent: &[u64]) -> Result<(), String> {
        match self.next.iter().find(|(producer, n, _)| *n < sent[*producer]) {
            None => Ok(()),
            Some((producer, n, _)) => Err(format!(
                "verify: partition {}: value {n} of producer {producer} is missing, of {} that it sent",
                self.partition, sent[*producer]
            )),
        }
    }

    fn wrong(&self, offset: u64, value: Option<&[u8]>) -> String {
        let place = format!("verify: partition {}, offset {offset}", self.partition);
        let Some(value) = value else { return format!("{place}: the value is null") };
        // The one that it is most alike says which byte is wrong.
        let alike = |expected: &[u8]| value.iter().zip(expected).take_while(|(a, b)| a == b).count();
        let closest =
            self.next.iter().map(|&(producer, n, _)| self.payloads.value(producer, n)).max_by_key(|value| alike(value));
        match closest {
            Some(expected) if expected.len() != value.len() => {
                format!("{place}: {} bytes instead of {}", value.len(), expected.len())
            }
            Some(expected) => format!("{place}: byte {} is not the one that was sent", alike(expected)),
            None => format!("{place}: nothing was sent there"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: RecordSize = RecordSize { min: 10, max: 300 };

    #[test]
    fn values_are_the_same_again_within_their_range_and_unlike_each_other() {
        let (payloads, again, other) = (Payloads::new(SIZE, 7), Payloads::new(SIZE, 7), Payloads::new(SIZE, 8));
        let lengths: Vec<_> = (0..10_000).map(|n| payloads.value(1, n).len()).collect();
        assert!((0..1_000).all(|n| payloads.value(1, n) == again.value(1, n)));
        assert!((0..1_000).all(|n| payloads.value(1, n) != other.value(1, n)));
        assert!((0..1_000).all(|n| payloads.value(1, n) != payloads.value(2, n)));
        assert_eq!((lengths.iter().min(), lengths.iter().max()), (Some(&10), Some(&300)));
    }

    /// What two producers' sending gives, in one partition of two.
    fn sent(payloads: &Payloads, spread: Spread) -> Vec<&[u8]> {
        let mut values = Vec::new();
        for n in 0..20 {
            for producer in 0..2 {
                let mut at = spread.at(producer, 0);
                (0..n).for_each(|_| at = spread.next(at));
                assert_eq!(at, spread.at(producer, n));
                if at == 1 {
                    values.push(payloads.value(producer, n));
                }
            }
        }
        values
    }

    fn run(payloads: &Payloads, values: &[Vec<u8>], counts: &[u64]) -> Result<(), String> {
        let mut checker = Checker::new(payloads, 2, SPREAD, 1);
        for (offset, value) in values.iter().enumerate() {
            checker.check(offset as u64, Some(value))?;
        }
        checker.finish(counts)
    }

    const SPREAD: Spread = Spread { partitions: 2, fixed: false };

    #[test]
    fn the_checker_accepts_what_was_sent_and_sees_every_difference() {
        let payloads = Payloads::new(SIZE, 7);
        let values: Vec<Vec<u8>> = sent(&payloads, SPREAD).into_iter().map(<[u8]>::to_vec).collect();
        assert_eq!(values.len(), 20);
        assert_eq!(run(&payloads, &values, &[20, 20]), Ok(()));

        let mut wrong = values.clone();
        wrong[13][9] ^= 1;
        let error = run(&payloads, &wrong, &[20, 20]).unwrap_err();
        assert_eq!(error, "verify: partition 1, offset 13: byte 9 is not the one that was sent");

        let mut doubled = values.clone();
        doubled.insert(5, values[4].clone());
        assert!(run(&payloads, &doubled, &[20, 20]).unwrap_err().contains("offset 5"));

        let mut swapped = values.clone();
        swapped.swap(4, 6);
        assert!(run(&payloads, &swapped, &[20, 20]).unwrap_err().contains("offset 4"));

        let cut = &values[..19];
        assert!(run(&payloads, cut, &[20, 20]).unwrap_err().contains("is missing, of 20 that it sent"));
        let mut short = values.clone();
        short[3].pop();
        assert!(run(&payloads, &short, &[20, 20]).unwrap_err().contains("offset 3"));
    }

    #[test]
    fn a_producer_may_keep_to_one_partition() {
        let payloads = Payloads::new(SIZE, 7);
        let fixed = Spread { partitions: 2, fixed: true };
        let mut checker = Checker::new(&payloads, 3, fixed, 0);
        for (producer, n) in [(0, 0), (2, 0), (2, 1), (0, 1)] {
            checker.check(0, Some(payloads.value(producer, n))).unwrap();
        }
        assert!(checker.check(9, Some(payloads.value(1, 0))).unwrap_err().contains("offset 9"));
        assert_eq!(checker.check(9, None), Err("verify: partition 0, offset 9: the value is null".to_owned()));
        assert_eq!(checker.finish(&[2, 9, 2]), Ok(()));
    }
}
