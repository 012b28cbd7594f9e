//! The simulated disk through the engine's trait: what each call does, what survives, what fails.

mod random_runs;

use std::io::{ErrorKind, IoSlice};
use std::time::Duration;

use rustix::io::Errno;

use super::*;
use crate::disk::{EntryKind, Finished};

const EIO: i32 = Errno::IO.raw_os_error();

fn path(text: &str) -> &Path {
    Path::new(text)
}

/// A disk with the durable, empty directory `d`.
fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(path("d")).unwrap();
    sync_dir(&disk, "/");
    disk
}

fn sync_dir(disk: &SimDisk, dir: &str) {
    disk.open_dir(path(dir)).unwrap().sync().unwrap();
}

fn write(file: &Arc<dyn File>, position: u64, bytes: &[u8]) {
    file.write_at(&[IoSlice::new(bytes)], position).unwrap();
}

fn try_write(file: &Arc<dyn File>, position: u64, bytes: &[u8]) -> i32 {
    code(file.write_at(&[IoSlice::new(bytes)], position))
}

fn code<T>(outcome: io::Result<T>) -> i32 {
    outcome.err().expect("an error").raw_os_error().expect("an error number")
}

fn kind<T>(outcome: io::Result<T>) -> ErrorKind {
    outcome.err().expect("an error").kind()
}

fn paths(disk: &SimDisk) -> Vec<String> {
    disk.list_files().iter().map(|path| path.display().to_string()).collect()
}

/// A durable file of two sectors, as wanted by most tests.
fn durable_file(disk: &SimDisk) -> Arc<dyn File> {
    disk.write_file("d/file", [b'.'; 1024]).unwrap();
    disk.open(path("d/file"), Access::Write).unwrap()
}

#[test]
fn names_and_bytes_are_as_on_any_disk() {
    let disk = disk();
    disk.create_dir_all(path("d/e/f")).unwrap();
    let file = disk.create(path("/d/b")).unwrap();
    file.write_at(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")], 3).unwrap();
    let mut buffer = [9; 10];
    assert_eq!(file.read_at(&mut buffer, 2).unwrap(), 5);
    assert_eq!(&buffer, b"\0abcd\x09\x09\x09\x09\x09");
    assert_eq!(disk.read_file("d/b").unwrap(), b"\0\0\0abcd");

    let entry = |name: &str, kind| Entry { name: name.to_owned(), kind };
    let expected = [entry("b", EntryKind::File), entry("e", EntryKind::Directory)];
    assert_eq!(disk.list(path("d")).unwrap(), expected);
    disk.rename(path("d/e"), path("d/g")).unwrap();
    disk.create(path("d/g/f/x")).unwrap();
    disk.rename(path("d/b"), path("d/g/f/x")).unwrap();
    assert_eq!(paths(&disk), ["d/g/f/x"]);
    assert_eq!(disk.read_file("d/g/f/x").unwrap(), b"\0\0\0abcd");
    disk.unlink(path("d/g/f/x")).unwrap();
    assert_eq!(file.length().unwrap(), 7);
    assert_eq!(kind(disk.remove_dir(path("d/g"))), ErrorKind::DirectoryNotEmpty);
    disk.remove_dir(path("d/g/f")).unwrap();
    disk.remove_dir(path("d/g")).unwrap();
    assert_eq!(disk.list(path("d")).unwrap(), []);
}

#[test]
fn what_makes_no_sense_is_refused_as_on_any_disk() {
    let disk = disk();
    let file = durable_file(&disk);
    assert_eq!(kind(disk.create(path("d/file"))), ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.create(path("none/file"))), ErrorKind::NotFound);
    assert_eq!(kind(disk.create(path("d/file/x"))), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.create_dir_all(path("d/file/x"))), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.open(path("d"), Access::Read)), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.open(path("d/none"), Access::Read)), ErrorKind::NotFound);
    assert_eq!(kind(disk.open_dir(path("d/file"))), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.list(path("d/file"))), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.rename(path("d"), path("d/x"))), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.rename(path("d/file"), path("d"))), ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(disk.rename(path("d/none"), path("d/x"))), ErrorKind::NotFound);
    assert_eq!(kind(disk.unlink(path("d"))), ErrorKind::IsADirectory);
    assert_eq!(kind(disk.remove_dir(path("d/file"))), ErrorKind::NotADirectory);
    let reader = disk.open(path("d/file"), Access::Read).unwrap();
    assert_eq!(try_write(&reader, 0, b"x"), Errno::BADF.raw_os_error());
    assert_eq!(try_write(&file, u64::MAX, b"x"), Errno::FBIG.raw_os_error());
    assert_eq!(kind(disk.write_file("d/file/x", b"")), ErrorKind::NotADirectory);
    assert_eq!(disk.check(path("d")).unwrap(), Ok(()));
    assert_eq!(kind(disk.check(path("none"))), ErrorKind::NotFound);
}

#[test]
fn a_kill_keeps_everything_written_but_makes_none_of_it_durable() {
    let disk = disk();
    let file = durable_file(&disk);
    write(&file, 0, b"written");
    disk.create(path("d/new")).unwrap();
    let killed = disk.crash(CrashPolicy::Kill);
    assert_eq!(&killed.read_file("d/file").unwrap()[..7], b"written");
    assert_eq!(paths(&killed), ["d/file", "d/new"]);

    let lost = killed.crash(CrashPolicy::PowerLoss);
    assert_eq!(lost.read_file("d/file").unwrap(), [b'.'; 1024]);
    assert_eq!(paths(&lost), ["d/file"]);
    killed.open(path("d/file"), Access::Write).unwrap().sync().unwrap();
    sync_dir(&killed, "d");
    let lost = killed.crash(CrashPolicy::PowerLoss);
    assert_eq!(&lost.read_file("d/file").unwrap()[..7], b"written");
    assert_eq!(paths(&lost), ["d/file", "d/new"]);
    // All that happened on other disks.
    assert_eq!(paths(&disk.crash(CrashPolicy::PowerLoss)), ["d/file"]);
}

#[test]
fn a_synced_file_without_a_synced_name_is_lost() {
    let disk = disk();
    let file = disk.create(path("d/new")).unwrap();
    write(&file, 0, b"bytes");
    file.sync().unwrap();
    assert_eq!(paths(&disk.crash(CrashPolicy::PowerLoss)), [""; 0]);
    sync_dir(&disk, "d");
    let found = disk.crash(CrashPolicy::PowerLoss);
    assert_eq!(found.read_file("d/new").unwrap(), b"bytes");
}

#[test]
fn renames_and_unlinks_are_pending_until_their_directory_is_synced() {
    let disk = disk();
    durable_file(&disk);
    disk.rename(path("d/file"), path("d/renamed")).unwrap();
    assert_eq!(paths(&disk.crash(CrashPolicy::PowerLoss)), ["d/file"]);
    sync_dir(&disk, "d");
    assert_eq!(paths(&disk.crash(CrashPolicy::PowerLoss)), ["d/renamed"]);
    disk.unlink(path("d/renamed")).unwrap();
    let found = disk.crash(CrashPolicy::PowerLoss);
    assert_eq!(found.read_file("d/renamed").unwrap(), [b'.'; 1024]);
    sync_dir(&disk, "d");
    assert_eq!(paths(&disk.crash(CrashPolicy::PowerLoss)), [""; 0]);
}

#[test]
fn seeds_find_every_state_and_each_seed_always_the_same() {
    let disk = disk();
    let file = durable_file(&disk);
    write(&file, 511, b"ab");
    write(&file, 511, b"AB");
    disk.rename(path("d/file"), path("d/renamed")).unwrap();
    let states = |disk: &SimDisk| -> Vec<(String, u8, u8)> {
        let state = |seed| {
            let found = disk.crash(CrashPolicy::Seeded(seed));
            let path = paths(&found).concat();
            let bytes = found.read_file(&path).unwrap();
            (path, bytes[511], bytes[512])
        };
        (0..400).map(state).collect()
    };
    let found = states(&disk);
    let mut expected = std::collections::BTreeSet::new();
    for path in ["d/file", "d/renamed"] {
        for first in *b".aA" {
            for second in *b".bB" {
                expected.insert((path.to_owned(), first, second));
            }
        }
    }
    assert_eq!(found.iter().cloned().collect::<std::collections::BTreeSet<_>>(), expected);
    assert_eq!(states(&disk), found);
}

#[test]
fn a_sync_in_a_queue_covers_what_was_written_before_it_started() {
    let disk = disk();
    let file = durable_file(&disk);
    let mut queue = disk.queue();
    write(&file, 0, b"before");
    queue.start(7, &file);
    write(&file, 512, b"after");
    let in_flight = disk.crash(CrashPolicy::PowerLoss);
    assert_eq!(in_flight.read_file("d/file").unwrap(), [b'.'; 1024]);

    let mut finished = Vec::new();
    queue.finished(&mut finished);
    assert_eq!(finished.len(), 1);
    assert_eq!(finished[0].token, 7);
    finished[0].result.as_ref().unwrap();
    let found = disk.crash(CrashPolicy::PowerLoss).read_file("d/file").unwrap();
    assert_eq!(&found[..6], b"before");
    assert_eq!(found[512..], [b'.'; 512]);
}

#[test]
fn a_sleep_ends_syncs_and_a_wake_up_before_it_is_not_lost() {
    let disk = disk();
    let file = durable_file(&disk);
    let mut queue = disk.queue();
    queue.start(1, &file);
    queue.start(2, &disk.open_dir(path("d")).unwrap());
    drop(file);
    queue.sleep(None);
    let mut finished: Vec<Finished> = Vec::new();
    queue.finished(&mut finished);
    assert_eq!(finished.iter().map(|finished| finished.token).collect::<Vec<_>>(), [1, 2]);
    queue.waker().wake();
    queue.sleep(None);
    queue.sleep(Some(Duration::from_millis(1)));

    let other = SimDisk::new();
    other.write_file("x", b"").unwrap();
    queue.start(3, &other.open(path("x"), Access::Read).unwrap());
    queue.sleep(None);
    queue.finished(&mut finished);
    assert_eq!(finished[2].result.as_ref().unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn after_a_failed_sync_later_ones_succeed_and_what_failed_is_lost_all_the_same() {
    let disk = disk();
    let file = durable_file(&disk);
    write(&file, 0, b"lost");
    disk.fail_next(Operation::Sync, EIO);
    assert_eq!(code(file.sync()), EIO);
    file.sync().unwrap();
    assert_eq!(&disk.read_file("d/file").unwrap()[..4], b"lost");
    assert_eq!(disk.crash(CrashPolicy::PowerLoss).read_file("d/file").unwrap(), [b'.'; 1024]);
    disk.evict();
    assert_eq!(disk.read_file("d/file").unwrap(), [b'.'; 1024]);

    write(&file, 0, b"again");
    file.sync().unwrap();
    let found = disk.crash(CrashPolicy::PowerLoss).read_file("d/file").unwrap();
    assert_eq!(&found[..5], b"again");
}

#[test]
fn a_failed_sync_of_a_directory_leaves_its_names_pending() {
    let disk = disk();
    disk.create(path("d/new")).unwrap();
    let dir = disk.open_dir(path("d")).unwrap();
    disk.fail_next(Operation::SyncDirectory, EIO);
    assert_eq!(code(dir.sync()), EIO);
    assert_eq!(paths(&disk.crash(CrashPolicy::PowerLoss)), [""; 0]);
    dir.sync().unwrap();
    assert_eq!(paths(&disk.crash(CrashPolicy::PowerLoss)), ["d/new"]);
}

#[test]
fn writes_fail_whole_or_half_done() {
    let disk = disk();
    let file = durable_file(&disk);
    disk.fail_after(1, Operation::Write, EIO, Repeat::Once);
    write(&file, 0, b"1");
    assert_eq!(try_write(&file, 0, b"2"), EIO);
    disk.fail_next(Operation::ShortWrite, EIO);
    assert_eq!(try_write(&file, 1, b"abcdef"), EIO);
    assert_eq!(&disk.read_file("d/file").unwrap()[..6], b"1abc..");
    write(&file, 0, b"3");
    assert_eq!(disk.count(Operation::Write), 4);
}

#[test]
fn every_kind_of_operation_fails_to_order_and_changes_nothing() {
    let disk = disk();
    let file = durable_file(&disk);
    let view = file.view(4096).unwrap();
    let errno = Errno::MFILE.raw_os_error();
    let failing = |operation, attempt: &dyn Fn() -> io::Result<()>| {
        disk.fail_next(operation, errno);
        assert_eq!(code(attempt()), errno, "{operation:?}");
    };
    failing(Operation::CreateDirectory, &|| disk.create_dir_all(path("d/e")));
    failing(Operation::List, &|| disk.list(path("d")).map(drop));
    failing(Operation::Create, &|| disk.create(path("d/new")).map(drop));
    failing(Operation::Open, &|| disk.open(path("d/file"), Access::Read).map(drop));
    failing(Operation::Open, &|| disk.open_dir(path("d")).map(drop));
    failing(Operation::Rename, &|| disk.rename(path("d/file"), path("d/x")));
    failing(Operation::Unlink, &|| disk.unlink(path("d/file")));
    failing(Operation::RemoveDirectory, &|| disk.remove_dir(path("d")));
    failing(Operation::Lock, &|| disk.lock(path("d/LOCK"), "me").map(drop));
    failing(Operation::Read, &|| file.read_at(&mut [0; 4], 0).map(drop));
    failing(Operation::Read, &|| view.populate(0..4));
    failing(Operation::Allocate, &|| file.allocate(0..5_000));
    failing(Operation::GiveBack, &|| file.give_back(1));
    failing(Operation::View, &|| file.view(10).map(drop));
    assert_eq!(paths(&disk), ["d/file"]);
    assert_eq!(disk.read_file("d/file").unwrap(), [b'.'; 1024]);
    disk.create_dir_all(path("d/e")).unwrap();
}

#[test]
fn without_power_nothing_becomes_durable() {
    let disk = disk();
    let file = durable_file(&disk);
    let mut queue = disk.queue();
    write(&file, 0, b"x");
    disk.cut_power_after(1);
    queue.start(1, &file);
    assert_eq!(try_write(&file, 1, b"y"), EIO);
    let mut finished = Vec::new();
    queue.finished(&mut finished);
    assert!(finished[0].result.is_err());
    assert_eq!(disk.crash(CrashPolicy::PowerLoss).read_file("d/file").unwrap(), [b'.'; 1024]);
    let kept = disk.crash(CrashPolicy::Kill).read_file("d/file").unwrap();
    assert_eq!(&kept[..2], b"x.");
    disk.clear_faults();
    write(&file, 1, b"y");
}

#[test]
fn a_full_disk_refuses_what_needs_room_and_keeps_the_rest() {
    let nospc = Errno::NOSPC.raw_os_error();
    let disk = disk();
    let file = durable_file(&disk);
    assert_eq!(disk.used_bytes(), 2 * 4096);
    disk.set_capacity(4 * 4096);
    file.allocate(0..8_000).unwrap();
    assert_eq!(code(file.allocate(0..3 * 4096 + 1)), nospc);
    assert_eq!(file.length().unwrap(), 3 * 4096, "what there was");
    file.give_back(8_000).unwrap();
    disk.create(path("d/new")).unwrap();
    assert_eq!(code(disk.create(path("d/other"))), nospc);
    assert_eq!(code(disk.create_dir_all(path("d/e"))), nospc);

    // What fits is written, the rest isn't.
    assert_eq!(try_write(&file, 8_190, b"abcd"), nospc);
    assert_eq!(file.length().unwrap(), 8_192);
    write(&file, 0, b"in place");
    disk.unlink(path("d/new")).unwrap();
    write(&file, 8_190, b"abcd");
    disk.set_capacity(None);
    disk.create(path("d/other")).unwrap();
}

#[test]
fn an_unlinked_file_takes_room_until_it_is_closed() {
    let disk = disk();
    let file = durable_file(&disk);
    let view = file.view(4096).unwrap();
    disk.unlink(path("d/file")).unwrap();
    sync_dir(&disk, "d");
    drop(file);
    assert_eq!(disk.used_bytes(), 2 * 4096);
    assert_eq!(view.bytes(0..2).unwrap(), b"..");
    drop(view);
    assert_eq!(disk.used_bytes(), 4096);
}

#[test]
fn views_are_in_step_with_writes_and_end_with_the_file() {
    let disk = disk();
    let file = durable_file(&disk);
    let view = file.view(1 << 30).unwrap();
    assert_eq!(view.bytes(0..2).unwrap(), b"..");
    write(&file, 1022, b"abcd");
    assert_eq!(view.bytes(1020..1026).unwrap(), b"..abcd");
    view.populate(0..1026).unwrap();
    assert_eq!(kind(view.bytes(0..1027)), ErrorKind::UnexpectedEof);
    assert_eq!(kind(view.populate(0..1027)), ErrorKind::UnexpectedEof);
    file.allocate(0..1 << 20).unwrap();
    file.give_back(1_026).unwrap();
    file.allocate(0..2_000).unwrap();
    assert_eq!(view.bytes(1024..1028).unwrap(), b"cd\0\0");
    let small = file.view(3).unwrap();
    assert_eq!(kind(small.bytes(0..4)), ErrorKind::InvalidInput);
    assert_eq!(disk.violations(), [""; 0]);
}

#[test]
fn changing_bytes_that_a_reader_has_is_reported_and_does_not_reach_it() {
    let disk = disk();
    let file = durable_file(&disk);
    let view = file.view(4096).unwrap();
    let held = view.bytes(10..20).unwrap();
    write(&file, 0, &[b'.'; 100]);
    assert_eq!(disk.violations(), [""; 0]);
    write(&file, 15, b"x");
    file.give_back(12).unwrap();
    assert_eq!(held, [b'.'; 10]);
    let expected = [
        "d/file: the byte at 15 was changed after readers got it",
        "d/file: the byte at 12 was changed after readers got it",
    ];
    assert_eq!(disk.violations(), expected);
}

#[test]
fn the_lock_has_one_holder_and_is_free_after_a_crash() {
    let disk = disk();
    let Locked::Ours(guard) = disk.lock(path("d/LOCK"), "pid 1").unwrap() else { panic!("it is free") };
    let Locked::Held(holder) = disk.lock(path("d/LOCK"), "pid 2").unwrap() else { panic!("it is held") };
    assert_eq!(holder, "pid 1");
    let killed = disk.crash(CrashPolicy::Kill);
    assert!(matches!(killed.lock(path("d/LOCK"), "pid 3").unwrap(), Locked::Ours(_)));
    drop(guard);
    assert!(matches!(disk.lock(path("d/LOCK"), "").unwrap(), Locked::Ours(_)));
    assert_eq!(disk.read_file("d/LOCK").unwrap(), b"");
}

#[test]
fn tests_change_files_as_if_they_had_always_been_so() {
    let disk = disk();
    let file = durable_file(&disk);
    write(&file, 0, b"pending");
    disk.write_file("d/file", b"flipped").unwrap();
    disk.write_file("new/dir/file", b"").unwrap();
    let found = disk.crash(CrashPolicy::Seeded(3));
    assert_eq!(found.read_file("d/file").unwrap(), b"flipped");
    assert_eq!(paths(&found), ["d/file", "new/dir/file"]);
    disk.remove_file("d/file").unwrap();
    assert_eq!(kind(disk.read_file("d/file")), ErrorKind::NotFound);
    assert_eq!(kind(disk.remove_file("d/file")), ErrorKind::NotFound);
    assert_eq!(paths(&disk.crash(CrashPolicy::PowerLoss)), ["new/dir/file"]);
}

#[test]
fn the_trace_tells_runs_apart_and_same_runs_are_the_same() {
    let run = |text: &[u8], fails: bool| {
        let disk = disk();
        let file = durable_file(&disk);
        if fails {
            disk.fail_next(Operation::Write, EIO);
        }
        let _ = file.write_at(&[IoSlice::new(text)], 0);
        file.sync().unwrap();
        disk.trace_hash()
    };
    assert_eq!(run(b"one", false), run(b"one", false));
    assert_ne!(run(b"one", false), run(b"two", false));
    assert_ne!(run(b"one", false), run(b"one", true));
}
