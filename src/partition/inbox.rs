//! How others reach a writer: what it is told, and who wakes it.

use std::sync::Arc;
use std::task::Waker;

use crossbeam::queue::SegQueue;

use super::shared::Shared;
use super::{PartitionWriter, WriterLoop};
use crate::lock::{AtomicBool, AtomicUsize, Mutex, MutexGuard, OnceLock, Ordering, Unparker, fence, lock};
use crate::opener::Opener;
use crate::panics::wake_each;

/// What a writer is told to do.
pub(crate) enum Command {
    /// Write this partition from now on.
    Add(usize, Box<PartitionWriter>),
    /// Write and sync what it has, then end it; with `discard`, drop what it has.
    End {
        /// The partition's slot.
        slot: usize,
        /// Whether what isn't written yet is dropped.
        discard: bool,
    },
    /// End the thread once all partitions have ended.
    Stop,
}

/// See the module.
pub(crate) struct Inbox {
    ready: SegQueue<usize>,
    commands: SegQueue<Command>,
    next_slot: AtomicUsize,
    /// Somebody sleeps in the writer's queue.
    sleeping: AtomicBool,
    /// The slot of the only partition that had work, for some time; else `usize::MAX`.
    alone: AtomicUsize,
    waker: Waker,
    /// Tasks that do the writer's work when there is some, if it has no thread.
    tasks: Mutex<Tasks>,
    parked_tasks: AtomicUsize,
    /// The writer, if it has a thread.
    pub(super) writer: Shared<Option<WriterLoop>>,
    /// Wakes that thread.
    pub(super) thread: OnceLock<Unparker>,
}

impl Inbox {
    pub(super) fn new(waker: Waker) -> Inbox {
        Inbox {
            ready: SegQueue::new(),
            commands: SegQueue::new(),
            next_slot: AtomicUsize::new(0),
            sleeping: AtomicBool::new(false),
            alone: AtomicUsize::new(usize::MAX),
            waker,
            tasks: Mutex::default(),
            parked_tasks: AtomicUsize::new(0),
            writer: Shared::new(None),
            thread: OnceLock::new(),
        }
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Whether something has come; cheap.
    pub(super) fn has_news(&self) -> bool {
        !self.ready.is_empty() || !self.commands.is_empty()
    }

    pub(super) fn next_command(&self) -> Option<Command> {
        self.commands.pop()
    }

    pub(super) fn next_ready(&self) -> Option<usize> {
        self.ready.pop()
    }

    /// Said before the last look for news, and when the sleep is over.
    pub(super) fn sleeps_in_queue(&self, sleeps: bool) {
        self.sleeping.store(sleeps, Ordering::SeqCst);
    }

    fn wake(&self) {
        if self.writer.call() {
            self.unpark();
        }
        // Behind the fence in that call.
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::SeqCst) {
            self.waker.wake_by_ref();
        }
        if self.parked_tasks.load(Ordering::Relaxed) > 0 {
            self.call_tasks();
        }
    }

    #[cfg(all(test, feature = "sim"))]
    pub(super) fn parked_tasks(&self) -> usize {
        lock(&self.tasks).parked.len()
    }

    /// Wakes all parked tasks: there is work, and any one of them may never be polled again.
    pub(super) fn call_tasks(&self) {
        let called = {
            let mut tasks = lock(&self.tasks);
            self.parked_tasks.store(0, Ordering::Relaxed);
            std::mem::take(&mut tasks.parked)
        };
        wake_each(called.into_iter().map(|(_, waker)| waker));
    }

    /// Which partition is the only one with work, if one is.
    pub(super) fn set_alone(&self, slot: Option<usize>) {
        self.alone.store(slot.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    pub(super) fn is_alone(&self, slot: usize) -> bool {
        self.alone.load(Ordering::Relaxed) == slot
    }

    fn rouse(&self) {
        if self.writer.rouse() {
            self.unpark();
        }
    }

    pub(super) fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Tasks that wait for news, in an engine without threads.
#[derive(Default)]
struct Tasks {
    next_id: u64,
    parked: Vec<(u64, Waker)>,
}

/// Where a task parks in an inbox; given up when it is dropped.
#[derive(Default)]
pub(crate) struct TaskPlace(Option<(Arc<Inbox>, u64)>);

impl TaskPlace {
    /// News wake `waker` from now on, once. What came before is to be looked for after this.
    pub(super) fn park(&mut self, inbox: &Arc<Inbox>, waker: &Waker) {
        let waker = waker.clone();
        self.leave();
        let mut tasks = lock(&inbox.tasks);
        let id = tasks.next_id;
        tasks.next_id += 1;
        tasks.parked.push((id, waker));
        inbox.parked_tasks.store(tasks.parked.len(), Ordering::Relaxed);
        drop(tasks);
        self.0 = Some((inbox.clone(), id));
        fence(Ordering::SeqCst);
    }

    /// In a forked child nobody may ever give back the lock that leaving takes.
    pub(crate) fn forget_if_forked(&mut self, opener: Opener) {
        if !opener.is_this() {
            std::mem::forget(self.0.take());
        }
    }

    fn leave(&mut self) {
        let Some((inbox, id)) = self.0.take() else { return };
        let mut tasks = lock(&inbox.tasks);
        let at = tasks.parked.iter().position(|(parked, _)| *parked == id);
        let left = at.map(|at| tasks.parked.swap_remove(at));
        inbox.parked_tasks.store(tasks.parked.len(), Ordering::Relaxed);
        drop(tasks);
        drop(left);
    }
}

impl Drop for TaskPlace {
    fn drop(&mut self) {
        self.leave();
    }
}

impl std::fmt::Debug for TaskPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TaskPlace").field(&self.0.as_ref().map(|(_, id)| id)).finish()
    }
}

/// What a helping thread may do, and whether it returns.
struct Help {
    /// It may block on a sync.
    may_sync: bool,
    /// It returns within a millisecond: the writer thread naps until then.
    comes_back: bool,
}

/// A writer as its partitions know it.
#[derive(Clone)]
pub(crate) struct WriterHandle(Arc<Inbox>);

impl WriterHandle {
    pub(super) fn new(inbox: Arc<Inbox>) -> WriterHandle {
        WriterHandle(inbox)
    }

    /// The partition in this slot has work.
    pub(crate) fn ready(&self, slot: usize) {
        self.0.ready.push(slot);
        self.0.wake();
    }

    pub(crate) fn send(&self, command: Command) {
        self.0.commands.push(command);
        self.0.wake();
        self.0.rouse();
    }

    /// Somebody waits for the writer's thread: it naps no longer.
    pub(crate) fn rouse(&self) {
        self.0.rouse();
    }

    /// Whether the writer may have work; two loads.
    pub(crate) fn has_work(&self) -> bool {
        self.0.has_news() || self.0.writer.is_left()
    }

    /// A slot for one more partition.
    pub(crate) fn next_slot(&self) -> usize {
        self.0.next_slot.fetch_add(1, Ordering::Relaxed)
    }

    /// Does the writer's work, for one who would only wait for it: if for some time the partition in this
    /// slot was the only one with any.
    pub(crate) fn help(&self, slot: usize) {
        if !self.0.is_alone(slot) {
            return;
        }
        let Some(work) = self.0.writer.take_in_turn() else { return };
        self.work(slot, work, Help { may_sync: true, comes_back: true });
    }

    /// The same for a reader that would return empty or sleep. Never blocks: neither on the lock nor on a sync. Returns
    /// whether it did any work.
    pub(crate) fn help_to_read(&self, slot: usize, comes_back: bool) -> bool {
        if !self.0.is_alone(slot) {
            return false;
        }
        let Some(work) = self.0.writer.take() else { return false };
        // This turn does what another helper left for the thread, or leaves it again.
        self.0.writer.look();
        self.work(slot, work, Help { may_sync: false, comes_back })
    }

    fn work(&self, slot: usize, mut work: MutexGuard<'_, Option<WriterLoop>>, help: Help) -> bool {
        let (mut left, mut worked) = (false, false);
        if let Some(writer) = &mut *work
            && self.0.is_alone(slot)
        {
            worked = true;
            left = writer.helped_turn(help.may_sync);
            // A reader that waits for this partition had better have each record at once, whoever sends it.
            if !std::mem::take(&mut writer.woke_reader) && help.comes_back {
                self.0.writer.helped();
            }
        }
        if self.0.writer.give_back(work, left, || self.0.has_news()) {
            self.0.unpark();
        }
        worked
    }
}

impl std::fmt::Debug for WriterHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WriterHandle")
    }
}
