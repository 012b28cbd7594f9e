//! Crash tests of the engine itself, to be run for as long as one likes: [`sim`] explores what a crash
//! can leave, [`io`] what errors of the disk do. Both run the real engine on a [`SimDisk`] and compare
//! what it finds with a model.
//!
//! A *cycle* is one run, and its seed alone decides all that happens in it: cycle *n* of a run that
//! began with seed *s* has seed *s + n*, and [`replay`] repeats it.
//!
//! ```
//! use thalweg::torture::{self, Limits};
//!
//! let limits = Limits { seed: 0, time: None, cycles: Some(1), threads: 1 };
//! let report = torture::sim(&limits, &|_| true);
//! assert!(report.violations.is_empty() && report.states > 100);
//! ```
//!
//! [`SimDisk`]: crate::sim::SimDisk

mod check;
mod explore;
mod faults;
mod life;
mod lookups;
mod model;
mod report;
mod shared;
mod step;
#[cfg(test)]
mod tests;
mod threads;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use explore::{Explorer, Stop};
use shared::Shared;
use step::Step;

use crate::config::Acks;
use crate::sim::random::Random;

pub use report::{Limits, Report, Violation};

/// How long a history is made shorter.
const SHRINK_FOR: Duration = Duration::from_secs(60);

/// A kind of cycle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Sim,
    Io,
}

/// Crashes the engine at every operation of its disk, and opens what is left: each subset of what was
/// not durable, as far as there are not too many. Some of that lives on and crashes again.
///
/// `on_progress` is called several times a second; `false` ends the run. A cycle from which nothing comes back for
/// 30 s hangs, which is a violation; its thread can't be ended and goes on as long as the process.
pub fn sim(limits: &Limits, on_progress: &dyn Fn(&Report) -> bool) -> Report {
    run(Mode::Sim, limits, on_progress)
}

/// Lets operations of the disk fail: each kind, with each error, at each call, once and for ever, with
/// even seeds; with odd ones as drawn. A crash ends each life.
///
/// `on_progress` as for [`sim`].
pub fn io(limits: &Limits, on_progress: &dyn Fn(&Report) -> bool) -> Report {
    run(Mode::Io, limits, on_progress)
}

/// Repeats the cycle with this seed, of [`sim`] and then of [`io`].
///
/// `on_progress` as for [`sim`].
pub fn replay(seed: u64, on_progress: &dyn Fn(&Report) -> bool) -> Report {
    let limits = Limits { seed, time: None, cycles: Some(1), threads: 1 };
    let mut report = run(Mode::Sim, &limits, on_progress);
    let more = run(Mode::Io, &limits, on_progress);
    report.cycles += more.cycles;
    report.crash_points += more.crash_points;
    report.states += more.states;
    report.distinct_states += more.distinct_states;
    report.faults += more.faults;
    report.violations.extend(more.violations);
    report
}

fn run(mode: Mode, limits: &Limits, on_progress: &dyn Fn(&Report) -> bool) -> Report {
    let next = Arc::new(AtomicU64::new(0));
    let (first, cycles) = (limits.seed, limits.cycles);
    threads::run(limits, on_progress, move |shared| {
        loop {
            let run = shared.run();
            run.look_at_the_clock();
            let number = next.fetch_add(1, Ordering::Relaxed);
            if run.is_over() || cycles.is_some_and(|cycles| number >= cycles) {
                return;
            }
            let cycle = Cycle::of(mode, first.wrapping_add(number));
            shared.pulse().begin(cycle.seed);
            match cycle.run(&cycle.steps, shared) {
                Ok(()) => run.count_cycle(),
                Err(Stop::Over) => return,
                Err(Stop::Broken { what, place }) => {
                    run.count_cycle();
                    // As it is first: it may hang while it is made shorter.
                    run.violated(cycle.violation(&cycle.steps, &what, &place));
                    run.violated(cycle.shrink(what, place, shared));
                }
            }
        }
    })
}

/// All that a seed decides.
struct Cycle {
    mode: Mode,
    seed: u64,
    steps: Vec<Step>,
    /// Done before, without a crash; `None`: crashes come from the first operation on.
    before: Option<Vec<Step>>,
}

impl Cycle {
    fn of(mode: Mode, seed: u64) -> Cycle {
        let mut random = Random::new(seed);
        match mode {
            Mode::Sim => {
                let before = match random.below(4) {
                    0 => None,
                    number => Some(some_life()[..number * 4].to_vec()),
                };
                Cycle { mode, seed, steps: step::workload(seed, &mut random), before }
            }
            Mode::Io => Cycle { mode, seed, steps: step::with_faults(seed, &mut random), before: None },
        }
    }

    fn run(&self, steps: &[Step], shared: &Shared) -> Result<(), Stop> {
        let run = || match self.mode {
            Mode::Sim => Explorer::new(self.seed, shared).run(self.before.as_deref(), steps),
            Mode::Io => faults::run(self.seed, steps, shared),
        };
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(Stop::from(format!("a panic: {said}")))
        })
    }

    /// Leaves out steps for as long as the same promise is broken without them.
    fn shrink(&self, what: String, place: Vec<String>, shared: &Shared) -> Violation {
        let promise = |what: &str| what.split(':').map(str::to_owned).find(|part| part.len() < 4);
        let (mut steps, mut what, mut place) = (self.steps.clone(), what, place);
        let began = Instant::now();
        let mut at = 0;
        while at < steps.len() && steps.len() > 1 && began.elapsed() < SHRINK_FOR {
            let mut fewer = steps.clone();
            fewer.remove(at);
            let time = Some(SHRINK_FOR.saturating_sub(began.elapsed()));
            let limits = Limits { seed: self.seed, time, cycles: None, threads: 1 };
            match self.run(&fewer, &shared.with_limits(&limits)) {
                Err(Stop::Broken { what: also, place: there }) if promise(&also) == promise(&what) => {
                    (steps, what, place) = (fewer, also, there);
                }
                _ => at += 1,
            }
        }
        self.violation(&steps, &what, &place)
    }

    fn violation(&self, steps: &[Step], what: &str, place: &[String]) -> Violation {
        let mut history = vec!["open, create topic t".to_owned()];
        history.extend(self.before.iter().flatten().map(|step| format!("{step} (without a crash)")));
        history.extend(steps.iter().enumerate().map(|(number, step)| format!("{}. {step}", number + 1)));
        history.extend_from_slice(place);
        Violation { seed: self.seed, what: what.to_owned(), history }
    }
}

/// A life that leaves several segments, commits and a log start.
fn some_life() -> Vec<Step> {
    let append = |partition, records, bytes, acks| Step::Append { partition, records, bytes, acks, wait: true };
    vec![
        append(0, 2, 40, Acks::Synced),
        append(1, 1, 600, Acks::Written),
        Step::Commit { group: 0, partition: 0, share: 100, acks: Acks::Synced },
        append(0, 1, 5_000, Acks::Written),
        Step::Roll { partition: 0 },
        Step::Commit { group: 0, partition: 0, share: 50, acks: Acks::Written },
        Step::CreateTopic,
        append(0, 3, 300, Acks::None),
        Step::Reopen,
        append(0, 1, 90, Acks::Written),
        Step::DeleteRecords { partition: 0, share: 50 },
        append(1, 1, 20, Acks::Synced),
    ]
}
