//! Batches and records as readers get them: views into the mapped file, nothing copied.
//!
//! A batch was checked whole before it is handed out (header, body checksum, the walk over its
//! records), so iterating it can't fail. It keeps its mapping alive: rolling, retention and the
//! deletion of its topic don't touch it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::disk::View;
use crate::format::{BATCH_HEADER_BYTES, BatchHeader, HeaderSection, Places, RecordWalk, find_record};

/// A checked batch of records in the mapped log. Cheap to clone; holds the mapping alive.
///
/// Its bytes stay readable through rolling, retention and the deletion of its topic. Another program that shortens the
/// segment takes them away: reading them then ends the process with SIGBUS.
///
/// ```no_run
/// # fn handle(_: Option<&[u8]>, _: Option<&[u8]>) {}
/// # fn example(batch: thalweg::Batch) {
/// for record in &batch {
///     handle(record.key(), record.value());
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Batch {
    view: Arc<dyn View>,
    position: u64,
    header: BatchHeader,
    topic: Arc<str>,
    partition: u32,
    visible: Range<u64>,
}

impl Batch {
    /// The caller has checked the batch's bytes at `position`.
    pub(crate) fn new(
        view: Arc<dyn View>,
        position: u64,
        header: BatchHeader,
        topic: Arc<str>,
        partition: u32,
        visible: Range<u64>,
    ) -> Batch {
        Batch { view, position, header, topic, partition, visible }
    }

    /// The topic it was read from.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition it was read from.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The offsets to be seen here: from the one asked for (inclusive) to the batch's end (exclusive).
    pub fn offsets(&self) -> Range<u64> {
        self.visible.clone()
    }

    /// Bytes the whole batch takes in the file.
    pub fn stored_bytes(&self) -> u64 {
        u64::from(self.header.length)
    }

    /// The epoch it was written in: with the offset after a record, a position that can be checked later.
    pub fn epoch(&self) -> u32 {
        self.header.epoch
    }

    /// When it was written, in milliseconds since 1970 by the writer's clock.
    pub fn appended_ms(&self) -> i64 {
        self.header.appended_ms
    }

    /// The largest timestamp in the whole batch, in milliseconds since 1970.
    pub fn max_timestamp(&self) -> i64 {
        self.header.max_timestamp
    }

    /// Its records in order.
    pub fn iter(&self) -> Records<'_> {
        self.iter_from(0)
    }

    fn body(&self) -> &[u8] {
        let from = self.position + BATCH_HEADER_BYTES as u64;
        let to = self.position + u64::from(self.header.length);
        self.view.bytes(from..to).unwrap_or(&[])
    }

    /// Its records from the one on that begins at `place` in the body.
    fn iter_from(&self, place: usize) -> Records<'_> {
        Records {
            walk: RecordWalk::new(self.body().get(place..).unwrap_or(&[]), self.header.record_count),
            base_offset: self.header.base_offset,
            base_timestamp: self.header.base_timestamp,
            visible: self.visible.clone(),
        }
    }

    /// The same batch with fewer offsets to be seen.
    pub(crate) fn narrowed(mut self, to: Range<u64>) -> Batch {
        self.visible = self.visible.start.max(to.start)..self.visible.end.min(to.end);
        self
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("offsets", &self.visible)
            .finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = RecordView<'a>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.iter()
    }
}

/// Iterator over the records of a [`Batch`].
#[derive(Clone)]
pub struct Records<'a> {
    walk: RecordWalk<'a>,
    base_offset: u64,
    base_timestamp: i64,
    visible: Range<u64>,
}

impl<'a> Iterator for Records<'a> {
    type Item = RecordView<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordView<'a>> {
        loop {
            let parts = self.walk.next()?;
            let offset = self.base_offset + u64::from(parts.offset_delta);
            if offset < self.visible.start {
                continue;
            }
            if offset >= self.visible.end {
                return None;
            }
            return Some(RecordView {
                offset,
                timestamp: self.base_timestamp.wrapping_add(i64::from(parts.timestamp_delta)),
                key: parts.key,
                value: parts.value,
                headers: parts.headers,
            });
        }
    }
}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("offsets", &self.visible).finish_non_exhaustive()
    }
}

/// A record in the mapped log. Key and value begin at multiples of 8, so they can be cast to a
/// type of your own without copying.
#[derive(Clone, Copy)]
pub struct RecordView<'a> {
    offset: u64,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: HeaderSection<'a>,
}

impl<'a> RecordView<'a> {
    /// Its number in the partition.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Milliseconds since 1970, as the producer gave it or as it was sent.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The key; `None` if it has none, which is not the same as an empty one.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; `None` for a tombstone, which is not the same as an empty one.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The headers in the order they were added; a header's value may be null.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        self.headers.iter()
    }
}

impl fmt::Debug for RecordView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.escape_ascii().to_string());
        f.debug_struct("RecordView")
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .field("key", &text(self.key))
            .field("value", &text(self.value))
            .finish_non_exhaustive()
    }
}

/// One record that keeps its mapping alive by itself, as [`Partition::get`](crate::Partition::get)
/// returns it.
#[derive(Clone, Debug)]
pub struct FetchedRecord {
    batch: Batch,
    offset: u64,
    /// Where it begins in the batch's body.
    place: usize,
}

impl FetchedRecord {
    /// The record with this offset, if the batch has it (compaction may have removed it).
    pub(crate) fn find(batch: Batch, offset: u64, places: &Places) -> Option<FetchedRecord> {
        let delta = u32::try_from(offset.checked_sub(batch.header.base_offset)?).ok()?;
        let place = find_record(batch.body(), delta, places)?;
        Some(FetchedRecord { batch: batch.narrowed(offset..offset + 1), offset, place })
    }

    /// Its number in the partition.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The record.
    pub fn view(&self) -> RecordView<'_> {
        self.batch.iter_from(self.place).next().unwrap_or(RecordView {
            offset: self.offset,
            timestamp: 0,
            key: None,
            value: None,
            headers: HeaderSection::default(),
        })
    }

    /// The epoch of the batch it stands in.
    pub fn epoch(&self) -> u32 {
        self.batch.epoch()
    }
}
