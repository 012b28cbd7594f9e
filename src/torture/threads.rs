//! The threads of a run, and one that watches them: a cycle that hangs is a violation too.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::report::{Limits, Report, Violation};
use super::shared::{Pulse, Run, Shared};

/// How often the watcher looks and tells.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// So many looks in a row without a sign of life, and a cycle counts as hanging: 30 s, but longer if the whole
/// process was stopped meanwhile.
const LOOKS_MAX: u32 = 150;

/// Runs `work` in each thread, until all are done or hang. One that hangs is left to itself.
pub(super) fn run(
    limits: &Limits,
    on_progress: &dyn Fn(&Report) -> bool,
    work: impl Fn(&Shared) + Clone + Send + 'static,
) -> Report {
    watch(limits, on_progress, LOOK_EVERY, work)
}

fn watch(
    limits: &Limits,
    on_progress: &dyn Fn(&Report) -> bool,
    look_every: Duration,
    work: impl Fn(&Shared) + Clone + Send + 'static,
) -> Report {
    let run = Arc::new(Run::new(limits));
    // Nothing is sent: it is over when the last of them is gone.
    let (ends, all_ended) = channel::<()>();
    let mut threads: Vec<_> = (0..limits.threads.max(1))
        .map(|_| {
            let (shared, work, end) = (Shared::new(run.clone()), work.clone(), ends.clone());
            let pulse = shared.pulse().clone();
            let thread = thread::spawn(move || {
                work(&shared);
                drop(end);
            });
            Watched { thread, pulse, last: 0, looks: 0 }
        })
        .collect();
    drop(ends);
    while all_ended.recv_timeout(look_every) == Err(RecvTimeoutError::Timeout) {
        if !on_progress(&run.report()) {
            run.stop();
        }
        let is_hanging = |watched: &mut Watched| watched.is_hanging();
        for hanging in threads.extract_if(.., is_hanging) {
            run.hangs(hanging.pulse.look().0, look_every * LOOKS_MAX);
        }
        if threads.is_empty() {
            break;
        }
    }
    for watched in threads {
        if let Err(panic) = watched.thread.join() {
            resume_unwind(panic);
        }
    }
    run.report()
}

struct Watched {
    thread: JoinHandle<()>,
    pulse: Arc<Pulse>,
    last: u64,
    looks: u32,
}

impl Watched {
    fn is_hanging(&mut self) -> bool {
        let (_, beats) = self.pulse.look();
        self.looks = if beats == self.last { self.looks + 1 } else { 0 };
        self.last = beats;
        self.looks >= LOOKS_MAX && !self.thread.is_finished()
    }
}

impl Run {
    /// A cycle doesn't come back; what was found in it before stays.
    fn hangs(&self, seed: u64, since: Duration) {
        if self.report().violations.iter().all(|violation| violation.seed != seed) {
            let what = format!("a hang: for {since:?} nothing came back");
            self.violated(Violation { seed, what, history: Vec::new() });
        }
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::Receiver;

    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    fn limits(seed: u64, threads: usize) -> Limits {
        Limits { seed, time: None, cycles: None, threads }
    }

    #[test]
    fn a_cycle_that_hangs_ends_the_run_and_is_named() {
        let (let_go, never) = channel::<()>();
        let never = Arc::new(Mutex::new(never));
        let hang = |never: &Mutex<Receiver<()>>| assert!(never.lock().unwrap().recv().is_err());
        let hangs = never.clone();
        let report = watch(&limits(5, 1), &|_| true, SOON, move |shared| {
            shared.pulse().begin(7);
            hang(&hangs);
        });
        let [found] = &report.violations[..] else { panic!("{report:?}") };
        assert!(found.seed == 7 && found.what.starts_with("a hang"), "{found:?}");
        // What it had found before it hung is not forgotten.
        let report = watch(&limits(5, 1), &|_| true, SOON, move |shared| {
            shared.pulse().begin(7);
            shared.run().violated(Violation { seed: 7, what: "D1".into(), history: Vec::new() });
            hang(&never);
        });
        assert_eq!(report.violations[0].what, "D1");
        drop(let_go);
    }

    #[test]
    fn who_gets_on_does_not_hang_and_is_stopped_when_told_so() {
        let stopped = run(&limits(0, 2), &|so_far| so_far.states < 1_000, |shared| {
            shared.pulse().begin(1);
            while shared.count_state(1) {
                thread::yield_now();
            }
        });
        assert!(stopped.states >= 1_000 && stopped.distinct_states == 1 && stopped.violations.is_empty());
    }

    #[test]
    #[should_panic(expected = "of the checker itself")]
    fn a_panic_outside_the_cycles_is_not_swallowed() {
        run(&limits(0, 1), &|_| true, |_| panic!("of the checker itself"));
    }
}
