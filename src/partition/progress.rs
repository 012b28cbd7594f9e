//! How far a partition got: log start, written and durable offset, and who waits for them.
//!
//! `log start <= durable <= written`; each only rises. A receipt is (offset, run): when a write
//! fails numbering goes back to the written offset and a new run begins, so that the record which
//! takes a failed one's offset doesn't answer for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crossbeam::utils::CachePadded;

use crate::config::Acks;
use crate::error::Error;
use crate::lock::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Mutex, Ordering, fence, lock};
use crate::panics::wake_each;

/// After so many wake-ups for one alone, the next to wait counts as the only one.
const ALONE_AFTER: usize = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Progress {
    written: CachePadded<AtomicU64>,
    durable: CachePadded<AtomicU64>,
    log_start: AtomicU64,
    run: AtomicU32,
    failed: AtomicBool,
    waiting: AtomicUsize,
    /// How often in a row a wake-up was for one alone.
    woken_alone: AtomicUsize,
    waiters: Mutex<Waiters>,
    ended_runs: Mutex<Vec<EndedRuns>>,
}

/// Runs that ended at one offset, for one reason.
#[derive(Debug)]
struct EndedRuns {
    last_run: u32,
    end_offset: u64,
    /// The highest offset that any of them had given out (exclusive).
    sent_end: u64,
    error: Error,
}

#[derive(Debug, Default)]
struct Waiters {
    next_id: u64,
    list: Vec<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    level: Acks,
    end_offset: u64,
    waker: Waker,
}

impl Progress {
    pub(crate) fn new(log_start: u64, durable: u64, written: u64) -> Progress {
        Progress {
            written: CachePadded::new(AtomicU64::new(written)),
            durable: CachePadded::new(AtomicU64::new(durable)),
            log_start: AtomicU64::new(log_start),
            run: AtomicU32::new(0),
            failed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            woken_alone: AtomicUsize::new(0),
            waiters: Mutex::default(),
            ended_runs: Mutex::default(),
        }
    }

    /// Everything below is in the file.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Everything below survives power loss.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The first offset that is kept.
    pub(crate) fn log_start(&self) -> u64 {
        self.log_start.load(Ordering::Acquire)
    }

    /// Where readers stop: the durable offset once the partition failed, since the kernel itself
    /// may drop what a failed sync covered.
    pub(crate) fn readable(&self, durable_only: bool) -> u64 {
        let failed = self.failed.load(Ordering::Acquire) && !crate::teeth::bites("failed-partition-reads-on");
        if durable_only || failed { self.durable() } else { self.written() }
    }

    /// Publishes bytes that were written.
    pub(crate) fn set_written(&self, end_offset: u64) {
        self.written.store(end_offset, Ordering::Release);
        self.wake();
    }

    /// Publishes what a completed sync covers; how many waited until then.
    pub(crate) fn set_durable(&self, end_offset: u64) -> usize {
        self.durable.store(end_offset, Ordering::Release);
        self.wake()
    }

    /// Raises the log start; it never goes back.
    pub(crate) fn raise_log_start(&self, offset: u64) {
        self.log_start.fetch_max(offset, Ordering::AcqRel);
    }

    /// The current run of numbering.
    pub(crate) fn run(&self) -> u32 {
        self.run.load(Ordering::Acquire)
    }

    /// The failure that ended the newest of the runs from `since` on and below `run`, if there are any.
    pub(crate) fn failure_between(&self, since: u32, run: u32) -> Option<Error> {
        if run <= since {
            return None;
        }
        let ended = lock(&self.ended_runs);
        let newest = ended.iter().rev().find(|runs| runs.last_run < run).or(ended.last());
        newest.map(|runs| runs.error.clone())
    }

    /// Why the record before `end_offset` is not in the log, if one was sent and failed: the newest failure.
    pub(crate) fn failure_of(&self, end_offset: u64) -> Option<Error> {
        let ended = lock(&self.ended_runs);
        let of_it = |runs: &&EndedRuns| runs.end_offset < end_offset && end_offset <= runs.sent_end;
        ended.iter().rev().find(of_it).map(|runs| runs.error.clone())
    }

    /// Ends the current run at the written offset: what was numbered from there on has failed.
    /// Offsets below `sent_end` had been given out. Called with the intake locked.
    pub(crate) fn end_run(&self, error: Error, sent_end: u64) -> u32 {
        let end_offset = self.written();
        let run = self.run.load(Ordering::Relaxed);
        {
            let mut ended = lock(&self.ended_runs);
            match ended.last_mut() {
                Some(last) if last.end_offset == end_offset => {
                    last.last_run = run;
                    last.sent_end = last.sent_end.max(sent_end);
                }
                _ => ended.push(EndedRuns { last_run: run, end_offset, sent_end, error }),
            }
        }
        self.run.store(run + 1, Ordering::Release);
        run + 1
    }

    /// Whether the partition failed.
    pub(crate) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Fails everything that is not durable and will not become so.
    pub(crate) fn set_failed(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// Wakes everybody, for a change that no offset shows (a failure, a close).
    pub(crate) fn wake_all(&self) {
        let woken = std::mem::take(&mut lock(&self.waiters).list);
        self.waiting.store(0, Ordering::Relaxed);
        wake_each(woken.into_iter().map(|waiter| waiter.waker));
    }

    /// Wakes those who need wait no longer; how many waited, they and the others.
    fn wake(&self) -> usize {
        fence(Ordering::SeqCst);
        if self.waiting() == 0 {
            return 0;
        }
        let (written, durable) = (self.written(), self.durable());
        let mut woken = Vec::new();
        {
            let mut waiters = lock(&self.waiters);
            let mut at = 0;
            while let Some(waiter) = waiters.list.get(at) {
                let reached = if waiter.level == Acks::Synced { durable } else { written };
                if waiter.end_offset <= reached {
                    woken.push(waiters.list.swap_remove(at));
                } else {
                    at += 1;
                }
            }
            self.waiting.store(waiters.list.len(), Ordering::Relaxed);
        }
        let crowd = woken.len() + self.waiting();
        match woken.len() {
            0 => {}
            1 => _ = self.woken_alone.fetch_add(1, Ordering::Relaxed),
            _ => self.woken_alone.store(0, Ordering::Relaxed),
        }
        wake_each(woken.into_iter().map(|waiter| waiter.waker));
        crowd
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether one who waits now would be the only one, as it was for some time.
    pub(crate) fn has_lone_waiters(&self) -> bool {
        self.waiting() == 0 && self.woken_alone.load(Ordering::Relaxed) >= ALONE_AFTER
    }

    /// Whether what ends at `end_offset`, numbered in `run`, is acknowledged at `level`: `None` while
    /// that is open.
    pub(crate) fn outcome(
        &self,
        level: Acks,
        end_offset: u64,
        run: u32,
        stopped: Option<Error>,
    ) -> Option<Result<(), Error>> {
        // The order matters: an offset that was reached in a later run is only seen with its run.
        let reached = match level {
            Acks::None => u64::MAX,
            Acks::Written => self.written(),
            Acks::Synced => self.durable(),
        };
        if run != self.run() {
            let ended = lock(&self.ended_runs);
            let first_after = ended.iter().find(|runs| runs.last_run >= run);
            if let Some(runs) = first_after
                && end_offset > runs.end_offset
            {
                return Some(Err(runs.error.clone()));
            }
        }
        if end_offset <= reached {
            return Some(Ok(()));
        }
        stopped.map(Err)
    }

    /// A future that is done when `outcome` is.
    pub(crate) fn register(&self, id: &mut Option<u64>, level: Acks, end_offset: u64, waker: &Waker) {
        // A waker is cloned before the lock and dropped after it: both may run code of the user's.
        let waker = waker.clone();
        let mut waiters = lock(&self.waiters);
        if let Some(known) = *id
            && let Some(waiter) = waiters.list.iter_mut().find(|waiter| waiter.id == known)
        {
            let replaced = std::mem::replace(&mut waiter.waker, waker);
            drop(waiters);
            drop(replaced);
            return;
        }
        let new = waiters.next_id;
        waiters.next_id += 1;
        waiters.list.push(Waiter { id: new, level, end_offset, waker });
        self.waiting.store(waiters.list.len(), Ordering::Relaxed);
        *id = Some(new);
        drop(waiters);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn forget(&self, id: u64) {
        let mut waiters = lock(&self.waiters);
        let at = waiters.list.iter().position(|waiter| waiter.id == id);
        let forgotten = at.map(|at| waiters.list.swap_remove(at));
        self.waiting.store(waiters.list.len(), Ordering::Relaxed);
        drop(waiters);
        drop(forgotten);
    }
}

/// What waits for room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caller {
    /// A blocked thread: it always comes when it is called.
    Thread,
    /// A task: its future may be kept and never be polled again.
    Task,
}

/// First come, first served: threads and tasks that wait for room, oldest first.
///
/// Nothing waits behind a task that was called and hasn't come: it may never come. So a call reaches every task up
/// to the first thread.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    next_ticket: u64,
    waiting: std::collections::VecDeque<Queued>,
}

#[derive(Debug)]
struct Queued {
    ticket: u64,
    waker: Waker,
    caller: Caller,
    called: bool,
}

impl WaitQueue {
    /// Whether the holder of `ticket` (or, without one, a newcomer) may go now.
    pub(crate) fn may_go(&self, ticket: Option<u64>) -> bool {
        let mut before = self.waiting.iter().take_while(|queued| Some(queued.ticket) != ticket);
        before.all(|queued| queued.caller == Caller::Task && queued.called)
    }

    /// Takes a place at the end, or renews the waker of the place held. Returns the waker that was there before, to
    /// be dropped without the lock.
    #[must_use = "a waker is dropped without the lock"]
    pub(crate) fn wait(&mut self, ticket: &mut Option<u64>, waker: Waker, caller: Caller) -> Option<Waker> {
        if let Some(held) = *ticket
            && let Some(queued) = self.waiting.iter_mut().find(|queued| queued.ticket == held)
        {
            queued.called = false;
            return Some(std::mem::replace(&mut queued.waker, waker));
        }
        *ticket = Some(self.next_ticket);
        self.waiting.push_back(Queued { ticket: self.next_ticket, waker, caller, called: false });
        self.next_ticket += 1;
        None
    }

    /// Gives the place up, served or not. Returns its waker, to be dropped without the lock.
    #[must_use = "a waker is dropped without the lock"]
    pub(crate) fn leave(&mut self, ticket: u64) -> Option<Waker> {
        let at = self.waiting.iter().position(|queued| queued.ticket == ticket)?;
        self.waiting.remove(at).map(|queued| queued.waker)
    }

    /// Calls those that may go next: all tasks up to the first thread, and that thread. Returns the wakers of those
    /// that weren't called before, to be woken without the lock.
    #[must_use = "they are woken without the lock"]
    pub(crate) fn call(&mut self) -> Vec<Waker> {
        let first_thread = self.waiting.iter().position(|queued| queued.caller == Caller::Thread);
        self.call_first(first_thread.map_or(self.waiting.len(), |at| at + 1))
    }

    /// Calls everything that waits, after a failure or a change.
    #[must_use = "they are woken without the lock"]
    pub(crate) fn call_all(&mut self) -> Vec<Waker> {
        self.call_first(self.waiting.len())
    }

    #[cfg(all(test, feature = "sim"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn call_first(&mut self, count: usize) -> Vec<Waker> {
        let uncalled = self.waiting.iter_mut().take(count).filter(|queued| !queued.called);
        uncalled
            .map(|queued| {
                queued.called = true;
                queued.waker.clone()
            })
            .collect()
    }
}

/// A future made of a poll function; dropped early it cleans up through `on_drop`.
pub(crate) struct FnFuture<F>(pub(crate) F);

impl<T, F: FnMut(&mut Context<'_>) -> Poll<T> + Unpin> Future for FnFuture<F> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        (self.0)(context)
    }
}
