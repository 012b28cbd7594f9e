//! A record on its way in: borrowed bytes and where they go.

use crate::config::Acks;

/// A record to send: a value, and optionally a key, headers, a timestamp, a partition.
///
/// It borrows what it is given; sending copies the bytes once, straight into the log's buffer.
///
/// ```
/// use thalweg::Record;
/// let record = Record::new("189.45").key("AAPL").header("source", "feed-7");
/// let raw = Record::new(&[1u8, 2, 3]).partition(2).timestamp(1_700_000_000_000);
/// let deleted = Record::tombstone().key("AAPL");
/// # let _ = (record, raw, deleted);
/// ```
#[derive(Clone, Debug)]
pub struct Record<'a> {
    pub(crate) topic: Option<&'a str>,
    pub(crate) partition: Option<u32>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<(&'a str, Option<&'a [u8]>)>,
    pub(crate) acks: Option<Acks>,
}

impl<'a> Record<'a> {
    /// A record with this value, which may be empty.
    #[inline]
    pub fn new<V: AsRef<[u8]> + ?Sized>(value: &'a V) -> Record<'a> {
        Record { value: Some(value.as_ref()), ..Record::tombstone() }
    }

    /// A record without a value: with a key, it says that the key's last value no longer holds.
    #[inline]
    pub fn tombstone() -> Record<'a> {
        Record {
            topic: None,
            partition: None,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
            acks: None,
        }
    }

    /// Sets the key: records with equal keys go to one partition.
    #[inline]
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Record<'a> {
        self.key = Some(key.as_ref());
        self
    }

    /// Adds a header. Names may repeat; their order is kept.
    pub fn header<V: AsRef<[u8]> + ?Sized>(mut self, name: &'a str, value: &'a V) -> Record<'a> {
        self.headers.push((name, Some(value.as_ref())));
        self
    }

    /// Adds a header whose value is null.
    pub fn null_header(mut self, name: &'a str) -> Record<'a> {
        self.headers.push((name, None));
        self
    }

    /// Sets the timestamp in milliseconds since 1970; without it, the time of sending.
    #[inline]
    pub fn timestamp(mut self, ms: i64) -> Record<'a> {
        self.timestamp = Some(ms);
        self
    }

    /// Sets the partition; without it the key decides, and without a key chance.
    #[inline]
    pub fn partition(mut self, partition: u32) -> Record<'a> {
        self.partition = Some(partition);
        self
    }

    /// Sets the topic, for a producer that isn't one topic's.
    #[inline]
    pub fn topic(mut self, topic: &'a str) -> Record<'a> {
        self.topic = Some(topic);
        self
    }

    /// Sets what its receipt waits for, instead of the topic's default.
    #[inline]
    pub fn acks(mut self, acks: Acks) -> Record<'a> {
        self.acks = Some(acks);
        self
    }
}
