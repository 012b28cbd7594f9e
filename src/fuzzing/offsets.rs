//! Fuzzed bytes as an offset log: opened, looked at, committed to, opened again.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::open::{ENTRIES, READ_ONLY, dressed};
use super::template::settle_identities;
use super::{batch, stamp::with_batch};
use crate::disk::Access;
use crate::error::Result;
use crate::format::{BatchKind, GroupSnapshot, MAX_METADATA_BYTES, MAX_OFFSET, MemberSnapshot, OffsetEntry};
use crate::ids::{EngineId, TopicId};
use crate::offsets::{GroupOffsets, NewCommit, Offsets};
use crate::sim::SimDisk;

/// What [`settle_identities`] makes of any engine.
const ENGINE: EngineId = EngineId([0xe1; 16]);
const FILE: &str = "data/offsets-1";
/// Room on the disk.
const ROOM_BYTES: u64 = 4 << 20;

/// Bytes as the offset log of a directory.
pub fn offsets_open(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    let like = template();
    let file = if mode & ENTRIES != 0 { with_entries(like, bytes) } else { dressed(mode, bytes, like) };
    let disk = SimDisk::new();
    let _ = disk.write_file(FILE, &file);
    disk.set_capacity(ROOM_BYTES);
    let access = if mode & READ_ONLY != 0 { Access::Read } else { Access::Write };
    let mut before = None;
    for life in 0..2 {
        let Ok((offsets, _)) = Offsets::open(Arc::new(disk.clone()), Path::new("data"), ENGINE, u32::MAX, access, 0)
        else {
            return;
        };
        let found = look(&offsets);
        assert!(before.is_none_or(|before| before == found), "what was written is found again");
        assert_eq!(offsets.refresh(), Ok(false), "nothing came meanwhile");
        let written = use_it(&offsets, life);
        if offsets.damage().is_some() || access == Access::Read {
            assert!(!written, "nothing is written to a damaged log, nor by a reader");
            assert_eq!(disk.read_file(FILE).ok(), Some(file.clone()), "its bytes stay as they are");
        }
        before = Some(look(&offsets));
    }
}

/// Everything that it says, within bounds.
fn look(offsets: &Offsets) -> HashMap<String, GroupOffsets> {
    let damage = offsets.damage();
    let groups: HashMap<_, _> =
        offsets.with(|state| state.groups().map(|(name, group)| (name.to_owned(), group.clone())).collect());
    for (name, group) in &groups {
        assert!((1..=249).contains(&name.len()), "a group's name has bounds");
        for (&(topic, partition), commit) in &group.commits {
            assert!(commit.offset <= MAX_OFFSET && topic != TopicId(0), "a commit has bounds");
            assert!(commit.metadata.len() <= MAX_METADATA_BYTES, "its metadata has bounds");
            if let Some(damage) = &damage {
                std::hint::black_box(damage.in_doubt(name, topic, partition));
            }
        }
    }
    if let Some(damage) = damage {
        assert!(damage.groups.iter().all(|name| groups.contains_key(name)), "who is named is known");
    }
    groups
}

/// Every kind of call; true if any was written.
fn use_it(offsets: &Offsets, life: i64) -> bool {
    let commit = NewCommit { topic_id: TopicId(1), partition: 0, offset: 7, epoch: 1, metadata: b"m", start: false };
    let now_ms = 1_000 * (life + 1);
    let written = [
        offsets.commit("committed", 1, &[commit], now_ms),
        offsets.put_state("committed", 2, &snapshot(), now_ms),
        offsets.put_empty("a", 2, now_ms),
        offsets.delete_group("b", now_ms),
    ];
    if written[0].is_ok() {
        let offset = offsets.with(|state| state.group("committed")?.commit(TopicId(1), 0).map(|known| known.offset));
        assert_eq!(offset, Some(7), "what was committed is seen");
    }
    let _ = offsets.delete_group("b", now_ms);
    let _ = offsets.sync_all();
    written[..3].iter().any(|result| result.is_ok())
}

fn snapshot() -> GroupSnapshot {
    let member = MemberSnapshot { id: "m".into(), topics: vec![TopicId(1)], ..MemberSnapshot::default() };
    GroupSnapshot { assignor: "range".into(), members: vec![member] }
}

/// The good log with one more batch, whose body is `body`.
fn with_entries(like: &[u8], body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len() / 8 * 8];
    let count = OffsetEntry::each_of(body).filter(|entry| entry.is_ok()).count();
    with_batch(like, body, |base_offset, epoch| {
        batch(BatchKind::Offsets, base_offset, epoch, count.max(1) as u32, body)
    })
}

/// A small log with an entry of each kind, the same in every process.
pub(super) fn template() -> &'static [u8] {
    static TEMPLATE: OnceLock<Vec<u8>> = OnceLock::new();
    TEMPLATE.get_or_init(|| make().unwrap_or_default())
}

fn make() -> Result<Vec<u8>> {
    let disk = SimDisk::new();
    let _ = disk.write_file("data/x", b"");
    let (offsets, _) = Offsets::open(Arc::new(disk.clone()), Path::new("data"), ENGINE, 1, Access::Write, 0)?;
    let commit = |partition, offset| NewCommit {
        topic_id: TopicId(1),
        partition,
        offset,
        epoch: 1,
        metadata: b"",
        start: false,
    };
    offsets.commit("a", 1, &[commit(0, 3), NewCommit { metadata: b"of a", ..commit(1, 4) }], 10)?;
    offsets.put_state("b", 1, &snapshot(), 20)?;
    offsets.commit("b", 1, &[commit(0, 5)], 30)?;
    offsets.sync_all()?;
    offsets.put_empty("b", 1, 40)?;
    offsets.delete_commits("a", &[(TopicId(1), 0)], 50)?;
    offsets.commit("c", 1, &[commit(2, 6)], 60)?;
    offsets.delete_group("c", 70)?;
    offsets.sync_all()?;
    offsets.commit("a", 2, &[commit(0, 9)], 80)?;
    let mut file = disk.read_file(FILE).unwrap_or_default();
    settle_identities(&mut [&mut file]);
    Ok(file)
}

/// The first inputs: name and bytes.
#[cfg(test)]
pub(super) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    use super::open::{COMPACT, STAMPED_BATCHES, STAMPED_HEADER};
    use super::seeds::{compact, flipped};
    use crate::format::{FILE_HEADER_BYTES, OffsetEntryKind};
    let file = compact(template());
    let stamped = COMPACT | STAMPED_HEADER | STAMPED_BATCHES;
    let mut entries = Vec::new();
    for (kind, topic_id, payload) in [
        (OffsetEntryKind::Group, 0, &b"d"[..]),
        (OffsetEntryKind::Commit, 1, b"metadata"),
        (OffsetEntryKind::GroupEmpty, 0, b""),
        (OffsetEntryKind::Delete, 0, b""),
    ] {
        let entry = OffsetEntry {
            kind,
            offset: 5,
            topic_id: TopicId(topic_id),
            partition: 0,
            group: 4,
            generation: 1,
            epoch: 1,
            more: false,
            start: false,
            committed_ms: None,
            payload,
        };
        entry.encode(&mut entries);
    }
    let mut seeds = Vec::new();
    for (name, mode, bytes) in [
        ("whole", COMPACT, file.clone()),
        ("stamped", stamped, file.clone()),
        ("stamped-read-only", stamped | READ_ONLY, file.clone()),
        ("torn", COMPACT, file[..file.len() - 24].to_vec()),
        ("damaged", COMPACT, flipped(&file, FILE_HEADER_BYTES + 300)),
        ("damaged-header", COMPACT, flipped(&file, 60)),
        ("entries", ENTRIES, entries),
    ] {
        seeds.push((name, [&[mode], &bytes[..]].concat()));
    }
    seeds
}

#[cfg(test)]
mod tests {
    //! That the seeds get where they should.
    use super::*;

    fn open(name: &str) -> Result<Offsets> {
        let seeds = seeds();
        let (_, bytes) = seeds.iter().find(|(known, _)| *known == name).unwrap();
        let (mode, like) = (bytes[0], template());
        let file = if mode & ENTRIES != 0 { with_entries(like, &bytes[1..]) } else { dressed(mode, &bytes[1..], like) };
        let disk = SimDisk::new();
        disk.write_file(FILE, &file).unwrap();
        Ok(Offsets::open(Arc::new(disk), Path::new("data"), ENGINE, 9, Access::Write, 0)?.0)
    }

    #[test]
    fn logs_are_found_as_they_were_dressed() {
        for name in ["whole", "stamped", "entries"] {
            let offsets = open(name).unwrap();
            assert!(offsets.damage().is_none(), "{name}: {:?}", offsets.damage());
            let groups = look(&offsets);
            assert_eq!(groups.len(), 2, "{name}");
            assert_eq!((groups["a"].commits.len(), groups["a"].generation), (2, 2), "{name}");
        }
        assert_eq!(look(&open("torn").unwrap())["a"].generation, 1);
        let damaged = open("damaged").unwrap().damage().unwrap();
        assert!(damaged.error.position().is_some_and(|position| position > 4_096));
        assert!(open("damaged-header").unwrap().damage().unwrap().names_lost);
    }

    #[test]
    fn it_is_always_the_same() {
        assert_eq!(make().unwrap(), template());
    }
}
