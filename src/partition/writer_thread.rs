//! A writer's thread: works while there is work, spins briefly, sleeps.
//!
//! Where one thread waits for what it sends, two hand-overs between threads cost more than the write. So
//! the work lies open while the thread sleeps: who waits alone does it himself
//! ([`WriterHandle::help`](super::WriterHandle::help)). While he comes back the thread naps, so that sending
//! doesn't wake it: what nobody waits for, neither sender nor reader, may lie for [`NAP`] then.

#[cfg(all(test, feature = "sim"))]
mod tests;

use std::time::Duration;

use super::WriterLoop;
use super::inbox::Inbox;
use crate::clock::Clock;
use crate::lock::{Parker, thread};
use crate::panics::caught;

const SPINS: u32 = 200;

/// For how long news are left to one who helps, each time.
const NAP: Duration = Duration::from_millis(1);

impl WriterLoop {
    /// The life of its thread: until it is told to stop and all its partitions have ended.
    pub(crate) fn run(self) {
        let inbox = self.inbox.clone();
        let parker = Parker::new();
        let _ = inbox.thread.set(parker.unparker().clone());
        let clock = self.clock.clone();
        inbox.writer.put(Some(self));
        while let Err(error) = caught(|| live(&inbox, &parker, &*clock)) {
            if let Some(mut work) = inbox.writer.take()
                && let Some(writer) = &mut *work
            {
                writer.fail_all(&error);
            }
            parker.park_timeout(NAP);
        }
    }

    /// Works until there is nothing to do but to wait.
    fn work(&mut self) {
        loop {
            let worked = self.caught_turn();
            if self.inbox.writer.is_wanted() {
                if self.is_unfinished() {
                    self.inbox.writer.leave();
                }
                return;
            }
            if worked || self.is_busy() {
                if std::mem::take(&mut self.gathers) {
                    // Those it waits for may need this core.
                    thread::yield_now();
                }
                continue;
            }
            if self.is_stopped() {
                return;
            }
            if std::mem::take(&mut self.woke_reader) {
                // So may a reader that has just been woken.
                thread::yield_now();
            }
            let news = (0..SPINS).any(|_| {
                std::hint::spin_loop();
                self.has_news()
            });
            if news {
                continue;
            }
            if !self.is_syncing() {
                return;
            }
            self.sleep(None);
        }
    }

    /// One turn by another than its thread, and a look whether that was all; whether there is something left
    /// that the thread wouldn't know of. `may_sync`: it may wait for a sync.
    pub(super) fn helped_turn(&mut self, may_sync: bool) -> bool {
        self.syncs_itself = may_sync;
        self.caught_turn();
        if self.is_busy() {
            self.caught_turn();
        }
        self.syncs_itself = true;
        self.is_unfinished() || self.due().is_some_and(|due| self.planned.is_none_or(|planned| due < planned))
    }

    /// Whether the thread is to look at once, or in its queue, though there are no news.
    pub(super) fn is_unfinished(&self) -> bool {
        self.is_busy() || self.is_syncing() || self.is_stopping()
    }

    fn caught_turn(&mut self) -> bool {
        caught(|| self.turn()).unwrap_or_else(|error| {
            self.fail_all(&error);
            false
        })
    }

    /// When the thread will look again if it isn't called.
    fn plan(&mut self) -> Option<Duration> {
        self.planned = self.due();
        self.planned
    }
}

/// Works, naps and sleeps until it is told to stop and all partitions have ended.
fn live(inbox: &Inbox, parker: &Parker, clock: &dyn Clock) {
    let mut due: Option<Duration> = None;
    loop {
        let is_due = due.is_some_and(|due| due <= clock.monotonic());
        let nap = || {
            let until_due = due.map_or(NAP, |due| due.saturating_sub(clock.monotonic()));
            parker.park_timeout(until_due.min(NAP));
        };
        if !is_due && inbox.writer.nap(nap) {
            continue;
        }
        if is_due || inbox.writer.is_left() || inbox.has_news() {
            match inbox.writer.take() {
                Some(mut work) => {
                    inbox.writer.look();
                    let Some(writer) = &mut *work else { return };
                    writer.work();
                    if writer.is_stopped() {
                        *work = None;
                        return;
                    }
                    due = writer.plan();
                }
                None if is_due => inbox.writer.leave(),
                None => {}
            }
        }
        if inbox.writer.may_sleep(|| inbox.has_news()) {
            match due.filter(|_| !inbox.writer.is_left()) {
                Some(due) => parker.park_timeout(due.saturating_sub(clock.monotonic())),
                None => parker.park(),
            }
            inbox.writer.awake();
        }
    }
}
