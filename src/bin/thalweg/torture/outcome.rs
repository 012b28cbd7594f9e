//! What a run did so far, whichever kind it is.

use std::time::Duration;

use thalweg::torture::{Report, Violation};

/// Counts, and what must never happen and did.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) cycles: u64,
    pub(super) crash_points: u64,
    pub(super) states: u64,
    pub(super) distinct_states: u64,
    pub(super) faults: u64,
    pub(super) kills: u64,
    /// Of those, the ones while the directory was being opened or made.
    pub(super) kills_while_opening: u64,
    /// Records and commits that were acknowledged.
    pub(super) acknowledged: u64,
    pub(super) commits: u64,
    /// Records that were read and compared.
    pub(super) records_checked: u64,
    pub(super) found: Vec<Found>,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) seed: u64,
    pub(super) what: String,
    pub(super) history: Vec<String>,
    /// Where the files are, if there are any.
    pub(super) directory: Option<std::path::PathBuf>,
}

impl From<&Report> for Outcome {
    fn from(report: &Report) -> Outcome {
        Outcome {
            cycles: report.cycles,
            crash_points: report.crash_points,
            states: report.states,
            distinct_states: report.distinct_states,
            faults: report.faults,
            found: report.violations.iter().map(Found::from).collect(),
            ..Outcome::default()
        }
    }
}

impl From<&Violation> for Found {
    fn from(violation: &Violation) -> Found {
        Found {
            seed: violation.seed,
            what: violation.what.clone(),
            history: violation.history.clone(),
            directory: None,
        }
    }
}

/// What was asked for, for the report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) mode: Mode,
    pub(super) seed: u64,
    pub(super) time: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Sim,
    Kill,
    Io,
    Replay,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::Sim => "sim",
            Mode::Kill => "kill",
            Mode::Io => "io",
            Mode::Replay => "replay",
        }
    }
}
