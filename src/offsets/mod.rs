//! How far each group got: the offset-commit log, a keyed log `offsets-<n>` of entries over a pure
//! [`OffsetState`].
//!
//! One call is one batch: it counts whole or not at all. State in memory changes only after the batch
//! is written; it compacts itself before it writes, so that an error of a call means that nothing of
//! it is there. There is one file for all groups, and none until the first group. What a damaged file
//! still says is kept ([`OffsetDamage`] names what isn't sure); nothing is written to it.

mod log;
mod salvage;
mod shared;
mod state;

pub(crate) use salvage::OffsetDamage;
pub(crate) use shared::{Offsets, Ticket};
pub(crate) use state::{Commit, GroupOffsets, NewCommit, OffsetState, StoredState};

/// What the files are called: `offsets-<n>`.
const PREFIX: &str = "offsets";
