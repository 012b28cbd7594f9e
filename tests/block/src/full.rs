//! A full disk: the file system has so many KiB left, for each of many amounts, and the engine is opened
//! and used. Each call succeeds or says that there is no room and where (D4), nothing acknowledged is
//! lost, nothing that failed is visible; once there is room again the same engine goes on, and so does one that
//! is opened anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Instant;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs, syncfs};
use thalweg::{Engine, Error, ErrorKind};

use crate::Run;
use crate::chance::Chance;
use crate::check;
use crate::disk::Attached;
use crate::driver::{self, Driver};
use crate::failure::{Failure, Result, broken};
use crate::history::History;
use crate::keep::Evidence;
use crate::start::{self, Start};
use crate::volume::{self, Kind, Mounted};
use crate::watch;

const KIND: Kind = Kind::Ext4;
/// With so much left everything below finds room.
const ROOM_KIB: u64 = 2_048;
const STEPS: usize = 90;

#[derive(Default)]
struct Done {
    amounts: u64,
    /// By what was tried.
    errors: BTreeMap<&'static str, u64>,
    acknowledged: usize,
}

pub(crate) fn run(run: &Run, step: u64) -> Result<String> {
    let started = Instant::now();
    let attached = Attached::new(&run.scratch, KIND.disk_bytes())?;
    volume::format(KIND, &attached)?;
    let empty = Start { image: attached.disk.image(), history: History::default() };
    let used = start::used(run, &attached, KIND)?;

    let mut done = Done::default();
    let (mut seed, mut rounds) = (run.seed, 0);
    while run.goes_on(started, rounds)? {
        // Other amounts in each round.
        for room in (seed % step..ROOM_KIB).step_by(step as usize) {
            for (name, start) in [("a new directory", &empty), ("a directory", &used)] {
                if run.is_over(started)? {
                    break;
                }
                watch::beat();
                watch::seed(seed);
                let full = Full { run, attached: &attached, done: &mut done, chance: Chance::new(seed ^ room << 20) };
                full.with_room(start, room)
                    .map_err(|failure| failure.at(format_args!("seed {seed}, {room} KiB left, {name}")))?;
            }
        }
        rounds += 1;
        seed += 1;
    }
    let errors: Vec<_> = done.errors.iter().map(|(what, count)| format!("{what} {count}")).collect();
    if errors.is_empty() {
        return broken("the model: there was always room");
    }
    let took = started.elapsed().as_secs_f64();
    let (amounts, acknowledged) = (done.amounts, done.acknowledged);
    Ok(format!(
        "nothing found: {amounts} full disks; no room for: {}; {acknowledged} acknowledged; {took:.1} s",
        errors.join(", ")
    ))
}

struct Full<'a> {
    run: &'a Run,
    attached: &'a Attached,
    done: &'a mut Done,
    chance: Chance,
}

impl Full<'_> {
    fn with_room(mut self, start: &Start, room: u64) -> Result<()> {
        self.attached.disk.put(start.image.clone());
        let mut history = start.history.clone();
        let mounted = Mounted::new(KIND, self.attached, &self.run.scratch)?;
        let filler = fill(&mounted, room)?;
        let used = self.fill_up(&mounted, filler, &mut history);
        let unmounted = mounted.unmount();
        let result = used.and(unmounted).and_then(|()| self.look_again(&mut history));
        self.done.amounts += 1;
        self.done.acknowledged += history.acknowledged(usize::MAX);
        result.map_err(|failure| {
            let image = &self.attached.disk.image();
            let text = format!("{failure:?}\n{history:#?}\n");
            let name = format!("full-{}-{room}", self.run.seed);
            Evidence { name, image, start: &start.image, events: &[], text }.keep(failure)
        })
    }

    /// Uses the engine while there is little room, then while there is again.
    fn fill_up(&mut self, mounted: &Mounted, filler: File, history: &mut History) -> Result<()> {
        let directory = mounted.data();
        let engine = match driver::open(&directory, &mut self.chance) {
            Ok(engine) => engine,
            Err(error) => {
                is_no_room(&error).map_err(|why| Failure::Broken(format!("D4: open: {why}")))?;
                *self.done.errors.entry("open").or_default() += 1;
                make_room(mounted, &filler)?;
                let opened = driver::open(&directory, &mut self.chance);
                opened.map_err(|error| driver::said("open when there is room again", &error))?
            }
        };
        let chance = Chance::new(self.chance.next());
        let mut driver = Driver::new(engine, &directory, &self.attached.disk, history, chance);
        driver.careful = true;
        driver.allowed = is_no_room;
        for _ in 0..STEPS {
            self.run.check_stopped()?;
            driver.step()?;
        }
        driver.settle()?;
        for (what, _) in &driver.errors {
            *self.done.errors.entry(what).or_default() += 1;
        }
        check::check(&driver.engine, driver.history, usize::MAX).map_err(|failure| failure.at("while it is full"))?;

        make_room(mounted, &filler)?;
        // Tells once more of what failed before, and of nothing else.
        driver.sync()?;
        driver.allowed = driver::nothing;
        goes_on(&mut driver).map_err(|failure| failure.at("when there is room again"))?;
        check::check(&driver.engine, driver.history, usize::MAX).map(drop)?;
        driver.reopen()?;
        check::check(&driver.engine, driver.history, usize::MAX).map(drop)?;
        goes_on(&mut driver).map_err(|failure| failure.at("opened anew"))?;
        driver.close()
    }

    /// From the disk, not from the page cache.
    fn look_again(&mut self, history: &mut History) -> Result<()> {
        let mounted = Mounted::new(KIND, self.attached, &self.run.scratch)?;
        let looked = self.look(&mounted, history);
        mounted.unmount()?;
        looked
    }

    fn look(&mut self, mounted: &Mounted, history: &History) -> Result<()> {
        check::verify(&mounted.data())?;
        let engine: Engine =
            driver::open(&mounted.data(), &mut self.chance).map_err(|error| driver::said("open", &error))?;
        check::check(&engine, history, usize::MAX)?;
        engine.close().map_err(|error| driver::said("close", &error))
    }
}

fn goes_on(driver: &mut Driver<'_>) -> Result<()> {
    driver.create_topic()?;
    driver.touch_all()?;
    driver.sync()
}

fn is_no_room(error: &Error) -> std::result::Result<(), String> {
    let has_place = error.path().is_some() || error.topic().is_some();
    match error.kind() {
        ErrorKind::NoRoom if has_place => Ok(()),
        ErrorKind::NoRoom => Err(format!("no room, but nothing says where: {error}")),
        kind => Err(format!("{kind:?} instead of no room: {error}")),
    }
}

/// A file that leaves so much room.
fn fill(mounted: &Mounted, room_kib: u64) -> Result<File> {
    let path = mounted.directory().join("filler");
    let trouble = |error: std::io::Error| Failure::io(path.display(), error);
    let file = File::create(&path).map_err(trouble)?;
    for _ in 0..4 {
        syncfs(&file).map_err(|error| trouble(error.into()))?;
        let found = fstatvfs(&file).map_err(|error| trouble(error.into()))?;
        let free = found.f_bavail * found.f_frsize;
        let bytes = file.metadata().map_err(trouble)?.len();
        let more = free.saturating_sub(room_kib << 10);
        if more == 0 {
            break;
        }
        fallocate(&file, FallocateFlags::empty(), bytes, more).map_err(|error| trouble(error.into()))?;
    }
    Ok(file)
}

fn make_room(mounted: &Mounted, filler: &File) -> Result<()> {
    let trouble = |error: std::io::Error| Failure::io("the filler", error);
    filler.set_len(0).map_err(trouble)?;
    // What was freed can be had after the journal's next commit.
    syncfs(filler).map_err(|error| trouble(error.into()))?;
    let _ = std::fs::remove_file(mounted.directory().join("filler"));
    Ok(())
}
