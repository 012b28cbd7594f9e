//! One partition's writer, step by step: when it syncs, what one write carries, where a segment ends, how it ends.

mod ending;
mod limits;
mod rolling;
mod syncing;

use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::config::{Acks, EngineConfig, TopicConfig};
use crate::disk::Disk;
use crate::partition::tests::bare::{Bare, batch_bytes};
use crate::segment::{Found, Scan};
use crate::sim::{CrashPolicy, Operation};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

struct Writing {
    bare: Bare,
    writer: PartitionWriter,
    queue: Box<dyn Queue>,
}

impl Writing {
    fn new(config: EngineConfig, topic: TopicConfig, first_offset: u64) -> Writing {
        Writing::over(Bare::new(config, topic, first_offset))
    }

    fn over(bare: Bare) -> Writing {
        let (writer, queue) = (bare.writer(0), bare.disk.queue());
        Writing { bare, writer, queue }
    }

    /// The next life, after a crash.
    fn after(&self, policy: CrashPolicy) -> Writing {
        Writing::over(self.bare.after(policy))
    }

    /// With small segments, if a size is given.
    fn of(segment_bytes: impl Into<Option<u64>>) -> Writing {
        let topic = TopicConfig::default();
        let segment_bytes = segment_bytes.into().unwrap_or(topic.segment_bytes);
        Writing::new(EngineConfig::default(), topic.segment_bytes(segment_bytes), 0)
    }

    fn now(&self) -> Now {
        Now { wall_ms: self.bare.clock.wall_ms(), monotonic: self.bare.clock.monotonic() }
    }

    fn turn(&mut self) -> bool {
        let now = self.now();
        self.writer.turn(&mut *self.queue, now, false)
    }

    /// The same where no other partition has work: a small sync is done at once.
    fn turn_alone(&mut self) -> bool {
        let now = self.now();
        self.writer.turn(&mut *self.queue, now, true)
    }

    /// Sends a record with a value of so many bytes and has it written.
    fn write(&mut self, bytes: usize) {
        self.bare.send(bytes, false);
        assert!(self.turn());
    }

    /// Tells the writer of the syncs that have ended.
    fn end_syncs(&mut self) {
        let mut ended = Vec::new();
        self.queue.finished(&mut ended);
        for sync in ended {
            self.writer.synced(sync.result);
        }
    }

    /// Where whole batches end in the active segment, as the file has it.
    fn whole(&self) -> u64 {
        let segment = &self.active().segment;
        let file = self.bare.disk.open(segment.path(), Access::Read).unwrap();
        let start = Place { position: BLOCK_BYTES, next_offset: segment.base_offset(), epoch: 1 };
        let mut scan = Scan::new(&*file, segment.published(), segment.seed(), start);
        while let Found::Batch { .. } = scan.next().unwrap() {}
        assert_eq!(scan.place().position, segment.published());
        scan.place().next_offset
    }

    fn active(&self) -> &Active {
        self.writer.active.as_ref().unwrap()
    }
}

/// A value that makes a batch of just so many bytes.
fn value_of_batch(bytes: u64) -> usize {
    let value = bytes - (batch_bytes(8) - 8);
    assert_eq!(batch_bytes(value as usize), bytes);
    value as usize
}

#[test]
fn it_wants_to_come_again_when_the_oldest_unsynced_record_has_waited_long_enough() {
    let mut writing = Writing::of(None);
    let sync_after = Duration::from_millis(EngineConfig::default().sync_ms);
    let clock = writing.bare.clock.clone();
    clock.advance(Duration::from_secs(5));
    writing.turn();
    assert_eq!(writing.writer.due(), None, "nothing was written");
    let due = clock.monotonic() + sync_after;
    for _ in 0..2 {
        writing.write(10);
        assert_eq!(writing.writer.due(), Some(due));
        clock.advance(sync_after / 2);
    }
    assert!(!writing.writer.is_syncing());
    writing.turn();
    assert!(writing.writer.is_syncing());
    assert_eq!(writing.writer.due(), None);
    writing.write(10);
    assert_eq!(writing.writer.due(), None, "the sync tells when it has ended");
    writing.end_syncs();
    assert_eq!(writing.bare.ends(), (3, 2));
    assert_eq!(writing.writer.due(), Some(due + sync_after));
    writing.bare.partition.fail(&Error::new(ErrorKind::Io));
    assert_eq!(writing.writer.due(), None, "there is nothing to come for");
}

#[test]
fn what_lies_unsynced_is_synced_when_it_is_much() {
    let config = EngineConfig { sync_bytes: 64 << 10, ..EngineConfig::default() };
    let mut writing = Writing::new(config, TopicConfig::default(), 0);
    for round in 1..3 {
        writing.write(30_000);
        writing.write(30_000);
        assert!(!writing.writer.is_syncing());
        writing.write(10_000);
        assert!(writing.writer.is_syncing());
        writing.end_syncs();
        assert_eq!(writing.bare.ends(), (3 * round, 3 * round));
    }
}

#[test]
fn one_write_carries_groups_until_they_are_enough() {
    let config = EngineConfig { write_bytes: 64 << 10, ..EngineConfig::default() };
    let mut writing = Writing::new(config, TopicConfig::default(), 0);
    writing.write(10);
    let before = writing.bare.disk.count(Operation::Write);
    // Each needs a group of its own.
    for _ in 0..5 {
        writing.bare.send(50_000, false);
    }
    assert!(writing.turn());
    assert_eq!(writing.bare.ends().0, 6);
    assert_eq!(writing.bare.disk.count(Operation::Write) - before, 3);
    assert_eq!(writing.whole(), 6);
}

#[test]
fn d4_no_room_fails_what_was_sent_and_any_other_error_the_partition() {
    for (errno, fails) in [(ENOSPC, false), (EIO, true)] {
        let mut writing = Writing::of(None);
        writing.bare.disk.fail_next(Operation::Write, errno);
        let partition = writing.bare.partition.clone();
        let (offset, run) = (writing.bare.send(10, false), partition.progress.run());
        writing.turn();
        let error = partition.outcome(Acks::Written, offset + 1, run).unwrap().unwrap_err();
        assert_eq!(error.kind(), if fails { &ErrorKind::Failed } else { &ErrorKind::NoRoom });
        assert_eq!((partition.progress.is_failed(), partition.refused().is_some()), (fails, fails));
        assert_eq!(partition.next_offset(), 0, "numbering goes back");
    }
}

#[test]
fn it_waits_for_those_just_woken_unless_it_is_to_end() {
    let mut writing = Writing::of(None);
    let now = writing.now().monotonic;
    assert!(!writing.writer.is_gathering(now));
    let crowd = |writer: &mut PartitionWriter| writer.gathering.synced(8, now, Duration::from_micros(100));
    crowd(&mut writing.writer);
    assert!(writing.writer.is_gathering(now));
    for discard in [false, true] {
        crowd(&mut writing.writer);
        writing.writer.end(discard);
        assert!(!writing.writer.is_gathering(now));
    }
}
