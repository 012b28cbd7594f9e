//! Who does the work while somebody waits: the writer threads, or the one who waits.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crossbeam::sync::{Parker, Unparker};

use super::WriterLoop;
use crate::clock::Clock;
use crate::lock::lock;

/// See the module.
pub(crate) enum Drive {
    /// Threads work; who waits parks.
    Threads,
    /// Whoever waits does the next step of all the work there is.
    Inline(Box<Inline>),
}

/// The work of an engine without threads.
pub(crate) struct Inline {
    writers: Mutex<WriterLoop>,
    background: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Inline {
    pub(crate) fn new(writers: WriterLoop) -> Inline {
        Inline { writers: Mutex::new(writers), background: OnceLock::new() }
    }

    /// What the background threads would do, once round.
    pub(crate) fn set_background(&self, background: Box<dyn Fn() + Send + Sync>) {
        let _ = self.background.set(background);
    }

    /// One round of everything; sleeps (in the disk's queue) at most `limit` if there was nothing to
    /// do. Whether there was.
    fn step(&self, limit: Option<Duration>) -> bool {
        let worked = {
            let mut writers = lock(&self.writers);
            let worked = writers.turn();
            if !worked {
                writers.sleep(limit);
            }
            worked
        };
        if worked && let Some(background) = self.background.get() {
            background();
        }
        worked
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
        let mut context = Context::from_waker(&waker);
        let output = loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                break Some(output);
            }
            let left = match (deadline, timeout) {
                (Some(deadline), Some((_, clock))) => Some(deadline.saturating_sub(clock.monotonic())),
                _ => None,
            };
            if left == Some(Duration::ZERO) {
                break None;
            }
            match (self, left) {
                (Drive::Threads, None) => parker.park(),
                (Drive::Threads, Some(left)) => parker.park_timeout(left),
                (Drive::Inline(inline), left) => {
                    let before = timeout.map(|(_, clock)| clock.monotonic());
                    let worked = inline.step(left);
                    // A simulated clock stands still while nothing happens: the time counts as passed.
                    let stands_still = before.is_some() && before == timeout.map(|(_, clock)| clock.monotonic());
                    if !worked && stands_still {
                        break future_once(future.as_mut(), &mut context);
                    }
                }
            }
        };
        PARKER.with(|cell| *cell.borrow_mut() = Some((parker, waker)));
        output
    }

    /// Does the next step of the work, if that is for callers to do; never sleeps long.
    pub(crate) fn nudge(&self) {
        if let Drive::Inline(inline) = self {
            inline.step(Some(Duration::ZERO));
        }
    }
}

/// One last look at a future whose time is over.
fn future_once<F: Future>(future: std::pin::Pin<&mut F>, context: &mut Context<'_>) -> Option<F::Output> {
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
