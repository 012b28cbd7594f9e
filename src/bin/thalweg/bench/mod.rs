//! `bench`: how fast the engine is, beside what the machine can do with the least possible work, measured in
//! the same run. All workloads with one table, or one with flags of its own.

mod all;
mod args;
mod context;
mod environment;
mod figures;
mod floor;
mod lanes;
mod memory;
mod payload;
mod report;
mod scratch;
mod settings;
mod values;
mod workloads;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Instant, SystemTime};

pub(crate) use args::{BenchArgs, json_into_file};

use all::{Kind, Outcome, Part};
use args::{AllArgs, Workload};
use context::{Bench, Stage};
use environment::Environment;
use memory::Peak;
use report::Report;
use scratch::Scratch;
use settings::Settings;

use crate::directory::Directory;
use crate::failure::Failure;
use crate::interrupt;
use crate::output;
use crate::progress::StageBar;

/// What a shell says of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Where the results go besides, or instead of, the table.
struct Results {
    /// To stdout, instead.
    json: bool,
    json_file: Option<PathBuf>,
    page_file: Option<PathBuf>,
}

pub(crate) fn run(directory: &Directory, json: bool, args: BenchArgs) -> Result<(), Failure> {
    let results = Results { json, json_file: args.report, page_file: args.html };
    let all = &args.all;
    let Some(workload) = args.workload else { return measure(directory, &results, all::parts(all)) };
    if all.is_given() {
        let message = "a workload's flags stand behind it, such as `bench append --seconds 5`";
        return Err(Failure::new(message).code(2));
    }
    let part = |settings: Settings, kind: Kind| {
        let time = (settings.time + settings.warm_up * settings.rounds) * kind.contestants;
        Part { name: kind.name.to_owned(), settings, time, kind }
    };
    let parts = match workload {
        Workload::Append(args) => args.settings().into_iter().map(|settings| part(settings, all::APPEND)).collect(),
        Workload::Durable(args) => vec![part(args.settings(), all::DURABLE)],
        Workload::GroupCommit(args) => vec![part(args.settings(), all::GROUP_COMMIT)],
        Workload::Replay(args) => vec![part(args.settings(), all::REPLAY)],
        Workload::Tail(args) => vec![part(args.settings(), all::TAIL)],
        Workload::Partitions(args) => vec![part(args.settings(), all::PARTITIONS)],
        Workload::Recover(args) => vec![part(args.settings(), all::RECOVER)],
        Workload::Groups(args) => vec![part(args.settings(), all::GROUPS)],
        Workload::Device(args) => vec![part(args.settings(), all::DEVICE)],
        Workload::Victim(args) => return workloads::victim::run(directory, &args.settings()),
        Workload::Compare { before, after } => {
            if results.json_file.is_some() || results.page_file.is_some() {
                return Err(Failure::new("compare writes no files; --report and --html are for measuring").code(2));
            }
            return report::compare::run(&before, &after, json);
        }
    };
    measure(directory, &results, parts)
}

/// Runs the parts one after the other, and says what came out even if that is not all.
fn measure(directory: &Directory, results: &Results, parts: Vec<Part>) -> Result<(), Failure> {
    results.check()?;
    let bench = Bench {
        interrupted: interrupt::flag()?,
        only_stdout: results.json_file.is_none() && results.page_file.is_none(),
        scratch: Scratch::make(directory)?,
        peak: Peak::default(),
        stage: Mutex::default(),
    };
    // Better now than when half of it is done.
    for part in &parts {
        bench.scratch.need(&part.name, (part.kind.needs)(&part.settings))?;
    }
    let begun = Instant::now();
    let begun_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let environment = Environment::of(bench.scratch.path());
    let (mut rows, mut scaling, mut failed) = (Vec::new(), Vec::new(), None);
    let count = parts.len();
    for (number, part) in parts.into_iter().enumerate() {
        if bench.is_interrupted() {
            break;
        }
        bench.show(None);
        let bar = StageBar::start(number + 1, count, &part.name);
        bench.show(Some(Stage { bar, begun: Instant::now(), time: part.time }));
        let needed = (part.kind.needs)(&part.settings);
        let room = bench.scratch.need(&part.name, needed);
        match room.and_then(|()| (part.kind.run)(&bench, &part.settings)) {
            Ok(Outcome::Rows(more)) => rows.extend(more),
            Ok(Outcome::Scaling(more)) => scaling.extend(more),
            Err(failure) => {
                failed = Some(bench.scratch.explain(&part.name, needed, failure));
                break;
            }
        }
    }
    bench.show(None);
    let interrupted = bench.is_interrupted();
    // What measured nothing says nothing, unless it says why.
    rows.retain(|row| !row.figures.is_empty() || !row.notes.is_empty());
    let partial = interrupted || failed.is_some();
    let peak_anonymous_bytes = rows.iter().filter_map(|row| row.peak_anonymous_bytes).max();
    let time = begun.elapsed();
    drop(bench);
    let report = Report { environment, begun_ms, time, rows, scaling, partial, peak_anonymous_bytes };
    let said = if report.rows.is_empty() && failed.is_some() { Ok(()) } else { results.say(&report) };
    match failed {
        Some(failure) => Err(failure),
        None if matches!(said, Err(Failure::StdoutClosed)) => said,
        None if interrupted => Err(Failure::new("interrupted; the figures are partial").code(INTERRUPTED)),
        None => said,
    }
}

impl Results {
    /// A minute is too long to find out then that a file can't be written.
    fn check(&self) -> Result<(), Failure> {
        for path in [&self.json_file, &self.page_file].into_iter().flatten() {
            let is_new = !path.exists();
            let opened = std::fs::File::options().create(true).append(true).open(path);
            opened.map_err(|error| Failure::new(format!("could not write {}: {error}", path.display())))?;
            if is_new {
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(())
    }

    fn say(&self, report: &Report) -> Result<(), Failure> {
        if let Some(path) = &self.page_file {
            report::write_file(path, &report.html())?;
        }
        if let Some(path) = &self.json_file {
            report::write_file(path, &format!("{:#}\n", report.json()))?;
        }
        if self.json { output::print_json(&report.json()) } else { output::print(&report.table()) }
    }
}

impl AllArgs {
    /// Whether anything of it was on the command line.
    fn is_given(&self) -> bool {
        self.seconds.is_some() || self.record_size.is_some() || self.total.is_some() || self.engine.is_given()
    }
}
