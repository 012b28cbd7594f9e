//! How a run ends before its time, and the exit code of each way.

use std::fmt;
use std::io;

pub(crate) type Result<T> = std::result::Result<T, Failure>;

#[derive(Debug)]
pub(crate) enum Failure {
    /// A promise doesn't hold. Begins with the promise's name.
    Broken(String),
    /// The test itself could not go on.
    Trouble(String),
    /// What is needed isn't here: what, and how to get it.
    Skipped(String),
    /// Ctrl-C.
    Stopped,
}

impl Failure {
    /// An error of the system where the test itself asked for something.
    pub(crate) fn io(what: impl fmt::Display, error: io::Error) -> Failure {
        Failure::Trouble(format!("{what}: {error}"))
    }

    /// The same, said more closely where it happened.
    pub(crate) fn at(self, place: impl fmt::Display) -> Failure {
        match self {
            Failure::Broken(what) => Failure::Broken(format!("{what} ({place})")),
            Failure::Trouble(what) => Failure::Trouble(format!("{what} ({place})")),
            other => other,
        }
    }
}

/// A promise that doesn't hold.
pub(crate) fn broken<T>(what: impl Into<String>) -> Result<T> {
    Err(Failure::Broken(what.into()))
}
