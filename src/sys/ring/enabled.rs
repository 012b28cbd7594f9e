//! The ring on Linux. Owns each file it syncs until the kernel has answered for it, and waits for
//! all answers when it is dropped: the kernel never keeps a descriptor or pointer of ours.
//!
//! A thread that submitted a sync and ends before the answer makes the kernel cancel what hasn't
//! begun; such a sync is submitted again. Not here: reads and writes of data.
//!
//! If the kernel refuses submissions (for good, or for longer than a shortage lasts) the ring has *failed*: it is never
//! entered again. What the kernel has by then ends with an error, as nothing is known of it. What it doesn't have
//! is returned to the owner, who does it in another way ([`Ring::take_left`]).
#![expect(unsafe_code, reason = "a submission to io_uring lends the kernel a descriptor and a pointer")]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;

use super::RingSync;

/// Submission entries; the completion queue has twice as many.
const ENTRIES: u32 = 256;
/// Syncs that the kernel has at a time: with the wake-up read, fewer than completion entries.
const IN_FLIGHT_MAX: usize = 256;
/// What completions are marked with: a slot's index, or one of these.
const WAKE: u64 = u64::MAX;
const PROBE: u64 = u64::MAX - 1;
/// How long to wait before the kernel, short of memory, is asked again.
const BACK_OFF: Duration = Duration::from_millis(1);
/// How often in a row it is asked again; then it has failed.
const BACK_OFFS_MAX: u32 = 2_000;
/// How long the owner of a ring that failed sleeps at most: a wake-up may have gone to the kernel.
const FAILED_SLEEP_MAX: Duration = Duration::from_millis(10);
/// Longer sleeps are cut to this; returning early is allowed.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

/// The shared side of waking: an eventfd that the ring reads.
#[derive(Debug)]
struct Bell {
    event: OwnedFd,
    /// Set while a write to the eventfd has no answer yet: more of them say nothing new.
    rung: AtomicBool,
    /// Where the kernel puts what it read. Behind an `Arc`, so it doesn't move with the ring.
    count: AtomicU64,
}

impl Bell {
    fn ring(&self) {
        // Whoever finds it rung is seen by the sleeper: it clears the flag by a swap that reads
        // this one's store, then looks for work.
        if !self.rung.swap(true, Ordering::AcqRel) {
            // Fails only if the counter were full, and then the sleeper is awake.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// An io_uring with syncs in flight and one read of an eventfd.
pub(crate) struct Ring {
    ring: IoUring,
    bell: Arc<Bell>,
    /// Whether the kernel has, or will get with the next submission, the read of the bell.
    bell_armed: bool,
    /// A wake-up that was taken before anybody slept.
    woken: bool,
    /// Syncs that the kernel has, by slot.
    in_flight: Vec<Option<RingSync>>,
    free_slots: Vec<usize>,
    /// Syncs that the ring had no room for yet.
    backlog: VecDeque<RingSync>,
    done: Vec<(u64, io::Result<()>)>,
    /// What was put into the submission queue and the kernel hasn't taken yet, oldest first.
    queued: VecDeque<u64>,
    /// How often in a row the kernel was short of something.
    short: u32,
    failed: bool,
    /// Syncs that a ring which failed never gave to the kernel.
    left: Vec<RingSync>,
}

impl Ring {
    /// Opens a ring and sends one empty operation round, so that a refusal shows here.
    ///
    /// # Errors
    ///
    /// What the kernel said, with the likely cause and what to do.
    pub(crate) fn open() -> io::Result<Ring> {
        let ring = IoUring::new(ENTRIES).map_err(refused)?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            let reason = "io_uring is too old here: it needs Linux 5.11";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        // Blocking mode: the kernel would answer a read of a non-blocking one at once with EAGAIN.
        let event = eventfd(0, EventfdFlags::CLOEXEC).map_err(io::Error::from).map_err(refused)?;
        let bell = Bell { event, rung: AtomicBool::new(false), count: AtomicU64::new(0) };
        let mut ring = Ring {
            ring,
            bell: Arc::new(bell),
            bell_armed: false,
            woken: false,
            in_flight: Vec::new(),
            free_slots: Vec::new(),
            backlog: VecDeque::new(),
            done: Vec::new(),
            queued: VecDeque::new(),
            short: 0,
            failed: false,
            left: Vec::new(),
        };
        ring.probe().map_err(refused)?;
        Ok(ring)
    }

    /// Starts a sync of what was written to its file before.
    pub(crate) fn start(&mut self, sync: RingSync) {
        if self.failed {
            self.left.push(sync);
            return;
        }
        self.backlog.push_back(sync);
        self.submit_backlog();
    }

    /// Syncs that this ring, which has failed, will not do.
    pub(crate) fn take_left(&mut self) -> Vec<RingSync> {
        std::mem::take(&mut self.left)
    }

    /// Takes what has finished.
    pub(crate) fn finished(&mut self) -> std::vec::Drain<'_, (u64, io::Result<()>)> {
        self.reap();
        self.submit_backlog();
        self.done.drain(..)
    }

    /// Sleeps until a sync finishes, the waker is called, or the time is over; may return early.
    pub(crate) fn sleep(&mut self, timeout: Option<Duration>) {
        self.reap();
        if self.failed {
            self.sleep_without(timeout);
        } else if self.done.is_empty() && !self.woken {
            self.push_backlog();
            self.arm_bell();
            self.enter(timeout);
            self.reap();
        }
        self.woken = false;
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.bell))
    }

    /// One empty operation there and back.
    fn probe(&mut self) -> io::Result<()> {
        self.push(&opcode::Nop::new().build().user_data(PROBE));
        loop {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) if self.ring.completion().next().is_some() => {
                    self.queued.clear();
                    return Ok(());
                }
                Ok(_) => {}
            }
        }
    }

    fn submit_backlog(&mut self) {
        self.push_backlog();
        if !self.failed && !self.ring.submission().is_empty() {
            // What the kernel doesn't take now stays in the queue for the next submission.
            let outcome = self.ring.submit();
            self.entered(outcome);
        }
    }

    /// Judges what the kernel said; whether it should be asked again later.
    fn entered(&mut self, outcome: io::Result<usize>) -> bool {
        let left = self.ring.submission().len();
        self.queued.drain(..self.queued.len().saturating_sub(left));
        let Err(error) = outcome else {
            self.short = 0;
            return false;
        };
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            // The time is over, or a signal came.
            Some(Errno::TIME | Errno::INTR) => false,
            // Short of memory, or completions wait to be taken first.
            Some(Errno::AGAIN | Errno::NOMEM | Errno::BUSY) if self.short < BACK_OFFS_MAX => {
                self.short += 1;
                true
            }
            _ => {
                self.fail(&error);
                false
            }
        }
    }

    /// Gives the ring up.
    #[cold]
    fn fail(&mut self, error: &io::Error) {
        self.failed = true;
        for (slot, sync) in self.in_flight.iter_mut().enumerate() {
            if self.queued.contains(&(slot as u64)) {
                self.left.extend(sync.take());
                self.free_slots.push(slot);
            } else if let Some(sync) = sync {
                // The kernel may have it: the slot keeps the file for ever, and whether it was synced is not known.
                let reason = format!("io_uring failed while a sync was under way: {error}");
                self.done.push((sync.token, Err(io::Error::new(error.kind(), reason))));
            }
        }
        self.left.extend(self.backlog.drain(..));
        self.queued.clear();
        // The kernel may read it too: whoever comes second must not wait.
        let _ = fcntl_setfl(&self.bell.event, OFlags::NONBLOCK);
    }

    /// Sleeps without the ring until the bell rings, for a short time.
    fn sleep_without(&mut self, timeout: Option<Duration>) {
        if self.done.is_empty() && self.left.is_empty() && !self.woken {
            let timeout = timeout.map_or(FAILED_SLEEP_MAX, |timeout| timeout.min(FAILED_SLEEP_MAX));
            let time = rustix::event::Timespec { tv_sec: 0, tv_nsec: timeout.as_nanos() as i64 };
            let _ = poll(&mut [PollFd::new(&self.bell.event, PollFlags::IN)], Some(&time));
            let _ = rustix::io::read(&self.bell.event, &mut [0; 8]);
            self.bell.rung.swap(false, Ordering::AcqRel);
            self.reap();
        }
    }

    /// Moves syncs from the backlog to the submission queue while both sides have room.
    fn push_backlog(&mut self) {
        while self.in_flight.len() - self.free_slots.len() < IN_FLIGHT_MAX && !self.ring.submission().is_full() {
            let Some(sync) = self.backlog.pop_front() else { return };
            let slot = self.free_slots.pop().unwrap_or_else(|| {
                self.in_flight.push(None);
                self.in_flight.len() - 1
            });
            let flags = if sync.data_only { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
            let entry = opcode::Fsync::new(Fd(sync.file.as_raw_fd())).flags(flags).build();
            // The slot owns the file before the kernel can hear of it.
            self.in_flight[slot] = Some(sync);
            self.push(&entry.user_data(slot as u64));
        }
    }

    /// Queues the read of the bell unless it is there. If the queue is full, what is in it goes to
    /// the kernel first.
    fn arm_bell(&mut self) {
        if self.bell_armed {
            return;
        }
        if self.ring.submission().is_full() {
            let outcome = self.ring.submit();
            self.entered(outcome);
            if self.failed || self.ring.submission().is_full() {
                return;
            }
        }
        let buffer = self.bell.count.as_ptr().cast::<u8>();
        let read = opcode::Read::new(Fd(self.bell.event.as_raw_fd()), buffer, 8).build();
        self.push(&read.user_data(WAKE));
        self.bell_armed = true;
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: an entry's descriptor and pointer must be valid until its completion was taken. A
        // sync's file is owned by its slot, and the bell (descriptor and counter) by `self.bell`,
        // whose counter doesn't move because it is behind an Arc; slots are cleared only in `reap`,
        // for a completion, and `drop` waits for all completions or gives up ownership for ever. The
        // probe has neither. The counter is only written by the kernel, and read by nobody.
        let pushed = unsafe { self.ring.submission().push(entry) };
        debug_assert!(pushed.is_ok(), "callers look for room first");
        self.queued.push_back(entry.get_user_data());
    }

    /// Submits what is queued and waits for one completion.
    fn enter(&mut self, timeout: Option<Duration>) {
        let timeout = timeout.map_or(SLEEP_MAX, |timeout| timeout.min(SLEEP_MAX));
        let time = Timespec::from(timeout);
        if self.failed {
            return;
        }
        let outcome = self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time));
        // The caller must not spin.
        if self.entered(outcome) {
            std::thread::sleep(BACK_OFF);
        }
    }

    /// Takes all completions. A cancelled sync, never begun, goes back to the backlog.
    fn reap(&mut self) {
        for completion in self.ring.completion() {
            match completion.user_data() {
                WAKE => {
                    self.bell_armed = false;
                    if completion.result() > 0 {
                        self.bell.rung.swap(false, Ordering::AcqRel);
                        self.woken = true;
                    }
                }
                // Its sync has ended with an error already.
                _ if self.failed => {}
                slot => {
                    let Some(sync) = self.in_flight.get_mut(slot as usize).and_then(Option::take) else {
                        continue;
                    };
                    self.free_slots.push(slot as usize);
                    match completion.result() {
                        0.. => self.done.push((sync.token, Ok(()))),
                        code if again(code) => self.backlog.push_back(sync),
                        code => self.done.push((sync.token, Err(io::Error::from_raw_os_error(-code)))),
                    }
                }
            }
        }
    }

    fn waits_for_kernel(&self) -> bool {
        self.bell_armed || self.in_flight.len() > self.free_slots.len()
    }
}

/// Whether a completion says that the sync was not done and not tried.
fn again(code: i32) -> bool {
    [Errno::CANCELED, Errno::INTR, Errno::AGAIN].iter().any(|errno| errno.raw_os_error() == -code)
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.backlog.clear();
        if self.failed {
            return self.give_up();
        }
        // Ends the read of the bell, whoever rang before.
        let _ = rustix::io::write(&self.bell.event, &1u64.to_ne_bytes());
        while self.waits_for_kernel() {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => match self.entered(Err(error)) {
                    true => std::thread::sleep(BACK_OFF),
                    false => return self.give_up(),
                },
            }
            self.reap();
        }
    }
}

impl Ring {
    /// The kernel may still use files and bell: they are never given back.
    fn give_up(&mut self) {
        std::mem::forget(std::mem::take(&mut self.in_flight));
        std::mem::forget(Arc::clone(&self.bell));
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("in_flight", &(self.in_flight.len() - self.free_slots.len()))
            .field("backlog", &self.backlog.len())
            .finish_non_exhaustive()
    }
}

/// Why a ring can't be opened: the likely cause, as a sentence without its end.
fn refused(error: io::Error) -> io::Error {
    let reason = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM) => "not allowed here (EPERM): a container's seccomp profile, or kernel.io_uring_disabled",
        Some(Errno::ACCESS) => "not allowed here (EACCES): a security module refuses it",
        Some(Errno::NOSYS) => "not there (ENOSYS): an old kernel, or a container's seccomp profile that hides it",
        Some(Errno::NOMEM) => "short of memory here (ENOMEM): raise the limit with ulimit -l",
        Some(Errno::MFILE | Errno::NFILE) => "short of descriptors here (EMFILE): raise the limit with ulimit -n",
        _ => return io::Error::new(error.kind(), format!("io_uring doesn't work here: {error}")),
    };
    io::Error::new(error.kind(), format!("io_uring is {reason}"))
}

#[cfg(test)]
mod tests {
    //! What the queue's tests don't reach: refusals, and a ring that fails. The rest is tested there, over both drivers.

    use std::mem::ManuallyDrop;
    use std::os::fd::FromRawFd;
    use std::time::Instant;

    use super::*;

    fn sync(token: u64) -> RingSync {
        RingSync { token, file: Arc::new(tempfile::tempfile().unwrap().into()), data_only: true }
    }

    /// From now on the kernel refuses to enter it: its descriptor leads elsewhere.
    fn break_it(ring: &Ring) {
        let elsewhere = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: the ring owns the descriptor and lives longer; nothing closes it here.
        let mut descriptor = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(ring.ring.as_raw_fd()) });
        rustix::io::dup2(&elsewhere, &mut descriptor).unwrap();
    }

    fn opened() -> Option<Ring> {
        Ring::open().inspect_err(|refused| println!("skipped: {refused}")).ok()
    }

    #[test]
    fn a_ring_that_fails_gives_back_what_the_kernel_never_had() {
        let Some(mut ring) = opened() else { return };
        break_it(&ring);
        for token in 0..300 {
            ring.start(sync(token));
        }
        ring.sleep(None);
        assert_eq!(ring.finished().count(), 0);
        let left: Vec<_> = ring.take_left().iter().map(|sync| sync.token).collect();
        assert_eq!(left, (0..300).collect::<Vec<_>>());
    }

    #[test]
    fn what_the_kernel_had_when_a_ring_failed_ends_with_an_error() {
        let Some(mut ring) = opened() else { return };
        // A sync that the kernel has and that has no completion yet, as far as the ring knows.
        ring.in_flight.push(Some(sync(7)));
        break_it(&ring);
        ring.start(sync(8));
        let done: Vec<_> = ring.finished().collect();
        assert_eq!((done.len(), done[0].0), (1, 7));
        assert!(done[0].1.as_ref().unwrap_err().to_string().contains("io_uring failed while a sync was under way"));
        assert_eq!(ring.take_left().iter().map(|sync| sync.token).collect::<Vec<_>>(), [8]);
    }

    #[test]
    fn a_ring_that_failed_is_woken_still_and_sleeps_without_it() {
        let Some(mut ring) = opened() else { return };
        break_it(&ring);
        ring.sleep(Some(Duration::ZERO));
        assert!(ring.failed);
        let waker = ring.waker();
        let began = Instant::now();
        for _ in 0..50 {
            waker.wake_by_ref();
            ring.sleep(None);
        }
        // Nobody wakes it: it returns early, and its owner looks around.
        ring.sleep(None);
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_shortage_is_waited_out_and_one_that_lasts_fails_the_ring() {
        let Some(mut ring) = opened() else { return };
        let short = || Err(Errno::NOMEM.into());
        for _ in 0..BACK_OFFS_MAX {
            assert!(ring.entered(short()));
        }
        // One success, and it begins anew; signals and time-outs say nothing.
        ring.entered(Ok(0));
        assert!(ring.entered(short()) && ring.short == 1);
        for errno in [Errno::TIME, Errno::INTR] {
            assert!(!ring.entered(Err(errno.into())));
        }
        for _ in 1..BACK_OFFS_MAX {
            assert!(ring.entered(Err(Errno::AGAIN.into())) && !ring.failed);
        }
        assert!(!ring.entered(Err(Errno::BUSY.into())) && ring.failed);
    }

    #[test]
    fn a_refusal_says_the_likely_cause() {
        let said = |errno: Errno| refused(errno.into()).to_string();
        let not_allowed = "io_uring is not allowed here (EPERM): a container's seccomp profile, or \
                           kernel.io_uring_disabled";
        assert_eq!(said(Errno::PERM), not_allowed);
        assert!(said(Errno::NOMEM).contains("ulimit -l"));
        assert!(said(Errno::NOSYS).contains("ENOSYS"));
        assert!(said(Errno::INVAL).contains("Invalid argument"));
        assert_eq!(refused(Errno::PERM.into()).kind(), io::ErrorKind::PermissionDenied);
    }
}
