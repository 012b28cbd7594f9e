//! fjall, an LSM tree, as a log: one keyspace, keys of log and offset.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::payload::{Span, Tally};
use crate::peer::{About, Can, Level, Outcome, Peer, Settings};

pub(crate) const ABOUT: About = About {
    name: "fjall",
    each: Can::Yes(Level::Written, "Keyspace::insert: one write to the journal a record"),
    batches: Can::Yes(Level::Written, "WriteBatch, PersistMode::Buffer"),
    durable: Can::Yes(Level::Synced, "insert, then persist(SyncData): an fdatasync a call, under the journal's lock"),
    replay: Can::Yes(Level::Written, "Keyspace::range over the tables; XXH3 of each block"),
    logs: Can::Yes(Level::Written, "a prefix of the key"),
    settings: "no compression, memtables of 256 MiB, cache of 1 GiB",
};

const BATCH_BYTES: usize = 256 << 10;

struct Lsm {
    database: Database,
    keyspace: Keyspace,
    next: Vec<AtomicU64>,
    batch: u64,
}

pub(crate) fn open(dir: &Path, settings: &Settings) -> Outcome<Box<dyn Peer>> {
    let database = Database::builder(dir)
        .journal_compression(CompressionType::None)
        .cache_size(1 << 30)
        .max_journaling_size(4 << 30)
        .manual_journal_persist(settings.durable)
        .open()?;
    let keyspace = database.keyspace("bench", || {
        KeyspaceCreateOptions::default()
            .data_block_compression_policy(CompressionPolicy::disabled())
            .manual_journal_persist(settings.durable)
            .max_memtable_size(256 << 20)
    })?;
    let next = (0..settings.logs).map(|_| AtomicU64::new(0)).collect();
    Ok(Box::new(Lsm { database, keyspace, next, batch: settings.batch_of(BATCH_BYTES) }))
}

impl Lsm {
    fn next_key(&self, log: u32) -> [u8; 12] {
        key(log, self.next[log as usize].fetch_add(1, Ordering::Relaxed))
    }
}

/// Big-endian, so that keys stand in the order of their offsets.
fn key(log: u32, offset: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&log.to_be_bytes());
    key[4..].copy_from_slice(&offset.to_be_bytes());
    key
}

impl Peer for Lsm {
    fn append_each(&self, log: u32, records: Span) -> Outcome {
        for record in records {
            self.keyspace.insert(self.next_key(log), record)?;
        }
        Ok(())
    }

    fn append_batches(&self, log: u32, mut records: Span) -> Outcome {
        while records.len() > 0 {
            let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
            for record in records.take_span(self.batch) {
                batch.insert(&self.keyspace, self.next_key(log), record);
            }
            batch.commit()?;
        }
        Ok(())
    }

    fn append_durable(&self, record: &'static [u8]) -> Outcome {
        self.keyspace.insert(self.next_key(0), record)?;
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn flush(&self) -> Outcome {
        Ok(self.database.persist(PersistMode::Buffer)?)
    }

    /// Also moves the memtable out to tables, so that reading reads files.
    fn sync(&self) -> Outcome {
        self.database.persist(PersistMode::SyncData)?;
        Ok(self.keyspace.rotate_memtable_and_wait()?)
    }

    fn replay(&self, log: u32, tally: &mut Tally) -> Outcome {
        for item in self.keyspace.range(key(log, 0)..=key(log, u64::MAX)) {
            if !tally.add(&item.value()?) {
                break;
            }
        }
        Ok(())
    }
}
