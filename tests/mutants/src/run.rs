//! Runs, for each mutant, the tests that reach it, the ones nearest to it first, until one of them fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::mutant::Mutant;

/// Run side by side: many mutants make a test wait for something that never comes, and need no core meanwhile.
const WORKERS: usize = 4;
/// Tests shorter than this share a process.
const SHORT: Duration = Duration::from_millis(500);
/// No more memory for a test than this: some mutants never stop asking for it.
const MOST_BYTES: u64 = 6 << 30;

pub(crate) struct Test {
    binary: PathBuf,
    /// The binary's place among all.
    rank: usize,
    name: String,
    time: Duration,
    reaches: BTreeSet<usize>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A test failed.
    Caught,
    /// A test took many times as long as it does, and did so again.
    Hung,
    /// All tests that reach it passed, as far as the time for one mutant went.
    Left,
    NotReached,
}

pub(crate) struct Runner<'a> {
    /// The crate's directory.
    pub(crate) root: &'a Path,
    /// For the tests' files.
    pub(crate) scratch: PathBuf,
    /// No more of the tests' own time than this for one mutant.
    pub(crate) budget: Duration,
}

enum Ran {
    Passed,
    Failed,
    Hung,
}

impl Runner<'_> {
    /// Runs every test of the binaries once, alone, and notes its time and what it reaches.
    pub(crate) fn measure(&self, binaries: &[PathBuf]) -> Result<Vec<Test>, String> {
        let mut names = Vec::new();
        for (rank, binary) in binaries.iter().enumerate() {
            let listed = Command::new(binary).args(["--list", "--format", "terse"]).output();
            let listed = listed.map_err(|error| format!("{}: {error}", binary.display()))?;
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            let tests = listed.lines().filter_map(|line| line.strip_suffix(": test"));
            names.extend(tests.map(|name| (rank, name.to_string())));
        }
        let tests = self.side_by_side("tests", &names, |worker, (rank, name)| {
            let binary = &binaries[*rank];
            let reached = self.scratch.join(format!("reached-{worker}"));
            let _ = fs::remove_file(&reached);
            let env = ("MUTANTS_REACHED", reached.to_str().unwrap_or_default());
            let start = Instant::now();
            let ran = self.tests(worker, binary, &[name], env, Duration::from_secs(300));
            let time = start.elapsed();
            let reaches = fs::read_to_string(&reached).unwrap_or_default();
            let reaches = reaches.lines().filter_map(|line| line.parse().ok()).collect();
            matches!(ran, Ran::Passed).then(|| Test {
                binary: binary.clone(),
                rank: *rank,
                name: name.clone(),
                time,
                reaches,
            })
        });
        for ((_, name), _) in names.iter().zip(&tests).filter(|(_, test)| test.is_none()) {
            println!("left out, it fails without a mutant: {name}");
        }
        Ok(tests.into_iter().flatten().collect())
    }

    /// What becomes of each mutant.
    pub(crate) fn run(&self, mutants: &[&Mutant], tests: &[Test]) -> Vec<Verdict> {
        self.side_by_side("mutants", mutants, |worker, mutant| self.one(worker, mutant, tests))
    }

    fn one(&self, worker: usize, mutant: &Mutant, tests: &[Test]) -> Verdict {
        let layer = format!("{}::", mutant.file.split('/').nth(1).unwrap_or_default());
        // First the layer's own tests, then the other short ones, then the long ones, shortest first. The last
        // binary's are the command's own, which need a process for each step.
        let last = tests.iter().map(|test| test.rank).max();
        let mut rounds: BTreeMap<_, Vec<&Test>> = BTreeMap::new();
        for test in tests.iter().filter(|test| test.reaches.contains(&mutant.number)) {
            let is_last = Some(test.rank) == last;
            let turn = match test.time {
                time if time > SHORT => (is_last, 2, time, test.rank),
                _ if test.name.starts_with(&layer) => (is_last, 0, Duration::ZERO, test.rank),
                _ => (is_last, 1, Duration::ZERO, test.rank),
            };
            rounds.entry(turn).or_default().push(test);
        }
        if rounds.is_empty() {
            return Verdict::NotReached;
        }
        let mut left = self.budget;
        let number = mutant.number.to_string();
        for mut tests in rounds.into_values() {
            tests.sort_by_key(|test| test.time);
            let mut time = Duration::ZERO;
            tests.retain(|test| {
                time += test.time;
                time <= left
            });
            let Some(first) = tests.first() else { break };
            let time: Duration = tests.iter().map(|test| test.time).sum();
            left -= time;
            let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
            let ran = |limit| self.tests(worker, &first.binary, &names, ("MUTANT", &number), limit);
            let patient = Duration::from_secs(4) + 6 * time;
            match ran(patient) {
                Ran::Passed => {}
                Ran::Failed => return Verdict::Caught,
                // The machine may have been busy.
                Ran::Hung => match ran(3 * patient) {
                    Ran::Passed => {}
                    Ran::Failed => return Verdict::Caught,
                    Ran::Hung => return Verdict::Hung,
                },
            }
        }
        Verdict::Left
    }

    fn tests(
        &self,
        worker: usize,
        binary: &Path,
        names: &[impl AsRef<str>],
        env: (&str, &str),
        limit: Duration,
    ) -> Ran {
        let temporary = self.scratch.join(format!("tmp-{worker}"));
        let _ = fs::remove_dir_all(&temporary);
        fs::create_dir_all(&temporary).expect("a directory for the tests' files");
        let output = Command::new("timeout")
            .args(["-k", "1", &limit.as_secs().to_string(), "prlimit", &format!("--data={MOST_BYTES}")])
            .arg(binary)
            .args(["-Z", "unstable-options", "--fail-fast", "--exact", "--test-threads", "2"])
            .args(names.iter().map(AsRef::as_ref))
            .env("RUSTC_BOOTSTRAP", "1")
            .env("TMPDIR", &temporary)
            .env(env.0, env.1)
            .current_dir(self.root)
            .stdin(Stdio::null())
            .output()
            .expect("`timeout` and `prlimit`, of coreutils and util-linux");
        match output.status.code() {
            Some(0) => Ran::Passed,
            Some(124 | 137) => Ran::Hung,
            _ => Ran::Failed,
        }
    }

    fn side_by_side<T: Sync, R: Send>(&self, what: &str, items: &[T], work: impl Fn(usize, &T) -> R + Sync) -> Vec<R> {
        let style = ProgressStyle::with_template("{bar:30} {pos} of {len} {msg}, {eta} left").expect("a template");
        let progress = ProgressBar::new(items.len() as u64).with_style(style).with_message(what.to_string());
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (next, work, done, progress) = (&next, &work, &done, &progress);
                scope.spawn(move || {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(item) = items.get(at) else { break };
                        let result = work(worker, item);
                        done.lock().expect("no worker panics").push((at, result));
                        progress.inc(1);
                    }
                });
            }
        });
        progress.finish_and_clear();
        let mut done = done.into_inner().expect("no worker panics");
        done.sort_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, result)| result).collect()
    }
}
