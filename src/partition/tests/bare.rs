//! A partition on a simulated disk with no engine around it: who tests its writer is the writer's thread.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{EngineConfig, TopicConfig};
use crate::disk::Disk;
use crate::events::Events;
use crate::format::BATCH_HEADER_BYTES;
use crate::ids::{EngineId, LogId, TopicId};
use crate::lock::{AtomicBool, AtomicU32, Ordering};
use crate::partition::append::Terms;
use crate::partition::{
    Appended, Chores, Doubt, Drive, Env, Incoming, Partition, PartitionPlace, PartitionWriter, Pool, recover,
};
use crate::segment::Views;
use crate::sim::{SimClock, SimDisk};

pub(in crate::partition) struct Bare {
    pub(in crate::partition) disk: SimDisk,
    pub(in crate::partition) clock: SimClock,
    pub(in crate::partition) partition: Arc<Partition>,
    /// Whether it was noted that a sync failed.
    pub(in crate::partition) told: Arc<AtomicBool>,
}

/// A record with a value of so many bytes.
pub(in crate::partition) fn record(bytes: usize) -> Incoming<'static> {
    static BYTES: [u8; 1 << 20] = [b'v'; 1 << 20];
    Incoming { timestamp: 0, key: None, value: Some(&BYTES[..bytes]), headers: &[] }
}

/// What a batch of one such record takes in the file.
pub(in crate::partition) fn batch_bytes(bytes: usize) -> u64 {
    BATCH_HEADER_BYTES as u64 + record(bytes).stored_bytes()
}

impl Bare {
    /// A partition that has no file yet and whose first record gets this offset; in epoch 1.
    pub(in crate::partition) fn new(config: EngineConfig, topic: TopicConfig, first_offset: u64) -> Bare {
        let (disk, clock) = (SimDisk::new(), SimClock::new());
        let (epochs, told) = (AtomicU32::new(1), Arc::new(AtomicBool::new(false)));
        let notes = told.clone();
        let env = Env {
            disk: Arc::new(disk.clone()),
            clock: Arc::new(clock.clone()),
            events: Events::default(),
            pool: Pool::new(config.buffer_bytes, config.write_bytes),
            config,
            views: Views::new(8),
            chores: Chores::default(),
            drive: Drive::Threads,
            next_epoch: Box::new(move || Ok(epochs.fetch_add(1, Ordering::SeqCst) + 1)),
            sync_failed: Box::new(move || notes.store(true, Ordering::SeqCst)),
        };
        let log = LogId { engine_id: EngineId([1; 16]), topic_id: TopicId(2), partition: 0 };
        let dir = PathBuf::from("0");
        disk.create_dir_all(&dir).unwrap();
        let mut recovered = recover(&disk, &dir, &log, &topic, None, Doubt::Nothing).unwrap();
        (recovered.log_start, recovered.durable_offset, recovered.end_offset) =
            (first_offset, first_offset, first_offset);
        let place = PartitionPlace { topic: "t".into(), log, config: Arc::new(topic), dir };
        let partition = Arc::new(Partition::new(Arc::new(env), place, &recovered, None));
        Bare { disk, clock, partition, told }
    }

    /// Its writer, for this slot of a loop. One partition has one.
    pub(in crate::partition) fn writer(&self, slot: usize) -> PartitionWriter {
        let (disk, partition) = (&self.disk, &self.partition);
        let recovered =
            recover(disk, &partition.dir, &partition.log, &partition.config(), None, Doubt::Nothing).unwrap();
        let now = partition.env.clock.monotonic();
        PartitionWriter::new(partition.clone(), slot, recovered.into_start(1), now)
    }

    /// Puts in a record with a value of so many bytes, to be synced or not.
    pub(in crate::partition) fn send(&self, bytes: usize, sync: bool) -> u64 {
        match self.partition.try_append(&[record(bytes)], sync, Terms::default()).unwrap() {
            Appended::Placed(placed) => placed.offset,
            Appended::Moved => unreachable!("it was chosen among none"),
        }
    }

    /// The written and the durable offset.
    pub(in crate::partition) fn ends(&self) -> (u64, u64) {
        (self.partition.progress.written(), self.partition.progress.durable())
    }
}
