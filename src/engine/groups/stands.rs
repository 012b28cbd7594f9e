//! Whether a committed offset still means what it meant: the record before it may have been lost, in a crash or
//! with files that are older than the commit, and another may have its offset (D5).

use std::sync::Arc;

use crate::error::{ErrorKind, Result};
use crate::partition::{Partition, Reader};

/// Where a group goes on instead of at a committed offset whose record was lost; `None` if it wasn't. `epoch`
/// is the commit's.
pub(in crate::engine) fn goes_on_at(partition: &Arc<Partition>, offset: u64, epoch: u32) -> Result<Option<u64>> {
    if offset <= partition.progress.log_start() {
        return Ok(None);
    }
    // A header that is damaged says nothing against the commit; reading says what is wrong.
    let found = Reader::epoch_before(partition, offset).unwrap_or(epoch);
    let same = found == epoch || crate::teeth::bites("epoch-of-a-commit-not-compared");
    if same && offset <= partition.progress.written() {
        return Ok(None);
    }
    let first = match Reader::first_after_epoch(partition, epoch) {
        // Reading from the end on says what is wrong.
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt { .. }) => partition.progress.written(),
        first => first?,
    };
    Ok(Some(first.min(offset)))
}
