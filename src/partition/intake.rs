//! The open group of a partition: where producers put records and offsets are given.
//!
//! Everything here happens under the partition's one short lock. A *group* is what one write
//! carries; it holds one or more *batches*. Records are encoded straight into the group's buffer;
//! a batch's header is a draft until the writer knows its place.

use std::collections::VecDeque;
use std::task::Waker;

use super::pool::Pool;
use super::progress::{Progress, WaitQueue};
use crate::error::{Error, ErrorKind};
use crate::format::{
    Attributes, BATCH_HEADER_BYTES, BatchHeader, BatchKind, MAX_OFFSET, RawRecord, crc_on, encode_record, record_bytes,
};
use crate::lock::{AtomicU64, Ordering};
use crate::sys::prefetch::will_be_written;

/// Batches one behind the other, in the buffer of one write.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) bytes: Vec<u8>,
    pub(crate) end_offset: u64,
    capacity: usize,
}

/// The batch being filled: the last one in the open group.
#[derive(Debug)]
struct Draft {
    /// Where its header stands in the group's buffer.
    start: usize,
    /// Where it is full.
    limit: usize,
    /// Up to where its checksum is known, which the header has.
    summed: usize,
    header: BatchHeader,
}

/// A batch's checksum is gone on with in steps of so many bytes, while they are in the processor's first cache.
const SUM_STEP_BYTES: usize = 4 << 10;

/// A reader writes at most this many bytes itself.
const LITTLE_BYTES: usize = 16 << 10;

/// So far ahead memory is asked for: the writer had it last, and the lock can't be let go of before it has come.
const AHEAD_BYTES: usize = 256;

impl Draft {
    /// Goes on with the checksum, to the end of the group's bytes.
    fn sum(&mut self, bytes: &[u8]) {
        self.header.body_crc = crc_on(self.header.body_crc, &bytes[self.summed..]);
        self.summed = bytes.len();
    }
}

/// What a record carries, as its producer gave it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a str, Option<&'a [u8]>)],
}

impl Incoming<'_> {
    /// Bytes it takes in a batch.
    #[inline]
    pub(crate) fn stored_bytes(&self) -> u64 {
        record_bytes(self.key.map(<[u8]>::len), self.value.map(<[u8]>::len), self.headers)
    }
}

/// What became of an append.
#[derive(Debug)]
pub(crate) enum Push {
    /// The first record got this offset; the others follow it.
    Taken {
        offset: u64,
        run: u32,
        /// The writer doesn't know yet that there is work.
        notify: bool,
    },
    /// No buffer: the engine's are all lent, or this partition has its part of them.
    Full {
        /// Only this partition is at its limit.
        own_limit: bool,
    },
    /// The topic has another number of partitions by now: the choice of this one doesn't stand.
    Moved,
    /// Nothing was taken.
    Refused(Error),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Intake {
    open: Option<Group>,
    closed: VecDeque<Group>,
    draft: Option<Draft>,
    next_offset: u64,
    refused: Option<Error>,
    notified: bool,
    /// A sync is wanted up to here (exclusive).
    sync_wanted: u64,
    lent_bytes: usize,
    next_capacity: usize,
    batch_bytes: usize,
    /// How many partitions the topic has: a choice made among another number doesn't stand.
    among: u32,
    /// That number is about to change: whoever chose waits.
    held: bool,
    /// Those who wait because this partition has its part of the buffers.
    pub(crate) queue: WaitQueue,
}

impl Intake {
    pub(crate) fn new(next_offset: u64, batch_bytes: usize, among: u32) -> Intake {
        Intake {
            open: None,
            closed: VecDeque::new(),
            draft: None,
            next_offset,
            refused: None,
            notified: false,
            sync_wanted: 0,
            lent_bytes: 0,
            next_capacity: 0,
            batch_bytes,
            among,
            held: false,
            queue: WaitQueue::default(),
        }
    }

    /// The topic is about to get more partitions: takes only records whose partition was named.
    pub(crate) fn hold(&mut self) {
        self.held = true;
    }

    /// Where the next batch is full.
    pub(crate) fn set_batch_bytes(&mut self, bytes: usize) {
        self.batch_bytes = bytes;
    }

    /// The topic has this many partitions now.
    pub(crate) fn release(&mut self, among: u32) {
        self.held = false;
        self.among = among;
    }

    /// The offset the next record gets.
    pub(crate) fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Why nothing is taken any more, if so.
    pub(crate) fn refused(&self) -> Option<&Error> {
        self.refused.as_ref()
    }

    /// Takes nothing from now on; the first reason stays.
    pub(crate) fn refuse(&mut self, error: Error) {
        self.refused.get_or_insert(error);
    }

    /// Takes nothing from now on because of a failure, which is told even where a close came first.
    pub(crate) fn refuse_failed(&mut self, error: Error) {
        self.refused = Some(error);
    }

    /// Asks for everything below `end_offset` to be synced; whether the writer must be told.
    pub(crate) fn want_sync(&mut self, end_offset: u64) -> bool {
        self.sync_wanted = self.sync_wanted.max(end_offset);
        !std::mem::replace(&mut self.notified, true)
    }

    /// Up to where a sync is wanted.
    pub(crate) fn sync_wanted(&self) -> u64 {
        self.sync_wanted
    }

    /// Takes records, all or none, into one batch.
    ///
    /// `bytes` is what they take together; the caller has compared it with the limits. `chosen_among`:
    /// among how many partitions this one was chosen, if it was.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "the hot path; a struct would be put together for each record")]
    pub(crate) fn push(
        &mut self,
        records: &[Incoming<'_>],
        bytes: u64,
        sync: bool,
        pool: &Pool,
        progress: &Progress,
        tickets: Tickets,
        chosen_among: Option<u32>,
    ) -> Push {
        if let Some(error) = &self.refused {
            return Push::Refused(error.clone());
        }
        if let Some(among) = chosen_among {
            if among != self.among {
                return Push::Moved;
            }
            if self.held {
                return Push::Full { own_limit: true };
            }
        }
        let bytes = bytes as usize;
        if !self.fits(records, bytes)
            && let Err(push) = self.begin(records, bytes, pool, tickets)
        {
            return push;
        }
        let (Some(group), Some(draft)) = (self.open.as_mut(), self.draft.as_mut()) else {
            return Push::Refused(Error::invalid("no batch was begun"));
        };
        let offset = self.next_offset;
        for incoming in records {
            let header = &mut draft.header;
            encode_record(
                &mut group.bytes,
                &RawRecord {
                    timestamp_delta: (incoming.timestamp - header.base_timestamp) as i32,
                    offset_delta: header.offset_count,
                    key: incoming.key,
                    value: incoming.value,
                    headers: incoming.headers,
                },
            );
            header.offset_count += 1;
            header.max_timestamp = header.max_timestamp.max(incoming.timestamp);
            if group.bytes.len() - draft.summed >= SUM_STEP_BYTES {
                draft.sum(&group.bytes);
            }
        }
        let ahead = AHEAD_BYTES..AHEAD_BYTES + bytes.min(AHEAD_BYTES);
        if let Some(next) = group.bytes.spare_capacity_mut().get_mut(ahead) {
            will_be_written(next);
        }
        self.next_offset += records.len() as u64;
        group.end_offset = self.next_offset;
        if sync {
            self.sync_wanted = self.next_offset;
        }
        let notify = !std::mem::replace(&mut self.notified, true);
        Push::Taken { offset, run: progress.run(), notify }
    }

    /// Whether the open batch takes these records.
    #[inline]
    fn fits(&self, records: &[Incoming<'_>], bytes: usize) -> bool {
        let (Some(group), Some(draft)) = (&self.open, &self.draft) else { return false };
        group.bytes.len() + bytes <= draft.limit
            && self.next_offset + records.len() as u64 <= MAX_OFFSET
            && records.iter().all(|record| {
                record
                    .timestamp
                    .checked_sub(draft.header.base_timestamp)
                    .is_some_and(|delta| i32::try_from(delta).is_ok())
            })
    }

    /// Begins a batch that takes these records, in the open group or a new one.
    #[cold]
    fn begin(&mut self, records: &[Incoming<'_>], bytes: usize, pool: &Pool, tickets: Tickets) -> Result<(), Push> {
        let Some(first) = records.first() else { return Err(Push::Refused(Error::invalid("a batch needs a record"))) };
        let spread = records.iter().all(|record| {
            record.timestamp.checked_sub(first.timestamp).is_some_and(|delta| i32::try_from(delta).is_ok())
        });
        if !spread {
            return Err(Push::Refused(Error::invalid(
                "the timestamps of one batch lie more than 24 days apart; send them in several batches",
            )));
        }
        if self.next_offset + records.len() as u64 > MAX_OFFSET {
            return Err(Push::Refused(Error::invalid("the partition has no offsets left")));
        }
        self.close_batch();
        let needed = BATCH_HEADER_BYTES + bytes;
        let has_room = self.open.as_ref().is_some_and(|group| group.capacity - group.bytes.len() >= needed);
        if !has_room {
            if let Some(full) = self.open.take() {
                self.closed.push_back(full);
                self.next_capacity = self.next_capacity.saturating_mul(4);
            }
            let capacity = pool.capacity(self.next_capacity, needed);
            if !pool.partition_may_hold(self.lent_bytes, capacity) || !self.queue.may_go(tickets.own) {
                return Err(Push::Full { own_limit: true });
            }
            let Some(buffer) = pool.lend(capacity, tickets.pool) else {
                return Err(Push::Full { own_limit: false });
            };
            self.lent_bytes += capacity;
            self.next_capacity = capacity;
            self.open = Some(Group { bytes: buffer, end_offset: self.next_offset, capacity });
        }
        let Some(group) = self.open.as_mut() else { return Ok(()) };
        let start = group.bytes.len();
        group.bytes.extend_from_slice(&[0; BATCH_HEADER_BYTES]);
        self.draft = Some(Draft {
            start,
            limit: group.capacity.min(start + self.batch_bytes.max(needed)),
            summed: start + BATCH_HEADER_BYTES,
            header: BatchHeader {
                length: 0,
                body_crc: 0,
                base_offset: self.next_offset,
                durable_before: 0,
                offset_count: 0,
                record_count: 0,
                base_timestamp: first.timestamp,
                max_timestamp: i64::MIN,
                appended_ms: 0,
                producer_id: 0,
                base_sequence: 0,
                producer_epoch: 0,
                attributes: Attributes::new(BatchKind::Records),
                term: 0,
                epoch: 0,
                uncompressed_length: 0,
            },
        });
        Ok(())
    }

    /// Writes the draft's header into its place.
    fn close_batch(&mut self) {
        let (Some(group), Some(mut draft)) = (self.open.as_mut(), self.draft.take()) else { return };
        draft.sum(&group.bytes);
        let mut header = draft.header;
        header.length = (group.bytes.len() - draft.start) as u32;
        header.record_count = header.offset_count;
        group.bytes[draft.start..draft.start + BATCH_HEADER_BYTES].copy_from_slice(&header.encode_draft());
    }

    /// Hands everything to the writer. When there is nothing, the next record notifies it again.
    pub(crate) fn take(&mut self, into: &mut VecDeque<Group>) {
        self.close_batch();
        into.append(&mut self.closed);
        if let Some(group) = self.open.take() {
            if group.bytes.len() * 4 < group.capacity {
                self.next_capacity /= 4;
            }
            into.push_back(group);
        }
        if into.is_empty() {
            self.notified = false;
        }
    }

    /// Whether so few records wait to be written that who reads them may write them too: more are better written while
    /// the next are encoded.
    pub(crate) fn is_little(&self) -> bool {
        self.closed.is_empty() && self.open.as_ref().is_some_and(|group| group.bytes.len() <= LITTLE_BYTES)
    }

    /// Whether records wait to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_none() && self.closed.is_empty()
    }

    /// A group was written (or has failed): its buffer goes back. Returns who waited for one, to be woken without
    /// a lock.
    #[must_use = "they are woken without a lock"]
    pub(crate) fn give_back(&mut self, group: Group, pool: &Pool) -> Vec<Waker> {
        self.lent_bytes -= group.capacity;
        let mut woken = pool.give_back(group.bytes, group.capacity);
        woken.extend(self.queue.call());
        woken
    }

    /// Fails everything from the written offset on: groups not yet taken are dropped, numbering
    /// goes back, a new run begins. Returns who waited for a buffer, to be woken without a lock.
    #[must_use = "they are woken without a lock"]
    pub(crate) fn fail(&mut self, error: Error, pool: &Pool, progress: &Progress) -> Vec<Waker> {
        self.draft = None;
        let mut dropped = std::mem::take(&mut self.closed);
        dropped.extend(self.open.take());
        let mut woken = Vec::new();
        for group in dropped {
            woken.extend(self.give_back(group, pool));
        }
        progress.end_run(error, self.next_offset);
        self.next_offset = progress.written();
        self.sync_wanted = self.sync_wanted.min(self.next_offset);
        woken
    }
}

/// The places held in the two queues for buffers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tickets {
    pub(crate) own: Option<u64>,
    pub(crate) pool: Option<u64>,
}

/// Largest record and batch, compared before anything is taken.
#[derive(Debug)]
pub(crate) struct SizeLimits {
    pub(crate) max_message_bytes: AtomicU64,
    pub(crate) max_batch_bytes: u64,
}

impl SizeLimits {
    /// The bytes of all records together, if each and all are within the limits.
    #[inline]
    pub(crate) fn check(&self, records: &[Incoming<'_>]) -> Result<u64, Error> {
        let mut total = 0;
        let max_message_bytes = self.max_message_bytes.load(Ordering::Relaxed);
        for record in records {
            let bytes = record.stored_bytes();
            if bytes > max_message_bytes {
                return Err(too_large(bytes, max_message_bytes, "max.message.bytes"));
            }
            if record.key.is_some_and(|key| key.len() as u64 > crate::format::MAX_KEY_BYTES) {
                return Err(too_large(bytes, crate::format::MAX_KEY_BYTES, "nothing: a key has at most 16 MiB - 1"));
            }
            total += bytes;
        }
        if total + BATCH_HEADER_BYTES as u64 > self.max_batch_bytes {
            return Err(too_large(total + BATCH_HEADER_BYTES as u64, self.max_batch_bytes, "max_batch_bytes"));
        }
        Ok(total)
    }
}

#[cold]
fn too_large(bytes: u64, limit: u64, setting: &'static str) -> Error {
    Error::new(ErrorKind::RecordTooLarge { bytes, limit, setting })
}
