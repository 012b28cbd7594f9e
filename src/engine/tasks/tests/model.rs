//! Goal: whatever becomes of futures (awaited, polled now and then, kept and never polled, dropped), nobody hangs,
//! nothing that was acknowledged is lost or comes twice, what never got a place never appears, and nothing is kept for
//! futures that are gone.
//!
//! Method: drawn operations over a simulated disk, with a writer thread and without, beside a list of what was sent. Some
//! writes find no room. In between the thread itself waits, while futures lie about unpolled. At the end what is left is
//! awaited or dropped, the power fails, and the log and the group are compared with the list.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::engine::{Consumer, Partition as Handle, Receipt, RecordMetadata};
use crate::error::ErrorKind;
use crate::partition::Drive;
use crate::sim::random::Random;
use crate::sim::{CrashPolicy, Operation, SimClock};

const PARTITIONS: u32 = 3;
const ENOSPC: i32 = 28;

type Kept<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that lies about, and what it is of.
enum Lying {
    /// A send that has no place yet: the record's number.
    Send(u64, Kept<Result<Receipt>>),
    /// Of the record at this place in the list.
    Receipt(usize, Kept<Result<RecordMetadata>>),
    /// Everything below an offset of a partition is durable.
    Durable(u32, u64, Kept<Result<()>>),
    /// Everything sent is durable.
    Sync(Vec<u64>, Kept<Result<()>>),
    /// The group is at these offsets, durably.
    Commit(HashMap<u32, u64>, Kept<Result<()>>),
    /// A topic of this number is there.
    Topic(u64, Kept<Result<()>>),
}

/// A record that got a place, and its own receipt.
struct Sent {
    number: u64,
    receipt: Receipt,
    acknowledged: bool,
}

struct World {
    engine: Engine,
    partitions: Vec<Handle>,
    consumer: Consumer,
    random: Random,
    next_number: u64,
    sent: Vec<Sent>,
    /// Sends of which nobody knows whether they got a place: none of them did.
    never: Vec<u64>,
    lying: Vec<Lying>,
    read: HashMap<u32, Vec<(u64, u64)>>,
    committed: HashMap<u32, u64>,
    topics: Vec<u64>,
}

fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(8 + bytes, 0);
    value
}

fn number(value: &[u8]) -> u64 {
    u64::from_le_bytes(value[..8].try_into().unwrap())
}

fn open(disk: &SimDisk, writers: Writers) -> Engine {
    let builder = Engine::builder("data").sim(disk).clock(Arc::new(SimClock::new())).seed(1);
    builder.writers(writers).pin_writers(false).buffer_bytes(1 << 20).max_batch_bytes(256 << 10).open().unwrap()
}

fn consumer(engine: &Engine) -> Consumer {
    engine.consumer("g").assign((0..PARTITIONS).map(|number| ("t", number))).start().unwrap()
}

impl World {
    fn new(disk: &SimDisk, writers: Writers, seed: u64) -> World {
        let engine = open(disk, writers);
        let config = TopicConfig::default().partitions(PARTITIONS).segment_bytes(1 << 20).acks(Acks::Written);
        engine.create_topic("t", config).unwrap();
        World {
            partitions: (0..PARTITIONS).map(|number| engine.partition("t", number).unwrap()).collect(),
            consumer: consumer(&engine),
            engine,
            random: Random::new(seed),
            next_number: 0,
            sent: Vec::new(),
            never: Vec::new(),
            lying: Vec::new(),
            read: HashMap::new(),
            committed: HashMap::new(),
            topics: Vec::new(),
        }
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.random.below(chances) == 0
    }

    fn step(&mut self, disk: &SimDisk) {
        match self.random.below(20) {
            0..6 => self.send(),
            6 if self.one_in(4) => (0..40).for_each(|_| self.send_bytes(30_000)),
            7 => {
                let partition = self.random.below(PARTITIONS as usize);
                let end = self.partitions[partition].next_offset();
                let offset = end - self.random.below(end as usize + 1) as u64;
                let durable = Box::pin(self.partitions[partition].durable(offset));
                self.begin(Lying::Durable(partition as u32, offset, durable));
            }
            8 => {
                let ends = self.partitions.iter().map(Handle::next_offset).collect();
                let sync = Box::pin(self.engine.sync_async());
                self.begin(Lying::Sync(ends, sync));
            }
            9..12 => self.read(),
            12 => {
                let positions: Vec<_> = (0..PARTITIONS)
                    .map(|number| OffsetCommit::new("t", number, self.consumer.position("t", number).unwrap()))
                    .collect();
                let at = (0..PARTITIONS).map(|number| (number, self.consumer.position("t", number).unwrap())).collect();
                if let Ok(receipt) = self.consumer.commit_offsets_async(positions) {
                    self.begin(Lying::Commit(at, receipt.into_future()));
                }
            }
            13 => {
                self.next_number += 1;
                let number = self.next_number;
                let made = self.engine.create_topic_async(&number.to_string(), TopicConfig::default());
                self.begin(Lying::Topic(number, Box::pin(made)));
            }
            14 => disk.fail_next(Operation::Write, ENOSPC),
            15 => {
                // A thread beside all that lies about.
                let waits = self.random.below(self.sent.len().max(1));
                if let Some(sent) = self.sent.get(waits) {
                    let _ = sent.receipt.wait();
                }
            }
            16 => {
                let _ = self.engine.flush();
            }
            17 if !self.lying.is_empty() => {
                let dropped = self.random.below(self.lying.len());
                self.drop_one(dropped);
            }
            _ if !self.lying.is_empty() => {
                let polled = self.random.below(self.lying.len());
                let lying = self.lying.swap_remove(polled);
                self.poll(lying);
            }
            _ => {}
        }
    }

    fn send(&mut self) {
        let most = 100 << self.random.below(10);
        let bytes = self.random.below(most);
        self.send_bytes(bytes);
    }

    fn send_bytes(&mut self, bytes: usize) {
        self.next_number += 1;
        let number = self.next_number;
        let acks = [Acks::Written, Acks::Synced][self.random.below(2)];
        let partition = self.partitions[self.random.below(PARTITIONS as usize)].clone();
        let send = async move {
            let value = value(number, bytes);
            partition.append_async(&Record::new(&value).acks(acks)).await
        };
        self.begin(Lying::Send(number, Box::pin(send)));
    }

    fn read(&mut self) {
        let polled = match self.one_in(2) {
            true => self.consumer.poll(Duration::ZERO).map(Poll::Ready),
            false => {
                let mut polling = self.consumer.next_batches();
                match Pin::new(&mut polling).poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(polled) => polled.map(Poll::Ready),
                    Poll::Pending => Ok(Poll::Pending),
                }
            }
        };
        let Poll::Ready(polled) = polled.unwrap() else { return };
        for batch in polled.batches() {
            let read = self.read.entry(batch.partition()).or_default();
            read.extend(batch.iter().map(|record| (record.offset(), number(record.value().unwrap()))));
        }
    }

    /// Polls it once, or not yet; it lies about until it is done.
    fn begin(&mut self, lying: Lying) {
        if self.one_in(4) {
            self.lying.push(lying);
        } else {
            self.poll(lying);
        }
    }

    fn poll(&mut self, mut lying: Lying) {
        let context = &mut Context::from_waker(Waker::noop());
        match &mut lying {
            Lying::Send(number, future) => {
                let number = *number;
                match future.as_mut().poll(context) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(receipt)) => return self.placed(number, receipt),
                    Poll::Ready(Err(error)) => panic!("{error}"),
                }
            }
            Lying::Receipt(at, future) => {
                if let Poll::Ready(outcome) = future.as_mut().poll(context) {
                    return self.acknowledged(*at, outcome);
                }
            }
            Lying::Durable(partition, offset, future) => {
                if let Poll::Ready(outcome) = future.as_mut().poll(context) {
                    let durable = self.partitions[*partition as usize].durable_offset();
                    return match outcome {
                        Ok(()) => assert!(durable >= *offset, "{durable} of {offset}"),
                        Err(error) => assert_eq!(error.kind(), &ErrorKind::NoRoom),
                    };
                }
            }
            Lying::Sync(ends, future) => {
                if let Poll::Ready(outcome) = future.as_mut().poll(context) {
                    let durable = self.partitions.iter().map(Handle::durable_offset);
                    return match outcome {
                        Ok(()) => assert!(durable.zip(&*ends).all(|(durable, end)| durable >= *end)),
                        Err(error) => assert_eq!(error.kind(), &ErrorKind::NoRoom),
                    };
                }
            }
            Lying::Commit(at, future) => {
                if let Poll::Ready(outcome) = future.as_mut().poll(context) {
                    match outcome {
                        Ok(()) => at.iter().for_each(|(partition, offset)| {
                            let committed = self.committed.entry(*partition).or_default();
                            *committed = (*committed).max(*offset);
                        }),
                        Err(error) => assert_eq!(error.kind(), &ErrorKind::NoRoom),
                    }
                    return;
                }
            }
            Lying::Topic(number, future) => {
                if let Poll::Ready(outcome) = future.as_mut().poll(context) {
                    match outcome {
                        Ok(()) => self.topics.push(*number),
                        Err(error) => assert_eq!(error.kind(), &ErrorKind::NoRoom),
                    }
                    return;
                }
            }
        }
        self.lying.push(lying);
    }

    fn placed(&mut self, number: u64, receipt: Receipt) {
        let at = self.sent.len();
        self.sent.push(Sent { number, receipt: receipt.clone(), acknowledged: false });
        if self.one_in(2) {
            self.begin(Lying::Receipt(at, receipt.into_future()));
        }
    }

    fn acknowledged(&mut self, at: usize, outcome: Result<RecordMetadata>) {
        match outcome {
            Ok(place) => {
                assert_eq!(
                    (place.partition, place.offset),
                    (self.sent[at].receipt.partition(), self.sent[at].receipt.offset())
                );
                self.sent[at].acknowledged = true;
            }
            Err(error) => assert_eq!(error.kind(), &ErrorKind::NoRoom),
        }
    }

    fn drop_one(&mut self, at: usize) {
        if let Lying::Send(number, future) = self.lying.swap_remove(at) {
            drop(future);
            self.never.push(number);
        }
    }

    /// Nothing is kept for futures that are gone.
    fn assert_nobody_waits(&self) {
        for partition in &self.partitions {
            assert_eq!(partition.inner.progress.waiting(), 0);
            assert!(partition.inner.nobody_waits());
        }
        let env = &self.engine.core.env;
        assert!(env.pool.nobody_waits());
        if let Drive::Inline(inline) = &env.drive {
            assert_eq!(inline.parked_tasks(), 0);
        }
    }

    /// Ends all that lies about: some is dropped, the rest awaited by an executor that polls what was woken only.
    fn end_all(&mut self) {
        while !self.lying.is_empty() {
            let last = self.random.below(self.lying.len());
            if self.one_in(3) {
                self.drop_one(last);
                continue;
            }
            match self.lying.swap_remove(last) {
                Lying::Send(number, future) => {
                    let receipt = block_on(future).unwrap();
                    self.placed(number, receipt);
                }
                Lying::Receipt(at, future) => {
                    let outcome = block_on(future);
                    self.acknowledged(at, outcome);
                }
                Lying::Durable(_, _, future) | Lying::Sync(_, future) | Lying::Topic(_, future) => {
                    let _ = block_on(future);
                }
                Lying::Commit(at, future) => {
                    let outcome = block_on(future);
                    self.poll(Lying::Commit(at, Box::pin(std::future::ready(outcome))));
                }
            }
        }
    }
}

fn live(seed: u64, writers: Writers) {
    let disk = SimDisk::new();
    let mut world = World::new(&disk, writers, seed);
    for _ in 0..400 {
        world.step(&disk);
    }
    disk.clear_faults();
    if world.one_in(2) {
        (0..20).for_each(|_| world.send_bytes(30_000));
        (0..world.lying.len()).rev().for_each(|at| world.drop_one(at));
        world.assert_nobody_waits();
    }
    world.end_all();
    let _ = world.engine.flush();
    world.read();
    world.assert_nobody_waits();
    // What has a place is in the log, or its receipt says that it is not.
    let mut logs = vec![Vec::new(); PARTITIONS as usize];
    for sent in &world.sent {
        match sent.receipt.wait() {
            Ok(place) => logs[place.partition as usize].push((place.offset, sent.number)),
            Err(error) => {
                assert_eq!(error.kind(), &ErrorKind::NoRoom);
                assert!(!sent.acknowledged, "acknowledged, and then not");
            }
        }
    }
    logs.iter_mut().for_each(|log| log.sort_unstable());
    let log_of = |engine: &Engine, number: u32| -> Vec<(u64, u64)> {
        let batches = engine.partition("t", number).unwrap().read(..).unwrap().map(Result::unwrap);
        batches
            .flat_map(|batch| {
                batch
                    .iter()
                    .map(|record| (record.offset(), super::model::number(record.value().unwrap())))
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    for number in 0..PARTITIONS {
        let (log, expected) = (log_of(&world.engine, number), &logs[number as usize]);
        assert_eq!(&log, expected, "partition {number}");
        assert!(log.iter().all(|(_, number)| !world.never.contains(number)), "it never got a place");
        let read = world.read.remove(&number).unwrap_or_default();
        assert_eq!(read[..], log[..read.len()], "each was read once, in order");
    }
    // With or without a farewell.
    let leave = world.random.below(2) == 0;
    let durable: Vec<_> = world.partitions.iter().map(Handle::durable_offset).collect();
    let World { engine, consumer: old, sent, committed, topics, partitions, .. } = world;
    drop((old, sent, partitions));
    if leave {
        let closed = block_on(engine.close_async());
        assert!(closed.as_ref().err().is_none_or(|error| error.kind() == &ErrorKind::NoRoom), "{closed:?}");
    }
    let after = disk.crash(CrashPolicy::PowerLoss);
    drop(engine);
    let engine = open(&after, Writers::Inline);
    for number in 0..PARTITIONS {
        let log = log_of(&engine, number);
        let expected = &logs[number as usize];
        assert!(log.len() as u64 >= if leave { expected.len() as u64 } else { durable[number as usize] });
        assert_eq!(log[..], expected[..log.len()]);
        let found = consumer(&engine).position("t", number).unwrap();
        assert!(found >= committed.get(&number).copied().unwrap_or(0), "a durable commit is lost");
    }
    let known = engine.topics().unwrap();
    assert!(topics.iter().all(|number| known.contains(&number.to_string())), "a topic is lost");
    engine.close().unwrap();
}

fn many(writers: Writers, seeds: u64) {
    for seed in 0..seeds {
        let (ended, end) = channel();
        let life = std::thread::spawn(move || {
            live(seed, writers);
            ended.send(()).unwrap();
        });
        match end.recv_timeout(Duration::from_secs(60)) {
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("seed {seed} hangs"),
            _ => life.join().unwrap_or_else(|_| panic!("seed {seed}")),
        }
    }
}

#[test]
fn futures_that_are_dropped_or_lie_about_lose_nothing_without_threads() {
    many(Writers::Inline, 15);
}

#[test]
fn futures_that_are_dropped_or_lie_about_lose_nothing_beside_a_writer_thread() {
    many(Writers::Threads(1), 15);
}
