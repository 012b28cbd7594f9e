//! Waiting for a partition: until records are acknowledged, until its writer is done with it.

use std::future::Future;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::Partition;
use super::inbox::Command;
use super::progress::FnFuture;
use crate::config::Acks;
use crate::error::{Error, Result};
use crate::lock::Ordering;

impl Partition {
    /// Waits until what ends at `end_offset` is acknowledged at `level`, or has failed.
    pub(crate) fn acknowledged(
        self: &Arc<Partition>,
        level: Acks,
        end_offset: u64,
        run: u32,
    ) -> impl Future<Output = Result<()>> + Send + Unpin + use<> {
        let mut waiting = Waiting { partition: self.clone(), id: None };
        FnFuture(move |context: &mut std::task::Context<'_>| {
            if let Some(outcome) = waiting.partition().outcome(level, end_offset, run) {
                return Poll::Ready(outcome);
            }
            if level == Acks::Synced {
                waiting.partition().want_sync(end_offset);
            }
            waiting.register(level, end_offset, context.waker());
            let outcome = waiting.partition().outcome(level, end_offset, run);
            if outcome.is_none()
                && let Some((handle, _)) = waiting.partition().writer.get()
            {
                handle.rouse();
            }
            outcome.map_or(Poll::Pending, Poll::Ready)
        })
    }

    /// Waits until it is acknowledged; `None` if `timeout` passes first. Who waits alone does the writer's
    /// work himself.
    pub(crate) fn wait(
        self: &Arc<Partition>,
        level: Acks,
        end_offset: u64,
        run: u32,
        timeout: Option<Duration>,
    ) -> Option<Result<()>> {
        if let Err(forked) = self.env.opener.check() {
            return Some(Err(forked));
        }
        if timeout.is_none()
            && self.progress.has_lone_waiters()
            && self.outcome(level, end_offset, run).is_none()
            && let Some((handle, slot)) = self.writer.get()
        {
            if level == Acks::Synced {
                self.want_sync(end_offset);
            }
            handle.help(*slot);
        }
        let done = self.acknowledged(level, end_offset, run);
        self.env.drive.wait(done, timeout.map(|timeout| (timeout, &*self.env.clock)))
    }

    /// Whether it is acknowledged or has failed; `None` while that is open.
    pub(crate) fn outcome(&self, level: Acks, end_offset: u64, run: u32) -> Option<Result<()>> {
        if let Err(forked) = self.env.opener.check() {
            return Some(Err(forked));
        }
        if let Some(outcome) = self.progress.outcome(level, end_offset, run, None) {
            return Some(outcome.map_err(|error| error.at_partition(&self.topic, self.number)));
        }
        // Nobody will write it any more only if the partition has failed, not if it is being closed.
        let stopped = self.stopped()?;
        self.progress.outcome(level, end_offset, run, Some(stopped))
    }

    /// Why nothing more will come, if so: the partition failed, or its writer has ended.
    pub(crate) fn stopped(&self) -> Option<Error> {
        let ended = self.progress.is_failed() || self.closed.load(Ordering::SeqCst);
        if ended { self.refused() } else { None }
    }

    /// Has the writer write and sync what there is (or drop it), then let go of the partition.
    pub(crate) fn end_writer(&self, discard: bool) {
        if let Some((handle, slot)) = self.writer.get() {
            handle.send(Command::End { slot: *slot, discard });
        }
    }

    /// Whether there is a writer whose end can be waited for.
    pub(crate) fn has_writer(&self) -> bool {
        self.writer.get().is_some()
    }

    /// Its writer is done with it: everything is synced and closed, or it has failed.
    pub(super) fn set_closed(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.progress.wake_all();
        self.tell_subscribers();
    }

    /// Done when the writer is done with it.
    pub(crate) fn closed(self: &Arc<Partition>) -> impl Future<Output = ()> + use<> {
        let mut waiting = Waiting { partition: self.clone(), id: None };
        FnFuture(move |context: &mut std::task::Context<'_>| {
            waiting.register(Acks::Synced, u64::MAX, context.waker());
            if waiting.partition().closed.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}

/// A place among those who wait for an offset, given up when the wait ends. Used as a whole, like [`Turn`].
struct Waiting {
    partition: Arc<Partition>,
    id: Option<u64>,
}

impl Waiting {
    fn partition(&self) -> &Partition {
        &self.partition
    }

    fn register(&mut self, level: Acks, end_offset: u64, waker: &Waker) {
        self.partition.progress.register(&mut self.id, level, end_offset, waker);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(id) = self.id
            && self.partition.env.opener.is_this()
        {
            self.partition.progress.forget(id);
        }
    }
}
