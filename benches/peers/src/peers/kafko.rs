//! kafko: one topic, each log a partition. It needs tokio: a runtime of one thread runs it, which
//! saves it a hand-over between threads for each record.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::try_join_all;
use kafko::{Kafko, LogConfig, Record, Topic};
use tokio::runtime::{Builder, Runtime};

use crate::payload::{Span, Tally};
use crate::peer::{About, Can, Level, Outcome, Peer, Settings};

pub(crate) const ABOUT: About = About {
    name: "kafko",
    each: Can::Yes(Level::Written, "Partition::append, 1,024 calls in flight: written in groups of up to 64 KiB"),
    batches: Can::Yes(Level::Written, "Partition::append_batch: one write"),
    durable: Can::Yes(Level::Synced, "append, then Partition::sync: an fdatasync each of records and index, a call"),
    replay: Can::Yes(
        Level::Written,
        "Partition::read_record_at: reads the rest of the segment for each record; CRC-32 of each record",
    ),
    logs: Can::Yes(Level::Written, "partitions of a topic"),
    settings: "tokio; replay: segments of 256 KiB, because of how it reads",
};

const BATCH_BYTES: usize = 256 << 10;
const IN_FLIGHT: u64 = 1_024;

struct Broker {
    runtime: Runtime,
    topic: Arc<Topic>,
    _kafko: Kafko,
    batch: u64,
}

pub(crate) fn open(dir: &Path, settings: &Settings) -> Outcome<Box<dyn Peer>> {
    // With several threads that wait, the runtime needs threads of its own.
    let runtime = if settings.durable || settings.logs > 1 {
        Builder::new_multi_thread().worker_threads(2).enable_all().build()?
    } else {
        Builder::new_current_thread().enable_all().build()?
    };
    let segment = if settings.replay { 256 << 10 } else { LogConfig::default().segment_size_threshold };
    let config = LogConfig { segment_size_threshold: segment, ..LogConfig::default() };
    let (kafko, topic) = runtime.block_on(async {
        let kafko = Kafko::open_with_config(dir, config).await?;
        kafko.create_topic_with_partitions("bench", settings.logs).await?;
        let topic = kafko.topic("bench").await.ok_or(kafko::KafkoError::Closed)?;
        kafko::Result::Ok((kafko, topic))
    })?;
    Ok(Box::new(Broker { runtime, topic, _kafko: kafko, batch: settings.batch_of(BATCH_BYTES) }))
}

fn record(value: &'static [u8]) -> Record {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    Record::new(now, None, Bytes::from_static(value))
}

impl Broker {
    fn partition(&self, log: u32) -> Outcome<&kafko::Partition> {
        Ok(self.topic.partition(log).ok_or("no such partition")?)
    }
}

impl Peer for Broker {
    fn append_each(&self, log: u32, mut records: Span) -> Outcome {
        let partition = self.partition(log)?;
        self.runtime.block_on(async {
            while records.len() > 0 {
                try_join_all(records.take_span(IN_FLIGHT).map(|value| partition.append(record(value)))).await?;
            }
            Ok(())
        })
    }

    fn append_batches(&self, log: u32, mut records: Span) -> Outcome {
        let partition = self.partition(log)?;
        self.runtime.block_on(async {
            while records.len() > 0 {
                partition.append_batch(records.take_span(self.batch).map(record).collect()).await?;
            }
            Ok(())
        })
    }

    fn append_durable(&self, value: &'static [u8]) -> Outcome {
        let partition = self.partition(0)?;
        self.runtime.block_on(async {
            partition.append(record(value)).await?;
            Ok(partition.sync().await?)
        })
    }

    /// Each append has been written when it returns.
    fn flush(&self) -> Outcome {
        Ok(())
    }

    fn sync(&self) -> Outcome {
        self.runtime.block_on(async {
            for partition in self.topic.partitions() {
                partition.sync().await?;
            }
            Ok(())
        })
    }

    fn replay(&self, log: u32, tally: &mut Tally) -> Outcome {
        let partition = self.partition(log)?;
        self.runtime.block_on(async {
            for offset in 0.. {
                let Some(record) = partition.read_record_at(offset).await? else { break };
                if !tally.add(record.value()) {
                    break;
                }
            }
            Ok(())
        })
    }
}
