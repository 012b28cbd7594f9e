//! Files that are missing, swapped, of another log, of a newer version, or no files at all.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use thalweg::inspect::verify;
use thalweg::{Engine, ErrorKind, Record, Result};

use crate::support::{
    BLOCK_BYTES, HEADER_BYTES, Sample, TOPIC, builder, check, copy_tree, files, partition_dir, read_all, segment,
};

/// What appending to a partition is refused with.
fn append_error(engine: &Engine, partition: u32) -> ErrorKind {
    let partition = engine.partition(TOPIC, partition).unwrap();
    let result = partition.append(&Record::new("x")).and_then(|receipt| receipt.wait());
    result.unwrap_err().kind().clone()
}

fn open(dir: &Path) -> Result<Engine> {
    builder(dir).open()
}

/// Changes a file's header and makes its checksum right again.
fn patch_header(path: &Path, change: impl FnOnce(&mut [u8])) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut header = [0; HEADER_BYTES as usize];
    file.read_exact_at(&mut header, 0).unwrap();
    change(&mut header);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..12]);
    hasher.update(&header[16..]);
    let checksum = hasher.finalize();
    header[12..16].copy_from_slice(&checksum.to_le_bytes());
    file.write_all_at(&header, 0).unwrap();
}

/// One partition can't be used, for this reason; the others can.
fn assert_only_partition_0_is_refused(sample: &Sample, what: &str, is_kind: impl Fn(&ErrorKind) -> bool) {
    let dir = sample.dir();
    let before: Vec<_> = files(&partition_dir(&dir, 0)).into_iter().map(|path| fs::read(path).ok()).collect();
    let back = read_all(&dir);
    back.assert_nothing_wrong(&sample.contents, what);
    assert!(back.errors.iter().any(|error| is_kind(error.kind())), "{what}: {:?}", back.errors);
    assert_eq!(back.prefix(1), 3, "{what}");
    let engine = open(&dir).unwrap();
    let damage = engine.recovery().partitions;
    assert_eq!(damage.len(), 1, "{what}: {damage:?}");
    assert_eq!(damage[0].partition, 0, "{what}");
    assert!(is_kind(damage[0].damage.as_ref().unwrap().kind()), "{what}: {damage:?}");
    let refused = append_error(&engine, 0);
    assert!(is_kind(&refused), "{what}: {refused:?}");
    let receipt = engine.partition(TOPIC, 1).unwrap().append(&Record::new("goes on")).unwrap();
    assert_eq!(receipt.wait().unwrap().offset, 3, "{what}");
    // Closing tells of the damage too.
    assert!(is_kind(engine.close().unwrap_err().kind()), "{what}");
    let after: Vec<_> = files(&partition_dir(&dir, 0)).into_iter().map(|path| fs::read(path).ok()).collect();
    assert!(before == after, "{what}: files of the damaged partition were changed");
}

fn is_corrupt(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Corrupt { .. })
}

fn is_foreign(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Foreign { .. })
}

fn is_newer(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::NewerFormat { .. })
}

#[test]
fn a_segment_that_is_missing() {
    for (base_offset, lost) in [(0, 0..5), (5, 5..29), (29, 29..32)] {
        let sample = Sample::closed();
        let file = segment(&sample.dir(), 0, base_offset);
        fs::remove_file(&file).unwrap();
        let what = format!("without the segment of offset {base_offset}");
        let found = check(&sample.dir());
        assert_eq!(found.damage.len(), 1, "{what}: {:#?}", found.damage);
        let damage = &found.damage[0];
        assert_eq!((damage.topic.as_deref(), damage.partition), (Some(TOPIC), Some(0)), "{what}");
        assert_eq!(damage.offsets, Some(lost), "{what}: {damage}");
        assert_only_partition_0_is_refused(&sample, &what, is_corrupt);
    }
}

#[test]
fn two_segments_in_the_middle_that_are_missing_leave_the_others_readable() {
    let mut sample = Sample::new();
    let engine = sample.open();
    engine.create_topic(TOPIC, crate::support::topic_config()).unwrap();
    for _ in 0..6 {
        sample.append(&engine, 0, 2, 20);
        sample.roll();
    }
    engine.close().unwrap();
    for base_offset in [2, 6] {
        fs::remove_file(segment(&sample.dir(), 0, base_offset)).unwrap();
    }
    let found = check(&sample.dir());
    let lost: Vec<_> = found.damage.iter().filter_map(|damage| damage.offsets.clone()).collect();
    assert_eq!(lost, [2..4, 6..8]);
    let engine = builder(&sample.dir()).read_only().open().unwrap();
    let partition = engine.partition(TOPIC, 0).unwrap();
    for offset in 0..12 {
        let got = partition.get(offset);
        if lost.iter().any(|lost| lost.contains(&offset)) {
            let error = got.unwrap_err();
            assert!(is_corrupt(error.kind()), "offset {offset}: {error}");
        } else {
            let value = sample.contents[&0][offset as usize].value.as_deref();
            assert_eq!(got.unwrap().view().value(), value, "offset {offset}");
        }
    }
}

#[test]
fn segments_that_changed_places() {
    let sample = Sample::closed();
    let (first, second) = (segment(&sample.dir(), 0, 0), segment(&sample.dir(), 0, 5));
    let aside = first.with_extension("aside");
    fs::rename(&first, &aside).unwrap();
    fs::rename(&second, &first).unwrap();
    fs::rename(&aside, &second).unwrap();
    let found = check(&sample.dir());
    for file in [&first, &second] {
        assert!(found.damage.iter().any(|damage| damage.path == *file), "{:#?}", found.damage);
    }
    assert_only_partition_0_is_refused(&sample, "swapped", is_foreign);
}

#[test]
fn a_segment_of_another_partition_topic_or_engine() {
    let other = Sample::closed();
    type From = fn(&Sample, &Sample) -> PathBuf;
    let cases: [(&str, From, u64); 4] = [
        ("of another partition, in place of the first", |own, _| segment(&own.dir(), 1, 0), 0),
        ("of another partition, behind the last", |own, _| segment(&own.dir(), 1, 0), 40),
        ("of another engine", |_, other| segment(&other.dir(), 0, 5), 5),
        ("of the same partition, under another name", |own, _| segment(&own.dir(), 0, 0), 2),
    ];
    for (what, from, base_offset) in cases {
        let sample = Sample::closed();
        let to = segment(&sample.dir(), 0, base_offset);
        fs::copy(from(&sample, &other), &to).unwrap();
        let found = check(&sample.dir());
        assert!(found.damage.iter().any(|damage| damage.path == to), "{what}: {:#?}", found.damage);
        assert_only_partition_0_is_refused(&sample, what, is_foreign);
    }
}

#[test]
fn a_newer_version_or_a_reserved_bit() {
    type Change = fn(&mut [u8]);
    let changes: [(&str, Change); 4] = [
        ("version 2", |header| header[8] = 2),
        ("a file kind to come", |header| header[16] = 9),
        ("a flag", |header| header[18] = 1),
        ("a reserved byte", |header| header[511] = 1),
    ];
    for (what, change) in changes {
        for base_offset in [0, 5, 29] {
            let sample = Sample::closed();
            let file = segment(&sample.dir(), 0, base_offset);
            patch_header(&file, change);
            let found = check(&sample.dir());
            let damage = found.damage.iter().find(|damage| damage.path == file);
            let damage = damage.unwrap_or_else(|| panic!("{what}: {:#?}", found.damage));
            assert!(damage.reason.contains("newer"), "{what}: {damage}");
            assert_only_partition_0_is_refused(&sample, what, is_newer);
        }
        let sample = Sample::closed();
        let file = sample.dir().join("catalog-1");
        let before = fs::read(&file).unwrap();
        patch_header(&file, change);
        for refused in [open(&sample.dir()), builder(&sample.dir()).read_only().open()] {
            let error = refused.unwrap_err();
            assert!(is_newer(error.kind()), "{what}: {error:?}");
            assert_eq!(error.path(), Some(file.as_path()), "{what}");
        }
        assert_eq!(check(&sample.dir()).damage[0].path, file, "{what}");
        assert_eq!(fs::read(&file).unwrap()[HEADER_BYTES as usize..], before[HEADER_BYTES as usize..], "{what}");
    }
}

#[test]
fn a_newer_batch() {
    let sample = Sample::closed();
    let file = segment(&sample.dir(), 0, 29);
    let bytes = fs::read(&file).unwrap();
    // A reserved attribute, with the checksum that belongs to it: seeded by the file's identity.
    let mut seed = crc32fast::Hasher::new();
    for field in [32..48, 24..28, 20..24, 48..56, 144..148] {
        seed.update(&bytes[field]);
    }
    let mut batch = bytes[BLOCK_BYTES as usize..][..96].to_vec();
    batch[79] |= 0x80;
    let mut hasher = crc32fast::Hasher::new_with_initial(seed.finalize());
    hasher.update(&BLOCK_BYTES.to_le_bytes());
    hasher.update(&batch[8..]);
    let checksum = hasher.finalize();
    batch[4..8].copy_from_slice(&checksum.to_le_bytes());
    let writer = fs::OpenOptions::new().write(true).open(&file).unwrap();
    writer.write_all_at(&batch, BLOCK_BYTES).unwrap();
    let found = check(&sample.dir());
    assert_eq!(found.damage.len(), 1, "{:#?}", found.damage);
    assert!(found.damage[0].reason.contains("newer format"), "{}", found.damage[0]);
    let back = read_all(&sample.dir());
    assert!(back.errors.iter().all(|error| is_newer(error.kind())), "{:?}", back.errors);
    assert!(!back.errors.is_empty());
    back.assert_nothing_wrong(&sample.contents, "newer batch");
}

#[test]
fn a_wrong_index_never_misleads() {
    let sample = Sample::closed();
    let index = segment(&sample.dir(), 0, 5).with_extension("index");
    let other = segment(&sample.dir(), 0, 0).with_extension("index");
    let whole = fs::read(&index).unwrap();
    let read = |what: &str| {
        let engine = builder(&sample.dir()).read_only().open().unwrap();
        let partition = engine.partition(TOPIC, 0).unwrap();
        for (offset, sent) in sample.contents[&0].iter().enumerate() {
            let record = partition.get(offset as u64).unwrap();
            assert_eq!(record.view().value(), sent.value.as_deref(), "{what}, offset {offset}");
            let found = partition.offset_for_timestamp(sent.timestamp).unwrap();
            assert_eq!(found, Some(offset as u64), "{what}, offset {offset}");
        }
    };
    for length in (0..whole.len()).step_by(151).chain(4_096..whole.len()) {
        fs::write(&index, &whole[..length]).unwrap();
        read(&format!("cut to {length}"));
        // It never was synced: one that ends early is what a crash may leave.
        assert!(check(&sample.dir()).is_sound(), "cut to {length}");
    }
    for at in (0..512).step_by(97).chain(4_096..whole.len()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&index, &bytes).unwrap();
        read(&format!("byte {at} flipped"));
        let found = check(&sample.dir());
        assert_eq!(found.damage.len(), 1, "byte {at}: {:#?}", found.damage);
        assert_eq!(found.damage[0].path, index, "byte {at}");
        assert!(found.damage[0].reason.ends_with("it is rebuilt when it is used"), "{}", found.damage[0]);
    }
    fs::copy(&other, &index).unwrap();
    read("another segment's");
    assert_eq!(check(&sample.dir()).ignored, std::slice::from_ref(&index));
    fs::remove_file(&index).unwrap();
    read("missing");
    assert!(check(&sample.dir()).is_sound());
}

#[test]
fn an_index_entry_that_lies_with_a_right_checksum_is_seen() {
    let sample = Sample::closed();
    let index = segment(&sample.dir(), 0, 5).with_extension("index");
    let whole = fs::read(&index).unwrap();
    // Its position, its offset, its timestamp.
    for (at, add) in [(4_100, 8), (4_096, 1), (4_104, 1)] {
        let mut bytes = whole.clone();
        bytes[at] = bytes[at].wrapping_add(add);
        let mut seed = crc32fast::Hasher::new();
        for field in [32..48, 24..28, 20..24, 48..56, 144..148] {
            seed.update(&bytes[field]);
        }
        let mut hasher = crc32fast::Hasher::new_with_initial(seed.finalize());
        hasher.update(&bytes[4_096..4_112]);
        let checksum = hasher.finalize();
        bytes[4_112..4_116].copy_from_slice(&checksum.to_le_bytes());
        fs::write(&index, &bytes).unwrap();
        let found = check(&sample.dir());
        assert_eq!(found.damage.len(), 1, "byte {at}: {:#?}", found.damage);
        assert_eq!((&found.damage[0].path, found.damage[0].position), (&index, Some(4_096)), "byte {at}");
    }
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_opened() {
    type Make = fn(&Path, &Path);
    let kinds: [(&str, Make); 3] = [
        ("a pipe", |path, _| make_fifo(path)),
        ("a link", |path, aside| std::os::unix::fs::symlink(aside, path).unwrap()),
        ("a directory", |path, _| fs::create_dir(path).unwrap()),
    ];
    for (what, make) in kinds {
        for base_offset in [0, 5, 29, 40] {
            let sample = Sample::closed();
            let file = segment(&sample.dir(), 0, base_offset);
            let aside = sample.root.path().join("aside");
            if file.exists() {
                fs::rename(&file, &aside).unwrap();
            }
            make(&file, &aside);
            let found = check(&sample.dir());
            assert!(found.damage.iter().any(|damage| damage.path == file), "{what}: {:#?}", found.damage);
            if what != "a directory" {
                assert_only_partition_0_is_refused(&sample, what, is_foreign);
            }
        }
        // In place of the catalogue.
        let sample = Sample::closed();
        let file = sample.dir().join("catalog-1");
        let aside = sample.root.path().join("aside");
        fs::rename(&file, &aside).unwrap();
        make(&file, &aside);
        for refused in [open(&sample.dir()), builder(&sample.dir()).read_only().open()] {
            let error = refused.unwrap_err();
            assert!(is_foreign(error.kind()), "{what}: {error:?}");
            assert_eq!(error.path(), Some(file.as_path()), "{what}");
        }
        assert_eq!(check(&sample.dir()).damage[0].path, file, "{what}");
        // In place of an index: reading does without.
        let sample = Sample::closed();
        let file = segment(&sample.dir(), 0, 5).with_extension("index");
        fs::rename(&file, &aside).unwrap();
        make(&file, &aside);
        let back = read_all(&sample.dir());
        back.assert_true_or_refused(&sample.contents, what);
        assert!(back.errors.is_empty(), "{what}: {:?}", back.errors);
        assert_eq!(check(&sample.dir()).damage[0].path, file, "{what}");
    }
}

#[test]
fn other_files_are_left_alone_and_named() {
    let sample = Sample::closed();
    let names = ["notes.txt", "topics/readme", "topics/quotes/7", "topics/quotes/0/00000000000000000005.log.bak"];
    let mut expected: Vec<_> = names.iter().map(|name| sample.dir().join(name)).collect();
    expected.sort();
    for path in &expected {
        fs::write(path, "mine").unwrap();
    }
    let mut found = check(&sample.dir());
    assert!(found.is_sound(), "{:#?}", found.damage);
    found.ignored.sort();
    assert_eq!(found.ignored, expected);
    open(&sample.dir()).unwrap().close().unwrap();
    assert!(expected.iter().all(|path| fs::read(path).unwrap() == b"mine"));
}

#[test]
fn directories_that_are_not_ours() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    let other = root.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes.txt"), "x").unwrap();
    let empty = root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (path, expected) in [
        (root.path().join("missing"), "the directory does not exist"),
        (file.clone(), "it is a file, not a directory"),
        (other.clone(), "it has no catalogue"),
        (empty, "it has no catalogue"),
    ] {
        let error = verify(&path, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::NotThalweg { reason: expected.to_owned() });
        assert_eq!(error.path(), Some(path.as_path()));
    }
    for path in [file, other] {
        let error = open(&path).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NotThalweg { .. }), "{error:?}");
    }
}

#[test]
fn topics_without_their_catalogue() {
    let sample = Sample::closed();
    fs::remove_file(sample.dir().join("catalog-1")).unwrap();
    let found = check(&sample.dir());
    assert_eq!(found.damage.len(), 1, "{:#?}", found.damage);
    assert_eq!(found.damage[0].path, sample.dir());
    // What the files say by themselves is checked all the same.
    assert_eq!((found.topics, found.records), (1, 35));
    for refused in [open(&sample.dir()), builder(&sample.dir()).read_only().open()] {
        assert!(is_corrupt(refused.unwrap_err().kind()));
    }
}

#[test]
fn a_directory_put_together_from_different_instants() {
    // The partition's files are newer than the catalogue: what they prove stands.
    let mut sample = Sample::closed();
    let old = sample.copy_to("old");
    let engine = sample.open();
    sample.append(&engine, 0, 2, 30);
    engine.close().unwrap();
    let mixed = sample.root.path().join("mixed");
    copy_tree(&sample.dir(), &mixed);
    fs::copy(old.join("catalog-1"), mixed.join("catalog-1")).unwrap();
    let found = check(&mixed);
    let missing = found.damage.iter().any(|damage| damage.reason.contains("missing from the catalogue"));
    assert!(missing, "{:#?}", found.damage);
    // `LOCK` says where the catalogue ended: it is refused, and stays so.
    for refused in [open(&mixed), builder(&mixed).read_only().open(), open(&mixed)] {
        let error = refused.unwrap_err();
        assert!(is_corrupt(error.kind()), "{error:?}");
        assert_eq!(error.path(), Some(mixed.join("catalog-1").as_path()));
    }
    // With a `LOCK` of the catalogue's own time what is there is read, and the partition said to be damaged.
    fs::copy(old.join("LOCK"), mixed.join("LOCK")).unwrap();
    let back = read_all(&mixed);
    back.assert_true_or_refused(&sample.contents, "mixed");
    assert_eq!(back.prefix(0), 34);
    assert!(!back.errors.is_empty() && back.errors.iter().all(|error| is_corrupt(error.kind())), "{:?}", back.errors);
    // Nothing can be appended that would not fit behind what is there: until a repair it isn't opened for writing.
    for refused in [open(&mixed), open(&mixed)] {
        let error = refused.unwrap_err();
        assert!(is_corrupt(error.kind()), "{error:?}");
    }
}
