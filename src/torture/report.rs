//! What a run was told and what it found.

use std::time::Duration;

/// How long a run goes on: until the first of them is reached, or the first violation.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The seed of the first cycle; the next one has the next number.
    pub seed: u64,
    /// No cycle begins after this time; `None`: no limit.
    pub time: Option<Duration>,
    /// So many cycles; `None`: no limit.
    pub cycles: Option<u64>,
    /// So many threads, each with cycles of its own; at least one.
    pub threads: usize,
}

/// What a run did so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Cycles done.
    pub cycles: u64,
    /// Moments at which the machine was made to crash.
    pub crash_points: u64,
    /// Disks found after a crash that an engine was opened on and compared with the model.
    pub states: u64,
    /// Those that were unlike all others of the run, by a hash over all names and bytes.
    pub distinct_states: u64,
    /// Errors that the disk gave to order.
    pub faults: u64,
    /// What must never happen and did; a run ends with the first.
    pub violations: Vec<Violation>,
}

/// A broken promise, and how to see it again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The cycle that [`replay`](super::replay) repeats.
    pub seed: u64,
    /// The promise and what was found instead.
    pub what: String,
    /// What was done before, shrunken to what is needed to see it, a line each.
    pub history: Vec<String>,
}
