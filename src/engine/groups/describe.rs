//! Groups, described: who reads what, how far each partition is, who waits for what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Groups, goes_on_at};
use crate::engine::{Engine, Topic};
use crate::error::{Error, ErrorKind, Result};
use crate::format::MemberSnapshot;
use crate::group::{Fence, TopicPartition};
use crate::ids::TopicId;
use crate::lock::read;

/// Where a group stands, in Kafka's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupState {
    /// It has no members; its committed offsets are kept.
    Empty,
    /// Partitions are being handed over.
    Preparing,
    /// Every partition is with the member it is meant for.
    Stable,
}

impl std::fmt::Display for GroupState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            GroupState::Empty => "empty",
            GroupState::Preparing => "preparing",
            GroupState::Stable => "stable",
        })
    }
}

/// A consumer group, described.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: GroupState,
    /// Counts its assignments.
    pub generation: u32,
    /// What gives out the partitions; empty if there never were members.
    pub assignor: String,
    /// Why the assignor's last call gave nothing usable, and what the group does meanwhile; `None` while the
    /// assignor works. After a panic the assignor is called again within a minute, and whenever a member comes
    /// or goes.
    pub assignor_failure: Option<String>,
    /// Its members, by id.
    pub members: Vec<MemberDescription>,
    /// The partitions it subscribes to or has committed offsets of, and those added to their topics
    /// later, by topic and number.
    pub offsets: Vec<GroupOffset>,
    /// When its state was stored, in milliseconds since 1970, if it is another process's or an earlier
    /// life's; `None`: as it is now.
    pub as_of_ms: Option<i64>,
    /// Since when it has no members, in milliseconds since 1970.
    pub empty_since_ms: Option<i64>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberDescription {
    /// Its id.
    pub id: String,
    /// The name by which it keeps its place, if it has one.
    pub instance_id: Option<String>,
    /// What it reads.
    pub partitions: Vec<(String, u32)>,
    /// What is meant for it and still in another member's hands.
    pub awaited: Vec<(String, u32)>,
}

impl MemberDescription {
    /// Whether it has nothing to read: there are more members than partitions.
    pub fn is_idle(&self) -> bool {
        self.partitions.is_empty() && self.awaited.is_empty()
    }
}

/// How far a group is in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The committed offset: the next to be read.
    pub committed: Option<u64>,
    /// Where the group begins, while nothing is committed or what is committed is no longer kept: fixed when its
    /// first consumer started, or when the partition was assigned if it was made later.
    pub starts_at: Option<u64>,
    /// What was committed with it.
    pub metadata: Vec<u8>,
    /// When, in milliseconds since 1970.
    pub committed_ms: Option<i64>,
    /// The first offset that is kept (inclusive).
    pub log_start_offset: u64,
    /// The next offset to be written (exclusive).
    pub end_offset: u64,
    /// The member that reads it, if one does.
    pub member: Option<String>,
    /// The old partition, the offset to be reached there and the one reached, for which this
    /// partition waits after its topic got more partitions.
    pub waits_for: Option<(u32, u64, u64)>,
    /// The offset log is damaged, and a newer commit may be lost there.
    pub in_doubt: bool,
    /// Where the group goes on instead of at the committed offset, if the record before that was lost: in a
    /// crash before it was durable, or because the partition's files are older than the commit.
    pub goes_on_at: Option<u64>,
}

impl GroupOffset {
    /// Records that are kept and that the group has still to read.
    pub fn lag(&self) -> u64 {
        let next = self.goes_on_at.or(self.starts_at).or(self.committed).unwrap_or(0);
        self.end_offset.saturating_sub(next.max(self.log_start_offset))
    }
}

impl Engine {
    /// The names of all groups that have members or committed offsets, in order.
    ///
    /// # Errors
    /// In a read-only engine, those of reading the offset log again.
    pub fn groups(&self) -> Result<Vec<String>> {
        let groups = self.refreshed_groups()?;
        let mut names: BTreeSet<String> =
            groups.offsets.with(|state| state.groups().map(|(name, _)| name.to_owned()).collect());
        names.extend(
            groups.all().into_iter().filter(|group| !group.view().members.is_empty()).map(|group| group.name.clone()),
        );
        Ok(names.into_iter().collect())
    }

    /// A group's members and offsets. For one that lives in another process, as it was stored there
    /// last.
    ///
    /// # Errors
    /// `UnknownGroup`.
    pub fn describe_group(&self, name: &str) -> Result<GroupDescription> {
        let groups = self.refreshed_groups()?;
        groups.tick();
        let topics: BTreeMap<String, Arc<Topic>> =
            read(&self.core.topics).iter().map(|(name, topic)| (name.clone(), topic.clone())).collect();
        let by_id: HashMap<TopicId, &Arc<Topic>> = topics.values().map(|topic| (topic.id, topic)).collect();
        let mut description = groups.describe_members(name, &by_id)?;
        if description.0.as_of_ms.is_some() && !self.core.may_have_writer() {
            // The process that stored them is gone, and they with it.
            (description.0.state, description.0.as_of_ms) = (GroupState::Empty, None);
            description.0.members.clear();
        }
        let mut rows: BTreeSet<TopicPartition> = groups
            .offsets
            .with(|state| state.group(name).into_iter().flat_map(|group| group.commits.keys().copied()).collect());
        let with_commits: BTreeSet<TopicId> = rows.iter().map(|(id, _)| *id).collect();
        // Partitions that were added later are the group's as well, though it hasn't come there yet.
        let first_added = |topic: &Topic| topic.expansions.first().map_or(topic.partitions.len(), Vec::len);
        let from = |topic: &Topic| if description.1.contains(&topic.id) { 0 } else { first_added(topic) };
        for topic in description.1.union(&with_commits).filter_map(|id| by_id.get(id)) {
            rows.extend((from(topic)..topic.partitions.len()).map(|partition| (topic.id, partition as u32)));
        }
        // Where the offset log is damaged, also those whose only commit may be lost.
        for topic in description.1.union(&with_commits).filter_map(|id| by_id.get(id)) {
            let all = (0..topic.partitions.len() as u32).map(|partition| (topic.id, partition));
            rows.extend(all.filter(|&place| groups.doubt(name, place).is_some()));
        }
        let mut members = HashMap::new();
        for member in &description.0.members {
            members.extend(member.partitions.iter().map(|(topic, partition)| ((&**topic, *partition), &member.id)));
        }
        let group = groups.group(name)?;
        let mut fences: HashMap<TopicId, Option<Fence>> = HashMap::new();
        let mut offsets = Vec::with_capacity(rows.len());
        for (id, partition) in rows {
            let Some(topic) = by_id.get(&id) else { continue };
            let Ok(inner) = topic.partition(partition) else { continue };
            inner.refresh()?;
            let fence = fences.entry(id).or_insert_with(|| group.fence(groups, topic));
            let end_offset = inner.progress.written();
            let held = fence.as_ref().filter(|fence| fence.limit(partition) < end_offset);
            let in_doubt = groups.doubt(name, (id, partition)).is_some();
            let place = (id, partition);
            let (newest, commit) = groups.offsets.with(|state| {
                let group = state.group(name);
                let newest = group.and_then(|group| group.commits.get(&place));
                (newest.cloned(), group.and_then(|group| group.committed(&place)).cloned())
            });
            let lost = match &newest {
                // What was written since the engine was opened is not lost while it is open.
                Some(commit) if commit.epoch != groups.epoch || commit.offset > end_offset => {
                    // Of a damaged partition nothing can be said; reading says what is wrong.
                    goes_on_at(inner, commit.offset, commit.epoch).unwrap_or(None)
                }
                _ => None,
            };
            let starts_at = newest.filter(|newest| newest.start).map(|start| start.offset);
            offsets.push(GroupOffset {
                goes_on_at: lost,
                topic: topic.name.to_string(),
                partition,
                committed: commit.as_ref().map(|commit| commit.offset),
                committed_ms: commit.as_ref().map(|commit| commit.committed_ms),
                starts_at,
                metadata: commit.map(|commit| commit.metadata.into_vec()).unwrap_or_default(),
                log_start_offset: inner.progress.log_start(),
                end_offset,
                member: members.get(&(&*topic.name, partition)).map(|&member| member.clone()),
                waits_for: held.and_then(|fence| fence.waits_for.first().copied()),
                in_doubt,
            });
        }
        description.0.offsets = offsets;
        description.0.offsets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(description.0)
    }

    /// The groups, with what another process has written meanwhile.
    pub(super) fn refreshed_groups(&self) -> Result<&Groups> {
        self.core.refresh()?;
        let groups = &self.core.groups;
        if self.core.read_only {
            groups.offsets.refresh()?;
        }
        Ok(groups)
    }
}

impl Groups {
    /// State and members, and the topics that they subscribe to; live, or as stored.
    fn describe_members(
        &self,
        name: &str,
        topics: &HashMap<TopicId, &Arc<Topic>>,
    ) -> Result<(GroupDescription, BTreeSet<TopicId>)> {
        let named = |partitions: &[TopicPartition]| {
            let name = |(id, partition): &TopicPartition| Some((topics.get(id)?.name.to_string(), *partition));
            let mut named: Vec<_> = partitions.iter().filter_map(name).collect();
            named.sort_unstable();
            named
        };
        let mut description = GroupDescription {
            name: name.to_owned(),
            state: GroupState::Empty,
            generation: 0,
            assignor: String::new(),
            assignor_failure: None,
            members: Vec::new(),
            offsets: Vec::new(),
            as_of_ms: None,
            empty_since_ms: None,
        };
        let mut subscribed = BTreeSet::new();
        let live = self.known(name).map(|group| group.view()).filter(|view| !view.members.is_empty());
        if let Some(view) = live {
            description.state = if view.stable { GroupState::Stable } else { GroupState::Preparing };
            description.generation = view.generation;
            description.assignor = view.assignor;
            description.assignor_failure = view.assignor_failure;
            for member in view.members {
                subscribed.extend(member.topics);
                description.members.push(MemberDescription {
                    id: member.id,
                    instance_id: member.instance_id,
                    partitions: named(&member.held),
                    awaited: named(&member.awaited),
                });
            }
            return Ok((description, subscribed));
        }
        let known = self.offsets.with(|state| {
            let Some(group) = state.group(name) else { return false };
            description.generation = group.generation;
            description.empty_since_ms = group.empty_since_ms;
            if let Some(stored) = &group.state {
                description.assignor = stored.snapshot.assignor.clone();
                if group.empty_since_ms.is_none() && !stored.snapshot.members.is_empty() {
                    description.as_of_ms = Some(stored.at_ms);
                    description.state = GroupState::Stable;
                    for member in &stored.snapshot.members {
                        let MemberSnapshot { id, instance_id, topics, partitions, awaited } = member;
                        subscribed.extend(topics.iter().copied());
                        let awaited = named(awaited);
                        if !awaited.is_empty() {
                            description.state = GroupState::Preparing;
                        }
                        description.members.push(MemberDescription {
                            id: id.clone(),
                            instance_id: instance_id.clone(),
                            partitions: named(partitions),
                            awaited,
                        });
                    }
                }
            }
            true
        });
        if !known {
            return Err(Error::new(ErrorKind::UnknownGroup { group: name.to_owned() }));
        }
        Ok((description, subscribed))
    }
}
