//! The partitions a consumer reads: a reader and a position each, and which have something new.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ids::TopicId;
use crate::lock::Ordering;
use crate::partition::{Batch, Partition, Reader, ReadySet};
use crate::teeth::bites;

/// A partition that is read.
pub(super) struct Assigned {
    pub(super) partition: Arc<Partition>,
    reader: Reader,
    pub(super) paused: bool,
    /// What a poll left of a batch.
    rest: Option<Batch>,
    /// The offset that the next poll begins with.
    pub(super) position: u64,
    /// The partition's, beside what else a commit asks for.
    key: (TopicId, u32),
    /// Epoch of the record before the position, where that is known.
    epoch_before: Option<u32>,
    /// What this consumer last committed, or found committed.
    pub(super) committed: Option<u64>,
    /// Records from here on (inclusive) are held back (G7).
    pub(super) limit: u64,
    /// How many of its topic's expansions the limit takes into account.
    pub(super) expansions: usize,
}

impl Assigned {
    /// The next batch that may be seen, with at most `max_records` offsets.
    pub(super) fn next_batch(&mut self, max_records: u64) -> Result<Option<Batch>> {
        if self.position >= self.limit || max_records == 0 {
            return Ok(None);
        }
        let batch = match self.rest.take() {
            Some(batch) => batch,
            None => match self.reader.next_batch()? {
                Some(batch) => batch,
                None => {
                    self.pass_gap(self.reader.next_offset());
                    return Ok(None);
                }
            },
        };
        if self.is_stale() {
            self.rest = Some(batch);
            return Ok(None);
        }
        let offsets = batch.offsets();
        let end = offsets.end.min(self.limit).min(offsets.start.saturating_add(max_records));
        if end <= offsets.start {
            self.rest = Some(batch);
            self.pass_gap(offsets.start);
            return Ok(None);
        }
        self.epoch_before = Some(batch.epoch());
        self.position = end;
        if end < offsets.end {
            self.rest = Some(batch.clone().narrowed(end..offsets.end));
            return Ok(Some(batch.narrowed(offsets.start..end)));
        }
        Ok(Some(batch))
    }

    /// Moves the position over offsets below `next` that have no records (a repaired log may end with some), at most to
    /// the limit.
    fn pass_gap(&mut self, next: u64) {
        let next = next.min(self.limit);
        if next > self.position {
            self.position = next;
            self.epoch_before = None;
        }
    }

    /// Whether the topic got more partitions since the limit was set. To be asked after a batch was seen: one that was
    /// written after that is never taken for one before.
    pub(super) fn is_stale(&self) -> bool {
        self.partition.expansions.load(Ordering::SeqCst) > self.expansions
    }

    pub(super) fn seek(&mut self, offset: u64) {
        if !bites("seek-keeps-the-rest-of-a-batch") {
            self.rest = None;
        }
        self.reader.seek(offset);
        self.position = offset;
        if !bites("seek-keeps-the-epoch-before") {
            self.epoch_before = None;
        }
    }

    /// The end of what may be read now.
    pub(super) fn readable(&self) -> u64 {
        self.reader.readable()
    }

    /// Epoch of the record before the position.
    pub(super) fn epoch_before(&mut self) -> Result<u32> {
        match self.epoch_before {
            Some(epoch) => Ok(epoch),
            None => {
                let epoch = Reader::epoch_before(&self.partition, self.position)?;
                self.epoch_before = Some(epoch);
                Ok(epoch)
            }
        }
    }

    pub(super) fn key(&self) -> (TopicId, u32) {
        self.key
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct AssignedSet {
    pub(super) ready: Arc<ReadySet>,
    slots: Vec<Option<Assigned>>,
    free: Vec<usize>,
    by_name: BTreeMap<Arc<str>, BTreeMap<u32, usize>>,
    /// Where the next look begins, so that each gets its turn.
    next: usize,
}

impl AssignedSet {
    /// Reads this partition too, from `offset` on; from now on its writer tells of new records.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is read already.
    pub(super) fn add(&mut self, partition: Arc<Partition>, offset: u64, durable_only: bool) -> Result<&mut Assigned> {
        if self.find(&partition.topic, partition.number).is_some() {
            return Err(
                Error::invalid("a partition is assigned twice").at_partition(&partition.topic, partition.number)
            );
        }
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.ready.grow(slot + 1);
        partition.subscribe(self.ready.clone(), slot);
        let _awake = self.ready.set(slot);
        self.by_name.entry(partition.topic.clone()).or_default().insert(partition.number, slot);
        let reader = Reader::new(partition.clone(), offset, durable_only);
        Ok(self.slots[slot].insert(Assigned {
            key: (partition.log.topic_id, partition.number),
            partition,
            reader,
            paused: false,
            rest: None,
            position: offset,
            epoch_before: None,
            committed: None,
            limit: u64::MAX,
            expansions: usize::MAX,
        }))
    }

    pub(super) fn remove(&mut self, topic: &str, partition: u32) {
        let Some(slot) = self.find(topic, partition) else { return };
        if let Some(assigned) = self.slots[slot].take() {
            assigned.partition.unsubscribe(&self.ready);
            self.free.push(slot);
        }
        if let Some(partitions) = self.by_name.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.by_name.remove(topic);
            }
        }
    }

    fn find(&self, topic: &str, partition: u32) -> Option<usize> {
        self.by_name.get(topic)?.get(&partition).copied()
    }

    /// The partition, if it is read here.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if it isn't.
    pub(super) fn get(&self, topic: &str, partition: u32) -> Result<&Assigned> {
        let slot = self.find(topic, partition).and_then(|slot| self.slots[slot].as_ref());
        slot.ok_or_else(|| not_assigned(topic, partition))
    }

    /// The same to change; it is looked at in the next poll.
    pub(super) fn get_mut(&mut self, topic: &str, partition: u32) -> Result<&mut Assigned> {
        let slot = self.find(topic, partition).ok_or_else(|| not_assigned(topic, partition))?;
        let _awake = self.ready.set(slot);
        self.slots[slot].as_mut().ok_or_else(|| not_assigned(topic, partition))
    }

    /// All, by topic and number.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Assigned> {
        self.by_name.values().flat_map(|slots| slots.values()).filter_map(|&slot| self.slots[slot].as_ref())
    }

    /// At least as many as there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// All to change, in no order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Assigned> {
        self.slots.iter_mut().flatten()
    }

    /// Looks at all of them in the next poll.
    pub(super) fn look_at_all(&self) {
        for slot in 0..self.slots.len() {
            let _awake = self.ready.set(slot);
        }
    }

    /// The next that may have something new, with its place for [`look_again`](AssignedSet::look_again).
    pub(super) fn next_ready(&mut self) -> Option<(usize, &mut Assigned)> {
        loop {
            let slot = self.ready.take_from(self.next)?;
            self.next = slot + 1;
            // The check and the look are two steps for the borrow checker's sake.
            if self.slots.get(slot).is_some_and(|assigned| assigned.as_ref().is_some_and(|assigned| !assigned.paused)) {
                return self.slots[slot].as_mut().map(|assigned| (slot, assigned));
            }
        }
    }

    /// The partition that was ready last.
    pub(super) fn latest(&self) -> Option<&Partition> {
        let assigned = self.slots.get(self.next.checked_sub(1)?)?.as_ref()?;
        Some(&assigned.partition)
    }

    /// A poll has what it wants of this partition.
    pub(super) fn rest(&mut self, slot: usize) {
        if let Some(Some(assigned)) = self.slots.get_mut(slot) {
            assigned.reader.rest();
        }
    }

    /// Gives up what polls left of batches, which hold mappings; it is read again. Whether there was any.
    pub(super) fn drop_rests(&mut self) -> bool {
        let mut any = false;
        for assigned in self.slots.iter_mut().flatten() {
            if assigned.rest.take().is_some() {
                assigned.reader.seek(assigned.position);
                any = true;
            }
        }
        any
    }

    pub(super) fn look_again(&self, slot: usize) {
        let _awake = self.ready.set(slot);
    }

    pub(super) fn clear(&mut self) {
        for assigned in self.slots.iter().flatten() {
            assigned.partition.unsubscribe(&self.ready);
        }
        self.slots.clear();
        self.free.clear();
        self.by_name.clear();
    }
}

impl Drop for AssignedSet {
    fn drop(&mut self) {
        self.clear();
    }
}

fn not_assigned(topic: &str, partition: u32) -> Error {
    Error::invalid("the partition isn't assigned to this consumer").at_partition(topic, partition)
}
