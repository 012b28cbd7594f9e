//! Where a consumer begins in a partition: the committed offset, if its record is still the one that
//! was committed (D5), else by policy (G5). And what is held back there (G7).

use std::collections::HashMap;
use std::sync::Arc;

use super::polled::Held;
use super::{Consumer, InGroup};
use crate::engine::ResetTo;
use crate::engine::groups::goes_on_at;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::lock::read;
use crate::offsets::Commit;
use crate::partition::Partition;

impl Consumer {
    /// Reads this partition too, from where the group is.
    pub(super) fn begin(&mut self, partition: Arc<Partition>) -> Result<()> {
        let Some(in_group) = &self.group else { return Ok(()) };
        let (position, committed) = self.begin_at(in_group, &partition)?;
        let durable_only = in_group.settings.read_durable.unwrap_or(partition.config().read_durable);
        if committed.is_none() {
            in_group.group.note_start((partition.log.topic_id, partition.number), position);
        }
        let assigned = self.set.add(partition.clone(), position, durable_only)?;
        assigned.committed = committed;
        Ok(())
    }

    /// The position to begin at, and the committed offset that it is, if so.
    fn begin_at(&self, in_group: &InGroup, partition: &Arc<Partition>) -> Result<(u64, Option<u64>)> {
        let core = &self.engine.core;
        let name = &in_group.group.name;
        let key = (partition.log.topic_id, partition.number);
        let commit = core.groups.offsets.with(|state| {
            state
                .group(name)
                .and_then(|group| group.commits.get(&key))
                .map(|commit| Commit { metadata: Box::default(), ..commit.clone() })
        });
        if let Some(error) = core.groups.doubt(name, key) {
            return Err(error.at_partition(&partition.topic, partition.number));
        }
        let start = partition.progress.log_start();
        let Some(commit) = commit else { return Ok((self.by_policy(in_group, partition)?, None)) };
        if commit.offset < start {
            let position = self.by_policy(in_group, partition)?;
            self.tell_reset(partition, commit.offset, position, "the records from there on are no longer kept");
            return Ok((position, None));
        }
        if commit.offset == start {
            return Ok((start, Some(start)));
        }
        let Some(position) = goes_on_at(partition, commit.offset, commit.epoch)? else {
            return Ok((commit.offset, Some(commit.offset)));
        };
        self.tell_reset(
            partition,
            commit.offset,
            position,
            "the record before it was lost, and others may have its offset",
        );
        Ok((position, None))
    }

    /// Where a partition without a committed offset is begun.
    pub(super) fn by_policy(&self, in_group: &InGroup, partition: &Arc<Partition>) -> Result<u64> {
        let topic = self.engine.core.topic(&partition.topic)?;
        // Also where nothing is wanted yet: later the question would have another answer.
        let added = in_group.group.is_added(&self.engine.core.groups, &topic, partition.number);
        match in_group.settings.start.reset() {
            Some(ResetTo::Latest) if added => ResetTo::Earliest.resolve(partition),
            Some(reset) => reset.resolve(partition),
            None => Err(Error::new(ErrorKind::NoCommittedOffset { group: in_group.group.name.clone() })
                .at_partition(&partition.topic, partition.number)),
        }
    }

    pub(super) fn tell_reset(&self, partition: &Partition, committed: u64, to: u64, reason: &'static str) {
        if let Some(in_group) = &self.group {
            let events = &self.engine.core.env.events;
            events.reset(&in_group.group.name, &partition.topic, partition.number, Some(committed), to, reason);
        }
    }

    pub(super) fn tell_skipped(&self, partition: &Partition, from: u64, error: &Error) {
        let Some(to) = error.next_intact() else { return };
        let (topic, number) = (partition.topic.to_string(), partition.number);
        let event = Event::DamageSkipped { topic, partition: number, from, to, error: error.clone() };
        self.engine.core.env.events.emit(event);
    }

    /// Looks up what is held back now in each topic that got more partitions.
    pub(super) fn set_limits(&mut self) {
        let Some(in_group) = &self.group else { return };
        if in_group.settings.skip_fence || in_group.membership.is_none() {
            return;
        }
        let topics: Vec<_> =
            read(&self.engine.core.topics).values().filter(|topic| !topic.expansions.is_empty()).cloned().collect();
        self.limited = false;
        self.set.iter_mut().for_each(|assigned| assigned.expansions = 0);
        for topic in topics {
            let fence = in_group.group.fence(&self.engine.core.groups, &topic);
            let mut raised = false;
            for assigned in self.set.iter_mut().filter(|assigned| assigned.partition.log.topic_id == topic.id) {
                let limit = fence.as_ref().map_or(u64::MAX, |fence| fence.limit(assigned.partition.number));
                raised |= limit > assigned.limit;
                assigned.limit = limit;
                assigned.expansions = topic.expansions.len();
                self.limited |= limit < u64::MAX;
            }
            if raised {
                self.set.look_at_all();
            }
        }
    }

    /// The partitions that have records which the group must not see yet.
    pub(super) fn held(&self) -> Vec<Held> {
        let Some(in_group) = &self.group else { return Vec::new() };
        let mut held = Vec::new();
        let mut fences = HashMap::new();
        for assigned in self
            .set
            .iter()
            .filter(|assigned| assigned.limit < assigned.readable() && assigned.position >= assigned.limit)
        {
            let Ok(topic) = self.engine.core.topic(&assigned.partition.topic) else { continue };
            let fence =
                fences.entry(topic.id).or_insert_with(|| in_group.group.fence(&self.engine.core.groups, &topic));
            if let Some(&(waits_for, until_offset, reached_offset)) =
                fence.as_ref().and_then(|fence| fence.waits_for.first())
            {
                let (topic, partition) = (topic.name.to_string(), assigned.partition.number);
                held.push(Held { topic, partition, waits_for, until_offset, reached_offset });
            }
        }
        held
    }
}
