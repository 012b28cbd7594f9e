//! One directory from its first life to its last: every life ends in a kill, and then it is looked.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use super::chance::Chance;
use super::falsify::falsify;
use super::life;
use super::look;
use super::oracle::{Contents, Oracle};
use super::plan::Plan;
use super::said::Said;
use crate::failure::Failure;
use crate::torture::Falsify;
use crate::torture::outcome::{Found, Outcome};

/// Lives of a directory.
const LIVES: u32 = 60;
/// A directory with more records is not used any longer.
const RECORDS: usize = 20_000;
/// Lives that a broken promise is told with.
const HISTORY: usize = 20;

/// A directory at work.
pub(super) struct Round {
    program: PathBuf,
    dir: PathBuf,
    plan: Plan,
    oracle: Oracle,
    chance: Chance,
    life: u32,
    records: usize,
    history: Vec<String>,
    falsify: Option<Falsify>,
}

impl Round {
    /// `dir` is made.
    pub(super) fn new(program: PathBuf, dir: PathBuf, seed: u64, falsify: Option<Falsify>) -> Result<Round, Failure> {
        fs::create_dir(&dir)
            .map_err(|error| Failure::new(format!("could not make the directory {}: {error}", dir.display())))?;
        let plan = Plan::new(seed)?;
        let (oracle, chance) = (Oracle::new(plan.clone()), Chance::of(&[seed, 7]));
        Ok(Round { program, dir, plan, oracle, chance, life: 0, records: 0, history: Vec::new(), falsify })
    }

    pub(super) fn is_over(&self) -> bool {
        self.life >= LIVES || self.records > RECORDS
    }

    /// One more life and its death. What was counted, and the directory's state if it was looked at.
    pub(super) fn live(&mut self, outcome: &mut Outcome) -> Result<Option<u64>, Failure> {
        self.life += 1;
        self.oracle.begin(self.life);
        let lived = life::run(&self.program, &self.data(), &self.plan, self.life)?;
        self.history.push(lived.told);
        outcome.cycles += 1;
        outcome.kills += u64::from(lived.killed);
        outcome.kills_while_opening += u64::from(lived.killed && !lived.opened);
        outcome.crash_points += u64::from(lived.killed);
        for said in &lived.said {
            match said {
                Said::Acknowledged { first, end, .. } => outcome.acknowledged += end - first,
                Said::Committed(_) => outcome.commits += 1,
                Said::Unable(why) => {
                    return Err(Failure::new(format!("{}: {why}", self.dir.display())).next(
                        "see that there is room and that one may write there, or choose another place with --dir",
                    ));
                }
                _ => {}
            }
        }
        let noted = lived.said.iter().try_for_each(|said| self.oracle.note(said));
        let looked = noted.and(lived.wrong.map_or(Ok(()), Err)).and_then(|()| self.look(outcome));
        match looked {
            Ok(true) => Ok(Some(self.oracle.fingerprint())),
            Ok(false) => Ok(None),
            Err(what) => {
                outcome.found.push(self.broken(what));
                Ok(None)
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Looks at what is there; whether it did: some lives follow on one of which nobody knows.
    fn look(&mut self, outcome: &mut Outcome) -> Result<bool, String> {
        if !self.is_over() && self.chance.once_in(5) {
            return Ok(false);
        }
        let data = self.data();
        let verified = look::verify(&data)?;
        let Some(contents) = look::read(&data)? else {
            return if self.oracle.topic_is_made() { Err("D1: the topic is gone".to_owned()) } else { Ok(true) };
        };
        if verified.is_none() {
            return Err("verify finds no data where there is some".to_owned());
        }
        self.check(contents, outcome)?;
        if self.chance.once_in(3) {
            // The next process to open it finds the same; the victim's own opening is often killed.
            let contents = look::recover(&data, &self.plan, self.life)?.ok_or("D1: opening lost the topic")?;
            self.check(contents, outcome)?;
            look::verify(&data)?;
        }
        Ok(true)
    }

    fn check(&mut self, mut contents: Contents, outcome: &mut Outcome) -> Result<(), String> {
        if let Some(what) = self.falsify
            && falsify(what, &mut contents, &self.oracle)
        {
            self.history.push(format!("what was found was falsified: {what:?}"));
        }
        self.records = contents.logs.iter().map(|log| log.records.len()).sum();
        outcome.records_checked += self.records as u64;
        outcome.states += 1;
        self.oracle.check(&contents)
    }

    fn broken(&self, what: String) -> Found {
        let skipped = self.history.len().saturating_sub(HISTORY);
        let history = self.history[skipped..].to_vec();
        // Beside the files; the report has it too.
        if let Ok(mut file) = fs::File::create(self.dir.join("history.txt")) {
            let _ = writeln!(file, "{what}\n{}", self.history.join("\n"));
        }
        Found { seed: self.plan.seed, what, history, directory: Some(self.dir.clone()) }
    }

    /// Removes the directory.
    pub(super) fn remove(self) -> Result<(), Failure> {
        fs::remove_dir_all(&self.dir)
            .map_err(|error| Failure::new(format!("could not remove {}: {error}", self.dir.display())))
    }
}
