//! One partition by itself: append, read by offset, wait. For databases and replicated logs.

use std::future::Future;
use std::ops::{Bound, Range, RangeBounds};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::producer::incoming;
use super::{Engine, Receipt, Record, Topic};
use crate::config::Acks;
use crate::error::{Error, ErrorKind, Result};
use crate::partition::{Appended, Batch, Caller, Driven, FetchedRecord, FnFuture, Partition as Inner, Reader, Terms};

/// A handle on one partition. Cheap to clone.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let engine = thalweg::Engine::open(dir.path())?;
/// use thalweg::{Record, TopicConfig};
/// engine.create_topic("raft", TopicConfig::default())?;
/// let log = engine.partition("raft", 0)?;
/// log.append_batch(&[Record::new("a"), Record::new("b"), Record::new("c")])?.wait()?;
/// assert!(log.append_if(7, &[Record::new("d")]).is_err());          // it ends at 3
/// let values: Vec<_> = log.read(1..)?.map(|batch| batch.unwrap().iter().count()).collect();
/// assert_eq!(values.iter().sum::<usize>(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Partition {
    pub(super) engine: Engine,
    topic: Arc<Topic>,
    pub(super) inner: Arc<Inner>,
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partition").field("topic", &self.topic.name).field("number", &self.inner.number).finish()
    }
}

impl Partition {
    pub(super) fn new(engine: Engine, topic: Arc<Topic>, inner: Arc<Inner>) -> Partition {
        Partition { engine, topic, inner }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic.name
    }

    /// The partition's number.
    pub fn number(&self) -> u32 {
        self.inner.number
    }

    // ---- appending

    /// Appends a record here, whatever its key. Blocks while the buffers are full; in async code:
    /// [`append_async`](Partition::append_async).
    ///
    /// # Errors
    /// As [`Producer::send`](super::Producer::send).
    pub fn append(&self, record: &Record<'_>) -> Result<Receipt> {
        self.append_all(std::slice::from_ref(record), None)
    }

    /// Appends records, all or none: they share a batch, and no crash leaves a part of them. Blocks while the buffers are
    /// full; in async code: [`append_batch_async`](Partition::append_batch_async).
    ///
    /// # Errors
    /// As [`Producer::send_batch`](super::Producer::send_batch).
    pub fn append_batch(&self, records: &[Record<'_>]) -> Result<Receipt> {
        self.append_all(records, None)
    }

    /// Appends records, all or none, if the first gets the offset `expected_end`. Blocks while the buffers are full; in
    /// async code: [`append_if_async`](Partition::append_if_async).
    ///
    /// # Errors
    /// `EndMismatch` if the log ends elsewhere (nothing was appended); else as
    /// [`append_batch`](Partition::append_batch).
    pub fn append_if(&self, expected_end: u64, records: &[Record<'_>]) -> Result<Receipt> {
        self.append_all(records, Some(expected_end))
    }

    /// The twin of [`append`](Partition::append) for async code; the future is done when the record has a place, not when
    /// it is acknowledged.
    ///
    /// # Errors
    /// As [`append`](Partition::append).
    pub async fn append_async(&self, record: &Record<'_>) -> Result<Receipt> {
        self.append_all_async(std::slice::from_ref(record), None).await
    }

    /// The twin of [`append_batch`](Partition::append_batch) for async code, as [`append_async`](Partition::append_async).
    ///
    /// # Errors
    /// As [`append_batch`](Partition::append_batch).
    pub async fn append_batch_async(&self, records: &[Record<'_>]) -> Result<Receipt> {
        self.append_all_async(records, None).await
    }

    /// The twin of [`append_if`](Partition::append_if) for async code, as [`append_async`](Partition::append_async).
    ///
    /// # Errors
    /// As [`append_if`](Partition::append_if).
    pub async fn append_if_async(&self, expected_end: u64, records: &[Record<'_>]) -> Result<Receipt> {
        self.append_all_async(records, Some(expected_end)).await
    }

    fn append_all(&self, records: &[Record<'_>], expected_end: Option<u64>) -> Result<Receipt> {
        // Mostly one record, for which there is room: nothing is allocated for that.
        if let [record] = records {
            let acks = record.acks.unwrap_or(self.topic.current().config.acks);
            let terms = Terms { expected_end, ..Terms::default() };
            let incoming = incoming(&self.engine, record);
            match self.inner.try_append(std::slice::from_ref(&incoming), acks == Acks::Synced, terms) {
                Ok(Appended::Placed(placed)) => return Ok(Receipt::new(self.inner.clone(), placed, 1, acks)),
                Err(error) if error.kind() != &ErrorKind::Full => return Err(error),
                Ok(Appended::Moved) | Err(_) => {}
            }
        }
        let placed = self.engine.core.env.drive.wait(self.place_all(records, expected_end, Caller::Thread), None);
        placed.unwrap_or_else(|| Err(Error::new(ErrorKind::Closed)))
    }

    async fn append_all_async(&self, records: &[Record<'_>], expected_end: Option<u64>) -> Result<Receipt> {
        Driven::new(&self.engine.core.env, Box::pin(self.place_all(records, expected_end, Caller::Task))).await
    }

    async fn place_all(&self, records: &[Record<'_>], expected_end: Option<u64>, caller: Caller) -> Result<Receipt> {
        if records.is_empty() {
            return Err(Error::invalid("a batch needs at least one record"));
        }
        let acks = records
            .iter()
            .map(|record| record.acks.unwrap_or(self.topic.current().config.acks))
            .max()
            .unwrap_or_default();
        let incoming: Vec<_> = records.iter().map(|record| incoming(&self.engine, record)).collect();
        let terms = Terms { expected_end, chosen_among: None };
        match self.inner.append(&incoming, acks == Acks::Synced, terms, caller).await? {
            Appended::Placed(placed) => Ok(Receipt::new(self.inner.clone(), placed, records.len() as u32, acks)),
            Appended::Moved => Err(Error::invalid("the partition was named, and not chosen")),
        }
    }

    // ---- how far it is

    /// The first offset that is kept (inclusive).
    pub fn log_start_offset(&self) -> u64 {
        let _ = self.inner.look(false);
        self.inner.progress.log_start()
    }

    /// The next offset to be assigned; records before it may still wait to be written.
    pub fn next_offset(&self) -> u64 {
        if self.engine.core.read_only { self.end_offset() } else { self.inner.next_offset() }
    }

    /// Below this (exclusive) everything is written, and can be read.
    pub fn end_offset(&self) -> u64 {
        let _ = self.inner.refresh();
        self.inner.progress.written()
    }

    /// Below this (exclusive) everything survives power loss. In a read-only engine, as far as the
    /// log and the catalogue prove it: the last record of a flow within about two seconds, or when the writing engine
    /// is closed.
    pub fn durable_offset(&self) -> u64 {
        let _ = self.inner.refresh();
        self.inner.progress.durable()
    }

    /// Blocks until everything below `offset` (exclusive) is written, and can be read. In async code:
    /// [`written`](Partition::written).
    ///
    /// The answer is for the records that have these offsets when this is called. A record whose write had failed
    /// before has lost its offset to the next one: only its [`Receipt`] answers for that record.
    ///
    /// # Errors
    /// `NoRoom` or `Failed` if one of those records is not in the log; `OffsetOutOfRange` if no record below `offset`
    /// was ever sent; `Closed`.
    pub fn wait_written(&self, offset: u64) -> Result<()> {
        self.wait(Acks::Written, offset)
    }

    /// Blocks until everything below `offset` (exclusive) is durable; asks for the sync it takes. In async code:
    /// [`durable`](Partition::durable).
    ///
    /// The answer is for the records that have these offsets when this is called, as of
    /// [`wait_written`](Partition::wait_written).
    ///
    /// # Errors
    /// As [`wait_written`](Partition::wait_written); `ReadOnly` in a read-only engine if the log doesn't prove it.
    pub fn wait_durable(&self, offset: u64) -> Result<()> {
        self.wait(Acks::Synced, offset)
    }

    /// The twin of [`wait_written`](Partition::wait_written) for async code; the call itself counts, not the first
    /// poll.
    ///
    /// # Errors
    /// As [`wait_written`](Partition::wait_written).
    pub fn written(&self, offset: u64) -> impl Future<Output = Result<()>> + Send + Unpin + use<> {
        self.reached(Acks::Written, offset)
    }

    /// The twin of [`wait_durable`](Partition::wait_durable) for async code; the call itself counts, not the first
    /// poll.
    ///
    /// # Errors
    /// As [`wait_durable`](Partition::wait_durable).
    pub fn durable(&self, offset: u64) -> impl Future<Output = Result<()>> + Send + Unpin + use<> {
        self.reached(Acks::Synced, offset)
    }

    fn wait(&self, level: Acks, offset: u64) -> Result<()> {
        match self.run_of(level, offset)? {
            Some(run) => self.inner.wait(level, offset, run, None).unwrap_or(Ok(())),
            None => Ok(()),
        }
    }

    fn reached(&self, level: Acks, offset: u64) -> impl Future<Output = Result<()>> + Send + Unpin + use<> {
        let mut waiting = self
            .run_of(level, offset)
            .map(|run| run.map(|run| Driven::new(&self.inner.env, self.inner.acknowledged(level, offset, run))));
        FnFuture(move |context: &mut Context<'_>| match &mut waiting {
            Ok(Some(done)) => Pin::new(done).poll(context),
            Ok(None) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.clone())),
        })
    }

    /// The run of numbers in which the record before `offset` was sent; `None` if what is asked for holds already.
    fn run_of(&self, level: Acks, offset: u64) -> Result<Option<u32>> {
        self.engine.core.env.opener.check()?;
        let progress = &self.inner.progress;
        if self.engine.core.read_only {
            self.inner.refresh()?;
            let written = progress.written();
            return match offset {
                _ if offset > written => Err(self.out_of_range(offset, written)),
                _ if level == Acks::Synced && offset > progress.durable() => {
                    Err(Error::new(ErrorKind::ReadOnly).at_partition(self.topic(), self.number()))
                }
                _ => Ok(None),
            };
        }
        let (end, run) = self.inner.sent();
        if offset <= end {
            return Ok(Some(run));
        }
        let failure = progress.failure_of(offset).map(|error| error.at_partition(self.topic(), self.number()));
        Err(failure.or_else(|| self.inner.stopped()).unwrap_or_else(|| self.out_of_range(offset, end)))
    }

    // ---- reading

    /// The record at `offset`.
    ///
    /// The checksum of its batch is compared unless a call of `get` did that within the last two seconds.
    ///
    /// # Errors
    /// `OffsetOutOfRange` below the log start, or at or beyond the end; `Corrupt` if it is damaged.
    pub fn get(&self, offset: u64) -> Result<FetchedRecord> {
        self.engine.core.env.opener.check()?;
        let durable_only = self.topic.current().config.read_durable;
        if offset >= self.inner.progress.readable(durable_only) {
            self.inner.refresh()?;
        } else {
            // A record that is known: only the catalogue can say otherwise, and that now and then.
            let _ = self.inner.look(false);
        }
        let mut reader = Reader::new(self.inner.clone(), offset, durable_only);
        reader.next_record()?.ok_or_else(|| self.out_of_range(offset, reader.readable()))
    }

    /// Batches with the records in `offsets`, up to what may be read now. Without a lower bound,
    /// from the log start.
    ///
    /// # Errors
    /// `OffsetOutOfRange` if the first offset is below the log start or beyond the end. The
    /// iterator's items may be errors too: `Corrupt` where the log is damaged.
    pub fn read(&self, offsets: impl RangeBounds<u64>) -> Result<Reading> {
        self.inner.refresh()?;
        let from = match offsets.start_bound() {
            Bound::Included(&from) => from,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => self.log_start_offset(),
        };
        let to = match offsets.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&to) => to,
            Bound::Unbounded => u64::MAX,
        };
        let reader = Reader::new(self.inner.clone(), from, self.topic.current().config.read_durable);
        let range = || (self.inner.progress.log_start(), reader.readable());
        let is_outside = |(start, end)| from < start || from > end;
        if is_outside(range()) {
            let error = self.out_of_range(from, reader.readable());
            if !self.inner.look_again(from, &error) || is_outside(range()) {
                return Err(self.out_of_range(from, reader.readable()));
            }
        }
        let end = reader.readable();
        // Where damage ends the log before its time, a reading that wants more ends with that error.
        let to = if self.inner.damage().is_some() { to } else { to.min(end.max(from)) };
        Ok(Reading { reader, range: from..to, failed: false })
    }

    /// The last `count` records that may be read now, or all if there are fewer.
    ///
    /// # Errors
    /// As [`read`](Partition::read).
    pub fn last(&self, count: u64) -> Result<Reading> {
        self.inner.refresh()?;
        let end = self.inner.progress.readable(self.topic.current().config.read_durable);
        self.read(end.saturating_sub(count).max(self.log_start_offset())..end)
    }

    /// The offset of the first record whose timestamp is at least `timestamp_ms`; `None` if all are
    /// earlier.
    ///
    /// # Errors
    /// `Corrupt` or `Io` where the log can't be read: on the way to that record, or anywhere behind the records that
    /// can be read if all of those are earlier.
    pub fn offset_for_timestamp(&self, timestamp_ms: i64) -> Result<Option<u64>> {
        self.inner.refresh()?;
        Reader::new(self.inner.clone(), self.log_start_offset(), self.topic.current().config.read_durable)
            .offset_for_timestamp(timestamp_ms)
    }

    /// Drops the records below `offset` (exclusive), for good. Blocks until that is durable; in async code:
    /// [`delete_records_async`](Partition::delete_records_async). Whole segments below it
    /// are removed.
    ///
    /// # Errors
    /// `OffsetOutOfRange` beyond the end; `ReadOnly`; `UnknownTopic` if it was deleted; `NoRoom` or `Failed` of the
    /// catalogue.
    pub fn delete_records(&self, offset: u64) -> Result<()> {
        self.engine.core.env.opener.check()?;
        let end = self.end_offset();
        if offset > end {
            return Err(self.out_of_range(offset, end));
        }
        if offset <= self.log_start_offset() {
            return Ok(());
        }
        if self.engine.core.read_only {
            return Err(Error::new(ErrorKind::ReadOnly).at_partition(self.topic(), self.number()));
        }
        if self.inner.mark().is_none_or(|mark| mark.durable_offset < offset) {
            self.wait_durable(end)?;
        }
        if crate::teeth::bites("delete-records-forgotten") {
            self.inner.progress.raise_log_start(offset);
            return Ok(());
        }
        self.engine.core.background.raise_log_start(&self.inner, offset)
    }

    fn out_of_range(&self, requested: u64, end: u64) -> Error {
        let start = self.log_start_offset();
        let end = end.max(start);
        Error::new(ErrorKind::OffsetOutOfRange { requested, start, end }).at_partition(self.topic(), self.number())
    }
}

/// Iterator over the batches of a [`Partition::read`]. It ends after an error.
#[derive(Debug)]
pub struct Reading {
    reader: Reader,
    range: Range<u64>,
    failed: bool,
}

impl Iterator for Reading {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        if self.failed || self.reader.next_offset() >= self.range.end {
            return None;
        }
        match self.reader.next_batch() {
            Ok(batch) => batch
                .map(|batch| batch.narrowed(self.range.clone()))
                .filter(|batch| !batch.offsets().is_empty())
                .map(Ok),
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}
