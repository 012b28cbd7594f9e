//! The offset log on the simulated disk, beside a model: a map of groups, and what each call makes
//! of it. Expected states are the model's, never the log's own.

mod crash;
mod damage;
mod errors;
mod follow;
mod hostile;
mod looking;
mod meanwhile;
mod room;
mod sharing;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::log::COMPACT_BYTES;
use super::state::StoredState;
use super::*;
use crate::disk::{Access, Disk};
use crate::error::{ErrorKind, Result};
use crate::format::{GroupSnapshot, MemberSnapshot};
use crate::ids::{EngineId, TopicId};
use crate::keyed::Cut;
use crate::lock::lock;
use crate::sim::SimDisk;

const ENGINE: EngineId = EngineId([7; 16]);

/// What a log says: each group by name.
type View = BTreeMap<String, GroupOffsets>;

fn dir() -> &'static Path {
    Path::new("data")
}

/// How many cases; optimized code goes through more of them in the same time.
fn more(debug: u64, release: u64) -> u64 {
    if cfg!(debug_assertions) { debug } else { release }
}

/// A disk with an empty directory that survives everything.
fn new_disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.write_file("data/x", b"").unwrap();
    disk.remove_file("data/x").unwrap();
    disk
}

fn open_as(disk: &SimDisk, epoch: u32, access: Access) -> Result<(Offsets, Option<Cut>)> {
    Offsets::open(Arc::new(disk.clone()), dir(), ENGINE, epoch, access, 0)
}

fn open(disk: &SimDisk, epoch: u32) -> Offsets {
    open_as(disk, epoch, Access::Write).unwrap().0
}

fn view(offsets: &Offsets) -> View {
    offsets.with(|state| state.groups().map(|(name, group)| (name.to_owned(), group.clone())).collect())
}

/// What opening gives; nothing may be damaged.
#[track_caller]
fn found(disk: &SimDisk) -> View {
    let (offsets, _) = open_as(disk, 99, Access::Read).unwrap();
    assert!(offsets.damage().is_none(), "{:?}", offsets.damage());
    view(&offsets)
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list_files().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Bytes of the file that count.
fn length(offsets: &Offsets) -> u64 {
    match &lock(&offsets.log).file {
        super::log::LogFile::Open(log) => log.bytes(),
        _ => 0,
    }
}

/// Bytes that the state's entries take.
fn encoded_bytes(state: &OffsetState) -> u64 {
    let mut bytes = Vec::new();
    state.entries(|entry| _ = entry.encode(&mut bytes));
    bytes.len() as u64
}

/// A commit of one partition of topic 1.
fn new(partition: u32, offset: u64) -> NewCommit<'static> {
    NewCommit { topic_id: TopicId(1), partition, offset, epoch: 3, metadata: &[], start: offset % 4 == 3 }
}

fn snapshot(members: u32) -> GroupSnapshot {
    let member = |number| MemberSnapshot {
        id: format!("member-{number}"),
        topics: vec![TopicId(1)],
        partitions: vec![(TopicId(1), number)],
        ..MemberSnapshot::default()
    };
    GroupSnapshot { assignor: "sticky".into(), members: (0..members).map(member).collect() }
}

/// Something to do with a log.
#[derive(Clone, Debug)]
enum Call {
    /// Group, generation, and partition, offset and length of metadata of each.
    Commit(&'static str, u32, Vec<(u32, u64, usize)>),
    State(&'static str, u32, u32),
    Empty(&'static str, u32),
    DeleteCommits(&'static str, Vec<u32>),
    DeleteGroup(&'static str),
}

const METADATA: [u8; 4_096] = [0x5a; 4_096];

impl Call {
    fn run(&self, offsets: &Offsets, now_ms: i64) -> Result<Ticket> {
        match self {
            Call::Commit(group, generation, commits) => {
                let new = |&(partition, offset, length): &(u32, u64, usize)| NewCommit {
                    metadata: &METADATA[..length],
                    ..new(partition, offset)
                };
                offsets.commit(group, *generation, &commits.iter().map(new).collect::<Vec<_>>(), now_ms)
            }
            Call::State(group, generation, members) => {
                offsets.put_state(group, *generation, &snapshot(*members), now_ms)
            }
            Call::Empty(group, generation) => offsets.put_empty(group, *generation, now_ms),
            Call::DeleteCommits(group, partitions) => {
                let partitions: Vec<_> = partitions.iter().map(|&partition| (TopicId(1), partition)).collect();
                offsets.delete_commits(group, &partitions, now_ms)
            }
            Call::DeleteGroup(group) => offsets.delete_group(group, now_ms),
        }
    }

    /// What the call makes of a view, in the simplest way.
    fn apply(&self, view: &mut View, epoch: u32, now_ms: i64) {
        match self {
            Call::Commit(group, generation, commits) => {
                if commits.is_empty() {
                    return;
                }
                let group = view.entry((*group).into()).or_default();
                group.generation = group.generation.max(*generation);
                for &(partition, offset, length) in commits {
                    let metadata = METADATA[..length].into();
                    let start = offset % 4 == 3;
                    let commit =
                        Commit { offset, epoch: 3, generation: *generation, metadata, committed_ms: now_ms, start };
                    let place = (TopicId(1), partition);
                    match group.commits.insert(place, commit) {
                        Some(before) if start && !before.start => drop(group.overtaken.insert(place, before)),
                        _ if start => {}
                        _ => drop(group.overtaken.swap_remove(&place)),
                    }
                }
            }
            Call::State(group, generation, members) => {
                let group = view.entry((*group).into()).or_default();
                group.generation = group.generation.max(*generation);
                group.epoch = epoch;
                group.empty_since_ms = None;
                group.state = Some(StoredState { snapshot: snapshot(*members), epoch, at_ms: now_ms });
            }
            Call::Empty(group, generation) => {
                let group = view.entry((*group).into()).or_default();
                group.generation = group.generation.max(*generation);
                group.epoch = epoch;
                group.empty_since_ms = Some(now_ms);
                group.state = None;
            }
            Call::DeleteCommits(group, partitions) => {
                if let Some(group) = view.get_mut(*group) {
                    for place in partitions.iter().map(|&partition| (TopicId(1), partition)) {
                        let _ = (group.commits.swap_remove(&place), group.overtaken.swap_remove(&place));
                    }
                }
            }
            Call::DeleteGroup(group) => drop(view.remove(*group)),
        }
    }
}

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

    fn call(&mut self) -> Call {
        let group = ["a", "b", "the third group"][self.below(3) as usize];
        let generation = self.below(9) as u32;
        match self.below(12) {
            0 => Call::State(group, generation, self.below(4) as u32),
            1 => Call::Empty(group, generation),
            2 => Call::DeleteCommits(group, (0..self.below(5) as u32).collect()),
            3 | 4 => Call::DeleteGroup(group),
            _ => {
                let count = 1 + self.below(6);
                let mut commit = || (self.below(6) as u32, self.below(1_000), self.below(40) as usize);
                Call::Commit(group, generation, (0..count).map(|_| commit()).collect())
            }
        }
    }
}

#[test]
fn each_call_does_what_the_model_does() {
    for seed in 0..more(30, 1_000) {
        let mut random = Random(seed);
        let (disk, mut model) = (new_disk(), View::new());
        let mut offsets = open(&disk, 1);
        let mut epoch = 1;
        for now_ms in 0..60 {
            let call = random.call();
            call.run(&offsets, now_ms).unwrap();
            call.apply(&mut model, epoch, now_ms);
            assert_eq!(view(&offsets), model, "seed {seed}, {call:?}");
            if random.below(10) == 0 {
                epoch += 1;
                let (opened, cut) = open_as(&disk, epoch, Access::Write).unwrap();
                assert_eq!((cut, view(&opened)), (None, model.clone()), "seed {seed}, after {call:?}");
                offsets = opened;
                // From the first write on.
                lock(&offsets.log).compact_from = random.below(2) * 1_000_000;
            }
        }
        assert!(disk.list_files().len() <= 1, "one file for all groups");
    }
}

#[test]
fn there_is_no_file_before_the_first_group() {
    let disk = new_disk();
    let offsets = open(&disk, 4);
    offsets.delete_group("a", 1).unwrap();
    offsets.delete_commits("a", &[(TopicId(1), 0)], 1).unwrap();
    let nothing = offsets.commit("a", 1, &[], 1).unwrap();
    assert_eq!((offsets.sync_to(nothing), offsets.sync_all()), (Ok(()), Ok(())));
    assert_eq!((names(&disk), offsets.has_unsynced(), offsets.damage().is_none()), (vec![], false, true));
    assert!(offsets.with(|state| state.group("a").is_none()));
    offsets.commit("a", 1, &[new(0, 7)], 1).unwrap();
    assert_eq!(names(&disk), ["offsets-1"]);
    // Made with its first batch in it, durably.
    assert!(!offsets.has_unsynced());
    assert_eq!(found(&disk.crash(crate::sim::CrashPolicy::PowerLoss)), view(&offsets));
}

#[test]
fn a_commit_is_one_batch_of_96_bytes_and_32_a_partition() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    offsets.commit("a", 1, &[new(0, 1)], 1).unwrap();
    for partitions in [1, 3, 600] {
        let before = length(&offsets);
        let commits: Vec<_> = (0..partitions).map(|partition| new(partition, 5)).collect();
        offsets.commit("a", 1, &commits, 2).unwrap();
        assert_eq!(length(&offsets) - before, 96 + 32 * u64::from(partitions));
    }
}

#[test]
fn what_can_not_be_is_refused_and_not_written() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    offsets.commit("a", 1, &[new(0, 1)], 1).unwrap();
    let (before, bytes) = (view(&offsets), disk.read_file("data/offsets-1").unwrap());
    let metadata = [1; 4_097];
    let refused = |result: Result<Ticket>| {
        let error = result.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidArgument { .. }), "{error}");
    };
    refused(offsets.commit("a", 1, &[new(1, 1), NewCommit { metadata: &metadata, ..new(0, 2) }], 1));
    refused(offsets.commit("a", 1, &[new(0, 1 << 63)], 1));
    refused(offsets.commit("a", 1, &[NewCommit { topic_id: TopicId(0), ..new(0, 2) }], 1));
    for name in ["", &"x".repeat(250)] {
        refused(offsets.commit(name, 1, &[new(0, 1)], 1));
        refused(offsets.put_empty(name, 1, 1));
    }
    let nobody = GroupSnapshot { members: vec![MemberSnapshot::default()], ..GroupSnapshot::default() };
    refused(offsets.put_state("a", 1, &nobody, 1));
    assert_eq!((view(&offsets), disk.read_file("data/offsets-1").unwrap()), (before, bytes));
    offsets.commit("a", 1, &[NewCommit { metadata: &metadata[..4_096], ..new(0, (1 << 63) - 1) }], 1).unwrap();
    offsets.commit(&"x".repeat(249), 1, &[new(0, 1)], 1).unwrap();
    assert_eq!(found(&disk), view(&offsets));
}

#[test]
fn a_compacted_log_says_the_same_and_keeps_times_and_epochs() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    offsets.commit("a", 1, &[NewCommit { metadata: b"m", ..new(0, 1) }, new(1, 2)], 10).unwrap();
    offsets.put_state("b", 3, &snapshot(3), 11).unwrap();
    offsets.put_empty("c", 4, 12).unwrap();
    offsets.commit("gone", 1, &[new(0, 1)], 13).unwrap();
    offsets.delete_group("gone", 14).unwrap();
    // Two pieces.
    offsets.put_state("large", 5, &snapshot(3_000), 15).unwrap();
    drop(offsets);
    let offsets = open(&disk, 2);
    let before = view(&offsets);
    lock(&offsets.log).compact_from = 0;
    for offset in 0..6_000 {
        offsets.commit("a", 1, &[new(1, offset)], 20).unwrap();
    }
    let mut model = before;
    // The last only says where the group begins: the commit before it stays too.
    Call::Commit("a", 1, vec![(1, 5_998, 0), (1, 5_999, 0)]).apply(&mut model, 2, 20);
    assert_ne!(names(&disk), ["offsets-1"]);
    assert_eq!((view(&offsets), found(&disk)), (model.clone(), model.clone()));
    let stored = model["b"].state.as_ref().unwrap();
    assert_eq!((stored.epoch, stored.at_ms, model["c"].empty_since_ms, model["c"].generation), (1, 11, Some(12), 4));
    assert_eq!(model["a"].commits[&(TopicId(1), 0)].committed_ms, 10);
}

#[test]
fn the_file_stays_within_twice_what_it_says() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    let many: Vec<_> = (0..600).map(|partition| new(partition, 1)).collect();
    // What is reserved behind the end counts too.
    let most = COMPACT_BYTES / 8 * 9 + (300 << 10);
    for now_ms in 0..500 {
        offsets.commit(["a", "b"][now_ms as usize % 2], 1, &many, now_ms).unwrap();
        let length =
            disk.list_files().iter().map(|path| disk.open(path, Access::Read).unwrap().length().unwrap()).sum::<u64>();
        assert!(length < most, "{length}");
    }
    assert_ne!(names(&disk), ["offsets-1"]);
    assert_eq!(found(&disk), view(&offsets));
}

#[test]
fn what_the_state_takes_is_counted_right() {
    for seed in 0..more(20, 300) {
        let mut random = Random(seed);
        let disk = new_disk();
        let offsets = open(&disk, 1);
        for now_ms in 0..80 {
            random.call().run(&offsets, now_ms).unwrap();
            if random.below(20) == 0 {
                offsets.keep_topics(|_| false);
            }
            offsets.with(|state| assert_eq!(state.live_bytes(), encoded_bytes(state), "seed {seed}"));
        }
    }
}

#[test]
fn commits_of_topics_that_are_gone_are_forgotten_and_not_compacted() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    for (group, topic) in [("a", 1), ("a", 2), ("b", 2), ("b", 3)] {
        for partition in 0..2 {
            let commit = NewCommit { topic_id: TopicId(topic), ..new(partition, 1) };
            offsets.commit(group, 1, &[commit], 1).unwrap();
        }
    }
    let gone = offsets.keep_topics(|topic| topic != TopicId(2));
    assert_eq!(gone, [("a".to_owned(), TopicId(2)), ("b".to_owned(), TopicId(2))]);
    assert_eq!(offsets.keep_topics(|topic| topic != TopicId(2)), []);
    // Nothing was written.
    assert_eq!(found(&disk)["a"].commits.len(), 4);
    lock(&offsets.log).compact_from = 0;
    for offset in 0..300 {
        offsets.commit("a", 1, &[new(0, offset)], 2).unwrap();
    }
    assert_eq!((found(&disk), found(&disk)["a"].commits.len()), (view(&offsets), 2));
}

#[test]
fn a_group_that_was_deleted_may_come_again() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    for life in 0..5 {
        offsets.commit("a", life, &[new(life, u64::from(life))], 1).unwrap();
        assert_eq!(view(&offsets)["a"].commits.len(), 1);
        assert_eq!(found(&disk), view(&offsets));
        offsets.delete_group("a", 1).unwrap();
        assert_eq!((view(&offsets), found(&disk)), (View::new(), View::new()));
    }
}

#[test]
fn of_two_commits_for_one_partition_the_later_counts() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    offsets.commit("a", 1, &[new(0, 9), new(0, 4)], 1).unwrap();
    assert_eq!(view(&offsets)["a"].commit(TopicId(1), 0).unwrap().offset, 4);
    offsets.delete_commits("a", &[(TopicId(1), 0), (TopicId(1), 0), (TopicId(1), 7)], 1).unwrap();
    assert_eq!((view(&offsets)["a"].commits.len(), found(&disk)), (0, view(&offsets)));
}
