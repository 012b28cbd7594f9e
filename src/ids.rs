//! Identities: what tells one log from another.
//!
//! Offsets, positions and epochs are plain integers that the names of fields and parameters
//! explain; the identities here are types because mixing them up would corrupt a log.

use std::fmt;

/// Random 16 bytes given to a data directory at its birth; every file in it carries them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct EngineId(pub(crate) [u8; 16]);

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One *life* of a topic. Given by the catalogue, never used again; 0 belongs to no topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicId(pub u32);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a file belongs to: engine, topic and partition. Keyed logs use topic 0, partition 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LogId {
    pub(crate) engine_id: EngineId,
    pub(crate) topic_id: TopicId,
    pub(crate) partition: u32,
}

impl LogId {
    /// The identity of a directory's catalogue and offset log.
    pub(crate) fn keyed(engine_id: EngineId) -> LogId {
        LogId { engine_id, topic_id: TopicId(0), partition: 0 }
    }
}
