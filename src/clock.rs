//! The only place that asks for the time. A clock is a value handed in at open.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
