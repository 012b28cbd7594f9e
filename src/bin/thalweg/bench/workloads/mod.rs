//! What the engine is put to: one file a workload, each of which gives lines for the table.

pub(super) mod append;
mod checked;
pub(super) mod device;
pub(super) mod durable;
pub(super) mod groups;
pub(super) mod partitions;
mod rebalance;
pub(super) mod recover;
pub(super) mod replay;
pub(super) mod scaling;
pub(super) mod send;
pub(super) mod tail;
pub(super) mod victim;

use super::figures::{Figures, Floor, Measure, Row, Run};
use super::memory;
use super::payload::mix;
use super::settings::Settings;
use crate::bench::context::Bench;
use crate::failure::Failure;

/// The topic of every workload.
const TOPIC: &str = "bench";

/// What the names of all workloads' settings have in common.
const ENGINE: [&str; 5] = ["batch_bytes", "segment_bytes", "writers", "pin", "driver"];
const VALUES: [&str; 2] = ["record_bytes", "seed"];
const TIMES: [&str; 4] = ["seconds", "total_bytes", "warm_up_seconds", "rounds"];

/// What a line of a workload is made of.
struct Line<'a> {
    workload: &'static str,
    variant: String,
    unit: &'static str,
    measure: Measure,
    /// The settings that it uses besides the engine's.
    uses: &'a [&'a [&'a str]],
    figures: Figures,
    floors: Vec<Floor>,
}

impl Line<'_> {
    fn row(self, bench: &Bench, settings: &Settings) -> Row {
        let names: Vec<&str> = self.uses.iter().copied().flatten().copied().collect();
        Row {
            workload: self.workload,
            variant: self.variant,
            unit: self.unit,
            settings: settings.json(&names),
            figures: self.figures,
            measure: self.measure,
            floors: self.floors.into_iter().filter(|floor| !floor.figures.is_empty()).collect(),
            peak_anonymous_bytes: bench.peak.take(),
            partial: bench.is_interrupted(),
            notes: Vec::new(),
        }
    }
}

/// The rows of lines that were measured in the same rounds: the peak of memory is that of all of them.
fn rows(bench: &Bench, lines: Vec<(Line<'_>, &Settings)>) -> Vec<Row> {
    let mut rows: Vec<_> = lines.into_iter().map(|(line, settings)| line.row(bench, settings)).collect();
    let peak = rows.first().and_then(|row| row.peak_anonymous_bytes);
    rows.iter_mut().for_each(|row| row.peak_anonymous_bytes = peak);
    rows
}

/// Runs `count` contestants, the engine and its floors, until the rounds are done or the run is interrupted. Each
/// round has its own random order: a run finds memory and drive as the one before left them.
fn take_turns(
    bench: &Bench,
    settings: &Settings,
    mut turns: impl FnMut(usize) -> Result<Run, Failure>,
    count: usize,
) -> Result<Vec<Figures>, Failure> {
    let mut all = vec![Figures::default(); count];
    for round in 0..settings.rounds {
        if settings.touched_bytes > 0 && !bench.is_interrupted() {
            memory::touch(bench, settings.touched_bytes)?;
        }
        for turn in order(settings.seed, round, count) {
            if !bench.is_interrupted() {
                bench.scratch.settle();
                all[turn].add(&turns(turn)?);
            }
        }
    }
    Ok(all)
}

/// The contestants in the order of a round: the same for the same seed.
fn order(seed: u64, round: u32, count: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..count).collect();
    for at in (1..count).rev() {
        let chance = mix(mix(seed).wrapping_add(u64::from(round) << 32 | at as u64));
        order.swap(at, chance as usize % (at + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_contestant_has_one_turn_a_round_in_an_order_that_the_seed_gives() {
        let orders = |seed| (0..64).map(|round| order(seed, round, 4)).collect::<Vec<_>>();
        for order in orders(1) {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
        }
        assert_eq!(orders(1), orders(1));
        assert_ne!(orders(1), orders(2));
        for contestant in 0..4 {
            for place in 0..4 {
                assert!(orders(1).iter().any(|order| order[place] == contestant), "{contestant} is never at {place}");
            }
        }
    }
}
