//! What the offset log says, as pure state: entries in, commits of groups out.
//!
//! An entry is checked before it is applied, and the same checks stand before every write, so that
//! what was written can be read. A hostile log (right checksums, wrong contents) is an error here,
//! never a panic, and costs no more memory than a small multiple of its bytes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use indexmap::IndexMap;

use crate::format::{FormatError, GroupSnapshot, MAX_OFFSET, OffsetEntry, OffsetEntryKind};
use crate::ids::TopicId;

use super::scatter::Scattered;
use crate::teeth::bites;

type Checked<T> = std::result::Result<T, FormatError>;

/// The longest name of a group.
const NAME_BYTES_MAX: usize = 249;

/// How far a group got in a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Commit {
    /// Next to read.
    pub(crate) offset: u64,
    /// Of the batch that holds record `offset - 1`; 0 = no such record.
    pub(crate) epoch: u32,
    /// The group's, when it was committed.
    pub(crate) generation: u32,
    /// The user's, at most 4,096 bytes.
    pub(crate) metadata: Box<[u8]>,
    pub(crate) committed_ms: i64,
    /// It only says where the group begins: nothing was committed yet, or what was committed is no longer kept.
    pub(crate) start: bool,
}

/// A commit that is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NewCommit<'a> {
    pub(crate) topic_id: TopicId,
    pub(crate) partition: u32,
    /// Next to read.
    pub(crate) offset: u64,
    /// Of the batch that holds record `offset - 1`; 0 = no such record.
    pub(crate) epoch: u32,
    /// The user's, at most 4,096 bytes.
    pub(crate) metadata: &'a [u8],
    /// It only says where the group begins.
    pub(crate) start: bool,
}

/// A group's members, as they were written last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StoredState {
    pub(crate) snapshot: GroupSnapshot,
    /// The directory's, when it was written: the group's generation is of this epoch.
    pub(crate) epoch: u32,
    pub(crate) at_ms: i64,
}

/// What there is of a group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct GroupOffsets {
    /// The newest of each partition.
    pub(crate) commits: IndexMap<(TopicId, u32), Commit, Scattered>,
    /// What was committed before the group began anew: retention had overtaken it.
    pub(crate) overtaken: IndexMap<(TopicId, u32), Commit, Scattered>,
    /// The largest seen.
    pub(crate) generation: u32,
    /// `None` if it has no members.
    pub(crate) state: Option<StoredState>,
    /// Since when it has no members; `None` if it has some, or never had.
    pub(crate) empty_since_ms: Option<i64>,
    /// Of the newest entry that says something of members; with `generation`.
    pub(crate) epoch: u32,
}

impl GroupOffsets {
    /// What was committed for a partition, if anything was.
    pub(crate) fn committed(&self, place: &(TopicId, u32)) -> Option<&Commit> {
        self.commits.get(place).filter(|commit| !commit.start).or_else(|| self.overtaken.get(place))
    }

    #[cfg(feature = "sim")]
    pub(crate) fn commit(&self, topic_id: TopicId, partition: u32) -> Option<&Commit> {
        self.commits.get(&(topic_id, partition))
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct OffsetState {
    groups: HashMap<u32, Group, Scattered>,
    numbers: HashMap<Arc<str>, u32>,
    /// The last number given in this file; none is given twice.
    last_number: u32,
    /// Bytes that the entries of this state take.
    live_bytes: u64,
    /// A group state of which pieces are still to come.
    pieces: Vec<u8>,
}

impl OffsetState {
    /// The group of this name.
    pub(crate) fn group(&self, name: &str) -> Option<&GroupOffsets> {
        let number = self.numbers.get(name)?;
        self.groups.get(number).map(|group| &group.offsets)
    }

    /// All groups, by name.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&str, &GroupOffsets)> {
        let mut groups: Vec<_> = self.groups.values().map(|group| (&*group.name, &group.offsets)).collect();
        groups.sort_unstable_by_key(|(name, _)| *name);
        groups.into_iter()
    }

    /// The newest epoch that an entry speaks of.
    pub(crate) fn newest_epoch(&self) -> u32 {
        let of_group = |offsets: &GroupOffsets| {
            let commits = offsets.commits.values().chain(offsets.overtaken.values());
            let of_commits = commits.map(|commit| commit.epoch).max().unwrap_or(0);
            of_commits.max(offsets.epoch).max(offsets.state.as_ref().map_or(0, |state| state.epoch))
        };
        self.groups.values().map(|group| of_group(&group.offsets)).max().unwrap_or(0)
    }

    /// The number that stands for a group in the file.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// The name behind a number.
    pub(super) fn name(&self, number: u32) -> Option<&Arc<str>> {
        self.groups.get(&number).map(|group| &group.name)
    }

    /// The numbers of all groups.
    pub(super) fn all_numbers(&self) -> impl Iterator<Item = u32> {
        self.groups.keys().copied()
    }

    /// The number of the next group; `None`: they are used up.
    pub(super) fn next_number(&self) -> Option<u32> {
        self.last_number.checked_add(1)
    }

    /// How many bytes [`entries`](OffsetState::entries) takes.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Takes in a batch's entries, in order. After an error those before the bad one are taken in.
    ///
    /// # Errors
    /// [`FormatError::Newer`] for what only a later version writes, else [`FormatError::Invalid`].
    pub(crate) fn apply_batch(&mut self, body: &[u8], entries: u32, appended_ms: i64) -> Checked<()> {
        self.begin_batch();
        let mut count = 0_u32;
        let mut rest = OffsetEntry::each_of(body).peekable();
        while let Some(entry) = rest.next() {
            let entry = entry?;
            self.apply(&entry, appended_ms)?;
            count += 1;
            let goes_on = |next: &Checked<OffsetEntry<'_>>| matches!(next, Ok(next) if next.kind == OffsetEntryKind::Commit && next.group == entry.group);
            if !rest.peek().is_some_and(goes_on) {
                continue;
            }
            // Most batches are many commits of one group: it is looked up once.
            let Some(group) = self.groups.get_mut(&entry.group) else { continue };
            while let Some(Ok(next)) = rest.next_if(goes_on) {
                check(&next)?;
                let change = group.put_commit(&next, appended_ms);
                self.live_bytes = (self.live_bytes + change.taken).saturating_sub(change.freed);
                count += 1;
            }
        }
        if count != entries {
            return invalid(format!("{count} entries in a batch of {entries}"));
        }
        Ok(())
    }

    /// Takes in commits of the group with this number, which is known, as
    /// [`apply_batch`](OffsetState::apply_batch) takes in their batch; they were checked.
    pub(super) fn commit<'a>(&mut self, number: u32, entries: impl Iterator<Item = OffsetEntry<'a>>, appended_ms: i64) {
        self.begin_batch();
        let Some(group) = self.groups.get_mut(&number) else { return };
        for entry in entries {
            let change = group.put_commit(&entry, appended_ms);
            self.live_bytes = (self.live_bytes + change.taken).saturating_sub(change.freed);
        }
    }

    /// Before a batch's first entry: no payload goes on from the batch before.
    pub(super) fn begin_batch(&mut self) {
        self.pieces = Vec::new();
    }

    /// Checks an entry and takes it in; `appended_ms` is its batch's.
    ///
    /// # Errors
    /// [`FormatError::Newer`] for what only a later version writes, else [`FormatError::Invalid`];
    /// nothing changed then.
    pub(super) fn apply(&mut self, entry: &OffsetEntry<'_>, appended_ms: i64) -> Checked<()> {
        check(entry)?;
        if entry.kind == OffsetEntryKind::Group {
            return self.put_name(entry);
        }
        let Some(group) = self.groups.get_mut(&entry.group) else {
            return invalid(format!("an entry of kind {:?} for group {}, which has no name", entry.kind, entry.group));
        };
        let change = match entry.kind {
            OffsetEntryKind::Commit => group.put_commit(entry, appended_ms),
            OffsetEntryKind::Delete if entry.topic_id == TopicId(0) => self.remove_group(entry.group),
            OffsetEntryKind::Delete => {
                let place = (entry.topic_id, entry.partition);
                let commit = group.offsets.commits.swap_remove(&place);
                let freed = commit.map_or(0, |commit| commit_bytes(&commit.metadata));
                Change { taken: 0, freed: freed + group.forget_overtaken(&place) }
            }
            OffsetEntryKind::GroupState => {
                if entry.more {
                    self.pieces.extend_from_slice(entry.payload);
                    return Ok(());
                }
                let mut payload = std::mem::take(&mut self.pieces);
                payload.extend_from_slice(entry.payload);
                group.put_state(entry, &payload)?
            }
            OffsetEntryKind::GroupEmpty => group.put_empty(entry),
            OffsetEntryKind::Group | OffsetEntryKind::TransactionDecision => Change::default(),
        };
        self.live_bytes = (self.live_bytes + change.taken).saturating_sub(change.freed);
        Ok(())
    }

    fn put_name(&mut self, entry: &OffsetEntry<'_>) -> Checked<()> {
        let name = std::str::from_utf8(entry.payload).map_err(|_| bad("a group's name isn't UTF-8"))?;
        check_name(name).map_err(bad)?;
        if entry.group <= self.last_number {
            return invalid(format!("group {} follows group {}", entry.group, self.last_number));
        }
        if self.numbers.contains_key(name) {
            return invalid(format!("two groups are called {name:?}"));
        }
        let name: Arc<str> = name.into();
        self.live_bytes += OffsetEntry::encoded_bytes(name.len(), false);
        self.last_number = entry.group;
        self.numbers.insert(name.clone(), entry.group);
        let offsets = GroupOffsets { generation: entry.generation, ..GroupOffsets::default() };
        self.groups.insert(entry.group, Group { name, offsets, next_slot: 0, members_bytes: 0 });
        Ok(())
    }

    /// Removes a group; its number isn't used again.
    fn remove_group(&mut self, number: u32) -> Change {
        let Some(group) = self.groups.remove(&number) else { return Change::default() };
        self.numbers.remove(&group.name);
        let GroupOffsets { commits, overtaken, .. } = &group.offsets;
        let commits: u64 =
            commits.values().chain(overtaken.values()).map(|commit| commit_bytes(&commit.metadata)).sum();
        let name = OffsetEntry::encoded_bytes(group.name.len(), false);
        Change { taken: 0, freed: commits + name + group.members_bytes }
    }

    /// Forgets what was committed where the group begins anew now: it may be older than what was lost.
    pub(super) fn forget_overtaken(&mut self, number: u32, place: &(TopicId, u32)) {
        if let Some(group) = self.groups.get_mut(&number) {
            self.live_bytes -= group.forget_overtaken(place);
        }
    }

    /// Removes a group whose deletion was lost.
    pub(super) fn forget_group(&mut self, number: u32) {
        let change = self.remove_group(number);
        self.live_bytes -= change.freed;
    }

    /// Forgets the commits of topics that are gone; which those were, by group.
    pub(super) fn keep_topics(&mut self, live: impl Fn(TopicId) -> bool) -> Vec<(String, TopicId)> {
        let mut gone = BTreeSet::new();
        for Group { name, offsets, .. } in self.groups.values_mut() {
            let mut keep = |&(topic_id, _): &(TopicId, u32), commit: &mut Commit| {
                let keep = live(topic_id);
                if !keep {
                    self.live_bytes -= commit_bytes(&commit.metadata);
                    gone.insert((name.to_string(), topic_id));
                }
                keep
            };
            offsets.commits.retain(&mut keep);
            offsets.overtaken.retain(&mut keep);
        }
        gone.into_iter().collect()
    }

    /// The entries that lead to this state, in an order in which they may be applied.
    pub(super) fn entries(&self, mut each: impl FnMut(OffsetEntry<'_>)) {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_unstable_by_key(|(number, _)| **number);
        for (&number, Group { name, offsets, .. }) in groups {
            let generation = offsets.generation;
            let entry = OffsetEntry { generation, ..blank(OffsetEntryKind::Group, number) };
            each(OffsetEntry { payload: name.as_bytes(), ..entry });
            if let Some(state) = &offsets.state {
                let mut payload = Vec::new();
                // It was encoded before: it fits.
                let _ = state.snapshot.encode(&mut payload);
                let (kind, offset, epoch) = (OffsetEntryKind::GroupState, state.at_ms as u64, state.epoch);
                each(OffsetEntry { kind, offset, epoch, payload: &payload, ..entry });
            } else if let Some(since_ms) = offsets.empty_since_ms {
                let (kind, offset, epoch) = (OffsetEntryKind::GroupEmpty, since_ms as u64, offsets.epoch);
                each(OffsetEntry { kind, offset, epoch, ..entry });
            }
            let mut commits: Vec<_> = offsets.commits.iter().collect();
            commits.sort_unstable_by_key(|(place, _)| **place);
            if bites("compaction-drops-the-newest") {
                commits.pop();
            }
            let both = |(place, commit)| [offsets.overtaken.get(place), Some(commit)].map(|commit| (place, commit));
            for (&(topic_id, partition), commit) in commits.into_iter().flat_map(both) {
                let Some(commit) = commit else { continue };
                each(OffsetEntry {
                    offset: commit.offset,
                    topic_id,
                    partition,
                    generation: commit.generation,
                    epoch: if bites("compaction-forgets-epochs") { 0 } else { commit.epoch },
                    committed_ms: Some(commit.committed_ms),
                    start: commit.start,
                    payload: &commit.metadata,
                    ..blank(OffsetEntryKind::Commit, number)
                });
            }
        }
    }
}

/// By how much a state's entries grew and shrank.
#[derive(Default)]
struct Change {
    taken: u64,
    freed: u64,
}

/// A group under its number.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Group {
    name: Arc<str>,
    offsets: GroupOffsets,
    /// Where the commit after the one before stands, if all come in the same order again.
    next_slot: usize,
    /// What its entry of kind *group state* or *group empty* takes.
    members_bytes: u64,
}

impl Group {
    /// Allocates only for a partition's first commit, where the group begins anew, and where metadata changes its
    /// length.
    fn put_commit(&mut self, entry: &OffsetEntry<'_>, appended_ms: i64) -> Change {
        let OffsetEntry { offset, epoch, generation, payload, start, .. } = *entry;
        let committed_ms = entry.committed_ms.unwrap_or(appended_ms);
        let taken = commit_bytes(payload);
        self.offsets.generation = self.offsets.generation.max(generation);
        let key = (entry.topic_id, entry.partition);
        let commits = &mut self.offsets.commits;
        // Most commits are of the same partitions in the same order as the one before: the next in line.
        let slot = match commits.get_index(self.next_slot) {
            Some((next, _)) if *next == key => Some(self.next_slot),
            _ => commits.get_index_of(&key),
        };
        self.next_slot = slot.map_or(0, |slot| slot + 1);
        match slot.and_then(|slot| commits.get_index_mut(slot)) {
            None => {
                commits
                    .insert(key, Commit { offset, epoch, generation, metadata: payload.into(), committed_ms, start });
                Change { taken, freed: 0 }
            }
            Some((_, commit)) if start && !commit.start => {
                let new = Commit { offset, epoch, generation, metadata: payload.into(), committed_ms, start };
                let overtaken = std::mem::replace(commit, new);
                self.offsets.overtaken.insert(key, overtaken);
                Change { taken, freed: 0 }
            }
            Some((_, commit)) => {
                let mut freed = commit_bytes(&commit.metadata);
                if commit.metadata.len() == payload.len() {
                    commit.metadata.copy_from_slice(payload);
                } else {
                    commit.metadata = payload.into();
                }
                (commit.offset, commit.epoch, commit.generation) = (offset, epoch, generation);
                (commit.committed_ms, commit.start) = (committed_ms, start);
                if !start {
                    freed += self.forget_overtaken(&key);
                }
                Change { taken, freed }
            }
        }
    }

    /// How many bytes that frees.
    fn forget_overtaken(&mut self, place: &(TopicId, u32)) -> u64 {
        let overtaken = &mut self.offsets.overtaken;
        if overtaken.is_empty() {
            return 0;
        }
        overtaken.swap_remove(place).map_or(0, |commit| commit_bytes(&commit.metadata))
    }

    fn put_state(&mut self, entry: &OffsetEntry<'_>, payload: &[u8]) -> Checked<Change> {
        let snapshot = GroupSnapshot::decode(payload)?;
        let state = StoredState { snapshot, epoch: entry.epoch, at_ms: entry.offset as i64 };
        self.offsets.empty_since_ms = None;
        self.offsets.state = Some(state);
        Ok(self.members_changed(entry, payload.len()))
    }

    fn put_empty(&mut self, entry: &OffsetEntry<'_>) -> Change {
        self.offsets.empty_since_ms = Some(entry.offset as i64);
        self.offsets.state = None;
        self.members_changed(entry, 0)
    }

    fn members_changed(&mut self, entry: &OffsetEntry<'_>, payload_bytes: usize) -> Change {
        self.offsets.generation = self.offsets.generation.max(entry.generation);
        self.offsets.epoch = entry.epoch;
        let taken = OffsetEntry::pieces_bytes(payload_bytes);
        Change { taken, freed: std::mem::replace(&mut self.members_bytes, taken) }
    }
}

/// What a commit takes in a compacted log.
fn commit_bytes(metadata: &[u8]) -> u64 {
    OffsetEntry::encoded_bytes(metadata.len(), true)
}

/// An entry that says nothing yet.
pub(super) fn blank(kind: OffsetEntryKind, group: u32) -> OffsetEntry<'static> {
    OffsetEntry {
        kind,
        offset: 0,
        topic_id: TopicId(0),
        partition: 0,
        group,
        generation: 0,
        epoch: 0,
        more: false,
        start: false,
        committed_ms: None,
        payload: &[],
    }
}

/// What an entry may say by itself, whatever came before.
pub(super) fn check(entry: &OffsetEntry<'_>) -> Checked<()> {
    use OffsetEntryKind::{Commit, GroupState, TransactionDecision};
    if entry.kind == TransactionDecision {
        return Err(FormatError::Newer("a transaction's decision in the offset log".into()));
    }
    if entry.offset > MAX_OFFSET {
        return invalid(format!("offset {} is beyond the last there can be", entry.offset));
    }
    if entry.more && entry.kind != GroupState {
        return invalid(format!("the payload of an entry of kind {:?} goes on in the next", entry.kind));
    }
    if entry.kind == Commit && entry.topic_id == TopicId(0) {
        return invalid("a commit for topic 0, which is none");
    }
    Ok(())
}

/// Whether a group may be called so.
pub(super) fn check_name(name: &str) -> std::result::Result<(), String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(format!("a group's name has 1 to {NAME_BYTES_MAX} bytes, this has {}", name.len()));
    }
    Ok(())
}

fn invalid<T>(reason: impl Into<String>) -> Checked<T> {
    Err(bad(reason))
}

fn bad(reason: impl Into<String>) -> FormatError {
    FormatError::Invalid(reason.into())
}
