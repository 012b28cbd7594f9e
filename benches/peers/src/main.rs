//! thalweg beside the other logs one can embed: the same workloads, in turns, in one run.
//!
//! `cargo run --release` in this directory; README.md says what each row does.

mod environment;
mod memory;
mod payload;
mod peer;
mod peers;
mod report;
mod rounds;
mod workload;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use environment::Environment;
use peer::{Entry, Outcome};
use report::Report;
use rounds::{Plan, Results};
use workload::Workload;

/// Runs the same workloads on thalweg and on the logs one can embed, in turns.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Command {
    #[command(subcommand)]
    one: Option<One>,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
struct Options {
    /// Rounds; the median of them is shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Payload bytes of each measurement but the durable ones (K, M, G may follow).
    #[arg(long, default_value = "1G", value_parser = bytes)]
    total: u64,
    /// Seconds after which a measurement ends even if not all was appended or read.
    #[arg(long, default_value_t = 2.5)]
    limit: f64,
    /// Minutes after which no more measurements begin.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Random seed of the order in which the logs take their turns.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the logs are put, in a directory that is removed in the end: on the drive to be measured.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Only these logs and workloads, by name, with commas between.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Writes everything that was found to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Prints the tables in Markdown.
    #[arg(long)]
    markdown: bool,
    /// Lists the logs and workloads, and ends.
    #[arg(long)]
    list: bool,
}

#[derive(Subcommand)]
enum One {
    /// One measurement; prints what it found as JSON.
    #[command(hide = true)]
    One {
        #[arg(long)]
        log: String,
        #[arg(long)]
        workload: String,
        #[arg(long)]
        total: u64,
        #[arg(long)]
        limit_ms: u64,
        #[arg(long)]
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let command = Command::parse();
    let outcome = match command.one {
        Some(One::One { log, workload, total, limit_ms, dir }) => {
            one(&log, &workload, total, Duration::from_millis(limit_ms), &dir)
        }
        None => all(&command.options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A measurement in this process, which ends right after it: some logs leave threads behind.
fn one(log: &str, workload: &str, total: u64, limit: Duration, dir: &std::path::Path) -> Outcome {
    let entries = peers::all();
    let entry = entries.iter().find(|entry| entry.about.name == log).ok_or("no such log")?;
    let workload = Workload::named(workload).ok_or("no such workload")?;
    let measured = workload::measure(entry, workload, dir, total, limit)?;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

fn all(options: &Options) -> Outcome {
    let known = |name: &String| Workload::named(name).is_some() || peers::all().iter().any(|e| e.about.name == name);
    if let Some(unknown) = options.only.iter().find(|name| !known(name)) {
        return Err(format!("there is no log and no workload `{unknown}`; --list shows them").into());
    }
    let wanted = |name: &str, among: bool| !among || options.only.iter().any(|only| only == name);
    let some_logs = options.only.iter().any(|name| Workload::named(name).is_none());
    let some_workloads = options.only.iter().any(|name| Workload::named(name).is_some());
    let mut entries = peers::all();
    entries.retain(|entry| wanted(entry.about.name, some_logs));
    let workloads: Vec<_> = workload::ALL.iter().filter(|work| wanted(work.name, some_workloads)).collect();
    if options.list {
        entries.iter().for_each(|entry| println!("{}", entry.about.name));
        workloads.iter().for_each(|work| println!("{}: {}", work.name, work.title));
        return Ok(());
    }
    let dir = options.dir.join(format!("peers-{}", std::process::id()));
    fs::create_dir(&dir).map_err(|error| format!("{} can't be made: {error}", dir.display()))?;
    let environment = Environment::of(&dir);
    let plan = Plan {
        entries: &entries,
        workloads,
        rounds: options.rounds,
        seed: options.seed,
        touched_bytes: memory::touched_bytes(options.total),
        dir: dir.clone(),
        total: options.total,
        limit: Duration::from_secs_f64(options.limit),
        most: Duration::from_secs_f64(options.minutes * 60.0),
    };
    let results = plan.run();
    fs::remove_dir_all(&dir)?;
    let results = results?;
    println!("{}", environment.line());
    println!("{}\n", about_run(options, plan.touched_bytes, &results));
    Report { entries: &entries, workloads: &plan.workloads, results: &results, markdown: options.markdown }.print();
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&document(options, plan.touched_bytes, &environment, &entries, &results))?)?;
    }
    Ok(())
}

fn about_run(options: &Options, touched_bytes: u64, results: &Results) -> String {
    let cut = if results.cut_short { ", the last one cut short" } else { "" };
    format!(
        "{} whole rounds of {}{cut}; {} MiB of payload or {} s a measurement, before each of which {} MiB of page cache \
         are touched; random order, seed {}; the median is shown",
        results.rounds_done,
        options.rounds,
        options.total >> 20,
        options.limit,
        touched_bytes >> 20,
        options.seed,
    )
}

fn document(
    options: &Options,
    touched_bytes: u64,
    environment: &Environment,
    entries: &[Entry],
    results: &Results,
) -> serde_json::Value {
    let versions: serde_json::Map<_, _> = entries
        .iter()
        .map(|entry| (entry.about.name.to_owned(), report::version_of(entry.about.name).into()))
        .collect();
    json!({
        "environment": environment,
        "settings": {
            "rounds": options.rounds,
            "rounds_done": results.rounds_done,
            "total_bytes": options.total,
            "limit_seconds": options.limit,
            "touched_bytes": touched_bytes,
            "seed": options.seed,
        },
        "versions": versions,
        "results": results.cells,
    })
}

/// `64M` and the like.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is no number of bytes"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is too large"))
}
