//! Power losses and kills at every operation, several lives in a row. What is found is always the
//! state after some number of the entries that were issued: at least those acknowledged at the
//! level that survived, none that an earlier life had lost, and never "corrupt".

use super::*;
use crate::sim::{CrashPolicy, Operation, Repeat};

/// Splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ word >> 31) % bound
    }
}

/// What was issued and what came back.
#[derive(Clone, Default, Debug)]
struct Model {
    /// Entries in the order they were issued, less what was lost for good.
    issued: Vec<u64>,
    written: usize,
    synced: usize,
    next: u64,
}

impl Model {
    fn map(&self, count: usize) -> Map {
        self.issued[..count].iter().map(|&number| (number % 3, number)).collect()
    }

    fn append(&mut self, log: &mut KeyedLog) -> Result<()> {
        // What found no room before isn't there; this one takes its place.
        self.issued.truncate(self.written);
        self.next += 1;
        self.issued.push(self.next);
        append(log, self.next)?;
        self.written = self.issued.len();
        Ok(())
    }

    fn sync(&mut self, log: &mut KeyedLog) -> Result<()> {
        log.sync()?;
        self.synced = self.written;
        Ok(())
    }

    fn rewrite(&mut self, log: &mut KeyedLog) -> Result<()> {
        self.issued.truncate(self.written);
        rewrite(log, &self.map(self.written))?;
        self.synced = self.written;
        Ok(())
    }

    /// Finds out how many entries led to what was found, which must be at least so many.
    fn found(&mut self, map: &Map, least: usize, what: &str) {
        let counts = least..=self.issued.len();
        let Some(count) = counts.clone().find(|&count| &self.map(count) == map) else {
            panic!("{what}: {map:?} is not one of the states {counts:?} of {self:?}");
        };
        self.issued.truncate(count);
        self.written = count;
        // Whether it survives the next power loss is open until it is synced.
        self.synced = self.synced.min(count);
    }
}

/// The steps of a life, until one fails.
fn live(log: &mut KeyedLog, model: &mut Model, random: &mut Random, steps: u64) -> Result<()> {
    for _ in 0..steps {
        let result = match random.below(8) {
            0..=4 => model.append(log),
            5 | 6 => model.sync(log),
            _ => model.rewrite(log),
        };
        match result {
            Err(error) if error.kind() == &ErrorKind::NoRoom => {}
            result => result?,
        }
    }
    Ok(())
}

#[test]
fn power_lost_at_each_operation_of_a_life() {
    let script = |disk: &SimDisk, model: &mut Model| -> Result<()> {
        model.issued = vec![1];
        model.next = 1;
        let mut log = create(disk)?;
        (model.written, model.synced) = (1, 1);
        model.append(&mut log)?;
        model.sync(&mut log)?;
        model.append(&mut log)?;
        model.append(&mut log)?;
        model.rewrite(&mut log)?;
        model.append(&mut log)?;
        model.sync(&mut log)?;
        model.append(&mut log)
    };
    let disk = new_disk();
    script(&disk, &mut Model::default()).unwrap();
    let operations = disk.count_all();
    assert!(operations > 25, "{operations}");
    let mut states = 0_u64;
    for passing in 0..=operations {
        let disk = new_disk();
        let mut model = Model::default();
        disk.cut_power_after(passing);
        assert_eq!(script(&disk, &mut model).is_ok(), passing == operations);
        disk.clear_faults();
        let seeds = (0..more(5, 150)).map(CrashPolicy::Seeded);
        for policy in [CrashPolicy::Kill, CrashPolicy::PowerLoss].into_iter().chain(seeds) {
            let found = disk.crash(policy);
            let what = format!("power lost after {passing} operations, {policy:?}");
            let least = if policy == CrashPolicy::Kill { model.written } else { model.synced };
            for access in [Access::Read, Access::Write] {
                match open(&found, access).unwrap_or_else(|error| panic!("{what}: {error}")) {
                    Some((_, map)) => model.clone().found(&map, least.max(1), &what),
                    None => assert_eq!(model.synced, 0, "{what}"),
                }
            }
            states += 1;
            if matches!(policy, CrashPolicy::Seeded(seed) if seed % 8 > 0) {
                continue;
            }
            // Once more, with the power lost while it is opened.
            for passing in 0..8 {
                let disk = found.crash(CrashPolicy::Kill);
                disk.cut_power_after(passing);
                let _ = open(&disk, Access::Write);
                if let Some((_, map)) = open(&disk.crash(CrashPolicy::Seeded(passing)), Access::Write).unwrap() {
                    model.clone().found(&map, model.synced.max(1), &what);
                    states += 1;
                }
            }
        }
    }
    assert!(states > more(500, 5_000), "{states}");
}

#[test]
fn several_lives_bring_nothing_back() {
    for seed in 0..more(80, 5_000) {
        let mut random = Random(seed);
        let mut disk = new_disk();
        let mut model = Model { issued: vec![1], written: 1, synced: 1, next: 1 };
        drop(create(&disk).unwrap());
        for epoch in 2..7 {
            let what = format!("seed {seed}, epoch {epoch}");
            let found = open(&disk, Access::Write).unwrap_or_else(|error| panic!("{what}: {error}"));
            let (Opened { mut log, cut }, map) = found.unwrap_or_else(|| panic!("{what}: no log"));
            assert!(cut.is_none_or(|cut| cut.bytes > 0));
            assert_eq!(map, model.map(model.written), "{what}: opened twice, found two things");
            log.set_epoch(epoch);
            order_faults(&disk, &mut random);
            let steps = random.below(12);
            let result = live(&mut log, &mut model, &mut random, steps);
            drop((log, result));
            disk.clear_faults();
            disk.set_capacity(None);
            let policy = match random.below(4) {
                0 => CrashPolicy::Kill,
                1 => CrashPolicy::PowerLoss,
                _ => CrashPolicy::Seeded(random.below(u64::MAX)),
            };
            let mut least = model.synced;
            if policy == CrashPolicy::Kill && !disk.has_lost() {
                least = model.written;
            } else if policy == CrashPolicy::Kill {
                disk.evict();
            }
            disk = disk.crash(policy);
            let found = open(&disk, Access::Read).unwrap_or_else(|error| panic!("{what}, {policy:?}: {error}"));
            let (_, map) = found.unwrap_or_else(|| panic!("{what}: no log"));
            model.found(&map, least, &format!("{what}, {policy:?}"));
            // Numbers are never used again, so what comes back shows.
            model.next += 10;
        }
        assert_eq!(disk.violations(), Vec::<String>::new());
    }
}

/// Sometimes the power goes, a sync or write fails, or the disk fills up.
fn order_faults(disk: &SimDisk, random: &mut Random) {
    let passing = random.below(8);
    match random.below(8) {
        0 | 1 => disk.cut_power_after(random.below(30)),
        2 => disk.fail_after(passing, Operation::Sync, 5, Repeat::Once),
        3 => disk.fail_after(passing, Operation::ShortWrite, 28, Repeat::Once),
        4 => disk.fail_after(passing, Operation::Write, 5, Repeat::Once),
        5 => disk.set_capacity(disk.used_bytes() + 4_096 * random.below(60)),
        _ => {}
    }
}
