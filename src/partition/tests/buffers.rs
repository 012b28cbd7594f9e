//! How much memory a partition's open groups take, and that all of it comes back.

use std::collections::VecDeque;

use super::Bell;
use crate::error::{Error, ErrorKind};
use crate::format::{BATCH_HEADER_BYTES, MAX_KEY_BYTES, MAX_OFFSET, record_bytes};
use crate::lock::AtomicU64;
use crate::panics::wake_each;
use crate::partition::intake::{Group, Incoming, Intake, Push, SizeLimits, Tickets};
use crate::partition::pool::Pool;
use crate::partition::progress::{Caller, Progress};

const KIB: usize = 1 << 10;

struct Taking {
    intake: Intake,
    pool: Pool,
    progress: Progress,
    tickets: Tickets,
}

impl Taking {
    fn new(limit_bytes: usize, write_bytes: usize) -> Taking {
        let (intake, pool) = (Intake::new(0, 1, 1), Pool::new(limit_bytes, write_bytes));
        Taking { intake, pool, progress: Progress::new(0, 0, 0), tickets: Tickets::default() }
    }

    /// Takes one record, whose batch has so many bytes.
    fn push(&mut self, batch_bytes: usize) -> Push {
        let around = BATCH_HEADER_BYTES + record_bytes(None, Some(0), &[]) as usize;
        let value = vec![b'x'; batch_bytes - around];
        let record = Incoming { timestamp: 0, key: None, value: Some(&value), headers: &[] };
        assert_eq!(BATCH_HEADER_BYTES + record.stored_bytes() as usize, batch_bytes);
        let bytes = record.stored_bytes();
        self.intake.push(&[record], bytes, false, &self.pool, &self.progress, self.tickets, None)
    }

    fn is_taken(&mut self, batch_bytes: usize) -> bool {
        matches!(self.push(batch_bytes), Push::Taken { .. })
    }

    /// As many as are taken in a row; the rest finds that this partition is at its limit.
    fn fill(&mut self, batch_bytes: usize) -> usize {
        let mut count = 0;
        loop {
            match self.push(batch_bytes) {
                Push::Taken { .. } if count < 100 => count += 1,
                Push::Full { own_limit } => break assert!(own_limit),
                other => panic!("{other:?}"),
            }
        }
        count
    }

    fn take(&mut self) -> VecDeque<Group> {
        let mut groups = VecDeque::new();
        self.intake.take(&mut groups);
        groups
    }

    fn give_back(&mut self, group: Group) {
        assert!(self.intake.give_back(group, &self.pool).is_empty(), "nobody waits");
    }

    /// How many bytes stand in each group that the writer takes now, and how many it has room for, in KiB.
    fn sizes(&mut self) -> Vec<(usize, usize)> {
        let mut sizes = Vec::new();
        for group in self.take() {
            sizes.push((group.bytes.len() / KIB, group.bytes.capacity() / KIB));
            self.give_back(group);
        }
        sizes
    }
}

#[test]
fn batches_share_a_buffer_as_long_as_there_is_room() {
    let mut taking = Taking::new(4 << 20, 64 * KIB);
    assert!((0..12).all(|_| taking.is_taken(8 * KIB)));
    assert_eq!(taking.sizes(), [(16, 16), (64, 64), (16, 64)]);
    assert!(taking.is_taken(100 * KIB) && taking.is_taken(8 * KIB));
    assert_eq!(taking.sizes(), [(108, 128)], "a batch that one write doesn't carry has a larger buffer");
}

#[test]
fn buffers_grow_with_what_comes_and_shrink_where_less_than_a_quarter_is_used() {
    let mut taking = Taking::new(4 << 20, 256 * KIB);
    assert!((0..11).all(|_| taking.is_taken(8 * KIB)));
    assert_eq!(taking.sizes(), [(16, 16), (64, 64), (8, 256)]);
    for (bytes, sizes) in [(16, (16, 64)), (8, (8, 64)), (4, (4, 16)), (1, (1, 16)), (1, (1, 16))] {
        assert!(taking.is_taken(bytes * KIB));
        assert_eq!(taking.sizes(), [sizes]);
    }
}

#[test]
fn a_partition_takes_half_of_the_buffers_and_more_when_one_comes_back() {
    let mut taking = Taking::new(288 * KIB, 64 * KIB);
    assert_eq!(taking.fill(8 * KIB), 2 + 8 + 8);
    let mut groups = taking.take();
    assert_eq!(taking.fill(8 * KIB), 0, "the writer has them still");
    let mut give_back = |taking: &mut Taking| taking.give_back(groups.pop_front().unwrap());
    give_back(&mut taking);
    assert_eq!(taking.fill(8 * KIB), 0, "16 KiB came back, and 64 KiB are wanted");
    give_back(&mut taking);
    assert_eq!(taking.fill(8 * KIB), 8);
    give_back(&mut taking);
    assert_eq!(taking.fill(8 * KIB), 8);
}

#[test]
fn what_fails_gives_its_buffers_back() {
    let mut taking = Taking::new(272 * KIB, 64 * KIB);
    assert_eq!([taking.is_taken(8 * KIB), taking.is_taken(8 * KIB)], [true, true]);
    let mut with_the_writer = taking.take();
    assert_eq!(taking.fill(8 * KIB), 2 + 8);
    let woken = taking.intake.fail(Error::new(ErrorKind::NoRoom), &taking.pool, &taking.progress);
    assert!(woken.is_empty(), "nobody waits");
    assert!(taking.intake.is_empty() && taking.take().is_empty());
    assert_eq!(taking.fill(8 * KIB), 8, "the writer has 16 of the 136 KiB");
    taking.give_back(with_the_writer.pop_front().unwrap());
    assert_eq!(taking.fill(8 * KIB), 8);
}

#[test]
fn an_intake_is_empty_when_the_writer_has_all_of_it() {
    let mut taking = Taking::new(32 * KIB, 64 * KIB);
    assert!(taking.intake.is_empty());
    assert!(taking.is_taken(16 * KIB));
    assert!(!taking.intake.is_empty());
    assert_eq!(taking.fill(16 * KIB), 0);
    assert!(!taking.intake.is_empty(), "no group is open, and one is full");
    taking.take();
    assert!(taking.intake.is_empty());
}

#[test]
fn who_waits_for_a_buffer_goes_before_newcomers() {
    let mut taking = Taking::new(4 << 20, 64 * KIB);
    let (bell, waker) = Bell::new();
    let mut ticket = None;
    assert!(taking.intake.queue.wait(&mut ticket, waker, Caller::Thread).is_none());
    assert_eq!(taking.fill(8 * KIB), 0);
    taking.tickets.own = ticket;
    assert!(taking.is_taken(8 * KIB));
    let group = taking.take().pop_front().unwrap();
    wake_each(taking.intake.give_back(group, &taking.pool));
    assert_eq!(bell.rung(), 1);
}

#[test]
fn the_last_offset_may_be_a_batch_of_its_own() {
    let mut taking = Taking::new(4 << 20, 64 * KIB);
    taking.intake = Intake::new(MAX_OFFSET - 1, 1, 1);
    assert!(taking.is_taken(KIB));
    assert!(matches!(taking.push(KIB), Push::Refused(_)));
    assert_eq!(taking.intake.next_offset(), MAX_OFFSET);
}

#[test]
fn a_key_and_a_batch_may_be_as_large_as_the_limits() {
    let record = |key, value| Incoming { timestamp: 0, key: Some(key), value: Some(value), headers: &[] };
    let limits = |max_batch_bytes| SizeLimits { max_message_bytes: AtomicU64::new(u64::MAX), max_batch_bytes };
    let key = vec![b'k'; MAX_KEY_BYTES as usize + 1];
    let largest = record(&key[1..], b"");
    assert_eq!(limits(1 << 30).check(&[largest]).unwrap(), largest.stored_bytes());
    let error = limits(1 << 30).check(&[record(&key, b"")]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::RecordTooLarge { limit: MAX_KEY_BYTES, .. }), "{error}");
    let records = [record(b"a", b"value"), record(b"b", b"another value")];
    let together = records.iter().map(Incoming::stored_bytes).sum::<u64>();
    let batch = BATCH_HEADER_BYTES as u64 + together;
    assert_eq!(limits(batch).check(&records).unwrap(), together);
    let error = limits(batch - 1).check(&records).unwrap_err();
    let expected = ErrorKind::RecordTooLarge { bytes: batch, limit: batch - 1, setting: "max_batch_bytes" };
    assert_eq!(error.kind(), &expected);
}
