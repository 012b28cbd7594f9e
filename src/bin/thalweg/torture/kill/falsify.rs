//! Has the check find something else than there is, to see that the oracle notices.

use super::oracle::{Contents, Oracle};
use crate::torture::Falsify;

/// Changes what was found, if it holds anything of the kind; whether it did.
pub(super) fn falsify(what: Falsify, contents: &mut Contents, oracle: &Oracle) -> bool {
    let acknowledged = oracle.newest_acknowledged().and_then(|(partition, offset)| {
        let log = contents.logs.get_mut(partition)?;
        let at = log.records.iter().position(|(found, ..)| *found == offset)?;
        Some((log, at))
    });
    match (what, acknowledged) {
        (Falsify::Missing, Some((log, at))) => {
            log.records.truncate(at);
            log.end = log.start + at as u64;
            true
        }
        (Falsify::Changed, Some((log, at))) => {
            let (_, _, value) = &mut log.records[at];
            value.last_mut().map(|byte| *byte ^= 0x10).is_some()
        }
        (Falsify::Doubled, Some((log, at))) => {
            let again = log.records[at].clone();
            log.records.insert(at, again);
            log.records.iter_mut().skip(at + 1).for_each(|(offset, ..)| *offset += 1);
            log.end += 1;
            true
        }
        (Falsify::Commit, _) => {
            let newest = contents.committed.iter_mut().flatten().find(|offset| **offset > 1);
            newest.map(|offset| *offset = 1).is_some()
        }
        (Falsify::Evidence, _) => oracle.newest_synced().is_some_and(|(partition, end)| {
            contents.logs[partition].durable = end - 1;
            true
        }),
        (Falsify::Start, _) => oracle.raised_start().is_some_and(|(partition, start)| {
            contents.logs[partition].start = start - 1;
            true
        }),
        (Falsify::Missing | Falsify::Changed | Falsify::Doubled, None) => false,
    }
}
