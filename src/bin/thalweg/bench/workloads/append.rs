//! `append`: records written a second, beside a floor that writes the same bytes; once with the syncs that the engine
//! starts by itself, and once without any.

use thalweg::Acks;

use super::{ENGINE, Line, TIMES, VALUES, rows, send, take_turns};
use crate::bench::context::Bench;
use crate::bench::figures::{Floor, Measure, Row};
use crate::bench::floor;
use crate::bench::memory;
use crate::bench::payload::Payloads;
use crate::bench::settings::Settings;
use crate::failure::Failure;

const USES: [&str; 8] =
    ["ready_bytes", "own_syncs", "producers", "partitions", "acks", "rate", "verify", "touched_bytes"];

pub(crate) fn run(bench: &Bench, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let payloads = Payloads::new(settings.record, settings.seed);
    // A rate that is kept by the clock says nothing beside the rate of a floor that hurries.
    let in_a_hurry = settings.rate.is_none();
    let touched_bytes = if in_a_hurry { memory::touched_bytes(settings.most_round_bytes()) } else { 0 };
    let own = Settings { touched_bytes, own_syncs: true, ..settings.clone() };
    let none = Settings { own_syncs: false, ..own.clone() };
    // Records that wait for a sync are synced in any case.
    let both = in_a_hurry && settings.acks != Acks::Synced;
    let variants = if both { vec![&own, &none] } else { vec![&own] };
    let contestants = if in_a_hurry { 2 } else { 1 };
    let turns = |turn: usize| {
        let settings = variants[turn / contestants];
        match turn % contestants {
            0 => send::round(bench, settings, &payloads),
            _ => floor::append::run(bench, settings, &payloads, send::plan(settings, false)),
        }
    };
    let mut figures = take_turns(bench, &own, turns, variants.len() * contestants)?.into_iter();
    let lines = variants.into_iter().map(|settings| {
        let (name, floor) = match settings.own_syncs {
            true => ("own syncs", "framing, checksums, pwrite, and syncs"),
            false => ("no syncs", "framing, checksums, pwrite"),
        };
        let line = Line {
            workload: "append",
            variant: format!("{}, {name}", settings.record_name()),
            unit: "records",
            measure: Measure::Rate,
            uses: &[&VALUES, &USES, &TIMES, &ENGINE],
            figures: figures.next().unwrap_or_default(),
            floors: figures.by_ref().take(contestants - 1).map(|figures| Floor { name: floor, figures }).collect(),
        };
        (line, settings)
    });
    Ok(rows(bench, lines.collect()))
}
