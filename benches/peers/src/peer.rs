//! What a log must do to be measured, and what it says of itself.

use std::error::Error;
use std::fmt;
use std::path::Path;

use crate::payload::{Span, Tally};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// What has happened to a record when the call that appended it returns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    /// It is in the memory of the process, or would be cut off when the log is opened again.
    None,
    /// The operating system has it, and it is found when the log is opened again after a kill.
    Written,
    /// It was synced.
    Synced,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::None => "none",
            Level::Written => "written",
            Level::Synced => "synced",
        })
    }
}

/// Whether a log can do a thing, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Can {
    /// Through which calls, and what a return of theirs means (read in its source).
    Yes(Level, &'static str),
    /// Why not.
    No(&'static str),
}

/// A log as its own source shows it.
#[derive(Debug)]
pub(crate) struct About {
    /// Its name in the registry.
    pub(crate) name: &'static str,
    /// One call a record.
    pub(crate) each: Can,
    /// Ready batches.
    pub(crate) batches: Can,
    /// One record, durable when the call returns.
    pub(crate) durable: Can,
    /// Reading all, and whether a checksum is verified on the way.
    pub(crate) replay: Can,
    /// Many logs in one directory.
    pub(crate) logs: Can,
    /// Settings other than its defaults.
    pub(crate) settings: &'static str,
}

/// What a log is opened for.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Logs (partitions, topics, groups: whatever it has).
    pub(crate) logs: u32,
    /// An upper bound of the payload bytes that will be appended to all logs together.
    pub(crate) total_bytes: u64,
    /// Bytes of a record.
    pub(crate) record_bytes: usize,
    /// Whether records will be appended one at a time, each durable.
    pub(crate) durable: bool,
    /// Whether reading is what will be timed.
    pub(crate) replay: bool,
    /// Bytes of payload in a batch, where the workload says how many.
    pub(crate) batch_bytes: Option<usize>,
}

impl Settings {
    /// Records in a batch: of as many bytes of payload as the workload says, else of `bytes`.
    pub(crate) fn batch_of(&self, bytes: usize) -> u64 {
        (self.batch_bytes.unwrap_or(bytes) / self.record_bytes).max(1) as u64
    }

    /// Room for one log's part, for peers that want to know before: half as much again for
    /// framing, of records as small as these.
    pub(crate) fn bytes_a_log(&self) -> u64 {
        let framed = self.total_bytes / self.record_bytes as u64 * (self.record_bytes as u64 + 64);
        framed / u64::from(self.logs) + (4 << 20)
    }
}

/// A log that is open.
pub(crate) trait Peer: Send + Sync {
    /// Appends to `log`, one call a record.
    fn append_each(&self, log: u32, records: Span) -> Outcome;

    /// Appends to `log` in batches of the workload's size, or of the size this peer likes best where there is none.
    fn append_batches(&self, log: u32, records: Span) -> Outcome;

    /// Appends one record to log 0 and returns when it is durable.
    fn append_durable(&self, record: &'static [u8]) -> Outcome;

    /// Hands all that was appended to the operating system, as far as this peer can.
    fn flush(&self) -> Outcome;

    /// Makes all that was appended durable, as far as this peer can.
    fn sync(&self) -> Outcome;

    /// Reads `log` from its start, each record into `tally`, until its end or until that says stop.
    fn replay(&self, log: u32, tally: &mut Tally) -> Outcome;
}

/// Opens a log in an empty directory.
pub(crate) type Open = fn(&Path, &Settings) -> Outcome<Box<dyn Peer>>;

/// A log that can be opened, or the reason why it is not here.
pub(crate) struct Entry {
    pub(crate) about: &'static About,
    pub(crate) open: Option<Open>,
}
