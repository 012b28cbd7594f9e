//! Goal: consumer groups as their users meet them: shared work, hand-over, commits, restarts.
//!
//! Method: the public API on a simulated disk and clock without threads, where time passes only when
//! a test says so; and a few with threads on the real disk.

mod alive;
mod chaos;
mod expansion;
mod hand_over;
mod model;
mod offsets;
mod reading;
mod starts;
mod threads;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thalweg::sim::{SimClock, SimDisk};
use thalweg::{Builder, Consumer, ConsumerBuilder, Engine, Error, Event, Polled, Record, TopicConfig, Writers};

/// Not at all: what is there.
pub(crate) const NOW: Duration = Duration::ZERO;
pub(crate) const SESSION: Duration = Duration::from_secs(10);

/// A simulated machine: its disk and clock outlive the engines on it.
pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) clock: SimClock,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
}

impl World {
    pub(crate) fn new() -> World {
        World { disk: SimDisk::new(), clock: SimClock::new(), events: Arc::default() }
    }

    pub(crate) fn builder(&self) -> Builder {
        let events = self.events.clone();
        Engine::builder("data")
            .sim(&self.disk)
            .clock(Arc::new(self.clock.clone()))
            .writers(Writers::Inline)
            .on_event(move |event| events.lock().unwrap().push(event.clone()))
    }

    pub(crate) fn open(&self) -> Engine {
        self.builder().open().unwrap()
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) fn told(&self, what: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|event| what(event)).count()
    }
}

/// An engine with a topic `t` of so many partitions.
pub(crate) fn with_topic(world: &World, partitions: u32) -> Engine {
    let engine = world.open();
    engine.create_topic("t", TopicConfig::default().partitions(partitions)).unwrap();
    engine
}

/// A member's settings in these tests.
pub(crate) fn member(engine: &Engine, group: &str) -> ConsumerBuilder {
    engine.consumer(group).subscribe(["t"]).session_timeout(SESSION).max_poll_interval(3 * SESSION)
}

/// Sends `count` records with the values `first..` to one partition, durably.
pub(crate) fn fill(engine: &Engine, partition: u32, first: u64, count: u64) {
    let log = engine.partition("t", partition).unwrap();
    for value in first..first + count {
        let _ = log.append(&Record::new(&value.to_le_bytes())).unwrap();
    }
    engine.sync().unwrap();
}

/// Sends records with the values 0 to 5 and the timestamps 1,000 to 1,005 to partition 0, durably.
pub(crate) fn fill_timed(engine: &Engine) {
    let log = engine.partition("t", 0).unwrap();
    for value in 0_u64..6 {
        let _ = log.append(&Record::new(&value.to_le_bytes()).timestamp(1_000 + value as i64)).unwrap();
    }
    engine.sync().unwrap();
}

/// (partition, value) of everything a poll returned.
pub(crate) fn values(polled: &Polled) -> Vec<(u32, u64)> {
    let value = |batch: &thalweg::Batch| {
        let partition = batch.partition();
        batch
            .iter()
            .map(move |record| (partition, u64::from_le_bytes(record.value().unwrap().try_into().unwrap())))
            .collect::<Vec<_>>()
    };
    polled.batches().iter().flat_map(value).collect()
}

/// Polls until nothing comes any more.
pub(crate) fn drain(consumer: &mut Consumer) -> Vec<(u32, u64)> {
    let mut all = Vec::new();
    loop {
        let polled = consumer.poll(NOW).unwrap();
        if polled.is_empty() {
            return all;
        }
        all.extend(values(&polled));
    }
}

/// Lets all members poll until each has what is meant for it.
pub(crate) fn settle(members: &mut [&mut Consumer]) {
    for _ in 0..3 {
        members.iter_mut().for_each(|member| drop(member.poll(NOW).unwrap()));
    }
}

pub(crate) fn partitions(consumer: &Consumer) -> Vec<u32> {
    consumer.assignment().map(|(_, partition)| partition).collect()
}

/// Committed offset of each partition of `t`.
pub(crate) fn committed(engine: &Engine, group: &str) -> BTreeMap<u32, u64> {
    let rows = engine.describe_group(group).map(|group| group.offsets).unwrap_or_default();
    rows.into_iter().filter(|row| row.topic == "t").filter_map(|row| Some((row.partition, row.committed?))).collect()
}

#[track_caller]
pub(crate) fn fails<T>(result: Result<T, Error>, with: &str) -> Error {
    let Err(error) = result else { panic!("it should have failed with {with}") };
    let kind = format!("{:?}", error.kind());
    assert!(kind.starts_with(with), "{kind} instead of {with}");
    error
}
