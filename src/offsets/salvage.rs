//! What a damaged offset log still says, and of which groups it can't be sure.
//!
//! Each whole entry counts, before or behind the damage; so what is kept was committed once. That it
//! is the newest is sure only of what stands behind all damage.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{BatchHeader, FormatError, OffsetEntry, OffsetEntryKind};
use crate::ids::TopicId;
use crate::keyed::{Piece, refused};

use super::state::OffsetState;

/// The file is damaged. Each whole entry counts, before or behind the damage.
#[derive(Clone, Debug)]
pub(crate) struct OffsetDamage {
    /// What is wrong first: path, position and reason.
    pub(crate) error: Error,
    /// The groups of which a newest commit may lie in the damage, sorted: all that were known before it.
    /// Even where each partition of which a commit is known has a newer one behind it, the only commit of
    /// another partition may be lost.
    pub(crate) groups: Vec<String>,
    /// Whether there may be groups besides, whose names lie in the damage.
    pub(crate) names_lost: bool,
    /// The newest epoch of a batch that is whole.
    pub(super) epoch: u32,
    sure: Arc<BTreeMap<String, Sure>>,
}

/// What is sure of a group.
#[derive(Debug)]
enum Sure {
    /// It is first heard of behind all damage.
    All,
    /// The partitions whose newest commit, or its deletion, stands behind all damage.
    Partitions(BTreeSet<(TopicId, u32)>),
}

impl OffsetDamage {
    /// Nothing is left.
    pub(crate) fn all(error: Error) -> OffsetDamage {
        OffsetDamage { error, groups: Vec::new(), names_lost: true, epoch: 0, sure: Arc::default() }
    }

    /// Whether a commit of this group for this partition may have been lost that is newer than the
    /// one that is known, or the only one.
    pub(crate) fn in_doubt(&self, group: &str, topic_id: TopicId, partition: u32) -> bool {
        match self.sure.get(group) {
            Some(Sure::All) => false,
            Some(Sure::Partitions(partitions)) => !partitions.contains(&(topic_id, partition)),
            None => true,
        }
    }
}

/// Puts a state together from what is left.
#[derive(Default)]
pub(crate) struct Salvager {
    state: OffsetState,
    /// The first damage.
    error: Option<Error>,
    /// The groups known before the newest damage, by number, and what is sure of them since.
    doubted: HashMap<u32, BTreeSet<(TopicId, u32)>>,
    /// Numbers of groups whose names are lost.
    nameless: HashSet<u32>,
    /// Where the last batch ended, if damage follows.
    hole_from: Option<u64>,
    next_offset: u64,
    epoch: u32,
    /// A group may have been named, and never mentioned again, where entries are missing.
    may_have_named: bool,
}

/// A group's name stands in a batch with something that is said of it.
const ENTRIES_WITH_A_NAME: u64 = 2;

impl Salvager {
    /// Takes in the next piece.
    ///
    /// # Errors
    /// [`ErrorKind::NewerFormat`] for what only a later version writes.
    pub(crate) fn take(&mut self, piece: Piece<'_>) -> Result<()> {
        match piece {
            Piece::Hole(error) => {
                self.hole_from = Some(self.next_offset);
                self.damaged(error);
            }
            Piece::Batch { header, body, position } => {
                if let Some(from) = self.hole_from.take() {
                    self.may_have_named |= header.base_offset.saturating_sub(from) >= ENTRIES_WITH_A_NAME;
                }
                self.next_offset = header.end_offset();
                self.epoch = self.epoch.max(header.epoch);
                if let Err(error) = self.take_batch(header, body) {
                    let error = refused(error).at_position(position);
                    if matches!(error.kind(), ErrorKind::NewerFormat { .. }) {
                        return Err(error);
                    }
                    self.may_have_named |= u64::from(header.offset_count) >= ENTRIES_WITH_A_NAME;
                    self.damaged(error);
                }
            }
        }
        Ok(())
    }

    /// The state, and what is wrong; `None` if nothing was.
    pub(crate) fn finish(self) -> (OffsetState, Option<OffsetDamage>) {
        let Some(error) = self.error else { return (self.state, None) };
        let mut groups = Vec::new();
        let mut sure = BTreeMap::new();
        for (name, _) in self.state.groups() {
            match self.state.number(name).and_then(|number| self.doubted.get(&number)) {
                None => sure.insert(name.to_owned(), Sure::All),
                Some(since) => {
                    groups.push(name.to_owned());
                    sure.insert(name.to_owned(), Sure::Partitions(since.clone()))
                }
            };
        }
        let names_lost = self.may_have_named || self.hole_from.is_some() || !self.nameless.is_empty();
        (self.state, Some(OffsetDamage { error, groups, names_lost, epoch: self.epoch, sure: Arc::new(sure) }))
    }

    /// From here on nothing is sure of what is known so far.
    fn damaged(&mut self, error: Error) {
        self.error.get_or_insert(error);
        self.doubted = self.state.all_numbers().map(|number| (number, BTreeSet::new())).collect();
    }

    /// Takes in the entries that may be, and returns the first reason why another may not.
    fn take_batch(&mut self, header: &BatchHeader, body: &[u8]) -> std::result::Result<(), FormatError> {
        self.state.begin_batch();
        let mut count = 0;
        let mut first_error = None;
        for entry in OffsetEntry::each_of(body) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return Err(first_error.unwrap_or(error)),
            };
            count += 1;
            match self.take_entry(&entry, header.appended_ms) {
                Err(error @ FormatError::Newer(_)) => return Err(error),
                Err(error) => first_error = first_error.or(Some(error)),
                Ok(()) => {}
            }
        }
        if count != header.record_count {
            let reason = format!("{count} entries in a batch of {}", header.record_count);
            first_error = first_error.or(Some(FormatError::Invalid(reason)));
        }
        first_error.map_or(Ok(()), Err)
    }

    fn take_entry(&mut self, entry: &OffsetEntry<'_>, appended_ms: i64) -> std::result::Result<(), FormatError> {
        let number = entry.group;
        let is_name = entry.kind == OffsetEntryKind::Group;
        let is_end = entry.kind == OffsetEntryKind::Delete && entry.topic_id == TopicId(0);
        // The name, or that the group was deleted, lies in the damage.
        if self.error.is_some() && !is_name && self.state.name(number).is_none() {
            super::state::check(entry)?;
            if is_end {
                self.nameless.remove(&number)
            } else {
                self.nameless.insert(number)
            };
            return Ok(());
        }
        if self.error.is_some()
            && is_name
            && let Some(before) = std::str::from_utf8(entry.payload).ok().and_then(|name| self.state.number(name))
            && before < number
        {
            // Two groups never have a name at a time: the first was deleted, in the damage.
            self.state.forget_group(before);
            self.doubted.remove(&before);
        }
        // Groups are numbered in turn: none is missing before this one.
        let in_turn = is_name && self.state.next_number() == Some(number);
        self.state.apply(entry, appended_ms)?;
        self.may_have_named &= !in_turn;
        // Of a group that was deleted nobody asks: its number isn't given again.
        if matches!(entry.kind, OffsetEntryKind::Commit | OffsetEntryKind::Delete)
            && let Some(sure) = self.doubted.get_mut(&number)
        {
            let place = (entry.topic_id, entry.partition);
            if sure.insert(place) && entry.start {
                self.state.forget_overtaken(number, &place);
            }
        }
        Ok(())
    }
}
