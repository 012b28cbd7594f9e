//! A writer that publishes and those who wait, over the partition's progress (`partition/progress.rs`). Who
//! waits takes the steps of `Partition::acknowledged`, a failure those of `Partition::fail`.

use std::sync::Arc;
use std::task::{Wake, Waker};

use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use loom::thread;

use crate::config::Acks;
use crate::error::{Error, ErrorKind};
use crate::explore;
use crate::progress::Progress;

/// Whether somebody was woken.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

fn failed() -> Error {
    Error::new(ErrorKind::Failed)
}

/// The outcome of what ends at `end_offset`, as the partition says it.
fn outcome(progress: &Progress, level: Acks, end_offset: u64, run: u32) -> Option<Result<(), Error>> {
    if let Some(outcome) = progress.outcome(level, end_offset, run, None) {
        return Some(outcome);
    }
    let stopped = progress.is_failed().then(failed)?;
    progress.outcome(level, end_offset, run, Some(stopped))
}

/// One who waits: polled once. What he was told; else he sleeps.
struct Waiting {
    bell: Arc<Bell>,
    told: Option<Result<(), Error>>,
}

fn wait(progress: &Progress, level: Acks, end_offset: u64, run: u32) -> Waiting {
    let (bell, mut id) = (Arc::new(Bell::default()), None);
    let mut told = outcome(progress, level, end_offset, run);
    if told.is_none() {
        progress.register(&mut id, level, end_offset, &Waker::from(bell.clone()));
        told = outcome(progress, level, end_offset, run);
    }
    if let (Some(id), Some(_)) = (id, &told) {
        progress.forget(id);
    }
    Waiting { bell, told }
}

impl Waiting {
    /// What he was told in the end, when all threads have ended.
    fn end(self, progress: &Progress, level: Acks, end_offset: u64, run: u32) -> Result<(), Error> {
        self.told.unwrap_or_else(|| {
            assert!(self.bell.0.load(Ordering::Acquire), "asleep, and nobody wakes him");
            outcome(progress, level, end_offset, run).expect("woken, and there is nothing to be told")
        })
    }
}

/// A partition with a file: how far it is written, and how far synced.
struct Log {
    progress: Progress,
    in_file: AtomicU64,
    on_drive: AtomicU64,
}

impl Log {
    fn new() -> Arc<Log> {
        Arc::new(Log { progress: Progress::new(0, 0, 0), in_file: AtomicU64::new(0), on_drive: AtomicU64::new(0) })
    }

    fn write(&self, end_offset: u64) {
        self.in_file.store(end_offset, Ordering::Relaxed);
        self.progress.set_written(end_offset);
    }

    fn sync(&self, end_offset: u64) {
        self.on_drive.store(end_offset, Ordering::Relaxed);
        self.progress.set_durable(end_offset);
    }

    /// Waits once, and looks whether what he is told is so.
    fn wait(&self, level: Acks, end_offset: u64) -> Waiting {
        let waiting = wait(&self.progress, level, end_offset, 0);
        if let Some(Ok(())) = waiting.told {
            let place = if level == Acks::Synced { &self.on_drive } else { &self.in_file };
            assert!(place.load(Ordering::Relaxed) >= end_offset, "acknowledged before it is {level}");
        }
        waiting
    }
}

#[test]
fn who_waits_is_woken_when_it_is_so_and_not_told_before() {
    for level in [Acks::Written, Acks::Synced] {
        explore(move || {
            let log = Log::new();
            let writer = log.clone();
            let writer = thread::spawn(move || {
                writer.write(1);
                writer.sync(1);
            });
            let waiting = log.wait(level, 1);
            writer.join().unwrap();
            assert_eq!(waiting.end(&log.progress, level, 1, 0), Ok(()));
        });
    }
}

#[test]
fn of_two_who_wait_each_is_woken_for_his_own() {
    explore(|| {
        let log = Log::new();
        let waiters = [(Acks::Written, 2), (Acks::Synced, 1)].map(|(level, end_offset)| {
            let log = log.clone();
            (level, end_offset, thread::spawn(move || log.wait(level, end_offset)))
        });
        log.write(1);
        log.write(2);
        log.sync(1);
        for (level, end_offset, waiter) in waiters {
            let waiting = waiter.join().unwrap();
            assert_eq!(waiting.end(&log.progress, level, end_offset, 0), Ok(()));
        }
        assert_eq!(log.progress.durable(), 1);
    });
}

#[test]
fn who_waits_for_what_fails_is_told_so_and_others_are_not() {
    for (level, end_offset) in [(Acks::Written, 1), (Acks::Written, 2), (Acks::Synced, 1)] {
        explore(move || {
            let log = Log::new();
            let writer = log.clone();
            let writer = thread::spawn(move || {
                writer.write(1);
                writer.progress.set_failed();
                writer.progress.end_run(failed(), 2);
                writer.progress.wake_all();
            });
            let waiting = log.wait(level, end_offset);
            if log.progress.is_failed() {
                assert_eq!(log.progress.readable(false), 0, "what is read after the failure is durable");
            }
            writer.join().unwrap();
            let expected = if (level, end_offset) == (Acks::Written, 1) { Ok(()) } else { Err(failed()) };
            assert_eq!(waiting.end(&log.progress, level, end_offset, 0), expected);
        });
    }
}

#[test]
fn the_next_record_of_the_same_offset_does_not_answer_for_a_failed_one() {
    explore(|| {
        let log = Log::new();
        let writer = log.clone();
        let writer = thread::spawn(move || {
            let run = writer.progress.end_run(failed(), 2);
            writer.progress.wake_all();
            writer.write(1);
            run
        });
        let waiting = wait(&log.progress, Acks::Written, 1, 0);
        assert_ne!(waiting.told, Some(Ok(())), "acknowledged, and never written");
        let run = writer.join().unwrap();
        assert_eq!(waiting.end(&log.progress, Acks::Written, 1, 0), Err(failed()));
        assert_eq!(outcome(&log.progress, Acks::Written, 1, run), Some(Ok(())));
    });
}

#[test]
fn log_start_durable_and_written_stay_in_this_order() {
    explore(|| {
        let log = Log::new();
        let writer = log.clone();
        let writer = thread::spawn(move || {
            writer.write(1);
            writer.sync(1);
        });
        let upkeep = log.clone();
        let upkeep = thread::spawn(move || upkeep.progress.raise_log_start(upkeep.progress.durable()));
        let log_start = log.progress.log_start();
        let durable = log.progress.durable();
        let written = log.progress.written();
        assert!(log_start <= durable && durable <= written, "{log_start}, {durable}, {written}");
        writer.join().unwrap();
        upkeep.join().unwrap();
    });
}

#[test]
fn a_failure_is_told_once_to_one_who_asks_for_it() {
    explore(|| {
        let log = Log::new();
        let told_run = Arc::new(AtomicU32::new(0));
        // As `Partition::take_failure`.
        let take_failure = |log: &Log, told_run: &AtomicU32| {
            let run = log.progress.run();
            let since = told_run.fetch_max(run, Ordering::SeqCst);
            log.progress.failure_between(since, run)
        };
        let writer = log.clone();
        let writer = thread::spawn(move || writer.progress.end_run(failed(), 2));
        let asks = (log.clone(), told_run.clone());
        let asks = thread::spawn(move || take_failure(&asks.0, &asks.1));
        let first = [take_failure(&log, &told_run), asks.join().unwrap()];
        writer.join().unwrap();
        let told = first.into_iter().flatten().chain(take_failure(&log, &told_run)).count();
        assert_eq!(told, 1, "a failure is lost, or told twice");
    });
}
