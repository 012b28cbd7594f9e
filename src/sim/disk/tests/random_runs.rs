//! Random runs of operations: the simulated disk does what the machine's does, call by call; and the
//! states it may crash to keep the model's rules. Each failure names its seed.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::*;
use crate::config::SyncMode;
use crate::disk::{RealDisk, View, reread};
use crate::sim::crash::Choices;
use crate::sim::random::Random;

const NAMES: [&str; 6] = ["a", "b", "dir", "dir/a", "dir/b", "dir/sub"];

/// One random operation, its outcome as text.
fn step(disk: &dyn Disk, root: &Path, random: &mut Random, open: &mut BTreeMap<usize, Arc<dyn File>>) -> String {
    let name = |random: &mut Random| root.join(NAMES[random.below(NAMES.len())]);
    let slot = random.below(3);
    let position = [0, 1, 511, 512, 700, 4_095, 5_000][random.below(7)];
    let length = [0, 1, 512, 3_000, 4_096, 9_000][random.below(6)];
    let (path, other) = (name(random), name(random));
    let choice = random.below(14);
    if let (7.., Some(file)) = (choice, open.get(&slot)) {
        return match choice {
            7 | 8 => {
                let bytes = vec![random.below(255) as u8 + 1; length as usize];
                shown(file.write_at(&[IoSlice::new(&bytes), IoSlice::new(b"|")], position))
            }
            9 => shown(file.allocate(position..position + length)),
            10 => shown(file.give_back(length)),
            11 => shown(file.length()),
            12 => {
                let mut buffer = vec![0; length as usize];
                shown(file.read_at(&mut buffer, position)) + &format!("{buffer:?}")
            }
            _ => shown(file.sync()),
        };
    }
    match choice {
        0 => shown(disk.create_dir_all(&path)),
        1 => shown(disk.list(&path)),
        2 => shown(disk.rename(&path, &other)),
        3 => shown(disk.unlink(&path)),
        4 => shown(disk.remove_dir(&path)),
        5 => shown(disk.open_dir(&path).and_then(|dir| dir.sync())),
        6 | 7 => kept(disk.open(&path, Access::Write), slot, open),
        _ => kept(disk.create(&path), slot, open),
    }
}

fn kept(opened: io::Result<Arc<dyn File>>, slot: usize, open: &mut BTreeMap<usize, Arc<dyn File>>) -> String {
    let outcome = shown(opened.as_ref().map(|_| ()).map_err(|error| io::Error::from(error.kind())));
    if let Ok(file) = opened {
        open.insert(slot, file);
    }
    outcome
}

fn shown<T: Debug>(outcome: io::Result<T>) -> String {
    format!("{:?}", outcome.map_err(|error| error.kind()))
}

#[test]
fn it_does_what_the_machine_does() {
    for seed in 0..30 {
        let (sim, real) = (SimDisk::new(), RealDisk::new(SyncMode::Threads, 1).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let mut randoms = [Random::new(seed), Random::new(seed)];
        let mut open = [BTreeMap::new(), BTreeMap::new()];
        for number in 0..150 {
            let simulated = step(&sim, path("/"), &mut randoms[0], &mut open[0]);
            let done = step(&real, dir.path(), &mut randoms[1], &mut open[1]);
            assert_eq!(simulated, done, "seed {seed}, step {number}");
        }
        for file in sim.list_files() {
            let bytes = std::fs::read(dir.path().join(&file)).unwrap();
            assert_eq!(sim.read_file(&file).unwrap(), bytes, "seed {seed}, {file:?}");
        }
    }
}

/// The same in a directory that was entered, which somebody renames again and again.
#[test]
fn a_directory_that_was_entered_stays_the_same_one() {
    for seed in 100..115 {
        let (sim, real) = (SimDisk::new(), RealDisk::new(SyncMode::Threads, 1).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("0");
        sim.create_dir_all(path("/0")).unwrap();
        real.create_dir_all(&inside).unwrap();
        let entered = [sim.enter(path("/0")).unwrap(), real.enter(&inside).unwrap()];
        let mut randoms = [Random::new(seed), Random::new(seed)];
        let mut open = [BTreeMap::new(), BTreeMap::new()];
        for number in 0..60 {
            if number % 10 == 9 {
                let (from, to) = ((number / 10).to_string(), (number / 10 + 1).to_string());
                sim.move_to(&from, &to).unwrap();
                std::fs::rename(dir.path().join(&from), dir.path().join(&to)).unwrap();
                // What has its name now is another.
                sim.write_file("0/stranger", "s").unwrap();
                std::fs::create_dir_all(&inside).unwrap();
                std::fs::write(inside.join("stranger"), "s").unwrap();
            }
            let simulated = step(&*entered[0], path("/0"), &mut randoms[0], &mut open[0]);
            let done = step(&*entered[1], &inside, &mut randoms[1], &mut open[1]);
            assert_eq!(simulated, done, "seed {seed}, step {number}");
        }
        assert_eq!(std::fs::read_dir(&inside).unwrap().count(), 1, "seed {seed}: nothing but the stranger's");
        for file in sim.list_files() {
            let bytes = std::fs::read(dir.path().join(&file)).unwrap();
            assert_eq!(sim.read_file(&file).unwrap(), bytes, "seed {seed}, {file:?}");
        }
    }
}

/// Keeps the newest of everything.
struct Newest;

impl Choices for Newest {
    fn choose(&mut self, options: usize) -> usize {
        options - 1
    }
}

fn content(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    disk.list_files().into_iter().map(|file| (file.clone(), disk.read_file(&file).unwrap())).collect()
}

fn random_disk(seed: u64, steps: usize) -> (SimDisk, BTreeMap<usize, Arc<dyn File>>) {
    let (disk, mut random, mut open) = (SimDisk::new(), Random::new(seed), BTreeMap::new());
    for _ in 0..steps {
        if random.below(12) == 0 {
            disk.fail_next(Operation::Sync, EIO);
        }
        step(&disk, path("/"), &mut random, &mut open);
        disk.clear_faults();
    }
    (disk, open)
}

#[test]
fn the_newest_of_everything_is_what_reads_see() {
    for seed in 0..200 {
        let (disk, _open) = random_disk(seed, 100);
        let newest = SimDisk::holding(disk.state().after_power_loss(&mut Newest));
        assert_eq!(content(&newest), content(&disk), "seed {seed}");
        assert_eq!(content(&disk.crash(CrashPolicy::Kill)), content(&disk), "seed {seed}");
        assert_eq!(content(&newest.crash(CrashPolicy::PowerLoss)), content(&newest), "seed {seed}");
    }
}

/// Syncs a directory and all below it.
fn sync_dirs(disk: &SimDisk, dir: &Path) {
    disk.open_dir(dir).unwrap().sync().unwrap();
    for entry in disk.list(dir).unwrap() {
        if entry.kind == EntryKind::Directory {
            sync_dirs(disk, &dir.join(entry.name));
        }
    }
}

#[test]
fn what_is_synced_survives_every_seed_whatever_came_later() {
    for seed in 0..200 {
        let (disk, _open) = random_disk(seed, 60);
        // All is read from the drive, written again, as a failed sync may have left some of it clean, and synced.
        for file in disk.list_files() {
            let opened = disk.open(&file, Access::Write).unwrap();
            reread(&*opened).unwrap();
            opened.write_at(&[IoSlice::new(&disk.read_file(&file).unwrap())], 0).unwrap();
            opened.sync().unwrap();
        }
        sync_dirs(&disk, path("/"));
        let synced = content(&disk);
        assert_eq!(content(&disk.crash(CrashPolicy::PowerLoss)), synced, "seed {seed}");
        assert_eq!(content(&disk.crash(CrashPolicy::Seeded(seed))), synced, "seed {seed}");
        for file in disk.list_files() {
            let opened = disk.open(&file, Access::Write).unwrap();
            let end = opened.length().unwrap();
            opened.write_at(&[IoSlice::new(&[7; 2_000])], end.next_multiple_of(512)).unwrap();
        }
        for (file, bytes) in content(&disk.crash(CrashPolicy::Seeded(seed))) {
            assert_eq!(bytes[..synced[&file].len()], synced[&file], "seed {seed}, {file:?}");
        }
    }
}

#[test]
fn views_show_what_reads_do() {
    for seed in 0..50 {
        let (disk, mut open) = random_disk(seed, 20);
        let mut random = Random::new(seed ^ 1);
        let views: Vec<(Arc<dyn File>, Arc<dyn View>)> =
            open.values().map(|file| (Arc::clone(file), file.view(20_000).unwrap())).collect();
        for _ in 0..40 {
            step(&disk, path("/"), &mut random, &mut open);
        }
        for (file, view) in views {
            let mut buffer = vec![0; 20_000];
            let length = file.read_at(&mut buffer, 0).unwrap();
            assert_eq!(view.bytes(0..length as u64).unwrap(), &buffer[..length], "seed {seed}");
        }
        assert_eq!(disk.violations(), [""; 0]);
    }
}
