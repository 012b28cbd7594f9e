//! The directory that was opened is the one that is written, whatever its name and the working directory become;
//! what was moved away or replaced below it is noticed before anything more is acknowledged.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use thalweg::{Engine, ErrorKind, Event, TopicConfig};

use crate::support::{engine, eventually, numbers, send};

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Rolls, makes a topic, commits: each step looks names up again.
fn live_on(engine: &Engine) {
    send(engine, "t", 10..400).unwrap();
    engine.create_topic("u", TopicConfig::default()).unwrap();
    send(engine, "u", 0..3).unwrap();
    let mut consumer = engine.consumer("g").subscribe(["t"]).start().unwrap();
    while consumer
        .poll(Duration::from_secs(10))
        .unwrap()
        .batches()
        .iter()
        .all(|batch| batch.iter().all(|record| record.offset() < 399))
    {}
    consumer.commit().unwrap();
}

fn check(dir: &Path) {
    let (engine, _) = engine(dir);
    assert_eq!(numbers(&engine, "t"), (0..400).collect::<Vec<_>>());
    assert_eq!(numbers(&engine, "u"), [0, 1, 2]);
    assert_eq!(engine.describe_group("g").unwrap().offsets[0].committed, Some(400));
    assert!(thalweg::inspect::verify(dir, &mut |_| {}).unwrap().is_sound());
}

/// The only test here that changes the working directory; all others name theirs absolutely.
#[test]
fn a_relative_directory_stays_the_same_when_the_working_directory_changes() {
    let base = tempfile::tempdir().unwrap();
    std::fs::create_dir(base.path().join("a")).unwrap();
    std::fs::create_dir(base.path().join("b")).unwrap();
    std::env::set_current_dir(base.path().join("a")).unwrap();
    let (engine, _) = engine(Path::new("data"));
    send(&engine, "t", 0..10).unwrap();
    std::env::set_current_dir(base.path().join("b")).unwrap();
    live_on(&engine);
    engine.close().unwrap();
    assert!(!base.path().join("b/data").exists());
    check(&base.path().join("a/data"));
}

#[test]
fn a_directory_that_is_renamed_goes_on_under_its_new_name() {
    let base = tempfile::tempdir().unwrap();
    let (old, new) = (base.path().join("old"), base.path().join("new"));
    let (engine, _) = engine(&old);
    send(&engine, "t", 0..10).unwrap();
    std::fs::rename(&old, &new).unwrap();
    live_on(&engine);
    assert!(!old.exists());
    assert!(matches!(Engine::open(&new).unwrap_err().kind(), ErrorKind::Locked { .. }));
    engine.close().unwrap();
    check(&new);
}

/// A copy that takes the name is another directory: neither engine sees what the other does.
#[test]
fn a_copy_under_the_old_name_is_another_directory() {
    let base = tempfile::tempdir().unwrap();
    let (name, moved) = (base.path().join("data"), base.path().join("moved"));
    let (first, _) = engine(&name);
    send(&first, "t", 0..10).unwrap();
    std::fs::rename(&name, &moved).unwrap();
    copy(&moved, &name);
    let (second, _) = engine(&name);
    send(&second, "t", 1_000..1_400).unwrap();
    live_on(&first);
    first.close().unwrap();
    assert_eq!(numbers(&second, "t"), (0..10).chain(1_000..1_400).collect::<Vec<_>>());
    second.close().unwrap();
    check(&moved);
}

/// `LOCK` may be removed or replaced: the lock is the directory's.
#[test]
fn d7_a_lock_file_that_is_removed_lets_no_second_writer_in() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = engine(dir.path());
    send(&first, "t", 0..3).unwrap();
    std::fs::remove_file(dir.path().join("LOCK")).unwrap();
    assert!(matches!(Engine::open(dir.path()).unwrap_err().kind(), ErrorKind::Locked { .. }));
    std::fs::write(dir.path().join("LOCK"), "somebody else's").unwrap();
    assert!(matches!(Engine::open(dir.path()).unwrap_err().kind(), ErrorKind::Locked { .. }));
    send(&first, "t", 3..6).unwrap();
    first.close().unwrap();
    assert_eq!(numbers(&engine(dir.path()).0, "t"), [0, 1, 2, 3, 4, 5]);
}

/// What is done to a partition's files below an open engine, and the part of the message that says so.
type Deed = (&'static str, fn(&Path));

/// D1: no record is acknowledged as *synced* once its file is no longer where the next opening looks for it.
#[test]
fn d1_a_partition_whose_file_was_moved_or_replaced_acknowledges_nothing_more() {
    let deeds: [Deed; 5] = [
        ("the segment is removed", |dir| std::fs::remove_file(segment(dir)).unwrap()),
        ("the segment is moved", |dir| std::fs::rename(segment(dir), dir.join("away")).unwrap()),
        ("a copy takes its place", |dir| {
            std::fs::copy(segment(dir), dir.join("copy")).unwrap();
            std::fs::rename(dir.join("copy"), segment(dir)).unwrap();
        }),
        ("the topic is moved", |dir| std::fs::rename(dir.join("topics/t"), dir.join("topics/v")).unwrap()),
        ("a copy of the topic takes its place", |dir| {
            std::fs::rename(dir.join("topics/t"), dir.join("away")).unwrap();
            copy(&dir.join("away"), &dir.join("topics/t"));
        }),
    ];
    for (what, deed) in deeds {
        let dir = tempfile::tempdir().unwrap();
        let (engine, events) = engine(dir.path());
        engine.create_topic("other", TopicConfig::default()).unwrap();
        send(&engine, "t", 0..10).unwrap();
        deed(dir.path());
        let error = send(&engine, "t", 10..11).expect_err(what);
        assert_eq!(error.kind(), &ErrorKind::Failed, "{what}: {error}");
        assert!(error.to_string().contains("moved, removed or replaced"), "{what}: {error}");
        assert!(engine.describe_topic("t").unwrap().partitions[0].failure.is_some(), "{what}");
        let failed = |event: &Event| matches!(event, Event::PartitionFailed { topic, .. } if topic == "t");
        assert!(events.lock().unwrap().iter().any(failed), "{what}");
        send(&engine, "other", 0..3).expect(what);
        let _ = engine.close();
    }
}

fn segment(dir: &Path) -> std::path::PathBuf {
    dir.join("topics/t/0/00000000000000000000.log")
}

/// The catalogue and the offset log likewise: what is made or committed after that is refused.
#[test]
fn d1_a_catalogue_or_offset_log_that_was_removed_acknowledges_nothing_more() {
    for file in ["catalog-1", "offsets-1"] {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _) = engine(dir.path());
        send(&engine, "t", 0..10).unwrap();
        let mut consumer = engine.consumer("g").subscribe(["t"]).start().unwrap();
        while consumer.poll(Duration::from_secs(10)).unwrap().is_empty() {}
        consumer.commit().unwrap();
        std::fs::rename(dir.path().join(file), dir.path().join("away")).unwrap();
        send(&engine, "t", 10..12).unwrap();
        let refused = match file {
            "catalog-1" => engine.create_topic("u", TopicConfig::default()),
            _ => {
                while consumer.poll(Duration::from_secs(10)).unwrap().is_empty() {}
                consumer.commit()
            }
        };
        let error = refused.expect_err(file);
        assert_eq!(error.kind(), &ErrorKind::Failed, "{file}: {error}");
        assert!(error.to_string().contains("moved, removed or replaced"), "{file}: {error}");
    }
}

#[test]
fn a_directory_that_is_removed_is_not_made_again() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("data");
    let (engine, _) = engine(&dir);
    send(&engine, "t", 0..10).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(send(&engine, "t", 10..400).unwrap_err().kind(), &ErrorKind::Failed);
    engine.create_topic("u", TopicConfig::default()).unwrap_err();
    let _ = engine.close();
    drop(engine);
    eventually("nothing is made under the old name", || !dir.exists());
}
