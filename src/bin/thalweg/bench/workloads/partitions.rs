//! `partitions`: many partitions, records spread over them one by one; compared with one partition and the
//! same producers.

use super::{ENGINE, Line, TIMES, VALUES, send, take_turns};
use crate::bench::Bench;
use crate::bench::figures::{Floor, Measure, Row};
use crate::bench::payload::Payloads;
use crate::bench::settings::Settings;
use crate::failure::Failure;

pub(crate) fn run(bench: &Bench, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let payloads = Payloads::new(settings.record, settings.seed);
    let one = Settings { partitions: 1, ..settings.clone() };
    let turns = |turn| send::round(bench, if turn == 0 { settings } else { &one }, &payloads);
    let mut figures = take_turns(bench, settings.rounds, turns, 2)?.into_iter();
    let line = Line {
        workload: "partitions",
        variant: settings.partitions.to_string(),
        unit: "records",
        measure: Measure::Rate,
        uses: &[&VALUES, &["producers", "partitions", "acks", "verify"], &TIMES, &ENGINE],
        figures: figures.next().unwrap_or_default(),
        floors: figures.map(|figures| Floor { name: "one partition", figures }).collect(),
    };
    Ok(vec![line.row(bench, settings)])
}
