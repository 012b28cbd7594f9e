//! The simulated disk as its users see it, and as the engine's driver.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::crash::CrashPolicy;
use super::faults::{Operation, Repeat};
use super::file::{Handle, SimFile};
use super::names::{At, NodeId};
use super::queue::SimQueue;
use super::state::State;
use super::watch::SimWatch;
use crate::disk::{Access, Disk, Entry, EntryKind, File, Locked, Queue, Watch};
use crate::lock::{Mutex, MutexGuard, lock};
use crate::teeth::bites;

/// A disk in memory that knows what survives a power loss, and fails to order.
///
/// Clones are the same disk. Paths are names below one root; `a/b`, `/a/b` and `./a//b` are the same.
/// Beside the files and directories that an engine makes there, tests read and change them with
/// [`read_file`](SimDisk::read_file) and its like, which are counted nowhere and always succeed.
///
/// What it promises an engine is what POSIX does, and no more: a write is durable when a sync of its
/// file that started afterwards succeeded, a name when its directory was synced. Until then each
/// sector of 512 bytes, each length and each change of a name may survive or not.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    root: Option<Root>,
}

/// A directory that was entered: the name it had then, and what keeps it.
#[derive(Clone)]
struct Root {
    parts: Vec<String>,
    dir: Arc<Handle>,
}

impl SimDisk {
    /// An empty disk without a limit.
    #[must_use]
    pub fn new() -> SimDisk {
        SimDisk::holding(State::new())
    }

    pub(super) fn holding(state: State) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(state)), root: None }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn same_as(&self, other: &SimDisk) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    /// The disk as found after a crash now: a new one, without locks, open files and faults. This one
    /// goes on as if nothing had happened.
    #[must_use]
    pub fn crash(&self, policy: CrashPolicy) -> SimDisk {
        SimDisk::holding(self.state().crash(policy))
    }

    /// Lets the next operation of this kind fail with this error number.
    ///
    /// ```
    /// # use thalweg::sim::{Operation, SimDisk};
    /// let disk = SimDisk::new();
    /// disk.fail_next(Operation::Sync, 5); // EIO
    /// ```
    pub fn fail_next(&self, operation: Operation, errno: i32) {
        self.fail_after(0, operation, errno, Repeat::Once);
    }

    /// Lets an operation of this kind fail with this error number after `passing` that don't.
    pub fn fail_after(&self, passing: u64, operation: Operation, errno: i32, repeat: Repeat) {
        self.state().faults.order(passing, operation, errno, repeat);
    }

    /// Cuts the power after so many operations of any kind: from then on all fail with EIO, and
    /// nothing changes nor becomes durable any more. Crash the disk then to see what is left.
    pub fn cut_power_after(&self, operations: u64) {
        self.state().faults.cut_power_after(operations);
    }

    /// Takes back all orders to fail, a cut of the power too.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// How many operations of this kind have begun, those that failed among them.
    #[must_use]
    pub fn count(&self, operation: Operation) -> u64 {
        self.state().count(operation)
    }

    /// How many errors were given to order.
    #[must_use]
    pub fn errors_given(&self) -> u64 {
        self.state().errors_given()
    }

    /// How many operations of any kind have begun.
    #[must_use]
    pub fn count_all(&self) -> u64 {
        self.state().count_all()
    }

    /// A hash over all operations so far, their bytes and outcomes. Two runs that should be the same
    /// have the same.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.state().trace_hash()
    }

    /// Limits the room, in bytes; `None` for no limit. Files and directories take blocks of 4 KiB, at
    /// least one. Beyond the limit, what needs more fails with ENOSPC; what is there stays.
    pub fn set_capacity(&self, bytes: impl Into<Option<u64>>) {
        self.state().set_capacity(bytes.into());
    }

    /// Whether it has files without a name (`O_TMPFILE`), as most file systems do. Default: true.
    pub fn set_unnamed_files(&self, has: bool) {
        self.state().no_unnamed = !has;
    }

    /// The room taken, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Drops from the page cache what failed syncs left there: reads find what is durable. Bytes that
    /// a reader already got through a view stay in that view.
    pub fn evict(&self) {
        self.state().evict();
    }

    /// Whether reads see bytes that a failed sync left in the page cache: no later sync makes them durable, and an
    /// engine that is opened for writing forgets them.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.state().has_lost()
    }

    /// Where bytes were changed that readers had got through a view: a sound engine never does.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.state().violations()
    }

    /// The paths of all files, sorted.
    #[must_use]
    pub fn list_files(&self) -> Vec<PathBuf> {
        self.state().files()
    }

    /// What a file holds, as an engine reading it would see.
    ///
    /// # Errors
    ///
    /// If there is no such file.
    pub fn read_file(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        self.state().peek(path.as_ref())
    }

    /// Makes a file hold exactly these bytes, durably, as if it always had; its directories too. For
    /// flipping bits: bytes that readers already got through a view stay in that view.
    ///
    /// # Errors
    ///
    /// If the path goes through a file, or is a directory's.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.state().put(path.as_ref(), bytes.as_ref())
    }

    /// Makes a file longer by a hole, durably, as if it had always been so long.
    ///
    /// # Errors
    ///
    /// If there is no such file.
    pub fn lengthen(&self, path: impl AsRef<Path>, length: u64) -> io::Result<()> {
        self.state().lengthen(path.as_ref(), length)
    }

    /// Writes some bytes of a file, durably, as if they had always been there.
    ///
    /// # Errors
    ///
    /// If there is no such file, or it ends before them.
    pub fn patch(&self, path: impl AsRef<Path>, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.state().patch(path.as_ref(), position, bytes)
    }

    /// Bytes that were read, of all files and by all calls, views left out.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.state().bytes_read()
    }

    /// Bytes that are stored of all files: holes aren't counted.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.state().stored_bytes()
    }

    /// Takes a file away, durably, as if it had never been there.
    ///
    /// # Errors
    ///
    /// If there is no such file.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.state().take(path.as_ref())
    }

    /// Gives a file or directory another name, durably, as if it had always had it: what somebody else does with
    /// a directory that an engine has open.
    ///
    /// # Errors
    ///
    /// If there is no such file or directory, no directory to put it into, or the name is taken.
    pub fn move_to(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        self.state().move_to(from.as_ref(), to.as_ref())
    }

    fn file(&self, node: NodeId, access: Access) -> Arc<dyn File> {
        Arc::new(SimFile::new(self.handle(node), access))
    }

    pub(super) fn directory(&self, dir: &Path) -> io::Result<NodeId> {
        let state = self.state();
        let node = state.find(&self.at(dir))?;
        if state.is_directory(node) { Ok(node) } else { Err(rustix::io::Errno::NOTDIR.into()) }
    }

    /// What is open holds the disk, not the directory that was entered.
    fn handle(&self, node: NodeId) -> Arc<Handle> {
        Handle::new(&SimDisk { state: self.state.clone(), root: None }, node)
    }

    fn at(&self, path: &Path) -> At {
        match self.root.as_ref().filter(|_| !bites("paths-looked-up-anew")) {
            Some(root) => At::below(&root.parts, root.dir.node(), path),
            None => At::root(path),
        }
    }
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SimDisk")
            .field("files", &state.files().len())
            .field("operations", &state.count_all())
            .finish_non_exhaustive()
    }
}

impl Disk for SimDisk {
    fn enter(&self, dir: &Path) -> io::Result<Arc<dyn Disk>> {
        let at = self.at(dir);
        let node = self.state().enter(&at)?;
        let root = Some(Root { parts: at.parts, dir: self.handle(node) });
        Ok(Arc::new(SimDisk { state: self.state.clone(), root }))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.state().create_dir_all(&self.at(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.state().list(&self.at(dir))
    }

    fn kind(&self, path: &Path) -> io::Result<EntryKind> {
        self.state().kind(&self.at(path))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let node = self.state().create(&self.at(path))?;
        Ok(self.file(node, Access::Write))
    }

    fn create_unnamed(&self, dir: &Path) -> io::Result<Arc<dyn File>> {
        let node = self.state().create_unnamed(&self.at(dir))?;
        Ok(self.file(node, Access::Write))
    }

    fn name(&self, file: &dyn File, path: &Path) -> io::Result<()> {
        let file = file.as_any().downcast_ref::<SimFile>().ok_or(io::ErrorKind::InvalidInput)?;
        self.state().name(file.handle().node(), &self.at(path))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let node = self.state().open(&self.at(path))?;
        Ok(self.file(node, access))
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Arc<dyn File>> {
        let node = self.state().open_dir(&self.at(dir))?;
        Ok(self.file(node, Access::Read))
    }

    fn length_at(&self, path: &Path, file: &dyn File) -> io::Result<Option<u64>> {
        let Some(file) = file.as_any().downcast_ref::<SimFile>() else { return Ok(None) };
        self.state().length_at(&self.at(path), file.handle().node())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().rename(&self.at(from), &self.at(to))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().link(&self.at(from), &self.at(to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.state().unlink(&self.at(path))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().remove_dir(&self.at(dir))
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Locked> {
        let outcome = self.state().lock(&self.at(path), holder)?;
        Ok(match outcome {
            Ok(node) => Locked::Ours(Box::new(LockGuard(self.handle(node)))),
            Err(text) => Locked::Held(text),
        })
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>> {
        self.state().lock_holder(&self.at(path))
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.state().random())
    }

    fn queue(&self) -> Box<dyn Queue> {
        Box::new(SimQueue::new(self.clone()))
    }

    fn watch(&self) -> Option<Box<dyn Watch>> {
        let (watch, told) = SimWatch::new(self);
        self.state().watch(told);
        Some(Box::new(watch))
    }

    fn check(&self, dir: &Path) -> io::Result<Result<(), String>> {
        self.open_dir(dir).map(|_| Ok(()))
    }
}

struct LockGuard(Arc<Handle>);

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.0.disk().state().unlock(self.0.node());
    }
}

#[cfg(test)]
mod tests;
