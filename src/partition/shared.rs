//! Work that has a thread of its own, and that others may do while that thread sleeps.
//!
//! One at most waits for the work; others who find it taken go their way. Who leaves some of it undone calls
//! the thread. What there is to do is known outside, as *news*: told before anybody is called.
//!
//! While one who did the work comes back for more the thread naps, so that news don't wake it. Who waits for
//! news rouses it.

use crate::lock::{AtomicBool, Mutex, MutexGuard, Ordering, fence, lock, try_lock};

pub(crate) struct Shared<W> {
    work: Mutex<W>,
    /// Its thread sleeps, or is about to.
    asleep: AtomicBool,
    /// There is something for the thread to do that is no news.
    left: AtomicBool,
    /// Somebody waits for the work to be free.
    wanted: AtomicBool,
    /// Another did all there was, and may come back.
    helped: AtomicBool,
    /// Its thread naps, or is about to.
    napping: AtomicBool,
}

impl<W> Shared<W> {
    pub(crate) fn new(work: W) -> Shared<W> {
        Shared {
            work: Mutex::new(work),
            asleep: AtomicBool::new(false),
            left: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            helped: AtomicBool::new(false),
            napping: AtomicBool::new(false),
        }
    }

    /// Gives the thread its work, when it begins.
    pub(crate) fn put(&self, work: W) {
        *lock(&self.work) = work;
    }

    /// The work, if nobody is at it.
    pub(crate) fn take(&self) -> Option<MutexGuard<'_, W>> {
        try_lock(&self.work)
    }

    /// The work, once whoever is at it lets go; `None` if somebody waits for that already.
    pub(crate) fn take_in_turn(&self) -> Option<MutexGuard<'_, W>> {
        if let Some(work) = self.take() {
            return Some(work);
        }
        if self.wanted.swap(true, Ordering::SeqCst) {
            return None;
        }
        let work = lock(&self.work);
        self.wanted.store(false, Ordering::SeqCst);
        Some(work)
    }

    /// Whether somebody waits for the work to be free: its thread is to let go of it soon.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Said by one who isn't its thread, with the work in hand: he did it, and may come back for more.
    pub(crate) fn helped(&self) {
        self.helped.store(true, Ordering::SeqCst);
    }

    /// Ends what [`take`](Shared::take) began, for one who isn't its thread; with `left` there is more to do.
    /// Whether to wake the thread.
    pub(crate) fn give_back(&self, work: MutexGuard<'_, W>, left: bool, news: impl FnOnce() -> bool) -> bool {
        if left {
            self.leave();
        }
        drop(work);
        (self.is_left() || news()) && (self.call() || self.rouse())
    }

    /// For its thread: `nap` passes the time, if somebody wants the work or has helped since this was called
    /// last. Whether it did.
    pub(crate) fn nap(&self, nap: impl FnOnce()) -> bool {
        // Before the look at what `rouse` takes back: one of the two sees the other.
        self.napping.swap(true, Ordering::SeqCst);
        let helped = self.helped.swap(false, Ordering::SeqCst);
        let naps = helped || self.is_wanted();
        if naps {
            nap();
        }
        self.napping.store(false, Ordering::SeqCst);
        naps
    }

    #[cfg(test)]
    pub(crate) fn is_napping(&self) -> bool {
        self.napping.load(Ordering::SeqCst)
    }

    /// There is something that nobody else will do: no nap. Whether to wake the thread from one.
    pub(crate) fn rouse(&self) -> bool {
        if self.helped.load(Ordering::SeqCst) {
            self.helped.swap(false, Ordering::SeqCst);
        }
        self.napping.load(Ordering::SeqCst) && self.napping.swap(false, Ordering::SeqCst)
    }

    /// There is something to do: whether its thread sleeps, and is to be woken by the one who asks. What it
    /// looks at lies behind a fence.
    pub(crate) fn call(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst)
    }

    /// For its thread: whether it may sleep until it is called. Not if there is something to do, unless
    /// somebody is at it: he calls if he leaves some.
    pub(crate) fn may_sleep(&self, news: impl FnOnce() -> bool) -> bool {
        // Not a store: the checker takes one for unordered with a call that came too early.
        self.asleep.swap(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let may = !(self.is_left() || news()) || self.take().is_none();
        if !may {
            self.awake();
        }
        may
    }

    /// Its thread no longer sleeps.
    pub(crate) fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Has the thread look at the work.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_left(&self) -> bool {
        self.left.load(Ordering::SeqCst)
    }

    /// Its thread has taken the work: nothing is left for it.
    pub(crate) fn look(&self) {
        self.left.store(false, Ordering::SeqCst);
    }
}
