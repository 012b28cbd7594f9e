//! The offset log torn and flipped at every byte. Torn, it says what some number of calls led to.
//! Damaged below what was durable, it opens all the same: each whole entry counts, what is said was
//! committed once, and every group whose newest commit may be lost is named.

use super::*;
use crate::format::{BATCH_HEADER_BYTES, BLOCK_BYTES};

const FILE: &str = "data/offsets-1";

/// A file of several groups: its bytes without most of what is allocated, where its batches end, and
/// the state after each.
struct Sample {
    disk: SimDisk,
    bytes: Vec<u8>,
    ends: Vec<u64>,
    states: Vec<View>,
}

fn calls() -> Vec<Call> {
    vec![
        Call::Commit("a", 1, vec![(0, 1, 0), (1, 2, 5)]),
        Call::Commit("b", 1, vec![(0, 7, 0)]),
        Call::State("b", 2, 2),
        Call::Commit("c", 1, vec![(0, 3, 0), (1, 3, 0), (2, 3, 9)]),
        Call::Commit("a", 2, vec![(0, 11, 0)]),
        Call::Empty("b", 2),
        Call::DeleteGroup("c"),
        Call::Commit("d", 1, vec![(0, 5, 0)]),
        Call::Commit("a", 2, vec![(0, 12, 0), (1, 12, 0)]),
        Call::DeleteCommits("d", vec![0]),
        Call::Commit("c", 7, vec![(0, 1, 0)]),
        Call::Commit("d", 1, vec![(1, 6, 0)]),
    ]
}

/// All but the last call are proven durable, if `synced`.
fn sample(synced: bool) -> Sample {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    let (mut ends, mut states) = (Vec::new(), Vec::<View>::new());
    let calls = calls();
    for (at, call) in calls.iter().enumerate() {
        if synced && at + 1 == calls.len() {
            offsets.sync_all().unwrap();
        }
        call.run(&offsets, at as i64).unwrap();
        ends.push(length(&offsets));
        let mut state = states.last().cloned().unwrap_or_default();
        call.apply(&mut state, 1, at as i64);
        states.push(state);
    }
    offsets.sync_all().unwrap();
    let mut bytes = disk.read_file(FILE).unwrap();
    bytes.truncate(*ends.last().unwrap() as usize + 600);
    Sample { disk, bytes, ends, states }
}

impl Sample {
    fn with(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        change(&mut bytes);
        self.disk.write_file(FILE, &bytes).unwrap();
        bytes
    }

    /// The number of the batch that holds this byte.
    fn batch_at(&self, position: u64) -> usize {
        self.ends.iter().filter(|&&end| end <= position).count()
    }

    fn start_of(&self, batch: usize) -> u64 {
        batch.checked_sub(1).map_or(BLOCK_BYTES, |before| self.ends[before])
    }
}

#[test]
fn d5_torn_at_every_byte_it_is_the_state_after_some_number_of_calls() {
    let sample = sample(false);
    let end = *sample.ends.last().unwrap();
    for at in BLOCK_BYTES..end {
        let mut ways: [(u8, bool); 3] = [(0, true), (0, false), (0xa5, false)];
        ways.rotate_left(at as usize % 3);
        for (fill, shorter) in ways.into_iter().take(more(1, 3) as usize) {
            let torn = sample.with(|bytes| match shorter {
                true => bytes.truncate(at as usize),
                false => bytes[at as usize..].fill(fill),
            });
            // A batch may end in the zeros that were written over it.
            let is_whole = |&&end: &&u64| torn.get(..end as usize) == Some(&sample.bytes[..end as usize]);
            let count = sample.ends.iter().filter(is_whole).count();
            let (offsets, cut) = open_as(&sample.disk, 2, Access::Write).unwrap();
            if count == 0 {
                // The first batch was synced before the file had its name.
                let damage = offsets.damage().unwrap();
                assert_eq!((view(&offsets), damage.names_lost), (View::new(), true), "cut at {at}");
                assert!(damage.in_doubt("a", TopicId(1), 0));
                continue;
            }
            assert!(offsets.damage().is_none(), "cut at {at}: {:?}", offsets.damage());
            let state = &sample.states[count - 1];
            assert_eq!(&view(&offsets), state, "cut at {at}");
            let position = sample.ends[count - 1];
            let written = torn.iter().rposition(|&byte| byte != 0).unwrap() as u64 + 1;
            let expected = (written > position).then(|| Cut { path: FILE.into(), position, bytes: written - position });
            assert_eq!(cut, expected, "cut at {at}");
            // It goes on from there, and nothing of the tail comes back.
            let mut model = state.clone();
            for call in [Call::Commit("a", 9, vec![(0, 77, 0)]), Call::DeleteGroup("b")] {
                call.run(&offsets, 50).unwrap();
                call.apply(&mut model, 2, 50);
            }
            offsets.sync_all().unwrap();
            assert_eq!(found(&sample.disk), model, "cut at {at}");
        }
    }
}

/// What must hold of a damaged log, whatever the damage: `lost` are the calls whose batches are.
fn check_damaged(sample: &Sample, lost: &[usize], position: u64, what: &str) {
    let calls = calls();
    for access in [Access::Read, Access::Write] {
        let before = sample.disk.read_file(FILE).unwrap();
        let (offsets, cut) = open_as(&sample.disk, 2, access).unwrap();
        let damage = offsets.damage().unwrap_or_else(|| panic!("{what}: not seen"));
        assert!(matches!(damage.error.kind(), ErrorKind::Corrupt { .. }), "{what}: {}", damage.error);
        assert_eq!((damage.error.position(), damage.error.path()), (Some(position), Some(Path::new(FILE))), "{what}");
        assert_eq!(cut, None);
        let view = view(&offsets);
        for (name, group) in &view {
            // Never a value that was not committed.
            for (place, commit) in &group.commits {
                let once = sample.states.iter().any(|state| {
                    state.get(name).and_then(|group| group.commits.get(place)).is_some_and(|known| known == commit)
                });
                assert!(once, "{what}: {name} never committed {commit:?}");
            }
        }
        // What the newest commit of each partition was, and whether it is said, or doubted.
        let newest = &sample.states[sample.states.len() - 1];
        for (name, group) in newest {
            for (&(topic, partition), commit) in &group.commits {
                let said = view.get(name).and_then(|group| group.commit(topic, partition));
                assert!(
                    said == Some(commit) || damage.in_doubt(name, topic, partition),
                    "{what}: {name}, partition {partition}: {said:?} is not doubted"
                );
            }
        }
        for (name, group) in &view {
            let truth = newest.get(name);
            for (&(topic, partition), commit) in &group.commits {
                let right = truth.and_then(|group| group.commit(topic, partition)) == Some(commit);
                assert!(right || damage.in_doubt(name, topic, partition), "{what}: {name} {partition} is old");
                assert!(right || damage.groups.contains(name), "{what}: {name} is not named");
            }
        }
        // Each whole entry counts: a partition's newest commit that isn't lost is said.
        for (at, call) in calls.iter().enumerate().filter(|(at, _)| !lost.contains(at)) {
            let Call::Commit(name, _, commits) = call else { continue };
            let named = calls.iter().position(|call| matches!(call, Call::Commit(first, ..) if first == name));
            let again = calls[at + 1..].iter().any(|later| match later {
                Call::Commit(of, _, _) | Call::DeleteGroup(of) | Call::DeleteCommits(of, _) => of == name,
                _ => false,
            });
            if again || named.is_some_and(|first| lost.contains(&first)) || *name == "c" {
                continue;
            }
            for &(partition, offset, _) in commits {
                let said = view.get(*name).and_then(|group| group.commit(TopicId(1), partition));
                assert_eq!(said.map(|commit| commit.offset), Some(offset), "{what}: {name}, partition {partition}");
            }
        }
        // Nothing is written.
        let refused = offsets.commit("a", 9, &[new(0, 1)], 9).unwrap_err();
        match access {
            Access::Read | Access::Drive => assert_eq!(refused.kind(), &ErrorKind::ReadOnly),
            Access::Write => assert_eq!(refused.kind(), damage.error.kind()),
        }
        assert!(view.keys().all(|group| offsets.delete_group(group, 1).is_err()));
        assert_eq!(offsets.sync_all(), Ok(()));
        assert_eq!(sample.disk.read_file(FILE).unwrap(), before, "{what}: it was changed");
    }
}

#[test]
fn d5_every_flipped_bit_is_found_and_the_rest_counts() {
    let sample = sample(true);
    let evidence = sample.ends[sample.ends.len() - 2];
    for at in (0..512).chain(BLOCK_BYTES..evidence) {
        for bit in 0..more(1, 8) {
            let bit = (at + bit) % 8;
            sample.with(|bytes| bytes[at as usize] ^= 1 << bit);
            let what = format!("bit {bit} of byte {at}");
            if at < BLOCK_BYTES {
                let offsets = open(&sample.disk, 2);
                let damage = offsets.damage().unwrap_or_else(|| panic!("{what}: not seen"));
                assert_eq!((view(&offsets), damage.names_lost, damage.error.position()), (View::new(), true, Some(0)));
                assert!(damage.in_doubt("a", TopicId(1), 0) && damage.groups.is_empty());
                continue;
            }
            let batch = sample.batch_at(at);
            check_damaged(&sample, &[batch], sample.start_of(batch), &what);
        }
    }
    // Above what is proven durable it is a torn tail.
    for at in evidence..sample.ends[sample.ends.len() - 1] {
        sample.with(|bytes| bytes[at as usize] ^= 1);
        let (offsets, cut) = open_as(&sample.disk, 2, Access::Write).unwrap();
        assert!(cut.is_some() && offsets.damage().is_none());
        assert_eq!(view(&offsets), sample.states[sample.states.len() - 2]);
    }
}

#[test]
fn d5_any_stretch_may_be_missing() {
    let sample = sample(true);
    let count = sample.ends.len() - 1;
    for from in 0..count {
        for to in from + 1..=count {
            let (start, end) = (sample.start_of(from), sample.start_of(to));
            sample.with(|bytes| bytes[start as usize..end as usize].fill(0));
            check_damaged(&sample, &(from..to).collect::<Vec<_>>(), start, &format!("batches {from} to {to}"));
        }
    }
    for other in 2..count {
        for first in 0..other - 1 {
            let places = [first, other].map(|batch| sample.start_of(batch) as usize + BATCH_HEADER_BYTES);
            sample.with(|bytes| places.iter().for_each(|&place| bytes[place] ^= 4));
            check_damaged(&sample, &[first, other], sample.start_of(first), &format!("batches {first} and {other}"));
        }
    }
}

#[test]
fn groups_are_named_if_their_newest_commit_may_be_lost() {
    let sample = sample(true);
    let damaged = |batch: usize| {
        let place = sample.start_of(batch) as usize + BATCH_HEADER_BYTES;
        sample.with(|bytes| bytes[place] ^= 1);
        open(&sample.disk, 2).damage().unwrap()
    };
    // "a" commits again in all partitions that are known, but another's only commit may be lost; "b" doesn't,
    // "c" is deleted, "d" comes later.
    let damage = damaged(4);
    assert_eq!((damage.groups.clone(), damage.names_lost), (vec!["a".to_owned(), "b".into()], false));
    assert!(!damage.in_doubt("a", TopicId(1), 0) && damage.in_doubt("a", TopicId(1), 2));
    assert!(damage.in_doubt("b", TopicId(1), 0) && damage.in_doubt("c, which may have been", TopicId(1), 0));
    assert!(!damage.in_doubt("d", TopicId(1), 0), "heard of behind the damage only");
    // The commit of both partitions of "a"; "c" was deleted before and comes again behind it.
    let damage = damaged(8);
    assert_eq!((damage.groups.clone(), damage.names_lost), (vec!["a".to_owned(), "b".into(), "d".into()], false));
    assert!(damage.in_doubt("a", TopicId(1), 0) && !damage.in_doubt("c", TopicId(1), 0));
    // The deletion of "c": when it comes again, the old one is forgotten.
    let damage = damaged(6);
    assert_eq!((damage.groups, damage.names_lost), (vec!["a".to_owned(), "b".into()], false));
    let offsets = open(&sample.disk, 2);
    assert_eq!(view(&offsets)["c"].commits.len(), 1);
    offsets.with(|state| assert_eq!(state.live_bytes(), encoded_bytes(state)));
    // A group may have been named in the last of what is proven, and never again.
    assert!(damaged(10).names_lost);
    // The name of "d": its later commits say nothing.
    let damage = damaged(7);
    assert!(damage.names_lost && damage.in_doubt("d", TopicId(1), 1));
    assert!(!view(&open(&sample.disk, 2)).contains_key("d"));
}

#[test]
fn files_that_are_no_offset_log_are_damage() {
    let sample = sample(true);
    let mut foreign = sample.bytes.clone();
    foreign[40] ^= 1;
    for bytes in [vec![], vec![0; 100], vec![0; 8_192], b"thalweg\0 and nothing else".to_vec(), foreign] {
        sample.disk.write_file(FILE, &bytes).unwrap();
        let offsets = open(&sample.disk, 2);
        let damage = offsets.damage().unwrap();
        assert!(damage.names_lost && view(&offsets).is_empty());
        assert_eq!(damage.error.path(), Some(Path::new(FILE)));
        assert!(offsets.commit("a", 1, &[new(0, 1)], 1).is_err());
        assert_eq!(sample.disk.read_file(FILE).unwrap(), bytes);
    }
    // Another engine's whole file.
    let other = EngineId([8; 16]);
    sample.disk.write_file(FILE, &sample.bytes).unwrap();
    let (offsets, _) = Offsets::open(Arc::new(sample.disk.clone()), dir(), other, 2, Access::Write, 0).unwrap();
    assert!(matches!(offsets.damage().unwrap().error.kind(), ErrorKind::Foreign { .. }));
    assert!(view(&offsets).is_empty() && offsets.damage().unwrap().names_lost);
}

/// A synced commit, and then a killed process: nothing behind it says that it was durable. What the next life
/// writes does.
#[test]
fn d5_what_an_earlier_life_synced_is_proven_by_what_the_next_one_writes() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    offsets.commit("a", 1, &[new(0, 5)], 1).unwrap();
    let first = length(&offsets);
    offsets.commit("b", 1, &[new(0, 6)], 2).unwrap();
    offsets.sync_all().unwrap();
    let disk = disk.crash(crate::sim::CrashPolicy::Kill);
    let offsets = open(&disk, 2);
    offsets.commit("c", 1, &[new(0, 7)], 3).unwrap();
    let disk = disk.crash(crate::sim::CrashPolicy::Kill);
    let mut bytes = disk.read_file(FILE).unwrap();
    bytes[first as usize + BATCH_HEADER_BYTES] ^= 1;
    disk.write_file(FILE, bytes).unwrap();
    let damage = open(&disk, 3).damage().expect("the second commit was synced, and is damaged");
    assert!(matches!(damage.error.kind(), ErrorKind::Corrupt { .. }), "{}", damage.error);
}
