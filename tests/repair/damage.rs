//! Segments flipped, cut, deleted, swapped, doubled.

use std::path::Path;

use thalweg::inspect::{RepairAction, repair_sim, verify_sim};
use thalweg::sim::{Operation, SimClock, SimDisk};
use thalweg::{Record, TopicConfig};

use crate::support::{DATA, Sample, change, lost, repaired};

#[test]
fn d3_a_sound_directory_is_not_touched() {
    let sample = Sample::new();
    let (before, operations) = (sample.disk.content_hash(), sample.disk.count(Operation::Write));
    let done = crate::support::repair(&sample.disk).unwrap();
    assert!(done.is_nothing());
    assert_eq!(sample.disk.content_hash(), before);
    assert_eq!(sample.disk.count(Operation::Write), operations);
}

#[test]
fn d3_every_flip_in_a_segment_costs_one_batch_at_most() {
    let sample = Sample::new();
    for partition in [0, 1] {
        for path in sample.segments(partition) {
            let length = sample.disk.read_file(&path).unwrap().len();
            let places = (0..512).step_by(97).chain([3_000]).chain((4096..length).step_by(307));
            for place in places {
                let disk = sample.copy();
                change(&disk, &path, |bytes| bytes[place] ^= 1 << (place % 8));
                let what = format!("{} flipped at {place}", path.display());
                if verify_sim(&disk, DATA, &mut |_| {}).unwrap().is_sound() {
                    continue;
                }
                let done = repaired(&sample, &disk, &what);
                let largest = sample.batches[&partition].iter().map(|batch| batch.end - batch.start).max().unwrap();
                assert!(lost(&done) <= largest, "{what}: {done:#?}");
                assert!(place >= 4096 || lost(&done) == 0, "{what}: {done:#?}");
            }
        }
    }
}

#[test]
fn d3_a_dry_run_changes_nothing() {
    let sample = Sample::new();
    for path in sample.files() {
        let disk = sample.copy();
        let bytes = sample.disk.read_file(&path).unwrap();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if is_log && bytes[4_096..].iter().all(|&byte| byte == 0) {
            // A last segment without a batch may be torn anywhere: that is no damage.
            continue;
        }
        change(&disk, &path, |bytes| match bytes.get_mut(4_100) {
            Some(byte) => *byte ^= 4,
            None => bytes[40] ^= 4,
        });
        let before = (disk.content_hash(), disk.list_files());
        let planned = repair_sim(&disk, DATA, true, &mut |_| {}).unwrap();
        assert!(!planned.is_nothing(), "{}", path.display());
        let shown = verify_sim(&disk, DATA, &mut |_| {}).unwrap().repair;
        assert_eq!(shown.map(|shown| shown.steps), Some(planned.steps));
        assert_eq!((disk.content_hash(), disk.list_files()), before, "{}", path.display());
    }
}

#[test]
fn d3_a_cut_segment_loses_what_is_cut_off() {
    let sample = Sample::new();
    for partition in [0, 1] {
        for path in sample.segments(partition) {
            let length = sample.disk.read_file(&path).unwrap().len();
            for to in [0, 100, 512, 4095, length - 1].into_iter().chain((4096..length).step_by(401)) {
                let disk = sample.copy();
                change(&disk, &path, |bytes| bytes.truncate(to));
                repaired(&sample, &disk, &format!("{} cut to {to}", path.display()));
            }
        }
    }
}

#[test]
fn d3_a_missing_segment_is_stood_in_for() {
    let sample = Sample::new();
    for partition in [0, 1] {
        let segments = sample.segments(partition);
        // Every subset of a partition's segments.
        for missing in 1_u32..1 << segments.len() {
            let disk = sample.copy();
            for (at, path) in segments.iter().enumerate() {
                if missing >> at & 1 == 1 {
                    disk.remove_file(path).unwrap();
                }
            }
            let what = format!("partition {partition} without {missing:b}");
            let done = repaired(&sample, &disk, &what);
            // The last one may hold no batch: nothing is missing without it.
            let holds =
                |path: &std::path::PathBuf| sample.disk.read_file(path).unwrap()[4096..].iter().any(|&byte| byte != 0);
            let gone = segments.iter().enumerate().filter(|(at, _)| missing >> at & 1 == 1);
            assert_eq!(
                done.steps.iter().any(|step| matches!(step.action, RepairAction::Fill { .. })),
                gone.into_iter().any(|(_, path)| holds(path)),
                "{what}: {done:#?}"
            );
        }
    }
}

#[test]
fn d3_swapped_segments_find_their_places() {
    let sample = Sample::new();
    let segments = sample.segments(0);
    for (at, first) in segments.iter().enumerate() {
        for second in &segments[at + 1..] {
            let disk = sample.copy();
            let (one, other) = (disk.read_file(first).unwrap(), disk.read_file(second).unwrap());
            disk.write_file(first, other).unwrap();
            disk.write_file(second, one).unwrap();
            let what = format!("{} and {} swapped", first.display(), second.display());
            assert_eq!(lost(&repaired(&sample, &disk, &what)), 0, "{what}");
        }
    }
}

#[test]
fn d3_a_second_or_foreign_segment_is_set_aside() {
    let sample = Sample::new();
    let own = sample.segments(0);
    let other = sample.segments(1);
    for (from, to) in [(&own[0], 1_u64), (&own[1], 9), (&own[3], 4), (&other[0], 7), (&other[1], 99), (&own[2], 99)] {
        let disk = sample.copy();
        let path = own[0].with_file_name(format!("{to:020}.log"));
        disk.write_file(&path, disk.read_file(from).unwrap()).unwrap();
        let what = format!("{} copied to {}", from.display(), path.display());
        let done = repaired(&sample, &disk, &what);
        assert_eq!(lost(&done), 0, "{what}: {done:#?}");
        assert_eq!(done.steps.len(), 1, "{what}: {done:#?}");
        assert_eq!(done.steps[0].action, RepairAction::SetAside, "{what}");
    }
    // In the place of a segment of ours.
    let disk = sample.copy();
    disk.write_file(&own[1], disk.read_file(&other[1]).unwrap()).unwrap();
    let done = repaired(&sample, &disk, "another partition's segment in the place of ours");
    assert_eq!(lost(&done), 10);
}

#[test]
fn d3_an_empty_last_segment_that_is_damaged_is_set_aside() {
    let sample = Sample::new();
    let last = sample.segments(1).pop().unwrap();
    // Sealed by its age, the log goes on in a file without a batch.
    let is_empty = sample.disk.read_file(&last).unwrap()[4096..].iter().all(|&byte| byte == 0);
    assert!(is_empty, "{}", last.display());
    for place in [20, 57, 200, 600] {
        let disk = sample.copy();
        change(&disk, &last, |bytes| bytes[place] ^= 3);
        let done = repaired(&sample, &disk, &format!("an empty last segment flipped at {place}"));
        assert_eq!(lost(&done), 0, "{done:#?}");
    }
}

#[test]
fn d3_a_renamed_segment_is_found() {
    let sample = Sample::new();
    let own = sample.segments(0);
    for from in &own {
        let disk = sample.copy();
        let bytes = disk.read_file(from).unwrap();
        disk.remove_file(from).unwrap();
        disk.write_file(from.with_file_name(format!("{:020}.log", 777)), bytes).unwrap();
        let done = repaired(&sample, &disk, &format!("{} renamed", from.display()));
        assert_eq!(lost(&done), 0, "{done:#?}");
    }
}

#[test]
fn d3_damage_after_damage_is_repaired_again() {
    let sample = Sample::new();
    let path = &sample.segments(0)[1];
    let disk = sample.copy();
    change(&disk, path, |bytes| bytes[4_200] ^= 1);
    let first = crate::support::repair(&disk).unwrap();
    assert_eq!(lost(&first), 2);
    // The rewritten file is hit too.
    change(&disk, path, |bytes| bytes[4_200] ^= 1);
    let second = crate::support::repair(&disk).unwrap();
    // What was lost before can't be told from what is lost now.
    assert_eq!(lost(&second), 4, "{second:#?}");
    let mut both = thalweg::inspect::Repair::clone(&first);
    both.lost.extend(second.lost);
    crate::support::check(&sample, &disk, &both, "twice");
}

#[test]
fn d3_indexes_are_set_aside_and_rebuilt() {
    let sample = Sample::new();
    let indexes: Vec<_> =
        sample.files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "index")).collect();
    assert!(!indexes.is_empty());
    for path in indexes {
        for place in (0..sample.disk.read_file(&path).unwrap().len()).step_by(307) {
            let disk = sample.copy();
            change(&disk, &path, |bytes| bytes[place] ^= 16);
            if verify_sim(&disk, DATA, &mut |_| {}).unwrap().is_sound() {
                continue;
            }
            let done = repaired(&sample, &disk, &format!("{} flipped at {place}", path.display()));
            assert_eq!(lost(&done), 0);
        }
    }
}

#[test]
fn d6_what_was_rewritten_is_not_read_at_open() {
    let reads = |bytes: usize| {
        let (disk, clock) = (SimDisk::new(), SimClock::new());
        let engine = crate::support::open(&disk, &clock).unwrap();
        let config = TopicConfig::default().segment_bytes(4 << 20).max_message_bytes(1 << 20);
        engine.create_topic("t", config).unwrap();
        let partition = engine.partition("t", 0).unwrap();
        for _ in 0..10 {
            partition.append(&Record::new(&vec![5; bytes])).unwrap().wait().unwrap();
        }
        engine.close().unwrap();
        let path = Path::new(DATA).join("topics/t/0/00000000000000000000.log");
        change(&disk, &path, |bytes| bytes[4_096 + 200] ^= 1);
        crate::support::repair(&disk).unwrap();
        let before = disk.count(Operation::Read);
        let engine = crate::support::open(&disk, &clock).unwrap();
        assert_eq!(engine.partition("t", 0).unwrap().end_offset(), 10);
        disk.count(Operation::Read) - before
    };
    assert_eq!(reads(1_000), reads(300_000));
}
