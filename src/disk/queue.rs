//! How syncs reach the kernel: decided once, when the disk is made, and reported.
//!
//! A queue takes syncs of one writer and is where that writer sleeps: over an io_uring ring, or over
//! a pool of threads where the ring is refused. Both keep each file open until its sync has ended.

mod ring;
mod threads;

use std::io;
use std::sync::Arc;

use super::target::{Began, Target};
use super::{File, Queue};
use crate::config::SyncMode;
use crate::sys::ring::Ring;

use ring::RingQueue;
use threads::{SyncThreads, ThreadQueue};

/// Which driver the queues use, and why not the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct QueueReport {
    /// `io_uring` or `threads`.
    pub(crate) driver: &'static str,
    /// Why io_uring was refused, if it was asked for.
    pub(crate) reason: Option<String>,
}

/// Makes queues of the kind that was decided on.
#[derive(Debug)]
pub(crate) struct Queues {
    ring: bool,
    threads: Arc<SyncThreads>,
    report: QueueReport,
}

impl Queues {
    /// Tries whether a ring can be had.
    ///
    /// # Errors
    ///
    /// If the mode insists on io_uring and the system refuses it; the message says the likely cause.
    pub(crate) fn new(mode: SyncMode, threads_max: usize) -> io::Result<Queues> {
        let (ring, reason) = match mode {
            SyncMode::Threads => (false, None),
            SyncMode::IoUring => Ring::open().map(|_| (true, None)).map_err(insisted)?,
            SyncMode::Auto => match Ring::open() {
                Ok(_) => (true, None),
                Err(refused) => (false, Some(format!("{refused}; syncs go through threads"))),
            },
        };
        let driver = if ring { "io_uring" } else { "threads" };
        let report = QueueReport { driver, reason };
        Ok(Queues { ring, threads: Arc::new(SyncThreads::new(threads_max)), report })
    }

    /// A queue for one writer. Where no further ring can be had (descriptors, locked memory), it
    /// goes through threads.
    pub(crate) fn queue(&self) -> Box<dyn Queue> {
        if self.ring
            && let Ok(ring) = Ring::open()
        {
            return Box::new(RingQueue::new(ring));
        }
        Box::new(ThreadQueue::new(Arc::clone(&self.threads)))
    }

    pub(crate) fn report(&self) -> QueueReport {
        self.report.clone()
    }
}

/// The refusal of a ring that was insisted on, with what to do instead.
fn insisted(refused: io::Error) -> io::Error {
    let text = format!("{refused}; allow it, or let syncs go through threads");
    io::Error::new(refused.kind(), text)
}

impl Target {
    /// The target of a file of the real disk; an error for any other.
    fn of(file: &Arc<dyn File>) -> io::Result<Target> {
        file.as_any().downcast_ref::<super::real::RealFile>().map(|file| file.target().clone()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "this file belongs to another disk than the queue")
        })
    }
}

#[cfg(test)]
mod tests {
    //! One set of checks, run over both drivers.

    use std::time::{Duration, Instant};

    use super::*;
    use crate::disk::{Access, Disk, Finished, RealDisk};

    /// Longer than any of these checks takes: a sleep that lasts this long was not woken.
    const FOREVER: Duration = Duration::from_secs(60);

    /// Runs `check` over each driver that this machine has.
    fn over_both(check: impl Fn(&RealDisk, &mut dyn Queue)) {
        for mode in [SyncMode::Threads, SyncMode::IoUring] {
            match RealDisk::new(mode, 3) {
                Ok(disk) => check(&disk, &mut *disk.queue()),
                Err(refused) => println!("skipped over {mode:?}: {refused}"),
            }
        }
    }

    fn written_file(disk: &RealDisk, dir: &tempfile::TempDir, name: &str) -> Arc<dyn File> {
        let file = disk.create(&dir.path().join(name)).unwrap();
        file.write_at(&[io::IoSlice::new(&[5; 10_000])], 0).unwrap();
        file
    }

    fn wait_for(queue: &mut dyn Queue, count: usize) -> Vec<Finished> {
        let mut finished = Vec::new();
        let began = Instant::now();
        while finished.len() < count {
            assert!(began.elapsed() < FOREVER, "{} of {count} syncs ended", finished.len());
            queue.sleep(Some(FOREVER));
            queue.finished(&mut finished);
        }
        finished.sort_by_key(|finished| finished.token);
        finished
    }

    #[test]
    fn syncs_of_files_and_directories_end_under_their_tokens() {
        over_both(|disk, queue| {
            let dir = tempfile::tempdir().unwrap();
            let files: Vec<_> = (0..20).map(|n| written_file(disk, &dir, &n.to_string())).collect();
            for (token, file) in files.iter().enumerate() {
                queue.start(token as u64, file);
            }
            queue.start(20, &disk.open_dir(dir.path()).unwrap());
            drop(files);
            let finished = wait_for(queue, 21);
            let tokens: Vec<u64> = finished.iter().map(|finished| finished.token).collect();
            assert_eq!(tokens, (0..21).collect::<Vec<_>>());
            assert!(finished.iter().all(|finished| finished.result.is_ok()));
        });
    }

    /// The change shows in the file's times: nothing else changes them here.
    #[cfg(target_os = "linux")]
    #[test]
    fn on_ext4_a_sync_that_needs_the_journal_is_followed_by_a_change_and_no_other() {
        use rustix::fs::{Timespec, Timestamps, fstat, futimens, statfs};
        over_both(|disk, queue| {
            let dir = tempfile::tempdir().unwrap();
            let is_ext4 = statfs(dir.path()).unwrap().f_type as u64 == 0xef53;
            let file = written_file(disk, &dir, "file");
            let path = dir.path().join("file");
            let mut synced_changes = |file: &Arc<dyn File>, path: &std::path::Path| {
                let opened = std::fs::File::open(path).unwrap();
                let then = Timespec { tv_sec: 1_000, tv_nsec: 0 };
                futimens(&opened, &Timestamps { last_access: then, last_modification: then }).unwrap();
                queue.start(1, file);
                assert!(wait_for(queue, 1)[0].result.is_ok());
                fstat(&opened).unwrap().st_mtime != 1_000
            };
            assert_eq!(synced_changes(&file, &path), is_ext4, "new blocks");
            assert!(!synced_changes(&file, &path), "nothing new");
            file.write_at(&[io::IoSlice::new(&[6; 4_096])], 4_096).unwrap();
            assert!(!synced_changes(&file, &path), "in blocks that were written");
            file.write_at(&[io::IoSlice::new(&[6; 4_096])], 8_192).unwrap();
            assert_eq!(synced_changes(&file, &path), is_ext4, "over the end");
            file.give_back(12_288).unwrap();
            assert!(!synced_changes(&file, &path), "there was nothing to give back");
            file.give_back(12_287).unwrap();
            assert_eq!(synced_changes(&file, &path), is_ext4, "there was");
            let directory = disk.open_dir(dir.path()).unwrap();
            assert_eq!(synced_changes(&directory, dir.path()), is_ext4, "a directory");
            assert_eq!(synced_changes(&directory, dir.path()), is_ext4, "once more");
        });
    }

    #[test]
    fn more_syncs_than_the_ring_has_room_for_all_end() {
        over_both(|disk, queue| {
            let dir = tempfile::tempdir().unwrap();
            let file = written_file(disk, &dir, "file");
            for token in 0..1_500 {
                queue.start(token, &file);
            }
            assert_eq!(wait_for(queue, 1_500).len(), 1_500);
        });
    }

    #[test]
    fn a_wake_up_before_the_sleep_is_not_lost_and_ends_one_sleep() {
        over_both(|_, queue| {
            let waker = queue.waker();
            let began = Instant::now();
            for _ in 0..50 {
                waker.wake_by_ref();
                waker.wake_by_ref();
                queue.sleep(Some(FOREVER));
            }
            queue.waker().wake();
            queue.sleep(Some(FOREVER));
            assert!(began.elapsed() < FOREVER);
            // Taking what has finished doesn't take the wake-up, and one that came after a sleep
            // that ended by time counts for the next.
            for _ in 0..50 {
                queue.sleep(Some(Duration::ZERO));
                waker.wake_by_ref();
                queue.finished(&mut Vec::new());
                queue.sleep(Some(FOREVER));
            }
            assert!(began.elapsed() < FOREVER);
        });
    }

    #[test]
    fn a_wake_up_from_another_thread_ends_a_sleep() {
        over_both(|_, queue| {
            let waker = queue.waker();
            let began = Instant::now();
            let (woke, other) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                for () in other {
                    waker.wake_by_ref();
                }
            });
            for _ in 0..200 {
                woke.send(()).unwrap();
                queue.sleep(None);
            }
            drop(woke);
            thread.join().unwrap();
            assert!(began.elapsed() < FOREVER);
        });
    }

    #[test]
    fn a_sleep_without_anything_ends_when_its_time_is_over() {
        over_both(|_, queue| {
            queue.sleep(Some(Duration::from_millis(1)));
            queue.sleep(Some(Duration::ZERO));
        });
    }

    /// As the kernel tells of the thread.
    #[cfg(target_os = "linux")]
    #[test]
    fn who_sleeps_in_a_queue_takes_no_core() {
        use std::sync::atomic::{AtomicBool, Ordering};
        over_both(|_, queue| {
            let stat = format!("/proc/self/task/{}/stat", rustix::thread::gettid().as_raw_nonzero());
            let (waker, over, slept) = (queue.waker(), AtomicBool::new(false), AtomicBool::new(false));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let began = Instant::now();
                    while !slept.load(Ordering::SeqCst) && began.elapsed() < FOREVER {
                        let stat = std::fs::read_to_string(&stat).unwrap();
                        // The state stands behind the name, which is in parentheses.
                        slept.store(stat.rsplit(") ").next().unwrap().starts_with('S'), Ordering::SeqCst);
                        std::thread::yield_now();
                    }
                    over.store(true, Ordering::SeqCst);
                    waker.wake_by_ref();
                });
                while !over.load(Ordering::SeqCst) {
                    queue.sleep(Some(FOREVER));
                }
            });
            assert!(slept.load(Ordering::SeqCst));
        });
    }

    #[test]
    fn dropping_a_queue_with_syncs_in_flight_waits_for_the_kernel() {
        over_both(|disk, _| {
            let dir = tempfile::tempdir().unwrap();
            let file = written_file(disk, &dir, "file");
            for _ in 0..20 {
                let mut queue = disk.queue();
                let waker = queue.waker();
                for token in 0..300 {
                    queue.start(token, &file);
                }
                queue.sleep(Some(Duration::ZERO));
                drop(queue);
                waker.wake();
            }
        });
    }

    #[test]
    fn a_sync_outlives_the_thread_that_started_it() {
        over_both(|disk, _| {
            let dir = tempfile::tempdir().unwrap();
            let mut queue = disk.queue();
            for round in 0..4 {
                let file = |n| written_file(disk, &dir, &format!("{round}-{n}"));
                let files: Vec<_> = (0..40).map(file).collect();
                queue = std::thread::spawn(move || {
                    for (token, file) in files.iter().enumerate() {
                        queue.start(token as u64, file);
                    }
                    queue
                })
                .join()
                .unwrap();
                let finished = wait_for(&mut *queue, 40);
                assert_eq!(finished.len(), 40);
                for finished in finished {
                    finished.result.unwrap();
                }
            }
        });
    }

    #[test]
    fn a_descriptor_that_can_not_be_synced_gives_the_error_with_its_token() {
        over_both(|disk, queue| {
            let (reader, _writer) = std::io::pipe().unwrap();
            let pipe: Arc<dyn File> = Arc::new(crate::disk::real::RealFile::of_descriptor(reader.into()));
            queue.start(7, &pipe);
            let finished = wait_for(queue, 1);
            assert_eq!(finished[0].token, 7);
            let code = finished[0].result.as_ref().unwrap_err().raw_os_error();
            assert_eq!(code, Some(rustix::io::Errno::INVAL.raw_os_error()));
            assert!(disk.open(std::path::Path::new("/nonexistent/file"), Access::Read).is_err());
        });
    }

    #[test]
    fn the_report_names_the_driver() {
        let threads = Queues::new(SyncMode::Threads, 1).unwrap().report();
        assert_eq!(threads, QueueReport { driver: "threads", reason: None });
        let auto = Queues::new(SyncMode::Auto, 1).unwrap().report();
        match auto.reason {
            None => assert_eq!(auto.driver, "io_uring"),
            Some(reason) => {
                assert_eq!(auto.driver, "threads");
                assert!(reason.contains("io_uring"), "{reason}");
            }
        }
    }
}
