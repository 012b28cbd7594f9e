//! What was asked of the engine and what it acknowledged, each with the position in the disk's record at
//! which that was. A crash at position `c` may show what was asked by then, and must show what had been
//! acknowledged by then. Nothing here knows of files.

use std::collections::BTreeMap;

use thalweg::TopicId;

/// A place in the disk's record: so many events came before.
pub(crate) type Position = usize;

/// Something asked, and when it was acknowledged, if it was.
#[derive(Clone, Debug)]
pub(crate) struct Asked<T> {
    pub(crate) what: T,
    pub(crate) asked: Position,
    pub(crate) acknowledged: Option<Position>,
}

impl<T> Asked<T> {
    pub(crate) fn new(what: T, asked: Position) -> Asked<T> {
        Asked { what, asked, acknowledged: None }
    }

    pub(crate) fn may_show(&self, at: Position) -> bool {
        self.asked <= at
    }

    pub(crate) fn must_show(&self, at: Position) -> bool {
        self.acknowledged.is_some_and(|acknowledged| acknowledged <= at)
    }
}

/// A record that was given the offset at which it stands in [`Log::sent`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// With the offset it decides the bytes; another one in each life.
    pub(crate) salt: u64,
    pub(crate) asked: Position,
    /// It was the last of its batch, of one try or another: a log may end behind it.
    pub(crate) last: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) sent: Vec<Sent>,
    /// End offsets (exclusive) that were acknowledged as synced.
    pub(crate) synced: Vec<(Position, u64)>,
    /// Log starts.
    pub(crate) starts: Vec<Asked<u64>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// Stands in its metadata; later ones have higher numbers.
    pub(crate) number: u64,
    pub(crate) offset: u64,
    /// Where the log ended when the record before the offset was found to be gone.
    pub(crate) lost_at: Option<u64>,
    /// It failed; it may be there all the same.
    pub(crate) refused: bool,
}

/// One life of a topic: what is made again under its name is another.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) created: Asked<Option<TopicId>>,
    pub(crate) deleted: Option<Asked<()>>,
    pub(crate) logs: Vec<Log>,
    /// By group and partition, in the order in which they were made.
    pub(crate) commits: BTreeMap<(String, u32), Vec<Asked<Commit>>>,
}

impl Topic {
    pub(crate) fn is_live(&self) -> bool {
        self.deleted.is_none() && self.created.acknowledged.is_some()
    }

    pub(crate) fn must_exist(&self, at: Position) -> bool {
        self.created.must_show(at) && !self.deleted.as_ref().is_some_and(|deleted| deleted.may_show(at))
    }

    pub(crate) fn may_exist(&self, at: Position) -> bool {
        self.created.may_show(at) && !self.deleted.as_ref().is_some_and(|deleted| deleted.must_show(at))
    }
}

impl Log {
    /// The end that must be there.
    pub(crate) fn floor(&self, at: Position) -> u64 {
        self.synced.iter().filter(|(position, _)| *position <= at).map(|(_, end)| *end).max().unwrap_or(0)
    }

    /// The end that may be there.
    pub(crate) fn ceiling(&self, at: Position) -> u64 {
        self.sent.partition_point(|sent| sent.asked <= at) as u64
    }

    pub(crate) fn start_floor(&self, at: Position) -> u64 {
        self.starts.iter().filter(|start| start.must_show(at)).map(|start| start.what).max().unwrap_or(0)
    }

    pub(crate) fn start_ceiling(&self, at: Position) -> u64 {
        self.starts.iter().filter(|start| start.may_show(at)).map(|start| start.what).max().unwrap_or(0)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) topics: Vec<Topic>,
    pub(crate) numbers: u64,
}

impl History {
    /// A number that nothing else has.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// How many things were acknowledged by then.
    pub(crate) fn acknowledged(&self, at: Position) -> usize {
        let logs = self.topics.iter().flat_map(|topic| &topic.logs);
        let commits = self.topics.iter().flat_map(|topic| topic.commits.values().flatten());
        logs.map(|log| log.floor(at) as usize).sum::<usize>() + commits.filter(|commit| commit.must_show(at)).count()
    }
}
