//! What was found after a crash, against the model.

use std::collections::BTreeSet;

use super::life::Broken;
use super::model::{Commit, Commits, Log, Place, Topic, World};
use super::step::{RETENTION_BYTES, RETENTION_MS};
use crate::engine::{Engine, Partition};

/// What may be found: at least `floor`, at most `ceiling`, the models before and after the step in
/// which the machine crashed.
#[derive(Clone, Copy)]
pub(super) struct Bounds<'a> {
    pub(super) floor: &'a World,
    pub(super) ceiling: &'a World,
    /// Only the process died: what was written is there too.
    pub(super) killed: bool,
    pub(super) now_ms: i64,
    /// Records are looked up by offset and by time too.
    pub(super) lookups: bool,
}

/// A record's own header, its batch's, and its part of its file's: no more than a block and a half.
const RECORD_MAX_OVERHEAD_BYTES: u64 = 6 << 10;

impl Bounds<'_> {
    /// Compares, and gives the model to go on with from here.
    pub(super) fn check(&self, engine: &Engine) -> Result<World, Broken> {
        if let Some(found) = engine.recovery().partitions.iter().find(|found| found.damage.is_some()) {
            return Err(format!("I10: a crash alone is never damage: {found:?}"));
        }
        if let Some(damage) = engine.core.groups.offsets.damage() {
            return Err(format!("I10: a crash alone is never damage of the offset log: {damage:?}"));
        }
        let exists: BTreeSet<String> = engine.topics().map_err(|error| error.to_string())?.into_iter().collect();
        let none = Topic::default();
        let mut world = self.ceiling.clone();
        let names = exists.iter().chain(self.floor.topics.keys()).chain(self.ceiling.topics.keys());
        for name in names.collect::<BTreeSet<_>>() {
            let (floor, ceiling) = (self.floor.topics.get(name), self.ceiling.topics.get(name));
            let Some(most) = ceiling.or(floor) else { return Err(format!("I8: topic {name} was deleted and is back")) };
            if !exists.contains(name) {
                if floor.is_some_and(|topic| !topic.uncertain) && ceiling.is_some_and(|topic| !topic.uncertain) {
                    return Err(format!("I8: topic {name} is gone"));
                }
                world.topics.remove(name);
                continue;
            }
            let found = self.topic(engine, name, floor.unwrap_or(&none), most);
            world.topics.insert(name.clone(), found.map_err(|broken| format!("topic {name}: {broken}"))?);
        }
        Ok(world)
    }

    fn topic(&self, engine: &Engine, name: &str, floor: &Topic, most: &Topic) -> Result<Topic, Broken> {
        let handle = engine.core.topic(name).map_err(|error| error.to_string())?;
        let count = handle.partitions.len();
        if count < floor.partitions || count > most.logs.len() {
            let (least, most) = (floor.partitions, most.logs.len());
            return Err(format!("{count} partitions, acknowledged were {least}, asked for {most}"));
        }
        let none = Log::default();
        let mut logs = Vec::new();
        for number in 0..count {
            let partition = engine.partition(name, number as u32).map_err(|error| error.to_string())?;
            let (floor, most) = (floor.logs.get(number).unwrap_or(&none), most.logs.get(number).unwrap_or(&none));
            let log = self.log(&partition, floor, most);
            logs.push(log.map_err(|broken| format!("partition {number}: {broken}"))?);
        }
        let nothing = Commits::default();
        let mut commits = std::collections::BTreeMap::new();
        for (key, most) in &most.commits {
            let floor = floor.commits.get(key).unwrap_or(&nothing);
            let end = logs.get(key.1 as usize).map_or(0, |log: &Log| log.sent.len());
            let found =
                engine.core.groups.offsets.with(|state| {
                    Place::of(state.group(&key.0).and_then(|group| group.commits.get(&(handle.id, key.1))))
                });
            let left = self.commits(found, floor, most, end);
            let mut left = left.map_err(|broken| format!("group {}, partition {}: {broken}", key.0, key.1))?;
            self.position(engine, name, key, &mut left, logs.get(key.1 as usize).unwrap_or(&none))?;
            commits.insert(key.clone(), left);
        }
        Ok(Topic { logs, commits, partitions: count, uncertain: false })
    }

    fn log(&self, partition: &Partition, floor: &Log, most: &Log) -> Result<Log, Broken> {
        let (start, end) = (partition.log_start_offset() as usize, partition.end_offset() as usize);
        let least = if self.killed { floor.written } else { floor.durable };
        if end < least {
            return Err(format!("D1: it ends at {end}, acknowledged were {least}"));
        }
        let mut sent = most.sent.clone();
        let (base, failed) = &most.failed;
        let look = (*base).max(start);
        if most.written <= *base && end > look {
            let first = partition.get(look as u64).map_err(|error| error.to_string())?;
            let view = first.view();
            let value = view.value();
            let is_first =
                |tried: &&Vec<_>| tried.get(look - base).is_some_and(|sent: &super::model::Payload| sent.is(value));
            // A write that failed half done may be what was found.
            if let Some(found) = failed.iter().find(is_first) {
                sent.truncate(*base);
                sent.extend(found);
            }
        }
        if end > sent.len() {
            return Err(format!("D2: it ends at {end}, sent were {}", sent.len()));
        }
        let is_aged = |payload: &&super::model::Payload| self.now_ms - payload.sent_ms > RETENTION_MS as i64;
        let aged = sent.iter().take_while(is_aged).count();
        // What is kept has this many bytes; of each record only a part is known.
        let mut bytes = RECORD_MAX_OVERHEAD_BYTES;
        let kept = |payload: &&super::model::Payload| {
            bytes += u64::from(payload.bytes) + RECORD_MAX_OVERHEAD_BYTES;
            bytes < RETENTION_BYTES
        };
        let beyond = sent.len() - sent.iter().rev().take_while(kept).count();
        let sized = beyond.saturating_sub(1);
        let highest = most.start_asked.max(aged).max(sized);
        if start < floor.start || start > highest {
            let acknowledged = floor.start;
            return Err(format!("I8: it starts at {start}, acknowledged was {acknowledged}, asked for {highest}"));
        }
        let durable = partition.durable_offset() as usize;
        if start > end || durable > end || start > durable.max(start) {
            return Err(format!("I3: log start {start}, durable offset {durable}, end offset {end}"));
        }
        let mut next = start;
        for batch in partition.read(start as u64..end as u64).map_err(|error| error.to_string())? {
            for record in &batch.map_err(|error| format!("D2: offset {next} can't be read: {error}"))? {
                if record.offset() as usize != next {
                    return Err(format!("D2: offset {} where {next} should be", record.offset()));
                }
                if !sent[next].is(record.value()) {
                    return Err(format!("D2: other bytes at offset {next}"));
                }
                next += 1;
            }
        }
        if next != end {
            return Err(format!("D2: offsets from {next} to {end} are missing"));
        }
        if self.lookups && start < end {
            super::lookups::check(partition, &sent, start, end)?;
        }
        sent.truncate(end);
        let durable = floor.durable.min(end);
        Ok(Log { sent, written: end, durable, start, start_asked: highest, failed: (0, Vec::new()) })
    }

    fn commits(&self, found: Place, floor: &Commits, most: &Commits, end: usize) -> Result<Commits, Broken> {
        let least = if self.killed { floor.written } else { floor.durable };
        let is_found = |commit: &Commit| commit.what == found;
        let count = match most.made.iter().rposition(is_found) {
            Some(at) => at + 1,
            None if found == Place::None => 0,
            None => return Err(format!("D5: {found:?} is found, which was never committed")),
        };
        if count < least {
            let acknowledged = most.made.get(least - 1).map(|commit| commit.what);
            return Err(format!("D5: {found:?} is found, acknowledged was {acknowledged:?}, which is later"));
        }
        let mut left = most.clone();
        left.made.truncate(count);
        for commit in left.made.iter_mut().filter(|commit| commit.what.offset().is_some_and(|offset| offset > end)) {
            commit.lost_at.get_or_insert(end);
        }
        Ok(Commits { written: count, durable: floor.durable.min(count), ..left })
    }

    /// Where the group goes on.
    fn position(
        &self,
        engine: &Engine,
        topic: &str,
        (group, number): &(String, u32),
        commits: &mut Commits,
        log: &Log,
    ) -> Result<(), Broken> {
        let Some(last) = commits.made.last().copied() else { return Ok(()) };
        let Some(offset) = last.what.offset() else { return Ok(()) };
        let consumer = engine.consumer(group).assign([(topic, *number)]).start();
        let position = consumer.and_then(|consumer| consumer.position(topic, *number));
        let position = position.map_err(|error| error.to_string())? as usize;
        let expected = last.lost_at.unwrap_or(offset).max(log.start);
        if position != expected {
            let (what, lost) = (last.what, last.lost_at);
            return Err(format!(
                "D5: group {group} goes on at {position} of partition {number}, not at {expected} \
                 ({what:?}, its record was lost when the log ended at {lost:?})"
            ));
        }
        // What the policy says is stored, if this engine is lived on with.
        if offset < log.start {
            commits.push(Place::Start(position));
        }
        Ok(())
    }
}
