//! The only place that asks for the time. A clock is a value handed in at open.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::events::Events;
use crate::lock::{AtomicI64, AtomicU64, Ordering};
use crate::panics::caught;

/// Where the engine takes the time from.
///
/// Timestamps come from [`wall_ms`](Clock::wall_ms), time-outs from
/// [`monotonic`](Clock::monotonic): setting the wall clock back or forth moves no time-out.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Milliseconds since 1970-01-01 UTC.
    ///
    /// Asked once a record, so a coarse reading (a few milliseconds) is right.
    fn wall_ms(&self) -> i64;

    /// Time since an arbitrary fixed point; never goes back.
    fn monotonic(&self) -> Duration;
}

/// An embedder's clock: while it panics, the time it gave last counts.
#[derive(Debug)]
pub(crate) struct Guarded {
    clock: Arc<dyn Clock>,
    events: Events,
    wall_ms: AtomicI64,
    monotonic_ns: AtomicU64,
}

impl Guarded {
    pub(crate) fn new(clock: Arc<dyn Clock>, events: Events) -> Guarded {
        Guarded { clock, events, wall_ms: AtomicI64::new(0), monotonic_ns: AtomicU64::new(0) }
    }
}

impl Clock for Guarded {
    fn wall_ms(&self) -> i64 {
        match caught(|| self.clock.wall_ms()) {
            Ok(now) => {
                self.wall_ms.store(now, Ordering::Relaxed);
                now
            }
            Err(error) => {
                self.events.emit_later("asking the clock", error);
                self.wall_ms.load(Ordering::Relaxed)
            }
        }
    }

    fn monotonic(&self) -> Duration {
        match caught(|| self.clock.monotonic()) {
            Ok(now) => {
                let ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
                self.monotonic_ns.fetch_max(ns, Ordering::Relaxed);
                now
            }
            Err(error) => {
                self.events.emit_later("asking the clock", error);
                Duration::from_nanos(self.monotonic_ns.load(Ordering::Relaxed))
            }
        }
    }
}

/// The machine's clocks.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[cfg(target_os = "linux")]
    fn wall_ms(&self) -> i64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
    }

    #[cfg(not(target_os = "linux"))]
    fn wall_ms(&self) -> i64 {
        precise_wall_ms()
    }

    fn monotonic(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }
}

/// Wall time to the millisecond, for what is read by people (a lock's "since", a file's birth).
pub(crate) fn precise_wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}
