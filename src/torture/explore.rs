//! The crash explorer: at every operation of the disk, all that a crash can leave is opened and
//! compared; some of it is lived on with, and crashes again, also while it recovers.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::check::Bounds;
use super::life::{Broken, DIR, Life, name_again, open};
use super::model::World;
use super::shared::Shared;
use super::step::{Step, Style, any};
use crate::clock::Clock;
use crate::error::ErrorKind;
use crate::inspect::{Unfinished, verify_sim};
use crate::sim::random::Random;
use crate::sim::{CrashPoint, CrashPolicy, SimClock, SimDisk};

/// Images tried at one crash point, by how many crashes came before.
const IMAGES: [usize; 3] = [96, 16, 6];
/// Of so many states one is lived on with, by how many crashes came before.
const BRANCHES: [usize; 2] = [64, 48];

/// Of so many states records are looked up in one; all are read through.
const LOOKUPS: u64 = 4;

/// What a drive writes whole.
const SECTOR_BYTES: usize = 512;
/// Written bytes end in at most this many zeros, for example the end offsets of empty partitions.
const TRAILING_ZEROS: usize = 64;

/// What stopped a cycle.
pub(super) enum Stop {
    /// A promise doesn't hold, and where that was seen.
    Broken { what: Broken, place: Vec<String> },
    /// The run is over.
    Over,
}

impl From<Broken> for Stop {
    fn from(what: Broken) -> Stop {
        Stop::Broken { what, place: Vec::new() }
    }
}

impl Stop {
    /// Says where, from the inside out.
    fn at(self, place: impl FnOnce() -> String) -> Stop {
        match self {
            Stop::Broken { what, place: mut places } => {
                places.insert(0, place());
                Stop::Broken { what, place: places }
            }
            Stop::Over => Stop::Over,
        }
    }
}

/// One cycle.
pub(super) struct Explorer<'a> {
    shared: &'a Shared,
    random: Random,
    style: Style,
    /// Whether the disk has files without a name.
    unnamed: bool,
    clock: SimClock,
    seen: HashSet<u64>,
    /// Tells one history from another.
    branches: u64,
}

/// A life within a cycle: what led to it.
#[derive(Clone, Copy)]
struct Place {
    branch: u64,
    step: usize,
    /// Crashes that came before.
    depth: usize,
    /// Nothing but processes died so far.
    system_lived: bool,
}

impl<'a> Explorer<'a> {
    pub(super) fn new(seed: u64, shared: &'a Shared) -> Explorer<'a> {
        let random = Random::new(seed ^ 0x6a09_e667_f3bc_c908);
        Explorer {
            shared,
            random,
            style: Style::of_seed(seed),
            unnamed: !seed.is_multiple_of(4),
            clock: SimClock::new(),
            seen: HashSet::new(),
            branches: 0,
        }
    }

    /// Does `before` unwatched, then `steps` with a crash at every operation.
    pub(super) fn run(mut self, before: Option<&[Step]>, steps: &[Step]) -> Result<(), Stop> {
        let disk = SimDisk::new();
        disk.set_unnamed_files(self.unnamed);
        let mut world = World::default();
        let place = Place { branch: 0, step: 0, depth: 0, system_lived: true };
        disk.record_crash_points(before.is_none());
        let mut life = begin(&disk, &self.clock)?;
        let empty = World::default();
        life.prepare(&mut world)?;
        for step in before.unwrap_or_default() {
            life.step(&mut world, *step)?;
        }
        self.points(&disk, &empty, &world, place).map_err(|stop| stop.at(|| "while the directory was made".into()))?;
        disk.record_crash_points(true);
        for (number, step) in steps.iter().enumerate() {
            let floor = world.clone();
            life.step(&mut world, *step)?;
            let place = Place { step: number + 1, ..place };
            self.points(&disk, &floor, &world, place)
                .map_err(|stop| stop.at(|| format!("in step {} ({step})", number + 1)))?;
        }
        no_violations(&disk)?;
        life.die();
        Ok(())
    }

    /// All crashes within what was just done.
    fn points(&mut self, disk: &SimDisk, floor: &World, ceiling: &World, place: Place) -> Result<(), Stop> {
        let now_ms = self.clock.wall_ms();
        for point in disk.take_crash_points() {
            self.shared.count_crash_point();
            let bounds = Bounds { floor, ceiling, killed: place.system_lived, now_ms, lookups: true };
            self.state(&point, point.killed(), bounds, place)
                .map_err(|stop| stop.at(|| format!("the process died before disk operation {}", point.operation())))?;
            let seed = self.random.next();
            let bounds = Bounds { killed: false, ..bounds };
            let place = Place { system_lived: false, ..place };
            for (number, image) in point.images_at_most(IMAGES[place.depth], seed).into_iter().enumerate() {
                let said = || format!("the power failed before disk operation {}, image {number}", point.operation());
                self.state(&point, image, bounds, place).map_err(|stop| stop.at(said))?;
            }
        }
        Ok(())
    }

    /// One disk found after a crash.
    fn state(&mut self, _: &CrashPoint, image: SimDisk, bounds: Bounds<'_>, place: Place) -> Result<(), Stop> {
        let content = image.content_hash();
        let key = |killed: bool| {
            let mut key = DefaultHasher::new();
            (content, place.branch, place.step, killed).hash(&mut key);
            key.finish()
        };
        // What holds where only the process died holds where the power failed: less is asked for there.
        let is_known = !bounds.killed && self.seen.contains(&key(true));
        if is_known || !self.seen.insert(key(bounds.killed)) {
            return Ok(());
        }
        if !self.shared.count_state(content) {
            return Err(Stop::Over);
        }
        let drawn = self.random.next();
        let bounds = Bounds { lookups: (drawn >> 40).is_multiple_of(LOOKUPS), ..bounds };
        let unfinished = match drawn.is_multiple_of(32) {
            true => verified(&image, bounds.floor.topics.is_empty())?,
            false => None,
        };
        if place.depth < BRANCHES.len() && (drawn >> 8).is_multiple_of(BRANCHES[place.depth] as u64) {
            let branch = image.crash(CrashPolicy::Kill);
            self.live_on(branch, bounds, place).map_err(|stop| stop.at(|| "which recovered, and then".into()))?;
        }
        let scribbled = (drawn >> 32).is_multiple_of(32).then(|| scribbled(&image, drawn)).transpose()?;
        let again = (drawn >> 16).is_multiple_of(64).then(|| image.crash(CrashPolicy::Kill));
        let without_indexes = (drawn >> 24).is_multiple_of(64).then(|| image.crash(CrashPolicy::Kill));
        let found = check_and_die(&image, &self.clock, bounds, unfinished.as_deref())?;
        if let Some(scribbled) = scribbled {
            self.shared.count_state(scribbled.content_hash());
            check_and_die(&scribbled, &self.clock, bounds, None)
                .map_err(|broken| format!("with garbage in blocks never written: {broken}"))?;
        }
        if let Some(again) = again {
            same_twice(&again, &self.clock, bounds, &found)?;
        }
        if let Some(bare) = without_indexes {
            for path in bare.list_files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "index")) {
                bare.remove_file(path).map_err(|error| error.to_string())?;
            }
            self.shared.count_state(bare.content_hash());
            check_and_die(&bare, &self.clock, bounds, None)
                .map_err(|broken| format!("I7, without index files: {broken}"))?;
        }
        Ok(())
    }

    /// Recovers, goes on for some steps, and crashes at every operation of it.
    fn live_on(&mut self, disk: SimDisk, bounds: Bounds<'_>, place: Place) -> Result<(), Stop> {
        self.branches += 1;
        let system_lived = place.system_lived && bounds.killed;
        let place = Place { branch: self.branches, step: 0, depth: place.depth + 1, system_lived };
        // Time goes on in this branch only.
        let now = std::mem::take(&mut self.clock);
        self.clock.advance(now.monotonic() + Duration::from_millis(3));
        let result = self.second_life(&disk, bounds, place);
        self.clock = now;
        result
    }

    fn second_life(&mut self, disk: &SimDisk, bounds: Bounds<'_>, place: Place) -> Result<(), Stop> {
        disk.record_crash_points(true);
        let mut life = begin(disk, &self.clock)?;
        let opening = disk.take_crash_points();
        let mut world = bounds.check(life.engine())?;
        for point in opening {
            self.shared.count_crash_point();
            let killed = Bounds { killed: place.system_lived, ..bounds };
            self.state(&point, point.killed(), killed, place)
                .map_err(|stop| stop.at(|| "the process died while it recovered".into()))?;
            let lost = Bounds { killed: false, ..bounds };
            let place = Place { system_lived: false, ..place };
            let seed = self.random.next();
            for image in point.images_at_most(IMAGES[place.depth], seed) {
                self.state(&point, image, lost, place)
                    .map_err(|stop| stop.at(|| "the power failed while it recovered".into()))?;
            }
        }
        let place = Place { system_lived: true, ..place };
        for number in 0..1 + self.random.below(3) {
            let step = self.style.of(any(&mut self.random));
            let floor = world.clone();
            if number == 0 {
                life.prepare(&mut world)?;
            }
            life.step(&mut world, step).map_err(|what| Stop::from(what).at(|| format!("in a later life: {step}")))?;
            let place = Place { step: number + 1, ..place };
            self.points(disk, &floor, &world, place).map_err(|stop| stop.at(|| format!("in a later life: {step}")))?;
        }
        no_violations(disk)?;
        life.die();
        Ok(())
    }
}

fn begin(disk: &SimDisk, clock: &SimClock) -> Result<Life, Broken> {
    let life = Life::begin(disk, clock, false)?.ok_or_else(|| "the engine doesn't open".to_owned())?;
    match open(disk, clock).map_err(|error| error.kind().clone()) {
        Err(ErrorKind::Locked { .. }) => Ok(life),
        other => Err(format!("D7: opened a second time, it says {:?}", other.err())),
    }
}

/// Opens what was found, compares, and leaves without a trace. What `verify` called unfinished the
/// engine must report as cut, and nothing else.
pub(super) fn check_and_die(
    disk: &SimDisk,
    clock: &SimClock,
    bounds: Bounds<'_>,
    unfinished: Option<&[Unfinished]>,
) -> Result<World, Broken> {
    let engine = open(disk, clock).map_err(|error| format!("after a crash it doesn't open: {error}"))?;
    let found = bounds.check(&engine).and_then(|found| {
        unfinished.map_or(Ok(()), |unfinished| super::lookups::reported(&engine, unfinished))?;
        Ok(found)
    });
    disk.cut_power_after(0);
    drop(engine);
    found
}

/// `verify` finds nothing wrong, and the tails it gives are unfinished; before there was a topic there
/// may be nothing at all.
pub(super) fn verified(disk: &SimDisk, may_be_nothing: bool) -> Result<Option<Vec<Unfinished>>, Broken> {
    name_again(disk);
    match verify_sim(disk, DIR, &mut |_| {}) {
        Ok(found) if found.is_sound() => Ok(Some(found.unfinished)),
        Ok(found) => Err(format!("I10: a crash alone is never damage, verify says: {:?}", found.damage)),
        Err(error) if may_be_nothing && matches!(error.kind(), ErrorKind::NotThalweg { .. }) => Ok(None),
        Err(error) => Err(format!("verify: {error}")),
    }
}

/// The same disk, but that blocks which were allocated and never written hold anything, as after a crash
/// of a file system that doesn't mark them.
fn scribbled(disk: &SimDisk, seed: u64) -> Result<SimDisk, Broken> {
    let scribbled = disk.crash(CrashPolicy::Kill);
    let mut random = Random::new(seed);
    for path in scribbled.list_files() {
        let mut bytes = scribbled.read_file(&path).map_err(|error| error.to_string())?;
        let written = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1 + TRAILING_ZEROS);
        let unwritten = bytes.chunks_mut(SECTOR_BYTES).skip(written.div_ceil(SECTOR_BYTES)).take(24);
        for sector in unwritten {
            if random.below(3) > 0 {
                sector.fill_with(|| random.next() as u8);
            }
        }
        scribbled.write_file(&path, bytes).map_err(|error| error.to_string())?;
    }
    Ok(scribbled)
}

/// I6: opened twice, a directory holds what it held when it was opened once.
fn same_twice(disk: &SimDisk, clock: &SimClock, bounds: Bounds<'_>, found: &World) -> Result<(), Broken> {
    let engine = open(disk, clock).map_err(|error| error.to_string())?;
    let once = disk.crash(CrashPolicy::Kill);
    disk.cut_power_after(0);
    drop(engine);
    let before = once.crash(CrashPolicy::Kill);
    let engine = open(&once, clock).map_err(|error| format!("I6: opened again: {error}"))?;
    let twice = once.crash(CrashPolicy::Kill);
    let again = bounds.check(&engine).map_err(|broken| format!("I6: opened again: {broken}"));
    once.cut_power_after(0);
    drop(engine);
    let ends = |world: &World| -> Vec<_> {
        let logs = world.topics.values().flat_map(|topic| &topic.logs);
        logs.map(|log| (log.start, log.sent.len())).collect()
    };
    let (first, second) = (ends(found), ends(&again?));
    if first != second {
        return Err(format!("I6: the logs were {first:?} (start, end), and opened again {second:?}"));
    }
    for path in twice.list_files() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("catalog-") || name == "LOCK" {
            continue;
        }
        if before.read_file(&path).ok() != twice.read_file(&path).ok() {
            return Err(format!("I6: opening a second time changes {}", path.display()));
        }
    }
    Ok(())
}

/// Bytes that a reader has must never change.
pub(super) fn no_violations(disk: &SimDisk) -> Result<(), Broken> {
    match disk.violations().first() {
        None => Ok(()),
        Some(first) => Err(format!("bytes changed under a reader: {first}")),
    }
}
