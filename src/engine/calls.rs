//! Threads of the engine's own for what blocks: calls that a task awaits, such as a sync of the offset log.
//!
//! A thread starts when there is a call and no idle thread, up to [`MOST_THREADS`]; all end with the engine. A call is
//! carried out once it was begun, whether or not its future is still there.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::error::Result;
use crate::lock::thread::{self, JoinHandle};
use crate::lock::{Mutex, Parker, Unparker, lock};
use crate::opener::Opener;
use crate::panics::{caught, wake_each};
use crate::partition::FnFuture;

/// How many calls may block at the same time. Further calls wait for one of them to end.
const MOST_THREADS: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

/// See the module.
pub(crate) struct Calls {
    state: Mutex<State>,
    opener: Opener,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: Vec<Unparker>,
    threads: Vec<JoinHandle<()>>,
    /// Without threads: an engine that has none, or is closed. A call is made by whoever polls it.
    by_poller: bool,
}

/// What a call returned, and what waits for it.
struct Answer<R> {
    state: Mutex<(Option<Result<R>>, Option<Waker>)>,
}

impl<R> Answer<R> {
    fn give(&self, result: Result<R>) {
        let waker = {
            let mut state = lock(&self.state);
            state.0 = Some(result);
            state.1.take()
        };
        wake_each(waker);
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<R>> {
        let waker = context.waker().clone();
        let (result, replaced) = {
            let mut state = lock(&self.state);
            match state.0.take() {
                Some(result) => (Some(result), state.1.take()),
                None => (None, state.1.replace(waker)),
            }
        };
        drop(replaced);
        result.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Calls {
    /// With `by_poller` for an engine without threads: who polls makes the call.
    pub(crate) fn new(by_poller: bool) -> Calls {
        Calls { state: Mutex::new(State { by_poller, ..State::default() }), opener: Opener::this() }
    }

    /// Makes a call that blocks. It begins with the first poll.
    pub(crate) fn make<R: Send + 'static, F: FnOnce() -> Result<R> + Send + 'static>(
        self: &Arc<Calls>,
        call: F,
    ) -> impl Future<Output = Result<R>> + Send + Unpin + use<R, F> {
        let (calls, mut call) = (self.clone(), Some(Box::new(call)));
        let answer = Arc::new(Answer { state: Mutex::new((None, None)) });
        FnFuture(move |context: &mut Context<'_>| {
            if let Err(forked) = calls.opener.check() {
                return Poll::Ready(Err(forked));
            }
            if let Some(call) = call.take() {
                let answer = answer.clone();
                // What the call holds is dropped before its answer comes: it may be the last handle on the engine.
                calls.hand_in(Box::new(move || answer.give(caught(call).unwrap_or_else(Err))));
            }
            answer.poll(context)
        })
    }

    fn hand_in(self: &Arc<Calls>, job: Job) {
        let mut state = lock(&self.state);
        if state.by_poller {
            drop(state);
            return job();
        }
        state.jobs.push_back(job);
        if let Some(idle) = state.idle.pop() {
            drop(state);
            return idle.unpark();
        }
        if state.threads.len() < MOST_THREADS {
            let calls = self.clone();
            let name = format!("thalweg-calls-{}", state.threads.len());
            match thread::Builder::new().name(name).spawn(move || calls.work()) {
                Ok(thread) => state.threads.push(thread),
                // If no thread can be started, the poll itself blocks.
                Err(_) if state.threads.is_empty() => {
                    let job = state.jobs.pop_back();
                    drop(state);
                    if let Some(job) = job {
                        job();
                    }
                }
                Err(_) => {}
            }
        }
    }

    /// A thread's life.
    fn work(&self) {
        let parker = Parker::new();
        loop {
            let job = {
                let mut state = lock(&self.state);
                match state.jobs.pop_front() {
                    Some(job) => Some(job),
                    None if state.by_poller => return,
                    None => {
                        state.idle.push(parker.unparker().clone());
                        None
                    }
                }
            };
            match job {
                Some(job) => job(),
                None => parker.park(),
            }
        }
    }

    /// Ends the threads after what they were given. Called without a lock that a call may wait for.
    pub(crate) fn stop(&self) {
        let (idle, threads) = {
            let mut state = lock(&self.state);
            state.by_poller = true;
            (std::mem::take(&mut state.idle), std::mem::take(&mut state.threads))
        };
        idle.iter().for_each(Unparker::unpark);
        let this = thread::current().id();
        for thread in threads {
            // One of them may be the caller: closing is a call, too.
            if thread.thread().id() != this {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a call blocks none but the engine's own threads, is carried out once begun, and answers.

    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::sync::mpsc::{channel, sync_channel};
    use std::time::Duration;

    use super::*;
    use crate::error::{Error, ErrorKind};

    /// Longer than any of these takes.
    const FOREVER: Duration = Duration::from_secs(60);

    fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Parks until the future is done.
    fn wait<F: Future>(future: F) -> F::Output {
        crate::partition::Drive::Threads.wait(future, None).unwrap()
    }

    #[test]
    fn calls_that_block_hold_up_no_poll_and_all_answer() {
        let calls = Arc::new(Calls::new(false));
        let (release, released) = sync_channel::<()>(0);
        let released = Arc::new(Mutex::new(released));
        let mut futures: Vec<_> = (0..3 * MOST_THREADS)
            .map(|number| {
                let released = released.clone();
                Box::pin(calls.make(move || {
                    lock(&released).recv_timeout(FOREVER).unwrap();
                    Ok(number)
                }))
            })
            .collect();
        assert!(futures.iter_mut().all(|future| poll(future.as_mut()).is_pending()));
        assert_eq!(lock(&calls.state).threads.len(), MOST_THREADS);
        futures.iter().for_each(|_| release.send(()).unwrap());
        for (number, future) in futures.into_iter().enumerate() {
            assert_eq!(wait(future), Ok(number));
        }
        calls.stop();
    }

    #[test]
    fn a_call_is_carried_out_though_its_future_is_dropped_and_not_before_it_is_polled() {
        let calls = Arc::new(Calls::new(false));
        let (done, is_done) = channel();
        let call = |number: u32| {
            let done = done.clone();
            calls.make(move || done.send(number).map_err(|_| Error::new(ErrorKind::Failed)))
        };
        drop(call(1));
        {
            let mut begun = pin!(call(2));
            let _ = poll(begun.as_mut());
        }
        assert_eq!(is_done.recv_timeout(FOREVER), Ok(2));
        calls.stop();
        assert!(is_done.try_recv().is_err());
        // Without threads whoever polls makes the call.
        assert_eq!(poll(pin!(call(3))), Poll::Ready(Ok(())));
        assert_eq!(is_done.try_recv(), Ok(3));
    }

    #[test]
    fn a_call_that_panics_answers_with_an_error_and_the_next_is_made() {
        let calls = Arc::new(Calls::new(false));
        let error = wait(calls.make::<(), _>(|| panic!("in a call"))).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Panicked { message: "in a call".into() });
        // It answers before it is idle.
        while lock(&calls.state).idle.is_empty() {
            thread::yield_now();
        }
        assert_eq!(wait(calls.make(|| Ok(5))), Ok(5));
        assert_eq!(lock(&calls.state).threads.len(), 1, "it went on");
        calls.stop();
    }

    #[test]
    fn what_a_call_holds_is_gone_when_it_answers() {
        let calls = Arc::new(Calls::new(false));
        let held = Arc::new(());
        for _ in 0..200 {
            let holds = held.clone();
            wait(calls.make(move || {
                let _ = &holds;
                Ok(())
            }))
            .unwrap();
            assert_eq!(Arc::strong_count(&held), 1);
        }
        calls.stop();
    }
}
