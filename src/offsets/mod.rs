//! How far each group got: the offset-commit log, a keyed log `offsets-<n>` of entries over a pure
//! [`OffsetState`].
//!
//! One call is one batch: it counts whole or not at all. State in memory changes only after the batch
//! is written; it compacts itself before it writes, so that an error of a call means that nothing of
//! it is there. There is one file for all groups, and none until the first group. What a damaged file
//! still says is kept (its [damage](Offsets::damage) names what isn't sure); nothing is written to it.

mod log;
mod salvage;
mod scatter;
mod shared;
mod state;
#[cfg(all(test, feature = "sim"))]
mod tests;

pub(crate) use log::bodies;
pub(crate) use salvage::{OffsetDamage, Salvager};
pub(crate) use shared::{Offsets, Ticket};
#[cfg(feature = "sim")]
pub(crate) use state::GroupOffsets;
pub(crate) use state::{Commit, NewCommit, OffsetState};

/// What the files are called: `offsets-<n>`.
const PREFIX: &str = "offsets";
