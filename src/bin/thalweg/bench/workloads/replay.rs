//! `replay`: consumers that read a log from the page cache, every checksum checked, every value looked at;
//! beside a walk over framed batches in a mapping.

use std::hint::black_box;
use std::time::Duration;

use thalweg::Engine;

use super::{ENGINE, Line, TIMES, TOPIC, VALUES, send, take_turns};
use crate::bench::context::Bench;
use crate::bench::figures::{Floor, Measure, Row, Run};
use crate::bench::floor;
use crate::bench::lanes::{self, Lane, Plan};
use crate::bench::payload::{Checker, Payloads, Spread};
use crate::bench::settings::Settings;
use crate::failure::Failure;

pub(crate) fn run(bench: &Bench, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let total_bytes = total_bytes(settings);
    let payloads = Payloads::new(settings.record, settings.seed);
    let piece = bench.scratch.fresh("engine")?;
    let engine = settings.builder(piece.path()).open()?;
    engine.create_topic(TOPIC, settings.topic().retention_bytes(None))?;
    let spread = Spread { partitions: settings.partitions, fixed: false };
    send::fill(bench, &engine, &payloads, spread, total_bytes)?;
    let log = floor::replay::Log::make(bench, settings, &payloads, total_bytes)?;
    // What limits it is the time: it is read over and over.
    let plan = |is_engine| Plan { bytes: None, ..send::plan(settings, is_engine) };
    let turns = |turn| match turn {
        0 => round(bench, settings, &engine, &payloads, spread, plan(true)),
        _ => log.run(bench, settings.consumers, plan(false)),
    };
    let mut figures = take_turns(bench, settings, turns, 2)?.into_iter();
    engine.close()?;
    let line = Line {
        workload: "replay",
        variant: settings.record.name(),
        unit: "records",
        measure: Measure::Rate,
        uses: &[&VALUES, &["consumers", "partitions", "verify"], &TIMES, &ENGINE],
        figures: figures.next().unwrap_or_default(),
        floors: figures.map(|figures| Floor { name: "walk over a mapping", figures }).collect(),
    };
    Ok(vec![line.row(bench, settings)])
}

/// The engine's log, and the floor's.
pub(crate) fn needs(settings: &Settings) -> u64 {
    2 * settings.stored_bytes(total_bytes(settings))
}

fn total_bytes(settings: &Settings) -> u64 {
    settings.total_bytes.unwrap_or(512 << 20)
}

fn round(
    bench: &Bench,
    settings: &Settings,
    engine: &Engine,
    payloads: &Payloads,
    spread: Spread,
    plan: Plan,
) -> Result<Run, Failure> {
    let work = |lane: &mut Lane<'_>| {
        let mut consumer = engine.assign((0..spread.partitions).map(|number| (TOPIC, number)))?;
        let checkers = || (0..spread.partitions).map(|number| Checker::new(payloads, 1, spread, number));
        let mut check: Option<Vec<_>> = settings.verify.then(|| checkers().collect());
        loop {
            let polled = consumer.poll(Duration::ZERO)?;
            if polled.is_empty() {
                // Everything was read: again from the start.
                for number in 0..spread.partitions {
                    consumer.seek_to_beginning(TOPIC, number)?;
                }
                check = settings.verify.then(|| checkers().collect());
                if !lane.did(0, 0) {
                    return Ok(());
                }
            }
            for batch in &polled {
                let (mut count, mut bytes) = (0, 0);
                for record in batch {
                    let value = record.value().unwrap_or_default();
                    black_box(value.first());
                    (count, bytes) = (count + 1, bytes + value.len() as u64);
                    if let Some(checkers) = &mut check {
                        checkers[batch.partition() as usize]
                            .check(record.offset(), record.value())
                            .map_err(Failure::new)?;
                    }
                }
                if !lane.did(count, bytes) {
                    return Ok(());
                }
            }
        }
    };
    lanes::run(bench, plan, settings.consumers, work, || Ok(())).map(|(run, _)| run)
}
