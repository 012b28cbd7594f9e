//! The machine's files: explicit writes, mapped reads, no links followed, nothing but regular files.
//!
//! Interrupted calls and short writes are finished here; every other error goes up as it came. Syncs
//! that others wait for go through [`Queue`]s; the file system itself is tried once, in `check`.

mod check;
#[cfg(target_os = "linux")]
mod direct;
mod file;

use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::{self, AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::queue::{QueueReport, Queues};
use super::{Access, Disk, Entry, EntryKind, File, Locked, Queue};
use crate::config::SyncMode;

pub(super) use file::RealFile;

/// Longer texts in a lock file are not its holder's.
const HOLDER_BYTES_MAX: usize = 1024;

/// The machine's file systems.
#[derive(Debug)]
pub(crate) struct RealDisk {
    queues: Queues,
    /// Set when a file system said that it can't reserve blocks; files are then only lengthened.
    no_fallocate: Arc<AtomicBool>,
}

impl RealDisk {
    /// Decides how syncs reach the kernel; `sync_threads` is the most threads they take if not
    /// through io_uring.
    ///
    /// # Errors
    ///
    /// If `sync` insists on io_uring and it is refused here.
    pub(crate) fn new(sync: SyncMode, sync_threads: usize) -> io::Result<RealDisk> {
        Ok(RealDisk { queues: Queues::new(sync, sync_threads)?, no_fallocate: Arc::default() })
    }

    /// How syncs reach the kernel, and why not otherwise.
    pub(crate) fn report(&self) -> QueueReport {
        self.queues.report()
    }

    fn file(&self, fd: OwnedFd) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile::new(fd, Arc::clone(&self.no_fallocate))?))
    }
}

impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = retry_on_intr(|| fs::open(dir, flags, Mode::empty()))?;
        let mut entries = Vec::new();
        let mut dir = Dir::new(opened)?;
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            if bytes == b"." || bytes == b".." {
                continue;
            }
            let kind = entry_kind(dir.fd()?, entry.file_name(), entry.file_type());
            entries.push(Entry { name: String::from_utf8_lossy(bytes).into_owned(), kind });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.file(retry_on_intr(|| fs::open(path, flags, file_mode()))?)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        match access {
            Access::Read => self.file(open_regular(path, OFlags::RDONLY)?),
            Access::Write => self.file(open_regular(path, OFlags::RDWR)?),
            #[cfg(target_os = "linux")]
            Access::Drive => direct::open(path, &self.no_fallocate),
            #[cfg(not(target_os = "linux"))]
            Access::Drive => self.file(open_regular(path, OFlags::RDONLY)?),
        }
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Arc<dyn File>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.file(retry_on_intr(|| fs::open(dir, flags, Mode::empty()))?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::rename(from, to))?)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::linkat(CWD, from, CWD, to, AtFlags::empty()))?)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::unlink(path))?)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::rmdir(dir))?)
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Locked> {
        let file = RealFile::new(open_regular(path, OFlags::RDWR | OFlags::CREATE)?, Arc::default())?;
        if !lock_exclusively(&file)? {
            return Ok(Locked::Held(read_holder(&file)?));
        }
        // A full disk takes no text, and must be opened all the same.
        unless_full(write_holder(&file, holder), ())?;
        Ok(Locked::Ours(Box::new(Lock(file))))
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>> {
        let file = match open_regular(path, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => RealFile::new(opened?, Arc::default())?,
        };
        // Shared and given up at once: holders ask for it exclusively.
        match retry_on_intr(|| fs::flock(file.fd(), FlockOperation::NonBlockingLockShared)) {
            Ok(()) => {
                drop(Lock(file));
                Ok(None)
            }
            Err(Errno::WOULDBLOCK) => read_holder(&file).map(Some),
            Err(errno) => Err(errno.into()),
        }
    }

    fn queue(&self) -> Box<dyn Queue> {
        self.queues.queue()
    }

    fn check(&self, dir: &Path) -> io::Result<Result<(), String>> {
        check::check(self, dir)
    }
}

/// A file whose lock is given up when this is dropped: closing alone would leave it to a child that is just being
/// started elsewhere in the process, and has the descriptor until it runs its own program.
struct Lock(RealFile);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::flock(self.0.fd(), FlockOperation::Unlock);
    }
}

/// Whether it could be had. [`lock_holder`](Disk::lock_holder) has the lock itself for an instant, which
/// must not look like a holder.
fn lock_exclusively(file: &RealFile) -> io::Result<bool> {
    const TRIES: u32 = 5;
    for _ in 0..TRIES {
        match retry_on_intr(|| fs::flock(file.fd(), FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(std::time::Duration::from_millis(1)),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

fn read_holder(file: &RealFile) -> io::Result<String> {
    let mut text = vec![0; HOLDER_BYTES_MAX];
    let length = file.read_at(&mut text, 0)?;
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

/// In this order a reader between the two steps sees no empty text.
fn write_holder(file: &RealFile, holder: &str) -> io::Result<()> {
    let bytes = &holder.as_bytes()[..holder.len().min(HOLDER_BYTES_MAX)];
    file.write_at(&[io::IoSlice::new(bytes)], 0)?;
    file.give_back(bytes.len() as u64)
}

/// Opens a regular file and nothing else: looks first, since opening a device may already do
/// something, and looks again at what was opened.
fn open_regular(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    match fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
            return Err(not_regular());
        }
        // One that is missing is made, or refused, below.
        Ok(_) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = match retry_on_intr(|| fs::open(path, flags, file_mode())) {
        Err(Errno::LOOP) => return Err(not_regular()),
        opened => opened?,
    };
    match FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) {
        FileType::RegularFile => Ok(fd),
        _ => Err(not_regular()),
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

fn file_mode() -> Mode {
    Mode::from_raw_mode(0o644)
}

fn kind(file_type: FileType) -> EntryKind {
    match file_type {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        _ => EntryKind::Other,
    }
}

/// What an entry is, of which the directory told this. Not every file system's tells.
fn entry_kind(dir: BorrowedFd<'_>, name: &CStr, told: FileType) -> EntryKind {
    if told != FileType::Unknown {
        return kind(told);
    }
    match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => kind(FileType::from_raw_mode(stat.st_mode)),
        // It was removed meanwhile: nothing to be opened.
        Err(_) => EntryKind::Other,
    }
}

/// The outcome of something that a disk without room (or a quota) need not take; `full` is what it has then.
fn unless_full<T>(outcome: io::Result<T>, full: T) -> io::Result<T> {
    match outcome {
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Ok(full),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests;
