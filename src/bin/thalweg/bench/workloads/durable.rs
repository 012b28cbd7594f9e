//! `durable` and `group-commit`: threads that each send one record and wait until it is synced.

use std::time::Instant;

use thalweg::Record;

use super::{ENGINE, Line, TIMES, TOPIC, VALUES, checked, send, take_turns};
use crate::bench::context::Bench;
use crate::bench::figures::{Floor, Measure, Row, Run};
use crate::bench::floor::durable::{self as floor, Blocks};
use crate::bench::floor::group;
use crate::bench::lanes::{self, Lane};
use crate::bench::payload::{Payloads, Spread};
use crate::bench::settings::Settings;
use crate::failure::Failure;

/// One thread, beside `pwrite` and `fdatasync` by themselves.
pub(crate) fn one_by_one(bench: &Bench, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let payloads = Payloads::new(settings.record, settings.seed);
    let plan = send::plan(settings, false);
    let turns = |turn| match turn {
        0 => round(bench, settings, &payloads),
        1 => floor::run(bench, Blocks::Written, &payloads, plan),
        _ => floor::run(bench, Blocks::Reserved, &payloads, plan),
    };
    let mut figures = take_turns(bench, settings, turns, 3)?.into_iter();
    let names = ["pwrite, fdatasync, written blocks", "pwrite, fdatasync, reserved blocks"];
    let line = Line {
        workload: "durable",
        variant: settings.record.name(),
        unit: "records",
        measure: Measure::Median,
        uses: &[&VALUES, &["verify"], &TIMES, &ENGINE],
        figures: figures.next().unwrap_or_default(),
        floors: names.into_iter().zip(figures).map(|(name, figures)| Floor { name, figures }).collect(),
    };
    Ok(vec![line.row(bench, settings)])
}

/// Many threads, beside as many that write and sync for each other, and beside one alone with the engine.
pub(crate) fn group_commit(bench: &Bench, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let payloads = Payloads::new(settings.record, settings.seed);
    let alone = Settings { producers: 1, ..settings.clone() };
    let turns = |turn| match turn {
        0 => round(bench, settings, &payloads),
        1 => group::run(bench, settings, &payloads, send::plan(settings, false)),
        _ => round(bench, &alone, &payloads),
    };
    let mut figures = take_turns(bench, settings, turns, 3)?.into_iter();
    let names = ["leader and followers, pwrite, fdatasync", "one thread alone with the engine"];
    let line = Line {
        workload: "group-commit",
        variant: format!("{} threads", settings.producers),
        unit: "records",
        measure: Measure::Rate,
        uses: &[&VALUES, &["producers", "partitions", "verify"], &TIMES, &ENGINE],
        figures: figures.next().unwrap_or_default(),
        floors: names.into_iter().zip(figures).map(|(name, figures)| Floor { name, figures }).collect(),
    };
    Ok(vec![line.row(bench, settings)])
}

/// What a round takes on the disk at most: a record that is waited for isn't written every microsecond.
pub(crate) fn needs(settings: &Settings) -> u64 {
    let time = (settings.round_time() + settings.warm_up).as_secs_f64();
    let per_s = 50_000.0 * settings.producers.min(32) as f64;
    let values = (time * per_s * settings.record.mean()) as u64;
    settings.stored_bytes(values.min(settings.round_bytes().unwrap_or(u64::MAX))).min(settings.round_disk_bytes())
}

fn round(bench: &Bench, settings: &Settings, payloads: &Payloads) -> Result<Run, Failure> {
    let piece = bench.scratch.fresh("engine")?;
    let engine = send::open(settings, piece.path())?;
    let producer = engine.producer_for(TOPIC)?;
    let spread = Spread { partitions: settings.partitions, fixed: true };
    let work = |lane: &mut Lane<'_>| {
        let (producer, mut n, partition) = (producer.clone(), 0, spread.at(lane.number, 0));
        loop {
            let value = payloads.value(lane.number, n);
            let begun = Instant::now();
            producer.send(Record::new(value).partition(partition))?.wait()?;
            lane.took(begun.elapsed());
            n += 1;
            if !lane.did(1, value.len() as u64) {
                return Ok(());
            }
        }
    };
    let (run, sent) = lanes::run(bench, send::plan(settings, true), settings.producers, work, || Ok(()))?;
    if settings.verify {
        checked::all(bench, &engine, payloads, spread, &sent)?;
    }
    engine.close()?;
    Ok(run)
}
