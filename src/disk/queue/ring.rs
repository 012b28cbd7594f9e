//! The queue over an io_uring ring: tokens and files to the ring, answers back. What a ring that failed leaves is synced
//! by the queue's owner itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::{Began, Target};
use crate::disk::{File, Finished, Queue};
use crate::sys::ring::{Ring, RingSync};

pub(super) struct RingQueue {
    ring: Ring,
    /// Syncs under way, by the number that the ring knows them by.
    under_way: HashMap<u64, UnderWay>,
    next: u64,
    /// Syncs that never reached the ring.
    refused: Vec<Finished>,
}

struct UnderWay {
    token: u64,
    target: Target,
    began: Began,
}

impl RingQueue {
    pub(super) fn new(ring: Ring) -> RingQueue {
        RingQueue { ring, under_way: HashMap::new(), next: 0, refused: Vec::new() }
    }
}

fn sync_of(target: &Target, number: u64) -> RingSync {
    RingSync { token: number, file: target.fd.clone(), data_only: !target.directory }
}

impl Queue for RingQueue {
    fn start(&mut self, token: u64, file: &Arc<dyn File>) {
        match Target::of(file) {
            Ok(target) => {
                let (number, began) = (self.next, target.begin());
                self.next += 1;
                self.ring.start(sync_of(&target, number));
                self.under_way.insert(number, UnderWay { token, target, began });
            }
            Err(error) => self.refused.push(Finished { token, result: Err(error) }),
        }
    }

    fn finished(&mut self, into: &mut Vec<Finished>) {
        into.append(&mut self.refused);
        for sync in self.ring.take_left() {
            if let Some(UnderWay { token, target, began }) = self.under_way.remove(&sync.token) {
                into.push(Finished { token, result: target.end(began, target.sync()) });
            }
        }
        for (number, result) in self.ring.finished() {
            if let Some(UnderWay { token, target, began }) = self.under_way.remove(&number) {
                into.push(Finished { token, result: target.end(began, result) });
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_is_synced_with_all_that_is_known_of_it() {
        let file = Target::new(tempfile::tempfile().unwrap().into()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let directory = Target::new(std::fs::File::open(dir.path()).unwrap().into()).unwrap();
        assert!(sync_of(&file, 1).data_only);
        assert!(!sync_of(&directory, 1).data_only);
    }
}
