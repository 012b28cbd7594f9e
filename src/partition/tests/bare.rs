//! A partition on a simulated disk with no engine around it: who tests its writer is the writer's thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{EngineConfig, TopicConfig};
use crate::disk::Disk;
use crate::events::Events;
use crate::format::BATCH_HEADER_BYTES;
use crate::ids::{EngineId, LogId, TopicId};
use crate::lock::{AtomicBool, AtomicU32, Mutex, OnceLock, Ordering, lock};
use crate::partition::append::Terms;
use crate::partition::writer::Start;
use crate::partition::{
    Appended, Chores, Doubt, Drive, Env, Evidence, FollowedFiles, Incoming, Noted, NotedOf, Partition, PartitionPlace,
    PartitionWriter, Pool, Recovered, recover,
};
use crate::segment::{Resident, Views};
use crate::sim::{CrashPolicy, SimClock, SimDisk};

const DIR: &str = "0";
const LOG: LogId = LogId { engine_id: EngineId([1; 16]), topic_id: TopicId(2), partition: 0 };

pub(in crate::partition) struct Bare {
    pub(in crate::partition) disk: SimDisk,
    pub(in crate::partition) clock: SimClock,
    pub(in crate::partition) partition: Arc<Partition>,
    /// Whether it was noted that a sync failed.
    pub(in crate::partition) told: Arc<AtomicBool>,
    /// Where its writer begins.
    start: Mutex<Option<Start>>,
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
        let disk = SimDisk::new();
        Bare::on(Arc::new(disk.clone()), disk, SimClock::new(), config, topic, first_offset)
    }

    /// The same, whose files are those of another disk over this one.
    pub(in crate::partition) fn on(
        over: Arc<dyn Disk>,
        disk: SimDisk,
        clock: SimClock,
        config: EngineConfig,
        topic: TopicConfig,
        first_offset: u64,
    ) -> Bare {
        let dir = Path::new(DIR);
        disk.create_dir_all(dir).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        let mut recovered = recover(&disk, dir, &LOG, &topic, None, NotedOf::default(), Doubt::Nothing).unwrap();
        (recovered.log_start, recovered.durable_offset, recovered.end_offset) =
            (first_offset, first_offset, first_offset);
        Bare::with(recovered, 1, over, disk, clock, config, topic)
    }

    /// What the next life finds after a crash, in epoch 2, if the catalogue has no mark of it.
    pub(in crate::partition) fn after(&self, policy: CrashPolicy) -> Bare {
        let disk = self.disk.crash(policy);
        let (config, topic) = (self.partition.env.config.clone(), (*self.partition.config()).clone());
        let recovered = recover(&disk, Path::new(DIR), &LOG, &topic, None, NotedOf::default(), Doubt::Tail).unwrap();
        assert!(recovered.damage.is_none(), "{:?}", recovered.damage);
        Bare::with(recovered, 2, Arc::new(disk.clone()), disk, self.clock.clone(), config, topic)
    }

    fn with(
        recovered: Recovered,
        epoch: u32,
        over: Arc<dyn Disk>,
        disk: SimDisk,
        clock: SimClock,
        config: EngineConfig,
        topic: TopicConfig,
    ) -> Bare {
        let (epochs, told) = (AtomicU32::new(epoch), Arc::new(AtomicBool::new(false)));
        let notes = told.clone();
        let env = Env {
            disk: over,
            clock: Arc::new(clock.clone()),
            events: Events::default(),
            opener: crate::opener::Opener::this(),
            pool: Pool::new(config.buffer_bytes, config.write_bytes),
            config,
            views: Views::new(8, Arc::new(Resident::new(1 << 30, Arc::new(clock.clone())))),
            followed_files: FollowedFiles::new(8),
            chores: Chores::default(),
            drive: Drive::Threads,
            // On a disk of its own: tests count what a writer does to the log.
            evidence: Arc::new(Evidence::new(
                Arc::new(SimDisk::new()),
                Path::new(""),
                LOG.engine_id,
                &Noted::default(),
                |_| true,
            )),
            next_epoch: Box::new(move || Ok(epochs.fetch_add(1, Ordering::SeqCst) + 1)),
            sync_failed: Box::new(move || notes.store(true, Ordering::SeqCst)),
            look: OnceLock::new(),
        };
        let place = PartitionPlace { topic: "t".into(), log: LOG, config: Arc::new(topic), dir: PathBuf::from(DIR) };
        let partition = Arc::new(Partition::new(Arc::new(env), place, &recovered, None));
        Bare { disk, clock, partition, told, start: Mutex::new(Some(recovered.into_start(epoch))) }
    }

    /// Its writer, for this slot of a loop. One partition has one.
    pub(in crate::partition) fn writer(&self, slot: usize) -> PartitionWriter {
        let start = lock(&self.start).take().unwrap();
        PartitionWriter::new(self.partition.clone(), slot, start, self.clock.monotonic())
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
