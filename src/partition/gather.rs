//! When a writer waits a moment for company before it syncs.
//!
//! Threads that each wait for their own record come in two crowds: while one crowd's sync runs the other
//! gathers, and each waits for two syncs. Where those just woken come back at once, it pays to wait for
//! them: all share the next sync. Where they don't, the writer learns to go on without them.

use std::time::Duration;

/// A crowd has at least so many.
const CROWD_LEAST: usize = 2;
/// The longest wait; else half of what the last sync took.
const WAIT_MAX: Duration = Duration::from_micros(200);
/// After waits that were for nothing: the most syncs without one.
const SKIPPED_MAX: u32 = 1_024;

/// See the module. One partition's.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// So many waited at the last sync's end, those woken by it counted.
    expected: usize,
    until: Option<Duration>,
    /// Syncs to go on without waiting, and how many that will be after the next disappointment.
    skip: u32,
    next_skip: u32,
}

impl Gathering {
    /// A sync ended, which took so long.
    pub(super) fn synced(&mut self, crowd: usize, now: Duration, took: Duration) {
        self.until = None;
        if crowd < CROWD_LEAST {
            return;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        self.expected = crowd;
        self.until = Some(now + (took / 2).min(WAIT_MAX));
    }

    /// Whether to wait on, now that so many wait.
    pub(super) fn goes_on(&mut self, waiting: usize, now: Duration) -> bool {
        let Some(until) = self.until else { return false };
        if waiting >= self.expected {
            self.next_skip = 0;
        } else if now < until {
            return true;
        } else if waiting < self.expected / 4 * 3 {
            self.next_skip = (self.next_skip * 2 + 1).min(SKIPPED_MAX);
            self.skip = self.next_skip;
        }
        self.until = None;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_crowd_is_waited_for_until_it_is_there_or_half_a_sync_is_over() {
        let mut gathering = Gathering::default();
        assert!(!gathering.goes_on(0, micros(0)), "nothing was synced yet");
        gathering.synced(32, micros(1_000), micros(100));
        assert!(gathering.goes_on(3, micros(1_000)) && gathering.goes_on(31, micros(1_049)));
        assert!(!gathering.goes_on(32, micros(1_049)), "all are there");
        assert!(!gathering.goes_on(3, micros(1_049)), "it was decided");
        gathering.synced(32, micros(2_000), micros(100));
        assert!(gathering.goes_on(30, micros(2_049)) && !gathering.goes_on(30, micros(2_050)));
        gathering.synced(32, micros(3_000), micros(100_000));
        assert!(gathering.goes_on(1, micros(3_199)) && !gathering.goes_on(30, micros(3_200)), "never longer");
        gathering.synced(1, micros(4_000), micros(100));
        assert!(!gathering.goes_on(0, micros(4_000)), "one is no company");
        gathering.synced(2, micros(5_000), micros(100));
        assert!(gathering.goes_on(0, micros(5_000)), "two are");
    }

    #[test]
    fn a_wait_was_for_nothing_if_a_quarter_did_not_come() {
        for (came, waits_again) in [(24, true), (23, false)] {
            let mut gathering = Gathering::default();
            gathering.synced(32, micros(1_000), micros(100));
            assert!(gathering.goes_on(came, micros(1_000)) && !gathering.goes_on(came, micros(1_050)));
            gathering.synced(32, micros(2_000), micros(100));
            assert_eq!(gathering.goes_on(0, micros(2_000)), waits_again, "{came} of 32");
        }
    }

    #[test]
    fn who_does_not_come_back_is_waited_for_ever_less_often() {
        let mut gathering = Gathering::default();
        let mut waits = 0;
        for sync in 0..10_000 {
            gathering.synced(32, micros(sync * 1_000), micros(100));
            if gathering.goes_on(0, micros(sync * 1_000)) {
                waits += 1;
                assert!(!gathering.goes_on(0, micros(sync * 1_000 + 50)));
            }
        }
        assert!((10..30).contains(&waits), "{waits}");
        // One that was not for nothing, and each sync is waited for again.
        let again = (10_000..20_000).find(|sync| {
            gathering.synced(32, micros(sync * 1_000), micros(100));
            gathering.goes_on(0, micros(sync * 1_000))
        });
        assert!(!gathering.goes_on(32, micros(again.unwrap() * 1_000)));
        gathering.synced(32, micros(30_000_000), micros(100));
        assert!(gathering.goes_on(0, micros(30_000_000)));
    }
}
