//! Reading by offset and by time, and from an engine that is alive, against the model.

use super::life::{Broken, Life, is_ordered};
use super::model::{Payload, World};
use crate::engine::Partition;

/// Looks records up through the index: by offset, and by a time that doesn't rise with it.
pub(super) fn check(partition: &Partition, sent: &[Payload], start: usize, end: usize) -> Result<(), Broken> {
    for offset in [start + (end - start) / 2, end - 1] {
        let found = partition.get(offset as u64).map_err(|error| format!("D2: get({offset}): {error}"))?;
        if found.view().value() != Some(sent[offset].make().as_slice()) {
            return Err(format!("D2: get({offset}) gives other bytes"));
        }
    }
    let middle = sent[start + (end - start) / 2].timestamp();
    for timestamp in [middle, middle + 1, sent[end - 1].timestamp()] {
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
                        let sent = log.sent.get(record.offset() as usize).map(|sent| sent.make());
                        if record.value().map(<[u8]>::to_vec) != sent {
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
