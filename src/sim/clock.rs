//! A clock that stands still until it is told to go on.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::lock::{Mutex, MutexGuard, lock};

/// A clock that goes only when it is told to. Clones are the same clock.
///
/// ```
/// use std::time::Duration;
/// use thalweg::Clock;
/// use thalweg::sim::SimClock;
///
/// let clock = SimClock::new();
/// let began = clock.wall_ms();
/// clock.advance(Duration::from_millis(250));
/// assert_eq!(clock.wall_ms(), began + 250);
/// assert_eq!(clock.monotonic(), Duration::from_millis(250));
///
/// // Somebody sets the wall clock back: time-outs don't notice.
/// clock.set_wall_ms(0);
/// assert_eq!(clock.wall_ms(), 0);
/// assert_eq!(clock.monotonic(), Duration::from_millis(250));
/// ```
#[derive(Debug, Clone)]
pub struct SimClock {
    times: Arc<Mutex<Times>>,
}

#[derive(Debug)]
struct Times {
    monotonic: Duration,
    /// The wall time when the monotonic one was `set_at`.
    wall_ms: i64,
    set_at: Duration,
}

impl SimClock {
    /// A clock at 2024-01-01 00:00 UTC, whose monotonic time is zero.
    #[must_use]
    pub fn new() -> SimClock {
        let times = Times { monotonic: Duration::ZERO, wall_ms: 1_704_067_200_000, set_at: Duration::ZERO };
        SimClock { times: Arc::new(Mutex::new(times)) }
    }

    /// Lets both times go on.
    pub fn advance(&self, by: Duration) {
        let mut times = self.times();
        times.monotonic = times.monotonic.saturating_add(by);
    }

    /// Sets the wall time, forth or back, in milliseconds since 1970-01-01 UTC.
    pub fn set_wall_ms(&self, wall_ms: i64) {
        let mut times = self.times();
        times.wall_ms = wall_ms;
        times.set_at = times.monotonic;
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        lock(&self.times)
    }
}

impl Default for SimClock {
    fn default() -> SimClock {
        SimClock::new()
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> i64 {
        let times = self.times();
        let passed_ms = (times.monotonic - times.set_at).as_millis();
        times.wall_ms.saturating_add(i64::try_from(passed_ms).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.times().monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_millisecond_add_up() {
        let clock = SimClock::new();
        clock.set_wall_ms(-10);
        for _ in 0..25 {
            clock.clone().advance(Duration::from_micros(100));
        }
        assert_eq!(clock.wall_ms(), -8);
        assert_eq!(clock.monotonic(), Duration::from_micros(2_500));
    }
}
