//! Goal: with several producers, consumers, a writer's thread and the engine's other threads at once nobody
//! hangs, what is acknowledged is read, once and in order, and closing ends it all (C1, C2, G3).
//!
//! Method: the whole engine on a simulated disk, compiled with shuttle's locks and threads
//! (`lock.rs`), which drawn schedules switch at each of them. A wake-up that is lost is a deadlock, and
//! reported as one. `RUSTFLAGS='--cfg thalweg_shuttle' cargo test --features sim --test shuttle`;
//! without that cfg there is nothing here. THALWEG_SCHEDULES: how many of each; THALWEG_SEED: of where they
//! are drawn.
#![cfg(thalweg_shuttle)]

use std::sync::Arc;
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, thread};
use thalweg::sim::{SimClock, SimDisk};
use thalweg::{Acks, Engine, ErrorKind, Record, TopicConfig, Writers};

/// So large that a segment holds one record.
const LARGE_BYTES: usize = 40_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

/// Half of the schedules switch anywhere, half give way to others at few places only.
fn explore(model: impl Fn() + Send + Sync + Copy + 'static) {
    let schedules = number("THALWEG_SCHEDULES", 150) as usize;
    let seed = number("THALWEG_SEED", 0);
    let config = || {
        let mut config = Config::new();
        config.stack_size = 1 << 20;
        config.silence_warnings = true;
        config
    };
    println!("THALWEG_SEED={seed} THALWEG_SCHEDULES={schedules}");
    Runner::new(RandomScheduler::new_from_seed(seed, schedules), config()).run(model);
    Runner::new(PctScheduler::new_from_seed(seed, 3, schedules), config()).run(model);
}

fn open(disk: &SimDisk) -> Engine {
    let builder = Engine::builder("data").sim(disk).clock(Arc::new(SimClock::new()));
    builder.writers(Writers::Threads(1)).pin_writers(false).seed(1).open().unwrap()
}

fn small() -> TopicConfig {
    TopicConfig::default().segment_bytes(64 << 10)
}

/// `producer`, and the how-manieth of its records it is.
fn value(producer: u8, number: u8, bytes: usize) -> Vec<u8> {
    let mut value = vec![producer, number];
    value.resize(bytes, 0);
    value
}

/// Producers that wait for their records and such that don't, while consumers sleep and wake.
fn send_and_poll(partitions: u32, bytes: usize) {
    const EACH: u8 = 3;
    let engine = open(&SimDisk::new());
    engine.create_topic("t", small().partitions(partitions)).unwrap();
    let producers = [0, 1].map(|producer| {
        let engine = engine.clone();
        thread::spawn(move || {
            let partition = engine.partition("t", u32::from(producer) % partitions).unwrap();
            for number in 0..EACH {
                let acks = if number % 2 == 0 { Acks::Synced } else { Acks::Written };
                let receipt = partition.append(&Record::new(&value(producer, number, bytes)).acks(acks)).unwrap();
                if producer == 0 || number == EACH - 1 {
                    let at = receipt.wait().unwrap();
                    assert!(partition.end_offset() > at.offset);
                    assert!(acks == Acks::Written || partition.durable_offset() > at.offset);
                    assert_eq!(
                        partition.get(at.offset).unwrap().view().value(),
                        Some(&value(producer, number, bytes)[..])
                    );
                }
            }
        })
    });
    let mut consumer = engine.assign((0..partitions).map(|partition| ("t", partition))).unwrap();
    let (mut seen, mut next) = ([0, 0], vec![0; partitions as usize]);
    while seen != [EACH; 2] {
        for batch in consumer.poll(Duration::from_secs(1_000)).unwrap() {
            for record in &batch {
                let next = &mut next[batch.partition() as usize];
                assert_eq!(record.offset(), *next, "each record once, in order");
                *next += 1;
                let &[producer, number, ..] = record.value().unwrap() else { panic!("another value") };
                assert_eq!(number, std::mem::replace(&mut seen[usize::from(producer)], number + 1));
            }
        }
    }
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    engine.close().unwrap();
}

#[test]
fn what_is_sent_is_acknowledged_and_read_in_order() {
    explore(|| send_and_poll(1, 10));
}

#[test]
fn two_partitions_of_one_writer_roll_while_they_are_read() {
    explore(|| send_and_poll(2, LARGE_BYTES));
}

/// Whatever a call says while the engine closes: it comes back, and what was acknowledged is there.
#[test]
fn closing_ends_every_wait() {
    explore(|| {
        let disk = SimDisk::new();
        let engine = open(&disk);
        engine.create_topic("t", small()).unwrap();
        let producer = engine.clone();
        let producer = thread::spawn(move || {
            let mut acknowledged = 0;
            for number in 0..3 {
                let sent = producer.partition("t", 0).and_then(|partition| {
                    partition.append(&Record::new(&value(0, number, 10)).acks(Acks::Synced))?.wait()
                });
                match sent {
                    Ok(_) => acknowledged += 1,
                    Err(error) => {
                        assert_eq!(error.kind(), &ErrorKind::Closed);
                        break;
                    }
                }
            }
            acknowledged
        });
        let consumer = engine.clone();
        let consumer = thread::spawn(move || {
            let mut consumer = match consumer.assign([("t", 0)]) {
                Ok(consumer) => consumer,
                Err(error) => return assert_eq!(error.kind(), &ErrorKind::Closed),
            };
            loop {
                match consumer.poll(Duration::from_secs(1_000)) {
                    Ok(_) => {}
                    Err(error) => return assert_eq!(error.kind(), &ErrorKind::Closed),
                }
            }
        });
        engine.close().unwrap();
        let acknowledged = producer.join().unwrap();
        consumer.join().unwrap();
        drop(engine);
        let engine = open(&disk);
        assert!(engine.partition("t", 0).unwrap().end_offset() >= acknowledged);
        engine.close().unwrap();
    });
}

/// A reader from the beginning, while the beginning is dropped.
#[test]
fn who_reads_what_is_being_dropped_is_told_where_the_log_starts() {
    explore(|| {
        let disk = SimDisk::new();
        let engine = open(&disk);
        engine.create_topic("t", small()).unwrap();
        let partition = engine.partition("t", 0).unwrap();
        for number in 0..2 {
            let _ = partition.append(&Record::new(&value(0, number, LARGE_BYTES))).unwrap().wait().unwrap();
        }
        engine.close().unwrap();
        // In a new life nothing is mapped yet.
        let engine = open(&disk);
        let partition = engine.partition("t", 0).unwrap();
        let dropping = engine.clone();
        let dropping = thread::spawn(move || dropping.partition("t", 0).unwrap().delete_records(1).unwrap());
        match partition.get(0) {
            Ok(record) => assert_eq!(record.view().value(), Some(&value(0, 0, LARGE_BYTES)[..])),
            Err(error) => {
                assert_eq!(error.kind(), &ErrorKind::OffsetOutOfRange { requested: 0, start: 1, end: 2 }, "{error}");
            }
        }
        dropping.join().unwrap();
        assert_eq!(partition.get(1).unwrap().view().value(), Some(&value(0, 1, LARGE_BYTES)[..]));
        engine.close().unwrap();
    });
}

/// After a while in which nobody else had anything to wait for, who waits does the writer's turn.
#[test]
fn who_waits_alone_does_the_work_while_another_comes() {
    const ALONE: u8 = 12;
    explore(|| {
        let engine = open(&SimDisk::new());
        engine.create_topic("t", small().acks(Acks::Synced)).unwrap();
        let other = engine.clone();
        let partition = engine.partition("t", 0).unwrap();
        let send = |partition: &thalweg::Partition, number| {
            let _ = partition.append(&Record::new(&value(0, number, 10))).unwrap().wait().unwrap();
        };
        (0..ALONE).for_each(|number| send(&partition, number));
        let other = thread::spawn(move || {
            let partition = other.partition("t", 0).unwrap();
            (0..2).for_each(|number| send(&partition, number));
        });
        (0..3).for_each(|number| send(&partition, number));
        other.join().unwrap();
        assert_eq!(partition.durable_offset(), u64::from(ALONE) + 5);
        engine.close().unwrap();
    });
}

/// Tasks that wait for a writer's thread and for calls on the engine's own threads, beside futures that are polled once
/// and dropped: each that is awaited ends, while the engine closes too.
#[test]
fn tasks_are_woken_by_writers_and_by_calls() {
    explore(|| {
        let engine = open(&SimDisk::new());
        engine.create_topic("t", small()).unwrap();
        let sender = engine.clone();
        let sends = thread::spawn(move || {
            let partition = sender.partition("t", 0).unwrap();
            shuttle::future::block_on(async move {
                let receipt = partition.append_async(&Record::new("first")).await.unwrap();
                assert_eq!(receipt.await.unwrap().offset, 0);
                let _ = partition.append_async(&Record::new("second").acks(Acks::Written)).await.unwrap();
                partition.durable(2).await.unwrap();
            });
        });
        let maker = engine.clone();
        let makes = thread::spawn(move || {
            for name in ["a", "b"] {
                let mut dropped = maker.create_topic_async(&format!("{name}-dropped"), small());
                let _ = std::pin::Pin::new(&mut dropped)
                    .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
                drop(dropped);
                shuttle::future::block_on(maker.create_topic_async(name, small())).unwrap();
            }
        });
        let mut consumer = engine.consumer("g").subscribe(["t"]).start().unwrap();
        shuttle::future::block_on(async {
            let mut read = 0;
            while read < 2 {
                read += consumer
                    .next_batches()
                    .await
                    .unwrap()
                    .batches()
                    .iter()
                    .map(|batch| batch.iter().count())
                    .sum::<usize>();
            }
            consumer.commit_async().unwrap().await.unwrap();
        });
        drop(consumer);
        sends.join().unwrap();
        makes.join().unwrap();
        shuttle::future::block_on(engine.close_async()).unwrap();
    });
}
