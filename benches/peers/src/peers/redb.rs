//! redb, a B-tree, as a log: one table, keys of log and offset.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Builder, Database, Durability, ReadableDatabase, TableDefinition};

use crate::payload::{Span, Tally};
use crate::peer::{About, Can, Level, Outcome, Peer, Settings};

pub(crate) const ABOUT: About = About {
    name: "redb",
    each: Can::Yes(Level::None, "a transaction a record, Durability::None; then one that is Immediate"),
    batches: Can::Yes(Level::None, "a transaction a batch, Durability::None; then one that is Immediate"),
    durable: Can::Yes(Level::Synced, "a transaction a record, Durability::Immediate; one writer at a time"),
    replay: Can::Yes(Level::Written, "Table::range, from its own cache; no checksum"),
    logs: Can::Yes(Level::None, "a part of the key"),
    settings: "cache of 1 GiB",
};

const BATCH_BYTES: usize = 1 << 20;

const TABLE: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("bench");

struct Tree {
    database: Database,
    next: Vec<AtomicU64>,
    batch: u64,
}

pub(crate) fn open(dir: &Path, settings: &Settings) -> Outcome<Box<dyn Peer>> {
    let database = Builder::new().set_cache_size(1 << 30).create(dir.join("log.redb"))?;
    let next = (0..settings.logs).map(|_| AtomicU64::new(0)).collect();
    let tree = Tree { database, next, batch: settings.batch_of(BATCH_BYTES) };
    tree.write(0, std::iter::empty(), Durability::Immediate)?;
    Ok(Box::new(tree))
}

impl Tree {
    fn write(&self, log: u32, records: impl Iterator<Item = &'static [u8]>, durability: Durability) -> Outcome {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for record in records {
                let offset = self.next[log as usize].fetch_add(1, Ordering::Relaxed);
                table.insert((log, offset), record)?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Peer for Tree {
    fn append_each(&self, log: u32, mut records: Span) -> Outcome {
        records.try_for_each(|record| self.write(log, std::iter::once(record), Durability::None))
    }

    fn append_batches(&self, log: u32, mut records: Span) -> Outcome {
        while records.len() > 0 {
            self.write(log, records.take_span(self.batch), Durability::None)?;
        }
        Ok(())
    }

    fn append_durable(&self, record: &'static [u8]) -> Outcome {
        self.write(0, std::iter::once(record), Durability::Immediate)
    }

    /// The only way out of memory is a durable transaction.
    fn flush(&self) -> Outcome {
        self.sync()
    }

    fn sync(&self) -> Outcome {
        self.write(0, std::iter::empty(), Durability::Immediate)
    }

    fn replay(&self, log: u32, tally: &mut Tally) -> Outcome {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(TABLE)?;
        for item in table.range((log, 0)..=(log, u64::MAX))? {
            if !tally.add(item?.1.value()) {
                break;
            }
        }
        Ok(())
    }
}
