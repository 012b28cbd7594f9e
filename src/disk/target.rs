//! What a sync is done to, and whether its success can be believed.
//!
//! ext4 may give up its journal (a flush was refused) in the moment between another file's sync and ours. Ours
//! then asks for a transaction that is neither open nor being committed any more, and is told that all is well,
//! though names and blocks that were in it are lost (`tests/block abort` shows it). The next *change* of the file
//! system fails. So a sync that needs the journal is followed by one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::retry_on_intr;

use super::look::look;
use crate::teeth::bites;

#[cfg(target_os = "linux")]
use crate::lock::{AtomicBool, AtomicU64, Ordering};

/// A file or directory that is open.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) directory: bool,
    /// Device and number: the same under any name.
    pub(super) identity: (u64, u64),
    #[cfg(target_os = "linux")]
    journal: Option<Arc<Journal>>,
}

/// What a file's next sync needs the journal for.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Journal {
    /// New blocks, a new length, a new name.
    needed: AtomicBool,
    /// The bytes whose blocks have been written before.
    from: AtomicU64,
    to: AtomicU64,
    block_bytes: u64,
}

impl Target {
    /// What this descriptor is of.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Target> {
        let found = rustix::fs::fstat(&fd)?;
        let directory = rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::Directory;
        #[cfg(target_os = "linux")]
        let journal = Journal::of(&fd)?.map(Arc::new);
        let identity = look(&fd)?.identity;
        Ok(Target {
            fd: Arc::new(fd),
            directory,
            identity,
            #[cfg(target_os = "linux")]
            journal,
        })
    }

    /// Makes it durable; returns when done. Tried again only if a signal came between.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let began = self.begin();
        let result = retry_on_intr(|| sync_once(self.fd.as_fd(), self.directory));
        self.end(began, result.map_err(io::Error::from))
    }

    /// Before a sync begins; for [`end`](Target::end).
    pub(super) fn begin(&self) -> Began {
        #[cfg(target_os = "linux")]
        let journal = self.journal.as_ref().is_some_and(|journal| self.directory || journal.begin());
        #[cfg(not(target_os = "linux"))]
        let journal = false;
        Began { journal }
    }

    /// What came of a sync, if its success can be believed.
    pub(super) fn end(&self, began: Began, result: io::Result<()>) -> io::Result<()> {
        let result =
            if began.journal && !bites("journal-believed") { result.and_then(|()| self.change()) } else { result };
        if result.is_err() {
            self.resized();
        }
        result
    }

    /// Changes the file system in a way that means nothing, so that it sees whether it still can. The first time
    /// it only notices.
    fn change(&self) -> io::Result<()> {
        use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
        use rustix::io::Errno;
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let now = Timestamps { last_access: now, last_modification: now };
        for _ in 0..2 {
            match retry_on_intr(|| futimens(&self.fd, &now)) {
                // Not allowed to us: then nothing can be told.
                Err(Errno::ACCESS | Errno::PERM) => {}
                changed => changed?,
            }
        }
        Ok(())
    }

    /// So many bytes were written at `position`.
    pub(super) fn written(&self, position: u64, bytes: u64) {
        #[cfg(target_os = "linux")]
        if let Some(journal) = &self.journal {
            journal.written(position, position + bytes);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (position, bytes);
    }

    /// Its length or its blocks were changed.
    pub(super) fn resized(&self) {
        #[cfg(target_os = "linux")]
        if let Some(journal) = &self.journal {
            journal.needed.store(true, Ordering::Relaxed);
        }
    }
}

/// What a sync that is under way relies on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    journal: bool,
}

#[cfg(target_os = "linux")]
impl Journal {
    /// Of a file that was just opened, so that nothing is known of it; `None` if it doesn't lie on ext4 (or ext3,
    /// which bears the same number).
    fn of(fd: &OwnedFd) -> io::Result<Option<Journal>> {
        const EXT4_SUPER_MAGIC: u64 = 0xef53;
        let found = rustix::fs::fstatfs(fd)?;
        Ok((found.f_type as u64 == EXT4_SUPER_MAGIC).then(|| Journal::with_blocks(found.f_bsize as u64)))
    }

    fn with_blocks(block_bytes: u64) -> Journal {
        let (needed, from, to) = (AtomicBool::new(true), AtomicU64::new(0), AtomicU64::new(0));
        Journal { needed, from, to, block_bytes: block_bytes.max(1) }
    }

    fn begin(&self) -> bool {
        self.needed.load(Ordering::Relaxed) && self.needed.swap(false, Ordering::Relaxed)
    }

    /// Writes of one file come from one thread at a time.
    fn written(&self, from: u64, to: u64) {
        let known = self.from.load(Ordering::Relaxed)..self.to.load(Ordering::Relaxed);
        if known.start <= from && to <= known.end {
            return;
        }
        // A gap within a block is of a block that is written.
        if from < known.start || from > known.end.next_multiple_of(self.block_bytes) {
            self.from.store(from, Ordering::Relaxed);
        }
        self.to.store(to, Ordering::Relaxed);
        self.needed.store(true, Ordering::Relaxed);
    }
}

/// Data and length of a file; everything of a directory.
#[cfg(not(target_vendor = "apple"))]
fn sync_once(fd: BorrowedFd<'_>, directory: bool) -> rustix::io::Result<()> {
    if directory { rustix::fs::fsync(fd) } else { rustix::fs::fdatasync(fd) }
}

/// There `fsync` stops at the drive's cache; `F_FULLFSYNC` empties it, where the file system has it.
#[cfg(target_vendor = "apple")]
fn sync_once(fd: BorrowedFd<'_>, _directory: bool) -> rustix::io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::fcntl_fullfsync(fd) {
        Err(Errno::NOTSUP | Errno::INVAL | Errno::NOTTY) => rustix::fs::fsync(fd),
        outcome => outcome,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_needed_for_blocks_that_were_not_written_before() {
        let journal = Journal::with_blocks(4096);
        let needs = |from, to| {
            journal.written(from, to);
            journal.begin()
        };
        assert!(journal.begin() && !journal.begin());
        assert!(needs(4_096, 5_000));
        assert!(needs(5_000, 5_100), "its end grows");
        assert!(needs(8_192, 73_728), "zeros behind the block that 5,100 lies in");
        assert!(!needs(5_100, 9_000) && !needs(9_000, 73_728));
        assert!(needs(73_000, 73_729));
        assert!(!needs(4_096, 73_729));
        assert!(needs(0, 512), "nothing is known below 4,096");
        assert!(!needs(0, 512));
        assert!(needs(90_000, 90_010), "nor of the gap before this");
        assert!(needs(80_000, 80_010));

        let journal = Journal::with_blocks(1024);
        journal.written(0, 1_500);
        journal.written(4_096, 8_192);
        assert!(journal.begin());
        journal.written(1_500, 3_000);
        assert!(journal.begin(), "blocks in between weren't written");
    }

    #[test]
    fn a_sync_that_failed_leaves_the_journal_needed() {
        let file = tempfile::tempfile().unwrap();
        let mut target = Target::new(file.into()).unwrap();
        target.journal = Some(Arc::new(Journal::with_blocks(4096)));
        target.sync().unwrap();
        assert!(!target.begin().journal);
        target.resized();
        let began = target.begin();
        target.end(began, Err(io::ErrorKind::Other.into())).unwrap_err();
        assert!(target.begin().journal && !target.begin().journal);
    }
}
