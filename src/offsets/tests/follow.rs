//! A reader in another process, beside a writer that commits, compacts, and makes the file only now.

use super::*;

fn reader(disk: &SimDisk) -> Offsets {
    open_as(disk, 1, Access::Read).unwrap().0
}

#[test]
fn a_reader_sees_what_is_committed_and_compacted_meanwhile() {
    for seed in 0..more(20, 500) {
        let mut random = Random(seed);
        let disk = new_disk();
        let follower = reader(&disk);
        assert_eq!((follower.refresh(), view(&follower)), (Ok(false), View::new()));
        let offsets = open(&disk, 1);
        lock(&offsets.log).compact_from = 0;
        for now_ms in 0..60 {
            let before = length(&offsets);
            random.call().run(&offsets, now_ms).unwrap();
            if random.below(3) > 0 {
                let changed = follower.refresh().unwrap();
                assert!(changed || length(&offsets) == before || random.0 == 0, "seed {seed}");
                assert_eq!(view(&follower), view(&offsets), "seed {seed}");
                assert_eq!(follower.refresh(), Ok(false));
            }
        }
        assert_eq!(follower.commit("a", 1, &[new(0, 1)], 1).unwrap_err().kind(), &ErrorKind::ReadOnly);
        assert_eq!(follower.delete_group("no such", 1).map(|_| ()), Ok(()));
        assert_eq!(offsets.refresh(), Ok(false));
    }
}

#[test]
fn an_unfinished_commit_is_not_there_yet() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    offsets.commit("a", 1, &[new(0, 1)], 1).unwrap();
    let (before, start) = (view(&offsets), length(&offsets));
    offsets.commit("a", 1, &[new(0, 2), new(1, 2)], 1).unwrap();
    let (after, end) = (view(&offsets), length(&offsets));
    let bytes = disk.read_file("data/offsets-1").unwrap();
    // It ends in zeros.
    let end = bytes[..end as usize].iter().rposition(|&byte| byte != 0).unwrap() as u64;
    for at in start..=end {
        let mut unfinished = bytes.clone();
        unfinished[at as usize..].fill(0);
        disk.write_file("data/offsets-1", &unfinished).unwrap();
        let follower = reader(&disk);
        assert_eq!((follower.refresh(), view(&follower)), (Ok(false), before.clone()));
        assert!(follower.damage().is_none());
        disk.write_file("data/offsets-1", &bytes).unwrap();
        assert_eq!((follower.refresh(), view(&follower)), (Ok(true), after.clone()));
    }
}

#[test]
fn damage_is_seen_by_a_reader_and_goes_when_it_is_repaired() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    for offset in 0..4 {
        offsets.commit(["a", "b"][offset as usize % 2], 1, &[new(0, offset)], 1).unwrap();
        offsets.sync_all().unwrap();
    }
    let follower = reader(&disk);
    let whole = disk.read_file("data/offsets-1").unwrap();
    let state = view(&follower);
    let mut damaged = whole.clone();
    damaged[4_096 + 300] ^= 1;
    disk.write_file("data/offsets-1", &damaged).unwrap();
    let late = reader(&disk);
    assert_eq!(late.damage().unwrap().groups, ["a".to_owned()]);
    assert_eq!(follower.refresh(), Ok(false), "what was read once isn't read again");
    disk.write_file("data/offsets-1", &whole).unwrap();
    late.refresh().unwrap();
    assert!(late.damage().is_none());
    assert_eq!(view(&late), state);
}

#[test]
fn a_reader_finds_damage_behind_what_it_has_read() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    offsets.commit("a", 1, &[new(0, 1)], 1).unwrap();
    let follower = reader(&disk);
    let start = length(&offsets) as usize;
    for offset in 2..5 {
        offsets.commit("a", 1, &[new(0, offset)], 1).unwrap();
        offsets.sync_all().unwrap();
    }
    let mut bytes = disk.read_file("data/offsets-1").unwrap();
    bytes[start + 100] ^= 1;
    disk.write_file("data/offsets-1", &bytes).unwrap();
    assert_eq!(follower.refresh(), Ok(true));
    let damage = follower.damage().unwrap();
    assert_eq!((damage.error.position(), damage.groups.len()), (Some(start as u64), 1));
    assert_eq!(view(&follower)["a"].commit(TopicId(1), 0).unwrap().offset, 4);
}

#[test]
fn an_error_of_the_disk_is_told_and_the_next_look_starts_over() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    offsets.commit("a", 1, &[new(0, 1)], 1).unwrap();
    let follower = reader(&disk);
    let before = view(&follower);
    offsets.commit("a", 1, &[new(0, 2)], 1).unwrap();
    for operation in [crate::sim::Operation::List, crate::sim::Operation::Read] {
        disk.fail_next(operation, 5);
        assert_eq!(follower.refresh().unwrap_err().kind(), &ErrorKind::Io, "{operation:?}");
        assert_eq!(view(&follower), before, "{operation:?}");
    }
    assert_eq!((follower.refresh(), view(&follower)), (Ok(true), view(&offsets)));
    assert!(follower.damage().is_none());
}
