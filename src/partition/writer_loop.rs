//! One writer's round over its partitions: finished syncs, commands, those with work, timers.
//!
//! A pure driver: it neither starts threads nor decides when to sleep for long. A thread (or, with
//! inline writers, whoever waits) calls [`WriterLoop::turn`] until there is nothing to do, then
//! [`WriterLoop::sleep`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use crossbeam::queue::SegQueue;

use super::PartitionWriter;
use super::writer::Now;
use crate::clock::Clock;
use crate::disk::{Finished, Queue};
use crate::error::{Error, ErrorKind};

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

/// How others reach a writer.
#[derive(Clone)]
pub(crate) struct WriterHandle(Arc<Inbox>);

struct Inbox {
    ready: SegQueue<usize>,
    commands: SegQueue<Command>,
    next_slot: AtomicUsize,
    sleeping: AtomicBool,
    waker: Waker,
}

impl std::fmt::Debug for WriterHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WriterHandle")
    }
}

impl WriterHandle {
    /// The partition in this slot has work.
    pub(crate) fn ready(&self, slot: usize) {
        self.0.ready.push(slot);
        self.wake();
    }

    pub(crate) fn send(&self, command: Command) {
        self.0.commands.push(command);
        self.wake();
    }

    /// A slot for one more partition.
    pub(crate) fn next_slot(&self) -> usize {
        self.0.next_slot.fetch_add(1, Ordering::Relaxed)
    }

    fn wake(&self) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.0.sleeping.load(Ordering::Relaxed) && self.0.sleeping.swap(false, Ordering::SeqCst) {
            self.0.waker.wake_by_ref();
        }
    }
}

/// See the module.
pub(crate) struct WriterLoop {
    inbox: Arc<Inbox>,
    queue: Box<dyn Queue>,
    clock: Arc<dyn Clock>,
    slots: Vec<Option<Box<PartitionWriter>>>,
    timed: Vec<bool>,
    busy: VecDeque<usize>,
    timers: BinaryHeap<Reverse<(Duration, usize)>>,
    finished: Vec<Finished>,
    /// The slot visited last, and how often in a row.
    last_visited: (usize, u32),
    stopping: bool,
}

/// After so many visits to one partition in a row it counts as the only one with work.
const ALONE_AFTER: u32 = 8;

impl WriterLoop {
    pub(crate) fn new(queue: Box<dyn Queue>, clock: Arc<dyn Clock>) -> WriterLoop {
        let inbox = Inbox {
            ready: SegQueue::new(),
            commands: SegQueue::new(),
            next_slot: AtomicUsize::new(0),
            sleeping: AtomicBool::new(false),
            waker: queue.waker(),
        };
        WriterLoop {
            inbox: Arc::new(inbox),
            queue,
            clock,
            slots: Vec::new(),
            timed: Vec::new(),
            busy: VecDeque::new(),
            timers: BinaryHeap::new(),
            finished: Vec::new(),
            last_visited: (0, 0),
            stopping: false,
        }
    }

    /// Ends [`sleep`](WriterLoop::sleep), from any thread.
    pub(crate) fn waker(&self) -> Waker {
        self.inbox.waker.clone()
    }

    pub(crate) fn handle(&self) -> WriterHandle {
        WriterHandle(self.inbox.clone())
    }

    /// Does what there is to do, once round; whether there was anything.
    pub(crate) fn turn(&mut self) -> bool {
        let now = Now { wall_ms: self.clock.wall_ms(), monotonic: self.clock.monotonic() };
        let mut worked = false;
        let mut finished = std::mem::take(&mut self.finished);
        self.queue.finished(&mut finished);
        for Finished { token, result } in finished.drain(..) {
            worked = true;
            let slot = token as usize;
            if let Some(Some(writer)) = self.slots.get_mut(slot) {
                writer.synced(result);
            }
            self.visit(slot, now);
        }
        self.finished = finished;
        while let Some(command) = self.inbox.commands.pop() {
            worked = true;
            self.obey(command, now);
        }
        for _ in 0..self.busy.len() {
            let Some(slot) = self.busy.pop_front() else { break };
            worked = true;
            self.visit(slot, now);
        }
        while let Some(slot) = self.inbox.ready.pop() {
            worked = true;
            self.visit(slot, now);
        }
        for slot in self.take_due(now.monotonic) {
            self.visit(slot, now);
        }
        worked
    }

    /// The slots whose time has come.
    fn take_due(&mut self, now: Duration) -> Vec<usize> {
        let mut slots = Vec::new();
        while let Some(&Reverse((due, slot))) = self.timers.peek()
            && due <= now
        {
            self.timers.pop();
            self.timed[slot] = false;
            slots.push(slot);
        }
        slots
    }

    fn visit(&mut self, slot: usize, now: Now) {
        let alone = self.is_alone(slot);
        let Some(Some(writer)) = self.slots.get_mut(slot) else { return };
        if writer.turn(&mut *self.queue, now, alone) {
            self.busy.push_back(slot);
        }
        if writer.is_done() {
            self.slots[slot] = None;
        } else if !self.timed[slot]
            && let Some(due) = writer.due()
        {
            self.timed[slot] = true;
            self.timers.push(Reverse((due, slot)));
        }
    }

    /// Whether for some time no other partition had anything to do.
    fn is_alone(&mut self, slot: usize) -> bool {
        let (last, times) = self.last_visited;
        self.last_visited = if last == slot { (slot, times.saturating_add(1)) } else { (slot, 1) };
        self.last_visited.1 > ALONE_AFTER
    }

    fn obey(&mut self, command: Command, now: Now) {
        match command {
            Command::Add(slot, writer) => {
                if self.slots.len() <= slot {
                    self.slots.resize_with(slot + 1, || None);
                    self.timed.resize(slot + 1, false);
                }
                self.slots[slot] = Some(writer);
                self.visit(slot, now);
            }
            Command::End { slot, discard } => {
                if let Some(Some(writer)) = self.slots.get_mut(slot) {
                    writer.end(discard);
                    self.visit(slot, now);
                }
            }
            Command::Stop => self.stopping = true,
        }
    }

    /// Whether it was told to stop and all its partitions have ended.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopping && self.slots.iter().all(Option::is_none)
    }

    /// Whether something may have come that [`turn`](WriterLoop::turn) hasn't seen; cheap.
    pub(crate) fn has_news(&self) -> bool {
        !self.inbox.ready.is_empty() || !self.inbox.commands.is_empty()
    }

    /// Sleeps until there is something to do, at most `limit`.
    pub(crate) fn sleep(&mut self, limit: Option<Duration>) {
        self.inbox.sleeping.store(true, Ordering::SeqCst);
        if !self.has_news() && self.busy.is_empty() {
            let now = self.clock.monotonic();
            let due = self.timers.peek().map(|Reverse((due, _))| due.saturating_sub(now));
            let timeout = match (due, limit) {
                (Some(due), Some(limit)) => Some(due.min(limit)),
                (due, limit) => due.or(limit),
            };
            self.queue.sleep(timeout);
        }
        self.inbox.sleeping.store(false, Ordering::SeqCst);
    }

    /// After a panic in a turn: its partitions fail as after an I/O error.
    pub(crate) fn fail_all(&mut self) {
        let error = Error::new(ErrorKind::Failed);
        for writer in self.slots.iter().flatten() {
            writer.partition().fail(&error);
        }
    }
}

impl std::fmt::Debug for WriterLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriterLoop").field("partitions", &self.slots.len()).finish_non_exhaustive()
    }
}
