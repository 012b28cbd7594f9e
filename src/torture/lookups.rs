//! Reading by offset and by time, and from an engine that is alive, against the model; and what the
//! engine reports against what `verify` finds.

use super::life::{Broken, Life, is_ordered};
use super::model::{Payload, World};
use crate::engine::{Engine, Partition, PartitionRecovery};
use crate::inspect::Unfinished;

/// Looks records up through the index: by offset, and by a time that doesn't rise with it.
pub(super) fn check(partition: &Partition, sent: &[Payload], start: usize, end: usize) -> Result<(), Broken> {
    let some = || (start..end).step_by((end - start).div_ceil(4));
    for offset in some() {
        let found = partition.get(offset as u64).map_err(|error| format!("D2: get({offset}): {error}"))?;
        if !sent[offset].is(found.view().value()) {
            return Err(format!("D2: get({offset}) gives other bytes"));
        }
    }
    for timestamp in some().map(|offset| sent[offset].timestamp()) {
        let expected = (start..end).find(|&offset| sent[offset].timestamp() >= timestamp);
        let found = partition.offset_for_timestamp(timestamp).map_err(|error| format!("I7: by time: {error}"))?;
        if found.map(|offset| offset as usize) != expected {
            return Err(format!("I7: the first record of time {timestamp} or later is {found:?}, not {expected:?}"));
        }
    }
    Ok(())
}

impl Life {
    /// Reads all that may be read, while the engine lives; with `evict`, when the cache holds nothing
    /// any more that a failed sync didn't bring to the disk.
    pub(super) fn read_all(&self, world: &mut World, evict: bool) -> Result<(), Broken> {
        if evict {
            self.disk().evict();
        }
        for (name, topic) in &mut world.topics {
            for (number, log) in topic.logs.iter_mut().enumerate() {
                let Ok(partition) = self.engine().partition(name, number as u32) else { continue };
                log.fail_from(partition.next_offset() as usize);
                let reading = match partition.read(..) {
                    Err(error) if is_ordered(&error) => continue,
                    reading => reading.map_err(|error| error.to_string())?,
                };
                for batch in reading {
                    let batch = match batch {
                        Err(error) if is_ordered(&error) => break,
                        batch => batch.map_err(|error| format!("D2: topic {name}, partition {number}: {error}"))?,
                    };
                    for record in &batch {
                        let sent = log.sent.get(record.offset() as usize);
                        if !sent.is_some_and(|sent| sent.is(record.value())) {
                            let offset = record.offset();
                            return Err(format!("D2: topic {name}, partition {number}: other bytes at {offset}"));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// I10: a cut is reported exactly where `verify` finds a tail behind the end.
pub(super) fn reported(engine: &Engine, unfinished: &[Unfinished]) -> Result<(), Broken> {
    let recovery = engine.recovery();
    for name in engine.topics().map_err(|error| error.to_string())? {
        let topic = engine.core.topic(&name).map_err(|error| error.to_string())?;
        for partition in &topic.partitions {
            let is_here = |found: &&PartitionRecovery| found.topic == name && found.partition == partition.number;
            let cut = recovery.partitions.iter().find(is_here);
            let mut tails = unfinished
                .iter()
                .filter(|tail| tail.topic.as_ref() == Some(&name) && tail.partition == Some(partition.number));
            let last = partition.segments().pop();
            let is_end = |tail: &Unfinished| {
                last.as_ref()
                    .is_some_and(|last| (tail.path.as_path(), tail.position) == (last.path(), last.published()))
            };
            match cut {
                None if tails.any(is_end) => {
                    return Err(format!(
                        "I10: topic {name}, partition {}: a tail was cut in silence",
                        partition.number
                    ));
                }
                Some(cut) if tails.next().is_none() => return Err(format!("I10: nothing was there to cut: {cut:?}")),
                _ => {}
            }
        }
    }
    Ok(())
}
