//! Goal: `verify` and opening never disagree about what stands under a name of ours that isn't what it should be: a link,
//! a directory, a pipe, a file.
//!
//! Method: each of these under each name of a directory that was closed, and nothing at all; `verify` first, then a
//! reader, then an engine that is opened, writes until it begins another segment, and is closed. Nothing waits at a pipe.
//! What lies outside stays as it is.

use std::os::unix::fs::symlink;
use std::path::Path;

use thalweg::inspect::{repair, verify};
use thalweg::{Engine, Record};

use crate::support::{below, send};

/// What may stand under a name.
const KINDS: [&str; 8] =
    ["nothing", "link", "dangling link", "link to a directory", "directory", "full directory", "pipe", "file"];

/// Names that are there after a close, and names that the engine may give or looks at.
const NAMES: [&str; 25] = [
    "LOCK",
    "evidence",
    "catalog-1",
    "catalog-2",
    "catalog-2.tmp",
    "offsets-1",
    "offsets-2",
    "offsets-2.tmp",
    "topics",
    "topics/t",
    "topics/t/0",
    "topics/t/1",
    "topics/t/0/next.tmp",
    "topics/t/0/prepared.tmp",
    "topics/t/0/00000000000000000000.log",
    "topics/t/0/00000000000000000000.index",
    "topics/t/0/00000000000000000003.log",
    "topics/t/0/00000000000000000003.index",
    "topics/t/0/00000000000000000005.log",
    "topics/t/0/00000000000000000005.index",
    "topics/t/0/00000000000000000006.log",
    "topics/t/0/00000000000000000006.index",
    "topics/t/0/set-aside",
    "topics/.deleted-9",
    "set-aside",
];

fn closed(dir: &Path) {
    let (engine, _) = crate::support::engine(dir);
    send(&engine, "t", 0..3).unwrap();
    commit(&engine).unwrap();
    engine.close().unwrap();
}

fn commit(engine: &Engine) -> thalweg::Result<()> {
    let mut consumer = engine.consumer("g").subscribe(["t"]).start()?;
    consumer.poll(std::time::Duration::ZERO)?;
    consumer.commit()
}

/// A copy of a directory without links.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn put(kind: &str, path: &Path, outside: &Path) {
    let _ = std::fs::remove_file(path).or_else(|_| std::fs::remove_dir_all(path));
    match kind {
        "nothing" => {}
        "link" => symlink(outside.join("file"), path).unwrap(),
        "dangling link" => symlink(outside.join("nothing"), path).unwrap(),
        "link to a directory" => symlink(outside, path).unwrap(),
        "directory" => std::fs::create_dir(path).unwrap(),
        "full directory" => {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("letter.txt"), "dear").unwrap();
        }
        "pipe" => rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap(),
        _ => std::fs::write(path, "a letter").unwrap(),
    }
}

/// What goes wrong with an engine there, if something does.
fn live_on(dir: &Path) -> Result<(), String> {
    let reader = Engine::builder(dir).read_only().open().map_err(|error| format!("open read-only: {error}"))?;
    drop(reader);
    let engine = Engine::open(dir).map_err(|error| format!("open: {error}"))?;
    let lived = || -> thalweg::Result<()> {
        for partition in engine.describe_topic("t")?.partitions {
            partition.failure.map_or(Ok(()), Err)?;
        }
        let log = engine.partition("t", 0)?;
        for _ in 0..6 {
            let _ = log.append(&Record::new(&[b'x'; 20_000]))?;
        }
        engine.sync()?;
        commit(&engine)
    };
    let lived = lived().map_err(|error| format!("write: {error}"));
    lived.and(engine.close().map_err(|error| format!("close: {error}")))
}

/// Nobody may move it: there is no lock to hold meanwhile.
#[test]
fn repair_leaves_what_stands_in_the_place_of_the_lock_and_says_so() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("data");
    closed(&dir);
    put("directory", &dir.join("LOCK"), base.path());
    let before = below(&dir);
    let shown = repair(&dir, true, &mut |_| {}).unwrap();
    assert_eq!((shown.steps.len(), shown.impossible.len()), (0, 1), "{shown:?}");
    assert_eq!(shown.impossible[0].path, dir.join("LOCK"));
    let error = repair(&dir, false, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("LOCK") && error.to_string().contains("move it away"), "{error}");
    assert_eq!(below(&dir), before);
    std::fs::remove_dir(dir.join("LOCK")).unwrap();
    assert!(verify(&dir, &mut |_| {}).unwrap().is_sound());
    live_on(&dir).unwrap();
}

#[test]
fn a_reader_does_without_the_notes_of_what_is_durable() {
    let base = tempfile::tempdir().unwrap();
    for kind in ["link", "directory", "pipe"] {
        let case = tempfile::tempdir_in(base.path()).unwrap();
        let dir = case.path().join("data");
        closed(&dir);
        put(kind, &dir.join("evidence"), base.path());
        let reader = Engine::builder(&dir).read_only().open().unwrap();
        assert!(reader.partition("t", 0).unwrap().get(0).is_ok(), "{kind}");
        assert!(Engine::open(&dir).unwrap_err().to_string().contains("evidence"), "{kind}");
    }
}

/// Only what the engine made is replaced: a segment gets a name that nobody has.
#[test]
fn a_roll_moves_what_has_the_name_of_the_next_segment() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path()).unwrap();
    engine.create_topic("t", thalweg::TopicConfig::default().segment_bytes(64 << 10)).unwrap();
    let log = engine.partition("t", 0).unwrap();
    let partition = dir.path().join("topics/t/0");
    let append = || log.append(&Record::new(&[b'x'; 40_000])).and_then(|receipt| receipt.wait()).unwrap();
    append();
    std::fs::write(partition.join("00000000000000000001.log"), "dear").unwrap();
    append();
    std::fs::create_dir(partition.join("00000000000000000002.log")).unwrap();
    std::fs::write(partition.join("00000000000000000002.log/letter"), "dear").unwrap();
    append();
    symlink("elsewhere", partition.join("00000000000000000003.log")).unwrap();
    append();
    engine.sync().unwrap();
    engine.close().unwrap();
    let aside = partition.join("set-aside");
    let name = |number: u32| aside.join(format!("{number:020}.log.{:016x}", 0));
    assert_eq!(std::fs::read_to_string(name(1)).unwrap(), "dear");
    assert_eq!(std::fs::read_to_string(name(2).join("letter")).unwrap(), "dear");
    assert_eq!(std::fs::read_link(name(3)).unwrap(), Path::new("elsewhere"));
    let engine = Engine::open(dir.path()).unwrap();
    assert_eq!(
        engine.partition("t", 0).unwrap().read(..).unwrap().map(|batch| batch.unwrap().iter().count()).sum::<usize>(),
        4
    );
}

#[test]
fn verify_says_what_an_engine_will_meet() {
    let base = tempfile::tempdir().unwrap();
    let outside = base.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "dear").unwrap();
    let before = below(&outside);
    closed(&base.path().join("closed"));
    let mut wrong = Vec::new();
    for name in NAMES {
        for kind in KINDS {
            let case = tempfile::tempdir_in(base.path()).unwrap();
            let dir = case.path().join("data");
            copy(&base.path().join("closed"), &dir);
            put(kind, &dir.join(name), &outside);
            let verified = verify(&dir, &mut |_| {}).map(|found| found.damage.first().map(ToString::to_string));
            let said = verified.unwrap_or_else(|error| Some(error.to_string()));
            let met = live_on(&dir).err();
            // Derived or left over: an engine does without, or writes anew.
            let does_without = name.ends_with(".index") || name.ends_with(".tmp");
            if said.is_some() != met.is_some() && (met.is_some() || !does_without) {
                wrong.push(format!("{name} as {kind}:\n  verify: {said:?}\n  engine: {met:?}"));
            }
            assert_eq!(below(&outside), before, "{name} as {kind}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
