//! `partitions`: many partitions, records spread over them one by one; compared with one partition and the
//! same producers.

use super::{ENGINE, Line, TIMES, VALUES, send, take_turns};
use crate::bench::context::Bench;
use crate::bench::figures::{Floor, Measure, Row};
use crate::bench::payload::Payloads;
use crate::bench::settings::Settings;
use crate::failure::Failure;

pub(crate) fn run(bench: &Bench, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let payloads = Payloads::new(settings.record, settings.seed);
    let one = Settings { partitions: 1, ..settings.clone() };
    // Kept over the rounds: making hundreds of files anew would take longer than a round.
    let mut logs = [send::Log::open(bench, settings, &payloads)?, send::Log::open(bench, &one, &payloads)?];
    let turns = |turn: usize| {
        let run = logs[turn].run(bench)?;
        // Else it would sync while the other one is measured.
        logs[turn].sync()?;
        Ok(run)
    };
    let mut figures = take_turns(bench, settings, turns, 2)?.into_iter();
    logs.into_iter().try_for_each(|log| log.finish(bench))?;
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

/// Both logs, over all rounds.
pub(crate) fn needs(settings: &Settings) -> u64 {
    let all = Settings { rounds: 1, warm_up: settings.warm_up * settings.rounds, ..settings.clone() };
    2 * all.round_disk_bytes()
}
