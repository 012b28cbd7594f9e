//! Sending records.

use std::sync::Arc;

use super::{Engine, Receipt, Record, Topic};
use crate::config::Acks;
use crate::error::{Error, ErrorKind, Result};
use crate::partition::{Appended, Caller, Driven, Incoming, Partition, Terms};
use crate::topic::partition_for_key;

/// Sends records to one topic, or to any. Cheap to clone, to be used from many threads.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let engine = thalweg::Engine::open(dir.path())?;
/// use thalweg::{Record, TopicConfig};
/// engine.create_topic("ticks", TopicConfig::default().partitions(3))?;
/// let producer = engine.producer_for("ticks")?;
/// let mut last = None;
/// for price in ["189.45", "189.47", "189.44"] {
///     last = Some(producer.send(Record::new(price).key("AAPL"))?);   // returns at once
/// }
/// if let Some(receipt) = last {
///     assert_eq!(receipt.wait()?.offset, 2);                         // all three are durable now
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Producer {
    engine: Engine,
    topic: Option<Arc<Topic>>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("topic", &self.topic.as_ref().map(|topic| &topic.name)).finish_non_exhaustive()
    }
}

impl Producer {
    pub(super) fn new(engine: Engine, topic: Option<Arc<Topic>>) -> Producer {
        Producer { engine, topic }
    }

    /// Sends a record. Returns at once, but blocks while the buffers are full. In async code:
    /// [`send_async`](Producer::send_async).
    ///
    /// # Errors
    /// `RecordTooLarge`, `UnknownTopic`, `UnknownPartition`, `InvalidArgument`; `Failed` or `Closed`
    /// if the partition takes no more records. Nothing was sent then.
    #[inline]
    pub fn send(&self, record: Record<'_>) -> Result<Receipt> {
        match self.try_send_ref(&record) {
            Err(error) if error.kind() == &ErrorKind::Full => self.send_waiting(&[record]),
            result => result,
        }
    }

    /// Sends a record if that needs no waiting.
    ///
    /// # Errors
    /// `Full` if the buffers are; else as [`send`](Producer::send).
    #[inline]
    pub fn try_send(&self, record: Record<'_>) -> Result<Receipt> {
        self.try_send_ref(&record)
    }

    #[inline]
    fn try_send_ref(&self, record: &Record<'_>) -> Result<Receipt> {
        if let Some(topic) = &self.topic
            && record.topic.is_none_or(|name| name == &*topic.name)
        {
            return self.try_send_to(topic, record);
        }
        let topic = self.topic_of(record)?;
        self.try_send_to(&topic, record)
    }

    #[inline]
    fn try_send_to(&self, topic: &Arc<Topic>, record: &Record<'_>) -> Result<Receipt> {
        let incoming = self.incoming(record);
        let mut topic = topic.current();
        loop {
            let (partition, terms) = choose(topic, record, &incoming)?;
            let acks = record.acks.unwrap_or(topic.config.acks);
            match partition.try_append(std::slice::from_ref(&incoming), acks == Acks::Synced, terms)? {
                Appended::Placed(placed) => return Ok(Receipt::new(partition.clone(), placed, 1, acks)),
                Appended::Moved => topic = topic.current(),
            }
        }
    }

    /// Sends a record; the future is done when it has a place, not when it is acknowledged.
    ///
    /// # Errors
    /// As [`send`](Producer::send).
    pub async fn send_async(&self, record: Record<'_>) -> Result<Receipt> {
        match self.try_send_ref(&record) {
            Err(error) if error.kind() == &ErrorKind::Full => {
                self.send_batch_async(std::slice::from_ref(&record)).await
            }
            result => result,
        }
    }

    /// Sends several records to one partition, all or none: after any crash either all are there or
    /// none is. They go to the partition that is named, or that all their keys share. Blocks while the buffers are full;
    /// in async code: [`send_batch_async`](Producer::send_batch_async).
    ///
    /// # Errors
    /// As [`send`](Producer::send); `RecordTooLarge` if together they exceed `max_batch_bytes`;
    /// `InvalidArgument` if there are none, or if they name or key different topics or partitions.
    pub fn send_batch(&self, records: &[Record<'_>]) -> Result<Receipt> {
        self.send_waiting(records)
    }

    /// The twin of [`send_batch`](Producer::send_batch) for async code; the future is done when the batch has a place, not
    /// when it is acknowledged.
    ///
    /// # Errors
    /// As [`send_batch`](Producer::send_batch).
    pub async fn send_batch_async(&self, records: &[Record<'_>]) -> Result<Receipt> {
        Driven::new(&self.engine.core.env, Box::pin(self.place_all(records, Caller::Task))).await
    }

    /// The slow way: any number of records, waiting for a buffer if need be.
    fn send_waiting(&self, records: &[Record<'_>]) -> Result<Receipt> {
        let placed = self.engine.core.env.drive.wait(self.place_all(records, Caller::Thread), None);
        placed.unwrap_or_else(|| Err(Error::new(ErrorKind::Closed)))
    }

    async fn place_all(&self, records: &[Record<'_>], caller: Caller) -> Result<Receipt> {
        let Some(first) = records.first() else { return Err(Error::invalid("a batch needs at least one record")) };
        let mut topic = self.topic_of(first)?;
        if let Some(other) = records.iter().find(|record| record.topic.is_some_and(|name| name != &*topic.name)) {
            let other = other.topic.unwrap_or_default();
            return Err(Error::invalid(format!("a batch goes to one topic, not to {} and {other}", topic.name)));
        }
        let incoming: Vec<_> = records.iter().map(|record| self.incoming(record)).collect();
        loop {
            topic = topic.current().clone();
            let (partition, terms) = choose_for_all(&topic, records, &incoming)?;
            let acks = records.iter().map(|record| record.acks.unwrap_or(topic.config.acks)).max().unwrap_or_default();
            match partition.append(&incoming, acks == Acks::Synced, terms, caller).await? {
                Appended::Placed(placed) => {
                    return Ok(Receipt::new(partition.clone(), placed, records.len() as u32, acks));
                }
                Appended::Moved => {}
            }
        }
    }

    fn topic_of(&self, record: &Record<'_>) -> Result<Arc<Topic>> {
        match (&self.topic, record.topic) {
            (Some(topic), None) => Ok(topic.clone()),
            (Some(topic), Some(name)) if name == &*topic.name => Ok(topic.clone()),
            (Some(topic), Some(name)) => {
                Err(Error::invalid(format!("this producer is for topic {}, the record names {name}", topic.name)))
            }
            (None, Some(name)) => self.engine.core.topic(name),
            (None, None) => Err(Error::invalid("the record names no topic; use Record::topic, or producer_for")),
        }
    }

    #[inline]
    fn incoming<'a>(&self, record: &'a Record<'_>) -> Incoming<'a> {
        incoming(&self.engine, record)
    }
}

#[inline]
pub(super) fn incoming<'a>(engine: &Engine, record: &'a Record<'_>) -> Incoming<'a> {
    Incoming {
        timestamp: record.timestamp.unwrap_or_else(|| engine.core.env.clock.wall_ms()),
        key: record.key,
        value: record.value,
        headers: &record.headers,
    }
}

/// The partition that a record goes to, and that it was chosen, if it was.
#[inline]
fn choose<'t>(topic: &'t Topic, record: &Record<'_>, incoming: &Incoming<'_>) -> Result<(&'t Arc<Partition>, Terms)> {
    let count = topic.partitions.len() as u32;
    let chosen = Terms { expected_end: None, chosen_among: Some(count) };
    let (number, terms) = match (record.partition, record.key) {
        (Some(number), _) => (number, Terms::default()),
        (None, Some(key)) => (partition_for_key(key, count), chosen),
        (None, None) => (topic.sticky.choose(count, incoming.stored_bytes()), chosen),
    };
    Ok((topic.partition(number)?, terms))
}

/// One partition for all: the one named, else the one that all keys give, else any.
fn choose_for_all<'t>(
    topic: &'t Topic,
    records: &[Record<'_>],
    incoming: &[Incoming<'_>],
) -> Result<(&'t Arc<Partition>, Terms)> {
    let count = topic.partitions.len() as u32;
    let mut chosen: Option<u32> = None;
    for record in records {
        let number = record.partition.or_else(|| record.key.map(|key| partition_for_key(key, count)));
        match (chosen, number) {
            (Some(one), Some(other)) if one != other => {
                return Err(Error::invalid(format!(
                    "a batch goes to one partition, these records belong to {one} and {other}; name one, or send them apart"
                )));
            }
            (None, number) => chosen = number,
            _ => {}
        }
    }
    let named = records.iter().any(|record| record.partition.is_some());
    let terms = Terms { expected_end: None, chosen_among: (!named).then_some(count) };
    let bytes = incoming.iter().map(Incoming::stored_bytes).sum();
    Ok((topic.partition(chosen.unwrap_or_else(|| topic.sticky.choose(count, bytes)))?, terms))
}
