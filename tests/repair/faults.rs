//! Errors of the disk in the middle of a repair, and files that can't be read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use thalweg::ErrorKind;
use thalweg::inspect::{repair_sim, verify_sim};
use thalweg::sim::{Operation, Repeat};

use crate::support::{DATA, Sample, change, check, repair};

#[test]
fn d3_an_error_at_any_operation_loses_nothing() {
    let sample = Sample::new();
    let kinds = [
        Operation::CreateDirectory,
        Operation::Create,
        Operation::Rename,
        Operation::Unlink,
        Operation::Write,
        Operation::ShortWrite,
        Operation::Allocate,
        Operation::Sync,
        Operation::SyncDirectory,
    ];
    let damaged = sample.copy();
    change(&damaged, &sample.segments(0)[1], |bytes| bytes[4_200] ^= 1);
    change(&damaged, &sample.named("offsets-"), |bytes| bytes[4_230] ^= 1);
    change(&damaged, &sample.named("catalog-"), |bytes| bytes[4_110] ^= 1);
    let whole = repair_sim(&damaged, DATA, true, &mut |_| {}).unwrap();
    let mut failed = 0;
    for kind in kinds {
        for errno in [5, 28] {
            for passing in (0..4).chain((4..40).step_by(3)) {
                let disk = damaged.crash(thalweg::sim::CrashPolicy::Kill);
                disk.fail_after(passing, kind, errno, Repeat::Forever);
                let outcome = repair(&disk);
                disk.clear_faults();
                let Err(error) = outcome else { break };
                let expected = if errno == 28 { ErrorKind::NoRoom } else { ErrorKind::Io };
                assert_eq!(error.kind(), &expected, "{kind:?} {passing}: {error}");
                failed += 1;
                let what = format!("{kind:?} failed with {errno} after {passing}");
                repair(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
                check(&sample, &disk, &whole, &what);
            }
        }
    }
    assert!(failed > 60, "{failed}");
}

/// A file of the user's has the name that repair sets things aside under.
#[test]
fn d3_a_name_that_is_taken_is_left_alone_and_another_serves() {
    let sample = Sample::new();
    let damaged = sample.copy();
    let segment = &sample.segments(0)[1];
    let partition = segment.parent().unwrap();
    change(&damaged, segment, |bytes| bytes[4_200] ^= 1);
    change(&damaged, &sample.named("offsets-"), |bytes| bytes[4_230] ^= 1);
    let dirs = [Path::new(DATA), partition];
    let taken: Vec<_> = dirs.iter().map(|dir| dir.join("set-aside")).collect();
    taken.iter().for_each(|path| damaged.write_file(path, b"precious").unwrap());
    let whole = repair_sim(&damaged, DATA, true, &mut |_| {}).unwrap();
    for path in &taken {
        let says = format!("{} is no directory: what is replaced beside it goes to set-aside-2/", path.display());
        assert!(whole.notes.contains(&says), "{whole:#?}");
    }
    repair(&damaged).unwrap();
    check(&sample, &damaged, &whole, "after a repair beside it");
    let files = damaged.list_files();
    for (dir, path) in dirs.iter().zip(&taken) {
        assert_eq!(damaged.read_file(path).unwrap(), b"precious");
        assert_eq!(files.iter().filter(|file| file.parent() == Some(&dir.join("set-aside-2"))).count(), 1, "{files:?}");
    }
    let ignored = verify_sim(&damaged, DATA, &mut |_| {}).unwrap().ignored;
    assert_eq!(ignored.iter().collect::<BTreeSet<_>>(), taken.iter().collect());
}

#[test]
fn d3_a_repair_that_failed_leaves_no_files_of_its_own() {
    let sample = Sample::new();
    let damaged = sample.copy();
    change(&damaged, &sample.segments(0)[1], |bytes| bytes[4_200] ^= 1);
    let mut failed = 0;
    for kind in [Operation::CreateDirectory, Operation::Rename, Operation::SyncDirectory] {
        for passing in 0..8 {
            let disk = damaged.crash(thalweg::sim::CrashPolicy::Kill);
            disk.fail_after(passing, kind, 5, Repeat::Once);
            failed += u32::from(repair(&disk).is_err());
            let files = disk.list_files();
            let is_left = |path: &&PathBuf| path.to_string_lossy().contains(".repair-");
            assert_eq!(files.iter().find(is_left), None, "{kind:?} failed after {passing}");
        }
    }
    assert!(failed > 6, "{failed}");
}

#[test]
fn d3_a_full_disk_is_said_and_loses_nothing() {
    let sample = Sample::new();
    let damaged = sample.copy();
    change(&damaged, &sample.segments(0)[1], |bytes| bytes[4_200] ^= 1);
    let whole = repair_sim(&damaged, DATA, true, &mut |_| {}).unwrap();
    damaged.set_capacity(damaged.used_bytes());
    let error = repair(&damaged).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NoRoom, "{error}");
    damaged.set_capacity(None);
    assert!(repair(&damaged).is_ok());
    check(&sample, &damaged, &whole, "after a full disk");
}

#[test]
fn d7_a_directory_in_use_is_refused() {
    let sample = Sample::new();
    let engine = sample.open();
    change(&sample.disk, &sample.segments(0)[1], |bytes| bytes[4_200] ^= 1);
    let error = repair(&sample.disk).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Locked { .. }), "{error}");
    drop(engine);
}

#[test]
fn d3_what_can_not_be_read_now_is_not_given_up() {
    let sample = Sample::new();
    let damaged = sample.copy();
    change(&damaged, &sample.segments(0)[1], |bytes| bytes[4_200] ^= 1);
    let whole = repair_sim(&damaged, DATA, true, &mut |_| {}).unwrap();
    for repeat in [Repeat::Once, Repeat::Forever] {
        for passing in (0..150).step_by(7) {
            let disk = damaged.crash(thalweg::sim::CrashPolicy::Kill);
            disk.fail_after(passing, Operation::Read, 5, repeat);
            let outcome = repair(&disk);
            disk.clear_faults();
            let what = format!("reads fail {repeat:?} after {passing}");
            if let Err(error) = outcome {
                assert_eq!(error.kind(), &ErrorKind::Io, "{what}: {error}");
            }
            repair(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            check(&sample, &disk, &whole, &what);
        }
    }
}
