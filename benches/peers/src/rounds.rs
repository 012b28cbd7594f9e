//! The whole run: rounds, in each every workload, in each every log once, in random order; each
//! measurement in a process of its own, which is killed if it doesn't come back.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::memory;
use crate::peer::{Can, Entry, Outcome};
use crate::workload::{Measured, Workload};

pub(crate) struct Plan<'a> {
    pub(crate) entries: &'a [Entry],
    pub(crate) workloads: Vec<&'static Workload>,
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
    /// Page cache that is touched before each measurement of throughput.
    pub(crate) touched_bytes: u64,
    pub(crate) dir: PathBuf,
    pub(crate) total: u64,
    pub(crate) limit: Duration,
    pub(crate) most: Duration,
}

/// Everything that was found for one log in one workload.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) workload: &'static str,
    pub(crate) log: &'static str,
    pub(crate) runs: Vec<Measured>,
    /// Why there are none, or fewer.
    pub(crate) why: Option<String>,
}

pub(crate) struct Results {
    pub(crate) cells: Vec<Cell>,
    pub(crate) rounds_done: usize,
    pub(crate) cut_short: bool,
}

impl Plan<'_> {
    pub(crate) fn run(&self) -> Outcome<Results> {
        let stop = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGINT, stop.clone())?;
        let began = Instant::now();
        let mut results = Results { cells: self.cells(), rounds_done: 0, cut_short: false };
        // Not 0, from which xorshift would never come away.
        let mut chance = self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        'rounds: for round in 0..self.rounds {
            for (at, workload) in self.workloads.iter().enumerate() {
                for turn in self.order(&mut chance) {
                    let cell = &mut results.cells[at * self.entries.len() + turn];
                    if cell.why.is_some() {
                        continue;
                    }
                    if stop.load(Ordering::Relaxed) || began.elapsed() > self.most {
                        results.cut_short = true;
                        break 'rounds;
                    }
                    eprint!("round {}, {}, {} ... ", round + 1, workload.name, cell.log);
                    match self.measure(workload, cell.log) {
                        Ok(measured) => {
                            eprintln!("{:.0} records/s", measured.records as f64 / measured.seconds);
                            cell.runs.push(measured);
                        }
                        Err(why) => {
                            eprintln!("{why}");
                            cell.why = Some(why.to_string());
                        }
                    }
                }
            }
            results.rounds_done += 1;
        }
        Ok(results)
    }

    /// Every log once, in a random order: a measurement finds memory and drive as the one before left them.
    fn order(&self, chance: &mut u64) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.entries.len()).collect();
        for at in (1..order.len()).rev() {
            *chance ^= *chance << 13;
            *chance ^= *chance >> 7;
            *chance ^= *chance << 17;
            order.swap(at, (*chance >> 32) as usize % (at + 1));
        }
        order
    }

    fn cells(&self) -> Vec<Cell> {
        let cell = |workload: &'static Workload, entry: &Entry| {
            let why = match workload.way(entry.about) {
                Can::Yes(..) => None,
                Can::No(why) => Some(why.to_owned()),
            };
            Cell { workload: workload.name, log: entry.about.name, runs: Vec::new(), why }
        };
        self.workloads.iter().flat_map(|workload| self.entries.iter().map(|entry| cell(workload, entry))).collect()
    }

    fn measure(&self, workload: &Workload, log: &str) -> Outcome<Measured> {
        let dir = self.dir.join("data");
        if !workload.is_durable() {
            memory::touch(&self.dir, self.touched_bytes)?;
        }
        fs::create_dir_all(&dir)?;
        let outcome = self.in_child(workload, log, &dir);
        fs::remove_dir_all(&dir)?;
        outcome
    }

    fn in_child(&self, workload: &Workload, log: &str, dir: &Path) -> Outcome<Measured> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["one", "--log", log, "--workload", workload.name])
            .args(["--total", &self.total.to_string(), "--limit-ms", &self.limit.as_millis().to_string()])
            .arg("--dir")
            .arg(dir)
            .env("WALRUS_QUIET", "1")
            .env("WALRUS_DATA_DIR", dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let deadline = Instant::now() + self.limit * 6 + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                return Err(format!("not done after {} s", (self.limit * 6).as_secs() + 20).into());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let (mut found, mut said) = (String::new(), String::new());
        child.stdout.take().ok_or("no stdout")?.read_to_string(&mut found)?;
        child.stderr.take().ok_or("no stderr")?.read_to_string(&mut said)?;
        if !status.success() {
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no word");
            return Err(format!("{status}: {last}").into());
        }
        Ok(serde_json::from_str(found.lines().last().unwrap_or_default())?)
    }
}
