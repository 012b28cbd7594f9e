//! What does the work while something waits: the writer threads, or, in an engine without threads, the waiting
//! thread or task itself.
//!
//! A waiting thread works, sleeps in the writer's queue, or parks while another thread works. A waiting task takes a
//! few steps in each poll and never sleeps: while the disk works it has itself polled again, and when there is
//! nothing to do it parks. News for the writer, and a worker that leaves work behind, wake every parked task: one
//! alone may never be polled again.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::inbox::{Inbox, TaskPlace};
use super::{Env, WriterLoop};
use crate::clock::Clock;
use crate::lock::{AtomicBool, Mutex, OnceLock, Ordering, Parker, Unparker, fence, lock, thread_local, try_lock};

/// The most steps of the work that one poll of a task takes.
const STEPS_A_POLL: usize = 8;

/// How often a waiting thread does the background work that is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) enum Drive {
    /// Threads work; who waits parks.
    Threads,
    /// Whoever waits does the next step of all the work there is.
    Inline(Box<Inline>),
}

/// The work of an engine without threads. One of those who wait does it; the others park.
pub(crate) struct Inline {
    writers: Mutex<WriterLoop>,
    /// Ends the sleep of the one who works.
    worker: Waker,
    /// Where news come in and tasks park.
    inbox: Arc<Inbox>,
    /// What the last step left undone: something to write, or a sync under way.
    unfinished: AtomicBool,
    /// Who would work if nobody did.
    queued: Mutex<Vec<Arc<Waiter>>>,
    background: OnceLock<Box<dyn Fn(bool) + Send + Sync>>,
}

/// Somebody who waits: woken where it parks, and where it sleeps while it works.
struct Waiter {
    woken: AtomicBool,
    sleeps: AtomicBool,
    unparker: Unparker,
    worker: Waker,
}

impl Wake for Waiter {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.unparker.unpark();
        if self.sleeps.load(Ordering::SeqCst) {
            self.worker.wake_by_ref();
        }
    }
}

impl Waiter {
    /// Sleeps in the queue of who works, unless it was woken.
    fn sleep(&self, writers: &mut WriterLoop, limit: Option<Duration>) {
        self.sleeps.store(true, Ordering::SeqCst);
        if !self.woken.load(Ordering::SeqCst) {
            writers.sleep(Some(limit.map_or(LOOK_EVERY, |limit| limit.min(LOOK_EVERY))));
        }
        self.sleeps.store(false, Ordering::SeqCst);
    }
}

impl Inline {
    pub(crate) fn new(writers: WriterLoop) -> Inline {
        let (worker, inbox) = (writers.waker(), writers.inbox.clone());
        let (queued, background) = (Mutex::default(), OnceLock::new());
        let unfinished = AtomicBool::new(false);
        Inline { writers: Mutex::new(writers), worker, inbox, unfinished, queued, background }
    }

    /// What the background threads would do, once round; it is told whether the writers had something to do.
    pub(crate) fn set_background(&self, background: Box<dyn Fn(bool) + Send + Sync>) {
        let _ = self.background.set(background);
    }

    /// One round of everything, if nobody else is at it; `idle` is what to do if there was nothing to
    /// do. Whether there was; `None` if somebody else works.
    fn step(&self, idle: impl FnOnce(&mut WriterLoop)) -> Option<bool> {
        let worked = {
            let mut writers = try_lock(&self.writers)?;
            let worked = writers.turn();
            if !worked {
                idle(&mut writers);
            }
            self.unfinished.store(writers.is_unfinished(), Ordering::SeqCst);
            worked
        };
        if let Some(background) = self.background.get() {
            background(worked);
        }
        Some(worked)
    }

    /// Waits until somebody wakes this waiter, its future or who worked until now; not if nobody works.
    fn park(&self, waiter: &Arc<Waiter>, parker: &Parker, limit: Option<Duration>) {
        lock(&self.queued).push(waiter.clone());
        // Whoever stops working looks at the queue after that: one of the two is seen.
        if self.step(|_| {}).is_none() && !waiter.woken.load(Ordering::SeqCst) {
            match limit {
                Some(limit) => parker.park_timeout(limit),
                None => parker.park(),
            }
        }
        lock(&self.queued).retain(|queued| !Arc::ptr_eq(queued, waiter));
    }

    #[cfg(all(test, feature = "sim"))]
    pub(crate) fn parked_tasks(&self) -> usize {
        self.inbox.parked_tasks()
    }

    /// Who worked works no longer: the next one may. Tasks are woken only if something is left to do: each would
    /// wake the others in turn.
    fn hand_over(&self) {
        if let Some(next) = lock(&self.queued).first() {
            next.unparker.unpark();
        }
        fence(Ordering::SeqCst);
        if self.unfinished.load(Ordering::SeqCst) || self.inbox.has_news() {
            self.inbox.call_tasks();
        }
    }

    /// One poll by a task: a few steps of the work, and no sleep.
    fn poll<F: Future + Unpin>(
        &self,
        future: &mut F,
        place: &mut TaskPlace,
        context: &mut Context<'_>,
    ) -> Poll<F::Output> {
        let mut parked = false;
        for _ in 0..STEPS_A_POLL {
            if let Poll::Ready(output) = Pin::new(&mut *future).poll(context) {
                self.hand_over();
                return Poll::Ready(output);
            }
            match self.step(|writers| writers.sleep(Some(Duration::ZERO))) {
                Some(true) => parked = false,
                Some(false) if self.unfinished.load(Ordering::SeqCst) => break,
                // Once more after the place is taken: news may have come before it was.
                Some(false) | None if !parked => {
                    place.park(&self.inbox, context.waker());
                    parked = true;
                }
                Some(false) | None => {
                    self.hand_over();
                    return Poll::Pending;
                }
            }
        }
        self.hand_over();
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Wakes a parked thread.
pub(crate) struct UnparkWaker(pub(crate) Unparker);

impl Wake for UnparkWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// A parker and its waker, made once a thread.
fn parker() -> (Parker, Waker) {
    let parker = Parker::new();
    let waker = Waker::from(Arc::new(UnparkWaker(parker.unparker().clone())));
    (parker, waker)
}

thread_local! {
    static PARKER: RefCell<Option<(Parker, Waker)>> = const { RefCell::new(None) };
}

impl Drive {
    /// Waits for a future, doing the work if nobody else does; `None` if `timeout` passes first.
    pub(crate) fn wait<F: Future>(&self, future: F, timeout: Option<(Duration, &dyn Clock)>) -> Option<F::Output> {
        let mut future = pin!(future);
        // A callback that waits while this thread waits finds the place empty and makes its own.
        let (parker, waker) = PARKER.with(|cell| cell.borrow_mut().take()).unwrap_or_else(parker);
        let deadline = timeout.map(|(timeout, clock)| clock.monotonic().saturating_add(timeout));
        let left = || match (deadline, timeout) {
            (Some(deadline), Some((_, clock))) => Some(deadline.saturating_sub(clock.monotonic())),
            _ => None,
        };
        let output = match self {
            Drive::Threads => {
                let mut context = Context::from_waker(&waker);
                loop {
                    if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                        break Some(output);
                    }
                    match left() {
                        Some(Duration::ZERO) => break None,
                        Some(left) => parker.park_timeout(left),
                        None => parker.park(),
                    }
                }
            }
            Drive::Inline(inline) => {
                let output = inline.wait(future, &parker, timeout.map(|(_, clock)| clock), left);
                inline.hand_over();
                output
            }
        };
        PARKER.with(|cell| *cell.borrow_mut() = Some((parker, waker)));
        output
    }

    /// Polls a future for a task, and does some of the work if nobody else does. `place`: where the task parks,
    /// kept from poll to poll.
    pub(crate) fn poll<F: Future + Unpin>(
        &self,
        future: &mut F,
        place: &mut TaskPlace,
        context: &mut Context<'_>,
    ) -> Poll<F::Output> {
        match self {
            Drive::Threads => Pin::new(future).poll(context),
            Drive::Inline(inline) => inline.poll(future, place, context),
        }
    }

    /// Does the next step of the work, if that is for callers to do; never sleeps long.
    pub(crate) fn nudge(&self) {
        if let Drive::Inline(inline) = self
            && inline.step(|writers| writers.sleep(Some(Duration::ZERO))).is_some()
        {
            inline.hand_over();
        }
    }
}

impl Inline {
    fn wait<F: Future>(
        &self,
        mut future: Pin<&mut F>,
        parker: &Parker,
        clock: Option<&dyn Clock>,
        left: impl Fn() -> Option<Duration>,
    ) -> Option<F::Output> {
        let waiter = Arc::new(Waiter {
            woken: AtomicBool::new(false),
            sleeps: AtomicBool::new(false),
            unparker: parker.unparker().clone(),
            worker: self.worker.clone(),
        });
        let waker = Waker::from(waiter.clone());
        let mut context = Context::from_waker(&waker);
        loop {
            waiter.woken.store(false, Ordering::SeqCst);
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Some(output);
            }
            let limit = left();
            if limit == Some(Duration::ZERO) {
                return None;
            }
            let before = clock.map(Clock::monotonic);
            let worked = self.step(|writers| waiter.sleep(writers, limit)).unwrap_or_else(|| {
                self.park(&waiter, parker, limit);
                waiter.woken.load(Ordering::SeqCst)
            });
            // A simulated clock stands still while nothing happens: the time counts as passed.
            let stands_still = before.is_some() && before == clock.map(Clock::monotonic);
            if !worked && stands_still && !waiter.woken.load(Ordering::SeqCst) {
                return future_once(future.as_mut(), &mut context);
            }
        }
    }
}

/// A future for a task, which does some of the engine's work in each poll if no thread does.
pub(crate) struct Driven<F> {
    env: Arc<Env>,
    future: F,
    place: TaskPlace,
}

impl<F> Driven<F> {
    pub(crate) fn new(env: &Arc<Env>, future: F) -> Driven<F> {
        Driven { env: env.clone(), future, place: TaskPlace::default() }
    }
}

impl<F> Drop for Driven<F> {
    fn drop(&mut self) {
        self.place.forget_if_forked(self.env.opener);
    }
}

impl<F: Future + Unpin> Future for Driven<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Driven { env, future, place } = &mut *self;
        env.drive.poll(future, place, context)
    }
}

/// One last look at a future whose time is over.
fn future_once<F: Future>(future: Pin<&mut F>, context: &mut Context<'_>) -> Option<F::Output> {
    match future.poll(context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

impl std::fmt::Debug for Drive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Drive::Threads => "Threads",
            Drive::Inline(_) => "Inline",
        })
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests;
