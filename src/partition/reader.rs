//! A reader's place in a partition, and the step to the next batch.
//!
//! Takes no lock per record or batch: only when it enters another segment. A checksum is verified
//! once, when a batch is entered; a window is populated before it is first touched, so that a page
//! the drive can't read is an error and not a signal. A lookup of one record relies on what was populated and checked
//! within the last two seconds (`segment/mapped.rs`).

use std::sync::Arc;

use super::Partition;
use super::batch::{Batch, FetchedRecord};
use crate::disk::View;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, BatchKind, FormatError, Places, check_records, find_magic,
};
use crate::segment::{Mapped, Segment};

/// How much is brought into memory at once: little at first, as a lookup reads one batch.
const FIRST_BYTES: u64 = 64 << 10;
const WINDOW_BYTES: u64 = 2 << 20;
const PAGE_BYTES: u64 = 4096;
/// A smaller batch is checked again in about the time that it takes to remember it.
const REMEMBERED_BYTES: u32 = 4 << 10;

/// The next batch with records at or after an offset.
#[derive(Debug)]
pub(crate) struct Reader {
    partition: Arc<Partition>,
    next_offset: u64,
    durable_only: bool,
    at: Option<At>,
    /// The place, while nothing is read. It holds no mapping: many readers would hold many, each with a descriptor.
    idle: Option<Idle>,
    /// Behind damage at this offset, where what is intact goes on, once that was looked for.
    next_intact: Option<(u64, Option<u64>)>,
}

/// A place without its mapping.
#[derive(Debug)]
struct Idle {
    segment: Arc<Segment>,
    position: u64,
    window: u64,
}

/// How the batch at a place is checked.
type Check<T> = fn(&mut At, &BatchHeader, u64) -> Result<T>;

/// A place in a segment: the start of a batch, or its end.
#[derive(Debug)]
struct At {
    segment: Arc<Segment>,
    view: Arc<Mapped>,
    position: u64,
    populated: u64,
    /// How much is populated next.
    window: u64,
}

impl Reader {
    pub(crate) fn new(partition: Arc<Partition>, offset: u64, durable_only: bool) -> Reader {
        Reader { partition, next_offset: offset, durable_only, at: None, idle: None, next_intact: None }
    }

    /// The offset the next batch begins with (or contains).
    pub(crate) fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Goes elsewhere. Whether there is anything shows when the next batch is asked for.
    pub(crate) fn seek(&mut self, offset: u64) {
        if offset != self.next_offset {
            self.next_offset = offset;
            self.at = None;
            self.idle = None;
        }
    }

    /// The end of what this reader may see now.
    pub(crate) fn readable(&self) -> u64 {
        self.partition.progress.readable(self.durable_only)
    }

    /// The next batch, or `None` at the end of what may be read now.
    ///
    /// # Errors
    /// `OffsetOutOfRange` below the log start or beyond the end; `Corrupt` where the log is damaged.
    pub(crate) fn next_batch(&mut self) -> Result<Option<Batch>> {
        Ok(self.stepped(At::check_body)?.map(|(batch, ())| batch))
    }

    /// The record at the next offset; `None` if its batch doesn't have it, or at the end of what may be read now. The
    /// batch isn't checked again if another lookup did that lately.
    ///
    /// # Errors
    /// As [`next_batch`](Reader::next_batch).
    pub(crate) fn next_record(&mut self) -> Result<Option<FetchedRecord>> {
        let offset = self.next_offset;
        let found = self.stepped(At::check_once)?;
        Ok(found.and_then(|(batch, places)| FetchedRecord::find(batch, offset, &places)))
    }

    /// Steps to the next batch with records, and checks it.
    fn stepped<T>(&mut self, check: Check<T>) -> Result<Option<(Batch, T)>> {
        match self.step(check) {
            Err(error) if self.partition.look_again(self.next_offset, &error) => {
                self.at = None;
                self.step(check)
            }
            stepped => stepped,
        }
        .inspect(|batch| {
            if batch.is_none() {
                self.rest();
            }
        })
        .map_err(|error| self.met(error))
    }

    /// Keeps the place, and no mapping: for a while nothing is read.
    pub(crate) fn rest(&mut self) {
        let idle = |At { segment, position, window, .. }| Idle { segment, position, window };
        self.idle = self.at.take().map(idle).or(self.idle.take());
    }

    /// Goes on at the place where it rested.
    fn resume(&self, Idle { segment, position, window }: Idle) -> Result<At> {
        Ok(At { window, ..self.enter(segment, position)? })
    }

    /// Adds to an error of damage where reading can go on, and tells the partition.
    #[cold]
    fn met(&mut self, error: Error) -> Error {
        if !matches!(error.kind(), ErrorKind::Corrupt { .. }) || self.next_offset >= self.readable() {
            return error.at_partition(&self.partition.topic, self.partition.number);
        }
        let next_intact = match self.next_intact {
            Some((offset, found)) if offset == self.next_offset => found,
            _ => self.find_intact(),
        };
        self.next_intact = Some((self.next_offset, next_intact));
        let error = self.partition.place(error, self.next_offset).with_next_intact(next_intact);
        self.partition.met_damage(&error);
        error
    }

    /// The first record behind the damage at the next offset that is intact, or the end if there is one behind it.
    fn find_intact(&self) -> Option<u64> {
        let limit = self.readable();
        for segment in self.partition.segments() {
            let ends_before = segment.is_sealed() && segment.end_offset() <= self.next_offset;
            if ends_before || segment.base_offset() >= limit {
                continue;
            }
            // Of a file that can't be read nothing is intact.
            let env = &self.partition.env;
            let position = match segment.base_offset() < self.next_offset {
                true => segment.position_at_or_before(self.next_offset, &*env.disk, &env.views).unwrap_or(BLOCK_BYTES),
                false => BLOCK_BYTES,
            };
            let found = self.enter(segment, position).and_then(|mut at| at.find_intact(self.next_offset));
            if let Ok(Some(offset)) = found {
                return Some(offset.min(limit));
            }
        }
        Some(limit)
    }

    fn step<T>(&mut self, check: Check<T>) -> Result<Option<(Batch, T)>> {
        while let Some(header) = self.next_header()? {
            let Some(at) = &mut self.at else { continue };
            let (position, published) = (at.position, at.segment.published());
            let end_offset = header.end_offset().min(at.segment.end_offset());
            let checked = check(at, &header, published);
            let checked = checked.map_err(|error| self.partition.place(error, self.next_offset))?;
            at.position += u64::from(header.length);
            let from = self.next_offset.max(header.base_offset);
            self.next_offset = end_offset;
            if header.attributes.kind().ok() != Some(BatchKind::Records) {
                continue;
            }
            let (topic, number) = (self.partition.topic.clone(), self.partition.number);
            let batch = Batch::new(at.view.clone(), position, header, topic, number, from..end_offset);
            return Ok(Some((batch, checked)));
        }
        Ok(None)
    }

    /// The header of the batch that holds the next offset; its body isn't looked at.
    fn next_header(&mut self) -> Result<Option<BatchHeader>> {
        loop {
            let limit = self.readable();
            if self.next_offset >= limit {
                self.check_range(limit)?;
                return match self
                    .partition
                    .damage_ahead(self.next_offset)
                    .or_else(|| self.partition.stopped())
                    .or_else(|| self.partition.take_unread())
                {
                    Some(error) => Err(error.at_partition(&self.partition.topic, self.partition.number)),
                    None => Ok(None),
                };
            }
            if self.at.is_none() {
                self.check_range(limit)?;
                self.at = Some(match self.idle.take() {
                    Some(idle) => self.resume(idle)?,
                    None => self.find()?,
                });
            }
            let Some(at) = &mut self.at else { continue };
            let published = at.segment.published();
            if self.next_offset >= at.segment.end_offset() || at.position >= published {
                // Written but not here: it is in the successor, or missing.
                let segment = self.partition.segment_for(self.next_offset)?;
                if Arc::ptr_eq(&segment, &at.segment) {
                    let end_offset = segment.end_offset();
                    if segment.header().rewrite > 0 && segment.is_sealed() && end_offset > self.next_offset {
                        // The rest of its offsets was left out when it was rewritten.
                        self.next_offset = end_offset.min(limit);
                        continue;
                    }
                    return Err(self.missing(segment, published));
                }
                self.at = Some(self.enter(segment, BLOCK_BYTES)?);
                continue;
            }
            let position = at.position;
            let header = match at.header(published) {
                Ok(header) => header,
                // What is damaged may lie before what is asked for.
                Err(_) if at.skip_damage(self.next_offset, published)? => continue,
                Err(error) => return Err(self.partition.place(error, self.next_offset)),
            };
            let end_offset = header.end_offset().min(at.segment.end_offset());
            if end_offset <= self.next_offset {
                // Before what is asked for, or a batch without offsets: its body is nobody's concern.
                at.position += u64::from(header.length);
                continue;
            }
            if header.base_offset > self.next_offset && at.segment.header().rewrite == 0 {
                // Only compaction leaves gaps.
                let segment = at.segment.clone();
                return Err(self.missing(segment, position));
            }
            return Ok(Some(header));
        }
    }

    /// The epoch of the batch that holds the record before `offset`; 0 if the log has no such record.
    pub(crate) fn epoch_before(partition: &Arc<Partition>, offset: u64) -> Result<u32> {
        if offset <= partition.progress.log_start() || offset > partition.progress.written() {
            return Ok(0);
        }
        let mut reader = Reader::new(partition.clone(), offset - 1, false);
        let header = match reader.next_header() {
            // That of the next whole batch, which is what stands there once the log is repaired.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt { .. }) => {
                let Some(next) = reader.find_intact().filter(|&next| next < reader.readable()) else {
                    return Err(error);
                };
                Reader::new(partition.clone(), next, false).next_header()?
            }
            header => header?,
        };
        // One that begins behind it stands behind a gap.
        Ok(header.filter(|header| header.base_offset < offset).map_or(0, |header| header.epoch))
    }

    /// The offset of the first record that was written in a later epoch; the end if there is none.
    pub(crate) fn first_after_epoch(partition: &Arc<Partition>, epoch: u32) -> Result<u64> {
        // Epochs never fall along a log, and a segment's header has that of its beginning.
        let segments = partition.segments();
        let before = segments.iter().rev().find(|segment| segment.header().epoch <= epoch).or(segments.first());
        let start = partition.progress.log_start();
        let from = before.map_or(start, |segment| segment.base_offset().max(start));
        let mut reader = Reader::new(partition.clone(), from, false);
        while let Some(header) = reader.next_header()? {
            if header.epoch > epoch {
                return Ok(header.base_offset.max(from));
            }
            reader.next_offset = header.end_offset();
        }
        Ok(partition.progress.written())
    }

    /// The offset of the first record with a timestamp of at least `timestamp`, at or after the next
    /// offset; `None` if there is none.
    ///
    /// # Errors
    /// As [`next_batch`](Reader::next_batch), also if only what lies behind damage could have it.
    pub(crate) fn offset_for_timestamp(mut self, timestamp: i64) -> Result<Option<u64>> {
        let env = self.partition.env.clone();
        let earlier = |segment: &Arc<Segment>| {
            segment.is_sealed() && segment.knows_times() && segment.max_timestamp() < timestamp
        };
        let Some(segment) = self.partition.segments().into_iter().find(|segment| !earlier(segment)) else {
            return Ok(None);
        };
        if segment.end_offset() > self.next_offset {
            let position = segment.position_before_timestamp(timestamp, &*env.disk, &env.views)?;
            let at = self.enter(segment, position)?;
            if let Ok(header) = at.segment.header_at(&*at.view, position)
                && header.base_offset >= self.next_offset
            {
                self.next_offset = header.base_offset;
                self.at = Some(at);
            }
        }
        while self.next_offset < self.readable()
            && let Some(batch) = self.next_batch()?
        {
            if batch.max_timestamp() >= timestamp
                && let Some(record) = batch.iter().find(|record| record.timestamp() >= timestamp)
            {
                return Ok(Some(record.offset()));
            }
        }
        // Behind damage there may be one.
        match self.partition.damage_ahead(self.next_offset) {
            Some(error) => Err(error.at_partition(&self.partition.topic, self.partition.number)),
            None => Ok(None),
        }
    }

    fn check_range(&mut self, limit: u64) -> Result<()> {
        let start = self.partition.progress.log_start();
        if self.next_offset > limit
            && self.next_offset <= self.partition.progress.written()
            && let Some(error) = self.partition.stopped()
        {
            // What was read before the partition failed may be lost.
            return Err(error);
        }
        // While one that reads beside the writer begins anew, the log start rises first.
        let end = limit.max(start);
        if self.next_offset < start || self.next_offset > end {
            return Err(Error::new(ErrorKind::OffsetOutOfRange { requested: self.next_offset, start, end })
                .at_partition(&self.partition.topic, self.partition.number));
        }
        Ok(())
    }

    /// The segment of the next offset, at the best place the index knows.
    fn find(&self) -> Result<At> {
        let segment = self.partition.segment_for(self.next_offset)?;
        let env = &self.partition.env;
        if self.next_offset == segment.base_offset() {
            return self.enter(segment, BLOCK_BYTES);
        }
        let found = segment.position_at_or_before(self.next_offset, &*env.disk, &env.views);
        let mut at = self.enter(segment, found.map_err(|error| self.dropped_or(error))?)?;
        if at.position > BLOCK_BYTES {
            // The index was held against the header there.
            at.populated = at.position + BATCH_HEADER_BYTES as u64;
        }
        Ok(at)
    }

    fn enter(&self, segment: Arc<Segment>, position: u64) -> Result<At> {
        let env = &self.partition.env;
        let view = segment
            .view(&*env.disk, &env.views)
            .map_err(|error| self.dropped_or(error.at_partition(&self.partition.topic, self.partition.number)))?;
        Ok(At { segment, view, position, populated: 0, window: FIRST_BYTES })
    }

    /// What is wrong if a segment's file can't be read: it may just have been dropped from the log.
    #[cold]
    fn dropped_or(&self, error: Error) -> Error {
        let (start, end) = (self.partition.progress.log_start(), self.readable());
        if self.next_offset >= start {
            return error;
        }
        Error::new(ErrorKind::OffsetOutOfRange { requested: self.next_offset, start, end })
            .at_partition(&self.partition.topic, self.partition.number)
    }

    #[cold]
    fn missing(&self, segment: Arc<Segment>, position: u64) -> Error {
        self.partition.place(
            segment.damage(position, format!("offset {} should follow here, and does not", self.next_offset)),
            self.next_offset,
        )
    }
}

impl At {
    /// The checked header of the batch at the current position.
    fn header(&mut self, published: u64) -> Result<BatchHeader> {
        let position = self.position;
        let end = position + BATCH_HEADER_BYTES as u64;
        if end > published {
            return Err(self.damage(FormatError::Invalid("the file ends within a batch header".into())));
        }
        self.populate(end, published)?;
        let bytes = self.bytes(position..end)?;
        BatchHeader::decode(bytes, self.segment.seed(), position, published - position)
            .map_err(|error| self.damage(error))
    }

    /// Goes on at the next whole header, unless that is beyond `offset`. Whether it did.
    #[cold]
    fn skip_damage(&mut self, offset: u64, published: u64) -> Result<bool> {
        let mut from = self.position + 8;
        while from + BATCH_HEADER_BYTES as u64 <= published {
            let end = (from + WINDOW_BYTES).min(published);
            self.populate(end, published)?;
            let bytes = self.bytes(from..end)?;
            let mut next = 0;
            while let Some(found) = find_magic(bytes, next) {
                let position = from + found as u64;
                if let Ok(header) =
                    BatchHeader::decode(&bytes[found..], self.segment.seed(), position, published - position)
                {
                    if header.base_offset <= offset {
                        self.position = position;
                    }
                    return Ok(header.base_offset <= offset);
                }
                next = found + 8;
            }
            if end == published {
                break;
            }
            from = end - BATCH_HEADER_BYTES as u64;
        }
        Ok(false)
    }

    /// The offset of the first record at or behind `offset`, in a batch that is whole and begins behind it, or holds it.
    #[cold]
    fn find_intact(&mut self, offset: u64) -> Result<Option<u64>> {
        let published = self.segment.published();
        while self.position + BATCH_HEADER_BYTES as u64 <= published {
            let Ok(header) = self.header(published) else {
                if !self.skip_damage(u64::MAX, published)? {
                    break;
                }
                continue;
            };
            if header.end_offset() > offset && self.check_body(&header, published).is_ok() {
                return Ok(Some(header.base_offset.max(offset)));
            }
            self.position += u64::from(header.length);
        }
        Ok(None)
    }

    /// Checks the body of the batch at the current position: checksum, and the walk over its records.
    fn check_body(&mut self, header: &BatchHeader, published: u64) -> Result<()> {
        let end = self.position + u64::from(header.length);
        self.populate(end, published)?;
        let body = self.bytes(self.position + BATCH_HEADER_BYTES as u64..end)?;
        if !crate::teeth::bites("reader-checks-no-body") {
            header.check_body(body).map_err(|error| self.damage(error))?;
        }
        if header.attributes.kind().ok() == Some(BatchKind::Records) {
            check_records(header, body).map_err(|error| self.damage(error))?;
        }
        Ok(())
    }

    /// The same, unless that was done lately; where its records lie, if that is remembered.
    fn check_once(&mut self, header: &BatchHeader, published: u64) -> Result<Places> {
        if let Some(places) = self.view.checked(self.position) {
            return Ok(places);
        }
        self.check_body(header, published)?;
        if header.length < REMEMBERED_BYTES || header.attributes.kind().ok() != Some(BatchKind::Records) {
            return Ok(Places::default());
        }
        let end = self.position + u64::from(header.length);
        let places = Places::of(header, self.bytes(self.position + BATCH_HEADER_BYTES as u64..end)?);
        self.view.note_checked(self.position, places);
        Ok(places)
    }

    fn bytes(&self, range: std::ops::Range<u64>) -> Result<&[u8]> {
        let position = self.position;
        self.view.bytes(range).map_err(|error| Error::io(error).at_path(self.segment.path()).at_position(position))
    }

    #[cold]
    fn damage(&self, error: FormatError) -> Error {
        match error {
            FormatError::Newer(found) => {
                Error::new(ErrorKind::NewerFormat { found }).at_path(self.segment.path()).at_position(self.position)
            }
            other => self.segment.damage(self.position, other.to_string()),
        }
    }

    /// Brings what lies before `end` into memory, in whole windows as far as they are written and can be read.
    fn populate(&mut self, end: u64, published: u64) -> Result<()> {
        if end <= self.populated {
            return Ok(());
        }
        let from = self.position.max(self.populated) / PAGE_BYTES * PAGE_BYTES;
        let to = end.max((from + self.window).min(published));
        self.window = (self.window * 2).min(WINDOW_BYTES);
        let mut filled = self.view.populate(from..to).map(|()| to);
        if filled.is_err() && end < to {
            // What can't be read may lie behind what is wanted.
            filled = self.view.populate(from..end).map(|()| end);
        }
        let filled =
            filled.map_err(|error| Error::io(error).at_path(self.segment.path()).at_position(self.position))?;
        self.populated = filled.next_multiple_of(PAGE_BYTES);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
