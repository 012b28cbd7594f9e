//! Where a consumer begins in a partition: the committed offset, if its record is still the one that
//! was committed (D5), else by policy (G5). And what is held back there (G7).
//!
//! The policy is asked once in a group's life: its answer is stored like a commit, so that the next member, after
//! a hand-over or a crash, begins at the same place.

use std::collections::HashMap;
use std::sync::Arc;

use super::polled::Held;
use super::{Consumer, InGroup};
use crate::engine::groups::{Stored, goes_on_at};
use crate::engine::{ResetTo, Topic};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::lock::read;
use crate::offsets::{Commit, NewCommit};
use crate::partition::{Partition, Reader};
use crate::teeth::bites;

/// Where a consumer begins in a partition.
struct Beginning {
    position: u64,
    /// The committed offset, if that is it.
    committed: Option<u64>,
    /// The policy's answer, and what the group's state says instead.
    is_news_to: Option<Stored>,
}

/// A place to be stored as the one where the group begins, unless its state says something else by then.
pub(super) struct Start {
    partition: Arc<Partition>,
    position: u64,
    instead_of: Stored,
}

/// Partitions that were begun.
pub(super) struct Begun {
    /// How many, of those asked for.
    pub(super) count: usize,
    /// The places that aren't stored yet.
    pub(super) starts: Vec<Start>,
    /// Why the next one couldn't be begun.
    pub(super) failed: Option<Error>,
}

impl Consumer {
    /// Reads these partitions too, from where the group is. In order; stops at the first that can't be begun.
    pub(super) fn begin(&mut self, partitions: &[Arc<Partition>]) -> Begun {
        let mut begun = Begun { count: 0, starts: Vec::new(), failed: None };
        for partition in partitions {
            match self.begin_one(partition) {
                Ok(start) => begun.starts.extend(start),
                Err(error) => {
                    begun.failed = Some(error);
                    break;
                }
            }
            begun.count += 1;
        }
        begun
    }

    fn begin_one(&mut self, partition: &Arc<Partition>) -> Result<Option<Start>> {
        let Some(in_group) = &self.group else { return Ok(None) };
        let Beginning { position, committed, is_news_to } = self.begin_at(in_group, partition)?;
        let durable_only = in_group.settings.read_durable.unwrap_or(partition.config().read_durable);
        let assigned = self.set.add(partition.clone(), position, durable_only)?;
        assigned.committed = committed;
        Ok(is_news_to.map(|instead_of| Start { partition: partition.clone(), position, instead_of }))
    }

    fn begin_at(&self, in_group: &InGroup, partition: &Arc<Partition>) -> Result<Beginning> {
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
        let stored = Stored::of(commit.as_ref());
        let anew = |position| Beginning { position, committed: None, is_news_to: Some(stored) };
        let Some(commit) = commit else {
            let fixed = in_group.not_stored.get(&key).copied();
            return fixed.map_or_else(|| self.by_policy(in_group, partition), Ok).map(anew);
        };
        let committed = Some(commit.offset).filter(|_| !commit.start);
        let as_stored = Beginning { position: commit.offset, committed, is_news_to: None };
        if commit.offset < start {
            let position = self.by_policy(in_group, partition)?;
            self.tell_reset(partition, committed, position, "the records from there on are no longer kept");
            return Ok(anew(position));
        }
        if commit.offset == start {
            return Ok(as_stored);
        }
        let Some(position) = goes_on_at(partition, commit.offset, commit.epoch)? else { return Ok(as_stored) };
        self.tell_reset(
            partition,
            committed,
            position,
            "the record before it was lost, and others may have its offset",
        );
        // The next one finds the same: nothing to store.
        Ok(Beginning { position, committed: None, is_news_to: None })
    }

    /// Where a partition is begun of which the group's state says nothing that counts. One that was made after
    /// this consumer had started, or that was added to the group's topic, is read whole.
    pub(super) fn by_policy(&self, in_group: &InGroup, partition: &Arc<Partition>) -> Result<u64> {
        let is_younger = || {
            let met = in_group.met.get(&partition.log.topic_id).copied().unwrap_or(0);
            in_group.membership.is_some() && partition.number >= met
        };
        match in_group.settings.start.reset() {
            Some(ResetTo::Latest) if is_younger() || self.is_added(in_group, partition)? => {
                ResetTo::Earliest.resolve(partition)
            }
            Some(reset) => reset.resolve(partition),
            None => Err(Error::new(ErrorKind::NoCommittedOffset { group: in_group.group.name.clone() })
                .at_partition(&partition.topic, partition.number)),
        }
    }

    fn is_added(&self, in_group: &InGroup, partition: &Arc<Partition>) -> Result<bool> {
        let topic = self.engine.core.topic(&partition.topic)?;
        Ok(in_group.group.is_added(&self.engine.core.groups, &topic, partition.number))
    }

    /// As the consumer starts: fixes where the group begins in all partitions of these topics in which it
    /// hasn't been yet, durably.
    pub(super) fn fix_starts(&mut self, topics: &[Arc<Topic>]) -> Result<()> {
        let core = &self.engine.core;
        let Some(in_group) = &mut self.group else { return Ok(()) };
        in_group.met = topics.iter().map(|topic| (topic.id, topic.partitions.len() as u32)).collect();
        let name = &in_group.group.name;
        let unknown: Vec<_> = core.groups.offsets.with(|state| {
            let group = state.group(name);
            let is_unknown = |partition: &&Arc<Partition>| {
                let place = (partition.log.topic_id, partition.number);
                group.is_none_or(|group| !group.commits.contains_key(&place))
            };
            topics.iter().flat_map(|topic| &topic.partitions).filter(is_unknown).cloned().collect()
        });
        // What can't be looked up now, the poll that begins there says.
        let Some(in_group) = &self.group else { return Ok(()) };
        let start = |partition: Arc<Partition>| {
            let position = self.by_policy(in_group, &partition).ok()?;
            Some(Start { partition, position, instead_of: Stored::of(None) })
        };
        let starts: Vec<_> = unknown.into_iter().filter_map(start).collect();
        if !self.store_now(&starts)?
            && let Some(in_group) = &mut self.group
        {
            let place =
                |Start { partition, position, .. }: &Start| ((partition.log.topic_id, partition.number), *position);
            in_group.not_stored = starts.iter().map(place).collect();
        }
        Ok(())
    }

    /// Stores where the group begins, durably. Whether the offset log took it.
    pub(super) fn store_now(&self, starts: &[Start]) -> Result<bool> {
        let groups = &self.engine.core.groups;
        // To a damaged file nothing is added; commits say so.
        if starts.is_empty() || groups.offsets.damage().is_some() {
            return Ok(starts.is_empty());
        }
        let stored = self.in_group()?.group.store_starts(groups, &entries_of(starts)).and_then(|ticket| {
            let ticket = ticket.filter(|_| !bites("start-not-synced"));
            ticket.map_or(Ok(()), |ticket| groups.offsets.sync_to(ticket))
        });
        match stored {
            // Reading goes on though the offset log has stopped; the next commit says so.
            Err(error) if error.kind() == &ErrorKind::Failed => {
                let what = "storing where a group begins";
                self.engine.core.env.events.emit(Event::Background { what, error });
                Ok(false)
            }
            stored => stored.map(|()| true),
        }
    }

    /// After `OffsetOutOfRange`: the group goes on here, unless its state knows better.
    pub(super) fn begins_anew(&self, partition: &Arc<Partition>, position: u64) {
        let Some(in_group) = &self.group else { return };
        let key = (partition.log.topic_id, partition.number);
        let (name, offsets) = (&in_group.group.name, &self.engine.core.groups.offsets);
        let (counts, instead_of) = offsets.with(|state| {
            let commit = state.group(name).and_then(|group| group.commits.get(&key));
            let counts = commit.is_some_and(|commit| commit.offset >= partition.progress.log_start());
            (counts, Stored::of(commit))
        });
        if !counts {
            self.store_later(&[Start { partition: partition.clone(), position, instead_of }]);
        }
    }

    /// Stores where the group begins, written at once and durable soon after.
    pub(super) fn store_later(&self, starts: &[Start]) {
        let Some(in_group) = &self.group else { return };
        if starts.is_empty() {
            return;
        }
        match in_group.group.store_starts(&self.engine.core.groups, &entries_of(starts)) {
            Ok(None) => {}
            Ok(Some(_)) => self.engine.core.background.committed(),
            // Reading goes on all the same; the next commit says what is wrong.
            Err(error) => {
                let what = "storing where a group begins";
                self.engine.core.env.events.emit(Event::Background { what, error });
            }
        }
    }

    pub(super) fn tell_reset(&self, partition: &Partition, committed: Option<u64>, to: u64, reason: &'static str) {
        if let Some(in_group) = &self.group {
            let events = &self.engine.core.env.events;
            events.reset(&in_group.group.name, &partition.topic, partition.number, committed, to, reason);
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

/// The entries that say so, and what they take the place of.
fn entries_of(starts: &[Start]) -> Vec<(NewCommit<'static>, Stored)> {
    let entry = |start: &Start| {
        let Start { partition, position, instead_of } = start;
        let (topic_id, number, offset) = (partition.log.topic_id, partition.number, *position);
        // Where the record before can't be read, what is read next says so.
        let epoch = Reader::epoch_before(partition, offset).unwrap_or(0);
        (NewCommit { topic_id, partition: number, offset, epoch, metadata: &[], start: true }, *instead_of)
    };
    starts.iter().map(entry).collect()
}
