//! `append`: records written a second, beside a floor that writes the same bytes.

use super::{ENGINE, Line, TIMES, VALUES, send, take_turns};
use crate::bench::context::Bench;
use crate::bench::figures::{Floor, Measure, Row};
use crate::bench::floor;
use crate::bench::payload::Payloads;
use crate::bench::settings::Settings;
use crate::failure::Failure;

const USES: [&str; 5] = ["producers", "partitions", "acks", "rate", "verify"];

pub(crate) fn run(bench: &Bench, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let payloads = Payloads::new(settings.record, settings.seed);
    // A rate that is kept by the clock says nothing beside the rate of a floor that hurries.
    let count = if settings.rate.is_some() { 1 } else { 2 };
    let turns = |turn| match turn {
        0 => send::round(bench, settings, &payloads),
        _ => floor::append::run(bench, settings, &payloads, send::plan(settings, false)),
    };
    let mut figures = take_turns(bench, settings.rounds, turns, count)?.into_iter();
    let line = Line {
        workload: "append",
        variant: settings.record.name(),
        unit: "records",
        measure: Measure::Rate,
        uses: &[&VALUES, &USES, &TIMES, &ENGINE],
        figures: figures.next().unwrap_or_default(),
        floors: figures.map(|figures| Floor { name: "framing, checksums, pwrite", figures }).collect(),
    };
    Ok(vec![line.row(bench, settings)])
}
