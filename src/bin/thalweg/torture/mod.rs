//! `torture`: tries to make the engine lose a record.
//!
//! `sim` and `io` run inside this process on a simulated disk ([`thalweg::torture`]); `kill` has child
//! processes work on the real one and kills them. Ctrl-C ends a run with what it has found so far.

mod args;
mod kill;
mod live;
mod outcome;
mod report;

use std::time::{Duration, Instant, SystemTime};

use thalweg::torture::Limits;

use crate::directory::Directory;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{self, tell};

pub(crate) use args::{Falsify, RunArgs, TortureCommand, VictimArgs};

use live::Live;
use outcome::{Asked, Mode, Outcome};

/// How long a run goes on if nothing else is said.
const DEFAULT_TIME: Duration = Duration::from_secs(60);

pub(crate) fn run(directory: &Directory, json: bool, command: TortureCommand) -> Result<(), Failure> {
    match command {
        TortureCommand::Sim(args) => {
            simulated(json, Mode::Sim, &args, |limits, live| thalweg::torture::sim(limits, &|so_far| live.note(so_far)))
        }
        TortureCommand::Io(args) => {
            simulated(json, Mode::Io, &args, |limits, live| thalweg::torture::io(limits, &|so_far| live.note(so_far)))
        }
        TortureCommand::Kill(args) => {
            let limits = limits(&args);
            let asked = asked(Mode::Kill, &limits);
            run_and_report(json, asked, |live| kill::run(directory, &limits, args.falsify, live))
        }
        TortureCommand::Replay { seed } => {
            let asked = Asked { mode: Mode::Replay, seed, time: None };
            run_and_report(json, asked, |live| {
                Ok(Outcome::from(&thalweg::torture::replay(seed, &|so_far| live.note(so_far))))
            })
        }
        TortureCommand::Victim(args) => kill::victim(directory, &args),
    }
}

fn simulated(
    json: bool,
    mode: Mode,
    args: &RunArgs,
    run: impl FnOnce(&Limits, &Live) -> thalweg::torture::Report,
) -> Result<(), Failure> {
    if args.falsify.is_some() {
        return Err(Failure::new("--falsify is for kill").code(2));
    }
    let limits = limits(args);
    run_and_report(json, asked(mode, &limits), |live| Ok(Outcome::from(&run(&limits, live))))
}

fn run_and_report(
    json: bool,
    asked: Asked,
    run: impl FnOnce(&Live) -> Result<Outcome, Failure>,
) -> Result<(), Failure> {
    if !json {
        // Said first: the run can then be repeated even if it is cut off.
        tell(format_args!("torture {}: seed {}", asked.mode.name(), asked.seed));
    }
    let begun = Instant::now();
    let live = Live::start(json, asked, interrupt::flag()?);
    let outcome = run(&live);
    live.done();
    let outcome = outcome?;
    let ended =
        report::Ended { asked, outcome: &outcome, elapsed: begun.elapsed(), interrupted: live.is_interrupted() };
    let printed = if json { output::print_json(&ended.json()) } else { output::print(&ended.text()) };
    if let Some(found) = outcome.found.first() {
        // Said by the exit code too if nobody reads stdout.
        return Err(Failure::new(format!("a promise was broken: {}", found.what)).next(ended.again(found)));
    }
    printed
}

fn limits(args: &RunArgs) -> Limits {
    let time = match (args.seconds, args.cycles) {
        (Some(seconds), _) => Some(Duration::from_secs(seconds)),
        (None, Some(_)) => None,
        (None, None) => Some(DEFAULT_TIME),
    };
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Limits {
        seed: args.seed.unwrap_or_else(seed_of_the_clock),
        time,
        cycles: args.cycles,
        threads: args.threads.unwrap_or_else(cores),
    }
}

fn asked(mode: Mode, limits: &Limits) -> Asked {
    Asked { mode, seed: limits.seed, time: limits.time }
}

/// Short enough to be typed.
fn seed_of_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_micros() as u64 % 1_000_000_000_000
}
