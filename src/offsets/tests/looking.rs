//! `verify` and `dump` on an offset log: what opening would refuse is damage, and entries are shown
//! as people read them.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::*;
use crate::format::{OffsetEntry, OffsetEntryKind};
use crate::inspect::{DumpOptions, Dumped, Verification, dump, verify};
use crate::offsets::state::blank;
use crate::{Engine, TopicConfig};

/// A data directory on the real disk with an offset log in it.
struct Directory {
    _root: tempfile::TempDir,
    path: PathBuf,
}

impl Directory {
    fn new() -> Directory {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let engine = Engine::builder(&path).pin_writers(false).open().unwrap();
        engine.create_topic("t", TopicConfig::default().partitions(2)).unwrap();
        engine.reset_group("a", "t", crate::ResetTo::Earliest, false).unwrap();
        engine.reset_group("b", "t", crate::ResetTo::Earliest, false).unwrap();
        engine.delete_group("b").unwrap();
        engine.close().unwrap();
        Directory { _root: root, path }
    }

    fn file(&self) -> PathBuf {
        self.path.join("offsets-1")
    }

    fn verify(&self) -> Verification {
        verify(&self.path, &mut |_| {}).unwrap()
    }

    fn open(&self) -> Offsets {
        let bytes = std::fs::read(self.file()).unwrap();
        let engine_id = crate::format::FileHeader::decode(&bytes).unwrap().log.engine_id;
        let disk = crate::disk::RealDisk::new(crate::SyncMode::Threads, 1).unwrap();
        Offsets::open(Arc::new(disk), &self.path, engine_id, 50, Access::Write, 0).unwrap().0
    }

    /// Appends a batch that nothing here would write.
    fn append(&self, entries: &[OffsetEntry<'_>]) -> u64 {
        let offsets = self.open();
        let position = length(&offsets);
        let mut body = Vec::new();
        let count = entries.iter().map(|entry| entry.encode(&mut body)).sum();
        let super::log::LogFile::Open(log) = &mut lock(&offsets.log).file else { panic!("no file") };
        log.append(&body, count, 5).unwrap();
        log.sync().unwrap();
        position
    }
}

#[test]
fn verify_finds_what_opening_would() {
    let directory = Directory::new();
    assert_eq!(directory.verify().damage, []);
    for entry in [
        blank(OffsetEntryKind::GroupEmpty, 77),
        OffsetEntry { offset: 1 << 63, ..blank(OffsetEntryKind::GroupEmpty, 1) },
        OffsetEntry { payload: b"again", ..blank(OffsetEntryKind::Group, 1) },
        OffsetEntry { payload: &[1, 0, 9, 0, 0, 0, 0, 0], ..blank(OffsetEntryKind::GroupState, 1) },
        OffsetEntry { more: true, ..blank(OffsetEntryKind::Commit, 1) },
    ] {
        let directory = Directory::new();
        let position = directory.append(&[entry, entry]);
        let damage = directory.verify().damage;
        assert_eq!(damage.len(), 1, "{entry:?}: {damage:?}");
        assert_eq!((&damage[0].path, damage[0].position), (&directory.file(), Some(position)), "{entry:?}");
        assert!(directory.open().damage().is_some());
    }
}

#[test]
fn verify_names_the_place_of_a_flipped_bit() {
    let directory = Directory::new();
    let whole = std::fs::read(directory.file()).unwrap();
    for at in (0..512).step_by(37).chain((4_096..4_300).step_by(11)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 8;
        std::fs::write(directory.file(), &bytes).unwrap();
        let damage = directory.verify().damage;
        assert!(!damage.is_empty() && damage.iter().all(|damage| damage.path == directory.file()), "byte {at}");
    }
    std::fs::write(directory.file(), &whole).unwrap();
    assert_eq!(directory.verify().damage, []);
}

#[test]
fn dump_shows_names_members_and_times() {
    let directory = Directory::new();
    let offsets = directory.open();
    offsets.put_state("a", 4, &snapshot(2), 70).unwrap();
    offsets.put_empty("a", 4, 80).unwrap();
    offsets.put_state("a", 5, &snapshot(3_000), 90).unwrap();
    drop(offsets);
    let mut shown = Vec::new();
    let mut pieces = 0;
    dump(directory.file(), DumpOptions::default().contents(true), &mut |dumped| {
        if let Dumped::Offset(entry) = dumped {
            pieces += u64::from(entry.more);
            shown.extend(entry.meaning.map(|meaning| (entry.kind, meaning)));
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(pieces > 0);
    let last = shown.pop().unwrap();
    assert!(last.0 == "group state" && last.1.starts_with("at 90, assignor \"sticky\", 3000 members; \"member-0\" "));
    let state = "at 70, assignor \"sticky\", 2 members; \"member-0\" reads topics [1], holds [1/0], awaits []; \
                 \"member-1\" reads topics [1], holds [1/1], awaits []";
    let expected = [
        ("group", "is called \"a\""),
        ("group", "is called \"b\""),
        ("delete", "the whole group"),
        ("group state", state),
        ("group empty", "since 80"),
    ];
    assert_eq!(shown, expected.map(|(kind, meaning)| (kind, meaning.to_owned())));
}
