//! What an engine shows that was opened after a crash, against the history.

use std::path::Path;

use thalweg::{Engine, ErrorKind, Partition, inspect};

use crate::driver::said;
use crate::failure::{Result, broken};
use crate::history::{Asked, Commit, History, Log, Position, Topic};
use crate::payload;

/// `verify`, if there is a directory yet: a crash is never damage.
pub(crate) fn verify(directory: &Path) -> Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    match inspect::verify(directory, &mut |_| {}) {
        Ok(found) => match found.damage.first() {
            Some(damage) => broken(format!("I10: `verify` finds damage after a crash alone: {damage}")),
            None => Ok(()),
        },
        // Crashed while the directory was made: what is lost then is found out by opening it.
        Err(error) if matches!(error.kind(), ErrorKind::NotThalweg { .. }) => Ok(()),
        Err(error) => Err(said("verify", &error)),
    }
}

/// Compares, and gives the history to go on with: what was found is all there ever was.
pub(crate) fn check(engine: &Engine, history: &History, at: Position) -> Result<History> {
    for found in engine.recovery().partitions {
        if let Some(damage) = found.damage {
            return broken(format!("I10: a crash alone is never damage: {damage}"));
        }
    }
    let mut left = History { topics: Vec::new(), numbers: history.numbers };
    let names = engine.topics().map_err(|error| said("list topics", &error))?;
    for name in &names {
        let described = engine.describe_topic(name).map_err(|error| said("describe a topic", &error))?;
        let is_it = |topic: &&Topic| match topic.created.what {
            Some(id) => id == described.id,
            None => topic.name == *name && topic.may_exist(at),
        };
        let Some(topic) = history.topics.iter().rev().find(is_it) else {
            return broken(format!("I8: topic {name} was never asked for"));
        };
        if !topic.may_exist(at) {
            return broken(format!("I8: topic {name} was deleted and is back"));
        }
        let mut kept = check_topic(engine, topic, at).map_err(|failure| failure.at(format_args!("topic {name}")))?;
        kept.created = Asked { what: Some(described.id), asked: 0, acknowledged: Some(0) };
        left.topics.push(kept);
    }
    for topic in history.topics.iter().filter(|topic| topic.must_exist(at)) {
        if !left.topics.iter().any(|kept| kept.created.what == topic.created.what) {
            return broken(format!("I8: topic {} is gone", topic.name));
        }
    }
    Ok(left)
}

fn check_topic(engine: &Engine, topic: &Topic, at: Position) -> Result<Topic> {
    let mut left = topic.clone();
    left.deleted = None;
    let described = engine.describe_topic(&topic.name).map_err(|error| said("describe a topic", &error))?;
    for (number, log) in topic.logs.iter().enumerate() {
        let partition =
            engine.partition(&topic.name, number as u32).map_err(|error| said("get a partition", &error))?;
        // One that stopped is read up to its durable offset only.
        let stopped = described.partitions.get(number).is_some_and(|partition| partition.failure.is_some());
        let kept = check_log(&partition, log, at, stopped);
        left.logs[number] = kept.map_err(|failure| failure.at(format_args!("partition {number}")))?;
    }
    for ((group, number), commits) in &topic.commits {
        let ended = left.logs[*number as usize].sent.len() as u64;
        let kept = check_commits(engine, (group, &topic.name, *number), commits, ended, at);
        let kept = kept.map_err(|failure| failure.at(format_args!("group {group}, partition {number}")))?;
        left.commits.insert((group.clone(), *number), kept);
    }
    Ok(left)
}

fn check_log(partition: &Partition, log: &Log, at: Position, stopped: bool) -> Result<Log> {
    let (start, end) = (partition.log_start_offset(), partition.end_offset());
    let (floor, ceiling) = (log.floor(at), log.ceiling(at));
    if end < floor {
        return broken(format!("D1: it ends at {end}, acknowledged as synced were {floor}"));
    }
    if end > ceiling {
        return broken(format!("D2: it ends at {end}, sent were {ceiling}"));
    }
    if end > 0 && !log.sent[end as usize - 1].last {
        return broken(format!("D2: it ends at {end}, within a batch"));
    }
    let (least, most) = (log.start_floor(at), log.start_ceiling(at));
    if start < least || start > most {
        return broken(format!("I8: it starts at {start}, acknowledged was {least}, asked for {most}"));
    }
    let durable = partition.durable_offset();
    if start > end || durable > end {
        return broken(format!("I3: log start {start}, durable offset {durable}, end offset {end}"));
    }
    let mut next = start;
    for batch in partition.read(start..end).map_err(|error| said("read", &error))? {
        for record in &batch.map_err(|error| said(&format!("read offset {next}"), &error))? {
            if record.offset() != next {
                return broken(format!("D2: offset {} where {next} should be", record.offset()));
            }
            if !payload::is(record.value(), log.sent[next as usize].salt, next) {
                return broken(format!("D2: other bytes at offset {next}"));
            }
            next += 1;
        }
    }
    if next != end && !(stopped && next >= floor) {
        return broken(format!("D2: offsets from {next} to {end} are missing"));
    }
    let mut left = Log { synced: vec![(0, floor)], ..log.clone() };
    left.sent.truncate(end as usize);
    left.sent.iter_mut().for_each(|sent| sent.asked = 0);
    left.starts = vec![Asked { what: start, asked: 0, acknowledged: Some(0) }];
    Ok(left)
}

fn check_commits(
    engine: &Engine,
    (group, topic, number): (&str, &str, u32),
    commits: &[Asked<Commit>],
    ended: u64,
    at: Position,
) -> Result<Vec<Asked<Commit>>> {
    let consumer = engine.consumer(group).assign([(topic, number)]).start();
    let consumer = consumer.map_err(|error| said("start a consumer", &error))?;
    let found = consumer.committed(topic, number).map_err(|error| said("ask for a commit", &error))?;
    let least = commits.iter().filter(|commit| commit.must_show(at)).map(|commit| commit.what.number).max();
    let Some(found) = found else {
        return match least {
            Some(least) => broken(format!("D5: nothing is committed, acknowledged was commit {least}")),
            None => Ok(Vec::new()),
        };
    };
    let made = found.metadata.first_chunk().map_or(0, |bytes: &[u8; 8]| u64::from_le_bytes(*bytes));
    if least.is_some_and(|least| made < least) {
        return broken(format!("D5: commit {made} is found, acknowledged was a later one, {least:?}"));
    }
    let is_it = |commit: &&Asked<Commit>| commit.what.number == made && commit.may_show(at);
    let Some(last) = commits.iter().find(is_it).filter(|commit| commit.what.offset == found.offset) else {
        return broken(format!("D5: offset {} as commit {made} was never committed", found.offset));
    };
    let start = engine.partition(topic, number).map_err(|error| said("get a partition", &error))?.log_start_offset();
    let position = consumer.position(topic, number).map_err(|error| said("ask for a position", &error))?;
    let expected = last.what.lost_at.unwrap_or(last.what.offset).min(ended).max(start);
    if position != expected {
        let Commit { number, offset, lost_at, .. } = &last.what;
        return broken(format!(
            "D5: it goes on at {position}, not at {expected} (commit {number} at {offset}, lost at {lost_at:?}, \
             the log ends at {ended})"
        ));
    }
    let kept = commits.iter().filter(|commit| commit.what.number <= made);
    Ok(kept
        .map(|commit| {
            let mut what = commit.what.clone();
            if what.offset > ended {
                what.lost_at.get_or_insert(ended);
            }
            Asked { what, asked: 0, acknowledged: commit.must_show(at).then_some(0) }
        })
        .collect())
}
