//! How far a run is: a line on a terminal, a JSON object a second with `--json`, else nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thalweg::torture::Report;

use super::outcome::{Asked, Mode, Outcome};
use super::report;
use crate::output;
use crate::progress::StatusLine;

/// How often a JSON object is printed.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Shared by the threads of a run.
pub(super) struct Live {
    asked: Asked,
    begun: Instant,
    line: StatusLine,
    json: bool,
    /// When it is looked next whether somebody reads stdout, and with `--json` the next object is due.
    next: Mutex<Instant>,
    /// Whether printing failed: then the run ends.
    unread: AtomicBool,
    interrupted: Arc<AtomicBool>,
}

impl Live {
    pub(super) fn start(json: bool, asked: Asked, interrupted: Arc<AtomicBool>) -> Live {
        let begun = Instant::now();
        let next = Mutex::new(begun + TELL_EVERY);
        Live { asked, begun, line: StatusLine::start(), json, next, unread: AtomicBool::new(false), interrupted }
    }

    /// Shows it; whether the run goes on.
    pub(super) fn note(&self, report: &Report) -> bool {
        self.show(&Outcome::from(report))
    }

    /// Shows it; whether the run goes on.
    pub(super) fn show(&self, outcome: &Outcome) -> bool {
        let elapsed = self.begun.elapsed();
        self.line.show(|| self.text(outcome, elapsed));
        self.tell(outcome, elapsed);
        !self.is_interrupted() && !self.unread.load(Ordering::SeqCst)
    }

    fn tell(&self, outcome: &Outcome, elapsed: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now < *next {
            return;
        }
        *next = now + TELL_EVERY;
        let mut read = !output::is_closed();
        if self.json && read {
            let mut object = report::counts(self.asked, outcome, elapsed);
            object.insert("running".to_owned(), true.into());
            read = output::print_json(&object.into()).is_ok();
        }
        if !read {
            self.unread.store(true, Ordering::SeqCst);
        }
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    /// Takes the line off the screen.
    pub(super) fn done(&self) {
        self.line.done();
    }

    fn text(&self, outcome: &Outcome, elapsed: Duration) -> String {
        let mut parts = match self.asked.mode {
            Mode::Kill => vec![
                output::counted(outcome.kills, "kill"),
                format!("{}/s", output::count_rate(outcome.kills, elapsed)),
                format!("{} acknowledged", output::count(outcome.acknowledged)),
                output::counted(outcome.commits, "commit"),
            ],
            Mode::Sim | Mode::Io | Mode::Replay => vec![
                output::counted(outcome.crash_points, "crash point"),
                output::counted(outcome.states, "state"),
                format!("{} distinct", output::count(outcome.distinct_states)),
                format!("{} states/s", output::count_rate(outcome.states, elapsed)),
                output::counted(outcome.faults, "fault"),
            ],
        };
        parts.push(output::counted(outcome.found.len() as u64, "violation"));
        let left = self.asked.time.map(|time| time.saturating_sub(elapsed).as_secs());
        parts.extend(left.map(|seconds| format!("{seconds} s left")));
        parts.join(", ")
    }
}
