//! What deleting a topic removes: its own files and nothing else, however its directory looks. What lies outside is
//! compared before and after.

use std::os::unix::fs::symlink;

use thalweg::{Engine, TopicConfig};

use crate::support::{below, engine, eventually, ignored, numbers, send};

/// A directory with a letter in it, and in one below.
fn outside() -> tempfile::TempDir {
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(outside.path().join("0/deep")).unwrap();
    for file in ["letter.txt", "0/letter.txt", "0/00000000000000000000.log", "0/next.tmp", "0/deep/photo.jpg"] {
        std::fs::write(outside.path().join(file), "dear").unwrap();
    }
    outside
}

#[test]
fn a_link_in_the_place_of_a_topic_goes_and_what_it_leads_to_stays() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), outside());
    let before = below(outside.path());
    let (first, _) = engine(dir.path());
    first.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("topics/t")).unwrap();
    symlink(outside.path(), dir.path().join("topics/t")).unwrap();
    let engine = Engine::open(dir.path()).unwrap();
    let failure = engine.describe_topic("t").unwrap().partitions[0].failure.clone().expect("it is not followed");
    assert!(failure.to_string().contains("symbolic link"), "{failure}");
    send(&engine, "t", 0..1).unwrap_err();
    engine.delete_topic("t").unwrap();
    engine.close().unwrap();
    Engine::open(dir.path()).unwrap().close().unwrap();
    assert_eq!(below(outside.path()), before);
    assert_eq!(std::fs::read_dir(dir.path().join("topics")).unwrap().count(), 0);
}

/// Links at every name below a topic's directory.
#[test]
fn links_below_a_topic_are_never_followed() {
    for link in ["topics/t/0", "topics/t/0/set-aside", "topics/t/1", "topics/t/0/next.tmp", "topics/t/0/linked"] {
        let (dir, outside) = (tempfile::tempdir().unwrap(), outside());
        let before = below(outside.path());
        engine(dir.path()).0.close().unwrap();
        let path = dir.path().join(link);
        let _ = std::fs::remove_dir_all(&path);
        symlink(outside.path(), &path).unwrap();
        let (engine, _) = engine(dir.path());
        engine.create_topic("other", TopicConfig::default()).expect(link);
        send(&engine, "other", 0..3).expect(link);
        engine.delete_topic("t").expect(link);
        engine.close().unwrap();
        Engine::open(dir.path()).unwrap().close().unwrap();
        let _ = thalweg::inspect::repair(dir.path(), false, &mut |_| {}).unwrap();
        assert_eq!(below(outside.path()), before, "{link}");
    }
}

#[test]
fn strangers_in_a_topics_directory_stay_and_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, events) = engine(dir.path());
    send(&engine, "t", 0..400).unwrap();
    let strangers = ["notes.txt", "0/letter.txt", "0/photos/cat.jpg", "00/00000000000000000000.log", "0/7.log"];
    for name in strangers {
        let path = dir.path().join("topics/t").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "mine").unwrap();
    }
    engine.delete_topic("t").unwrap();
    let id_dir = |name: &str| dir.path().join("topics/.deleted-1").join(name);
    eventually("its own files are gone", || !id_dir("0/00000000000000000000.log").exists());
    engine.close().unwrap();
    for name in strangers {
        assert_eq!(std::fs::read(id_dir(name)).unwrap(), b"mine", "{name}");
    }
    assert_eq!(below(&id_dir("")).len(), strangers.len() + 3, "{:?}", below(&id_dir("")).keys());
    let told = ignored(&events);
    for name in ["notes.txt", "0/letter.txt", "0/photos", "00", "0/7.log"] {
        assert!(told.contains(&id_dir(name)), "{name}: {told:?}");
    }
    // Opening it again, and the name, are no trouble.
    let (again, _) = crate::support::engine(dir.path());
    send(&again, "t", 0..3).unwrap();
    assert_eq!(numbers(&again, "t"), [0, 1, 2]);
    assert!(id_dir("notes.txt").exists());
}

/// No topic of this id was ever deleted here: the directory is somebody's own.
#[test]
fn a_directory_that_only_looks_like_a_deleted_topics_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    engine(dir.path()).0.close().unwrap();
    for name in [".deleted-99", ".deleted-1", ".deleted-", ".deleted-x"] {
        let path = dir.path().join("topics").join(name).join("0");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("00000000000000000000.log"), "mine").unwrap();
    }
    let before = below(&dir.path().join("topics"));
    let (engine, events) = engine(dir.path());
    engine.close().unwrap();
    assert_eq!(below(&dir.path().join("topics")), before);
    assert_eq!(ignored(&events).len(), 4);
}

/// A segment of another topic, or of another directory, that was put into a deleted topic's directory.
#[test]
fn a_segment_of_another_log_is_not_removed_with_a_topic() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (theirs, _) = engine(other.path());
    send(&theirs, "t", 0..3).unwrap();
    theirs.close().unwrap();
    engine(dir.path()).0.close().unwrap();
    let foreign = dir.path().join("topics/t/0/00000000000000000000.log");
    std::fs::copy(other.path().join("topics/t/0/00000000000000000000.log"), &foreign).unwrap();
    let (engine, _) = engine(dir.path());
    engine.delete_topic("t").unwrap();
    engine.close().unwrap();
    assert!(dir.path().join("topics/.deleted-1/0/00000000000000000000.log").exists());
}
