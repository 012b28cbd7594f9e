//! The queue over an io_uring ring: tokens and files to the ring, answers back.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::Target;
use crate::disk::{File, Finished, Queue};
use crate::sys::ring::{Ring, RingSync};

pub(super) struct RingQueue {
    ring: Ring,
    /// Syncs that never reached the ring.
    refused: Vec<Finished>,
}

impl RingQueue {
    pub(super) fn new(ring: Ring) -> RingQueue {
        RingQueue { ring, refused: Vec::new() }
    }
}

impl Queue for RingQueue {
    fn start(&mut self, token: u64, file: &Arc<dyn File>) {
        match Target::of(file) {
            Ok(target) => self.ring.start(RingSync { token, file: target.fd, data_only: !target.directory }),
            Err(error) => self.refused.push(Finished { token, result: Err(error) }),
        }
    }

    fn finished(&mut self, into: &mut Vec<Finished>) {
        into.append(&mut self.refused);
        into.extend(self.ring.finished().map(|(token, result)| Finished { token, result }));
    }

    fn sleep(&mut self, timeout: Option<Duration>) {
        if self.refused.is_empty() {
            self.ring.sleep(timeout);
        }
    }

    fn waker(&self) -> Waker {
        self.ring.waker()
    }
}
