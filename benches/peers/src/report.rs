//! The tables: one a workload, and one that says what each log does; for a terminal or in Markdown.

use comfy_table::presets::{ASCII_MARKDOWN, UTF8_FULL_CONDENSED};
use comfy_table::{CellAlignment, ContentArrangement, Table};

use crate::peer::{Can, Entry, Level};
use crate::rounds::{Cell, Results};
use crate::workload::{Measured, Workload};

/// Ours: the rows whose names begin so are those that the others are peers of.
const OURS: &str = "thalweg";
/// And so begin those of the least possible work, which is no log.
const FLOOR: &str = "floor";

pub(crate) struct Report<'a> {
    pub(crate) entries: &'a [Entry],
    pub(crate) workloads: &'a [&'static Workload],
    pub(crate) results: &'a Results,
    pub(crate) markdown: bool,
}

impl Report<'_> {
    pub(crate) fn print(&self) {
        for workload in self.workloads {
            self.heading(workload.title);
            println!("{}\n", self.table_of(workload));
            self.reasons(workload);
        }
        self.heading("What each does");
        println!("{}", self.ways());
    }

    fn heading(&self, title: &str) {
        if self.markdown { println!("### {title}\n") } else { println!("{title}") }
    }

    fn table(&self, header: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(if self.markdown { ASCII_MARKDOWN } else { UTF8_FULL_CONDENSED });
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(header.iter().copied());
        table
    }

    fn table_of(&self, workload: &Workload) -> Table {
        let durable = workload.level() == Level::Synced;
        let mut header = vec!["log", "acknowledged", "records/s", "min to max", "MB/s", "of the best peer"];
        if durable {
            header.extend(["p50 µs", "p99 µs"]);
        }
        header.push("read back");
        let mut table = self.table(&header);
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut cells: Vec<_> = self.results.cells.iter().filter(|cell| cell.workload == workload.name).collect();
        cells.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
        let best = cells
            .iter()
            .filter(|cell| !cell.log.starts_with(OURS) && !cell.log.starts_with(FLOOR))
            .filter(|cell| self.level(workload, cell) >= Some(workload.level()));
        let best = best.map(|cell| rate(cell)).fold(0.0, f64::max);
        for cell in cells {
            table.add_row(self.row(workload, cell, best, header.len()));
        }
        table
    }

    fn row(&self, workload: &Workload, cell: &Cell, best: f64, columns: usize) -> Vec<String> {
        let level = self.level(workload, cell).map_or_else(|| "-".to_owned(), |level| level.to_string());
        let mut row = vec![cell.log.to_owned(), level];
        if cell.runs.is_empty() {
            row.resize(columns, "-".to_owned());
            return row;
        }
        let rates = sorted(cell.runs.iter().map(per_second));
        let rate = rate(cell);
        row.push(count(rate));
        row.push(format!("{} to {}", count(rates[0]), count(rates[rates.len() - 1])));
        row.push(format!("{:.0}", rate * workload.record_bytes as f64 / 1e6));
        row.push(if best > 0.0 { format!("{:.2}", rate / best) } else { "-".to_owned() });
        if workload.level() == Level::Synced {
            row.push(micros(cell, |run| run.p50_us));
            row.push(micros(cell, |run| run.p99_us));
        }
        let all = cell.runs.iter().all(|run| run.verified >= run.records);
        let least = cell.runs.iter().map(|run| run.verified).min().unwrap_or_default();
        row.push(match (all, least) {
            (true, _) => "all".to_owned(),
            (false, 0) => "no time".to_owned(),
            (false, least) => format!("first {}", count(least as f64)),
        });
        row
    }

    /// Why a log has no figure here, or fewer than there were rounds.
    fn reasons(&self, workload: &Workload) {
        let of_this = self.results.cells.iter().filter(|cell| cell.workload == workload.name);
        let reasons: Vec<_> = of_this.filter_map(|cell| Some((cell.log, cell.why.as_ref()?))).collect();
        for (log, why) in &reasons {
            println!("- {log}: {why}");
        }
        if !reasons.is_empty() {
            println!();
        }
    }

    fn level(&self, workload: &Workload, cell: &Cell) -> Option<Level> {
        let entry = self.entries.iter().find(|entry| entry.about.name == cell.log)?;
        match workload.way(entry.about) {
            Can::Yes(level, _) => Some(level),
            Can::No(_) => None,
        }
    }

    fn ways(&self) -> Table {
        let mut table = self.table(&["log", "version", "what", "acknowledged", "how"]);
        for entry in self.entries {
            let about = entry.about;
            let ways = [
                ("one call", about.each),
                ("batches", about.batches),
                ("durable", about.durable),
                ("replay", about.replay),
                ("many logs", about.logs),
            ];
            for (at, (what, can)) in ways.into_iter().enumerate() {
                let (name, version) = if at == 0 { (about.name, version_of(about.name)) } else { ("", "") };
                let (level, how) = match can {
                    Can::Yes(_, how) if matches!(what, "replay" | "many logs") => ("".to_owned(), how),
                    Can::Yes(level, how) => (level.to_string(), how),
                    Can::No(why) => ("-".to_owned(), why),
                };
                table.add_row([name, version, what, &level, how]);
            }
            table.add_row(["", "", "settings", "", about.settings]);
        }
        table
    }
}

/// The version that this was built with, from the lock file.
pub(crate) fn version_of(package: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let package = if package.starts_with(OURS) { OURS } else { package };
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| **line != *name).skip(1);
    lines.next().and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"')).unwrap_or("-")
}

fn per_second(run: &Measured) -> f64 {
    run.records as f64 / run.seconds
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle one; of an even number, the lower of the two in the middle.
fn median(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values[(values.len() - 1) / 2] }
}

fn rate(cell: &Cell) -> f64 {
    median(&sorted(cell.runs.iter().map(per_second)))
}

fn micros(cell: &Cell, of: impl Fn(&Measured) -> Option<f64>) -> String {
    format!("{:.0}", median(&sorted(cell.runs.iter().filter_map(of))))
}

/// Three digits and a unit: 12.3 M, 456 k, 78.
fn count(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 999.5e3 => (value / 1e6, " M"),
        value if value >= 999.5 => (value / 1e3, " k"),
        value => (value, ""),
    };
    match value {
        value if unit.is_empty() || value >= 99.95 => format!("{value:.0}{unit}"),
        value if value >= 9.995 => format!("{value:.1}{unit}"),
        value => format!("{value:.2}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        let shown: Vec<_> = [0.0, 78.4, 999.4, 999.9, 12_345.0, 999_600.0, 47_000_000.0].map(count).into();
        assert_eq!(shown, ["0", "78", "999", "1.00 k", "12.3 k", "1.00 M", "47.0 M"]);
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        assert_eq!(version_of("commitlog"), "0.2.0");
        assert_eq!(version_of("no-such-package"), "-");
    }

    #[test]
    fn the_median_is_one_of_the_values() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0]), 1.0);
        assert_eq!(median(&[]), 0.0);
    }
}
