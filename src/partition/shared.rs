//! Work that has a thread of its own, and that others may do while that thread sleeps.
//!
//! Nobody waits for the work: who finds it taken goes his way, and who leaves some of it undone calls
//! the thread. What there is to do is known outside, as *news*: told before anybody is called.

use crate::lock::{AtomicBool, Mutex, MutexGuard, Ordering, fence, lock, try_lock};

pub(crate) struct Shared<W> {
    work: Mutex<W>,
    /// Its thread sleeps, or is about to.
    asleep: AtomicBool,
    /// There is something for the thread to do that is no news.
    left: AtomicBool,
}

impl<W> Shared<W> {
    pub(crate) fn new(work: W) -> Shared<W> {
        Shared { work: Mutex::new(work), asleep: AtomicBool::new(false), left: AtomicBool::new(false) }
    }

    /// Gives the thread its work, when it begins.
    pub(crate) fn put(&self, work: W) {
        *lock(&self.work) = work;
    }

    /// The work, if nobody is at it.
    pub(crate) fn take(&self) -> Option<MutexGuard<'_, W>> {
        try_lock(&self.work)
    }

    /// Ends what [`take`](Shared::take) began, for one who isn't its thread; with `left` there is more to do.
    /// Whether to wake the thread.
    pub(crate) fn give_back(&self, work: MutexGuard<'_, W>, left: bool, news: impl FnOnce() -> bool) -> bool {
        if left {
            self.leave();
        }
        drop(work);
        (self.is_left() || news()) && self.call()
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
