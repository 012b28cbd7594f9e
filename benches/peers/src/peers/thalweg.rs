//! thalweg: one topic, each log a partition; default settings, acknowledged when written, or
//! durable where a record's receipt is waited for.

use std::path::Path;

use thalweg::{Acks, Engine, Partition, Producer, Record, TopicConfig};

use crate::payload::{Span, Tally};
use crate::peer::{About, Can, Level, Outcome, Peer, Settings};

pub(crate) const ABOUT: About = About {
    name: "thalweg",
    each: Can::Yes(Level::Written, "Producer::send, then Engine::flush"),
    batches: Can::Yes(Level::Written, "Partition::append_batch, then Engine::flush"),
    durable: Can::Yes(Level::Synced, "send().wait(): one fdatasync for all that wait"),
    replay: Can::Yes(Level::Written, "Partition::read, in place; CRC-32 of each batch"),
    logs: Can::Yes(Level::Written, "partitions of a topic"),
    settings: "defaults: it syncs by itself after 64 MiB and after a second",
};

/// The same on the terms that its peers have: it leaves it to the kernel when *written* records
/// reach the drive.
pub(crate) const NO_SYNCS: About = About {
    name: "thalweg-nosync",
    durable: Can::No("it is thalweg"),
    replay: Can::No("it is thalweg"),
    settings: "no syncs of its own (sync_bytes, sync_ms), as its peers",
    ..ABOUT
};

const BATCH_BYTES: usize = 128 << 10;

struct Thalweg {
    engine: Engine,
    producer: Producer,
    partitions: Vec<Partition>,
    batch: u64,
}

pub(crate) fn open(dir: &Path, settings: &Settings) -> Outcome<Box<dyn Peer>> {
    with(Engine::open(dir)?, settings)
}

pub(crate) fn open_without_syncs(dir: &Path, settings: &Settings) -> Outcome<Box<dyn Peer>> {
    with(Engine::builder(dir).sync_bytes(u64::MAX).sync_ms(3_600_000).open()?, settings)
}

fn with(engine: Engine, settings: &Settings) -> Outcome<Box<dyn Peer>> {
    let acks = if settings.durable { Acks::Synced } else { Acks::Written };
    engine.create_topic("bench", TopicConfig::default().partitions(settings.logs).acks(acks))?;
    let partitions = (0..settings.logs).map(|log| engine.partition("bench", log)).collect::<thalweg::Result<_>>()?;
    let batch = settings.batch_of(BATCH_BYTES);
    Ok(Box::new(Thalweg { producer: engine.producer_for("bench")?, partitions, engine, batch }))
}

impl Peer for Thalweg {
    fn append_each(&self, log: u32, records: Span) -> Outcome {
        for record in records {
            let _ = self.producer.send(Record::new(record).partition(log))?;
        }
        Ok(())
    }

    fn append_batches(&self, log: u32, mut records: Span) -> Outcome {
        let mut batch = Vec::with_capacity(self.batch as usize);
        while records.len() > 0 {
            batch.clear();
            batch.extend(records.take_span(self.batch).map(Record::new));
            let _ = self.partitions[log as usize].append_batch(&batch)?;
        }
        Ok(())
    }

    fn append_durable(&self, record: &'static [u8]) -> Outcome {
        self.producer.send(Record::new(record))?.wait()?;
        Ok(())
    }

    fn flush(&self) -> Outcome {
        Ok(self.engine.flush()?)
    }

    fn sync(&self) -> Outcome {
        Ok(self.engine.sync()?)
    }

    fn replay(&self, log: u32, tally: &mut Tally) -> Outcome {
        for batch in self.partitions[log as usize].read(..)? {
            for record in &batch? {
                if !tally.add(record.value().unwrap_or_default()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
