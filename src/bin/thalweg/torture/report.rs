//! What a run found, for people and as JSON.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::outcome::{Asked, Found, Mode, Outcome};
use crate::output::{self, Style};

/// A run that is over.
pub(super) struct Ended<'a> {
    pub(super) asked: Asked,
    pub(super) outcome: &'a Outcome,
    pub(super) elapsed: Duration,
    pub(super) interrupted: bool,
}

impl Ended<'_> {
    pub(super) fn text(&self) -> String {
        let (style, outcome) = (Style::of_stdout(), self.outcome);
        let mut text = String::new();
        for found in &outcome.found {
            let _ = writeln!(text, "{} {}", style.bad("broken:"), found.what);
            let _ = writeln!(text, "seed: {}", found.seed);
            for line in &found.history {
                let _ = writeln!(text, "  {line}");
            }
            let _ = writeln!(text, "{}", self.again(found));
        }
        let _ = writeln!(text, "{}", output::table(&[self.asked.mode.name(), ">"], self.rows()));
        let verdict = match (outcome.found.is_empty(), self.interrupted) {
            (false, _) => style.bad("a promise was broken"),
            (true, true) => format!("{} until it was interrupted", style.good("no violation")),
            (true, false) => style.good("no violation"),
        };
        let _ = writeln!(text, "{verdict}");
        text
    }

    fn rows(&self) -> Vec<[String; 2]> {
        let outcome = self.outcome;
        let row = |name: &str, number| [name.to_owned(), output::count(number)];
        let mut rows = vec![["seed".to_owned(), self.asked.seed.to_string()], row("cycles", outcome.cycles)];
        if self.asked.mode == Mode::Kill {
            rows.extend([
                row("kills", outcome.kills),
                row("  while opening", outcome.kills_while_opening),
                row("directories checked", outcome.states),
                row("  unlike all others", outcome.distinct_states),
                row("records acknowledged", outcome.acknowledged),
                row("commits acknowledged", outcome.commits),
                row("records compared", outcome.records_checked),
            ]);
        } else {
            rows.extend([
                row("crash points", outcome.crash_points),
                row("states", outcome.states),
                row("distinct states", outcome.distinct_states),
                row("faults", outcome.faults),
            ]);
        }
        let (name, number) = match self.asked.mode {
            Mode::Kill => ("kills per second", outcome.kills),
            Mode::Sim | Mode::Io | Mode::Replay => ("states per second", outcome.states),
        };
        rows.extend([
            row("violations", outcome.found.len() as u64),
            ["time".to_owned(), output::duration(self.elapsed)],
            [name.to_owned(), output::count_rate(number, self.elapsed)],
        ]);
        rows
    }

    /// How to see it again.
    pub(super) fn again(&self, found: &Found) -> String {
        match &found.directory {
            None => format!("repeat it with: thalweg torture replay {}", found.seed),
            Some(directory) => format!(
                "a kill can't be repeated to the instant; the files are kept in {}; the same plan again: thalweg torture kill --seed {}",
                directory.display(),
                found.seed
            ),
        }
    }

    pub(super) fn json(&self) -> Value {
        let mut object = counts(self.asked, self.outcome, self.elapsed);
        if let Some(found) = self.outcome.found.first() {
            object.insert("first_seed".to_owned(), self.asked.seed.into());
            object.insert("seed".to_owned(), found.seed.into());
        }
        let found = self.outcome.found.iter().map(|found| {
            json!({
                "seed": found.seed,
                "what": found.what,
                "history": found.history,
                "directory": found.directory.as_ref().map(|path| path.display().to_string()),
            })
        });
        object.insert("interrupted".to_owned(), self.interrupted.into());
        object.insert("found".to_owned(), found.collect());
        object.into()
    }
}

/// What is counted, of a run that is over or goes on.
pub(super) fn counts(asked: Asked, outcome: &Outcome, elapsed: Duration) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("mode", asked.mode.name().into());
    put("seed", asked.seed.into());
    put("cycles", outcome.cycles.into());
    put("crash_points", outcome.crash_points.into());
    put("states", outcome.states.into());
    put("distinct_states", outcome.distinct_states.into());
    put("faults", outcome.faults.into());
    if asked.mode == Mode::Kill {
        put("kills", outcome.kills.into());
        put("kills_while_opening", outcome.kills_while_opening.into());
        put("acknowledged", outcome.acknowledged.into());
        put("commits", outcome.commits.into());
        put("records_checked", outcome.records_checked.into());
    }
    put("violations", outcome.found.len().into());
    put("seconds", elapsed.as_secs_f64().into());
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let found = Found {
            seed: 45,
            what: "D1: offset 3 is missing".to_owned(),
            history: vec!["append 3".to_owned(), "crash".to_owned()],
            directory: None,
        };
        Outcome { cycles: 4, states: 1_234, found: vec![found], ..Outcome::default() }
    }

    fn asked(mode: Mode) -> Asked {
        Asked { mode, seed: 42, time: None }
    }

    #[test]
    fn a_violation_is_told_with_its_history_and_how_to_repeat_it() {
        let outcome = outcome();
        let ended =
            Ended { asked: asked(Mode::Sim), outcome: &outcome, elapsed: Duration::from_secs(1), interrupted: false };
        let text = ended.text();
        let told = "broken: D1: offset 3 is missing\nseed: 45\n  append 3\n  crash\nrepeat it with: thalweg torture replay 45\n";
        assert!(text.starts_with(told), "{text}");
        assert!(text.contains("1,234") && text.contains("a promise was broken"), "{text}");
        let json = ended.json();
        assert_eq!((&json["seed"], &json["first_seed"]), (&45.into(), &42.into()));
        assert_eq!(json["violations"], 1);
        assert_eq!(json["found"][0]["history"], json!(["append 3", "crash"]));
    }

    #[test]
    fn a_kill_names_the_directory_that_is_kept() {
        let mut outcome = outcome();
        outcome.found[0].directory = Some("/tmp/kept".into());
        let ended = Ended { asked: asked(Mode::Kill), outcome: &outcome, elapsed: Duration::ZERO, interrupted: true };
        let text = ended.text();
        assert!(text.contains("/tmp/kept") && text.contains("torture kill --seed 45"), "{text}");
        assert!(!text.contains("torture replay"), "{text}");
    }
}
