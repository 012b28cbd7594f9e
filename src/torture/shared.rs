//! What the threads of a run share: counts, the states seen, and whether to stop.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::report::{Limits, Report, Violation};
use crate::lock::lock;

const SHARDS: usize = 64;
const TELL_EVERY: Duration = Duration::from_millis(200);

pub(super) struct Shared<'a> {
    began: Instant,
    time: Option<Duration>,
    stop: AtomicBool,
    cycles: AtomicU64,
    crash_points: AtomicU64,
    states: AtomicU64,
    distinct_states: AtomicU64,
    faults: AtomicU64,
    seen: Vec<Mutex<HashSet<u64>>>,
    violations: Mutex<Vec<Violation>>,
    told: Mutex<Duration>,
    tell: &'a (dyn Fn(&Report) -> bool + Sync),
}

impl<'a> Shared<'a> {
    pub(super) fn new(limits: &Limits, tell: &'a (dyn Fn(&Report) -> bool + Sync)) -> Shared<'a> {
        Shared {
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
            told: Mutex::new(Duration::ZERO),
            tell,
        }
    }

    pub(super) fn count_crash_point(&self) {
        self.crash_points.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_faults(&self, faults: u64) {
        self.faults.fetch_add(faults, Ordering::Relaxed);
    }

    pub(super) fn count_cycle(&self) {
        self.cycles.fetch_add(1, Ordering::Relaxed);
    }

    /// `false`: the run is over.
    pub(super) fn count_state(&self, content: u64) -> bool {
        let states = self.states.fetch_add(1, Ordering::Relaxed);
        if lock(&self.seen[content as usize % SHARDS]).insert(content) {
            self.distinct_states.fetch_add(1, Ordering::Relaxed);
        }
        if states.is_multiple_of(16) {
            self.look();
        }
        !self.is_over()
    }

    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether time is up; tells of the progress now and then.
    pub(super) fn look(&self) {
        let passed = self.began.elapsed();
        if self.time.is_some_and(|limit| passed >= limit) {
            self.stop.store(true, Ordering::Relaxed);
        }
        let Ok(mut told) = self.told.try_lock() else { return };
        if passed - *told >= TELL_EVERY {
            *told = passed;
            if !(self.tell)(&self.report()) {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn violated(&self, violation: Violation) {
        lock(&self.violations).push(violation);
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn report(&self) -> Report {
        let mut violations = lock(&self.violations).clone();
        violations.sort_by_key(|violation| violation.seed);
        Report {
            cycles: self.cycles.load(Ordering::Relaxed),
            crash_points: self.crash_points.load(Ordering::Relaxed),
            states: self.states.load(Ordering::Relaxed),
            distinct_states: self.distinct_states.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
            violations,
        }
    }
}
