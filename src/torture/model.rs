//! What must be true of a data directory: every record ever sent, every offset ever committed, and how
//! far each was acknowledged. It knows nothing of files.

use std::collections::BTreeMap;

/// A record's value: its number and length decide all bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) number: u64,
    pub(super) bytes: u32,
    /// When, by the wall clock.
    pub(super) sent_ms: i64,
}

impl Payload {
    /// The record's own time: about when it was sent, in no order.
    pub(super) fn timestamp(self) -> i64 {
        self.sent_ms + (self.number.wrapping_mul(0x9e37_79b9) >> 7) as i64 % 5_000
    }

    /// Its value, eight bytes at a time; at least the number itself.
    fn words(self) -> impl Iterator<Item = [u8; 8]> {
        let mut state = self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::iter::once(self.number.to_le_bytes()).chain(std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        }))
    }

    fn value_bytes(self) -> usize {
        self.bytes.max(8) as usize
    }

    pub(super) fn make(self) -> Vec<u8> {
        let count = self.value_bytes();
        let mut value: Vec<u8> = self.words().take(count.div_ceil(8)).flatten().collect();
        value.truncate(count);
        value
    }

    /// Whether a record's value is this one.
    pub(super) fn is(self, value: Option<&[u8]>) -> bool {
        value.is_some_and(|value| {
            let (found, rest) = value.as_chunks::<8>();
            let mut words = self.words();
            value.len() == self.value_bytes()
                && found.iter().zip(&mut words).all(|(found, word)| *found == word)
                && words.next().is_some_and(|word| *rest == word[..rest.len()])
        })
    }
}

/// One partition's history; places are offsets, exclusive where they end something.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    /// Everything that was given an offset and didn't fail, from offset 0 on.
    pub(super) sent: Vec<Payload>,
    pub(super) written: usize,
    pub(super) durable: usize,
    /// What failed since the last append that didn't, try by try, and the offset all began at: a write
    /// that was half done may be found after a crash.
    pub(super) failed: (usize, Vec<Vec<Payload>>),
    /// The log start that was acknowledged, and the highest that was asked for.
    pub(super) start: usize,
    pub(super) start_asked: usize,
}

impl Log {
    /// Everything from `end` on failed.
    pub(super) fn fail_from(&mut self, end: usize) {
        if end < self.sent.len() {
            let failed = self.sent.split_off(end);
            if self.failed.0 != end {
                self.failed = (end, Vec::new());
            }
            self.failed.1.push(failed);
        }
    }

    /// Appends up to `end` were acknowledged: what failed before can't be found any more.
    pub(super) fn acknowledged(&mut self, end: usize) {
        self.written = self.written.max(end);
        if end > self.failed.0 {
            self.failed = (0, Vec::new());
        }
    }
}

/// What was done to a group's offset in one partition, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Commits {
    pub(super) made: Vec<Commit>,
    /// So many were acknowledged as written, as synced.
    pub(super) written: usize,
    pub(super) durable: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Commit {
    pub(super) what: Place,
    /// Where the log ended when the record before the offset was found to be gone.
    pub(super) lost_at: Option<usize>,
}

/// What a group's state says of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing: the group was deleted.
    None,
    /// It begins at this offset, and has committed nothing.
    Start(usize),
    /// It has committed this offset. The number stands in the commit's metadata; 0: it has none.
    Commit(u64, usize),
}

impl Place {
    /// What the state of an engine says.
    pub(super) fn of(commit: Option<&crate::offsets::Commit>) -> Place {
        let Some(commit) = commit else { return Place::None };
        let number = commit.metadata.first_chunk().map_or(0, |bytes: &[u8; 8]| u64::from_le_bytes(*bytes));
        match commit.start {
            true => Place::Start(commit.offset as usize),
            false => Place::Commit(number, commit.offset as usize),
        }
    }

    pub(super) fn offset(self) -> Option<usize> {
        match self {
            Place::None => None,
            Place::Start(offset) | Place::Commit(_, offset) => Some(offset),
        }
    }
}

impl Commits {
    /// What counts now.
    pub(super) fn last(&self) -> Place {
        self.made.last().map_or(Place::None, |last| last.what)
    }

    /// This is tried.
    pub(super) fn push(&mut self, what: Place) {
        self.made.push(Commit { what, lost_at: None });
    }

    /// Where the log ended when the record before this place was found to be gone; `None` if it is there.
    pub(super) fn lost_at(&self, what: Place) -> Option<usize> {
        self.made.iter().rfind(|commit| commit.what == what)?.lost_at
    }

    /// All that was tried was acknowledged.
    pub(super) fn acknowledge(&mut self, acks: crate::config::Acks) {
        self.written = self.made.len();
        if acks == crate::config::Acks::Synced {
            self.durable = self.made.len();
        }
    }

    /// The engine says so of its state, which is durable; it isn't news if it was known.
    pub(super) fn is_at(&mut self, what: Place) {
        if self.last() != what {
            self.push(what);
        }
        self.acknowledge(crate::config::Acks::Synced);
    }
}

/// A topic, from its creation to its deletion.
#[derive(Debug, Clone, Default)]
pub(super) struct Topic {
    pub(super) logs: Vec<Log>,
    pub(super) commits: BTreeMap<(String, u32), Commits>,
    /// How many partitions were acknowledged.
    pub(super) partitions: usize,
    /// Making or deleting it failed: it may be there or not.
    pub(super) uncertain: bool,
}

/// A data directory.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) topics: BTreeMap<String, Topic>,
    next_number: u64,
}

impl World {
    /// A number that no payload and no commit has.
    pub(super) fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn log(&mut self, topic: &str, partition: u32) -> Option<&mut Log> {
        self.topics.get_mut(topic)?.logs.get_mut(partition as usize)
    }
}
