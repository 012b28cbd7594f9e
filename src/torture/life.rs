//! One life of an engine: steps are done, and the model learns what was acknowledged.

use std::sync::Arc;
use std::time::Duration;

use super::check::Bounds;
use super::model::{Commit, Commits, Log, Payload, Place, Topic, World};
use super::step::{OVERFILL_BYTES, PARTITIONS, RETENTION_BYTES, RETENTION_MS, SEGMENT_MS, Step};
use crate::clock::Clock;
use crate::config::{Acks, TopicConfig, Writers};
use crate::engine::{Engine, OffsetCommit, Partition, Record, ResetTo};
use crate::error::{Error, ErrorKind};
use crate::lock::lock;
use crate::sim::{Operation, Repeat, SimClock, SimDisk};

pub(super) const DIR: &str = "data";
pub(super) const TOPIC: &str = "t";
const OTHER_TOPIC: &str = "u";
const MAX_PARTITIONS: usize = 4;

/// A promise that doesn't hold.
pub(super) type Broken = String;

/// An open engine, its disk and its clock.
pub(super) struct Life {
    engine: Engine,
    disk: SimDisk,
    clock: SimClock,
    /// Errors are made to order, so calls may fail.
    faults: bool,
}

/// The name that a [`Step::Move`] gives the directory.
const MOVED: &str = "moved";

/// Gives the directory its name back, if a crash came while it had another.
pub(super) fn name_again(disk: &SimDisk) {
    // Nothing is there that has to be moved, most of the time.
    let _ = disk.move_to(MOVED, DIR);
}

/// Opens the engine as all cycles do.
pub(super) fn open(disk: &SimDisk, clock: &SimClock) -> crate::Result<Engine> {
    name_again(disk);
    let engine = Engine::builder(DIR)
        .writers(Writers::Inline)
        .buffer_bytes(4 << 20)
        .max_batch_bytes(2 << 20)
        .sim(disk)
        .clock(Arc::new(clock.clone()))
        .seed(1)
        .open()?;
    engine.core.groups.offsets.compact_early();
    lock(&engine.core.catalog).compact_early();
    Ok(engine)
}

fn config(partitions: u32) -> TopicConfig {
    TopicConfig::default()
        .partitions(partitions)
        .segment_bytes(64 << 10)
        .index_interval_bytes(4 << 10)
        .segment_ms(Some(SEGMENT_MS))
        .retention_ms(Some(RETENTION_MS))
        .retention_bytes(Some(RETENTION_BYTES))
}

/// How often the background work is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A segment is at most so long: its limit, and a batch that crossed it.
const SEGMENT_MAX_BYTES: u64 = 2 * (64 << 10);

/// The disk operation of a [`Step::Fail`].
pub(super) fn operation(number: u8) -> Operation {
    const OPERATIONS: [Operation; 13] = [
        Operation::Write,
        Operation::Sync,
        Operation::ShortWrite,
        Operation::SyncDirectory,
        Operation::Allocate,
        Operation::Create,
        Operation::Rename,
        Operation::Open,
        Operation::Unlink,
        Operation::CreateDirectory,
        Operation::Read,
        Operation::View,
        Operation::GiveBack,
    ];
    OPERATIONS[usize::from(number) % OPERATIONS.len()]
}

impl Life {
    /// `None` if it doesn't open because of an ordered error.
    pub(super) fn begin(disk: &SimDisk, clock: &SimClock, faults: bool) -> Result<Option<Life>, Broken> {
        match open(disk, clock) {
            Ok(engine) => Ok(Some(Life { engine, disk: disk.clone(), clock: clock.clone(), faults })),
            Err(error) if faults && is_ordered(&error) => Ok(None),
            Err(error) => Err(format!("the engine doesn't open: {error}")),
        }
    }

    pub(super) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Ends it without a word: nothing that happens from now on is seen by the disk.
    pub(super) fn die(self) {
        self.disk.cut_power_after(0);
    }

    /// An error that was ordered is no broken promise.
    fn allow<T>(&self, result: crate::Result<T>) -> Result<Option<T>, Broken> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.faults && is_ordered(&error) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Makes the first topic, if it isn't there.
    pub(super) fn prepare(&self, world: &mut World) -> Result<(), Broken> {
        self.create(world, TOPIC, PARTITIONS)
    }

    /// Does a step; `false` if the engine can't go on.
    pub(super) fn step(&mut self, world: &mut World, step: Step) -> Result<bool, Broken> {
        match step {
            Step::Append { partition, records, bytes, acks, wait } => {
                self.append(world, partition, records, bytes, acks, wait)?;
            }
            Step::Sync => self.sync(world)?,
            Step::Roll { partition } => {
                self.pass(Duration::from_millis(SEGMENT_MS))?;
                self.append(world, partition, 1, 100, Acks::Written, true)?;
            }
            Step::Commit { group, partition, share, acks } => {
                self.commit(world, group, partition, share, acks, 0)?;
            }
            Step::Compact { group } => {
                let before = self.offset_files();
                for _ in 0..8 {
                    if before != self.offset_files() {
                        break;
                    }
                    self.commit(world, group, 0, 100, Acks::Written, 3_000)?;
                }
            }
            Step::Retain { partition } => {
                self.pass(Duration::from_millis(RETENTION_MS + SEGMENT_MS))?;
                for _ in 0..3 {
                    self.append(world, partition, 1, 50, Acks::Synced, true)?;
                }
            }
            Step::Reset { group, share } => self.reset(world, group, share)?,
            Step::CopyGroup { from } => self.copy(world, from)?,
            Step::DeleteGroup { group } => self.delete_group(world, group)?,
            Step::DeleteRecords { partition, share } => self.delete_records(world, partition, share)?,
            Step::CreateTopic => self.create(world, OTHER_TOPIC, 1)?,
            Step::DeleteTopic => self.delete(world)?,
            Step::Expand => self.expand(world)?,
            Step::Reopen => return self.reopen(world),
            Step::Wait { ms } => {
                self.pass(Duration::from_millis(u64::from(ms)))?;
                (0..3).try_for_each(|_| self.poll())?;
            }
            Step::Rest { ms } => {
                self.pass(Duration::from_millis(u64::from(ms)))?;
                for _ in 0..4 {
                    self.clock.advance(LOOK_EVERY);
                    self.poll()?;
                }
                if !self.faults {
                    self.limits_are_kept(world)?;
                }
            }
            Step::Overfill { partition } => {
                for bytes in OVERFILL_BYTES {
                    drop(self.disk.take_crash_points());
                    self.append(world, partition, 1, bytes, Acks::Synced, true)?;
                }
            }
            Step::Move { partition } => {
                self.disk.move_to(DIR, MOVED).map_err(|error| error.to_string())?;
                let done = self.step(world, Step::Roll { partition }).and_then(|_| {
                    let commit = Step::Commit { group: 0, partition, share: 100, acks: Acks::Synced };
                    self.step(world, commit)
                });
                if self.disk.move_to(MOVED, DIR).is_err() {
                    return Err(
                        "A: the directory that was renamed is gone, or another was made under its name".to_owned()
                    );
                }
                done?;
            }
            Step::Fail { operation: number, passing, errno, forever } => {
                let repeat = if forever { Repeat::Forever } else { Repeat::Once };
                self.disk.fail_after(u64::from(passing), operation(number), errno, repeat);
            }
            Step::Fill { bytes } => self.disk.set_capacity(self.disk.used_bytes() + u64::from(bytes)),
            Step::Mend => self.mend(),
        }
        self.note_starts(world);
        Ok(true)
    }

    /// Lets time pass. What was sent is written before that, as writers with threads do: a record's age counts from
    /// when it is written.
    fn pass(&self, time: Duration) -> Result<(), Broken> {
        (0..3).try_for_each(|_| self.poll())?;
        self.clock.advance(time);
        Ok(())
    }

    /// Does the next steps of the engine's work.
    fn poll(&self) -> Result<(), Broken> {
        if let Ok(mut consumer) = self.engine.assign([(TOPIC, 0)]) {
            let polled = self.allow(consumer.poll(Duration::ZERO));
            polled.map_err(|broken| format!("polling: {broken}"))?;
        }
        Ok(())
    }

    /// Where the logs start is durable before anybody sees it.
    fn note_starts(&self, world: &mut World) {
        for (name, topic) in &mut world.topics {
            for (number, log) in topic.logs.iter_mut().enumerate() {
                let Ok(partition) = self.engine.partition(name, number as u32) else { continue };
                let start = partition.log_start_offset() as usize;
                (log.start, log.start_asked) = (log.start.max(start), log.start_asked.max(start));
            }
        }
    }

    /// Nothing is left that is older or more than what the topics keep.
    fn limits_are_kept(&self, world: &World) -> Result<(), Broken> {
        let kept_ms = (RETENTION_MS + SEGMENT_MS) as i64 + 4 * LOOK_EVERY.as_millis() as i64;
        let now_ms = self.clock.wall_ms();
        for (name, topic) in &world.topics {
            let Ok(described) = self.engine.describe_topic(name) else { continue };
            for (found, log) in described.partitions.iter().zip(&topic.logs) {
                let aged = log.sent.iter().take_while(|payload| now_ms - payload.sent_ms > kept_ms).count();
                let (number, start) = (found.partition, found.log_start_offset);
                if (start as usize) < aged {
                    return Err(format!("L1: partition {number} of {name} starts at {start}, {aged} are too old"));
                }
                if found.bytes >= RETENTION_BYTES + SEGMENT_MAX_BYTES {
                    return Err(format!("L1: partition {number} of {name} has {} bytes", found.bytes));
                }
            }
        }
        Ok(())
    }

    fn mend(&self) {
        self.disk.clear_faults();
        self.disk.set_capacity(None);
    }

    fn partition(&self, number: u32) -> Option<Partition> {
        self.engine.partition(TOPIC, number).ok()
    }

    fn append(
        &self,
        world: &mut World,
        number: u32,
        records: u8,
        bytes: u32,
        acks: Acks,
        wait: bool,
    ) -> Result<(), Broken> {
        let Some(partition) = self.partition(number) else { return Ok(()) };
        let sent_ms = self.clock.wall_ms();
        let payloads: Vec<_> = (0..records).map(|_| Payload { number: world.next_number(), bytes, sent_ms }).collect();
        let values: Vec<_> = payloads.iter().map(|payload| payload.make()).collect();
        let records: Vec<_> = values
            .iter()
            .zip(&payloads)
            .map(|(value, payload)| Record::new(value).acks(acks).timestamp(payload.timestamp()))
            .collect();
        let Some(log) = world.log(TOPIC, number) else { return Ok(()) };
        log.fail_from(partition.next_offset() as usize);
        let Some(receipt) = self.allow(partition.append_batch(&records))? else { return Ok(()) };
        if receipt.offset() as usize != log.sent.len() {
            let (given, expected) = (receipt.offset(), log.sent.len());
            return Err(format!("I3: the next record gets offset {given}, the log ended at {expected}"));
        }
        log.sent.extend(payloads);
        if !wait {
            return Ok(());
        }
        match self.allow(receipt.wait())? {
            None => log.fail_from(partition.next_offset() as usize),
            Some(_) => {
                let end = receipt.offsets().end as usize;
                if acks >= Acks::Written {
                    log.acknowledged(end);
                }
                if acks == Acks::Synced {
                    log.durable = log.durable.max(end);
                }
            }
        }
        Ok(())
    }

    fn sync(&self, world: &mut World) -> Result<(), Broken> {
        if self.allow(self.engine.sync())?.is_some() {
            for (name, topic) in &mut world.topics {
                for (number, log) in topic.logs.iter_mut().enumerate() {
                    let Ok(partition) = self.engine.partition(name, number as u32) else { continue };
                    let end = partition.next_offset() as usize;
                    log.fail_from(end);
                    if end > log.written {
                        log.acknowledged(end);
                    }
                    log.durable = end;
                }
            }
        }
        Ok(())
    }

    /// The offset log's files by name.
    fn offset_files(&self) -> Vec<std::path::PathBuf> {
        let is_offsets = |path: &std::path::PathBuf| path.to_string_lossy().contains("/offsets-");
        self.disk.list_files().into_iter().filter(is_offsets).collect()
    }

    fn commit(
        &self,
        world: &mut World,
        group: u8,
        number: u32,
        share: u8,
        acks: Acks,
        padding: usize,
    ) -> Result<(), Broken> {
        let Some(partition) = self.partition(number) else { return Ok(()) };
        let group = format!("g{group}");
        let made = world.next_number();
        let Some(topic) = world.topics.get_mut(TOPIC) else { return Ok(()) };
        let commits: &mut Commits = topic.commits.entry((group.clone(), number)).or_default();
        // Where the group begins is stored when the consumer starts, unless it is known.
        let start = Place::Start(partition.log_start_offset() as usize);
        let before = self.place(&group, number);
        if before == Place::None && commits.last() != start {
            commits.push(start);
        }
        let started = self.engine.consumer(&group).assign([(TOPIC, number)]).start();
        let started = self.allow(started).map_err(|broken| format!("the consumer doesn't start: {broken}"));
        let started = started?;
        match self.place(&group, number) {
            place if place == before => {}
            // Where the offset log has stopped, a consumer starts without its place being stored.
            place if started.is_some() && self.engine.core.groups.offsets.failure().is_none() => commits.is_at(place),
            place if commits.last() != place => commits.push(place),
            _ => {}
        }
        let Some(mut consumer) = started else { return Ok(()) };
        let offset = at_share(&partition, share);
        let mut metadata = made.to_le_bytes().to_vec();
        metadata.resize(8 + padding, b'.');
        commits.push(Place::Commit(made, offset as usize));
        let commit = OffsetCommit::new(TOPIC, number, offset).metadata(metadata);
        let committed = self.allow(consumer.commit_offsets([commit], acks));
        if committed.map_err(|broken| format!("committing offset {offset}: {broken}"))?.is_some() {
            commits.acknowledge(acks);
            if acks == Acks::Synced {
                // A synced commit first syncs the records that it speaks of.
                if let Some(log) = topic.logs.get_mut(number as usize) {
                    log.acknowledged(offset as usize);
                    log.durable = log.durable.max(offset as usize);
                }
            }
        }
        Ok(())
    }

    /// What the engine's state says of a partition of the first topic.
    fn place(&self, group: &str, number: u32) -> Place {
        let Ok(topic) = self.engine.core.topic(TOPIC) else { return Place::None };
        let offsets = &self.engine.core.groups.offsets;
        offsets.with(|state| Place::of(state.group(group).and_then(|group| group.commits.get(&(topic.id, number)))))
    }

    fn reset(&self, world: &mut World, group: u8, share: u8) -> Result<(), Broken> {
        let group = format!("g{group}");
        let to = match share {
            0 => ResetTo::Earliest,
            100 => ResetTo::Latest,
            _ => ResetTo::Offset(self.partition(0).map_or(0, |partition| at_share(&partition, share))),
        };
        let planned = match self.engine.reset_group(&group, TOPIC, to, true) {
            Err(error) if matches!(error.kind(), ErrorKind::UnknownTopic { .. }) => return Ok(()),
            planned => planned.map_err(|error| format!("planning a reset: {error}"))?,
        };
        let Some(topic) = world.topics.get_mut(TOPIC) else { return Ok(()) };
        for reset in &planned {
            let commits = topic.commits.entry((group.clone(), reset.partition)).or_default();
            commits.push(Place::Commit(0, reset.to as usize));
        }
        let done = self.allow(self.engine.reset_group(&group, TOPIC, to, false));
        if done.map_err(|broken| format!("resetting a group: {broken}"))?.is_some() {
            for reset in &planned {
                topic.commits.entry((group.clone(), reset.partition)).or_default().acknowledge(Acks::Synced);
                // The records that it speaks of are synced first.
                if let Some(log) = topic.logs.get_mut(reset.partition as usize) {
                    log.acknowledged(reset.to as usize);
                    log.durable = log.durable.max(reset.to as usize);
                }
            }
        }
        Ok(())
    }

    /// Gives the other group the offsets of this one.
    fn copy(&self, world: &mut World, from: u8) -> Result<(), Broken> {
        let (from, to) = (format!("g{from}"), format!("g{}", 1 - from));
        let mut copied = Vec::new();
        for (name, topic) in &mut world.topics {
            let Ok(found) = self.engine.core.topic(name) else { continue };
            for number in 0..topic.logs.len() as u32 {
                let offsets = &self.engine.core.groups.offsets;
                let key = (found.id, number);
                let place = offsets.with(|state| Place::of(state.group(&from).and_then(|of| of.commits.get(&key))));
                if place != Place::None {
                    // It says the same of the same record, also if that was lost.
                    let lost_at = topic.commits.get(&(from.clone(), number)).and_then(|commits| commits.lost_at(place));
                    topic.commits.entry((to.clone(), number)).or_default().made.push(Commit { what: place, lost_at });
                    // Beyond where the log ended it speaks of no record.
                    let speaks_of = place.offset().map(|offset| offset.min(lost_at.unwrap_or(offset)));
                    copied.push((name.clone(), number, speaks_of));
                }
            }
        }
        match self.engine.copy_group(&from, &to) {
            Err(error) if matches!(error.kind(), ErrorKind::UnknownGroup { .. }) && copied.is_empty() => Ok(()),
            result => {
                if self.allow(result).map_err(|broken| format!("copying a group: {broken}"))?.is_some() {
                    for (name, number, speaks_of) in copied {
                        let Some(topic) = world.topics.get_mut(&name) else { continue };
                        topic.commits.entry((to.clone(), number)).or_default().acknowledge(Acks::Synced);
                        if let (Some(offset), Some(log)) = (speaks_of, topic.logs.get_mut(number as usize)) {
                            let offset = offset.min(log.sent.len());
                            log.acknowledged(offset);
                            log.durable = log.durable.max(offset);
                        }
                    }
                }
                Ok(())
            }
        }
    }

    fn delete_group(&self, world: &mut World, group: u8) -> Result<(), Broken> {
        let group = format!("g{group}");
        let all = |world: &mut World, each: fn(&mut Commits)| {
            let commits = world.topics.values_mut().flat_map(|topic| topic.commits.iter_mut());
            commits.filter(|((of, _), _)| *of == group).for_each(|(_, commits)| each(commits));
        };
        match self.engine.delete_group(&group) {
            Err(error) if matches!(error.kind(), ErrorKind::UnknownGroup { .. }) => Ok(()),
            result => {
                all(world, |commits| commits.push(Place::None));
                if self.allow(result).map_err(|broken| format!("deleting a group: {broken}"))?.is_some() {
                    all(world, |commits| commits.acknowledge(Acks::Synced));
                }
                Ok(())
            }
        }
    }

    fn delete_records(&self, world: &mut World, number: u32, share: u8) -> Result<(), Broken> {
        let Some(partition) = self.partition(number) else { return Ok(()) };
        let to = at_share(&partition, share);
        let Some(log) = world.log(TOPIC, number) else { return Ok(()) };
        log.start_asked = log.start_asked.max(to as usize);
        if self.allow(partition.delete_records(to))?.is_some() {
            log.start = log.start.max(to as usize);
        }
        Ok(())
    }

    fn create(&self, world: &mut World, name: &str, partitions: u32) -> Result<(), Broken> {
        match self.engine.create_topic(name, config(partitions)) {
            Err(error) if matches!(error.kind(), ErrorKind::TopicExists { .. }) => Ok(()),
            result => {
                let logs = vec![Log::default(); partitions as usize];
                let mut topic = Topic { logs, partitions: partitions as usize, ..Topic::default() };
                topic.uncertain = self.allow(result)?.is_none();
                world.topics.insert(name.to_owned(), topic);
                Ok(())
            }
        }
    }

    fn delete(&self, world: &mut World) -> Result<(), Broken> {
        match self.engine.delete_topic(OTHER_TOPIC) {
            Err(error) if matches!(error.kind(), ErrorKind::UnknownTopic { .. }) => {}
            result => {
                if self.allow(result)?.is_some() {
                    world.topics.remove(OTHER_TOPIC);
                } else if let Some(topic) = world.topics.get_mut(OTHER_TOPIC) {
                    topic.uncertain = true;
                }
            }
        }
        Ok(())
    }

    fn expand(&self, world: &mut World) -> Result<(), Broken> {
        let Some(topic) = world.topics.get_mut(TOPIC) else { return Ok(()) };
        let Ok(found) = self.engine.describe_topic(TOPIC) else { return Ok(()) };
        let count = found.partitions.len() + 1;
        if count > MAX_PARTITIONS {
            return Ok(());
        }
        topic.logs.resize_with(topic.logs.len().max(count), Log::default);
        if self.allow(self.engine.alter_topic(TOPIC, config(count as u32)))?.is_some() {
            topic.partitions = count;
        }
        Ok(())
    }

    fn reopen(&mut self, world: &mut World) -> Result<bool, Broken> {
        if self.faults {
            // So that it is known what closing acknowledges, nothing fails any more.
            self.mend();
        }
        self.allow(self.engine.flush())?;
        let mut ends = Vec::new();
        for (name, topic) in &world.topics {
            for number in 0..topic.logs.len() as u32 {
                if let Ok(partition) = self.engine.partition(name, number) {
                    ends.push((name.clone(), number, partition.end_offset() as usize));
                }
            }
        }
        if self.allow(self.engine.close())?.is_some() {
            for (name, number, end) in ends {
                if let Some(log) = world.log(&name, number) {
                    let end = end.min(log.sent.len());
                    log.fail_from(end);
                    (log.written, log.durable) = (end, end);
                }
            }
            for commits in world.topics.values_mut().flat_map(|topic| topic.commits.values_mut()) {
                commits.durable = commits.written;
            }
        }
        let has_lost = self.disk.has_lost();
        match Life::begin(&self.disk, &self.clock, self.faults)? {
            Some(next) => *self = next,
            None => return Ok(false),
        }
        if has_lost {
            let now_ms = self.clock.wall_ms();
            let bounds = Bounds { floor: world, ceiling: world, killed: false, now_ms, lookups: false };
            *world = bounds.check(self.engine())?;
        }
        Ok(true)
    }
}

/// What an ordered error of the disk may become.
pub(super) fn is_ordered(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Failed | ErrorKind::Closed | ErrorKind::NoRoom)
}

/// The offset so many hundredths of the way from log start to end.
fn at_share(partition: &Partition, share: u8) -> u64 {
    let (start, end) = (partition.log_start_offset(), partition.end_offset());
    start + (end - start) * u64::from(share) / 100
}
