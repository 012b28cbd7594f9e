//! For tests: a disk and a file that ask before each step, and then do what another disk does.

use std::any::Any;
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::{Access, Disk, Entry, EntryKind, File, Finished, Locked, Queue, View};

/// What is about to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Open,
    Read {
        position: u64,
        bytes: usize,
    },
    /// To a file.
    Write,
    /// Of a file.
    Sync,
    /// All else but listing names and asking for a length or a random number.
    Other,
}

type Asked = dyn Fn(Step) -> io::Result<()> + Send + Sync;

/// See the module: of a disk, then also of the files that are opened and created on it, or of a file. An error of
/// who is asked is that step's.
#[derive(Clone)]
pub(crate) struct Watched<T: ?Sized> {
    of: Arc<T>,
    asked: Arc<Asked>,
}

impl<T: ?Sized> Watched<T> {
    pub(crate) fn new(of: Arc<T>, asked: impl Fn(Step) -> io::Result<()> + Send + Sync + 'static) -> Watched<T> {
        Watched { of, asked: Arc::new(asked) }
    }

    fn step(&self, step: Step) -> io::Result<&T> {
        (self.asked)(step)?;
        Ok(&self.of)
    }
}

impl Watched<dyn Disk> {
    fn file(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(Watched { of: file, asked: self.asked.clone() })
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&&self.of).finish()
    }
}

impl Disk for Watched<dyn Disk> {
    fn enter(&self, dir: &Path) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(Watched { of: self.of.enter(dir)?, asked: self.asked.clone() }))
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.step(Step::Other)?.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.of.list(dir)
    }
    fn kind(&self, path: &Path) -> io::Result<EntryKind> {
        self.of.kind(path)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.step(Step::Other)?.create(path).map(|file| self.file(file))
    }
    fn create_unnamed(&self, dir: &Path) -> io::Result<Arc<dyn File>> {
        self.step(Step::Other)?.create_unnamed(dir).map(|file| self.file(file))
    }
    fn name(&self, file: &dyn File, path: &Path) -> io::Result<()> {
        let file = file.as_any().downcast_ref::<Watched<dyn File>>().map_or(file, |watched| &*watched.of);
        self.step(Step::Other)?.name(file, path)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        self.step(Step::Open)?.open(path, access).map(|file| self.file(file))
    }
    fn open_dir(&self, dir: &Path) -> io::Result<Arc<dyn File>> {
        self.step(Step::Other)?.open_dir(dir)
    }
    fn length_at(&self, path: &Path, file: &dyn File) -> io::Result<Option<u64>> {
        match file.as_any().downcast_ref::<Watched<dyn File>>() {
            Some(watched) => self.of.length_at(path, &*watched.of),
            None => self.of.length_at(path, file),
        }
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Step::Other)?.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Step::Other)?.link(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Other)?.unlink(path)
    }
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.step(Step::Other)?.remove_dir(dir)
    }
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Locked> {
        self.step(Step::Other)?.lock(path, holder)
    }
    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>> {
        self.step(Step::Other)?.lock_holder(path)
    }
    fn queue(&self) -> Box<dyn Queue> {
        Box::new(WatchedQueue(self.of.queue()))
    }
    fn random(&self) -> io::Result<u64> {
        self.of.random()
    }
    fn check(&self, dir: &Path) -> io::Result<Result<(), String>> {
        self.step(Step::Other)?.check(dir)
    }
}

/// A queue's syncs pass the files by: nobody is asked.
struct WatchedQueue(Box<dyn Queue>);

impl Queue for WatchedQueue {
    fn start(&mut self, token: u64, file: &Arc<dyn File>) {
        match file.as_any().downcast_ref::<Watched<dyn File>>() {
            Some(watched) => self.0.start(token, &watched.of),
            None => self.0.start(token, file),
        }
    }
    fn finished(&mut self, into: &mut Vec<Finished>) {
        self.0.finished(into);
    }
    fn sleep(&mut self, timeout: Option<Duration>) {
        self.0.sleep(timeout);
    }
    fn waker(&self) -> Waker {
        self.0.waker()
    }
}

impl File for Watched<dyn File> {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.step(Step::Write)?.write_at(parts, position)
    }
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.step(Step::Read { position, bytes: buffer.len() })?.read_at(buffer, position)
    }
    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        self.step(Step::Other)?.allocate(range)
    }
    fn room(&self) -> io::Result<u64> {
        self.of.room()
    }
    fn give_back(&self, length: u64) -> io::Result<()> {
        self.step(Step::Other)?.give_back(length)
    }
    fn identity(&self) -> io::Result<u64> {
        self.of.identity()
    }
    fn length(&self) -> io::Result<u64> {
        self.of.length()
    }
    fn stored_end(&self, from: u64) -> io::Result<u64> {
        self.of.stored_end(from)
    }
    fn stored_from(&self, from: u64) -> io::Result<u64> {
        self.of.stored_from(from)
    }
    fn sync(&self) -> io::Result<()> {
        self.step(Step::Sync)?.sync()
    }
    fn forget(&self) -> io::Result<()> {
        self.step(Step::Other)?.forget()
    }
    fn view(&self, reserved: u64) -> io::Result<Arc<dyn View>> {
        self.step(Step::Other)?.view(reserved)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
