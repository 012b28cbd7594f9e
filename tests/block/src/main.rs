//! thalweg on real file systems, over a block device that records every write and flush, loses what a
//! power failure could lose, fills up, and refuses.
//!
//! `cargo run --release -- replay` in this directory, as root; README.md says what each test does.

mod abort;
mod again;
mod chance;
mod check;
mod crash;
mod disk;
mod driver;
mod eio;
mod failure;
mod full;
mod history;
mod keep;
mod payload;
mod replay;
mod start;
mod supervise;
mod tools;
mod volume;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::{Args, Parser, Subcommand};

use failure::{Failure, Result};
use volume::Kind;

/// Puts thalweg on real file systems over a disk that records, loses and refuses. Needs root.
#[derive(Parser)]
#[command(version)]
struct Command {
    #[command(subcommand)]
    test: Test,
}

#[derive(Subcommand)]
enum Test {
    /// Power failures: what is acknowledged as synced survives (D1), the rest is a prefix (D2)
    Replay {
        /// Only this file system [default: each that can be had]
        #[arg(long, value_enum)]
        fs: Option<Kind>,
        /// First crashes of each workload; some crash a second time
        #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
        crashes: u32,
        /// Steps of each workload
        #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..))]
        steps: u32,
        #[command(flatten)]
        limits: Limits,
    },
    /// A full disk: no room is an error that passes, and nothing is lost by it (D4)
    Full {
        /// KiB between one amount of room and the next
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
        step: u64,
        #[command(flatten)]
        limits: Limits,
    },
    /// A failing disk: what failed stops, what was acknowledged stays (D4)
    Eio {
        /// Lives, each with other errors
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        lives: u32,
        #[command(flatten)]
        limits: Limits,
    },
    /// What ext4's syncs say after its journal was given up
    Abort {
        #[command(flatten)]
        limits: Limits,
    },
    /// What a file system makes of bytes that are written again after an error; and what of the engine that does so
    Again {
        #[command(flatten)]
        limits: Limits,
    },
}

#[derive(Args)]
struct Limits {
    /// Where chance begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Go on for so long with the seeds that follow; without it one round is done
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
}

/// What all tests are given.
pub(crate) struct Run {
    /// Empty, removed by others.
    pub(crate) scratch: PathBuf,
    pub(crate) seed: u64,
    seconds: Option<u64>,
    stop: Arc<AtomicBool>,
}

impl Run {
    /// Whether another round is to be done after so many.
    pub(crate) fn goes_on(&self, started: Instant, rounds: u64) -> Result<bool> {
        self.check_stopped()?;
        Ok(self.seconds.map_or(rounds == 0, |seconds| started.elapsed().as_secs() < seconds))
    }

    /// Whether the time is over.
    pub(crate) fn is_over(&self, started: Instant) -> Result<bool> {
        self.check_stopped()?;
        Ok(self.seconds.is_some_and(|seconds| started.elapsed().as_secs() >= seconds))
    }

    pub(crate) fn check_stopped(&self) -> Result<()> {
        if self.stop.load(Ordering::SeqCst) { Err(Failure::Stopped) } else { Ok(()) }
    }
}

fn main() -> ExitCode {
    let command = Command::parse();
    let Some(scratch) = supervise::scratch() else {
        return match supervise::run() {
            Ok(code) => code,
            Err(failure) => report("block", Err(failure)),
        };
    };
    let stop = match supervise::stop_flag() {
        Ok(stop) => stop,
        Err(failure) => return report("block", Err(failure)),
    };
    let run = |limits: &Limits| Run { scratch, seed: limits.seed, seconds: limits.seconds, stop };
    match &command.test {
        Test::Replay { fs, crashes, steps, limits } => {
            let run = run(limits);
            let kinds = fs.map_or(Kind::ALL.to_vec(), |kind| vec![kind]);
            let codes = kinds.into_iter().map(|kind| {
                of(kind, &format!("replay {}", kind.name()), || {
                    replay::run(&run, kind, *crashes as usize, *steps as usize)
                })
            });
            worst(codes.collect())
        }
        Test::Full { step, limits } => {
            let run = run(limits);
            worst(vec![of(Kind::Ext4, "full ext4", || full::run(&run, *step))])
        }
        Test::Abort { limits } => {
            let run = run(limits);
            worst(vec![of(Kind::Ext4, "abort ext4", || abort::run(&run))])
        }
        Test::Again { limits } => {
            let run = run(limits);
            let kinds = Kind::ALL.into_iter();
            worst(kinds.map(|kind| of(kind, &format!("again {}", kind.name()), || again::run(&run, kind))).collect())
        }
        Test::Eio { lives, limits } => {
            let run = run(limits);
            worst(vec![of(Kind::Ext4, "eio ext4", || eio::run(&run, *lives))])
        }
    }
}

/// Runs one test on one kind of file system and prints its line.
fn of(kind: Kind, name: &str, test: impl FnOnce() -> Result<String>) -> u8 {
    watch::start(name.to_owned());
    let result = match kind.missing() {
        Some(missing) => Err(Failure::Skipped(missing)),
        None => test(),
    };
    code(name, result)
}

fn worst(codes: Vec<u8>) -> ExitCode {
    ExitCode::from(codes.into_iter().max().unwrap_or(0))
}

fn report(name: &str, result: Result<String>) -> ExitCode {
    ExitCode::from(code(name, result))
}

/// 0: nothing found, or skipped; 1: a promise is broken; 2: the test could not be done.
fn code(name: &str, result: Result<String>) -> u8 {
    match result {
        Ok(what) => {
            println!("{name}: {what}");
            0
        }
        Err(Failure::Skipped(why)) => {
            println!("SKIPPED {name}: {why}");
            0
        }
        Err(Failure::Broken(what)) => {
            println!("BROKEN {name}: {what}");
            1
        }
        Err(Failure::Trouble(what)) => {
            println!("FAILED {name}: {what}");
            2
        }
        Err(Failure::Stopped) => {
            println!("stopped {name}");
            130
        }
    }
}
