//! Taking records into a partition's intake: at once, or in turn when a buffer comes; and not at all for a while.

use std::future::Future;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::Partition;
use super::intake::{Incoming, Push, Tickets};
use super::progress::{Caller, FnFuture};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::lock;
use crate::panics::wake_each;

/// What an append was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) offset: u64,
    pub(crate) run: u32,
}

/// What became of an append that was not refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Appended {
    Placed(Placed),
    /// The topic got more partitions after this one was chosen: choose again.
    Moved,
}

/// On what terms records are taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// Only if the first record gets this offset.
    pub(crate) expected_end: Option<u64>,
    /// Only while the topic has this many partitions: it was chosen among so many. `None`: it was named.
    pub(crate) chosen_among: Option<u32>,
}

/// Why nothing was taken for now.
enum Untaken {
    /// This partition has its part of the buffers, or is held.
    OwnLimit,
    NoBuffer,
    Moved,
}

impl Partition {
    /// Takes records, all or none, if there is a buffer; never waits.
    #[inline]
    pub(crate) fn try_append(&self, records: &[Incoming<'_>], sync: bool, terms: Terms) -> Result<Appended> {
        let bytes = self.limits.check(records).map_err(|error| error.at_partition(&self.topic, self.number))?;
        match self.push(records, bytes, sync, terms, Tickets::default())? {
            Ok(placed) => Ok(Appended::Placed(placed)),
            Err(Untaken::Moved) => Ok(Appended::Moved),
            Err(_) => Err(Error::new(ErrorKind::Full).at_partition(&self.topic, self.number)),
        }
    }

    #[inline]
    fn push(
        &self,
        records: &[Incoming<'_>],
        bytes: u64,
        sync: bool,
        terms: Terms,
        tickets: Tickets,
    ) -> Result<std::result::Result<Placed, Untaken>> {
        self.env.opener.check()?;
        let pushed = {
            let mut intake = lock(&self.intake);
            if let Some(expected) = terms.expected_end
                && expected != intake.next_offset()
                && intake.refused().is_none()
            {
                let end = intake.next_offset();
                drop(intake);
                return Err(Error::new(ErrorKind::EndMismatch { expected, end }).at_partition(&self.topic, self.number));
            }
            intake.push(records, bytes, sync, &self.env.pool, &self.progress, tickets, terms.chosen_among)
        };
        match pushed {
            Push::Taken { offset, run, notify } => {
                if notify {
                    self.notify_writer();
                }
                Ok(Ok(Placed { offset, run }))
            }
            Push::Full { own_limit: true } => Ok(Err(Untaken::OwnLimit)),
            Push::Full { own_limit: false } => Ok(Err(Untaken::NoBuffer)),
            Push::Moved => Ok(Err(Untaken::Moved)),
            Push::Refused(error) => Err(error.at_partition(&self.topic, self.number)),
        }
    }

    /// Takes records, all or none; waits for a buffer in turn. `caller`: what polls this.
    pub(crate) fn append<'a>(
        self: &'a Arc<Partition>,
        records: &'a [Incoming<'a>],
        sync: bool,
        terms: Terms,
        caller: Caller,
    ) -> impl Future<Output = Result<Appended>> + use<'a> {
        let mut turn = Turn { partition: self, tickets: Tickets::default(), caller };
        FnFuture(move |context: &mut std::task::Context<'_>| {
            let bytes = match self.limits.check(records) {
                Ok(bytes) => bytes,
                Err(error) => return Poll::Ready(Err(error.at_partition(&self.topic, self.number))),
            };
            // A buffer may come between the try and the place in the queue: so once more behind it.
            let (mut waits_own, mut waits_pool) = (false, false);
            loop {
                match self.push(records, bytes, sync, terms, turn.tickets()) {
                    Err(error) => return Poll::Ready(Err(error)),
                    Ok(Ok(placed)) => return Poll::Ready(Ok(Appended::Placed(placed))),
                    Ok(Err(Untaken::Moved)) => return Poll::Ready(Ok(Appended::Moved)),
                    // Not queued anew: a call since then would be forgotten.
                    Ok(Err(Untaken::OwnLimit)) if waits_own => return Poll::Pending,
                    Ok(Err(Untaken::NoBuffer)) if waits_pool => return Poll::Pending,
                    Ok(Err(Untaken::OwnLimit)) => {
                        turn.wait_own(context.waker());
                        waits_own = true;
                    }
                    Ok(Err(Untaken::NoBuffer)) => {
                        turn.wait_pool(context.waker());
                        waits_pool = true;
                    }
                }
            }
        })
    }

    #[cfg(all(test, feature = "sim"))]
    pub(crate) fn nobody_waits(&self) -> bool {
        lock(&self.intake).queue.is_empty()
    }

    /// Takes no more records; what was taken is still written.
    pub(crate) fn stop_intake(&self, error: Error) {
        let wakers = {
            let mut intake = lock(&self.intake);
            intake.refuse(error);
            intake.queue.call_all()
        };
        wake_each(wakers);
    }

    /// Holds all of a topic's partitions at one moment: records that aren't sent to one by name wait
    /// from now on. The offset that each one's next record gets.
    pub(crate) fn hold_all(partitions: &[Arc<Partition>]) -> Vec<(u64, u32)> {
        let mut intakes: Vec<_> = partitions.iter().map(|partition| lock(&partition.intake)).collect();
        intakes.iter_mut().for_each(|intake| intake.hold());
        intakes.iter().zip(partitions).map(|(intake, held)| (intake.next_offset(), held.progress.run())).collect()
    }

    /// Ends [`hold_all`](Partition::hold_all): the topic has `among` partitions now, which
    /// `announce`, called while nobody can append, makes known.
    pub(crate) fn release_all(partitions: &[Arc<Partition>], among: u32, announce: impl FnOnce()) {
        let mut intakes: Vec<_> = partitions.iter().map(|partition| lock(&partition.intake)).collect();
        announce();
        let mut wakers = Vec::new();
        for intake in &mut intakes {
            intake.release(among);
            wakers.extend(intake.queue.call_all());
        }
        drop(intakes);
        wake_each(wakers);
    }
}

/// Places in the queues for buffers, given up when the wait ends.
///
/// Used as a whole through its methods: a closure that captured the tickets alone would keep copies
/// of them, and nobody would give them up.
struct Turn<'a> {
    partition: &'a Arc<Partition>,
    tickets: Tickets,
    caller: Caller,
}

impl Turn<'_> {
    fn tickets(&self) -> Tickets {
        self.tickets
    }

    fn wait_own(&mut self, waker: &Waker) {
        self.partition.rouse_writer();
        let waker = waker.clone();
        let replaced = lock(&self.partition.intake).queue.wait(&mut self.tickets.own, waker, self.caller);
        drop(replaced);
    }

    fn wait_pool(&mut self, waker: &Waker) {
        self.partition.rouse_writer();
        self.partition.env.pool.wait(&mut self.tickets.pool, waker, self.caller);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.partition.env.opener.is_this() {
            return;
        }
        if let Some(ticket) = self.tickets.own {
            let (left, next) = {
                let mut intake = lock(&self.partition.intake);
                (intake.queue.leave(ticket), intake.queue.call())
            };
            drop(left);
            wake_each(next);
        }
        if let Some(ticket) = self.tickets.pool {
            self.partition.env.pool.forget(ticket);
        }
    }
}
