//! `groups`: rebalances of a group whose members sit in `poll`, beside waking as many threads; commits of
//! all partitions, beside a write of as many bytes.

use std::time::{Duration, Instant};

use thalweg::{Acks, Batch, Consumer, Engine, Partition, Record};

use super::rebalance::{self, Newcomer};
use super::{ENGINE, Line, TOPIC, send};
use crate::bench::context::Bench;
use crate::bench::figures::{Figures, Floor, Measure, Row, Run};
use crate::bench::floor;
use crate::bench::settings::Settings;
use crate::failure::Failure;

/// The engine and its floor take turns so often.
const ROUNDS: u32 = 2;
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(bench: &Bench, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let share = settings.time / (8 * ROUNDS);
    let mut rows = Vec::new();
    let parts: [(&'static str, &'static str, &'static str); 4] = [
        ("one joins", "rebalances", "waking as many threads"),
        ("all move", "rebalances", "waking as many threads"),
        ("commit, written", "commits", "pwrite"),
        ("commit, synced", "commits", "pwrite, fdatasync"),
    ];
    let piece = bench.scratch.fresh("engine")?;
    let engine = send::open(settings, piece.path())?;
    for (number, (variant, unit, floor_name)) in parts.into_iter().enumerate() {
        if bench.is_interrupted() {
            break;
        }
        let (mut figures, mut floor) = (Figures::default(), Figures::default());
        for _ in 0..ROUNDS {
            let (ours, floors) = match number {
                0 | 1 => {
                    let newcomer = if number == 0 { Newcomer::OneMore } else { Newcomer::HasAll };
                    let ours = rebalance::run(bench, &engine, settings, newcomer, share)?;
                    (ours, floor::wake::run(bench, settings.members, share))
                }
                _ => {
                    let acks = if number == 2 { Acks::Written } else { Acks::Synced };
                    let ours = commits(bench, &engine, settings, acks, share)?;
                    (ours, floor::commit::run(bench, settings.partitions, acks == Acks::Synced, share)?)
                }
            };
            figures.add(&ours);
            floor.add(&floors);
        }
        let line = Line {
            workload: "groups",
            variant: variant.to_owned(),
            unit,
            measure: Measure::Median,
            uses: &[&["partitions", "members", "seconds"], &ENGINE],
            figures,
            floors: vec![Floor { name: floor_name, figures: floor }],
        };
        rows.push(line.row(bench, settings));
    }
    engine.close()?;
    Ok(rows)
}

/// The partitions' files, and a few records.
pub(crate) fn needs(settings: &Settings) -> u64 {
    settings.stored_bytes(64 << 20)
}

/// Commits of all partitions, each a record further, for so long.
fn commits(bench: &Bench, engine: &Engine, settings: &Settings, acks: Acks, time: Duration) -> Result<Run, Failure> {
    let numbers = 0..settings.partitions;
    let partitions: Vec<Partition> = numbers.map(|number| engine.partition(TOPIC, number)).collect::<Result<_, _>>()?;
    let mut consumer = engine.consumer("commits").subscribe([TOPIC]).commit_acks(Acks::Written).start()?;
    let (begun, mut run) = (Instant::now(), Run::new(0, 0, Duration::ZERO));
    while begun.elapsed() < time * 2 && !bench.is_interrupted() {
        read_one_of_each(&partitions, &mut consumer)?;
        if acks == Acks::Synced {
            // The records are durable already: what is timed is the commit's own sync.
            engine.sync()?;
        }
        let start = Instant::now();
        consumer.commit_at(acks)?;
        let took = start.elapsed();
        run.latencies.record(took);
        (run.count, run.time) = (run.count + 1, run.time + took);
        bench.peak.look();
        bench.tick();
    }
    Ok(run)
}

/// One more record in each, read.
fn read_one_of_each(partitions: &[Partition], consumer: &mut Consumer) -> Result<(), Failure> {
    for partition in partitions {
        let _ = partition.append(&Record::new("value"))?;
    }
    let begun = Instant::now();
    let mut left = partitions.len() as u64;
    while left > 0 {
        left = left.saturating_sub(consumer.poll(PATIENCE)?.batches().iter().map(records).sum());
        if begun.elapsed() > PATIENCE {
            return Err(Failure::new(format!("{left} records were not seen within {} s", PATIENCE.as_secs())));
        }
    }
    Ok(())
}

fn records(batch: &Batch) -> u64 {
    batch.offsets().end - batch.offsets().start
}
