//! When a reader beside the writer looks: told by the disk, or again and again where the disk doesn't tell.
//!
//! On the simulated disk operations are counted: what an idle reader costs is a number. Its clock is the test's.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use super::{EIO, builder};
use crate::config::{Acks, TopicConfig, Writers};
use crate::disk::{Disk, Watched};
use crate::engine::{Consumer, Engine, Polled, Record};
use crate::error::ErrorKind;
use crate::sim::{Operation, Repeat, SimClock, SimDisk};

const LONG: Duration = Duration::from_secs(60);

/// A topic of so many partitions with a record each, and a reader of all of them.
struct Beside {
    disk: SimDisk,
    clock: SimClock,
    writer: Engine,
    reader: Engine,
    consumer: Consumer,
}

impl Beside {
    fn new(partitions: u32) -> Beside {
        let (disk, clock) = (SimDisk::new(), SimClock::new());
        let writer = writer_of(&disk, partitions);
        let reader = builder(&disk).clock(Arc::new(clock.clone())).read_only().open().unwrap();
        let consumer = reader.assign((0..partitions).map(|number| ("t", number))).unwrap();
        let mut beside = Beside { disk, clock, writer, reader, consumer };
        assert_eq!(beside.poll(), partitions as usize);
        beside
    }

    fn send(&self, partition: u32) {
        send(&self.writer, partition);
    }

    /// How many records there are.
    fn poll(&mut self) -> usize {
        count(&self.consumer.poll(Duration::ZERO).unwrap())
    }

    /// How many operations a poll takes that finds nothing.
    fn idle_poll(&mut self) -> u64 {
        let before = self.disk.count_all();
        assert_eq!(self.poll(), 0);
        self.disk.count_all() - before
    }
}

fn writer_of(disk: &SimDisk, partitions: u32) -> Engine {
    let writer = builder(disk).open().unwrap();
    writer.create_topic("t", TopicConfig::default().partitions(partitions).acks(Acks::Written)).unwrap();
    (0..partitions).for_each(|number| send(&writer, number));
    writer
}

fn send(writer: &Engine, partition: u32) {
    writer.partition("t", partition).unwrap().append(&Record::new("value")).unwrap().wait().unwrap();
}

fn count(polled: &Polled) -> usize {
    polled.batches().iter().map(|batch| batch.iter().count()).sum()
}

/// A reader with threads of its own.
fn reader_with_threads(disk: Arc<dyn Disk>) -> Engine {
    Engine::builder("data").writers(Writers::Threads(1)).disk(disk).read_only().open().unwrap()
}

/// Waits for a future as an executor does.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(LONG),
        }
    }
}

#[test]
fn an_idle_reader_asks_the_disk_for_nothing() {
    let mut beside = Beside::new(100);
    assert_eq!(beside.idle_poll(), 0);
    beside.send(7);
    assert_eq!(beside.poll(), 1);
    assert_eq!(beside.idle_poll(), 0);
}

#[test]
fn one_change_costs_the_same_however_many_partitions_there_are() {
    let costs = [2, 200].map(|partitions| {
        let mut beside = Beside::new(partitions);
        beside.send(1);
        let before = beside.disk.count_all();
        assert_eq!(beside.poll(), 1);
        beside.disk.count_all() - before
    });
    assert_eq!(costs[0], costs[1], "{costs:?}");
}

#[test]
fn unasked_it_looks_at_a_few_partitions_once_a_second() {
    let costs = [150, 300].map(|partitions| {
        let mut beside = Beside::new(partitions);
        beside.clock.advance(Duration::from_secs(1));
        let cost = beside.idle_poll();
        assert_eq!(beside.idle_poll(), 0);
        cost
    });
    assert_eq!(costs[0], costs[1], "{costs:?}");
}

#[test]
fn what_the_disk_did_not_tell_is_found_unasked() {
    let mut beside = Beside::new(100);
    for number in 0..100 {
        beside.send(number);
    }
    // The news are lost, as over a network.
    assert!(beside.reader.core.watching.forget_news());
    assert_eq!(beside.poll(), 0);
    let mut found = Vec::new();
    for _ in 0..2 {
        beside.clock.advance(Duration::from_secs(1));
        found.push(beside.poll());
    }
    // The first 64 had been looked at when it began.
    assert_eq!(found, [36, 64]);
}

#[test]
fn what_came_before_it_was_watched_is_found() {
    let (disk, clock) = (SimDisk::new(), SimClock::new());
    let writer = writer_of(&disk, 100);
    let reader = builder(&disk).clock(Arc::new(clock.clone())).read_only().open().unwrap();
    (0..100).for_each(|number| send(&writer, number));
    let mut consumer = reader.assign((0..100).map(|number| ("t", number))).unwrap();
    assert_eq!(count(&consumer.poll(Duration::ZERO).unwrap()), 200);
}

#[test]
fn a_change_of_the_catalogue_is_told_at_once() {
    let mut beside = Beside::new(2);
    beside.writer.delete_topic("t").unwrap();
    let error = beside.consumer.poll(Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::UnknownTopic { topic: "t".into() });
}

#[test]
fn if_there_was_too_much_to_tell_it_looks_at_everything() {
    let mut beside = Beside::new(300);
    (0..300).for_each(|number| beside.send(number));
    assert_eq!(beside.poll(), 300);
}

#[test]
fn a_record_is_seen_as_durable_when_it_is_synced() {
    let (disk, clock) = (SimDisk::new(), SimClock::new());
    let writer = builder(&disk).clock(Arc::new(clock.clone())).open().unwrap();
    writer.create_topic("t", TopicConfig::default().acks(Acks::Written).read_durable(true)).unwrap();
    let reader = builder(&disk).clock(Arc::new(clock.clone())).read_only().open().unwrap();
    let mut consumer = reader.assign([("t", 0)]).unwrap();
    let mut poll = || count(&consumer.poll(Duration::ZERO).unwrap());
    assert_eq!(poll(), 0);
    for _ in 0..3 {
        let log = writer.partition("t", 0).unwrap();
        log.append(&Record::new("value")).unwrap().wait().unwrap();
        assert_eq!(poll(), 0);
        // Nothing is appended after it, and no mark is stored: the clock stands still.
        log.append(&Record::new("value").acks(Acks::Synced)).unwrap().wait().unwrap();
        assert_eq!(poll(), 2);
    }
}

#[test]
fn a_partition_that_can_not_be_read_is_told_and_tried_again() {
    let mut beside = Beside::new(3);
    beside.send(1);
    beside.disk.fail_after(0, Operation::Read, EIO, Repeat::Forever);
    let error = beside.consumer.poll(Duration::ZERO).unwrap_err();
    assert_eq!((error.kind(), error.partition()), (&ErrorKind::Io, Some(1)));
    beside.disk.clear_faults();
    assert_eq!(beside.poll(), 1);
    assert_eq!(beside.idle_poll(), 0);
}

#[test]
fn partitions_that_nobody_reads_any_more_are_not_looked_at() {
    let mut beside = Beside::new(100);
    beside.consumer = beside.reader.assign([("t", 0)]).unwrap();
    assert_eq!(beside.poll(), 1);
    beside.clock.advance(Duration::from_secs(1));
    assert_eq!(beside.poll(), 0);
    (1..100).for_each(|number| beside.send(number));
    assert_eq!(beside.idle_poll(), 0);
}

/// A writer, and a reader with threads of its own that has read the one record.
fn one_read() -> (Engine, Engine, Consumer) {
    let disk = SimDisk::new();
    let writer = writer_of(&disk, 1);
    let reader = reader_with_threads(Arc::new(disk));
    let mut consumer = reader.assign([("t", 0)]).unwrap();
    assert_eq!(count(&consumer.poll(LONG).unwrap()), 1);
    (writer, reader, consumer)
}

/// A reader sleeps, over and over again, until something is written.
fn is_woken_by_writes(writer: &Engine, reader: &Engine) {
    let mut consumer = reader.assign([("t", 0), ("t", 1)]).unwrap();
    assert_eq!(count(&consumer.poll(LONG).unwrap()), 2);
    for _ in 0..20 {
        thread::scope(|scope| {
            scope.spawn(|| send(writer, 1));
            assert_eq!(count(&consumer.poll(LONG).unwrap()), 1);
        });
        thread::scope(|scope| {
            scope.spawn(|| send(writer, 0));
            assert_eq!(count(&block_on(consumer.next_batches()).unwrap()), 1);
        });
    }
}

#[test]
fn a_sleeping_reader_is_woken_by_a_write() {
    let disk = SimDisk::new();
    is_woken_by_writes(&writer_of(&disk, 2), &reader_with_threads(Arc::new(disk.clone())));
}

#[test]
fn a_sleeping_reader_is_woken_where_the_disk_tells_nothing() {
    let disk = SimDisk::new();
    let writer = writer_of(&disk, 2);
    let silent = Watched::new(Arc::new(disk.clone()) as Arc<dyn Disk>, |_| Ok(()));
    is_woken_by_writes(&writer, &reader_with_threads(Arc::new(silent)));
}

#[test]
fn a_sleeping_reader_is_woken_by_the_catalogue() {
    let (writer, _reader, mut consumer) = one_read();
    thread::scope(|scope| {
        scope.spawn(|| writer.delete_topic("t").unwrap());
        let error = consumer.poll(LONG).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::UnknownTopic { topic: "t".into() });
    });
}

#[test]
fn a_reader_that_is_closed_ends_its_consumers_wait() {
    let (_writer, reader, mut consumer) = one_read();
    thread::scope(|scope| {
        scope.spawn(|| reader.close().unwrap());
        assert_eq!(consumer.poll(LONG).unwrap_err().kind(), &ErrorKind::Closed);
    });
}
