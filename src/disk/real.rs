//! The machine's files: explicit writes, mapped reads, no links followed, nothing but regular files.
//!
//! Names below the directory that was [entered](Disk::enter) are looked up from its descriptor (`place`).
//! Interrupted calls and short writes are finished here; every other error goes up as it came. Syncs
//! that others wait for go through [`Queue`]s; the file system itself is tried once, in `check`.

mod check;
#[cfg(target_os = "linux")]
mod direct;
mod file;
mod place;
#[cfg(target_os = "linux")]
mod watch;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

#[cfg(target_os = "linux")]
use super::Watch;
use super::look::look_at;
use super::queue::{QueueReport, Queues};
use super::{Access, Disk, Entry, EntryKind, File, Locked, Queue};
use crate::config::SyncMode;
use crate::opener::Opener;
use crate::teeth::bites;

use place::{Place, Root};

pub(super) use file::RealFile;

/// Longer texts in a lock file are not its holder's.
const HOLDER_BYTES_MAX: usize = 1024;

/// The machine's file systems.
#[derive(Debug)]
pub(crate) struct RealDisk {
    queues: Arc<Queues>,
    /// Set when a file system said that it can't reserve blocks; files are then only lengthened.
    no_fallocate: Arc<AtomicBool>,
    /// Set when a file system said that it has no files without a name, or gives them none later.
    no_unnamed: Arc<AtomicBool>,
    /// Where names below it are looked up from.
    root: Option<Root>,
    /// A child that was forked from this process changes nothing.
    opener: Opener,
}

impl RealDisk {
    /// Decides how syncs reach the kernel; `sync_threads` is the most threads they take if not
    /// through io_uring.
    ///
    /// # Errors
    ///
    /// If `sync` insists on io_uring and it is refused here.
    pub(crate) fn new(sync: SyncMode, sync_threads: usize) -> io::Result<RealDisk> {
        let queues = Arc::new(Queues::new(sync, sync_threads)?);
        Ok(RealDisk {
            queues,
            no_fallocate: Arc::default(),
            no_unnamed: Arc::default(),
            root: None,
            opener: Opener::this(),
        })
    }

    /// How syncs reach the kernel, and why not otherwise.
    pub(crate) fn report(&self) -> QueueReport {
        self.queues.report()
    }

    fn place<'a>(&'a self, path: &'a Path) -> io::Result<Place<'a>> {
        Place::find(self.root.as_ref(), path)
    }

    fn file(&self, fd: OwnedFd) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile::new(fd, Arc::clone(&self.no_fallocate))?))
    }
}

impl Disk for RealDisk {
    fn enter(&self, dir: &Path) -> io::Result<Arc<dyn Disk>> {
        let root = Some(Root::open(&self.place(dir)?, dir)?);
        let (queues, no_fallocate) = (self.queues.clone(), self.no_fallocate.clone());
        let no_unnamed = self.no_unnamed.clone();
        Ok(Arc::new(RealDisk { queues, no_fallocate, no_unnamed, root, opener: Opener::this() }))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.opener.check_io()?;
        Place::create_dir_all(self.root.as_ref(), dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut dir = Dir::new(self.place(dir)?.open_dir()?)?;
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

    fn kind(&self, path: &Path) -> io::Result<EntryKind> {
        let place = self.place(path)?;
        let found = fs::statat(place.dir(), place.name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(kind(FileType::from_raw_mode(found.st_mode)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.opener.check_io()?;
        let place = self.place(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.file(retry_on_intr(|| fs::openat(place.dir(), place.name, flags, file_mode()))?)
    }

    #[cfg(target_os = "linux")]
    fn create_unnamed(&self, dir: &Path) -> io::Result<Arc<dyn File>> {
        self.opener.check_io()?;
        if self.no_unnamed.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        match self.file(self.place(dir)?.create_unnamed(file_mode())?) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.no_unnamed.store(true, Ordering::Relaxed);
                Err(error)
            }
            made => made,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn create_unnamed(&self, _dir: &Path) -> io::Result<Arc<dyn File>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn name(&self, file: &dyn File, path: &Path) -> io::Result<()> {
        self.opener.check_io()?;
        let place = self.place(path)?;
        let file = file.as_any().downcast_ref::<RealFile>().ok_or(io::ErrorKind::InvalidInput)?;
        // The descriptor by its number: naming it directly takes a right that few have.
        let open = format!("/proc/self/fd/{}", file.fd().as_raw_fd());
        Ok(retry_on_intr(|| fs::linkat(CWD, &open, place.dir(), place.name, AtFlags::SYMLINK_FOLLOW))?)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let place = self.place(path)?;
        match access {
            Access::Read => self.file(open_regular(&place, OFlags::RDONLY)?),
            Access::Write => self.file(open_regular(&place, OFlags::RDWR)?),
            #[cfg(target_os = "linux")]
            Access::Drive => direct::open(&place, &self.no_fallocate),
            #[cfg(not(target_os = "linux"))]
            Access::Drive => self.file(open_regular(&place, OFlags::RDONLY)?),
        }
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Arc<dyn File>> {
        self.file(self.place(dir)?.open_dir()?)
    }

    fn length_at(&self, path: &Path, file: &dyn File) -> io::Result<Option<u64>> {
        let (dir, name) = Place::unchecked(self.root.as_ref(), path);
        match retry_on_intr(|| look_at(dir, name, AtFlags::SYMLINK_NOFOLLOW)) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            found => {
                let found = found?;
                let file = file.as_any().downcast_ref::<RealFile>();
                Ok(file.filter(|file| file.is(&found)).map(|_| found.length))
            }
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.opener.check_io()?;
        let (from, to) = (self.place(from)?, self.place(to)?);
        Ok(retry_on_intr(|| fs::renameat(from.dir(), from.name, to.dir(), to.name))?)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.opener.check_io()?;
        let (from, to) = (self.place(from)?, self.place(to)?);
        Ok(retry_on_intr(|| fs::linkat(from.dir(), from.name, to.dir(), to.name, AtFlags::empty()))?)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.opener.check_io()?;
        let place = self.place(path)?;
        Ok(retry_on_intr(|| fs::unlinkat(place.dir(), place.name, AtFlags::empty()))?)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.opener.check_io()?;
        let place = self.place(dir)?;
        Ok(retry_on_intr(|| fs::unlinkat(place.dir(), place.name, AtFlags::REMOVEDIR))?)
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Locked> {
        self.opener.check_io()?;
        let place = self.place(path)?;
        let file = RealFile::new(open_regular(&place, OFlags::RDWR | OFlags::CREATE)?, Arc::default())?;
        let dir = directory_of(&place, path)?;
        if !bites("lock-file-locked-alone") && !lock_exclusively(dir.as_fd())? {
            return Ok(Locked::Held(read_holder(&file)?));
        }
        let dir = Lock::new(dir);
        if !lock_exclusively(file.fd())? {
            return Ok(Locked::Held(read_holder(&file)?));
        }
        // A full disk takes no text, and must be opened all the same.
        unless_full(write_holder(&file, holder), ())?;
        Ok(Locked::Ours(Box::new((Lock::new(file), dir))))
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>> {
        let place = self.place(path)?;
        let dir = match directory_of(&place, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            dir => dir?,
        };
        let file = match open_regular(&place, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(RealFile::new(opened?, Arc::default())?),
        };
        if is_locked(dir.as_fd())? || file.as_ref().map_or(Ok(false), |file| is_locked(file.fd()))? {
            return file.map_or(Ok(String::new()), |file| read_holder(&file)).map(Some);
        }
        Ok(None)
    }

    fn queue(&self) -> Box<dyn Queue> {
        self.queues.queue()
    }

    #[cfg(target_os = "linux")]
    fn watch(&self) -> Option<Box<dyn Watch>> {
        let root = self.root.as_ref().map(Root::again).transpose().ok()?;
        Some(Box::new(watch::Inotify::new(root).ok()?))
    }

    fn check(&self, dir: &Path) -> io::Result<Result<(), String>> {
        check::check(self, dir)
    }
}

impl AsFd for RealFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

/// A descriptor whose lock is given up when this is dropped: closing alone would leave it to a child that is just
/// being started elsewhere in the process, and has the descriptor until it runs its own program.
struct Lock<F: AsFd>(F, Opener);

impl<F: AsFd> Lock<F> {
    fn new(locked: F) -> Lock<F> {
        Lock(locked, Opener::this())
    }
}

impl<F: AsFd> Drop for Lock<F> {
    fn drop(&mut self) {
        // A child that was forked shares its parent's lock: giving it up would give up the parent's.
        if self.1.is_this() {
            let _ = fs::flock(&self.0, FlockOperation::Unlock);
        }
    }
}

/// The directory that a lock file lies in. It is locked itself: that is what is written, whatever becomes of the
/// file. The file is locked as well, for those who know only that.
fn directory_of(place: &Place<'_>, path: &Path) -> io::Result<OwnedFd> {
    let named = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && place.is_outside() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| fs::openat(place.dir(), named, flags, Mode::empty()))?)
}

/// Whether it could be had. [`is_locked`] has the lock itself for an instant, which must not look like a holder.
fn lock_exclusively(fd: BorrowedFd<'_>) -> io::Result<bool> {
    const TRIES: u32 = 5;
    for _ in 0..TRIES {
        match retry_on_intr(|| fs::flock(fd, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(std::time::Duration::from_millis(1)),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

/// Whether another holds the lock.
fn is_locked(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // Shared and given up at once: holders ask for it exclusively.
    match retry_on_intr(|| fs::flock(fd, FlockOperation::NonBlockingLockShared)) {
        Ok(()) => {
            drop(Lock::new(fd));
            Ok(false)
        }
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
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
fn open_regular(place: &Place<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    match fs::statat(place.dir(), place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
            return Err(not_regular());
        }
        // One that is missing is made, or refused, below.
        Ok(_) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = match retry_on_intr(|| fs::openat(place.dir(), place.name, flags, file_mode())) {
        Err(Errno::LOOP) => return Err(not_regular()),
        opened => opened?,
    };
    match FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) {
        FileType::RegularFile => Ok(fd),
        _ => Err(not_regular()),
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file; move it away")
}

fn file_mode() -> Mode {
    Mode::from_raw_mode(0o644)
}

fn kind(file_type: FileType) -> EntryKind {
    match file_type {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Link,
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
