//! The ring on Linux. Owns each file it syncs until the kernel has answered for it, and waits for
//! all answers when it is dropped: the kernel never keeps a descriptor or pointer of ours.
//!
//! A thread that submitted a sync and ends before the answer makes the kernel cancel what hasn't
//! begun; such a sync is submitted again. Not here: reads and writes of data.
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
use rustix::event::{EventfdFlags, eventfd};
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
        };
        ring.probe().map_err(refused)?;
        Ok(ring)
    }

    /// Starts a sync of what was written to its file before.
    pub(crate) fn start(&mut self, sync: RingSync) {
        self.backlog.push_back(sync);
        self.submit_backlog();
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
        if self.done.is_empty() && !self.woken {
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
                Ok(_) if self.ring.completion().next().is_some() => return Ok(()),
                Ok(_) => {}
            }
        }
    }

    fn submit_backlog(&mut self) {
        self.push_backlog();
        if !self.ring.submission().is_empty() {
            // What the kernel doesn't take now stays in the queue for the next submission.
            let _ = self.ring.submit();
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
        if self.ring.submission().is_full() && self.ring.submit().is_err() {
            return;
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
    }

    /// Submits what is queued and waits for one completion.
    fn enter(&mut self, timeout: Option<Duration>) {
        let timeout = timeout.map_or(SLEEP_MAX, |timeout| timeout.min(SLEEP_MAX));
        let time = Timespec::from(timeout);
        let outcome = self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time));
        // Over time, interrupted, or completions waiting to be taken first: all end a sleep. Short
        // of memory, or anything unexpected, must not make the caller spin.
        let ended = [Errno::TIME, Errno::INTR, Errno::BUSY];
        if let Err(error) = outcome
            && !ended.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
        {
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
        // Ends the read of the bell, whoever rang before.
        let _ = rustix::io::write(&self.bell.event, &1u64.to_ne_bytes());
        while self.waits_for_kernel() {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(BACK_OFF),
                Err(_) => {
                    // The kernel may still use them: never give them back.
                    std::mem::forget(std::mem::take(&mut self.in_flight));
                    std::mem::forget(Arc::clone(&self.bell));
                    return;
                }
            }
            self.reap();
        }
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
    //! What the queue's tests don't reach: refusals. The rest is tested there, over both drivers.

    use super::*;

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
