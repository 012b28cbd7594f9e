//! How others reach a writer: what it is told, and who wakes it.

use std::sync::Arc;
use std::task::Waker;

use crossbeam::queue::SegQueue;

use super::shared::Shared;
use super::{PartitionWriter, WriterLoop};
use crate::lock::{AtomicBool, AtomicUsize, OnceLock, Ordering, Unparker};

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
pub(super) struct Inbox {
    ready: SegQueue<usize>,
    commands: SegQueue<Command>,
    next_slot: AtomicUsize,
    /// Somebody sleeps in the writer's queue.
    sleeping: AtomicBool,
    waker: Waker,
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
            waker,
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
    }

    pub(super) fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
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
    }

    /// A slot for one more partition.
    pub(crate) fn next_slot(&self) -> usize {
        self.0.next_slot.fetch_add(1, Ordering::Relaxed)
    }

    /// Does the writer's work, for one who would only wait for it: if its thread sleeps, and for some time
    /// the partition in this slot was the only one with any.
    pub(crate) fn help(&self, slot: usize) {
        let Some(mut work) = self.0.writer.take() else { return };
        let mut left = false;
        if let Some(writer) = &mut *work
            && writer.was_alone(slot)
        {
            left = writer.helped_turn();
        }
        if self.0.writer.give_back(work, left, || self.0.has_news()) {
            self.0.unpark();
        }
    }
}

impl std::fmt::Debug for WriterHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WriterHandle")
    }
}
