//! Looking at what a killed process left.

use std::path::Path;

use thalweg::inspect::{self, Verification};
use thalweg::{Engine, ErrorKind};

use super::oracle::{Contents, Log};
use super::plan::{GROUP, PARTITIONS, Plan, TOPIC};

/// Whether every byte of the directory is sound, and nobody holds it. `None`: there is none yet.
pub(super) fn verify(dir: &Path) -> Result<Option<Verification>, String> {
    let found = match inspect::verify(dir, &mut |_| {}) {
        Err(error) if matches!(error.kind(), ErrorKind::NotThalweg { .. }) => return Ok(None),
        found => found.map_err(|error| format!("verify: {error}"))?,
    };
    if let Some(damage) = found.damage.first() {
        return Err(format!("D3: a kill alone left damage: {damage}"));
    }
    match &found.live_writer {
        Some(holder) => Err(format!("D7: the lock is still held: {holder}")),
        None => Ok(Some(found)),
    }
}

/// What stands in it, without changing anything. `None`: there is no topic yet.
pub(super) fn read(dir: &Path) -> Result<Option<Contents>, String> {
    let engine = match Engine::builder(dir).read_only().open() {
        Err(error) if matches!(error.kind(), ErrorKind::NotThalweg { .. }) => return Ok(None),
        engine => engine.map_err(|error| format!("opening to read: {error}"))?,
    };
    contents(&engine)
}

/// What stands in it after it was opened as the next process would, and closed.
pub(super) fn recover(dir: &Path, plan: &Plan, life: u32) -> Result<Option<Contents>, String> {
    let engine = plan.settings(Engine::builder(dir), life).open().map_err(|error| format!("opening: {error}"))?;
    let found = contents(&engine)?;
    engine.close().map_err(|error| format!("closing: {error}"))?;
    Ok(found)
}

fn contents(engine: &Engine) -> Result<Option<Contents>, String> {
    if let Some(damaged) = engine.recovery().partitions.iter().find_map(|partition| partition.damage.as_ref()) {
        return Err(format!("D3: a kill alone left damage: {damaged}"));
    }
    let topic = match engine.describe_topic(TOPIC) {
        Err(error) if matches!(error.kind(), ErrorKind::UnknownTopic { .. }) => return Ok(None),
        topic => topic.map_err(|error| format!("describing the topic: {error}"))?,
    };
    let logs = (0..topic.partitions.len() as u32).map(|number| loop {
        match log(engine, number) {
            // Retention, which goes on where it was opened to be written, was faster: from the new start.
            Err(error) if matches!(error.kind(), ErrorKind::OffsetOutOfRange { requested, start, .. } if requested < start) => {}
            log => break log,
        }
    });
    let logs = logs.collect::<thalweg::Result<_>>().map_err(|error| format!("reading: {error}"))?;
    Ok(Some(Contents { logs, committed: committed(engine)? }))
}

fn log(engine: &Engine, number: u32) -> thalweg::Result<Log> {
    let partition = engine.partition(TOPIC, number)?;
    let (start, end) = (partition.log_start_offset(), partition.end_offset());
    let mut records = Vec::new();
    for batch in partition.read(start..end)? {
        for record in &batch? {
            let key = record.key().map(<[u8]>::to_vec);
            records.push((record.offset(), key, record.value().unwrap_or_default().to_vec()));
        }
    }
    Ok(Log { start, end, durable: partition.durable_offset(), records })
}

fn committed(engine: &Engine) -> Result<Vec<Option<u64>>, String> {
    let mut committed = vec![None; PARTITIONS as usize];
    match engine.describe_group(GROUP) {
        Err(error) if matches!(error.kind(), ErrorKind::UnknownGroup { .. }) => {}
        Err(error) => return Err(format!("describing the group: {error}")),
        Ok(group) => {
            for row in group.offsets {
                if row.in_doubt {
                    return Err(format!("D3: a kill alone left the commit of partition {} in doubt", row.partition));
                }
                if let Some(slot) = committed.get_mut(row.partition as usize) {
                    *slot = row.committed;
                }
            }
        }
    }
    Ok(committed)
}
