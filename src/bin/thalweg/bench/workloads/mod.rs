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

/// Lets the engine and its floors take turns, until the rounds are done or it is interrupted. In every other round
/// the last begins: whoever comes first may find memory and drive in another state.
fn take_turns(
    bench: &Bench,
    rounds: u32,
    mut turns: impl FnMut(usize) -> Result<Run, Failure>,
    count: usize,
) -> Result<Vec<Figures>, Failure> {
    let mut all = vec![Figures::default(); count];
    for round in 0..rounds {
        for at in 0..count {
            let turn = if round % 2 == 0 { at } else { count - 1 - at };
            if !bench.is_interrupted() {
                bench.scratch.settle();
                all[turn].add(&turns(turn)?);
            }
        }
    }
    Ok(all)
}
