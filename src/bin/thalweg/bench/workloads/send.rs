//! Sending: a fresh engine, producers that send as fast as they can or by the clock, until everything is
//! acknowledged.

use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use thalweg::{Acks, Engine, Producer, Receipt, Record};

use super::TOPIC;
use super::checked;
use crate::bench::Bench;
use crate::bench::figures::{Latencies, Run};
use crate::bench::lanes::{self, CHUNK, Lane, Plan, Schedule};
use crate::bench::payload::{Payloads, Spread};
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

/// One round.
pub(crate) fn round(bench: &Bench, settings: &Settings, payloads: &Payloads) -> Result<Run, Failure> {
    let piece = bench.scratch.fresh("engine")?;
    let engine = open(settings, piece.path())?;
    let producer = engine.producer_for(TOPIC)?;
    let spread = Spread { partitions: settings.partitions, fixed: false };
    let work = |lane: &mut Lane<'_>| match settings.rate {
        None => hurry(lane, &producer, payloads, spread),
        Some(rate) => by_the_clock(lane, &producer, payloads, spread, rate as f64 / settings.producers as f64),
    };
    let settle = || {
        match settings.acks {
            Acks::Synced => engine.sync()?,
            Acks::None | Acks::Written => engine.flush()?,
        }
        Ok(())
    };
    let (run, sent) = lanes::run(bench, plan(settings, true), settings.producers, work, settle)?;
    if settings.verify {
        checked::all(bench, &engine, payloads, spread, &sent)?;
    }
    engine.close()?;
    Ok(run)
}

fn hurry(lane: &mut Lane<'_>, producer: &Producer, payloads: &Payloads, spread: Spread) -> Result<(), Failure> {
    let (producer, mut n, mut partition) = (producer.clone(), 0, spread.first(lane.number));
    loop {
        let mut bytes = 0;
        for _ in 0..CHUNK {
            let value = payloads.value(lane.number, n);
            // The receipt is dropped: everything is waited for at the end.
            let _ = producer.send(Record::new(value).partition(partition))?;
            bytes += value.len() as u64;
            n += 1;
            partition = spread.next(partition);
        }
        if !lane.did(CHUNK, bytes) {
            return Ok(());
        }
    }
}

fn by_the_clock(
    lane: &mut Lane<'_>,
    producer: &Producer,
    payloads: &Payloads,
    spread: Spread,
    per_s: f64,
) -> Result<(), Failure> {
    let (mut n, mut partition, mut schedule) = (0, spread.first(lane.number), Schedule::new(per_s));
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
                let value = payloads.value(lane.number, n);
                let receipt = producer.send(Record::new(value).partition(partition))?;
                if n.is_multiple_of(every) && lane.is_measured() && sent.send((due, receipt)).is_err() {
                    return Ok(());
                }
                n += 1;
                partition = spread.next(partition);
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

/// Fills a topic with so many bytes of values, from one producer, and syncs it. How many values they are.
pub(crate) fn fill(
    bench: &Bench,
    engine: &Engine,
    payloads: &Payloads,
    spread: Spread,
    total_bytes: u64,
) -> Result<u64, Failure> {
    let producer = engine.producer_for(TOPIC)?;
    let (mut n, mut bytes, mut partition) = (0, 0, spread.first(0));
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
