//! Reading several partitions, assigned by hand.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::partition::{Batch, Drive, FnFuture, Partition, Reader, ReadySet};

/// Bytes of batches after which a poll returns.
const POLL_BYTES: u64 = 4 << 20;
/// How often a read-only engine looks for what another process has written.
const FOLLOW_EVERY: Duration = Duration::from_millis(2);

/// Reads partitions in turn, each in order. See [`Engine::assign`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let engine = thalweg::Engine::open(dir.path())?;
/// use std::time::Duration;
/// use thalweg::{Record, TopicConfig};
/// engine.create_topic("ticks", TopicConfig::default())?;
/// engine.partition("ticks", 0)?.append(&Record::new("189.45"))?.wait()?;
///
/// let mut consumer = engine.assign([("ticks", 0)])?;
/// for batch in consumer.poll(Duration::from_secs(1))? {
///     for record in &batch {
///         println!("{}: {:?}", record.offset(), record.value());
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Consumer {
    engine: Engine,
    ready: Arc<ReadySet>,
    assigned: Vec<Assigned>,
    next: usize,
}

struct Assigned {
    partition: Arc<Partition>,
    reader: Reader,
    paused: bool,
}

/// What a poll returned: batches, each of one partition, in that partition's order.
#[derive(Debug, Default)]
pub struct Polled {
    batches: Vec<Batch>,
}

impl Polled {
    /// The batches.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// Whether the time passed without a record.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

impl IntoIterator for Polled {
    type Item = Batch;
    type IntoIter = std::vec::IntoIter<Batch>;

    fn into_iter(self) -> Self::IntoIter {
        self.batches.into_iter()
    }
}

impl<'a> IntoIterator for &'a Polled {
    type Item = &'a Batch;
    type IntoIter = std::slice::Iter<'a, Batch>;

    fn into_iter(self) -> Self::IntoIter {
        self.batches.iter()
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("assignment", &self.assignment().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

impl Consumer {
    pub(super) fn new(engine: Engine, partitions: Vec<Arc<Partition>>) -> Result<Consumer> {
        for (at, partition) in partitions.iter().enumerate() {
            if partitions[..at].iter().any(|other| Arc::ptr_eq(other, partition)) {
                return Err(
                    Error::invalid("a partition is assigned twice").at_partition(&partition.topic, partition.number)
                );
            }
        }
        let ready = Arc::new(ReadySet::new(partitions.len()));
        let mut assigned = Vec::with_capacity(partitions.len());
        for (bit, partition) in partitions.into_iter().enumerate() {
            partition.subscribe(ready.clone(), bit);
            let reader = Reader::new(partition.clone(), partition.progress.log_start(), partition.config.read_durable);
            assigned.push(Assigned { partition, reader, paused: false });
        }
        Ok(Consumer { engine, ready, assigned, next: 0 })
    }

    /// The partitions it reads.
    pub fn assignment(&self) -> impl Iterator<Item = (&str, u32)> {
        self.assigned.iter().map(|assigned| (&*assigned.partition.topic, assigned.partition.number))
    }

    /// Records that came since the last poll; waits at most `timeout` for the first. It wakes at once
    /// when a record arrives.
    ///
    /// # Errors
    /// `OffsetOutOfRange` if a position is below the log start or beyond the end: seek, then go on.
    /// `Corrupt` where a log is damaged; what was read before was returned before.
    pub fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        let engine = self.engine.clone();
        let env = &engine.core.env;
        if engine.core.read_only {
            return self.poll_following(timeout);
        }
        let polled = self.collect()?;
        if !polled.is_empty() || timeout.is_zero() {
            env.drive.nudge();
            return if polled.is_empty() { self.collect() } else { Ok(polled) };
        }
        let ready = self.ready.clone();
        let polled = env.drive.wait(self.next_batches(), Some((timeout, &*env.clock)));
        ready.awake();
        polled.unwrap_or_else(|| Ok(Polled::default()))
    }

    /// The twin of [`poll`](Consumer::poll) for async code: done when there are records.
    ///
    /// In a read-only engine nothing wakes it; use `poll` there.
    ///
    /// # Errors
    /// As [`poll`](Consumer::poll).
    pub fn next_batches(&mut self) -> impl Future<Output = Result<Polled>> + Unpin + '_ {
        FnFuture(move |context: &mut Context<'_>| {
            loop {
                match self.collect() {
                    Ok(polled) if polled.is_empty() => {}
                    result => return Poll::Ready(result),
                }
                if self.ready.sleep(context.waker()) {
                    return Poll::Pending;
                }
            }
        })
    }

    /// Beside a writer in another process: looks again and again.
    fn poll_following(&mut self, timeout: Duration) -> Result<Polled> {
        let clock = self.engine.core.env.clock.clone();
        let deadline = clock.monotonic().saturating_add(timeout);
        loop {
            for assigned in &self.assigned {
                assigned.partition.refresh()?;
            }
            let polled = self.collect()?;
            let left = deadline.saturating_sub(clock.monotonic());
            if !polled.is_empty() || left.is_zero() {
                return Ok(polled);
            }
            let nothing = std::future::pending::<()>();
            Drive::Threads.wait(nothing, Some((left.min(FOLLOW_EVERY), &*clock)));
        }
    }

    /// What the ready partitions have, without waiting.
    fn collect(&mut self) -> Result<Polled> {
        let mut polled = Polled::default();
        let mut bytes = 0;
        while bytes < POLL_BYTES
            && let Some(bit) = self.ready.take_from(self.next)
        {
            self.next = bit + 1;
            let Some(assigned) = self.assigned.get_mut(bit) else { continue };
            if assigned.paused {
                continue;
            }
            while bytes < POLL_BYTES {
                match assigned.reader.next_batch() {
                    Ok(Some(batch)) => {
                        bytes += batch.stored_bytes();
                        polled.batches.push(batch);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        self.ready.set(bit);
                        return if polled.is_empty() { Err(error) } else { Ok(polled) };
                    }
                }
            }
            if bytes >= POLL_BYTES {
                self.ready.set(bit);
            }
        }
        Ok(polled)
    }

    /// The offset that the next poll begins with.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition isn't assigned to this consumer.
    pub fn position(&self, topic: &str, partition: u32) -> Result<u64> {
        let at = self.find(topic, partition)?;
        Ok(self.assigned[at].reader.next_offset())
    }

    /// Goes to an offset. It is checked at the next poll.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition isn't assigned to this consumer.
    pub fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<()> {
        let at = self.find(topic, partition)?;
        self.assigned[at].reader.seek(offset);
        self.ready.set(at);
        Ok(())
    }

    /// Goes to the log start.
    ///
    /// # Errors
    /// As [`seek`](Consumer::seek).
    pub fn seek_to_beginning(&mut self, topic: &str, partition: u32) -> Result<()> {
        let at = self.find(topic, partition)?;
        let start = self.assigned[at].partition.progress.log_start();
        self.seek(topic, partition, start)
    }

    /// Goes to the end: the next poll returns what comes from now on.
    ///
    /// # Errors
    /// As [`seek`](Consumer::seek).
    pub fn seek_to_end(&mut self, topic: &str, partition: u32) -> Result<()> {
        let at = self.find(topic, partition)?;
        self.assigned[at].partition.refresh()?;
        let end = self.assigned[at].reader.readable();
        self.seek(topic, partition, end)
    }

    /// Returns no records of this partition until it is resumed.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition isn't assigned to this consumer.
    pub fn pause(&mut self, topic: &str, partition: u32) -> Result<()> {
        let at = self.find(topic, partition)?;
        self.assigned[at].paused = true;
        Ok(())
    }

    /// Goes on where it was paused.
    ///
    /// # Errors
    /// `InvalidArgument` if the partition isn't assigned to this consumer.
    pub fn resume(&mut self, topic: &str, partition: u32) -> Result<()> {
        let at = self.find(topic, partition)?;
        self.assigned[at].paused = false;
        self.ready.set(at);
        Ok(())
    }

    fn find(&self, topic: &str, partition: u32) -> Result<usize> {
        let here = |assigned: &Assigned| &*assigned.partition.topic == topic && assigned.partition.number == partition;
        self.assigned.iter().position(here).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument { reason: "the partition isn't assigned to this consumer".into() })
                .at_partition(topic, partition)
        })
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        for assigned in &self.assigned {
            assigned.partition.unsubscribe(&self.ready);
        }
    }
}
