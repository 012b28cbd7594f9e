//! Running each bug against each level, in processes of their own: a bug may hang or crash.

use std::process::Command;
use std::time::{Duration, Instant};

use thalweg::torture::{self, Limits, Report};

use crate::bugs::{BUGS, Bug};

/// A level that runs in this very program.
type Level = fn(&Limits, &dyn Fn(&Report) -> bool) -> Report;
const LEVELS: [(&str, Level); 2] = [("sim", torture::sim), ("io", torture::io)];

/// Who found a bug, if anybody did.
struct Caught {
    by: Option<String>,
    reached: bool,
}

pub(crate) fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if let (Ok(_), [level]) = (std::env::var("THALWEG_BUG"), &words[..])
        && let Some((_, run)) = LEVELS.iter().find(|(name, _)| name == level)
    {
        return one(*run);
    }
    println!("| seeded bug | crash explorer | errors | other tests |\n| --- | --- | --- | --- |");
    let mut missed = Vec::new();
    let is_asked = |bug: &&Bug| words.is_empty() || words.iter().any(|word| bug.name == word);
    for bug in BUGS.iter().filter(is_asked) {
        let mut found: Vec<Caught> = LEVELS.iter().map(|(level, _)| at_level(bug.name, level)).collect();
        if found.iter().all(|caught| caught.by.is_none()) || std::env::var("THALWEG_SUITES").is_ok() {
            found.push(by_suites(bug.name));
        } else {
            found.push(Caught { by: Some(String::new()), reached: true });
        }
        let cells: Vec<_> = found.iter().map(Caught::cell).collect();
        println!("| `{}`: {} | {} |", bug.name, bug.what, cells.join(" | "));
        if found.iter().all(|caught| caught.by.is_none()) {
            missed.push(bug.name);
        }
    }
    println!("\nnot caught: {}", if missed.is_empty() { "none".to_owned() } else { missed.join(", ") });
}

impl Caught {
    fn cell(&self) -> &str {
        match &self.by {
            Some(by) => by,
            None if self.reached => "no",
            None => "not reached",
        }
    }
}

fn seconds() -> u64 {
    std::env::var("THALWEG_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// What the process for one bug and level does.
fn one(level: Level) {
    let began = Instant::now();
    let limits = Limits { seed: 0, time: Some(Duration::from_secs(seconds())), cycles: None, threads: 2 };
    let report = level(&limits, &|_| true);
    for violation in &report.violations {
        let what = violation.what.replace(['|', '\n'], " ");
        println!("caught in {:.1} s, seed {}: {what}", began.elapsed().as_secs_f64(), violation.seed);
        eprintln!("  {}", violation.history.join("\n  "));
    }
    eprintln!("{} cycles, {} states, {} faults", report.cycles, report.states, report.faults);
}

fn at_level(bug: &str, level: &str) -> Caught {
    let Ok(program) = std::env::current_exe() else { return Caught { by: None, reached: false } };
    let limit = seconds() * 2;
    let mut command = Command::new("timeout");
    command.arg(limit.to_string()).arg(program).arg(level).env("THALWEG_BUG", bug);
    let Ok(output) = command.output() else { return Caught { by: None, reached: false } };
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprintln!("--- {bug}, {level}: {}\n{told}{said}", output.status);
    let first = told.lines().find_map(|line| line.strip_prefix("caught in "));
    let by = match (first, output.status.code()) {
        (Some(line), _) => Some(short(line)),
        (None, Some(0)) => None,
        (None, Some(124)) => Some(format!("hangs: not over after {limit} s")),
        (None, _) => Some("the process dies".to_owned()),
    };
    Caught { by, reached: said.contains("the seeded bug") }
}

/// Time, seed, and the promise with the first words of what was found.
fn short(line: &str) -> String {
    let (head, what) = line.split_once(": ").unwrap_or((line, ""));
    let promise = what.split(": ").find(|part| part.len() < 4 && part.len() > 1);
    match promise {
        Some(promise) => format!("{head}: {promise}"),
        None => format!("{head}: {}", what.chars().take(60).collect::<String>()),
    }
}

/// The tests of `THALWEG_SUITES` that fail.
fn by_suites(bug: &str) -> Caught {
    let suites =
        std::env::var("THALWEG_SUITES").unwrap_or_else(|_| "lib crash format repair corruption groups".to_owned());
    let mut command = Command::new("timeout");
    command.args(["900", "cargo", "test", "--release", "--features", "sim", "--no-fail-fast"]);
    for suite in suites.split_whitespace() {
        match suite {
            "lib" => command.arg("--lib"),
            _ => command.args(["--test", suite]),
        };
    }
    if suites.is_empty() {
        return Caught { by: None, reached: false };
    }
    command.env("THALWEG_BUG", bug).env("RUST_TEST_TIME_UNIT", "60000");
    let Ok(output) = command.output() else { return Caught { by: None, reached: false } };
    let told = String::from_utf8_lossy(&output.stdout);
    let is_failed = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
    let failed: Vec<String> = told.lines().filter_map(is_failed).collect();
    let by = match (failed.first(), output.status.code()) {
        (Some(first), _) if failed.len() == 1 => Some(format!("`{first}`")),
        (Some(first), _) => Some(format!("`{first}` and {} more", failed.len() - 1)),
        (None, Some(0)) => None,
        (None, Some(124)) => Some("a test hangs".to_owned()),
        (None, _) => Some("a test dies".to_owned()),
    };
    Caught { by, reached: true }
}
