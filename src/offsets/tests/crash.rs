//! D5 at the log: power losses and kills at every operation, several lives in a row. What is found is
//! always the state after some number of the calls that were issued, each whole or not at all: at
//! least those acknowledged at the level that survived, none that an earlier life had lost; and a
//! crash alone is never damage.

use super::*;
use crate::sim::{CrashPolicy, Operation, Repeat};

/// What was issued and what came back.
#[derive(Clone, Default, Debug)]
struct Model {
    /// The state after each call, in the order they were issued, less what was lost for good.
    issued: Vec<View>,
    written: usize,
    synced: usize,
}

impl Model {
    fn new() -> Model {
        Model { issued: vec![View::new()], written: 0, synced: 0 }
    }

    fn run(&mut self, offsets: &Offsets, call: &Call, epoch: u32, now_ms: i64) -> Result<Ticket> {
        // What found no room before isn't there; this one takes its place.
        self.issued.truncate(self.written + 1);
        let mut next = self.issued[self.written].clone();
        call.apply(&mut next, epoch, now_ms);
        self.issued.push(next);
        let ticket = call.run(offsets, now_ms)?;
        self.written = self.issued.len() - 1;
        // A compaction syncs by itself.
        if !offsets.has_unsynced() {
            self.synced = self.written;
        }
        Ok(ticket)
    }

    fn sync(&mut self, offsets: &Offsets, ticket: Ticket) -> Result<()> {
        offsets.sync_to(ticket)?;
        self.synced = self.written;
        Ok(())
    }

    /// Finds out how many calls led to what was found, which must be at least so many.
    fn found(&mut self, found: &View, least: usize, what: &str) {
        let Some(count) = (least..self.issued.len()).rev().find(|&count| &self.issued[count] == found) else {
            panic!("{what}: {found:?} is none of the states {least} to {} of {self:?}", self.issued.len() - 1);
        };
        self.issued.truncate(count + 1);
        self.written = count;
        // Whether it survives the next power loss is open until it is synced.
        self.synced = self.synced.min(count);
    }
}

/// Opens as a new life would; a crash alone is no damage.
fn reopen(disk: &SimDisk, epoch: u32, access: Access, what: &str) -> (Offsets, View) {
    let (offsets, _) = open_as(disk, epoch, access).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(offsets.damage().is_none(), "{what}: {:?}", offsets.damage());
    let view = view(&offsets);
    (offsets, view)
}

fn script(disk: &SimDisk, model: &mut Model) -> Result<()> {
    let offsets = open_as(disk, 1, Access::Write)?.0;
    lock(&offsets.log).compact_from = 0;
    let calls = [
        Call::Commit("a", 1, vec![(0, 1, 0), (1, 2, 5)]),
        Call::Commit("b", 1, vec![(0, 7, 0)]),
        Call::State("b", 2, 2),
        Call::Commit("a", 2, (0..30).map(|partition| (partition, 9, 100)).collect()),
        Call::DeleteCommits("a", (2..30).collect()),
        Call::Commit("a", 3, vec![(0, 3, 0), (1, 3, 0)]),
        Call::Empty("b", 3),
        Call::Commit("c", 3, vec![(0, 3, 4_096), (1, 3, 0)]),
        Call::DeleteGroup("c"),
        Call::DeleteGroup("a"),
        Call::Commit("b", 3, vec![(0, 3, 2_000)]),
        Call::Commit("b", 3, vec![(0, 4, 2_000)]),
        Call::Commit("b", 3, vec![(0, 5, 2_000)]),
        Call::Commit("b", 3, vec![(0, 6, 20)]),
    ];
    for (at, call) in calls.iter().enumerate() {
        let ticket = model.run(&offsets, call, 1, at as i64)?;
        if at % 3 == 2 {
            model.sync(&offsets, ticket)?;
        }
    }
    Ok(())
}

#[test]
fn d5_power_lost_at_each_operation_of_a_life() {
    let disk = new_disk();
    script(&disk, &mut Model::new()).unwrap();
    let operations = disk.count_all();
    assert!(operations > 30, "{operations}");
    assert!(names(&disk).concat().ends_with(['3', '4', '5', '6']), "it was compacted: {:?}", names(&disk));
    let mut states = 0_u64;
    for passing in 0..=operations {
        let disk = new_disk();
        let mut model = Model::new();
        disk.cut_power_after(passing);
        assert_eq!(script(&disk, &mut model).is_ok(), passing == operations);
        disk.clear_faults();
        let seeds = (0..more(6, 200)).map(CrashPolicy::Seeded);
        for policy in [CrashPolicy::Kill, CrashPolicy::PowerLoss].into_iter().chain(seeds) {
            let crashed = disk.crash(policy);
            let what = format!("power lost after {passing} operations, {policy:?}");
            let least = if policy == CrashPolicy::Kill { model.written } else { model.synced };
            for access in [Access::Read, Access::Write] {
                let (_, view) = reopen(&crashed, 2, access, &what);
                model.clone().found(&view, least, &what);
                states += 1;
            }
        }
    }
    assert!(states > more(500, 10_000), "{states}");
}

#[test]
fn d5_several_lives_bring_nothing_back() {
    for seed in 0..more(120, 6_000) {
        let mut random = Random(seed);
        let mut disk = new_disk();
        let mut model = Model::new();
        let mut now_ms = 0;
        for epoch in 2..7 {
            let what = format!("seed {seed}, epoch {epoch}");
            let (offsets, view) = reopen(&disk, epoch, Access::Write, &what);
            assert_eq!(view, model.issued[model.written], "{what}: opened twice, found two things");
            lock(&offsets.log).compact_from = 4_096 * random.below(3);
            order_faults(&disk, &mut random);
            let mut failed = false;
            for _ in 0..random.below(14) {
                // Times are never used again, so what comes back shows.
                now_ms += 1;
                let result = match random.below(4) {
                    0 => {
                        let end = lock(&offsets.log).end();
                        model.sync(&offsets, end)
                    }
                    _ => model.run(&offsets, &random.call(), epoch, now_ms).map(|_| ()),
                };
                match result {
                    Err(error) if error.kind() == &ErrorKind::NoRoom => {}
                    result => failed |= result.is_err(),
                }
                if failed {
                    break;
                }
            }
            drop(offsets);
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
            let what = format!("{what}, {policy:?}");
            let (_, view) = reopen(&disk, epoch, Access::Read, &what);
            model.found(&view, least, &what);
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

#[test]
fn d5_a_crash_while_it_is_compacted_loses_nothing_that_was_synced() {
    // Each operation of one compaction, and each file that may be left of it.
    let prepare = |disk: &SimDisk| {
        let offsets = open(disk, 1);
        for (partition, group) in ["a", "b", "c"].into_iter().enumerate() {
            offsets.commit(group, 1, &[new(partition as u32, 4)], 1).unwrap();
            offsets.put_state(group, 1, &snapshot(40), 2).unwrap();
            offsets.put_empty(group, 1, 3).unwrap();
            offsets.put_state(group, 1, &snapshot(1), 2).unwrap();
        }
        offsets.sync_all().unwrap();
        lock(&offsets.log).compact_from = 0;
        offsets
    };
    let disk = new_disk();
    let offsets = prepare(&disk);
    let (before, counted) = (view(&offsets), disk.count_all());
    offsets.commit("a", 2, &[new(0, 5)], 9).unwrap();
    let after = view(&offsets);
    assert_eq!(names(&disk), ["offsets-2"]);
    let operations = disk.count_all() - counted;
    for passing in 0..=operations {
        let disk = new_disk();
        let offsets = prepare(&disk);
        disk.cut_power_after(passing);
        let acknowledged = offsets.commit("a", 2, &[new(0, 5)], 9).is_ok();
        assert_eq!(acknowledged, passing == operations);
        disk.clear_faults();
        let seeds = (0..more(20, 400)).map(CrashPolicy::Seeded);
        for policy in [CrashPolicy::Kill, CrashPolicy::PowerLoss].into_iter().chain(seeds) {
            let crashed = disk.crash(policy);
            let (_, found) = reopen(&crashed, 2, Access::Read, "reader");
            assert!(found == before || found == after, "{passing}, {policy:?}: {found:?}");
            assert!(found == after || !acknowledged || policy != CrashPolicy::Kill);
            let (offsets, again) = reopen(&crashed, 2, Access::Write, "writer");
            assert_eq!(again, found);
            offsets.commit("d", 2, &[new(0, 5)], 9).unwrap();
            assert_eq!(names(&crashed).len(), 1, "leftovers go");
        }
    }
}
