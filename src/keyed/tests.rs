//! Keyed logs on the simulated disk. Each test's log is a map: entry `i` sets key `i % 3` to `i`,
//! so a state says which entries led to it, however often the log was compacted.

mod ahead;
mod crash;
mod damage;
mod errors;
mod follow;
mod salvage;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::sim::SimDisk;

const ENGINE: EngineId = EngineId([3; 16]);
const PREFIX: &str = "catalog";

/// What a log says: key to the number of the entry that set it last.
type Map = BTreeMap<u64, u64>;

fn dir() -> &'static Path {
    Path::new("data")
}

/// How many cases; optimized code goes through more of them in the same time.
fn more(debug: u64, release: u64) -> u64 {
    if cfg!(debug_assertions) { debug } else { release }
}

/// A disk with an empty directory that survives everything.
fn new_disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.write_file("data/x", b"").unwrap();
    disk.remove_file("data/x").unwrap();
    disk
}

/// One entry's body; lengths differ, so that batches meet sector ends everywhere.
fn body(number: u64) -> Vec<u8> {
    (FILL | number).to_le_bytes().repeat(1 + number as usize * 7 % 30)
}

/// Keeps a batch from ending in zeros, which would look like bytes never written.
const FILL: u64 = 0xabab_abab_abab_0000;

fn create(disk: &SimDisk) -> Result<KeyedLog> {
    KeyedLog::create(Arc::new(disk.clone()), dir(), PREFIX, FileKind::Catalog, ENGINE, 1, 10, &body(1), 1)
}

fn append(log: &mut KeyedLog, number: u64) -> Result<()> {
    log.append(&body(number), 1, 20)
}

/// The map after entries 1 to `number`.
fn after(number: u64) -> Map {
    (1..=number).map(|number| (number % 3, number)).collect()
}

fn rewrite(log: &mut KeyedLog, map: &Map) -> Result<()> {
    let mut numbers: Vec<u64> = map.values().copied().collect();
    numbers.sort_unstable();
    let bodies: Vec<_> = numbers.iter().map(|&number| (body(number), 1)).collect();
    log.rewrite(&bodies, 30)
}

/// A replay that builds the map, and fails on bytes that were never written.
fn into(map: &mut Map) -> impl FnMut(&BatchHeader, &[u8]) -> Result<()> {
    |header, bytes| {
        let number = u64::from_le_bytes(*bytes.first_chunk().unwrap()) & !FILL;
        assert_eq!((bytes, header.record_count), (&body(number)[..], 1), "bytes that nobody wrote");
        map.insert(number % 3, number);
        Ok(())
    }
}

fn open_as(disk: &SimDisk, kind: FileKind, engine: Option<EngineId>, access: Access) -> Result<Option<(Opened, Map)>> {
    let mut map = Map::new();
    let opened = KeyedLog::open(Arc::new(disk.clone()), dir(), PREFIX, kind, engine, access, &mut into(&mut map))?;
    Ok(opened.map(|opened| (opened, map)))
}

fn open(disk: &SimDisk, access: Access) -> Result<Option<(Opened, Map)>> {
    open_as(disk, FileKind::Catalog, Some(ENGINE), access)
}

/// The map that opening gives, if nothing is cut.
fn map_of(disk: &SimDisk) -> Map {
    let (opened, map) = open(disk, Access::Read).unwrap().unwrap();
    assert_eq!(opened.cut, None);
    map
}

fn names(disk: &SimDisk) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    disk.list_files().iter().map(name).collect()
}

#[track_caller]
fn assert_corrupt(error: &Error, number: u64, position: u64) {
    assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
    assert_eq!(error.path(), Some(dir().join(names::file_name(PREFIX, number)).as_path()));
    assert_eq!(error.position(), Some(position), "{error}");
}

#[test]
fn what_was_appended_is_replayed_in_order() {
    let disk = new_disk();
    assert!(open(&disk, Access::Write).unwrap().is_none());
    let mut log = create(&disk).unwrap();
    for number in 2..=9 {
        append(&mut log, number).unwrap();
    }
    assert_eq!(map_of(&disk), after(9));
    let (opened, map) = open_as(&disk, FileKind::Catalog, None, Access::Write).unwrap().unwrap();
    assert_eq!((opened.cut, opened.log.engine_id(), opened.log.end.epoch), (None, ENGINE, 1));
    assert_eq!(map, after(9));
    assert_eq!(opened.log.bytes(), log.bytes());
    assert_eq!(
        create(&disk).unwrap_err().kind(),
        &ErrorKind::InvalidArgument { reason: "there is such a log already".into() }
    );
}

#[test]
fn a_rewritten_log_holds_what_it_was_given_and_goes_on() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    for number in 2..=50 {
        append(&mut log, number).unwrap();
    }
    let before = log.bytes();
    rewrite(&mut log, &after(50)).unwrap();
    assert!(log.bytes() < before);
    assert_eq!(names(&disk), ["catalog-2"]);
    append(&mut log, 51).unwrap();
    assert_eq!(map_of(&disk), after(51));
    let (mut opened, map) = open(&disk, Access::Write).unwrap().unwrap();
    assert_eq!(map, after(51));
    rewrite(&mut opened.log, &map).unwrap();
    assert_eq!((names(&disk), map_of(&disk)), (vec!["catalog-3".to_owned()], after(51)));
}

#[test]
fn offsets_and_epochs_go_on_over_a_rewrite() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    append(&mut log, 2).unwrap();
    log.set_epoch(7);
    log.set_epoch(4);
    append(&mut log, 3).unwrap();
    rewrite(&mut log, &after(3)).unwrap();
    append(&mut log, 4).unwrap();
    let mut seen = Vec::new();
    let mut replay = |header: &BatchHeader, _: &[u8]| {
        seen.push((header.base_offset, header.epoch));
        Ok(())
    };
    KeyedLog::open(Arc::new(disk.clone()), dir(), PREFIX, FileKind::Catalog, None, Access::Read, &mut replay).unwrap();
    assert_eq!(seen, [(3, 7), (4, 7), (5, 7), (6, 7)]);
}

#[test]
fn evidence_is_found_again_and_handed_on() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    append(&mut log, 2).unwrap();
    log.sync().unwrap();
    append(&mut log, 3).unwrap();
    append(&mut log, 4).unwrap();
    let log = open(&disk, Access::Write).unwrap().unwrap().0.log;
    assert_eq!(log.durable_offset, 2);
    // What nothing proves is owed a second write, and only that.
    let owed = [&body(3)[..], &body(4)].map(|body| (BATCH_HEADER_BYTES + body.len()) as u64);
    let tail = log.unproven.as_ref().unwrap();
    let start = log.bytes() - owed[0] - owed[1];
    let file = disk.read_file("data/catalog-1").unwrap();
    assert_eq!((tail.position, &tail.bytes[..]), (start, &file[start as usize..log.bytes() as usize]));
}

#[test]
fn what_a_file_was_made_with_is_proven_and_owed_nothing() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    assert!(!open(&disk, Access::Write).unwrap().unwrap().0.log.is_unproven());
    append(&mut log, 2).unwrap();
    assert!(open(&disk, Access::Write).unwrap().unwrap().0.log.is_unproven());
    rewrite(&mut log, &after(2)).unwrap();
    assert!(!open(&disk, Access::Write).unwrap().unwrap().0.log.is_unproven());
}

#[test]
fn a_rewritten_file_says_what_it_takes_the_place_of() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    append(&mut log, 2).unwrap();
    log.set_epoch(5);
    let (length, header) =
        (log.bytes(), |name| FileHeader::decode(&disk.read_file(dir().join(name)).unwrap()).unwrap());
    let old = header("catalog-1");
    rewrite(&mut log, &after(2)).unwrap();
    let new = header("catalog-2");
    assert_ne!(new.file_id, old.file_id);
    let expected = FileHeader {
        epoch: 5,
        file_id: new.file_id,
        base_offset: 2,
        created_ms: 30,
        log_start_offset: 2,
        durable_before: 4,
        previous: Previous {
            file_id: old.file_id,
            base_offset: 0,
            end_offset: 2,
            length,
            appended_ms: 20,
            max_timestamp: 20,
        },
        ..old
    };
    assert_eq!(new, expected);
}

#[test]
fn a_directory_that_is_not_there_holds_no_log() {
    for access in [Access::Read, Access::Write] {
        assert!(open(&SimDisk::new(), access).unwrap().is_none());
    }
}

#[test]
fn batches_that_can_not_be_are_refused() {
    let mut log = create(&new_disk()).unwrap();
    for (body, entries) in [(&[0_u8; 7][..], 1), (&[0; 8], 0)] {
        let error = log.append(body, entries, 1).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidArgument { .. }), "{error}");
    }
    append(&mut log, 2).unwrap();
}

#[test]
fn the_newest_file_wins_and_leftovers_go() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    append(&mut log, 2).unwrap();
    let old = disk.read_file("data/catalog-1").unwrap();
    rewrite(&mut log, &after(2)).unwrap();
    append(&mut log, 3).unwrap();
    disk.write_file("data/catalog-1", &old).unwrap();
    for name in ["catalog-3.tmp", "catalog-x", "catalog-04", "catalog-1.tmp.tmp"] {
        disk.write_file(dir().join(name), b"junk").unwrap();
    }
    assert_eq!(map_of(&disk), after(3));
    assert_eq!(disk.list_files().len(), 6, "a reader removed something");
    assert_eq!(open(&disk, Access::Write).unwrap().unwrap().1, after(3));
    assert_eq!(names(&disk), ["catalog-04", "catalog-1.tmp.tmp", "catalog-2", "catalog-x"]);
}

#[test]
fn leftovers_of_a_log_never_made_go() {
    let disk = new_disk();
    disk.write_file("data/catalog-1.tmp", b"junk").unwrap();
    assert!(open(&disk, Access::Read).unwrap().is_none());
    assert_eq!(names(&disk), ["catalog-1.tmp"]);
    assert!(open(&disk, Access::Write).unwrap().is_none());
    assert!(names(&disk).is_empty());
    disk.write_file("data/catalog-1.tmp", b"junk").unwrap();
    create(&disk).unwrap();
    assert_eq!((names(&disk), map_of(&disk)), (vec!["catalog-1".to_owned()], after(1)));
}

#[test]
fn a_directory_in_place_of_the_file_is_named() {
    for (name, access) in [("catalog-2", Access::Read), ("catalog-2", Access::Write), ("catalog-2.tmp", Access::Write)]
    {
        let disk = new_disk();
        create(&disk).unwrap();
        disk.write_file(dir().join(name).join("x"), b"").unwrap();
        let error = open(&disk, access).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Foreign { reason: "it is not a regular file".into() });
        assert_eq!(error.path(), Some(dir().join(name).as_path()));
    }
}

#[test]
fn a_cut_tail_is_told_once() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    append(&mut log, 2).unwrap();
    log.sync().unwrap();
    let end = log.bytes();
    drop(log);
    // Longer than the batch that takes its place.
    let mut bytes = disk.read_file("data/catalog-1").unwrap();
    bytes.truncate(end as usize);
    bytes.extend([0xa5; 9_000]);
    disk.write_file("data/catalog-1", bytes).unwrap();
    let (mut opened, _) = open(&disk, Access::Write).unwrap().unwrap();
    assert_eq!(opened.cut.map(|cut| (cut.position, cut.bytes)), Some((end, 9_000)));
    opened.log.set_epoch(9);
    append(&mut opened.log, 3).unwrap();
    opened.log.sync().unwrap();
    drop(opened.log);
    let (opened, map) = open(&disk, Access::Write).unwrap().unwrap();
    assert_eq!((opened.cut, map), (None, after(3)));
}
