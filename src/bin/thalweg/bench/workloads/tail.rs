//! `tail`: from sending to seeing, at a fixed rate. Records are sent when the clock says so, and a record's
//! time counts from when it was due: a stall delays those behind it, and that shows. The time from when it was
//! sent stands beside it.
//!
//! In one variant sender and consumers sleep when they have nothing to do; in the other they never do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use thalweg::{Consumer, Record};

use super::{ENGINE, Line, TIMES, TOPIC, VALUES, rows, send, take_turns};
use crate::bench::context::Bench;
use crate::bench::figures::{Floor, Latencies, Lateness, Measure, Row, Run};
use crate::bench::floor::tail as floor;
use crate::bench::lanes::{self, Lane, Pace, Schedule};
use crate::bench::payload::{Checker, Payloads, Spread};
use crate::bench::settings::Settings;
use crate::failure::Failure;

/// How long a poll waits before it looks whether all is over, where consumers sleep.
const LOOK: Duration = Duration::from_millis(20);
const ONE: Spread = Spread { partitions: 1, fixed: true };

/// Of engine and floor, one variant after the other.
const CONTESTANTS: usize = 4;
const VARIANTS: [(&str, &str); 2] =
    [("", "three threads, pwrite"), (" polled", "pwrite by the sender, a reader that polls")];

pub(crate) fn run(bench: &Bench, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let rate = settings.rate.unwrap_or(100_000);
    let payloads = Payloads::new(settings.record, settings.seed);
    let plan = send::plan(settings, false);
    let mut lateness = vec![Lateness::default(); CONTESTANTS];
    let turns = |turn: usize| {
        let (run, more) = match turn {
            0 => round(bench, settings, &payloads, rate, Pace::Sleep)?,
            1 => floor::run_sleeping(bench, settings, &payloads, rate, plan)?,
            2 => round(bench, settings, &payloads, rate, Pace::Spin)?,
            _ => floor::run_polling(bench, settings, &payloads, rate, plan)?,
        };
        lateness[turn].add(&more);
        Ok(run)
    };
    let figures = take_turns(bench, settings, turns, CONTESTANTS)?;
    let rate = crate::output::count_rate(rate, Duration::from_secs(1)).replace(".0 ", " ");
    let mut lines = Vec::new();
    for (at, (variant, floor)) in VARIANTS.into_iter().enumerate() {
        let (engine, against) = (2 * at, 2 * at + 1);
        for (from, latencies) in [("due", (|lateness| &lateness.from_due) as Counted), ("sent", |late| &late.from_sent)]
        {
            let line = Line {
                workload: "tail",
                variant: format!("{rate}/s{variant}, from {from}"),
                unit: "records",
                measure: Measure::Median,
                uses: &[&VALUES, &["rate", "consumers", "verify"], &TIMES, &ENGINE],
                figures: figures[engine].with(latencies(&lateness[engine])),
                floors: vec![Floor { name: floor, figures: figures[against].with(latencies(&lateness[against])) }],
            };
            lines.push((line, settings));
        }
    }
    Ok(rows(bench, lines))
}

/// What is taken from a lateness.
type Counted = fn(&Lateness) -> &Latencies;

/// The floor's file, and what comes at that rate.
pub(crate) fn needs(settings: &Settings) -> u64 {
    let rate = settings.rate.unwrap_or_default() as f64;
    let time = (settings.round_time() + settings.warm_up).as_secs_f64();
    // A record may stand in a batch of its own.
    let stored = settings.record.mean() + 130.0;
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

/// One round; sender and consumers sleep or don't.
fn round(
    bench: &Bench,
    settings: &Settings,
    payloads: &Payloads,
    rate: u64,
    pace: Pace,
) -> Result<(Run, Lateness), Failure> {
    let piece = bench.scratch.fresh("engine")?;
    let engine = send::open(settings, piece.path())?;
    let producer = engine.producer_for(TOPIC)?;
    let sent = Sent { base: Instant::now(), measured: AtomicBool::new(false), total: AtomicU64::new(u64::MAX) };
    let consumers: Vec<Consumer> =
        (0..settings.consumers).map(|_| engine.assign([(TOPIC, 0)])).collect::<Result<_, _>>()?;
    let wait = match pace {
        Pace::Sleep => LOOK,
        Pace::Spin => Duration::ZERO,
    };
    let work = |lane: &mut Lane<'_>| {
        let (mut schedule, mut n) = (Schedule::new(rate as f64, pace), 0);
        loop {
            let due = schedule.next();
            let value = payloads.value(0, n);
            // The key says when it was due, and when it was sent.
            let mut key = [0; 16];
            key[..8].copy_from_slice(&sent.ns(due).to_le_bytes());
            key[8..].copy_from_slice(&sent.ns(Instant::now()).to_le_bytes());
            let _ = producer.send(Record::new(value).key(&key).partition(0))?;
            n += 1;
            let goes_on = lane.did(1, value.len() as u64);
            sent.measured.store(lane.is_measured(), Ordering::Relaxed);
            if !goes_on {
                return Ok(());
            }
        }
    };
    let ran = thread::scope(|scope| {
        let seeing: Vec<_> = consumers
            .into_iter()
            .map(|consumer| scope.spawn(|| see(consumer, &sent, wait, settings.verify.then_some(payloads))))
            .collect();
        let ran = lanes::run(bench, send::plan(settings, true), 1, work, || Ok(engine.flush()?));
        let total = ran.as_ref().map_or(0, |(_, sent)| sent.iter().sum());
        sent.total.store(total, Ordering::Relaxed);
        let mut lateness = Lateness::default();
        for seeing in seeing {
            let seen = seeing.join().map_err(|_| Failure::new("a thread of the bench panicked"))?;
            lateness.add(&seen?);
        }
        ran.map(|(run, _)| (run, lateness))
    })?;
    engine.close()?;
    Ok(ran)
}

/// Polls until it has seen everything.
fn see(mut consumer: Consumer, sent: &Sent, wait: Duration, check: Option<&Payloads>) -> Result<Lateness, Failure> {
    let mut checker = check.map(|payloads| Checker::new(payloads, 1, ONE, 0));
    let (mut lateness, mut seen) = (Lateness::default(), 0);
    while seen < sent.total.load(Ordering::Relaxed) {
        for batch in &consumer.poll(wait)? {
            for record in batch {
                let [from_due, from_sent] = sent.took(record.key());
                if sent.measured.load(Ordering::Relaxed) {
                    lateness.record(from_due, from_sent);
                }
                seen += 1;
                if let Some(checker) = &mut checker {
                    checker.check(record.offset(), record.value()).map_err(Failure::new)?;
                }
            }
        }
    }
    Ok(lateness)
}

impl Sent {
    fn ns(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.base).as_nanos() as u64
    }

    /// Until now, since each of the times that the key names.
    fn took(&self, key: Option<&[u8]>) -> [Duration; 2] {
        let now = self.base.elapsed();
        [0, 8].map(|at| {
            let ns = key.and_then(|key| key.get(at..)?.first_chunk()).copied().map_or(0, u64::from_le_bytes);
            now.saturating_sub(Duration::from_nanos(ns))
        })
    }
}
