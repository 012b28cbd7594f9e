//! What follows from what was found: the mark to begin with, and what is done in the directory.

use std::path::{Path, PathBuf};

use super::files::*;
use super::{EIO, ENOSPC};
use crate::error::ErrorKind;
use crate::format::{BatchHeader, FileHeader, Mark};
use crate::partition::recovery::{Doubt, Recovered};
use crate::segment::index_path;
use crate::sim::{CrashPolicy, Operation, Repeat, SimDisk};

#[test]
fn the_end_is_the_new_mark_where_all_is_durable_and_nothing_damaged() {
    let later = |offset| BatchHeader { epoch: EPOCH + 1, ..batch(offset) };
    let first = header(0);
    let second = FileHeader { durable_before: 4, ..next_header(&first, 2, 2) };
    let files = [(0, file(&first, (0..2).map(batch))), (2, file(&second, (2..4).map(later)))];
    let whole = found(files.clone(), Some(Mark { log_start_offset: 1, ..mark(2, 0, 2) }));
    let epoch = EPOCH + 1;
    assert_eq!((whole.epoch(), whole.end_offset, whole.durable_offset), (epoch, 4, 4));
    let expected = Mark { epoch, log_start_offset: 1, durable_offset: 4, segment_base_offset: 2, position: place(2) };
    assert_eq!(whole.mark(), Some(expected));
    // A batch above it that may not be durable.
    let [first, (_, mut bytes)] = files;
    bytes.extend_from_slice(&later(4).encode(second.seed(), place(2)));
    let above = found([first.clone(), (2, bytes.clone())], None);
    assert_eq!((above.end_offset, above.durable_offset, above.mark()), (5, 4, None));
    // After damage the log ends for good, and what the catalogue says of it stays.
    let damaged = found([first, (2, spoiled(bytes, 1))], None);
    assert!(damaged.damage.is_some() && damaged.durable_offset == damaged.end_offset);
    assert_eq!(damaged.mark(), None);
    assert_eq!((Recovered::empty().epoch(), Recovered::empty().mark()), (0, None));
}

/// Behind the segment that counts two more that don't, the index of the first and what the writer left.
fn torn() -> (SimDisk, Recovered, PathBuf) {
    let whole = file(&header(0), (0..3).map(batch));
    let disk = disk_with([(0, whole), (7, file(&header(7), [])), (9, vec![0; 100])]);
    let dir = path(0).parent().unwrap().to_owned();
    for leftover in [index_path(&path(0)), dir.join("next.tmp")] {
        disk.write_file(leftover, b"bytes").unwrap();
    }
    let recovered = recovered(&disk, Some(mark(3, 0, 3)), Doubt::Nothing);
    assert_eq!(recovered.set_aside, [(path(7), 8), (path(9), 0)]);
    (disk, recovered, dir)
}

#[test]
fn what_does_not_count_is_moved_aside_and_leftovers_removed() {
    let (disk, recovered, dir) = torn();
    assert_eq!(disk.list_files().len(), 5, "to recover changes nothing");
    let aside = |base_offset, file_id: u64| {
        let name = path(base_offset).file_name().unwrap().to_string_lossy().into_owned();
        dir.join("set-aside").join(format!("{name}.{file_id:016x}"))
    };
    // That the indexes of those it moves aren't there is no error.
    assert_eq!(recovered.apply(&disk, &dir).unwrap(), [aside(9, 0), aside(7, 8)]);
    assert_eq!(disk.list_files(), [path(0), aside(7, 8), aside(9, 0)]);
}

#[test]
fn the_last_file_is_moved_aside_first() {
    let (disk, recovered, dir) = torn();
    disk.fail_after(1, Operation::Rename, EIO, Repeat::Once);
    let error = recovered.apply(&disk, &dir).unwrap_err();
    assert_eq!((error.kind(), error.path()), (&ErrorKind::Io, Some(path(7).as_path())));
    assert!(disk.read_file(path(7)).is_ok() && disk.read_file(path(9)).is_err());
}

#[test]
fn names_are_free_for_good_before_anything_is_appended() {
    let (disk, recovered, dir) = torn();
    // Beside the log: there is no other directory whose sync would do.
    disk.fail_after(0, Operation::CreateDirectory, ENOSPC, Repeat::Forever);
    let moved = recovered.apply(&disk, &dir).unwrap();
    let disk = disk.crash(CrashPolicy::PowerLoss);
    assert!(moved.len() == 2 && moved.iter().all(|path| path.parent() == Some(&dir)), "{moved:?}");
    assert!(moved.iter().all(|path| disk.read_file(path).is_ok()), "{:?}", disk.list_files());
    assert!([7, 9].iter().all(|&base_offset| disk.read_file(path(base_offset)).is_err()));
}

#[test]
fn without_a_file_to_move_the_directory_is_not_synced() {
    let disk = disk_with([(0, file(&header(0), (0..3).map(batch)))]);
    let dir = path(0).parent().unwrap().to_owned();
    let of = recovered(&disk, Some(mark(3, 0, 3)), Doubt::Nothing);
    assert!(of.apply(&disk, &dir).unwrap().is_empty());
    assert_eq!(disk.count(Operation::SyncDirectory), 0);
}

#[test]
fn what_cannot_be_removed_or_made_durable_is_told() {
    let failing = |operation, passing| {
        let (disk, recovered, dir) = torn();
        disk.fail_after(passing, operation, EIO, Repeat::Once);
        let error = recovered.apply(&disk, &dir).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Io);
        error.path().map(Path::to_owned)
    };
    let (_, _, dir) = torn();
    assert_eq!(failing(Operation::Unlink, 0), Some(dir.join("next.tmp")));
    // Each move is synced in the directory that it goes to.
    assert_eq!(failing(Operation::SyncDirectory, 2), Some(dir));
}
