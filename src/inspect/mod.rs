//! Looking into a data directory without opening it: [`verify`] checks all of it, [`dump`] shows one
//! file, [`repair`] makes a damaged one whole.
//!
//! The first two change nothing and take no lock, none maps a file, so both work on damaged directories,
//! read-only media, and beside a live writer. What counts is decided by the same recovery that
//! opening runs; here every byte is read as well.

mod check;
mod dump;
mod dumped;
mod index;
mod keyed_file;
mod meter;
mod partition;
mod repair;
mod report;
mod verify;
mod walk;

pub use dump::{DumpOptions, dump};
pub use dumped::{
    Dumped, DumpedBatch, DumpedEntry, DumpedFile, DumpedGap, DumpedIndexEntry, DumpedOffset, DumpedPrevious,
    DumpedRecord, FileFields, IndexFields,
};
#[cfg(feature = "sim")]
pub use repair::repair_sim;
pub use repair::{DoubtfulGroup, Loss, Repair, RepairAction, RepairStep, repair};
pub use report::{Damage, Progress, Unfinished, Verification};
#[cfg(feature = "sim")]
pub use verify::verify_sim;
pub use verify::{live_writer, verify};
