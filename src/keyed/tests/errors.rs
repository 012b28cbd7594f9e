//! Errors of the system at every operation: *no room* harms nothing, anything else stops the log
//! until it is opened again, and what was synced is there then.

use super::*;
use crate::sim::{CrashPolicy, Operation, Repeat};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Each kind of operation that a log does.
const OPERATIONS: [Operation; 10] = [
    Operation::List,
    Operation::Create,
    Operation::Open,
    Operation::Rename,
    Operation::Unlink,
    Operation::Write,
    Operation::ShortWrite,
    Operation::Allocate,
    Operation::Sync,
    Operation::SyncDirectory,
];

fn is_failed(error: &Error) -> bool {
    error.kind() == &ErrorKind::Failed && error.path().is_some() && error.io_error().is_some()
}

#[test]
fn appends_work_on_a_full_disk_while_there_are_blocks() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    disk.set_capacity(disk.used_bytes());
    let start = log.bytes();
    let mut last = 1;
    let error = loop {
        match append(&mut log, last + 1) {
            Ok(()) => last += 1,
            Err(error) => break error,
        }
        log.sync().unwrap();
    };
    assert_eq!(error.kind(), &ErrorKind::NoRoom);
    assert!(log.bytes() - start > super::super::ahead::AHEAD_BYTES, "{}", log.bytes() - start);
    assert_eq!(map_of(&disk), after(last));
    // Nothing is latched: a smaller one may still fit, and with room everything does.
    assert_eq!(append(&mut log, last + 1).unwrap_err().kind(), &ErrorKind::NoRoom);
    assert_eq!(rewrite(&mut log, &after(last)).unwrap_err().kind(), &ErrorKind::NoRoom);
    assert_eq!(names(&disk), ["catalog-1"]);
    // Opening works, too.
    let (mut opened, map) = open(&disk, Access::Write).unwrap().unwrap();
    assert_eq!((opened.cut, map), (None, after(last)));
    opened.log.sync().unwrap();
    disk.set_capacity(None);
    append(&mut log, last + 1).unwrap();
    rewrite(&mut log, &after(last + 1)).unwrap();
    assert_eq!(map_of(&disk), after(last + 1));
}

#[test]
fn a_half_written_batch_that_found_no_room_is_not_there() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    append(&mut log, 2).unwrap();
    // Long enough for its whole header to be in the first half.
    disk.fail_next(Operation::ShortWrite, ENOSPC);
    assert_eq!(append(&mut log, 4).unwrap_err().kind(), &ErrorKind::NoRoom);
    let at = log.bytes() as usize;
    assert_eq!(disk.read_file("data/catalog-1").unwrap()[at..at + 8], [0; 8]);
    assert_eq!(map_of(&disk), after(2));
    append(&mut log, 3).unwrap();
    assert_eq!(map_of(&disk), after(3));
    // If even that fails, nothing more is appended.
    disk.fail_next(Operation::ShortWrite, ENOSPC);
    disk.fail_after(1, Operation::Write, ENOSPC, Repeat::Once);
    let error = append(&mut log, 4).unwrap_err();
    assert!(is_failed(&error), "{error}");
    assert!(is_failed(&append(&mut log, 4).unwrap_err()));
}

#[test]
fn no_room_at_any_operation_of_a_rewrite_leaves_the_old_log() {
    for operation in OPERATIONS {
        for passing in 0..4 {
            let disk = new_disk();
            let mut log = create(&disk).unwrap();
            append(&mut log, 2).unwrap();
            disk.fail_after(passing, operation, ENOSPC, Repeat::Once);
            let result = rewrite(&mut log, &after(2));
            disk.clear_faults();
            match result {
                Ok(()) => assert_eq!(names(&disk).last().unwrap(), "catalog-2"),
                Err(error) if operation == Operation::SyncDirectory => {
                    // Which of the two survives isn't known: nothing may be added to either.
                    assert!(is_failed(&error), "{error}");
                    assert!(is_failed(&append(&mut log, 3).unwrap_err()));
                    for seed in 0..20 {
                        let found = disk.crash(CrashPolicy::Seeded(seed));
                        let (_, map) = open(&found, Access::Write).unwrap().unwrap();
                        assert!(map == after(2) || map == after(1));
                    }
                    continue;
                }
                Err(error) => {
                    assert_eq!(error.kind(), &ErrorKind::NoRoom, "{operation:?} {passing}");
                    assert_eq!(names(&disk), ["catalog-1"], "{operation:?} {passing}");
                }
            }
            append(&mut log, 3).unwrap();
            log.sync().unwrap();
            let found = disk.crash(CrashPolicy::PowerLoss);
            assert_eq!(map_of(&found), after(3), "{operation:?} {passing}");
            rewrite(&mut log, &after(3)).unwrap();
            assert_eq!(map_of(&disk), after(3));
        }
    }
}

#[test]
fn a_new_name_that_may_stand_though_the_rename_failed_stops_the_log() {
    for is_listed in [true, false] {
        let disk = new_disk();
        let mut log = create(&disk).unwrap();
        append(&mut log, 2).unwrap();
        disk.fail_next(Operation::Rename, ENOSPC);
        if is_listed {
            // The new name stands all the same, as it may on a file system over a network.
            disk.write_file("data/catalog-2", disk.read_file("data/catalog-1").unwrap()).unwrap();
        } else {
            disk.fail_next(Operation::List, ENOSPC);
        }
        assert!(is_failed(&rewrite(&mut log, &after(2)).unwrap_err()));
        // It would be lost: the next open takes the newer file.
        assert!(is_failed(&append(&mut log, 3).unwrap_err()));
    }
}

#[test]
fn any_other_error_stops_the_log_until_it_is_opened_again() {
    for operation in OPERATIONS {
        for passing in 0..8 {
            let disk = new_disk();
            let mut log = create(&disk).unwrap();
            append(&mut log, 2).unwrap();
            log.sync().unwrap();
            disk.fail_after(passing, operation, EIO, Repeat::Once);
            let mut last = 2;
            let result = (3..40).try_for_each(|number| {
                last = number;
                log.append(&body(number).repeat(60), 1, 1)?;
                log.sync()?;
                if number == 20 { rewrite(&mut log, &after(2)) } else { Ok(()) }
            });
            disk.clear_faults();
            let Err(first) = result else { continue };
            assert!(is_failed(&first), "{operation:?} {passing}: {first}");
            for again in [append(&mut log, 9), log.sync(), rewrite(&mut log, &after(2))] {
                assert_eq!(again.as_ref().unwrap_err(), &first, "{operation:?} {passing}");
                assert_eq!(again.unwrap_err().io_error().unwrap().raw_os_error(), Some(EIO));
            }
            assert!(last >= 3);
        }
    }
}

#[test]
fn errors_while_making_a_log_leave_none_and_a_later_try_works() {
    for errno in [EIO, ENOSPC] {
        for operation in OPERATIONS {
            for passing in 0..3 {
                let disk = new_disk();
                disk.fail_after(passing, operation, errno, Repeat::Once);
                let result = create(&disk);
                disk.clear_faults();
                if result.is_ok() {
                    continue;
                }
                assert!(names(&disk).is_empty(), "{operation:?} {passing}: {:?}", names(&disk));
                create(&disk).unwrap();
            }
        }
    }
}

#[test]
fn a_leftover_that_can_not_be_removed_is_the_error_of_making_a_log() {
    let disk = new_disk();
    disk.write_file("data/catalog-1.tmp", b"junk").unwrap();
    disk.fail_next(Operation::Unlink, EIO);
    let error = create(&disk).unwrap_err();
    assert_eq!(error.io_error().unwrap().raw_os_error(), Some(EIO));
    assert_eq!(error.path(), Some(Path::new("data/catalog-1.tmp")));
    create(&disk).unwrap();
}

#[test]
fn errors_while_opening_are_errors_and_change_nothing() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    append(&mut log, 2).unwrap();
    for operation in OPERATIONS.into_iter().chain([Operation::Read]) {
        for passing in 0..4 {
            disk.fail_after(passing, operation, EIO, Repeat::Once);
            if let Err(error) = open(&disk, Access::Write) {
                assert_eq!(error.kind(), &ErrorKind::Io, "{operation:?}: {error}");
                assert!(error.path().is_some());
            }
            disk.clear_faults();
            assert_eq!(map_of(&disk), after(2));
        }
    }
}

/// A log of which entry 2 is durable and the sync of entry 3 failed. The process starts again in the same
/// boot; the kernel believes the pages clean.
fn after_a_failed_sync() -> SimDisk {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    append(&mut log, 2).unwrap();
    log.sync().unwrap();
    append(&mut log, 3).unwrap();
    disk.fail_next(Operation::Sync, EIO);
    assert!(is_failed(&log.sync().unwrap_err()));
    disk.crash(CrashPolicy::Kill)
}

#[test]
fn after_a_failed_sync_it_is_the_drive_that_is_believed() {
    let disk = after_a_failed_sync();
    assert_eq!(map_of(&disk), after(3), "who only reads sees what memory holds");
    let (mut opened, map) = open(&disk, Access::Write).unwrap().unwrap();
    assert_eq!(map, after(2));
    // What is written in its place is durable when it is said to be.
    append(&mut opened.log, 3).unwrap();
    opened.log.sync().unwrap();
    assert_eq!(map_of(&disk.crash(CrashPolicy::PowerLoss)), after(3));
}

#[test]
fn a_tail_that_memory_keeps_after_a_failed_sync_is_written_again() {
    for evict in [false, true] {
        let disk = after_a_failed_sync();
        // Another process has the file mapped: its pages stay.
        let view = disk.open(&dir().join(names::file_name(PREFIX, 1)), Access::Read).unwrap().view(1 << 20).unwrap();
        let (mut opened, map) = open(&disk, Access::Write).unwrap().unwrap();
        assert_eq!(map, after(3));
        drop(view);
        if evict {
            disk.evict();
        }
        // No room at first: it is still owed then.
        disk.fail_next(Operation::Write, ENOSPC);
        assert_eq!(opened.log.sync().unwrap_err().kind(), &ErrorKind::NoRoom);
        opened.log.sync().unwrap();
        assert_eq!(map_of(&disk.crash(CrashPolicy::PowerLoss)), after(3));
    }
}

#[test]
fn a_name_that_is_not_durable_is_made_so_before_it_counts() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    append(&mut log, 2).unwrap();
    disk.fail_next(Operation::SyncDirectory, EIO);
    assert!(is_failed(&rewrite(&mut log, &after(2)).unwrap_err()));
    let disk = disk.crash(CrashPolicy::Kill);
    let (mut opened, map) = open(&disk, Access::Write).unwrap().unwrap();
    assert_eq!(map, after(2));
    append(&mut opened.log, 3).unwrap();
    opened.log.sync().unwrap();
    assert_eq!(map_of(&disk.crash(CrashPolicy::PowerLoss)), after(3));
}

/// A log of one entry, and junk of so many bytes behind it, as of a batch that was never finished.
fn with_junk(bytes: usize) -> (SimDisk, usize) {
    let disk = new_disk();
    let end = create(&disk).unwrap().bytes() as usize;
    let mut file = disk.read_file("data/catalog-1").unwrap();
    file.truncate(end);
    file.resize(end + bytes, 0xa5);
    disk.write_file("data/catalog-1", file).unwrap();
    (disk, end)
}

#[test]
fn a_cut_tail_is_erased_in_few_writes_and_no_further() {
    let (disk, end) = with_junk(70_000);
    let mut log = open(&disk, Access::Write).unwrap().unwrap().0.log;
    // No room at first: it is still to be done then.
    disk.fail_next(Operation::Write, ENOSPC);
    assert_eq!(log.sync().unwrap_err().kind(), &ErrorKind::NoRoom);
    let before = disk.count(Operation::Write);
    log.sync().unwrap();
    assert_eq!(disk.count(Operation::Write) - before, 3, "32 KiB at a time");
    let file = disk.read_file("data/catalog-1").unwrap();
    assert_eq!(file.len(), end + 70_000);
    assert!(file[end..].iter().all(|&byte| byte == 0));
    // Any other error stops the log.
    let (disk, _) = with_junk(100);
    let mut log = open(&disk, Access::Write).unwrap().unwrap().0.log;
    disk.fail_next(Operation::Write, EIO);
    assert!(is_failed(&log.sync().unwrap_err()));
    assert!(is_failed(&log.sync().unwrap_err()));
}

#[test]
fn a_cut_tail_is_gone_for_good_before_anything_takes_its_place() {
    let (disk, end) = with_junk(70_000);
    let mut log = open(&disk, Access::Write).unwrap().unwrap().0.log;
    log.set_epoch(2);
    append(&mut log, 2).unwrap();
    let file = disk.crash(CrashPolicy::PowerLoss).read_file("data/catalog-1").unwrap();
    assert!(file[end..].iter().all(|&byte| byte == 0));
}

/// A list that doesn't show the directory's files, because it fails as if the directory weren't there.
const ENOENT: i32 = 2;

#[test]
fn the_first_file_replaces_none_that_the_list_did_not_show() {
    let disk = new_disk();
    create(&disk).unwrap();
    let before = disk.read_file("data/catalog-1").unwrap();
    disk.fail_next(Operation::List, ENOENT);
    let error = create(&disk).unwrap_err();
    assert_eq!(error.io_error().map(io::Error::kind), Some(io::ErrorKind::AlreadyExists), "{error}");
    assert_eq!(error.path(), Some(dir().join("catalog-1").as_path()));
    assert_eq!((names(&disk), disk.read_file("data/catalog-1").unwrap()), (vec!["catalog-1".to_owned()], before));
    assert_eq!(map_of(&disk), after(1));
}

#[test]
fn a_compaction_replaces_no_file_that_has_its_name() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    append(&mut log, 2).unwrap();
    disk.write_file("data/catalog-2", b"somebody's").unwrap();
    let error = rewrite(&mut log, &after(2)).unwrap_err();
    assert!(is_failed(&error), "{error}");
    assert_eq!(names(&disk), ["catalog-1", "catalog-2"]);
    assert_eq!(disk.read_file("data/catalog-2").unwrap(), b"somebody's");
    // Which of the two the next open finds isn't this log's to say.
    assert!(is_failed(&append(&mut log, 3).unwrap_err()));
}
