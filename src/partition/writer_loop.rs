//! One writer's round over its partitions: finished syncs, commands, those with work, timers.
//!
//! A pure driver: it neither starts threads nor decides when to sleep for long. Its thread
//! ([`writer_thread`](super::writer_thread)), or one who waits, calls [`WriterLoop::turn`] until there is
//! nothing to do.

#[cfg(all(test, feature = "sim"))]
mod tests;

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::PartitionWriter;
use super::inbox::{Command, Inbox, WriterHandle};
use super::open_files::OpenFiles;
use super::writer::Now;
use crate::clock::Clock;
use crate::disk::{Finished, Queue};
use crate::error::Error;
use crate::lock::thread_local;

thread_local! {
    static AT_WORK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread does a writer's work: who calls is code of the embedder, and must not wait for that work.
pub(crate) fn is_at_work() -> bool {
    AT_WORK.with(Cell::get)
}

/// While it lives, its thread is at work.
struct AtWork {
    before: bool,
}

impl AtWork {
    fn begin() -> AtWork {
        AtWork { before: AT_WORK.with(|cell| cell.replace(true)) }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.with(|cell| cell.set(self.before));
    }
}

/// See the module.
pub(crate) struct WriterLoop {
    pub(super) inbox: Arc<Inbox>,
    queue: Box<dyn Queue>,
    pub(super) clock: Arc<dyn Clock>,
    slots: Vec<Option<Box<PartitionWriter>>>,
    timed: Vec<bool>,
    busy: VecDeque<usize>,
    timers: BinaryHeap<Reverse<(Duration, usize)>>,
    finished: Vec<Finished>,
    /// The slot visited last, and how often in a row.
    last_visited: (usize, u32),
    /// Partitions with a sync under way in the queue.
    syncing: usize,
    files: OpenFiles,
    stopping: bool,
    /// It waits for others to come, for the one partition that has something to do.
    pub(super) gathers: bool,
    /// It may wait for a sync.
    pub(super) syncs_itself: bool,
    /// It woke a reader that slept.
    pub(super) woke_reader: bool,
    /// When its thread will look again.
    pub(super) planned: Option<Duration>,
}

/// After so many visits to one partition in a row it counts as the only one with work.
const ALONE_AFTER: u32 = 8;

/// How many partitions are looked at for files to be closed, at a time.
const LOOKED_AT: usize = 32;

impl WriterLoop {
    pub(crate) fn new(queue: Box<dyn Queue>, clock: Arc<dyn Clock>) -> WriterLoop {
        WriterLoop {
            inbox: Arc::new(Inbox::new(queue.waker())),
            queue,
            clock,
            slots: Vec::new(),
            timed: Vec::new(),
            busy: VecDeque::new(),
            timers: BinaryHeap::new(),
            finished: Vec::new(),
            last_visited: (0, 0),
            syncing: 0,
            files: OpenFiles::new(usize::MAX),
            stopping: false,
            gathers: false,
            syncs_itself: true,
            woke_reader: false,
            planned: None,
        }
    }

    /// How many of its partitions may have files open at a time, at least one.
    pub(crate) fn with_open_files(mut self, most: usize) -> WriterLoop {
        self.files = OpenFiles::new(most.max(1));
        self
    }

    /// Ends [`sleep`](WriterLoop::sleep), from any thread.
    pub(crate) fn waker(&self) -> Waker {
        self.inbox.waker().clone()
    }

    pub(crate) fn handle(&self) -> WriterHandle {
        WriterHandle::new(self.inbox.clone())
    }

    /// Does what there is to do, once round; whether there was anything.
    pub(crate) fn turn(&mut self) -> bool {
        let _at_work = AtWork::begin();
        let worked = self.round();
        if worked && let Some(writer) = self.slots.iter().flatten().next() {
            writer.partition().env.events.emit_untold();
        }
        worked
    }

    fn round(&mut self) -> bool {
        let now = Now { wall_ms: self.clock.wall_ms(), monotonic: self.clock.monotonic() };
        let mut worked = false;
        let mut finished = std::mem::take(&mut self.finished);
        self.queue.finished(&mut finished);
        for Finished { token, result } in finished.drain(..) {
            worked = true;
            let slot = token as usize;
            if let Some(Some(writer)) = self.slots.get_mut(slot) {
                let was_syncing = writer.is_syncing();
                writer.synced(result);
                self.syncing -= usize::from(was_syncing && !writer.is_syncing());
            }
            self.visit(slot, now);
        }
        self.finished = finished;
        if worked {
            self.let_in(now);
        }
        while let Some(command) = self.inbox.next_command() {
            worked = true;
            self.obey(command, now);
        }
        for _ in 0..self.busy.len() {
            let Some(slot) = self.busy.pop_front() else { break };
            worked = true;
            self.visit(slot, now);
        }
        while let Some(slot) = self.inbox.next_ready() {
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

    /// Visits those that wait for others' files to be closed, as long as there is room.
    fn let_in(&mut self, now: Now) {
        while self.files.has_waiting()
            && (!self.files.is_full() || self.make_room())
            && let Some(slot) = self.files.next_waiting()
        {
            self.visit(slot, now);
        }
    }

    /// Closes files of partitions that have nothing to do; whether there is room then. Where there are none, others
    /// are synced, to be closed when that is done.
    fn make_room(&mut self) -> bool {
        let mut room = false;
        for _ in 0..self.files.count().min(LOOKED_AT) {
            let Some(slot) = self.files.take_oldest() else { break };
            let Some(Some(writer)) = self.slots.get_mut(slot) else {
                room = true;
                continue;
            };
            if writer.rest() {
                room = true;
                continue;
            }
            let was_syncing = writer.is_syncing();
            if !room {
                writer.sync_to_rest(&mut *self.queue);
            }
            self.syncing += usize::from(!was_syncing && writer.is_syncing());
            self.files.note(slot, writer.holds_files());
        }
        // With nothing under way nobody would come back to it.
        room || self.syncing == 0
    }

    fn visit(&mut self, slot: usize, now: Now) {
        let wants_files = || self.slots.get(slot).and_then(Option::as_ref).is_some_and(|writer| writer.wants_files());
        if self.files.is_full() && wants_files() && !self.make_room() {
            self.files.wait(slot);
            return;
        }
        let alone = self.is_alone(slot) && self.syncs_itself;
        let Some(Some(writer)) = self.slots.get_mut(slot) else { return };
        if alone && self.inbox.thread.get().is_some() && writer.is_gathering(now.monotonic) {
            self.gathers = true;
            self.busy.push_back(slot);
            return;
        }
        let was_syncing = writer.is_syncing();
        if writer.turn(&mut *self.queue, now, alone) {
            self.busy.push_back(slot);
        }
        self.syncing += usize::from(!was_syncing && writer.is_syncing());
        self.woke_reader |= std::mem::take(&mut writer.woke_reader);
        self.files.note(slot, writer.holds_files());
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
        match self.last_visited.1 {
            1 => self.inbox.set_alone(None),
            ALONE_AFTER => self.inbox.set_alone(Some(slot)),
            _ => {}
        }
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
        self.inbox.has_news()
    }

    /// Whether its queue has something to tell before long.
    pub(super) fn is_syncing(&self) -> bool {
        self.syncing > 0
    }

    /// Whether a partition is to be visited again at once.
    pub(super) fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Whether it was told to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// When it must be visited though there are no news.
    pub(super) fn due(&self) -> Option<Duration> {
        self.timers.peek().map(|Reverse((due, _))| *due)
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Sleeps until there is something to do, at most `limit`.
    pub(crate) fn sleep(&mut self, limit: Option<Duration>) {
        self.inbox.sleeps_in_queue(true);
        if !self.has_news() && self.busy.is_empty() {
            let due = self.due().map(|due| due.saturating_sub(self.now()));
            let timeout = match (due, limit) {
                (Some(due), Some(limit)) => Some(due.min(limit)),
                (due, limit) => due.or(limit),
            };
            self.queue.sleep(timeout);
        }
        self.inbox.sleeps_in_queue(false);
    }

    /// After a panic of the engine's own code in a turn: its partitions fail as after an I/O error, and none waits
    /// for a sync, whose end may have been lost.
    pub(crate) fn fail_all(&mut self, error: &Error) {
        let _at_work = AtWork::begin();
        if let Some(writer) = self.slots.iter().flatten().next() {
            writer.partition().env.events.panicked("a writer thread", error.clone());
        }
        for slot in 0..self.slots.len() {
            let Some(Some(writer)) = self.slots.get_mut(slot) else { continue };
            writer.partition().fail(error);
            writer.forget_sync();
            if writer.is_done() {
                self.slots[slot] = None;
            }
        }
        self.syncing = 0;
        while let Some(slot) = self.files.next_waiting() {
            self.busy.push_back(slot);
        }
    }
}

impl std::fmt::Debug for WriterLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriterLoop").field("partitions", &self.slots.len()).finish_non_exhaustive()
    }
}
