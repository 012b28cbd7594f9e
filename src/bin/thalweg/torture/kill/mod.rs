//! `torture kill`: a process appends, deletes, polls and commits, says what was acknowledged, and is
//! killed; then the directory must hold what was promised, and nothing else.
//!
//! Each thread has directories of its own, one after the other; *round* n of a run that began with
//! seed s has seed s + n, which decides what is written there and when the kills come.

mod chance;
mod falsify;
mod life;
mod look;
mod oracle;
#[cfg(test)]
mod oracle_tests;
mod plan;
mod round;
mod said;
mod victim;

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use thalweg::torture::Limits;

use super::live::Live;
use super::outcome::Outcome;
use crate::directory::{self, Directory};
use crate::failure::Failure;
use crate::output::tell;
use crate::torture::Falsify;

use round::Round;
pub(super) use victim::victim;

/// What the threads of a run share.
struct Run<'a> {
    limits: &'a Limits,
    falsify: Option<Falsify>,
    begun: Instant,
    program: PathBuf,
    base: PathBuf,
    live: &'a Live,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    outcome: Outcome,
    seen: HashSet<u64>,
    /// Cycles and rounds that were begun.
    cycles: u64,
    rounds: u64,
    failure: Option<Failure>,
    over: bool,
}

pub(super) fn run(
    directory: &Directory,
    limits: &Limits,
    falsify: Option<Falsify>,
    live: &Live,
) -> Result<Outcome, Failure> {
    let program =
        std::env::current_exe().map_err(|error| Failure::new(format!("could not find this program again: {error}")))?;
    let base = make_base(directory, limits.seed)?;
    tell(format_args!("in {}", base.display()));
    let run = Run { limits, falsify, begun: Instant::now(), program, base, live, state: Mutex::default() };
    std::thread::scope(|scope| {
        for _ in 0..limits.threads.max(1) {
            scope.spawn(|| run.work());
        }
    });
    let State { outcome, failure, .. } = run.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    // What broke a promise is kept; so nothing is removed that isn't empty.
    let _ = fs::remove_dir(&run.base);
    match failure {
        Some(failure) if outcome.found.is_empty() => Err(failure),
        _ => Ok(outcome),
    }
}

impl Run<'_> {
    fn work(&self) {
        while let Some(seed) = self.next_round() {
            if let Err(failure) = self.round(seed) {
                self.with(|state| {
                    state.over = true;
                    state.failure.get_or_insert(failure);
                });
            }
        }
    }

    fn round(&self, seed: u64) -> Result<(), Failure> {
        let dir = self.base.join(format!("round-{seed}"));
        let mut round = Round::new(self.program.clone(), dir, seed, self.falsify)?;
        let mut broken = false;
        let mut failed = None;
        while !broken && !round.is_over() && self.next_cycle() {
            let mut counted = Outcome::default();
            match round.live(&mut counted) {
                Ok(state) => broken = self.count(counted, state),
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
            }
        }
        let removed = if broken { Ok(()) } else { round.remove() };
        failed.map_or(removed, Err)
    }

    /// Adds what a cycle did; whether it broke a promise.
    fn count(&self, mut cycle: Outcome, state_seen: Option<u64>) -> bool {
        let broken = !cycle.found.is_empty();
        let total = self.with(|state| {
            let total = &mut state.outcome;
            total.cycles += cycle.cycles;
            total.crash_points += cycle.crash_points;
            total.states += cycle.states;
            total.kills += cycle.kills;
            total.kills_while_opening += cycle.kills_while_opening;
            total.acknowledged += cycle.acknowledged;
            total.commits += cycle.commits;
            total.records_checked += cycle.records_checked;
            total.found.append(&mut cycle.found);
            total.distinct_states += u64::from(state_seen.is_some_and(|seen| state.seen.insert(seen)));
            state.over |= broken;
            state.outcome.clone()
        });
        if !self.live.show(&total) {
            self.with(|state| state.over = true);
        }
        broken
    }

    /// The seed of the next round, if there is one.
    fn next_round(&self) -> Option<u64> {
        let seed = self.with(|state| {
            let seed = self.limits.seed.wrapping_add(state.rounds);
            let goes_on = !state.over && self.limits.cycles.is_none_or(|cycles| state.cycles < cycles);
            state.rounds += u64::from(goes_on);
            goes_on.then_some(seed)
        });
        seed.filter(|_| self.has_time())
    }

    fn next_cycle(&self) -> bool {
        self.has_time()
            && self.with(|state| {
                let goes_on = !state.over && self.limits.cycles.is_none_or(|cycles| state.cycles < cycles);
                state.cycles += u64::from(goes_on);
                goes_on
            })
    }

    fn has_time(&self) -> bool {
        !self.live.is_interrupted() && self.limits.time.is_none_or(|time| self.begun.elapsed() < time)
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A directory for this run alone: below the one that was named, or among temporary files.
fn make_base(directory: &Directory, seed: u64) -> Result<PathBuf, Failure> {
    let parent = if directory.was_named() { directory.path().to_owned() } else { std::env::temp_dir() };
    directory::refuse_data(&parent, "torture")?;
    let base = parent.join(format!("thalweg-torture-{}-{seed}", std::process::id()));
    fs::create_dir_all(&parent)
        .and_then(|()| fs::create_dir(&base))
        .and_then(|()| fs::canonicalize(&base))
        .map_err(|error| Failure::new(format!("could not make the directory {}: {error}", base.display())))
}
