//! What a workload is to do. One structure for all; each workload uses some of it, and says which.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};
use thalweg::{Acks, Builder, Engine, SyncMode, TopicConfig, Writers};

use super::values::RecordSize;

/// Bytes of a log that are kept in a run without end.
const KEPT_BYTES: u64 = 1 << 30;
/// The longest that the engine may be told to leave records unsynced.
const NO_SYNC_MS: u64 = 3_600_000;
/// Partitions may each have a whole segment of the engine's default size up to so much together.
const SEGMENTS_BYTES: u64 = 16 << 30;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) record: RecordSize,
    pub(crate) batch_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) writers: Option<usize>,
    pub(crate) pin: bool,
    pub(crate) driver: SyncMode,
    pub(crate) producers: usize,
    pub(crate) consumers: usize,
    pub(crate) partitions: u32,
    pub(crate) members: usize,
    pub(crate) acks: Acks,
    /// Whether the engine syncs what nobody waits for.
    pub(crate) own_syncs: bool,
    /// Bytes of values in each batch that a producer hands over; without, it hands over one record a call.
    pub(crate) ready_bytes: Option<u64>,
    /// Page cache that is filled and dropped before each round.
    pub(crate) touched_bytes: u64,
    /// How long is measured, over all rounds; the floor takes as long again.
    pub(crate) time: Duration,
    /// Ends it earlier: bytes of values, over all rounds.
    pub(crate) total_bytes: Option<u64>,
    /// Ends it earlier where it isn't the time that is measured: no round begins after so long.
    pub(crate) limit: Option<Duration>,
    /// How long each round goes on before it is measured.
    pub(crate) warm_up: Duration,
    /// The engine and its floor take turns so often.
    pub(crate) rounds: u32,
    /// Records a second, over all producers.
    pub(crate) rate: Option<u64>,
    pub(crate) verify: bool,
    pub(crate) seed: u64,
    pub(crate) block_bytes: usize,
    pub(crate) depth: u16,
}

impl Default for Settings {
    fn default() -> Settings {
        let topic = TopicConfig::default();
        Settings {
            record: RecordSize::of(100),
            batch_bytes: topic.batch_bytes,
            segment_bytes: topic.segment_bytes,
            writers: None,
            pin: true,
            driver: SyncMode::Auto,
            producers: 1,
            consumers: 1,
            partitions: 1,
            members: 1,
            acks: Acks::Written,
            own_syncs: true,
            ready_bytes: None,
            touched_bytes: 0,
            time: Duration::from_secs(3),
            total_bytes: None,
            limit: None,
            warm_up: Duration::ZERO,
            rounds: 8,
            rate: None,
            verify: false,
            seed: 1,
            block_bytes: 256 << 10,
            depth: 16,
        }
    }
}

impl Settings {
    pub(crate) fn builder(&self, dir: &Path) -> Builder {
        let writers = self.writers.map_or(Writers::Auto, Writers::Threads);
        let builder =
            Engine::builder(dir).writers(writers).pin_writers(self.pin).sync_mode(self.driver).seed(self.seed);
        let builder = if self.own_syncs { builder } else { builder.sync_bytes(u64::MAX).sync_ms(NO_SYNC_MS) };
        // A record fills at most a batch of its own.
        builder.max_batch_bytes((16 << 20).max(self.batch_bytes as usize))
    }

    /// A topic for a run that may have no end: what is older than the last gibibyte goes.
    pub(crate) fn topic(&self) -> TopicConfig {
        TopicConfig::default()
            .partitions(self.partitions)
            .acks(self.acks)
            .segment_bytes(self.segment_bytes)
            .batch_bytes(self.batch_bytes)
            .max_message_bytes((1 << 20).max(2 * self.record.max as u64))
            .retention_bytes((!self.verify).then_some(self.kept_bytes()))
    }

    /// What a partition keeps in a run without end.
    pub(crate) fn kept_bytes(&self) -> u64 {
        (KEPT_BYTES / u64::from(self.partitions)).max(self.segment_bytes)
    }

    /// The size at which the engine seals a segment: a quarter of what is kept, at the latest.
    pub(crate) fn sealed_bytes(&self) -> u64 {
        if self.verify { self.segment_bytes } else { self.segment_bytes.min((self.kept_bytes() / 4).max(64 << 10)) }
    }

    /// So many partitions; their segments become smaller if the disk would have to hold too much.
    pub(crate) fn partitioned(mut self, partitions: u32) -> Settings {
        self.partitions = partitions;
        let share = SEGMENTS_BYTES / u64::from(partitions);
        self.segment_bytes = self.segment_bytes.min(share.max(8 << 20));
        self
    }

    /// Threads that write: what the engine starts when it is left to itself.
    pub(crate) fn writer_threads(&self) -> usize {
        self.writers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// The size of a record, and of the ready batch that it comes in.
    pub(crate) fn record_name(&self) -> String {
        let record = self.record.name();
        match self.ready_bytes {
            None => record,
            Some(bytes) => format!("{record} in {}", RecordSize::of(bytes as usize).name()),
        }
    }

    /// Records in a ready batch.
    pub(crate) fn ready_records(&self) -> Option<u64> {
        self.ready_bytes.map(|bytes| (bytes / self.record.mean() as u64).max(1))
    }

    /// Time and bytes of one round.
    pub(crate) fn round_time(&self) -> Duration {
        self.time / self.rounds
    }

    pub(crate) fn round_bytes(&self) -> Option<u64> {
        self.total_bytes.map(|bytes| bytes.div_ceil(u64::from(self.rounds)))
    }

    /// Bytes of values that a round writes at most: as many as are written in its time at four gigabytes a second,
    /// if nothing ends it earlier.
    pub(crate) fn most_round_bytes(&self) -> u64 {
        let time = (self.round_time() + self.warm_up).as_secs_f64();
        self.round_bytes().unwrap_or(u64::MAX).min((time * 4e9) as u64)
    }

    /// Bytes that a round leaves on the disk at most, if nothing drops them before.
    pub(crate) fn round_disk_bytes(&self) -> u64 {
        let values = self.most_round_bytes();
        // Retention looks once a second.
        let values = if self.verify { values } else { values.min(KEPT_BYTES + 8_000_000_000) };
        self.stored_bytes(values)
    }

    /// What so many bytes of values take on the disk, with what is reserved ahead.
    pub(crate) fn stored_bytes(&self, value_bytes: u64) -> u64 {
        let framed = 1.0 + 24.0 / self.record.mean();
        (value_bytes as f64 * framed) as u64 + u64::from(self.partitions) * (128 << 10) + (64 << 20)
    }

    /// As on the command line.
    pub(crate) fn driver_name(&self) -> &'static str {
        match self.driver {
            SyncMode::Auto => "auto",
            SyncMode::IoUring => "io_uring",
            SyncMode::Threads => "std",
        }
    }

    /// Of the fields named, in that order.
    pub(crate) fn json(&self, names: &[&str]) -> Map<String, Value> {
        names.iter().map(|&name| (name.to_owned(), self.field(name))).collect()
    }

    fn field(&self, name: &str) -> Value {
        match name {
            "record_bytes" if self.record.min == self.record.max => self.record.min.into(),
            "record_bytes" => format!("{}..{}", self.record.min, self.record.max).into(),
            "batch_bytes" => self.batch_bytes.into(),
            "segment_bytes" => self.segment_bytes.into(),
            "writers" => self.writer_threads().into(),
            "pin" => self.pin.into(),
            "driver" => self.driver_name().into(),
            "producers" => self.producers.into(),
            "consumers" => self.consumers.into(),
            "partitions" => self.partitions.into(),
            "members" => self.members.into(),
            "own_syncs" => self.own_syncs.into(),
            "ready_bytes" => self.ready_bytes.into(),
            "touched_bytes" => self.touched_bytes.into(),
            "acks" => self.acks.to_string().into(),
            "seconds" => self.time.as_secs_f64().into(),
            "total_bytes" => self.total_bytes.into(),
            "warm_up_seconds" => self.warm_up.as_secs_f64().into(),
            "rounds" => self.rounds.into(),
            "rate" => self.rate.into(),
            "verify" => self.verify.into(),
            "seed" => self.seed.into(),
            "block_bytes" => self.block_bytes.into(),
            "depth" => self.depth.into(),
            _ => Value::Null,
        }
    }
}
