//! The queue over threads: one pool for all queues of a disk, a mailbox for each queue.
//!
//! Threads start when there is work for them, as many as syncs are under way, up to the number
//! given; dropping the pool waits for them. A queue dropped before its syncs end hears no more.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};
use crossbeam::queue::SegQueue;

use super::Target;
use crate::disk::{File, Finished, Queue};
use crate::error::thread_not_started;
use crate::lock::{AtomicUsize, Mutex, MutexGuard, Ordering, Parker, Unparker, lock};

/// Threads that sync where io_uring doesn't.
pub(crate) struct SyncThreads {
    max: usize,
    /// Syncs handed in and not ended.
    under_way: Arc<AtomicUsize>,
    /// `None` only while the pool is being dropped.
    jobs: Option<Sender<Job>>,
    taken_from: Receiver<Job>,
    started: Mutex<Vec<JoinHandle<()>>>,
}

struct Job {
    token: u64,
    target: Target,
    to: Arc<Mailbox>,
}

impl SyncThreads {
    /// A pool of up to `max` threads, at least one; none of them runs yet.
    pub(crate) fn new(max: usize) -> SyncThreads {
        let (jobs, taken_from) = unbounded();
        SyncThreads {
            max: max.max(1),
            under_way: Arc::default(),
            jobs: Some(jobs),
            taken_from,
            started: Mutex::default(),
        }
    }

    fn submit(&self, job: Job) {
        let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        if let Err(error) = self.start_for(under_way) {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            job.to.deliver(Finished { token: job.token, result: Err(error) });
        } else if let Some(jobs) = &self.jobs {
            // The pool holds a receiver, so the channel is open.
            let _ = jobs.send(job);
        }
    }

    /// Starts one more thread if the syncs under way want it.
    fn start_for(&self, under_way: usize) -> io::Result<()> {
        let mut started = self.started();
        if started.len() >= under_way.min(self.max) {
            return Ok(());
        }
        let jobs = self.taken_from.clone();
        let counter = Arc::clone(&self.under_way);
        let name = format!("thalweg-sync-{}", started.len());
        let spawned = std::thread::Builder::new().name(name.clone()).spawn(move || run(&jobs, &counter));
        take_in(&mut started, spawned.map_err(|error| thread_not_started(&name, &error)))
    }

    fn started(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        lock(&self.started)
    }
}

/// Adds the thread that was to be started. Going on with fewer is fine, with none it isn't.
fn take_in(started: &mut Vec<JoinHandle<()>>, spawned: io::Result<JoinHandle<()>>) -> io::Result<()> {
    match spawned {
        Ok(handle) => started.push(handle),
        Err(error) if started.is_empty() => return Err(error),
        Err(_) => {}
    }
    Ok(())
}

/// A thread's life: it ends when the pool is dropped and all jobs are done.
fn run(jobs: &Receiver<Job>, under_way: &AtomicUsize) {
    for job in jobs {
        let result = job.target.sync();
        under_way.fetch_sub(1, Ordering::Relaxed);
        job.to.deliver(Finished { token: job.token, result });
    }
}

impl Drop for SyncThreads {
    fn drop(&mut self) {
        self.jobs = None;
        for handle in std::mem::take(&mut *self.started()) {
            let _ = handle.join();
        }
    }
}

impl fmt::Debug for SyncThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncThreads")
            .field("max", &self.max)
            .field("started", &self.started().len())
            .field("under_way", &self.under_way)
            .finish_non_exhaustive()
    }
}

/// Where a queue's answers arrive, and how its owner is woken.
struct Mailbox {
    finished: SegQueue<Finished>,
    unparker: Unparker,
}

impl Mailbox {
    fn deliver(&self, finished: Finished) {
        self.finished.push(finished);
        self.unparker.unpark();
    }
}

impl Wake for Mailbox {
    fn wake(self: Arc<Self>) {
        self.unparker.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.unparker.unpark();
    }
}

pub(super) struct ThreadQueue {
    threads: Arc<SyncThreads>,
    mailbox: Arc<Mailbox>,
    parker: Parker,
}

impl ThreadQueue {
    pub(super) fn new(threads: Arc<SyncThreads>) -> ThreadQueue {
        let parker = Parker::new();
        let mailbox = Mailbox { finished: SegQueue::new(), unparker: parker.unparker().clone() };
        ThreadQueue { threads, mailbox: Arc::new(mailbox), parker }
    }
}

impl Queue for ThreadQueue {
    fn start(&mut self, token: u64, file: &Arc<dyn File>) {
        match Target::of(file) {
            Ok(target) => self.threads.submit(Job { token, target, to: Arc::clone(&self.mailbox) }),
            Err(error) => self.mailbox.deliver(Finished { token, result: Err(error) }),
        }
    }

    fn finished(&mut self, into: &mut Vec<Finished>) {
        into.extend(std::iter::from_fn(|| self.mailbox.finished.pop()));
    }

    fn sleep(&mut self, timeout: Option<Duration>) {
        if !self.mailbox.finished.is_empty() {
            return;
        }
        match timeout {
            Some(timeout) => self.parker.park_timeout(timeout),
            None => self.parker.park(),
        }
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.mailbox))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target::new(tempfile::tempfile().unwrap().into()).unwrap()
    }

    #[test]
    fn threads_start_with_the_work_and_stay_within_their_number() {
        let threads = Arc::new(SyncThreads::new(2));
        assert_eq!(threads.started().len(), 0);
        let mut queue = ThreadQueue::new(Arc::clone(&threads));
        for token in 0..100 {
            threads.submit(Job { token, target: target(), to: Arc::clone(&queue.mailbox) });
        }
        let mut finished = Vec::new();
        while finished.len() < 100 {
            queue.sleep(None);
            queue.finished(&mut finished);
        }
        assert!((1..=2).contains(&threads.started().len()));
    }

    #[test]
    fn a_thread_that_can_not_be_started_is_done_without_unless_it_is_the_first() {
        let refused = || Err(io::ErrorKind::OutOfMemory.into());
        let mut started = Vec::new();
        assert_eq!(take_in(&mut started, refused()).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        take_in(&mut started, std::thread::Builder::new().spawn(|| {})).unwrap();
        take_in(&mut started, refused()).unwrap();
        assert_eq!(started.len(), 1);
        started.remove(0).join().unwrap();
    }

    #[test]
    fn dropping_the_pool_ends_what_was_started() {
        let threads = Arc::new(SyncThreads::new(1));
        let mut queue = ThreadQueue::new(Arc::clone(&threads));
        for token in 0..20 {
            threads.submit(Job { token, target: target(), to: Arc::clone(&queue.mailbox) });
        }
        let ThreadQueue { mailbox, .. } = &queue;
        let mailbox = Arc::clone(mailbox);
        drop(std::mem::replace(&mut queue.threads, Arc::new(SyncThreads::new(1))));
        drop(threads);
        assert_eq!(mailbox.finished.len(), 20);
    }
}
