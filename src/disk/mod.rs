//! The disk seam: all that the engine asks of files, directories and syncs.
//!
//! Nothing above this folder touches a file in another way, so a simulated disk ([`crate::sim`])
//! sees every byte. Drivers: [`real`] (explicit writes, mapped reads; syncs through an io_uring
//! ring or through threads) and `sim`.

#[cfg(all(test, feature = "sim"))]
mod for_tests;
mod look;
mod queue;
mod real;
mod target;
mod unnamed;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

#[cfg(all(test, feature = "sim"))]
pub(crate) use for_tests::{Step, Watched};
pub(crate) use queue::QueueReport;
pub(crate) use real::RealDisk;
pub(crate) use unnamed::Unnamed;

use crate::error::is_no_room;

/// What [`Disk::open`] is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    Write,
    /// To read what the drive has, whatever memory says. Where the file system can't, memory is forgotten
    /// first: then pages that somebody has mapped are still believed.
    Drive,
}

/// What a directory entry is; links are never followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EntryKind {
    File,
    Directory,
    /// A symbolic link: never followed.
    Link,
    /// A pipe, a device, a socket: never opened.
    Other,
}

/// One name in a directory. Names that aren't UTF-8 come lossily converted and match nothing of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) kind: EntryKind,
}

/// The outcome of [`Disk::lock`].
pub(crate) enum Locked {
    /// Ours until the guard is dropped or the process dies.
    Ours(Box<dyn Send + Sync>),
    /// Held by another; the text its holder left inside.
    Held(String),
}

/// Files and directories. Every method is a single step that a simulated disk may crash at.
pub(crate) trait Disk: Send + Sync + fmt::Debug {
    /// The same disk, on which names below `dir` are looked up in the directory that has that name now, whatever
    /// becomes of the name or of the working directory, and without following links.
    fn enter(&self, dir: &Path) -> io::Result<Arc<dyn Disk>>;
    /// Makes the directory and its missing parents; one that is there is fine.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// The entries of a directory (without `.` and `..`), sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// What has this name.
    fn kind(&self, path: &Path) -> io::Result<EntryKind>;
    /// Makes a new file for reading and writing; `AlreadyExists` if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Makes a new file in this directory that has no name yet; `Unsupported` where there are none.
    fn create_unnamed(&self, dir: &Path) -> io::Result<Arc<dyn File>>;
    /// Gives such a file its name; `AlreadyExists` if that is taken.
    fn name(&self, file: &dyn File, path: &Path) -> io::Result<()>;
    /// Opens a regular file. Links are not followed, other kinds refused (`InvalidInput`) without blocking.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;
    /// A directory as something to sync; only [`File::sync`] and [`Queue::start`] make sense on it.
    fn open_dir(&self, dir: &Path) -> io::Result<Arc<dyn File>>;
    /// The length of an open file, if `path` still names it: `None` once it was moved, removed or replaced.
    fn length_at(&self, path: &Path, file: &dyn File) -> io::Result<Option<u64>>;
    /// Makes the names in a directory durable; returns when done.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.open_dir(dir)?.sync()
    }
    /// Gives a file or directory another name, replacing a file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, without following links; `AlreadyExists` if the name is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock of the directory that this file lies in, and writes `holder` into the file. Never
    /// waits. The directory is locked, not only the file: a file that is replaced lets nobody in.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Locked>;
    /// Who holds that lock, as far as its holder wrote down; `None` if nobody does. Takes nothing and writes
    /// nothing.
    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>>;
    /// A queue of syncs for one writer.
    fn queue(&self) -> Box<dyn Queue>;
    /// What tells of changes, if the disk does.
    fn watch(&self) -> Option<Box<dyn Watch>> {
        None
    }
    /// A number that nobody has seen before, to tell one file from every other.
    fn random(&self) -> io::Result<u64> {
        getrandom::u64().map_err(io::Error::other)
    }
    /// Whether this directory's file system does what the engine relies on (locks, mappings);
    /// the reason if not. Makes and removes a temporary file.
    fn check(&self, dir: &Path) -> io::Result<Result<(), String>>;
}

/// An open file. Writes and syncs of one file come from one thread at a time; reads from any.
pub(crate) trait File: Send + Sync + fmt::Debug {
    /// Writes all of `parts` one behind the other from `position` on. Interrupted and short writes
    /// are finished; after an error an unknown part may have been written.
    fn write_at(&self, parts: &[io::IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Reads until `buffer` is full or the file ends; the number of bytes read.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Reserves blocks for `range` and makes the file at least `range.end` long; new bytes read as zero.
    fn allocate(&self, range: Range<u64>) -> io::Result<()>;
    /// How many bytes its file system has left to reserve; 0 where none can be.
    fn room(&self) -> io::Result<u64>;
    /// Cuts off what was allocated beyond `length`.
    fn give_back(&self, length: u64) -> io::Result<()>;
    fn length(&self) -> io::Result<u64>;
    /// What tells it from every other file of its file system, and from its own copies. A copy written over the same file in
    /// place is not detected.
    fn identity(&self) -> io::Result<u64>;
    /// From where on it reads as zeros because nothing was ever written there, as far as that is known, at least
    /// `from`; else its length. Asked before that is read: what memory holds counts as written.
    fn stored_end(&self, from: u64) -> io::Result<u64>;
    /// The first place from `from` on that may hold bytes that were written, as far as that is known; the length if
    /// there is none. What lies before it reads as zeros. Time that depends on a file's length, and not on what is
    /// stored of it, has no bound: whoever reads on and on asks for this.
    fn stored_from(&self, from: u64) -> io::Result<u64>;
    /// Makes all written bytes and the length durable; returns when done.
    fn sync(&self) -> io::Result<()>;
    /// Forgets what memory holds of the file and the drive has, or is taken to have: reads then say what it has.
    /// Pages that somebody has mapped stay.
    fn forget(&self) -> io::Result<()>;
    /// Read-only memory of the file's first `reserved` bytes, which may be more than it is long.
    fn view(&self, reserved: u64) -> io::Result<Arc<dyn View>>;
    /// For the driver's own queue.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// Waits until what was written is on the drive, as far as it will ever be, and has reads say what the drive has.
/// `Some`: an error that kept something from it, now or before; what that was is lost.
///
/// After a failed write-back memory holds what the drive doesn't have, and no later sync tells. On ext4 even
/// bytes that are written again there, into blocks that were reserved and never written before, are lost
/// though their sync succeeds, unless memory was forgotten before.
pub(crate) fn reread(file: &dyn File) -> io::Result<Option<io::Error>> {
    let lost = file.sync().err();
    file.forget()?;
    if lost.is_some() {
        // Errors of before are told once: this one says how the drive is now.
        file.sync()?;
    }
    Ok(lost)
}

/// That `path` still names this open file, and that it is as long as it was made: else what is synced is not what
/// the next opening finds. Whoever acknowledges a sync asks after it.
///
/// # Errors
/// What somebody else did to the file, and what to do now.
pub(crate) fn check_place(disk: &dyn Disk, path: &Path, file: &dyn File, length: u64) -> io::Result<()> {
    let reason = match disk.length_at(path, file) {
        // A limit of the process says nothing of the file.
        Err(error) if is_no_room(&error) => return Ok(()),
        Ok(Some(found)) if found >= length => return Ok(()),
        Ok(Some(found)) => return Err(shortened(found, length)),
        Ok(None) => "the file was moved, removed or replaced by somebody else while it was open",
        Err(error) => return Err(error),
    };
    Err(io::Error::other(format!("{reason}; put it back, then open the engine again")))
}

/// That a file has fewer bytes than it was given.
pub(crate) fn shortened(found: u64, expected: u64) -> io::Error {
    let reason = format!(
        "the file was shortened by somebody else: {found} bytes, expected {expected}; `thalweg verify` tells what is \
         left of it"
    );
    io::Error::other(reason)
}

/// Stable read-only memory over a file.
///
/// The engine only asks for bytes that were published, and published bytes never change: that is
/// what makes handing out `&[u8]` right.
pub(crate) trait View: Send + Sync + fmt::Debug {
    /// The bytes of `range`; an error if it reaches beyond the reserved length or the file.
    fn bytes(&self, range: Range<u64>) -> io::Result<&[u8]>;
    /// Brings `range` into memory, so that a page the drive can't read is an error here and not a
    /// signal later. Called before a reader first touches a range.
    fn populate(&self, range: Range<u64>) -> io::Result<()>;
    /// A reader has gone past `range`: it need not count as this process's memory. It stays readable.
    fn leave(&self, _range: Range<u64>) {}
}

/// Tells which directories' files were changed, whoever changed them: a change is told before the call that made it
/// returns. For one thread at a time, but for [`wake`](Watch::wake) and [`add`](Watch::add).
pub(crate) trait Watch: Send + Sync + fmt::Debug {
    /// Tells of files in `dir` whose names begin with `prefix` from now on, under the directory's number, which this
    /// returns. An error where changes can't be told, or not all of them.
    fn add(&self, dir: &Path, prefix: &'static str) -> io::Result<u64>;
    /// Tells of this directory no more.
    fn remove(&self, number: u64);
    /// The directories in which something was changed since this was last asked, with the prefixes that were asked for.
    /// Never waits. `false`: there was too much to tell, and it may be any.
    fn changed(&self, into: &mut BTreeSet<(u64, &'static str)>) -> bool;
    /// Sleeps until something was changed, somebody wakes it, or the time is over. May return early.
    fn sleep(&self, timeout: Duration);
    /// Ends a sleep, from any thread.
    fn wake(&self);
}

/// A sync that ended.
pub(crate) struct Finished {
    pub(crate) token: u64,
    pub(crate) result: io::Result<()>,
}

/// One writer's syncs, and the one place where it sleeps.
pub(crate) trait Queue: Send {
    /// Starts a sync of what was written to `file` before this call.
    fn start(&mut self, token: u64, file: &Arc<dyn File>);
    /// Takes what has finished, in any order. Never waits.
    fn finished(&mut self, into: &mut Vec<Finished>);
    /// Sleeps until a sync finishes, somebody wakes the queue, or the time is over. A wake-up sent
    /// before the call makes it return at once. May return early.
    fn sleep(&mut self, timeout: Option<Duration>);
    /// Wakes this queue from any thread.
    fn waker(&self) -> Waker;
}
