//! Threads that do the same thing until time or bytes are used up, counted while they do.
//!
//! A lane says every few records what it did; that costs two stores. The thread that started them looks
//! ten times a second: at the clock, at Ctrl-C, at what was done since.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::context::Bench;
use super::figures::{Latencies, Run, Series};
use crate::failure::Failure;

/// Records after which a lane that is in a hurry says what it did.
pub(crate) const CHUNK: u64 = 64;

const WARM_UP: u8 = 0;
const MEASURE: u8 = 1;
const OVER: u8 = 2;

/// When it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
    /// Of all lanes together, while they are measured.
    pub(crate) bytes: Option<u64>,
    /// Whether the engine is at work, whose memory counts.
    pub(crate) is_engine: bool,
}

/// What one lane did. Alone in its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Done {
    count: AtomicU64,
    bytes: AtomicU64,
}

/// One thread's side.
#[derive(Debug)]
pub(crate) struct Lane<'a> {
    pub(crate) number: usize,
    phase: &'a AtomicU8,
    done: &'a Done,
    count: u64,
    bytes: u64,
    /// What was done when measuring began.
    base_bytes: Option<u64>,
    share_bytes: u64,
    latencies: Latencies,
}

impl Lane<'_> {
    /// Notes what was done since the last time; whether to go on.
    #[inline]
    pub(crate) fn did(&mut self, count: u64, bytes: u64) -> bool {
        self.count += count;
        self.bytes += bytes;
        self.done.count.store(self.count, Ordering::Relaxed);
        self.done.bytes.store(self.bytes, Ordering::Relaxed);
        match self.phase.load(Ordering::Relaxed) {
            MEASURE => self.bytes - *self.base_bytes.get_or_insert(self.bytes - bytes) < self.share_bytes,
            phase => phase == WARM_UP,
        }
    }

    /// Notes how long something took, if it is measured now.
    #[inline]
    pub(crate) fn took(&mut self, time: Duration) {
        if self.phase.load(Ordering::Relaxed) == MEASURE {
            self.latencies.record(time);
        }
    }

    /// Takes over what another thread measured for this lane.
    pub(crate) fn add(&mut self, latencies: &Latencies) {
        self.latencies.add(latencies);
    }

    pub(crate) fn is_measured(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == MEASURE
    }
}

/// Runs `work` in so many threads, then `settle`, whose time counts too. Also what each lane did in all,
/// the warm-up included.
pub(crate) fn run(
    bench: &Bench,
    plan: Plan,
    lanes: usize,
    work: impl Fn(&mut Lane<'_>) -> Result<(), Failure> + Sync,
    settle: impl FnOnce() -> Result<(), Failure>,
) -> Result<(Run, Vec<u64>), Failure> {
    let phase = AtomicU8::new(if plan.warm_up.is_zero() { MEASURE } else { WARM_UP });
    let done: Vec<Done> = (0..lanes).map(|_| Done::default()).collect();
    let share_bytes = plan.bytes.map_or(u64::MAX, |bytes| bytes.div_ceil(lanes as u64));
    let step = (plan.time / 20).clamp(Duration::from_millis(5), Duration::from_millis(100));
    let mut watch = Watch {
        bench,
        plan,
        phase: &phase,
        done: &done,
        start: Instant::now(),
        base: (0, 0),
        last: (0, 0),
        series: Series::new(step),
    };
    let mut latencies = Latencies::default();
    thread::scope(|scope| {
        let (ends, ended) = mpsc::channel();
        for (number, done) in done.iter().enumerate() {
            let (work, phase, ends) = (&work, &phase, ends.clone());
            scope.spawn(move || {
                let latencies = Latencies::default();
                let mut lane =
                    Lane { number, phase, done, count: 0, bytes: 0, base_bytes: None, share_bytes, latencies };
                let outcome = work(&mut lane);
                let _ = ends.send(outcome.map(|()| lane.latencies));
            });
        }
        drop(ends);
        watch.until_ended(&ended, &mut latencies)
    })?;
    settle()?;
    let time = watch.start.elapsed();
    if plan.is_engine {
        bench.peak.look();
    }
    let (count, bytes) = watch.total();
    let series = Some(watch.series).filter(|series| series.points.len() > 1);
    let run = Run { count: count - watch.base.0, bytes: bytes - watch.base.1, time, latencies, series };
    Ok((run, done.iter().map(|done| done.count.load(Ordering::Relaxed)).collect()))
}

/// The side of the thread that started them.
struct Watch<'a> {
    bench: &'a Bench,
    plan: Plan,
    phase: &'a AtomicU8,
    done: &'a [Done],
    /// When measuring began; before that, when everything did.
    start: Instant,
    /// Counts and bytes at that time.
    base: (u64, u64),
    /// And when it was last looked.
    last: (u64, u64),
    series: Series,
}

impl Watch<'_> {
    fn until_ended(
        &mut self,
        ended: &mpsc::Receiver<Result<Latencies, Failure>>,
        latencies: &mut Latencies,
    ) -> Result<(), Failure> {
        let mut failed = None;
        let mut next = self.start + self.series.interval;
        let step = self.series.interval;
        loop {
            let due = next.min(self.start + self.phase_time());
            match ended.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Ok(measured)) => latencies.add(&measured),
                Ok(Err(failure)) => {
                    failed.get_or_insert(failure);
                    self.phase.store(OVER, Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Disconnected) => return failed.map_or(Ok(()), Err),
                Err(RecvTimeoutError::Timeout) => {
                    self.look();
                    while next <= Instant::now() {
                        next += step;
                        self.sample();
                    }
                }
            }
        }
    }

    /// Of the phase that is on; the last has no end.
    fn phase_time(&self) -> Duration {
        match self.phase.load(Ordering::Relaxed) {
            WARM_UP => self.plan.warm_up,
            MEASURE => self.plan.time,
            _ => Duration::from_secs(1 << 30),
        }
    }

    fn look(&mut self) {
        if self.plan.is_engine {
            self.bench.peak.look();
        }
        self.bench.tick();
        let phase = self.phase.load(Ordering::Relaxed);
        if self.bench.is_interrupted() {
            self.phase.store(OVER, Ordering::Relaxed);
        } else if phase != OVER && self.start.elapsed() >= self.phase_time() {
            if phase == WARM_UP {
                (self.start, self.base) = (Instant::now(), self.total());
                self.last = self.base;
            }
            self.phase.store(phase + 1, Ordering::Relaxed);
        }
    }

    /// Once an interval: what was done in it.
    fn sample(&mut self) {
        if self.phase.load(Ordering::Relaxed) == MEASURE {
            let total = self.total();
            self.series.push(total.0 - self.last.0, total.1 - self.last.1);
            self.last = total;
        }
    }

    fn total(&self) -> (u64, u64) {
        let sum = |of: fn(&Done) -> &AtomicU64| self.done.iter().map(|done| of(done).load(Ordering::Relaxed)).sum();
        (sum(|done| &done.count), sum(|done| &done.bytes))
    }
}

/// When records are due, by the clock: so many a second, whatever became of those before.
#[derive(Debug)]
pub(crate) struct Schedule {
    begin: Instant,
    per_s: f64,
    sent: u64,
    pace: Pace,
}

/// How a producer waits until the next record is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It sleeps, and yields its core just before the time.
    Sleep,
    /// It keeps its core.
    Spin,
}

impl Schedule {
    pub(crate) fn new(per_s: f64, pace: Pace) -> Schedule {
        Schedule { begin: Instant::now(), per_s, sent: 0, pace }
    }

    /// Waits until the next record is due; at once if that is past. Says when it was due.
    pub(crate) fn next(&mut self) -> Instant {
        let due = self.begin + Duration::from_secs_f64(self.sent as f64 / self.per_s);
        self.sent += 1;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return due;
            }
            if self.pace == Pace::Spin {
                std::hint::spin_loop();
            } else if left > NAP * 2 {
                thread::sleep(left - NAP);
            } else {
                // A sleep would be late by more than what is measured; others may have the core.
                thread::yield_now();
            }
        }
    }
}

/// How late a sleep may end.
const NAP: Duration = Duration::from_micros(200);
