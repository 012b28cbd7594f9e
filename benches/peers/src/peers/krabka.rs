//! krabka-log: each log a directory in Kafka's own format; one writer, so a lock around it.

use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use krabka_log::{Log, LogConfig, Offset};
use krabka_protocol::records::{Record, RecordBatch, validate_one_v2_batch};
use krabka_units::prelude::mebibytes;

use crate::payload::{Span, Tally};
use crate::peer::{About, Can, Level, Outcome, Peer, Settings};

pub(crate) const ABOUT: About = About {
    name: "krabka-log",
    each: Can::Yes(Level::Written, "Log::append of a batch of one: one write a record"),
    batches: Can::Yes(Level::Written, "Log::append of a batch: one write"),
    durable: Can::Yes(Level::Synced, "append with flush_on_append: three fdatasyncs (records, two indexes) a record"),
    replay: Can::Yes(Level::Written, "read_raw of 1 MiB, validate_records_with; CRC-32C of each batch"),
    logs: Can::Yes(Level::Written, "a directory and a Log each"),
    settings: "durable: flush_on_append",
};

const BATCH_BYTES: usize = 256 << 10;

struct Logs {
    logs: Vec<Mutex<Log>>,
    batch: u64,
}

pub(crate) fn open(dir: &Path, settings: &Settings) -> Outcome<Box<dyn Peer>> {
    let mut logs = Vec::new();
    for log in 0..settings.logs {
        let config = LogConfig { flush_on_append: settings.durable, ..LogConfig::default() };
        logs.push(Mutex::new(Log::open(dir.join(format!("bench-{log}")), config)?));
    }
    Ok(Box::new(Logs { logs, batch: settings.batch_of(BATCH_BYTES) }))
}

fn batch_of(records: impl Iterator<Item = &'static [u8]>) -> RecordBatch {
    let record = |(offset_delta, value): (i32, &'static [u8])| Record {
        offset_delta,
        value: Some(Bytes::from_static(value)),
        ..Record::default()
    };
    let records: Vec<_> = (0..).zip(records).map(record).collect();
    let last = records.len() as i32 - 1;
    let now = krabka_log::epoch_ms();
    RecordBatch { last_offset_delta: last, base_timestamp: now, max_timestamp: now, records, ..RecordBatch::default() }
}

impl Logs {
    fn with<T>(&self, log: u32, act: impl FnOnce(&mut Log) -> Outcome<T>) -> Outcome<T> {
        act(&mut *self.logs[log as usize].lock().map_err(|_| "the log's lock is poisoned")?)
    }
}

impl Peer for Logs {
    fn append_each(&self, log: u32, records: Span) -> Outcome {
        self.with(log, |log| {
            for record in records {
                log.append(&mut batch_of(std::iter::once(record)))?;
            }
            Ok(())
        })
    }

    fn append_batches(&self, log: u32, mut records: Span) -> Outcome {
        self.with(log, |log| {
            while records.len() > 0 {
                log.append(&mut batch_of(records.take_span(self.batch)))?;
            }
            Ok(())
        })
    }

    fn append_durable(&self, record: &'static [u8]) -> Outcome {
        let mut batch = batch_of(std::iter::once(record));
        self.with(0, |log| Ok(log.append(&mut batch).map(drop)?))
    }

    /// Each append has been written when it returns.
    fn flush(&self) -> Outcome {
        Ok(())
    }

    fn sync(&self) -> Outcome {
        (0..self.logs.len() as u32).try_for_each(|log| self.with(log, |log| Ok(log.sync()?)))
    }

    fn replay(&self, log: u32, tally: &mut Tally) -> Outcome {
        self.with(log, |log| {
            let end = log.log_end_offset();
            let mut next = Offset(0);
            while next < end {
                let read = log.read_raw(next, end, mebibytes(1))?;
                let Some(last) = read.last_offset else { break };
                let mut bytes = &read.bytes[..];
                let mut go_on = true;
                while !bytes.is_empty() && go_on {
                    let batch = validate_one_v2_batch(bytes)?;
                    batch.validate_records_with(Default::default(), |record| {
                        go_on = go_on && tally.add(record.value.unwrap_or_default());
                    })?;
                    bytes = &bytes[batch.total_len..];
                }
                if !go_on {
                    break;
                }
                next = last + 1;
            }
            Ok(())
        })
    }
}
