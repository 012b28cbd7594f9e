//! `tail`: from sending to seeing, at a fixed rate. Records are sent when the clock says so, and a record's
//! time counts from when it was due: a stall delays those behind it, and that shows.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use thalweg::{Consumer, Record};

use super::{ENGINE, Line, TIMES, TOPIC, VALUES, send, take_turns};
use crate::bench::context::Bench;
use crate::bench::figures::{Floor, Latencies, Measure, Row, Run};
use crate::bench::floor;
use crate::bench::lanes::{self, Lane, Schedule};
use crate::bench::payload::{Checker, Payloads, Spread};
use crate::bench::settings::Settings;
use crate::failure::Failure;

/// How long a poll waits before it looks whether all is over.
const LOOK: Duration = Duration::from_millis(20);
const ONE: Spread = Spread { partitions: 1, fixed: true };

pub(crate) fn run(bench: &Bench, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let rate = settings.rate.unwrap_or(100_000);
    let payloads = Payloads::new(settings.record, settings.seed);
    let turns = |turn| match turn {
        0 => round(bench, settings, &payloads, rate),
        _ => floor::tail::run(bench, settings, &payloads, rate, send::plan(settings, false)),
    };
    let mut figures = take_turns(bench, settings, turns, 2)?.into_iter();
    let line = Line {
        workload: "tail",
        variant: format!("{}/s", crate::output::count_rate(rate, Duration::from_secs(1)).replace(".0 ", " ")),
        unit: "records",
        measure: Measure::Median,
        uses: &[&VALUES, &["rate", "consumers", "verify"], &TIMES, &ENGINE],
        figures: figures.next().unwrap_or_default(),
        floors: figures.map(|figures| Floor { name: "three threads, pwrite", figures }).collect(),
    };
    Ok(vec![line.row(bench, settings)])
}

/// The floor's file, and what comes at that rate.
pub(crate) fn needs(settings: &Settings) -> u64 {
    let rate = settings.rate.unwrap_or_default() as f64;
    let time = (settings.round_time() + settings.warm_up).as_secs_f64();
    // A record may stand in a batch of its own.
    let stored = settings.record.mean() + 120.0;
    settings.stored_bytes(((rate * time * stored) as u64).min(4 << 30)) + (256 << 20)
}

/// What the sender tells those that look.
struct Sent {
    /// What the records' times count from.
    base: Instant,
    measured: AtomicBool,
    /// How many there are in all, once it is over.
    total: AtomicU64,
}

fn round(bench: &Bench, settings: &Settings, payloads: &Payloads, rate: u64) -> Result<Run, Failure> {
    let piece = bench.scratch.fresh("engine")?;
    let engine = send::open(settings, piece.path())?;
    let producer = engine.producer_for(TOPIC)?;
    let sent = Sent { base: Instant::now(), measured: AtomicBool::new(false), total: AtomicU64::new(u64::MAX) };
    let consumers: Vec<Consumer> =
        (0..settings.consumers).map(|_| engine.assign([(TOPIC, 0)])).collect::<Result<_, _>>()?;
    let work = |lane: &mut Lane<'_>| {
        let (mut schedule, mut n) = (Schedule::new(rate as f64), 0);
        loop {
            let due = schedule.next();
            let value = payloads.value(0, n);
            // The key says when it was due.
            let key = (due.saturating_duration_since(sent.base).as_nanos() as u64).to_le_bytes();
            let _ = producer.send(Record::new(value).key(&key).partition(0))?;
            n += 1;
            let goes_on = lane.did(1, value.len() as u64);
            sent.measured.store(lane.is_measured(), Ordering::Relaxed);
            if !goes_on {
                return Ok(());
            }
        }
    };
    let run = thread::scope(|scope| {
        let seeing: Vec<_> = consumers
            .into_iter()
            .map(|consumer| scope.spawn(|| see(consumer, &sent, settings.verify.then_some(payloads))))
            .collect();
        let ran = lanes::run(bench, send::plan(settings, true), 1, work, || Ok(engine.flush()?));
        let total = ran.as_ref().map_or(0, |(_, sent)| sent.iter().sum());
        sent.total.store(total, Ordering::Relaxed);
        let mut latencies = Latencies::default();
        for seeing in seeing {
            let seen = seeing.join().map_err(|_| Failure::new("a thread of the bench panicked"))?;
            latencies.add(&seen?);
        }
        ran.map(|(run, _)| Run { latencies, ..run })
    })?;
    engine.close()?;
    Ok(run)
}

/// Polls until it has seen everything.
fn see(mut consumer: Consumer, sent: &Sent, check: Option<&Payloads>) -> Result<Latencies, Failure> {
    let mut checker = check.map(|payloads| Checker::new(payloads, 1, ONE, 0));
    let (mut latencies, mut seen) = (Latencies::default(), 0);
    while seen < sent.total.load(Ordering::Relaxed) {
        for batch in &consumer.poll(LOOK)? {
            for record in batch {
                let took = took(record.key(), sent.base);
                if sent.measured.load(Ordering::Relaxed) {
                    latencies.record(took);
                }
                seen += 1;
                if let Some(checker) = &mut checker {
                    checker.check(record.offset(), record.value()).map_err(Failure::new)?;
                }
            }
        }
    }
    Ok(latencies)
}

/// Until now, since the time that the key names.
fn took(key: Option<&[u8]>, base: Instant) -> Duration {
    let due = key.and_then(|key| key.try_into().ok()).map_or(0, u64::from_le_bytes);
    base.elapsed().saturating_sub(Duration::from_nanos(due))
}
