//! One life of a victim: started, listened to, killed.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use thalweg::{Engine, ErrorKind};

use super::chance::Chance;
use super::plan::Plan;
use super::said::Said;
use crate::failure::Failure;

/// When the kill comes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after the process was started: while it opens.
    Started(Duration),
    /// So long after it had opened.
    Opened(Duration),
    /// When it has said so many lines.
    Said(u64),
}

/// A process that doesn't say anything for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of it.
pub(super) struct Life {
    pub(super) said: Vec<Said>,
    pub(super) opened: bool,
    /// Killed, and not ended by itself before.
    pub(super) killed: bool,
    /// For people.
    pub(super) told: String,
    /// Its death wasn't ours, and it wasn't well either.
    pub(super) wrong: Option<String>,
}

/// Runs and kills the process of this life. While it lives its directory may get another name, and another process
/// may try to open it: both are what no simulated disk shows.
pub(super) fn run(program: &PathBuf, dir: &Path, plan: &Plan, life: u32) -> Result<Life, Failure> {
    let seed = plan.seed;
    let mut chance = Chance::of(&[seed, 6, life.into()]);
    let moment = match chance.below(10) {
        0 | 1 => Moment::Started(Duration::from_micros(chance.below(8_000))),
        2 | 3 => Moment::Said(chance.below(3_000)),
        4 | 5 => Moment::Opened(Duration::from_micros(chance.below(2_000))),
        _ => Moment::Opened(Duration::from_micros(chance.below(50_000))),
    };
    let mut command = Command::new(program);
    command.arg("--dir").arg(dir).args(["torture", "victim"]);
    command.args(["--seed", &seed.to_string(), "--life", &life.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A Ctrl-C at the terminal is for us alone.
    command.process_group(0);
    let failed = |error| Failure::new(format!("could not start {}: {error}", program.display()));
    let mut child = command.spawn().map_err(failed)?;
    let begun = Instant::now();
    let (lines, heard) = mpsc::channel();
    let listener = child.stdout.take().map(|stdout| std::thread::spawn(move || listen(stdout, &lines)));
    let mut ears = Ears { heard, said: Vec::new(), opened: None, wrong: None };
    let moved = chance.once_in(3).then(|| dir.with_file_name("moved"));
    let intrudes = plan.steps(life).is_none() && chance.once_in(6);
    if matches!(moment, Moment::Opened(_)) && (moved.is_some() || intrudes) {
        ears.until(Moment::Opened(Duration::ZERO), begun);
        let name = moved.as_deref().unwrap_or(dir);
        if ears.opened.is_some() && name != dir {
            std::fs::rename(dir, name).map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?;
        }
        if ears.opened.is_some()
            && intrudes
            && let Some(what) = intrude(name, &mut child)
        {
            ears.wrong.get_or_insert(what);
        }
    }
    ears.until(moment, begun);
    let killed_after = begun.elapsed();
    let status = end(&mut child)?;
    if let Some(moved) = moved.filter(|moved| moved.exists()) {
        std::fs::rename(&moved, dir).map_err(|error| Failure::new(format!("{}: {error}", moved.display())))?;
    }
    ears.rest();
    let _ = listener.map(std::thread::JoinHandle::join);
    let mut stderr = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        let _ = pipe.read_to_string(&mut stderr);
    }
    Ok(ears.into_life(life, moment, killed_after, status, &stderr))
}

fn end(child: &mut Child) -> Result<ExitStatus, Failure> {
    // It may have ended by itself: then there is nothing to kill.
    let _ = child.kill();
    child.wait().map_err(|error| Failure::new(format!("could not wait for a process: {error}")))
}

/// Tries to open the directory of a process that is alive, and ends by nothing but the kill.
fn intrude(dir: &Path, child: &mut Child) -> Option<String> {
    match Engine::open(dir) {
        Err(error) if matches!(error.kind(), ErrorKind::Locked { .. }) => None,
        Err(error) => Some(format!("D7: a second process got another error than Locked: {error}")),
        // It may have given up, and said why.
        Ok(_) if !matches!(child.try_wait(), Ok(None)) => None,
        Ok(_) => Some("D7: a second process opened the directory for writing".to_owned()),
    }
}

/// Hands on each whole line.
fn listen(stdout: ChildStdout, lines: &Sender<String>) {
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    while stdout.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.ends_with('\n') {
        line.pop();
        if lines.send(std::mem::take(&mut line)).is_err() {
            return;
        }
    }
}

struct Ears {
    heard: Receiver<String>,
    said: Vec<Said>,
    opened: Option<Instant>,
    wrong: Option<String>,
}

impl Ears {
    /// Listens until the moment has come or nothing comes any more.
    fn until(&mut self, moment: Moment, begun: Instant) {
        loop {
            let due = match (moment, self.opened) {
                (Moment::Started(time), _) => begun + time,
                (Moment::Opened(time), Some(opened)) => opened + time,
                (Moment::Said(count), _) if self.said.len() as u64 > count => return,
                (Moment::Said(_) | Moment::Opened(_), _) => Instant::now() + PATIENCE,
            };
            let left = due.saturating_duration_since(Instant::now());
            match self.heard.recv_timeout(left) {
                Ok(line) => self.take(&line),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    if left >= PATIENCE - Duration::from_secs(1) {
                        self.wrong = Some(format!("it said nothing for {} seconds: it hangs", PATIENCE.as_secs()));
                    }
                    return;
                }
            }
        }
    }

    /// What it had said before it died.
    fn rest(&mut self) {
        while let Ok(line) = self.heard.recv() {
            self.take(&line);
        }
    }

    fn take(&mut self, line: &str) {
        match Said::parse(line) {
            Some(said) => {
                if said == Said::Opened {
                    self.opened = Some(Instant::now());
                }
                self.said.push(said);
            }
            None => self.wrong = Some(format!("it said {line:?}")),
        }
    }

    fn into_life(self, life: u32, moment: Moment, after: Duration, status: ExitStatus, stderr: &str) -> Life {
        let killed = status.code().is_none();
        let ended = match (killed, self.said.last()) {
            (false, Some(Said::Closed)) if status.success() => None,
            (false, Some(Said::Unable(_) | Said::Wrong(_))) => None,
            (true, _) => None,
            (false, _) => Some(format!("it ended by itself: {status}; {}", stderr.trim())),
        };
        let acknowledged = self.said.iter().filter(|said| matches!(said, Said::Acknowledged { .. })).count();
        let commits = self.said.iter().filter(|said| matches!(said, Said::Committed(_))).count();
        let end = if killed { format!("killed {after:?} after its start ({moment:?})") } else { "ended".to_owned() };
        let last = self.said.iter().rev().take(4).rev().map(Said::to_string).collect::<Vec<_>>().join("; ");
        let told = format!("life {life}: {end}; {acknowledged} acknowledgements, {commits} commits; at last: {last}");
        Life { opened: self.opened.is_some(), said: self.said, killed, told, wrong: self.wrong.or(ended) }
    }
}
