//! What the threads of a run share: counts, the states seen, and whether to stop.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::report::{Limits, Report, Violation};
use crate::lock::{Mutex, lock};

const SHARDS: usize = 64;

/// One thread's share in a run.
pub(super) struct Shared {
    run: Arc<Run>,
    pulse: Arc<Pulse>,
}

/// What a thread is at, and that it gets on.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    seed: AtomicU64,
    beats: AtomicU64,
}

pub(super) struct Run {
    began: Instant,
    time: Option<Duration>,
    stop: AtomicBool,
    cycles: AtomicU64,
    crash_points: AtomicU64,
    states: AtomicU64,
    distinct_states: AtomicU64,
    faults: AtomicU64,
    seen: Vec<Mutex<HashSet<u64>>>,
    violations: Mutex<BTreeMap<u64, Violation>>,
}

impl Pulse {
    pub(super) fn begin(&self, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
        self.beat();
    }

    fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// The cycle it is at, and how often something came back from it or one before.
    pub(super) fn look(&self) -> (u64, u64) {
        (self.seed.load(Ordering::Relaxed), self.beats.load(Ordering::Relaxed))
    }
}

impl Shared {
    pub(super) fn new(run: Arc<Run>) -> Shared {
        Shared { run, pulse: Arc::default() }
    }

    /// Another run, in the same thread.
    pub(super) fn with_limits(&self, limits: &Limits) -> Shared {
        Shared { run: Arc::new(Run::new(limits)), pulse: self.pulse.clone() }
    }

    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    pub(super) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    pub(super) fn count_crash_point(&self) {
        self.pulse.beat();
        self.run.crash_points.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_faults(&self, faults: u64) {
        self.run.faults.fetch_add(faults, Ordering::Relaxed);
    }

    /// `false`: the run is over.
    pub(super) fn count_state(&self, content: u64) -> bool {
        self.pulse.beat();
        let states = self.run.states.fetch_add(1, Ordering::Relaxed);
        if lock(&self.run.seen[content as usize % SHARDS]).insert(content) {
            self.run.distinct_states.fetch_add(1, Ordering::Relaxed);
        }
        if states.is_multiple_of(16) {
            self.run.look_at_the_clock();
        }
        !self.is_over()
    }

    pub(super) fn is_over(&self) -> bool {
        self.run.is_over()
    }
}

impl Run {
    pub(super) fn new(limits: &Limits) -> Run {
        Run {
            began: Instant::now(),
            time: limits.time,
            stop: AtomicBool::new(false),
            cycles: AtomicU64::new(0),
            crash_points: AtomicU64::new(0),
            states: AtomicU64::new(0),
            distinct_states: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            seen: (0..SHARDS).map(|_| Mutex::default()).collect(),
            violations: Mutex::default(),
        }
    }

    pub(super) fn look_at_the_clock(&self) {
        if self.time.is_some_and(|limit| self.began.elapsed() >= limit) {
            self.stop();
        }
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn count_cycle(&self) {
        self.cycles.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the run. A second one of the same seed takes the first one's place.
    pub(super) fn violated(&self, violation: Violation) {
        lock(&self.violations).insert(violation.seed, violation);
        self.stop();
    }

    pub(super) fn report(&self) -> Report {
        Report {
            cycles: self.cycles.load(Ordering::Relaxed),
            crash_points: self.crash_points.load(Ordering::Relaxed),
            states: self.states.load(Ordering::Relaxed),
            distinct_states: self.distinct_states.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
            violations: lock(&self.violations).values().cloned().collect(),
        }
    }
}
