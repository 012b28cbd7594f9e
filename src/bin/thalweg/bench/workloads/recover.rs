//! `recover`: how long opening takes until a first record is written, after a clean close and after the
//! process was killed in full flow; beside reading every file's first block and one sync.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use thalweg::Record;

use super::{ENGINE, Line, TOPIC, VALUES, send};
use crate::bench::context::Bench;
use crate::bench::figures::{Figures, Floor, Measure, Row, Run};
use crate::bench::floor;
use crate::bench::payload::{Payloads, Spread};
use crate::bench::settings::Settings;
use crate::failure::Failure;

/// What a process writes before it is killed, at least.
const FLOW_BYTES: u64 = 64 << 20;
/// A process that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(bench: &Bench, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let flow_bytes = flow_bytes(settings);
    let payloads = Payloads::new(settings.record, settings.seed);
    let piece = bench.scratch.fresh("engine")?;
    let dir = piece.path().join("data");
    let engine = settings.builder(&dir).open()?;
    engine.create_topic(TOPIC, settings.topic().retention_bytes(None))?;
    send::fill(
        bench,
        &engine,
        &payloads,
        Spread { partitions: settings.partitions, fixed: false },
        total_bytes(settings),
    )?;
    engine.close()?;
    let mut rows = Vec::new();
    for variant in ["clean", "killed"] {
        let (mut figures, mut floor) = (Figures::default(), Figures::default());
        let begun = Instant::now();
        for round in 0..settings.rounds {
            // Half of the time is for each of the two.
            if round > 0 && settings.limit.is_some_and(|limit| begun.elapsed() >= limit / 2) {
                break;
            }
            if variant == "killed" {
                kill_in_full_flow(bench, settings, &dir, flow_bytes)?;
            }
            if bench.is_interrupted() {
                break;
            }
            floor.add(&floor::open::run(&dir)?);
            figures.add(&open(settings, &dir)?);
            bench.peak.look();
            bench.tick();
        }
        let line = Line {
            workload: "recover",
            variant: variant.to_owned(),
            unit: "opens",
            measure: Measure::Median,
            uses: &[&VALUES, &["partitions", "total_bytes", "rounds"], &ENGINE],
            figures,
            floors: vec![Floor { name: "first blocks, one sync", figures: floor }],
        };
        rows.push(line.row(bench, settings));
    }
    Ok(rows)
}

/// The log, and what the killed ones add to it.
pub(crate) fn needs(settings: &Settings) -> u64 {
    let flow = flow_bytes(settings) + (flow_time(settings).as_secs_f64() * 3e9) as u64;
    settings.stored_bytes(total_bytes(settings) + u64::from(settings.rounds) * flow)
}

fn total_bytes(settings: &Settings) -> u64 {
    settings.total_bytes.unwrap_or(1 << 30)
}

fn flow_bytes(settings: &Settings) -> u64 {
    FLOW_BYTES.min(total_bytes(settings))
}

/// How long a process goes on then: a tenth of a second, or less if there is little to write.
fn flow_time(settings: &Settings) -> Duration {
    Duration::from_millis(100 * flow_bytes(settings) / FLOW_BYTES)
}

/// Until the first record is written.
fn open(settings: &Settings, dir: &Path) -> Result<Run, Failure> {
    let begun = Instant::now();
    let engine = settings.builder(dir).create(false).open()?;
    engine.producer_for(TOPIC)?.send(Record::new("first").partition(0))?.wait()?;
    let took = begun.elapsed();
    engine.close()?;
    let mut run = Run::new(1, 0, took);
    run.latencies.record(took);
    Ok(run)
}

fn kill_in_full_flow(bench: &Bench, settings: &Settings, dir: &Path, flow_bytes: u64) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("could not start this program again: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("--dir").arg(dir).args(["bench", "victim"]).args(arguments(settings, flow_bytes));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A Ctrl-C at the terminal is for us alone.
    command.process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let full = wait_until_full(bench, &mut child);
    if full == Some(true) {
        thread::sleep(flow_time(settings));
    }
    let ended_by_itself = child.try_wait().is_ok_and(|status| status.is_some());
    let _ = child.kill();
    let output =
        child.wait_with_output().map_err(|error| Failure::new(format!("could not wait for a process: {error}")))?;
    match full {
        Some(true) if !ended_by_itself => Ok(()),
        None => Ok(()),
        Some(_) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(Failure::new(format!("the process that was to be killed ended by itself: {}", said.trim())))
        }
    }
}

/// Whether it said that it is; `None` if we were interrupted before.
fn wait_until_full(bench: &Bench, child: &mut Child) -> Option<bool> {
    let (lines, heard) = mpsc::channel();
    let stdout = child.stdout.take()?;
    thread::spawn(move || {
        let mut line = String::new();
        let said = BufReader::new(stdout).read_line(&mut line).is_ok() && line == "full\n";
        let _ = lines.send(said);
    });
    let begun = Instant::now();
    while !bench.is_interrupted() {
        bench.tick();
        if let Ok(said) = heard.recv_timeout(Duration::from_millis(50)) {
            return Some(said);
        }
        if begun.elapsed() > PATIENCE {
            return Some(false);
        }
    }
    None
}

/// What gives the other process the same settings.
fn arguments(settings: &Settings, flow_bytes: u64) -> Vec<String> {
    let mut arguments = vec![
        format!("--record-size={}..{}", settings.record.min, settings.record.max),
        format!("--seed={}", settings.seed),
        format!("--partitions={}", settings.partitions),
        format!("--total={flow_bytes}"),
        format!("--driver={}", settings.driver_name()),
        format!("--pin={}", if settings.pin { "on" } else { "off" }),
    ];
    arguments.extend(settings.writers.map(|count| format!("--writers={count}")));
    arguments
}
