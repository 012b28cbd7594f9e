//! Power failures: the engine works on a mounted file system whose disk is recorded; then, for many
//! moments, what the disk could hold after a power failure is mounted again, and must show everything that
//! had been acknowledged as synced (D1), nothing but a prefix of what was sent (D2), no lost commit (D5), no
//! lost topic or log start (I8), no damage (I10).
//!
//! Some of what was found lives on, and crashes again, in the recovery of the file system and of the
//! engine as well.

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use crate::Run;
use crate::chance::Chance;
use crate::check;
use crate::crash::{Crash, Left, Walk, plan};
use crate::disk::{Attached, Event, Image};
use crate::driver::{self, Driver};
use crate::failure::{Failure, Result};
use crate::history::History;
use crate::keep::Evidence;
use crate::start::{self, Start};
use crate::volume::{self, Kind, Mounted};
use crate::watch;

/// What a run did.
#[derive(Default)]
pub(crate) struct Done {
    workloads: u64,
    events: usize,
    flushes: usize,
    at_flushes: usize,
    points: usize,
    states: usize,
    second: usize,
    distinct: HashSet<u64>,
    acknowledged: usize,
}

/// A recorded life: the disk before it, what came to it, what was asked and acknowledged.
struct Life {
    start: Image,
    events: Vec<Event>,
    history: History,
}

pub(crate) fn run(run: &Run, kind: Kind, crashes: usize, steps: usize) -> Result<String> {
    let started = Instant::now();
    let attached = Attached::new(&run.scratch, kind.disk_bytes())?;
    volume::format(kind, &attached)?;
    let mounted = Mounted::new(kind, &attached, &run.scratch)?;
    mounted.check_flushes(&attached)?;
    mounted.unmount()?;
    let empty = Start { image: attached.disk.image(), history: History::default() };
    let used = start::used(run, &attached, kind)?;

    let mut done = Done::default();
    let mut seed = run.seed;
    while run.goes_on(started, done.workloads)? {
        watch::seed(seed);
        let (done, chance) = (&mut done, Chance::new(seed));
        let mut replay = Replay { run, kind, attached: &attached, done, chance, started };
        // In turns on a new directory and on one that was in use.
        let start = if seed.is_multiple_of(2) { &empty } else { &used };
        replay.workload(start, crashes, steps).map_err(|failure| failure.at(format_args!("seed {seed}")))?;
        seed += 1;
    }
    let took = started.elapsed().as_secs_f64();
    Ok(format!(
        "nothing found: {} states ({} distinct) at {} crash points, around {} of {} flushes; {} of them after a second crash; \
         {} workloads, {} writes and flushes, {} acknowledged; {took:.1} s",
        done.states,
        done.distinct.len(),
        done.points,
        done.at_flushes,
        done.flushes,
        done.second,
        done.workloads,
        done.events,
        done.acknowledged,
    ))
}

struct Replay<'a> {
    run: &'a Run,
    kind: Kind,
    attached: &'a Attached,
    done: &'a mut Done,
    chance: Chance,
    started: Instant,
}

impl Replay<'_> {
    fn workload(&mut self, start: &Start, crashes: usize, steps: usize) -> Result<()> {
        let life = self.live(start.image.clone(), start.history.clone(), steps)?;
        let plan = plan(&life.events, crashes, &mut self.chance);
        self.done.workloads += 1;
        self.done.events += life.events.len();
        self.done.flushes += life.events.iter().filter(|event| matches!(event, Event::Flush)).count();
        self.done.acknowledged += life.history.acknowledged(usize::MAX);
        let (mut points, mut flushes) = (HashSet::new(), HashSet::new());
        let mut walk = Walk::new(life.start.clone(), &life.events);
        for crash in plan {
            if self.run.is_over(self.started)? {
                break;
            }
            points.insert(crash.at);
            flushes.extend(crash.flush(&life.events));
            let image = walk.crash(crash, self.kind, &mut self.chance);
            self.done.states += 1;
            self.done.distinct.insert(image.content_hash());
            let again = self.chance.one_in(8);
            let found = self.look(&image, &life, crash, again)?;
            if let Some(second) = found {
                self.crash_again(&second)?;
            }
        }
        self.done.points += points.len();
        self.done.at_flushes += flushes.len();
        Ok(())
    }

    /// A life on this disk, recorded.
    fn live(&mut self, start: Image, history: History, steps: usize) -> Result<Life> {
        let mut history = history;
        let disk = self.attached.disk.clone();
        disk.put(start.clone());
        disk.record();
        let mounted = Mounted::new(self.kind, self.attached, &self.run.scratch)?;
        let lived = self.steps(&mounted, &mut history, steps);
        let unmounted = mounted.unmount();
        let life = Life { start, events: disk.take_record(), history };
        lived.map_err(|failure| self.keep(failure, &disk.image(), &life, None))?;
        unmounted.map(|()| life)
    }

    fn steps(&mut self, mounted: &Mounted, history: &mut History, steps: usize) -> Result<()> {
        let directory = mounted.data();
        let engine = driver::open(&directory, &mut self.chance).map_err(|error| driver::said("open", &error))?;
        let chance = Chance::new(self.chance.next());
        let mut driver = Driver::new(engine, &directory, &self.attached.disk, history, chance);
        for _ in 0..steps {
            self.run.check_stopped()?;
            driver.step()?;
        }
        driver.close()
    }

    /// Mounts what the crash left, opens it and compares. With `again` it lives on, recorded.
    fn look(&mut self, image: &Image, life: &Life, crash: Crash, again: bool) -> Result<Option<Life>> {
        watch::beat();
        let looked = self.look_at(image, life, crash, again);
        looked.map_err(|failure| self.keep(failure, image, life, Some(crash)))
    }

    fn look_at(&mut self, image: &Image, life: &Life, crash: Crash, again: bool) -> Result<Option<Life>> {
        let disk = &self.attached.disk;
        disk.put(image.clone());
        disk.record();
        let mounted = Mounted::new(self.kind, self.attached, &self.run.scratch)
            .map_err(|failure| failure.at("after a crash: the model tears what this file system doesn't bear"))?;
        let found = self.compare(&mounted.data(), life, crash, again);
        mounted.unmount()?;
        let events = disk.take_record();
        Ok(found?.map(|history| Life { start: image.clone(), events, history }))
    }

    fn compare(&mut self, directory: &Path, life: &Life, crash: Crash, again: bool) -> Result<Option<History>> {
        check::verify(directory)?;
        let engine = driver::open(directory, &mut self.chance).map_err(|error| driver::said("open", &error))?;
        let mut history = check::check(&engine, &life.history, crash.at)?;
        if !again {
            engine.close().map_err(|error| driver::said("close", &error))?;
            return Ok(None);
        }
        let chance = Chance::new(self.chance.next());
        let mut driver = Driver::new(engine, directory, &self.attached.disk, &mut history, chance);
        for _ in 0..12 {
            driver.step()?;
        }
        driver.close()?;
        Ok(Some(history))
    }

    /// Crashes a life that began with a crash, at a few drawn moments.
    fn crash_again(&mut self, life: &Life) -> Result<()> {
        let lefts = [Left::Some, Left::Torn, Left::All];
        let mut crashes: Vec<_> =
            (lefts.iter()).map(|left| Crash { at: self.chance.below(life.events.len() + 1), left: *left }).collect();
        crashes.sort_by_key(|crash| crash.at);
        let mut walk = Walk::new(life.start.clone(), &life.events);
        for crash in crashes {
            let image = walk.crash(crash, self.kind, &mut self.chance);
            self.done.states += 1;
            self.done.points += 1;
            self.done.second += 1;
            self.done.distinct.insert(image.content_hash());
            self.look(&image, life, crash, false)?;
        }
        Ok(())
    }

    /// Keeps what led to a failure.
    fn keep(&self, failure: Failure, image: &Image, life: &Life, crash: Option<Crash>) -> Failure {
        let evidence = Evidence {
            name: format!("replay-{}-{}", self.kind.name(), self.run.seed),
            image,
            start: &life.start,
            events: &life.events,
            text: format!("{failure:?}\n{crash:#?}\n{:#?}\n", life.history),
        };
        evidence.keep(failure)
    }
}
