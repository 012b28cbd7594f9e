//! The simulated queue: a sync that was started ends when its owner next looks or sleeps.
//!
//! So a crash between the two finds it in flight. A sleep with nothing to wait for waits in real time
//! for a wake-up: engines with threads run on a simulated disk too, though not deterministically.

use std::io;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use super::disk::SimDisk;
use super::file::SimFile;
use super::state::Ticket;
use crate::disk::{File, Finished, Queue};
use crate::lock::{Parker, Unparker};

pub(super) struct SimQueue {
    disk: SimDisk,
    in_flight: Vec<InFlight>,
    done: Vec<Finished>,
    parker: Parker,
    bell: Arc<Bell>,
}

struct InFlight {
    token: u64,
    ticket: Ticket,
    /// Open until its sync has ended.
    file: Arc<dyn File>,
}

struct Bell(Unparker);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

impl SimQueue {
    pub(super) fn new(disk: SimDisk) -> SimQueue {
        let parker = Parker::new();
        let bell = Arc::new(Bell(parker.unparker().clone()));
        SimQueue { disk, in_flight: Vec::new(), done: Vec::new(), parker, bell }
    }

    fn end_all(&mut self) {
        let mut state = self.disk.state();
        let ended: Vec<_> = self
            .in_flight
            .drain(..)
            .map(|sync| {
                let result = state.end_sync(sync.ticket);
                (Finished { token: sync.token, result }, sync.file)
            })
            .collect();
        // Files are let go of only after the lock, which closing them takes.
        drop(state);
        self.done.extend(ended.into_iter().map(|(finished, _)| finished));
    }
}

impl Queue for SimQueue {
    fn start(&mut self, token: u64, file: &Arc<dyn File>) {
        match file.as_any().downcast_ref::<SimFile>() {
            Some(of_disk) if of_disk.handle().disk().same_as(&self.disk) => {
                let ticket = self.disk.state().start_sync(of_disk.handle().node());
                self.in_flight.push(InFlight { token, ticket, file: Arc::clone(file) });
            }
            _ => {
                let reason = "this file belongs to another disk than the queue";
                let result = Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
                self.done.push(Finished { token, result });
            }
        }
    }

    fn finished(&mut self, into: &mut Vec<Finished>) {
        self.end_all();
        into.append(&mut self.done);
    }

    fn sleep(&mut self, timeout: Option<Duration>) {
        self.end_all();
        if !self.done.is_empty() {
            return;
        }
        match timeout {
            Some(timeout) => self.parker.park_timeout(timeout),
            None => self.parker.park(),
        }
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.bell))
    }
}
