//! A failing disk: from some request on, writes or flushes are answered with EIO, once, a few times or for
//! ever, while the engine appends and commits. What the file system makes of that reaches the engine as a
//! failed call. Nothing that failed is acknowledged, a partition that stopped takes nothing any more
//! and says so, errors say where and what to do (D4). Then the disk works again, the file system is mounted
//! anew, and all that was acknowledged as synced is there (D1).
//!
//! In half of the lives the engine is first opened anew on the same mount, above a page cache that holds what
//! the disk doesn't, and acknowledges more.

use std::fs::OpenOptions;
use std::time::Instant;

use thalweg::{Error, ErrorKind};

use crate::Run;
use crate::chance::Chance;
use crate::check;
use crate::disk::{Attached, Faults, What};
use crate::driver::{self, Driver};
use crate::failure::{Result, broken};
use crate::history::History;
use crate::keep::Evidence;
use crate::start::{self, Start};
use crate::volume::{self, Kind, Mounted};
use crate::watch;

const KIND: Kind = Kind::Ext4;

#[derive(Default)]
struct Done {
    lives: u64,
    refused_writes: usize,
    refused_flushes: usize,
    /// Lives in which the engine was told of an error.
    struck: usize,
    errors: usize,
    stopped: usize,
    reopened: usize,
    read_only: usize,
    acknowledged: usize,
}

pub(crate) fn run(run: &Run, lives: u32) -> Result<String> {
    let started = Instant::now();
    let attached = Attached::new(&run.scratch, KIND.disk_bytes())?;
    volume::format(KIND, &attached)?;
    let start = start::used(run, &attached, KIND)?;
    let mut done = Done::default();
    let (mut seed, mut rounds) = (run.seed, 0);
    while run.goes_on(started, rounds)? {
        for _ in 0..lives {
            if run.is_over(started)? {
                break;
            }
            let done = &mut done;
            let life = Life { run, attached: &attached, done, chance: Chance::new(seed) };
            life.live(&start, seed).map_err(|failure| failure.at(format_args!("seed {seed}")))?;
            seed += 1;
        }
        rounds += 1;
    }
    if done.struck == 0 {
        return broken("the model: no error reached the engine");
    }
    let took = started.elapsed().as_secs_f64();
    Ok(format!(
        "nothing found: {} lives, {} writes and {} flushes refused; {} lives were told, {} errors, {} partitions stopped; \
         {} opened anew above the page cache, {} file systems became read-only; {} acknowledged; {took:.1} s",
        done.lives,
        done.refused_writes,
        done.refused_flushes,
        done.struck,
        done.errors,
        done.stopped,
        done.reopened,
        done.read_only,
        done.acknowledged,
    ))
}

struct Life<'a> {
    run: &'a Run,
    attached: &'a Attached,
    done: &'a mut Done,
    chance: Chance,
}

impl Life<'_> {
    fn live(mut self, start: &Start, seed: u64) -> Result<()> {
        watch::beat();
        watch::seed(seed);
        self.run.check_stopped()?;
        self.attached.disk.put(start.image.clone());
        let mut history = start.history.clone();
        let lived = self.lives(&mut history);
        self.attached.disk.mend();
        self.done.lives += 1;
        self.done.acknowledged += history.acknowledged(usize::MAX);
        lived.map_err(|failure| {
            let image = &self.attached.disk.image();
            let text = format!("{failure:?}\n{history:#?}\n");
            Evidence { name: format!("eio-{seed}"), image, start: &start.image, events: &[], text }.keep(failure)
        })
    }

    fn lives(&mut self, history: &mut History) -> Result<()> {
        let mounted = Mounted::new(KIND, self.attached, &self.run.scratch)?;
        self.fail(&mounted, history)?;
        if self.chance.one_in(2) {
            self.reopen(&mounted, history)?;
        }
        // What is still to be written back comes through now, or is lost with the errors of before.
        mounted.unmount()?;
        let mounted = Mounted::new(KIND, self.attached, &self.run.scratch)?;
        let looked = self.look(&mounted, history).map_err(|failure| failure.at("on what the disk has"));
        mounted.unmount()?;
        looked
    }

    /// A life in which the disk begins to fail.
    fn fail(&mut self, mounted: &Mounted, history: &mut History) -> Result<()> {
        let directory = mounted.data();
        let engine = driver::open(&directory, &mut self.chance).map_err(|error| driver::said("open", &error))?;
        let chance = Chance::new(self.chance.next());
        let mut driver = Driver::new(engine, &directory, &self.attached.disk, history, chance);
        driver.careful = true;
        for _ in 0..15 {
            driver.step()?;
        }
        let what = [What::Flushes, What::Flushes, What::Records, What::Writes, What::All][self.chance.below(5)];
        let times = [1, 1, 2, 5, usize::MAX][self.chance.below(5)];
        self.attached.disk.refuse(Faults::new(what, self.chance.below(12), times));
        driver.allowed = is_failure;
        for _ in 0..50 {
            driver.step()?;
        }
        driver.settle()?;
        self.done.stopped += driver.check_failed_are_told()?;
        check::check(&driver.engine, driver.history, usize::MAX).map_err(|failure| failure.at("while it fails"))?;
        // Sometimes the disk works again before the engine is closed.
        if self.chance.one_in(2) {
            self.mend();
        }
        driver.close()?;
        self.done.errors += driver.errors.len();
        self.done.struck += usize::from(!driver.errors.is_empty());
        self.mend();
        Ok(())
    }

    fn mend(&mut self) {
        let refused = self.attached.disk.mend();
        self.done.refused_writes += refused.writes;
        self.done.refused_flushes += refused.flushes;
    }

    /// The engine once more on the same mount, whose page cache may hold what the disk doesn't.
    fn reopen(&mut self, mounted: &Mounted, history: &mut History) -> Result<()> {
        let directory = mounted.data();
        if self.chance.one_in(2) {
            // As if it had been killed between a sync that failed and the note of it.
            let _ = OpenOptions::new().write(true).truncate(true).open(directory.join("LOCK"));
        }
        let engine = match driver::open(&directory, &mut self.chance) {
            Ok(engine) => engine,
            // The file system has given up: its journal couldn't be written.
            Err(error) if is_of_the_system(&error) => {
                self.done.read_only += 1;
                return Ok(());
            }
            Err(error) => return Err(driver::said("open anew", &error)),
        };
        self.done.reopened += 1;
        *history = check::check(&engine, history, usize::MAX).map_err(|failure| failure.at("opened anew"))?;
        let chance = Chance::new(self.chance.next());
        let mut driver = Driver::new(engine, &directory, &self.attached.disk, history, chance);
        driver.careful = true;
        // An error of before may be told only now.
        driver.allowed = is_failure;
        for _ in 0..15 {
            driver.step()?;
        }
        driver.touch_all()?;
        driver.close()
    }

    fn look(&mut self, mounted: &Mounted, history: &History) -> Result<()> {
        let directory = mounted.data();
        check::verify(&directory)?;
        let engine = driver::open(&directory, &mut self.chance).map_err(|error| driver::said("open", &error))?;
        let mut left = check::check(&engine, history, usize::MAX)?;
        let chance = Chance::new(self.chance.next());
        let mut driver = Driver::new(engine, &directory, &self.attached.disk, &mut left, chance);
        driver.touch_all()?;
        driver.close()
    }
}

/// What a failing disk may become: it says where, and what to do.
fn is_failure(error: &Error) -> std::result::Result<(), String> {
    if !matches!(error.kind(), ErrorKind::Io | ErrorKind::Failed) {
        return Err(format!("{:?} where the disk fails: {error}", error.kind()));
    }
    if error.path().is_none() {
        return Err(format!("it names no file: {error}"));
    }
    if matches!(error.kind(), ErrorKind::Failed) && !error.to_string().contains("until the engine is opened again") {
        return Err(format!("it doesn't say what to do: {error}"));
    }
    Ok(())
}

fn is_of_the_system(error: &Error) -> bool {
    use rustix::io::Errno;
    let code = error.io_error().and_then(std::io::Error::raw_os_error);
    [Errno::ROFS, Errno::IO].iter().any(|errno| code == Some(errno.raw_os_error()))
}
