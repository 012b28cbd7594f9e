//! walrus-rust: each log a topic, the mapped backend.
//!
//! The directory and the quiet mode come from the environment (`WALRUS_DATA_DIR`, `WALRUS_QUIET`),
//! and the sync schedule holds for the whole process: one more reason for a process a measurement.

use std::path::Path;
use std::sync::Mutex;

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus, disable_fd_backend};

use crate::payload::{Span, Tally};
use crate::peer::{About, Can, Level, Outcome, Peer, Settings};

pub(crate) const ABOUT: About = About {
    name: "walrus-rust",
    each: Can::Yes(Level::Written, "append_for_topic: a copy into the mapping; an msync every 10 MiB"),
    batches: Can::Yes(Level::Synced, "batch_append_for_topic (2,000 at most); always ends with an msync"),
    durable: Can::Yes(Level::Synced, "SyncEach: an msync a record, under the topic's lock"),
    replay: Can::Yes(Level::Written, "batch_read_for_topic of 2,000, copied; FNV-1a of each record"),
    logs: Can::Yes(Level::Written, "topics; each takes a block of 10 MiB"),
    settings: "mapped backend (measured faster than the default), NoFsync (durable: SyncEach), AtLeastOnce reads",
};

/// The most that one batch call takes.
const BATCH: u64 = 2_000;

/// What an entry takes besides its payload.
const HEADER_BYTES: usize = 64;

struct Log {
    walrus: Walrus,
    topics: Vec<String>,
    /// Held during a batch: a second one of the same topic is refused, not queued.
    batching: Vec<Mutex<()>>,
    record_bytes: usize,
    batch: u64,
}

pub(crate) fn open(_dir: &Path, settings: &Settings) -> Outcome<Box<dyn Peer>> {
    let schedule = if settings.durable { FsyncSchedule::SyncEach } else { FsyncSchedule::NoFsync };
    disable_fd_backend();
    let reads = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
    let walrus = Walrus::with_consistency_and_schedule(reads, schedule)?;
    let topics = (0..settings.logs).map(|log| format!("t{log}")).collect();
    let batch = settings.batch_of(usize::MAX).min(BATCH);
    let batching = (0..settings.logs).map(|_| Mutex::new(())).collect();
    Ok(Box::new(Log { walrus, topics, batching, record_bytes: settings.record_bytes, batch }))
}

impl Peer for Log {
    fn append_each(&self, log: u32, records: Span) -> Outcome {
        let topic = &self.topics[log as usize];
        for record in records {
            self.walrus.append_for_topic(topic, record)?;
        }
        Ok(())
    }

    fn append_batches(&self, log: u32, mut records: Span) -> Outcome {
        let _alone = self.batching[log as usize].lock().map_err(|_| "the topic's lock is poisoned")?;
        while records.len() > 0 {
            let batch: Vec<_> = records.take_span(self.batch).collect();
            self.walrus.batch_append_for_topic(&self.topics[log as usize], &batch)?;
        }
        Ok(())
    }

    fn append_durable(&self, record: &'static [u8]) -> Outcome {
        Ok(self.walrus.append_for_topic(&self.topics[0], record)?)
    }

    /// Nothing waits in the process: the mapping is the page cache.
    fn flush(&self) -> Outcome {
        Ok(())
    }

    /// There is no such call.
    fn sync(&self) -> Outcome {
        Ok(())
    }

    fn replay(&self, log: u32, tally: &mut Tally) -> Outcome {
        // With less than 2,000 entries' worth of bytes a call can take a part of the last sealed
        // block, go on with the block being written, and never come back for the rest.
        let most = BATCH as usize * (self.record_bytes + HEADER_BYTES);
        loop {
            let entries = self.walrus.batch_read_for_topic(&self.topics[log as usize], most, true)?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in &entries {
                if !tally.add(&entry.data) {
                    return Ok(());
                }
            }
        }
    }
}
