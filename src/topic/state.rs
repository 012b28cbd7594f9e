//! What the catalogue says, as pure state: entries in, topics and marks out.
//!
//! An entry is checked before it is applied, and the same check stands before every write, so that
//! what was written can be read. A hostile catalogue (right checksums, wrong contents) is an error
//! here, never a panic, and costs no more memory than a small multiple of its bytes.

use std::collections::{BTreeMap, HashMap};

use crate::config::{MAX_PARTITIONS, TopicConfig};
use crate::error::ErrorKind;
use crate::format::{CatalogEntry, FormatError, MAX_OFFSET, Mark};
use crate::ids::{EngineId, TopicId};

use super::name::check_topic_name;

type Checked<T> = std::result::Result<T, FormatError>;

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) name: String,
    pub(crate) config: TopicConfig,
    pub(crate) created_ms: i64,
    /// Each time partitions were added.
    pub(crate) expansions: Vec<Expansion>,
    marks: BTreeMap<u32, Mark>,
    truncations: BTreeMap<u32, Vec<Truncation>>,
}

/// Partitions were added to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expansion {
    /// How many there are since.
    pub(crate) partitions: u32,
    /// End offset of each earlier partition at that moment.
    pub(crate) end_offsets: Vec<u64>,
}

/// A partition's end was dropped on request: records from `offset` on of an epoch below `epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Truncation {
    pub(crate) offset: u64,
    pub(crate) epoch: u32,
}

impl Topic {
    /// The newest mark of a partition.
    pub(crate) fn mark(&self, partition: u32) -> Option<&Mark> {
        self.marks.get(&partition)
    }

    /// The truncations of a partition that still say something, offsets and epochs rising.
    pub(crate) fn truncations(&self, partition: u32) -> &[Truncation] {
        self.truncations.get(&partition).map_or(&[], Vec::as_slice)
    }

    fn put_mark(&mut self, partition: u32, mark: Mark) {
        let kept = self.marks.entry(partition).or_insert(mark);
        let log_start_offset = kept.log_start_offset.max(mark.log_start_offset);
        if (mark.epoch, mark.durable_offset) >= (kept.epoch, kept.durable_offset) {
            *kept = mark;
        }
        // The log start never goes back, whichever mark came last.
        kept.log_start_offset = log_start_offset;
    }

    fn put_truncation(&mut self, partition: u32, truncation: Truncation) {
        let kept = self.truncations.entry(partition).or_default();
        while kept.last().is_some_and(|last| last.offset >= truncation.offset) {
            kept.pop();
        }
        kept.push(truncation);
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CatalogState {
    engine: Option<(EngineId, i64)>,
    epoch: u32,
    last_topic_id: u32,
    topics: BTreeMap<TopicId, Topic>,
    /// Names in lower case: two that differ only in case can't both be.
    ids: HashMap<String, TopicId>,
    deleted: BTreeMap<TopicId, String>,
    clean: bool,
    offsets_end: u64,
}

impl CatalogState {
    /// The engine and when it was made; `None` only before the first entry.
    pub(crate) fn engine(&self) -> Option<(EngineId, i64)> {
        self.engine
    }

    /// The newest epoch.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether the newest entry says that the newest epoch ended cleanly.
    pub(crate) fn is_clean(&self) -> bool {
        self.clean
    }

    /// Entries of the offset log below this (exclusive) were durable when the engine was last closed.
    pub(crate) fn offsets_end(&self) -> u64 {
        self.offsets_end
    }

    /// The topics there are, by rising id.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    pub(crate) fn topic_by_id(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    /// The topic of exactly this name.
    pub(crate) fn topic(&self, name: &str) -> Option<&Topic> {
        self.topic_like(name).filter(|topic| topic.name == name)
    }

    /// The topic of this name in whatever case.
    pub(crate) fn topic_like(&self, name: &str) -> Option<&Topic> {
        self.ids.get(&name.to_ascii_lowercase()).and_then(|id| self.topics.get(id))
    }

    /// Deleted topics, of which files may be left, with the names they had.
    pub(crate) fn deleted(&self) -> impl Iterator<Item = (TopicId, &str)> {
        self.deleted.iter().map(|(&id, name)| (id, name.as_str()))
    }

    /// The id of the next topic; none was or will be another's. `None`: they are used up.
    pub(crate) fn next_topic_id(&self) -> Option<TopicId> {
        self.last_topic_id.checked_add(1).map(TopicId)
    }

    /// Nothing is left of a deleted topic's files. The highest id stays, for the next one's sake.
    pub(super) fn forget_deleted(&mut self, id: TopicId) {
        if id.0 != self.last_topic_id {
            self.deleted.remove(&id);
        }
    }

    /// Whether the entry may follow what was applied so far.
    ///
    /// # Errors
    /// [`FormatError::Invalid`]; [`FormatError::Newer`] for a setting this version doesn't know.
    pub(crate) fn check(&self, entry: &CatalogEntry) -> Checked<()> {
        if self.engine.is_none() != matches!(entry, CatalogEntry::Engine { .. }) {
            return invalid("the engine's entry stands first, and only there");
        }
        match entry {
            CatalogEntry::Engine { .. } => Ok(()),
            CatalogEntry::Epoch { epoch } if *epoch <= self.epoch => {
                invalid(format!("epoch {epoch} follows epoch {}", self.epoch))
            }
            CatalogEntry::Epoch { .. } => Ok(()),
            CatalogEntry::Topic { topic_id, name, partitions, config, .. } => {
                if topic_id.0 <= self.last_topic_id {
                    return invalid(format!("topic id {topic_id} follows topic id {}", self.last_topic_id));
                }
                if let Some(topic) = self.topic_like(name) {
                    return invalid(format!("topics {} and {topic_id} have the same name", topic.id));
                }
                check_topic_name(name).or_else(|error| invalid(error.to_string()))?;
                parse_config(*partitions, config).map(|_| ())
            }
            CatalogEntry::Deleted { topic_id } => self.known(*topic_id).map(|_| ()),
            CatalogEntry::Configured { topic_id, config } => {
                parse_config(self.known(*topic_id)?.config.partitions, config).map(|_| ())
            }
            CatalogEntry::Expanded { topic_id, partitions, end_offsets } => {
                let before = self.known(*topic_id)?.config.partitions;
                let rises = before < *partitions && *partitions <= MAX_PARTITIONS;
                if !rises || end_offsets.len() != before as usize {
                    return invalid(format!(
                        "topic {topic_id} expands from {before} to {partitions} partitions with {} end offsets",
                        end_offsets.len()
                    ));
                }
                end_offsets.iter().try_for_each(|&offset| check_offset(offset))
            }
            CatalogEntry::Mark { topic_id, partition, mark } => {
                self.known_partition(*topic_id, *partition)?;
                self.check_epoch(mark.epoch)?;
                check_offset(mark.log_start_offset)?;
                check_offset(mark.durable_offset)?;
                check_offset(mark.segment_base_offset)
            }
            CatalogEntry::Truncated { topic_id, partition, offset, epoch } => {
                let topic = self.known_partition(*topic_id, *partition)?;
                self.check_epoch(*epoch)?;
                check_offset(*offset)?;
                match topic.truncations(*partition).last() {
                    Some(last) if last.epoch >= *epoch => invalid("truncations in falling epochs"),
                    _ => Ok(()),
                }
            }
            CatalogEntry::Clean { epoch, .. } if *epoch != self.epoch => {
                invalid(format!("a clean end of epoch {epoch} within epoch {}", self.epoch))
            }
            CatalogEntry::Clean { offsets_end, .. } => check_offset(*offsets_end),
        }
    }

    /// Checks the entry and takes it in.
    ///
    /// # Errors
    /// Those of [`check`](CatalogState::check); nothing changed then.
    pub(crate) fn apply(&mut self, entry: &CatalogEntry) -> Checked<()> {
        self.check(entry)?;
        self.clean = matches!(entry, CatalogEntry::Clean { .. });
        match entry {
            CatalogEntry::Engine { engine_id, created_ms } => self.engine = Some((*engine_id, *created_ms)),
            CatalogEntry::Epoch { epoch } => self.epoch = *epoch,
            CatalogEntry::Topic { topic_id, name, partitions, created_ms, config } => {
                let topic = Topic {
                    id: *topic_id,
                    name: name.clone(),
                    config: parse_config(*partitions, config)?,
                    created_ms: *created_ms,
                    expansions: Vec::new(),
                    marks: BTreeMap::new(),
                    truncations: BTreeMap::new(),
                };
                self.ids.insert(name.to_ascii_lowercase(), *topic_id);
                self.topics.insert(*topic_id, topic);
                self.last_topic_id = topic_id.0;
            }
            CatalogEntry::Deleted { topic_id } => {
                if let Some(topic) = self.topics.remove(topic_id) {
                    self.ids.remove(&topic.name.to_ascii_lowercase());
                    self.deleted.insert(*topic_id, topic.name);
                }
            }
            CatalogEntry::Expanded { topic_id, partitions, end_offsets } => {
                if let Some(topic) = self.topics.get_mut(topic_id) {
                    topic.config.partitions = *partitions;
                    topic.expansions.push(Expansion { partitions: *partitions, end_offsets: end_offsets.clone() });
                }
            }
            CatalogEntry::Configured { topic_id, config } => {
                if let Some(topic) = self.topics.get_mut(topic_id) {
                    topic.config = parse_config(topic.config.partitions, config)?;
                }
            }
            CatalogEntry::Mark { topic_id, partition, mark } => {
                if let Some(topic) = self.topics.get_mut(topic_id) {
                    topic.put_mark(*partition, *mark);
                }
            }
            CatalogEntry::Truncated { topic_id, partition, offset, epoch } => {
                if let Some(topic) = self.topics.get_mut(topic_id) {
                    topic.put_truncation(*partition, Truncation { offset: *offset, epoch: *epoch });
                }
            }
            CatalogEntry::Clean { offsets_end, .. } => self.offsets_end = self.offsets_end.max(*offsets_end),
        }
        Ok(())
    }

    /// The entries that lead to this state, in an order in which they may be applied.
    pub(crate) fn entries(&self, mut each: impl FnMut(CatalogEntry)) {
        if let Some((engine_id, created_ms)) = self.engine {
            each(CatalogEntry::Engine { engine_id, created_ms });
        }
        if self.epoch > 0 {
            each(CatalogEntry::Epoch { epoch: self.epoch });
        }
        // By rising id: then no name is taken twice at any point.
        let mut deleted = self.deleted.iter().peekable();
        for topic in self.topics.values() {
            while let Some((&id, name)) = deleted.next_if(|(id, _)| **id < topic.id) {
                deleted_entries(id, name, &mut each);
            }
            topic.entries(&mut each);
        }
        for (&id, name) in deleted {
            deleted_entries(id, name, &mut each);
        }
        if self.clean {
            each(CatalogEntry::Clean { epoch: self.epoch, offsets_end: self.offsets_end });
        }
    }

    fn known(&self, id: TopicId) -> Checked<&Topic> {
        self.topics.get(&id).ok_or_else(|| FormatError::Invalid(format!("topic {id} is not known")))
    }

    fn known_partition(&self, id: TopicId, partition: u32) -> Checked<&Topic> {
        let topic = self.known(id)?;
        if partition >= topic.config.partitions {
            return invalid(format!("topic {id} has no partition {partition}"));
        }
        Ok(topic)
    }

    fn check_epoch(&self, epoch: u32) -> Checked<()> {
        if epoch > self.epoch {
            return invalid(format!("an entry speaks of epoch {epoch} within epoch {}", self.epoch));
        }
        Ok(())
    }
}

impl Topic {
    fn entries(&self, each: &mut impl FnMut(CatalogEntry)) {
        let topic_id = self.id;
        let partitions = self.expansions.first().map_or(self.config.partitions, |first| first.end_offsets.len() as u32);
        each(CatalogEntry::Topic {
            topic_id,
            name: self.name.clone(),
            partitions,
            created_ms: self.created_ms,
            config: self.config.to_text(),
        });
        for Expansion { partitions, end_offsets } in &self.expansions {
            each(CatalogEntry::Expanded { topic_id, partitions: *partitions, end_offsets: end_offsets.clone() });
        }
        for (&partition, &mark) in &self.marks {
            each(CatalogEntry::Mark { topic_id, partition, mark });
        }
        for (&partition, truncations) in &self.truncations {
            for &Truncation { offset, epoch } in truncations {
                each(CatalogEntry::Truncated { topic_id, partition, offset, epoch });
            }
        }
    }
}

fn deleted_entries(topic_id: TopicId, name: &str, each: &mut impl FnMut(CatalogEntry)) {
    let (partitions, created_ms) = (1, 0);
    each(CatalogEntry::Topic { topic_id, name: name.to_owned(), partitions, created_ms, config: String::new() });
    each(CatalogEntry::Deleted { topic_id });
}

fn parse_config(partitions: u32, text: &str) -> Checked<TopicConfig> {
    TopicConfig::from_text(partitions, text).map_err(|error| match error.kind() {
        ErrorKind::InvalidConfig { field: "key", value, .. } => FormatError::Newer(format!("setting {value:?}")),
        _ => FormatError::Invalid(error.to_string()),
    })
}

fn check_offset(offset: u64) -> Checked<()> {
    if offset > MAX_OFFSET {
        return invalid(format!("offset {offset} is beyond the last there can be"));
    }
    Ok(())
}

fn invalid<T>(reason: impl Into<String>) -> Checked<T> {
    Err(FormatError::Invalid(reason.into()))
}
