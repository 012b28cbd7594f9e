//! D4 at the log: no room leaves everything as it was and later calls are tried afresh; any other
//! error stops it until it is opened again, and nothing acknowledged as synced is lost.

use super::*;
use crate::sim::{CrashPolicy, Operation, Repeat};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// What writing asks of the disk.
const OPERATIONS: [Operation; 8] = [
    Operation::Create,
    Operation::Rename,
    Operation::Unlink,
    Operation::Write,
    Operation::ShortWrite,
    Operation::Allocate,
    Operation::Sync,
    Operation::SyncDirectory,
];

#[test]
fn no_room_at_any_operation_leaves_what_was() {
    let calls = [
        Call::Commit("a", 1, vec![(0, 1, 9)]),
        Call::Commit("b", 1, (0..40).map(|partition| (partition, 2, 0)).collect()),
        Call::Commit("b", 2, (0..40).map(|partition| (partition, 3, 0)).collect()),
        Call::Commit("b", 3, (0..40).map(|partition| (partition, 4, 0)).collect()),
        Call::Commit("b", 4, (0..40).map(|partition| (partition, 5, 0)).collect()),
        Call::Commit("b", 5, (0..40).map(|partition| (partition, 5, 0)).collect()),
        Call::DeleteGroup("a"),
    ];
    let mut refused = 0;
    for (operation, passing) in OPERATIONS.into_iter().flat_map(|operation| (0..12).map(move |at| (operation, at))) {
        let disk = new_disk();
        let offsets = open(&disk, 1);
        lock(&offsets.log).compact_from = 0;
        disk.fail_after(passing, operation, ENOSPC, Repeat::Once);
        let mut model = View::new();
        for (now_ms, call) in calls.iter().enumerate() {
            let result = call.run(&offsets, now_ms as i64);
            let result = match result {
                Err(error) if error.kind() == &ErrorKind::NoRoom => {
                    refused += 1;
                    assert_eq!(
                        (view(&offsets), found(&disk)),
                        (model.clone(), model.clone()),
                        "{operation:?} {passing}, {call:?}"
                    );
                    call.run(&offsets, now_ms as i64)
                }
                result => result,
            };
            // A sync or a rename that finds no room may leave either: then the log stops.
            match result {
                Ok(_) => call.apply(&mut model, 1, now_ms as i64),
                Err(error) => {
                    assert_eq!(error.kind(), &ErrorKind::Failed, "{operation:?} {passing}, {call:?}: {error}");
                    break;
                }
            }
            assert_eq!(
                (view(&offsets), found(&disk)),
                (model.clone(), model.clone()),
                "{operation:?} {passing}, {call:?}"
            );
        }
    }
    assert!(refused > 4, "{refused}");
}

#[test]
fn commits_go_on_on_a_full_disk_while_there_are_blocks() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    offsets.commit("a", 1, &[new(0, 1)], 1).unwrap();
    disk.set_capacity(disk.used_bytes());
    let mut model = view(&offsets);
    let mut committed = 0_u64;
    // Compaction is due all the time, and finds no room.
    lock(&offsets.log).compact_from = 0;
    loop {
        let call = Call::Commit("a", 1, vec![(0, committed, 0)]);
        match call.run(&offsets, 2) {
            Ok(ticket) => offsets.sync_to(ticket).unwrap(),
            Err(error) => {
                assert_eq!(error.kind(), &ErrorKind::NoRoom);
                break;
            }
        }
        call.apply(&mut model, 1, 2);
        committed += 1;
    }
    assert!(committed > 500, "64 KiB are allocated ahead: {committed}");
    assert_eq!((view(&offsets), found(&disk)), (model.clone(), model));
    disk.set_capacity(None);
    offsets.delete_group("a", 3).unwrap();
    assert_eq!((view(&offsets), found(&disk)), (View::new(), View::new()));
}

#[test]
fn a_failed_sync_stops_the_log_and_is_never_retried() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    offsets.commit("a", 1, &[new(0, 1)], 1).unwrap();
    let synced = offsets.commit("a", 1, &[new(0, 2)], 1).unwrap();
    offsets.sync_to(synced).unwrap();
    let lost = offsets.commit("a", 1, &[new(0, 3)], 1).unwrap();
    disk.fail_after(0, Operation::Sync, EIO, Repeat::Once);
    for _ in 0..2 {
        let error = offsets.sync_to(lost).unwrap_err();
        assert_eq!((error.kind(), error.path()), (&ErrorKind::Failed, Some(Path::new("data/offsets-1"))));
        assert_eq!(offsets.sync_all().unwrap_err().kind(), &ErrorKind::Failed);
        assert_eq!(offsets.commit("a", 1, &[new(0, 4)], 1).unwrap_err().kind(), &ErrorKind::Failed);
        assert_eq!(offsets.delete_group("a", 1).unwrap_err().kind(), &ErrorKind::Failed);
    }
    // What was acknowledged stays so, and what was written stays to be seen.
    assert_eq!(offsets.sync_to(synced), Ok(()));
    assert_eq!(view(&offsets)["a"].commit(TopicId(1), 0).unwrap().offset, 3);
    let offset = |disk: &SimDisk| found(disk)["a"].commit(TopicId(1), 0).unwrap().offset;
    assert!([2, 3].contains(&offset(&disk.crash(CrashPolicy::PowerLoss))));
    // The kernel believes its pages clean: what is opened is written again before it is synced.
    let offsets = open(&disk, 2);
    let ticket = offsets.commit("b", 1, &[new(0, 1)], 2).unwrap();
    offsets.sync_to(ticket).unwrap();
    assert_eq!(found(&disk.crash(CrashPolicy::PowerLoss)), view(&offsets));
}

#[test]
fn any_other_error_of_a_write_stops_the_log() {
    for operation in [Operation::Write, Operation::ShortWrite, Operation::Allocate] {
        let disk = new_disk();
        let offsets = open(&disk, 1);
        offsets.commit("a", 1, &[new(0, 1)], 1).unwrap();
        let before = view(&offsets);
        disk.fail_after(0, operation, EIO, Repeat::Once);
        let mut result = Ok(Ticket(0));
        for offset in 0..2_000 {
            result = offsets.commit("a", 1, &[new(0, offset)], 1);
            if result.is_err() {
                break;
            }
        }
        let error = result.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Failed, "{operation:?}");
        assert_eq!(offsets.commit("a", 1, &[new(0, 4)], 1).unwrap_err().kind(), &ErrorKind::Failed);
        assert_eq!(view(&offsets)["a"].generation, before["a"].generation);
        assert!(open(&disk, 2).damage().is_none());
    }
}

#[test]
fn a_file_that_could_not_be_made_is_made_later_or_never() {
    for (errno, again) in [(ENOSPC, true), (EIO, false)] {
        for (operation, passing) in OPERATIONS.into_iter().flat_map(|operation| (0..3).map(move |at| (operation, at))) {
            let disk = new_disk();
            let offsets = open(&disk, 1);
            disk.fail_after(passing, operation, errno, Repeat::Once);
            let first = offsets.commit("a", 1, &[new(0, 1)], 1);
            disk.clear_faults();
            if first.is_ok() {
                continue;
            }
            assert_eq!(view(&offsets), View::new());
            let second = offsets.commit("a", 1, &[new(0, 2)], 1);
            let what = format!("error {errno}, {operation:?} {passing}: {first:?}, then {second:?}");
            match again {
                true => assert_eq!(found(&disk), view(&offsets), "{what}"),
                false => assert_eq!(second.as_ref().unwrap_err().kind(), &ErrorKind::Failed, "{what}"),
            }
            assert_eq!(second.is_ok(), again, "{what}");
            let offsets = open(&disk, 2);
            offsets.commit("b", 1, &[new(0, 2)], 1).unwrap();
        }
    }
}

#[test]
fn errors_while_opening_are_errors() {
    let disk = new_disk();
    open(&disk, 1).commit("a", 1, &[new(0, 1)], 1).unwrap();
    for (passing, operation) in [(0, Operation::Read), (1, Operation::Read), (0, Operation::Open), (0, Operation::List)]
    {
        disk.fail_after(passing, operation, EIO, Repeat::Once);
        let error = open_as(&disk, 2, Access::Write).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Io, "{operation:?}");
        disk.clear_faults();
    }
    assert_eq!(found(&disk).len(), 1);
}
