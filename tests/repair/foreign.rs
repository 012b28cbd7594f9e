//! Files of another directory, of the same shape, copied into this one: what most files say decides whose the
//! directory is, and nothing of it that is whole is set aside.

use std::path::{Path, PathBuf};

use thalweg::inspect::{RepairAction, repair_sim, verify_sim};
use thalweg::sim::SimDisk;

use crate::support::{DATA, Sample, lost, open, repaired};

/// Copies a file of `other` to `to`.
fn copy(disk: &SimDisk, other: &Sample, from: &Path, to: &Path) {
    disk.write_file(to, other.disk.read_file(from).unwrap()).unwrap();
}

#[test]
fn d3_a_foreign_catalogue_outweighs_nothing() {
    let (sample, other) = (Sample::new(), Sample::of_another_engine());
    let catalog = sample.named("catalog-");
    for name in ["catalog-1", "catalog-2", "catalog-9"] {
        let disk = sample.copy();
        copy(&disk, &other, &other.named("catalog-"), &Path::new(DATA).join(name));
        assert!(!verify_sim(&disk, DATA, &mut |_| {}).unwrap().is_sound(), "{name}");
        // An older file of our own isn't taken for one that may be removed.
        if name != "catalog-1" {
            let error = open(&disk, &sample.clock).unwrap_err();
            assert_eq!((error.path(), error.position()), (Some(catalog.as_path()), Some(0)), "{name}: {error}");
            assert_eq!(disk.read_file(&catalog).unwrap(), sample.disk.read_file(&catalog).unwrap(), "{name}");
        }
        let done = repaired(&sample, &disk, name);
        assert_eq!((lost(&done), done.group_names_lost, done.in_doubt.len()), (0, false, 0), "{name}: {done:#?}");
        let is_offset_log = |step: &thalweg::inspect::RepairStep| step.path.to_str().unwrap().contains("offsets-");
        assert!(!done.steps.iter().any(is_offset_log), "{name}: {done:#?}");
        let is_aside = |step: &thalweg::inspect::RepairStep| {
            step.action == RepairAction::SetAside || matches!(step.action, RepairAction::Rewrite { .. })
        };
        assert!(!done.steps.iter().any(is_aside), "{name}: {done:#?}");
    }
}

#[test]
fn d5_a_foreign_offset_log_gives_way() {
    let (sample, other) = (Sample::new(), Sample::of_another_engine());
    // Beside ours, whose commits stay.
    let disk = sample.copy();
    copy(&disk, &other, &other.named("offsets-"), &Path::new(DATA).join("offsets-7"));
    let done = repaired(&sample, &disk, "a newer foreign offset log");
    assert_eq!((lost(&done), done.group_names_lost, done.in_doubt.len()), (0, false, 0), "{done:#?}");
    // In its place.
    let disk = sample.copy();
    copy(&disk, &other, &other.named("offsets-"), &sample.named("offsets-"));
    let done = repaired(&sample, &disk, "a foreign offset log in the place of ours");
    assert_eq!((lost(&done), done.group_names_lost), (0, true), "{done:#?}");
    let engine = open(&disk, &sample.clock).unwrap();
    assert_eq!(engine.groups().unwrap(), Vec::<String>::new());
    engine.close().unwrap();
}

#[test]
fn d3_a_foreign_segment_is_set_aside_and_what_it_replaced_is_lost() {
    let (sample, other) = (Sample::new(), Sample::of_another_engine());
    for partition in [0, 1] {
        for path in sample.segments(partition) {
            let disk = sample.copy();
            let batches = records_in(&sample, partition, &path);
            copy(&disk, &other, &path, &path);
            let what = format!("a foreign {}", path.display());
            let done = repaired(&sample, &disk, &what);
            assert_eq!(lost(&done), batches, "{what}: {done:#?}");
        }
    }
}

#[test]
fn d7_two_foreign_files_at_once() {
    let (sample, other) = (Sample::new(), Sample::of_another_engine());
    let files: Vec<PathBuf> = sample.files();
    for (at, first) in files.iter().enumerate() {
        for second in &files[at + 1..] {
            let disk = sample.copy();
            let mut expected = 0;
            for path in [first, second] {
                copy(&disk, &other, path, path);
                let partition = [0, 1].into_iter().find(|&number| sample.segments(number).contains(path));
                expected += partition.map_or(0, |number| records_in(&sample, number, path));
            }
            let what = format!("foreign {} and {}", first.display(), second.display());
            let done = repaired(&sample, &disk, &what);
            // Without its own catalogue the commits tell of what was at a partition's end.
            assert_eq!(lost(&done), expected, "{what}: {done:#?}");
        }
    }
}

#[test]
fn d3_as_many_files_of_one_engine_as_of_another_are_left_alone() {
    let (sample, other) = (Sample::new(), Sample::of_another_engine());
    let disk = SimDisk::new();
    let segment = &sample.segments(0)[0];
    copy(&disk, &sample, segment, segment);
    copy(&disk, &other, &other.named("catalog-"), &other.named("catalog-"));
    let before = disk.content_hash();
    for dry_run in [true, false] {
        let done = repair_sim(&disk, DATA, dry_run, &mut |_| {}).unwrap();
        assert!(done.steps.is_empty() && done.lost.is_empty(), "{done:#?}");
        let reason = &done.impossible[0].reason;
        assert!(reason.contains("2 engines, 1 of each") && reason.contains("move away"), "{reason}");
    }
    disk.remove_file(Path::new(DATA).join("LOCK")).unwrap();
    assert_eq!(disk.content_hash(), before, "a tie changes nothing");
}

/// The records that a segment holds.
fn records_in(sample: &Sample, partition: u32, path: &Path) -> u64 {
    let base = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let next = sample.segments(partition).iter().map(base).find(|&next| next > base(&path.to_owned()));
    next.unwrap_or(sample.sent[&partition].len() as u64) - base(&path.to_owned())
}

#[test]
fn d3_a_catalogue_that_knows_none_of_the_topics_is_refused() {
    let (sample, other) = (Sample::new(), Sample::of_another_engine());
    let disk = sample.copy();
    for path in sample.files().iter().filter(|path| path.starts_with("data/topics")) {
        let bytes = disk.read_file(path).unwrap();
        disk.remove_file(path).unwrap();
        disk.write_file(path.to_str().unwrap().replace("/quotes/", "/ours/"), bytes).unwrap();
    }
    copy(&disk, &other, &other.named("catalog-"), &sample.named("catalog-"));
    let error = open(&disk, &sample.clock).unwrap_err();
    assert!(error.to_string().contains("the catalogue is another directory's"), "{error}");
    let found = verify_sim(&disk, DATA, &mut |_| {}).unwrap();
    assert!(found.damage.iter().any(|damage| damage.reason.contains("the catalogue is another directory's")));
    // One topic's directory that was copied here is none of our business.
    let disk = sample.copy();
    for path in other.files().iter().filter(|path| path.starts_with("data/topics")) {
        let to = path.to_str().unwrap().replace("/quotes/", "/theirs/");
        copy(&disk, &other, path, Path::new(&to));
    }
    assert!(verify_sim(&disk, DATA, &mut |_| {}).unwrap().is_sound());
    open(&disk, &sample.clock).unwrap().close().unwrap();
}
