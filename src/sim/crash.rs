//! What survives a crash: policies, and the choices they make.
//!
//! Each thing that isn't durable asks for a choice, in an order that depends only on what happened
//! on the disk; so a list of answers is a crash state, and going through all lists is going through
//! all states.

use super::random::Random;

/// What a disk keeps when its machine or process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrashPolicy {
    /// The process dies and the system lives on: everything written is there, and what wasn't synced
    /// may still be lost later. Locks are free.
    Kill,
    /// The power fails, and only what was durable is left.
    PowerLoss,
    /// The power fails, and of what wasn't durable some survives, as the seed has it: each sector in
    /// any version since the durable one, each file's length likewise, each change of a name or not.
    Seeded(u64),
}

/// Answers what survives.
pub(super) trait Choices {
    /// The questions that follow are about another file, or about names.
    fn next_subject(&mut self) {}

    /// A number below `options`: 0 is what is durable, `options - 1` the newest.
    fn choose(&mut self, options: usize) -> usize;
}

/// Only what is durable.
pub(super) struct Nothing;

impl Choices for Nothing {
    fn choose(&mut self, _: usize) -> usize {
        0
    }
}

/// By seed. Each subject has a mood, so that "all of this file, nothing of that one", which finds
/// mistakes in the order between files, comes as often as a mixture.
pub(super) struct Seeded {
    random: Random,
    mood: Mood,
}

enum Mood {
    Nothing,
    Everything,
    Mixed,
}

impl Seeded {
    pub(super) fn new(seed: u64) -> Seeded {
        Seeded { random: Random::new(seed), mood: Mood::Mixed }
    }
}

impl Choices for Seeded {
    fn next_subject(&mut self) {
        self.mood = match self.random.below(4) {
            0 => Mood::Nothing,
            1 => Mood::Everything,
            _ => Mood::Mixed,
        };
    }

    fn choose(&mut self, options: usize) -> usize {
        match self.mood {
            Mood::Nothing => 0,
            Mood::Everything => options - 1,
            Mood::Mixed => self.random.below(options),
        }
    }
}
