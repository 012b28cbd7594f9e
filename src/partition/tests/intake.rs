//! What the intake takes, into which batch, and whom it tells.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use super::{Bell, builder, inner, values};
use crate::config::TopicConfig;
use crate::error::ErrorKind;
use crate::format::{BATCH_HEADER_BYTES, BatchHeader, MAX_OFFSET};
use crate::panics::wake_each;
use crate::partition::append::{Appended, Terms};
use crate::partition::intake::{Incoming, Intake, Push, Tickets};
use crate::partition::pool::Pool;
use crate::partition::progress::{Caller, Progress};
use crate::sim::SimDisk;

const RECORD: Incoming<'static> = Incoming { timestamp: 0, key: None, value: Some(b"value"), headers: &[] };

struct Taking {
    intake: Intake,
    pool: Pool,
    progress: Progress,
}

impl Taking {
    fn new(next_offset: u64, batch_bytes: usize) -> Taking {
        let intake = Intake::new(next_offset, batch_bytes, 1);
        Taking { intake, pool: Pool::new(1 << 20, 64 << 10), progress: Progress::new(0, 0, 0) }
    }

    fn push(&mut self, records: usize, chosen_among: Option<u32>) -> Push {
        let records = vec![RECORD; records];
        let bytes = records.iter().map(Incoming::stored_bytes).sum();
        self.intake.push(&records, bytes, false, &self.pool, &self.progress, Tickets::default(), chosen_among)
    }

    /// How many records each batch has that the writer takes now.
    fn take(&mut self) -> Vec<u32> {
        let mut groups = VecDeque::new();
        self.intake.take(&mut groups);
        let mut counts = Vec::new();
        for group in groups {
            let mut rest = &group.bytes[..];
            while let Some(head) = rest.first_chunk() {
                let header = BatchHeader::read_draft(head);
                counts.push(header.record_count);
                rest = &rest[header.length as usize..];
            }
            let _ = self.intake.give_back(group, &self.pool);
        }
        counts
    }
}

/// The batch size that so many records fill.
fn room_for(records: usize) -> usize {
    BATCH_HEADER_BYTES + records * RECORD.stored_bytes() as usize
}

#[test]
fn records_share_a_batch_until_it_is_full() {
    let mut taking = Taking::new(0, room_for(4));
    for offset in 0..9 {
        assert!(matches!(taking.push(1, None), Push::Taken { offset: given, .. } if given == offset));
    }
    assert_eq!(taking.take(), [4, 4, 1]);
    taking.intake.set_batch_bytes(room_for(2));
    for _ in 0..3 {
        taking.push(1, None);
    }
    assert_eq!(taking.take(), [2, 1]);
    taking.push(1, None);
    taking.push(3, None);
    assert_eq!(taking.take(), [1, 3], "what is sent together stays together");
}

#[test]
fn a_partition_ends_where_offsets_do() {
    let mut taking = Taking::new(MAX_OFFSET - 2, room_for(100));
    assert!(matches!(taking.push(1, None), Push::Taken { .. }));
    let refused = |push| match push {
        Push::Refused(error) => matches!(error.kind(), ErrorKind::InvalidArgument { .. }),
        _ => false,
    };
    assert!(refused(taking.push(2, None)), "one offset is left");
    assert!(matches!(taking.push(1, None), Push::Taken { .. }));
    assert!(refused(taking.push(1, None)), "none is left, though the batch has room");
    assert_eq!(taking.take(), [2]);
    assert!(refused(taking.push(1, None)));
    assert_eq!(taking.intake.next_offset(), MAX_OFFSET);
    let mut taking = Taking::new(MAX_OFFSET - 1, room_for(100));
    assert!(matches!(taking.push(1, None), Push::Taken { .. }), "a batch of its own for the last");
}

#[test]
fn while_partitions_are_added_only_records_are_taken_that_were_sent_to_one_by_name() {
    let mut taking = Taking::new(0, room_for(9));
    assert!(matches!(taking.push(1, Some(1)), Push::Taken { .. }));
    taking.intake.hold();
    assert!(matches!(taking.push(1, Some(1)), Push::Full { own_limit: true }));
    assert!(matches!(taking.push(1, None), Push::Taken { offset: 1, .. }));
    taking.intake.release(2);
    assert!(matches!(taking.push(1, Some(1)), Push::Moved), "it was chosen among fewer");
    assert!(matches!(taking.push(1, Some(2)), Push::Taken { offset: 2, .. }));
}

#[test]
fn the_writer_is_told_once_until_it_finds_nothing() {
    let mut taking = Taking::new(0, room_for(9));
    assert!(taking.intake.want_sync(1));
    assert!(!taking.intake.want_sync(2) && taking.intake.sync_wanted() == 2);
    assert!(matches!(taking.push(1, None), Push::Taken { notify: false, .. }));
    taking.take();
    assert!(!taking.intake.want_sync(1) && taking.intake.sync_wanted() == 2, "it comes again by itself");
    taking.take();
    assert!(matches!(taking.push(1, None), Push::Taken { notify: true, .. }));
}

#[test]
fn who_finds_all_buffers_lent_is_woken_when_one_comes_back() {
    let engine = builder(&SimDisk::new()).open().unwrap();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let partition = inner(&engine);
    let pool = &partition.env.pool;
    let lent = pool.lend(4 << 20, None).unwrap();
    let (bell, waker) = Bell::new();
    let mut context = Context::from_waker(&waker);
    let records = [RECORD];
    let mut append = pin!(partition.append(&records, false, Terms::default(), Caller::Task));
    assert!(append.as_mut().poll(&mut context).is_pending());
    assert_eq!(bell.rung(), 0);
    wake_each(pool.give_back(lent, 4 << 20));
    assert_eq!(bell.rung(), 1);
    assert!(
        matches!(append.as_mut().poll(&mut context), Poll::Ready(Ok(Appended::Placed(placed))) if placed.offset == 0)
    );
    engine.flush().unwrap();
    assert_eq!(values(&engine), "v");
}
