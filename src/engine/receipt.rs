//! What a send returns: where the records went, and a way to wait for their acknowledgement.
//!
//! A receipt is a few integers and a handle; nothing is kept for it in the engine, and nobody is
//! woken unless somebody waits.

use std::future::{Future, IntoFuture};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Acks;
use crate::error::Result;
use crate::partition::{Driven, Partition, Placed};

/// Where a record stands: its partition and its number there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordMetadata {
    /// The partition.
    pub partition: u32,
    /// The offset of the record; of the first one, for a batch.
    pub offset: u64,
}

/// A record's (or a batch's) place, to wait on or to forget.
///
/// Dropping it changes nothing: the record is written all the same. Waiting is done by
/// [`wait`](Receipt::wait) or `.await`, at the level the record was sent with.
#[derive(Clone, Debug)]
#[must_use = "a receipt says whether the record was acknowledged; wait on it, or drop it on purpose"]
pub struct Receipt {
    partition: Arc<Partition>,
    offset: u64,
    count: u32,
    run: u32,
    acks: Acks,
}

impl Receipt {
    #[inline]
    pub(crate) fn new(partition: Arc<Partition>, placed: Placed, count: u32, acks: Acks) -> Receipt {
        Receipt { partition, offset: placed.offset, count, run: placed.run, acks }
    }

    /// The partition it went to.
    pub fn partition(&self) -> u32 {
        self.partition.number
    }

    /// The offset it was given (of the first record, for a batch). It holds once the receipt is
    /// acknowledged; if the write fails another record may get it.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The offsets of all its records: from the first (inclusive) to behind the last (exclusive).
    pub fn offsets(&self) -> Range<u64> {
        self.offset..self.end_offset()
    }

    /// What it waits for.
    pub fn acks(&self) -> Acks {
        self.acks
    }

    /// Whether it is acknowledged; an error if that can't happen any more. Never waits.
    ///
    /// # Errors
    /// As [`wait`](Receipt::wait).
    pub fn is_acknowledged(&self) -> Result<bool> {
        self.partition.env.drive.nudge();
        match self.partition.outcome(self.acks, self.end_offset(), self.run) {
            None => Ok(false),
            Some(outcome) => outcome.map(|()| true),
        }
    }

    /// Blocks until it is acknowledged. In async code: `.await` the receipt.
    ///
    /// # Errors
    /// `NoRoom` if the record could not be stored (it is not in the log; send it again),
    /// `Failed` if the partition stopped after an I/O error, `Closed` if the engine was.
    pub fn wait(&self) -> Result<RecordMetadata> {
        let outcome = self.partition.wait(self.acks, self.end_offset(), self.run, None).unwrap_or(Ok(()));
        outcome.map(|()| self.metadata())
    }

    /// Blocks for at most `timeout`; `None` if it isn't acknowledged by then.
    ///
    /// # Errors
    /// As [`wait`](Receipt::wait).
    pub fn wait_for(&self, timeout: Duration) -> Result<Option<RecordMetadata>> {
        let outcome = self.partition.wait(self.acks, self.end_offset(), self.run, Some(timeout)).transpose()?;
        Ok(outcome.map(|()| self.metadata()))
    }

    fn end_offset(&self) -> u64 {
        self.offset + u64::from(self.count)
    }

    fn metadata(&self) -> RecordMetadata {
        RecordMetadata { partition: self.partition.number, offset: self.offset }
    }
}

impl IntoFuture for Receipt {
    type Output = Result<RecordMetadata>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<RecordMetadata>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let done = self.partition.acknowledged(self.acks, self.end_offset(), self.run);
        let done = Driven::new(&self.partition.env, done);
        Box::pin(async move { done.await.map(|()| self.metadata()) })
    }
}
