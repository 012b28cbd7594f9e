//! The machine's disk in a temporary directory: each call does what the trait says.

use std::ffi::CString;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;

fn disk() -> (RealDisk, tempfile::TempDir) {
    (RealDisk::new(SyncMode::Threads, 1).unwrap(), tempfile::tempdir().unwrap())
}

/// The kind of the error, for answers that can't be compared or printed.
fn refusal<T>(outcome: io::Result<T>) -> ErrorKind {
    outcome.err().expect("an error").kind()
}

fn make_fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn writes_of_many_parts_arrive_in_order_and_reads_stop_at_the_end() {
    let (disk, dir) = disk();
    let path = dir.path().join("file");
    let file = disk.create(&path).unwrap();
    // More parts than one call takes, empty ones among them: the rest goes with a second call.
    let bytes: Vec<u8> = (0..3_000u32).map(|n| n as u8).collect();
    let parts: Vec<IoSlice<'_>> = bytes.chunks(1).flat_map(|chunk| [IoSlice::new(chunk), IoSlice::new(&[])]).collect();
    file.write_at(&parts, 10).unwrap();
    file.write_at(&[IoSlice::new(&[])], 1 << 40).unwrap();
    assert_eq!(file.length().unwrap(), 3_010);
    let mut empty_first = vec![IoSlice::new(&[]); 2_000];
    empty_first.push(IoSlice::new(&bytes[..2]));
    file.write_at(&empty_first, 10).unwrap();

    let mut buffer = vec![9; 4_000];
    assert_eq!(file.read_at(&mut buffer, 10).unwrap(), 3_000);
    assert_eq!(buffer[..3_000], bytes);
    assert_eq!(file.read_at(&mut buffer, 3_010).unwrap(), 0);
    assert_eq!(buffer[3_000..], [9; 1_000]);
    file.sync().unwrap();
}

/// ext4 gives the number of a file that was removed to the next one at once.
#[test]
fn a_file_has_another_identity_than_every_file_before_it() {
    let (disk, dir) = disk();
    let path = dir.path().join("file");
    let identities: std::collections::BTreeSet<u64> = (0..20)
        .map(|_| {
            let identity = disk.create(&path).unwrap().identity().unwrap();
            assert_eq!(disk.open(&path, Access::Read).unwrap().identity().unwrap(), identity);
            disk.unlink(&path).unwrap();
            // A file system's clock ticks in steps of up to 10 ms.
            let born = std::time::Instant::now();
            while born.elapsed() < std::time::Duration::from_millis(12) {
                std::thread::yield_now();
            }
            identity
        })
        .collect();
    assert_eq!(identities.len(), 20);
}

#[test]
fn the_rest_of_a_short_write_begins_inside_a_part() {
    let (disk, dir) = disk();
    let file = disk.create(&dir.path().join("file")).unwrap();
    let parts = [IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"defgh"), IoSlice::new(b"i")];
    let real = file.as_any().downcast_ref::<RealFile>().unwrap();
    file.write_at(&[IoSlice::new(b"abcd")], 5).unwrap();
    super::file::write_rest(real.fd(), &parts, 5, 4).unwrap();
    let mut buffer = [0; 20];
    assert_eq!(file.read_at(&mut buffer, 5).unwrap(), 9);
    assert_eq!(&buffer[..9], b"abcdefghi");
}

#[test]
fn allocating_lengthens_and_giving_back_shortens_but_never_the_other_way() {
    let (disk, dir) = disk();
    let file = disk.create(&dir.path().join("file")).unwrap();
    file.write_at(&[IoSlice::new(b"kept")], 0).unwrap();
    for no_fallocate in [false, true] {
        disk.no_fallocate.store(no_fallocate, std::sync::atomic::Ordering::Relaxed);
        file.allocate(0..100_000).unwrap();
        assert_eq!(file.length().unwrap(), 100_000);
        file.allocate(0..50_000).unwrap();
        assert_eq!(file.length().unwrap(), 100_000);
        let mut buffer = [1; 8];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 8);
        assert_eq!(&buffer, b"kept\0\0\0\0");
        file.give_back(4).unwrap();
        file.give_back(1_000).unwrap();
        assert_eq!(file.length().unwrap(), 4);
    }
}

#[test]
fn a_view_longer_than_the_file_follows_its_writes() {
    let (disk, dir) = disk();
    let file = disk.create(&dir.path().join("file")).unwrap();
    let view = file.view(1 << 30).unwrap();
    assert_eq!(refusal(view.bytes(0..1)), ErrorKind::UnexpectedEof);
    assert_eq!(refusal(view.populate(0..1)), ErrorKind::UnexpectedEof);
    file.allocate(0..8_192).unwrap();
    file.write_at(&[IoSlice::new(b"hello")], 4_094).unwrap();
    view.populate(0..8_192).unwrap();
    assert_eq!(view.bytes(4_094..4_099).unwrap(), b"hello");
    drop(file);
    assert_eq!(view.bytes(4_094..4_099).unwrap(), b"hello");
}

#[cfg(target_os = "linux")]
#[test]
fn what_was_left_of_a_view_counts_as_no_memory_of_this_process() {
    let (disk, dir) = disk();
    let path = dir.path().join("file");
    let file = disk.create(&path).unwrap();
    file.write_at(&[IoSlice::new(&[7; 1 << 20])], 0).unwrap();
    let view = file.view(1 << 20).unwrap();
    let resident = || {
        let mappings = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let ours = mappings.split_once(path.to_str().unwrap()).unwrap().1;
        ours.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap().trim().to_owned()
    };
    assert_eq!(resident(), "0 kB");
    view.populate(0..1 << 20).unwrap();
    assert_eq!(resident(), "1024 kB");
    view.leave(1 << 19..1 << 20);
    assert_eq!(resident(), "512 kB");
    assert_eq!(view.bytes(0..1 << 20).unwrap(), [7; 1 << 20]);
}

#[test]
fn create_wants_a_free_name() {
    let (disk, dir) = disk();
    disk.create(&dir.path().join("file")).unwrap();
    symlink("nowhere", dir.path().join("link")).unwrap();
    for name in ["file", "link"] {
        assert_eq!(refusal(disk.create(&dir.path().join(name))), ErrorKind::AlreadyExists);
    }
    assert_eq!(refusal(disk.open(&dir.path().join("none"), Access::Read)), ErrorKind::NotFound);
}

#[test]
fn anything_but_a_regular_file_is_refused_without_waiting_for_it() {
    let (disk, dir) = disk();
    disk.create(&dir.path().join("file")).unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    make_fifo(&dir.path().join("pipe"));
    std::fs::create_dir(dir.path().join("dir")).unwrap();
    let devices = [Path::new("/dev/null"), Path::new("/dev/tty")];
    let names = ["link", "dangling", "pipe", "dir"].map(|name| dir.path().join(name));
    for path in names.iter().map(|path| path.as_path()).chain(devices) {
        for access in [Access::Read, Access::Write] {
            let error = disk.open(path, access).expect_err("an error");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}");
            assert_eq!(error.to_string(), "not a regular file; move it away");
        }
        assert_eq!(refusal(disk.lock(path, "me")), ErrorKind::InvalidInput, "{path:?}");
    }
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn a_list_is_sorted_and_names_the_kinds() {
    let (disk, dir) = disk();
    disk.create(&dir.path().join("b")).unwrap();
    disk.create(&dir.path().join("a")).unwrap();
    disk.create_dir_all(&dir.path().join("c/d")).unwrap();
    disk.create_dir_all(&dir.path().join("c/d")).unwrap();
    symlink("a", dir.path().join("e")).unwrap();
    make_fifo(&dir.path().join("B"));
    let entry = |name: &str, kind| Entry { name: name.to_owned(), kind };
    let expected = [
        entry("B", EntryKind::Other),
        entry("a", EntryKind::File),
        entry("b", EntryKind::File),
        entry("c", EntryKind::Directory),
        entry("e", EntryKind::Link),
    ];
    assert_eq!(disk.list(dir.path()).unwrap(), expected);
    assert_eq!(refusal(disk.list(&dir.path().join("none"))), ErrorKind::NotFound);
    // As on a file system whose directories don't tell.
    let opened = fs::open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for Entry { name, kind } in expected {
        let name = CString::new(name).unwrap();
        assert_eq!(entry_kind(opened.as_fd(), &name, FileType::Unknown), kind, "{name:?}");
    }
    assert_eq!(entry_kind(opened.as_fd(), c"removed", FileType::Unknown), EntryKind::Other);
}

#[test]
fn what_is_no_directory_is_not_opened_as_one() {
    let (disk, dir) = disk();
    let (file, socket) = (dir.path().join("file"), dir.path().join("socket"));
    disk.create(&file).unwrap();
    // Opened, a socket is another error.
    let _socket = UnixListener::bind(&socket).unwrap();
    for path in [file, socket] {
        assert_eq!(refusal(disk.list(&path)), ErrorKind::NotADirectory);
        assert_eq!(refusal(disk.open_dir(&path)), ErrorKind::NotADirectory);
    }
}

#[test]
fn no_program_that_is_started_inherits_a_descriptor() {
    let (disk, dir) = disk();
    let path = dir.path().join("file");
    let mut files = vec![disk.create(&path).unwrap(), disk.open_dir(dir.path()).unwrap()];
    files.extend([Access::Read, Access::Write, Access::Drive].map(|access| disk.open(&path, access).unwrap()));
    for file in files {
        let file = file.as_any().downcast_ref::<RealFile>().unwrap();
        assert_eq!(rustix::io::fcntl_getfd(file.fd()).unwrap(), rustix::io::FdFlags::CLOEXEC);
    }
}

#[test]
fn names_move_and_go() {
    let (disk, dir) = disk();
    let (a, b, c) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
    disk.create(&a).unwrap().write_at(&[IoSlice::new(b"new")], 0).unwrap();
    disk.create(&b).unwrap();
    disk.rename(&a, &b).unwrap();
    assert_eq!(std::fs::read(&b).unwrap(), b"new");
    disk.unlink(&b).unwrap();
    assert_eq!(refusal(disk.unlink(&b)), ErrorKind::NotFound);
    disk.create_dir_all(&c.join("d")).unwrap();
    assert_eq!(refusal(disk.remove_dir(&c)), ErrorKind::DirectoryNotEmpty);
    disk.remove_dir(&c.join("d")).unwrap();
    disk.remove_dir(&c).unwrap();
    disk.open_dir(dir.path()).unwrap().sync().unwrap();
    assert_eq!(disk.list(dir.path()).unwrap(), []);
}

#[test]
fn a_second_lock_tells_who_holds_the_first() {
    let (disk, dir) = disk();
    let path = dir.path().join("LOCK");
    std::fs::write(&path, "the text of an earlier, much more talkative holder").unwrap();
    let Locked::Ours(first) = disk.lock(&path, "pid 1 on host").unwrap() else { panic!("it is free") };
    let Locked::Held(holder) = disk.lock(&path, "me").unwrap() else { panic!("it is held") };
    assert_eq!(holder, "pid 1 on host");
    drop(first);
    let Locked::Ours(second) = disk.lock(&path, &"x".repeat(5_000)).unwrap() else { panic!("it is free") };
    let Locked::Held(holder) = disk.lock(&path, "me").unwrap() else { panic!("it is held") };
    assert_eq!(holder, "x".repeat(HOLDER_BYTES_MAX));
    drop(second);
}

#[test]
fn a_lock_file_that_is_missing_has_no_holder_and_one_that_is_no_file_is_an_error() {
    let (disk, dir) = disk();
    let path = dir.path().join("LOCK");
    assert_eq!(disk.lock_holder(&path).unwrap(), None);
    assert!(!path.exists());
    disk.create(&path).unwrap();
    assert_eq!(disk.lock_holder(&path).unwrap(), None);
    assert_eq!(refusal(disk.lock_holder(dir.path())), ErrorKind::InvalidInput);
}

#[test]
fn a_full_disk_is_no_reason_to_refuse_a_lock_and_any_other_error_is() {
    assert_eq!(unless_full(Ok(1), 2).unwrap(), 1);
    for full in [Errno::NOSPC, Errno::DQUOT] {
        assert_eq!(unless_full(Err(full.into()), 2).unwrap(), 2);
    }
    assert_eq!(unless_full(Err(Errno::IO.into()), 2).unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_lock_given_up_is_free_though_its_descriptor_was_copied() {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let (disk, dir) = disk();
    let path = dir.path().join("LOCK");
    let Locked::Ours(first) = disk.lock(&path, "me").unwrap() else { panic!("it is free") };
    let mut numbers = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let number = numbers.find(|number| std::fs::read_link(number).is_ok_and(|file| file == path)).unwrap();
    let number = number.file_name().unwrap().to_str().unwrap().parse().unwrap();
    // As a child has one that was just started.
    let itself = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let copy = pidfd_getfd(itself, number, PidfdGetfdFlags::empty()).unwrap();
    assert_eq!(disk.lock_holder(&path).unwrap(), Some("me".to_owned()));
    drop(first);
    assert_eq!(disk.lock_holder(&path).unwrap(), None);
    assert!(matches!(disk.lock(&path, "you").unwrap(), Locked::Ours(_)));
    drop(copy);
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_forgotten_is_read_from_the_drive() {
    let (disk, dir) = disk();
    const TMPFS: i64 = 0x0102_1994;
    if fs::statfs(dir.path()).unwrap().f_type as i64 == TMPFS {
        return eprintln!("SKIPPED: a tmpfs has nothing but memory");
    }
    // What this thread had a drive read for it.
    let from_drive = || {
        let counts = std::fs::read_to_string("/proc/thread-self/io").ok()?;
        counts.lines().find_map(|line| line.strip_prefix("read_bytes: "))?.parse::<u64>().ok()
    };
    let Some(mut before) = from_drive() else { return eprintln!("SKIPPED: this system doesn't count what it reads") };
    let path = dir.path().join("file");
    let file = disk.create(&path).unwrap();
    file.write_at(&[IoSlice::new(&[7; 65_536])], 0).unwrap();
    let past = disk.open(&path, Access::Drive).unwrap();
    let mut is_read_from_drive = |file: &dyn crate::disk::File| {
        let mut byte = [0];
        assert_eq!((file.read_at(&mut byte, 8_192).unwrap(), byte), (1, [7]));
        let now = from_drive().unwrap();
        std::mem::replace(&mut before, now) < now
    };
    assert!(!is_read_from_drive(&*file));
    assert!(crate::disk::reread(&*file).unwrap().is_none());
    assert!(is_read_from_drive(&*file));
    assert!(!is_read_from_drive(&*file));
    assert!(is_read_from_drive(&*past), "memory has it, and is passed by");
}

#[test]
fn the_drive_is_asked_at_any_place_and_for_any_length() {
    let (disk, dir) = disk();
    let path = dir.path().join("file");
    let bytes: Vec<u8> = (0..100_000_u32).map(|number| (number * 7 / 3) as u8).collect();
    let file = disk.create(&path).unwrap();
    file.write_at(&[IoSlice::new(&bytes)], 0).unwrap();
    let past = disk.open(&path, Access::Drive).unwrap();
    for (from, length) in [(0, 1), (0, 100_000), (1, 4_095), (4_095, 2), (4_096, 4_096), (777, 65_432), (99_999, 9)] {
        let mut read = vec![0; length];
        let count = past.read_at(&mut read, from as u64).unwrap();
        assert_eq!(count, length.min(bytes.len() - from), "{from} {length}");
        assert!(read[..count] == bytes[from..from + count], "{from} {length}");
    }
    assert_eq!(past.read_at(&mut [0; 10], 100_000).unwrap(), 0);
    assert_eq!(past.read_at(&mut [0; 10], 5_000_000).unwrap(), 0);
    assert_eq!(past.write_at(&[IoSlice::new(b"x")], 0).unwrap_err().raw_os_error(), Some(9));
}

#[test]
fn a_local_file_system_passes_the_check_and_nothing_stays_behind() {
    let (disk, dir) = disk();
    assert_eq!(disk.check(dir.path()).unwrap(), Ok(()));
    assert_eq!(disk.list(dir.path()).unwrap(), []);
    assert_eq!(refusal(disk.check(&dir.path().join("none"))), ErrorKind::NotFound);
}

#[test]
fn a_write_beyond_the_size_limit_is_an_error_and_no_signal() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let (disk, dir) = disk();
    let before = getrlimit(Resource::Fsize);
    // Above what any other test of this process writes.
    setrlimit(Resource::Fsize, Rlimit { current: Some(1 << 41), maximum: before.maximum }).unwrap();
    let file = disk.create(&dir.path().join("file")).unwrap();
    setrlimit(Resource::Fsize, before).unwrap();
    assert_eq!(refusal(file.write_at(&[IoSlice::new(b"x")], 1 << 41)), ErrorKind::FileTooLarge);
    assert_eq!(refusal(file.allocate(0..(1 << 41) + 1)), ErrorKind::FileTooLarge);
    assert_eq!(refusal(file.write_at(&[IoSlice::new(b"x")], u64::MAX)), ErrorKind::FileTooLarge);
    assert_eq!(file.length().unwrap(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn what_was_never_written_is_known_where_the_file_system_tells_and_reads_as_zeros() {
    let (disk, dir) = disk();
    let file = disk.create(&dir.path().join("file")).unwrap();
    let length = 16 << 20;
    file.allocate(0..length).unwrap();
    let tells = matches!(rustix::fs::statfs(dir.path()).unwrap().f_type as u64, 0xef53 | 0x5846_5342);
    let end = |from: u64, written: u64| {
        let end = file.stored_end(from).unwrap();
        assert!((written..=length).contains(&end));
        assert!(!tells || end <= written + (1 << 20), "{end}");
        let mut rest = vec![1; (length - end) as usize];
        assert_eq!(file.read_at(&mut rest, end).unwrap() as u64, length - end);
        assert!(rest.iter().all(|&byte| byte == 0));
        disk_forgets(&*file);
    };
    end(0, 0);
    file.write_at(&[IoSlice::new(&[7; 10_000])], 4_096).unwrap();
    end(0, 14_096);
    end(8_192, 14_096);
    file.write_at(&[IoSlice::new(b"behind a gap")], 9 << 20).unwrap();
    end(4_096, (9 << 20) + 12);
    file.sync().unwrap();
    end(4_096, (9 << 20) + 12);
    end(10 << 20, 10 << 20);
    assert_eq!(file.stored_end(length).unwrap(), length);
}

/// What memory holds of a file counts as written.
#[cfg(target_os = "linux")]
fn disk_forgets(file: &dyn File) {
    file.sync().unwrap();
    file.forget().unwrap();
}

#[test]
fn the_room_that_a_file_system_has_is_part_of_its_size() {
    let (disk, dir) = disk();
    let file = disk.create(&dir.path().join("file")).unwrap();
    let room = file.room().unwrap();
    let told = rustix::fs::statvfs(dir.path()).unwrap();
    assert!(room > 0 && room <= told.f_blocks * told.f_frsize, "{room}");
}

/// Below a directory that was entered no link is followed, by any call, and no name leads out of it.
#[test]
fn what_lies_outside_is_never_reached_through_a_link() {
    let (disk, dir) = disk();
    let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
    disk.create_dir_all(&outside.join("sub")).unwrap();
    std::fs::write(outside.join("letter"), "dear").unwrap();
    disk.create_dir_all(&inside).unwrap();
    symlink(&outside, inside.join("absolute")).unwrap();
    symlink("../out", inside.join("relative")).unwrap();
    symlink("../out/letter", inside.join("file")).unwrap();
    let disk = disk.enter(&inside).unwrap();
    disk.create(&inside.join("own")).unwrap();
    for link in ["absolute", "relative"] {
        let link = inside.join(link);
        let letter = link.join("letter");
        assert_eq!(refusal(disk.list(&link)), ErrorKind::InvalidInput);
        assert!(disk.list(&link).unwrap_err().to_string().contains("is a symbolic link"));
        assert_eq!(refusal(disk.open_dir(&link)), ErrorKind::InvalidInput);
        assert_eq!(refusal(disk.open(&letter, Access::Read)), ErrorKind::InvalidInput);
        assert_eq!(refusal(disk.open(&letter, Access::Write)), ErrorKind::InvalidInput);
        assert_eq!(refusal(disk.create(&link.join("new"))), ErrorKind::InvalidInput);
        assert_eq!(refusal(disk.create_dir_all(&link.join("new"))), ErrorKind::InvalidInput);
        assert_eq!(refusal(disk.unlink(&letter)), ErrorKind::InvalidInput);
        assert_eq!(refusal(disk.remove_dir(&link.join("sub"))), ErrorKind::InvalidInput);
        assert_eq!(refusal(disk.rename(&letter, &inside.join("taken"))), ErrorKind::InvalidInput);
        assert_eq!(refusal(disk.rename(&inside.join("own"), &link.join("own"))), ErrorKind::InvalidInput);
        assert_eq!(refusal(disk.link(&letter, &inside.join("taken"))), ErrorKind::InvalidInput);
        assert_eq!(refusal(disk.kind(&letter)), ErrorKind::InvalidInput);
        assert_eq!(disk.kind(&link).unwrap(), EntryKind::Link);
    }
    assert_eq!(refusal(disk.open(&inside.join("file"), Access::Write)), ErrorKind::InvalidInput);
    assert_eq!(refusal(disk.open(&inside.join("../out/letter"), Access::Read)), ErrorKind::InvalidInput);
    assert_eq!(std::fs::read(outside.join("letter")).unwrap(), b"dear");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 2);
    // What is outside by its path is reached as ever.
    assert!(disk.open(&outside.join("letter"), Access::Read).is_ok());
}

#[test]
fn a_file_is_told_from_another_under_its_name() {
    let (disk, dir) = disk();
    let disk = disk.enter(dir.path()).unwrap();
    let (path, other) = (dir.path().join("a"), dir.path().join("b"));
    let file = disk.create(&path).unwrap();
    file.write_at(&[IoSlice::new(b"abc")], 0).unwrap();
    assert_eq!(disk.length_at(&path, &*file).unwrap(), Some(3));
    disk.rename(&path, &other).unwrap();
    assert_eq!(disk.length_at(&path, &*file).unwrap(), None);
    assert_eq!(disk.length_at(&other, &*file).unwrap(), Some(3));
    std::fs::copy(&other, &path).unwrap();
    assert_eq!(disk.length_at(&path, &*file).unwrap(), None);
    assert_eq!(disk.length_at(&path.join("c"), &*file).unwrap(), None);
    assert_eq!(disk.length_at(&dir.path().join("none/c"), &*file).unwrap(), None);
}

/// D7: the lock is the directory's. A lock file that was removed or replaced lets nobody in, nor does another
/// name; a copy of the directory is another directory.
#[test]
fn d7_the_lock_is_held_on_the_directory_itself() {
    let (disk, dir) = disk();
    let (inside, moved) = (dir.path().join("in"), dir.path().join("moved"));
    disk.create_dir_all(&inside).unwrap();
    let entered = disk.enter(&inside).unwrap();
    let Locked::Ours(guard) = entered.lock(&inside.join("LOCK"), "first").unwrap() else { panic!("it is free") };
    std::fs::remove_file(inside.join("LOCK")).unwrap();
    assert!(matches!(disk.lock(&inside.join("LOCK"), "second").unwrap(), Locked::Held(_)));
    std::fs::remove_file(inside.join("LOCK")).unwrap();
    assert_eq!(disk.lock_holder(&inside.join("LOCK")).unwrap(), Some(String::new()));
    std::fs::rename(&inside, &moved).unwrap();
    std::fs::create_dir(&inside).unwrap();
    assert!(matches!(disk.lock(&inside.join("LOCK"), "another").unwrap(), Locked::Ours(_)));
    assert!(matches!(disk.lock(&moved.join("LOCK"), "second").unwrap(), Locked::Held(_)));
    drop(guard);
    assert!(matches!(disk.lock(&moved.join("LOCK"), "second").unwrap(), Locked::Ours(_)));
    assert_eq!(disk.lock_holder(&dir.path().join("none/LOCK")).unwrap(), None);
}

/// Asked after each change by other descriptors than those that watch: told at once, under the directory's number.
#[cfg(target_os = "linux")]
#[test]
fn what_was_changed_in_a_watched_directory_is_told_before_the_change_returns() {
    let (disk, dir) = disk();
    for name in ["all", "some", "else"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let below = disk.enter(dir.path()).unwrap();
    let watch = below.watch().unwrap();
    let all = watch.add(&dir.path().join("all"), "").unwrap();
    let some = watch.add(&dir.path().join("some"), "log").unwrap();
    let told = || {
        let mut changed = std::collections::BTreeSet::new();
        assert!(watch.changed(&mut changed));
        changed.into_iter().map(|(number, _)| number).collect::<Vec<_>>()
    };
    assert!(told().is_empty());
    let path = |name: &str| dir.path().join(name);
    let file = disk.create(&path("all/a")).unwrap();
    assert_eq!(told(), [all]);
    file.write_at(&[IoSlice::new(b"bytes")], 0).unwrap();
    assert_eq!(told(), [all]);
    assert!(told().is_empty());
    disk.rename(&path("all/a"), &path("some/log-1")).unwrap();
    assert_eq!(told(), [all, some]);
    file.write_at(&[IoSlice::new(b"more")], 0).unwrap();
    assert_eq!(told(), [some]);
    disk.create(&path("some/other")).unwrap();
    disk.create(&path("else/log-2")).unwrap();
    assert!(told().is_empty());
    disk.unlink(&path("some/log-1")).unwrap();
    assert_eq!(told(), [some]);
    watch.remove(all);
    disk.create(&path("all/b")).unwrap();
    assert!(told().is_empty());
    // Not everything that changes there is told.
    assert_eq!(refusal(watch.add(Path::new("/proc/self/fd"), "")), ErrorKind::Unsupported);
}

#[cfg(target_os = "linux")]
#[test]
fn a_watch_sleeps_until_there_are_news_or_it_is_woken() {
    let (disk, dir) = disk();
    let watch = disk.watch().unwrap();
    watch.add(dir.path(), "").unwrap();
    let long = std::time::Duration::from_secs(600);
    std::thread::scope(|scope| {
        scope.spawn(|| disk.create(&dir.path().join("file")).map(drop));
        watch.sleep(long);
        scope.spawn(|| watch.wake());
    });
    let mut changed = std::collections::BTreeSet::new();
    assert!(watch.changed(&mut changed));
    assert_eq!(changed.len(), 1);
    // It was woken before, or is now.
    watch.sleep(long);
}

/// Until it has its name, nobody who lists the directory sees a file; and a name that is taken stays another's.
#[test]
fn a_file_without_a_name_gets_one_that_is_free() {
    let (disk, dir) = disk();
    let disk = disk.enter(dir.path()).unwrap();
    let (path, taken) = (dir.path().join("sub/a"), dir.path().join("sub/b"));
    disk.create_dir_all(&dir.path().join("sub")).unwrap();
    let file = match disk.create_unnamed(&dir.path().join("sub")) {
        Err(error) if error.kind() == ErrorKind::Unsupported => return eprintln!("SKIPPED: none without a name here"),
        file => file.unwrap(),
    };
    file.allocate(0..8_192).unwrap();
    file.write_at(&[IoSlice::new(b"abc")], 0).unwrap();
    disk.create(&taken).unwrap();
    assert_eq!(disk.list(&dir.path().join("sub")).unwrap().len(), 1);
    assert_eq!(refusal(disk.name(&*file, &taken)), ErrorKind::AlreadyExists);
    disk.name(&*file, &path).unwrap();
    assert_eq!(disk.length_at(&path, &*file).unwrap(), Some(8_192));
    assert!(std::fs::read(&path).unwrap().starts_with(b"abc"));
    assert_eq!(refusal(disk.create_unnamed(&dir.path().join("none"))), ErrorKind::NotFound);
}
