//! Sending: a fresh engine, producers that send as fast as they can or by the clock, until everything is
//! acknowledged.

use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use thalweg::{Acks, Engine, Partition, Producer, Receipt, Record};

use super::TOPIC;
use super::checked;
use crate::bench::context::Bench;
use crate::bench::figures::{Latencies, Run};
use crate::bench::lanes::{self, CHUNK, Lane, Pace, Plan, Schedule};
use crate::bench::payload::{Payloads, Spread};
use crate::bench::scratch::Piece;
use crate::bench::settings::Settings;
use crate::failure::Failure;

/// Acknowledgements that are waited for, a second and producer, at most: enough for every percentile, few
/// enough to leave the engine alone.
const WAITED_FOR_PER_S: f64 = 20_000.0;
const IN_FLIGHT: usize = 1 << 16;

/// The plan of one round of these settings.
pub(crate) fn plan(settings: &Settings, is_engine: bool) -> Plan {
    Plan { warm_up: settings.warm_up, time: settings.round_time(), bytes: settings.round_bytes(), is_engine }
}

/// An engine that has an empty topic.
pub(crate) fn open(settings: &Settings, dir: &std::path::Path) -> Result<Engine, Failure> {
    let engine = settings.builder(dir).open()?;
    engine.create_topic(TOPIC, settings.topic())?;
    Ok(engine)
}

/// One round, with a log of its own.
pub(crate) fn round(bench: &Bench, settings: &Settings, payloads: &Payloads) -> Result<Run, Failure> {
    let mut log = Log::open(bench, settings, payloads)?;
    let run = log.run(bench)?;
    log.finish(bench)?;
    Ok(run)
}

/// An engine that producers send to, in one round or several.
pub(crate) struct Log<'a> {
    settings: &'a Settings,
    payloads: &'a Payloads,
    engine: Engine,
    /// Declared behind the engine, which is closed before it is removed.
    _piece: Piece,
    /// How many values each producer has sent.
    sent: Vec<u64>,
}

impl<'a> Log<'a> {
    pub(crate) fn open(bench: &Bench, settings: &'a Settings, payloads: &'a Payloads) -> Result<Log<'a>, Failure> {
        let piece = bench.scratch.fresh("engine")?;
        let engine = open(settings, piece.path())?;
        Ok(Log { settings, payloads, engine, _piece: piece, sent: vec![0; settings.producers] })
    }

    /// One round.
    pub(crate) fn run(&mut self, bench: &Bench) -> Result<Run, Failure> {
        let settings = self.settings;
        let producer = self.engine.producer_for(TOPIC)?;
        let work = |lane: &mut Lane<'_>| {
            let sender = Sender {
                producer: producer.clone(),
                payloads: self.payloads,
                spread: self.spread(),
                first: self.sent[lane.number],
            };
            match settings.rate {
                None => match settings.ready_records() {
                    None => sender.hurry(lane),
                    Some(records) => {
                        let partition = self.engine.partition(TOPIC, self.spread().at(lane.number, 0))?;
                        sender.hurry_in_batches(lane, &partition, records)
                    }
                },
                Some(rate) => sender.by_the_clock(lane, rate as f64 / settings.producers as f64),
            }
        };
        let settle = || {
            match settings.acks {
                Acks::Synced => self.engine.sync()?,
                Acks::None | Acks::Written => self.engine.flush()?,
            }
            Ok(())
        };
        let (run, sent) = lanes::run(bench, plan(settings, true), settings.producers, work, settle)?;
        self.sent.iter_mut().zip(sent).for_each(|(all, more)| *all += more);
        Ok(run)
    }

    /// Waits until all is durable.
    pub(crate) fn sync(&self) -> Result<(), Failure> {
        Ok(self.engine.sync()?)
    }

    /// Compares what is there if that was asked for, and closes.
    pub(crate) fn finish(self, bench: &Bench) -> Result<(), Failure> {
        if self.settings.verify {
            checked::all(bench, &self.engine, self.payloads, self.spread(), &self.sent)?;
        }
        self.engine.close()?;
        Ok(())
    }

    fn spread(&self) -> Spread {
        Spread { partitions: self.settings.partitions, fixed: self.settings.ready_bytes.is_some() }
    }
}

/// One producer's side.
struct Sender<'a> {
    producer: Producer,
    payloads: &'a Payloads,
    spread: Spread,
    /// The number of its first value.
    first: u64,
}

impl Sender<'_> {
    fn hurry(&self, lane: &mut Lane<'_>) -> Result<(), Failure> {
        let (mut n, mut partition) = (self.first, self.spread.at(lane.number, self.first));
        loop {
            let mut bytes = 0;
            for _ in 0..CHUNK {
                let value = self.payloads.value(lane.number, n);
                // The receipt is dropped: everything is waited for at the end.
                let _ = self.producer.send(Record::new(value).partition(partition))?;
                bytes += value.len() as u64;
                n += 1;
                partition = self.spread.next(partition);
            }
            if !lane.did(CHUNK, bytes) {
                return Ok(());
            }
        }
    }

    /// Batches of `records` each.
    fn hurry_in_batches(&self, lane: &mut Lane<'_>, partition: &Partition, records: u64) -> Result<(), Failure> {
        let (mut n, mut batch) = (self.first, Vec::with_capacity(records as usize));
        loop {
            let mut bytes = 0;
            for _ in 0..records {
                let value = self.payloads.value(lane.number, n);
                batch.push(Record::new(value));
                bytes += value.len() as u64;
                n += 1;
            }
            let _ = partition.append_batch(&batch)?;
            batch.clear();
            if !lane.did(records, bytes) {
                return Ok(());
            }
        }
    }

    fn by_the_clock(&self, lane: &mut Lane<'_>, per_s: f64) -> Result<(), Failure> {
        let (mut n, mut partition) = (self.first, self.spread.at(lane.number, self.first));
        let mut schedule = Schedule::new(per_s, Pace::Sleep);
        let every = (per_s / WAITED_FOR_PER_S).ceil().max(1.0) as u64;
        let (sent, to_wait_for) = mpsc::sync_channel::<(Instant, Receipt)>(IN_FLIGHT);
        let (outcome, waited) = thread::scope(|scope| {
            let waiter = scope.spawn(move || {
                let mut latencies = Latencies::default();
                for (due, receipt) in to_wait_for {
                    receipt.wait()?;
                    latencies.record(due.elapsed());
                }
                Ok::<_, thalweg::Error>(latencies)
            });
            let mut send = || {
                loop {
                    let due = schedule.next();
                    let value = self.payloads.value(lane.number, n);
                    let receipt = self.producer.send(Record::new(value).partition(partition))?;
                    if n.is_multiple_of(every) && lane.is_measured() && sent.send((due, receipt)).is_err() {
                        return Ok(());
                    }
                    n += 1;
                    partition = self.spread.next(partition);
                    if !lane.did(1, value.len() as u64) {
                        return Ok(());
                    }
                }
            };
            let outcome: Result<(), Failure> = send();
            drop(sent);
            (outcome, waiter.join())
        });
        outcome?;
        let waited = waited.map_err(|_| Failure::new("a thread of the bench panicked"))?;
        lane.add(&waited?);
        Ok(())
    }
}

/// Fills a topic with so many bytes of values, from one producer, and syncs it. How many values they are.
pub(crate) fn fill(
    bench: &Bench,
    engine: &Engine,
    payloads: &Payloads,
    spread: Spread,
    total_bytes: u64,
) -> Result<u64, Failure> {
    let producer = engine.producer_for(TOPIC)?;
    let (mut n, mut bytes, mut partition) = (0, 0, spread.at(0, 0));
    while bytes < total_bytes {
        let value = payloads.value(0, n);
        let _ = producer.send(Record::new(value).partition(partition))?;
        partition = spread.next(partition);
        (n, bytes) = (n + 1, bytes + value.len() as u64);
        if n.is_multiple_of(1 << 16) {
            bench.tick();
            if bench.is_interrupted() {
                break;
            }
        }
    }
    engine.sync()?;
    Ok(n)
}
