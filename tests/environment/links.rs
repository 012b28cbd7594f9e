//! A topic's directory that was moved elsewhere and linked: refused, said by all who look, and never lost.

use std::os::unix::fs::symlink;
use std::path::Path;

use thalweg::Engine;
use thalweg::inspect::{repair, verify};

use crate::support::{below, numbers, send};

/// Two topics with records; one of them moved to `other` and linked.
fn with_linked_topic(dir: &Path, other: &Path, link: &str) {
    let (engine, _) = crate::support::engine(dir);
    engine.create_topic("small", thalweg::TopicConfig::default()).unwrap();
    send(&engine, "t", 0..400).unwrap();
    send(&engine, "small", 0..5).unwrap();
    engine.close().unwrap();
    std::fs::rename(dir.join(link), other).unwrap();
    symlink(other, dir.join(link)).unwrap();
}

#[test]
fn a_linked_topic_is_refused_by_all_and_kept_by_repair() {
    for link in ["topics/t", "topics/t/0"] {
        let base = tempfile::tempdir().unwrap();
        let (dir, other) = (base.path().join("data"), base.path().join("other"));
        with_linked_topic(&dir, &other, link);
        let found = verify(&dir, &mut |_| {}).unwrap();
        assert_eq!(found.damage.len(), 1, "{link}: {:?}", found.damage);
        assert!(found.damage[0].reason.contains("symbolic link"), "{link}: {}", found.damage[0]);

        let engine = Engine::open(&dir).unwrap();
        assert!(engine.describe_topic("t").unwrap().partitions[0].failure.is_some(), "{link}");
        send(&engine, "small", 5..10).unwrap();
        send(&engine, "t", 400..401).expect_err(link);
        engine.close().expect_err("as with any damaged partition");

        // Damage of another topic is repaired, and the link is none of that.
        let segment = dir.join("topics/small/0/00000000000000000000.log");
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[4_300] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        let outside = below(&other);
        let shown = repair(&dir, true, &mut |_| {}).unwrap();
        assert!(shown.steps.iter().all(|step| step.topic.as_deref() == Some("small")), "{link}: {:?}", shown.steps);
        assert_eq!(shown.impossible.len(), 1, "{link}: {:?}", shown.impossible);
        let done = repair(&dir, false, &mut |_| {}).unwrap();
        assert!(!done.steps.is_empty() && done.impossible[0].path == dir.join(link), "{link}: {done:?}");
        assert_eq!(below(&other), outside, "{link}");
        assert!(std::fs::symlink_metadata(dir.join(link)).unwrap().is_symlink(), "{link}");

        // Put back, the topic is as it was.
        std::fs::remove_file(dir.join(link)).unwrap();
        std::fs::rename(&other, dir.join(link)).unwrap();
        assert!(verify(&dir, &mut |_| {}).unwrap().is_sound(), "{link}");
        let engine = Engine::open(&dir).unwrap();
        assert_eq!(numbers(&engine, "t"), (0..400).collect::<Vec<_>>(), "{link}");
    }
}

/// The whole of the topics behind a link: nothing is opened, nothing is changed.
#[test]
fn linked_topics_are_refused_whole() {
    let base = tempfile::tempdir().unwrap();
    let (dir, other) = (base.path().join("data"), base.path().join("other"));
    with_linked_topic(&dir, &other, "topics");
    let outside = below(&other);
    let error = Engine::open(&dir).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    assert!(!verify(&dir, &mut |_| {}).unwrap().is_sound());
    let _ = repair(&dir, false, &mut |_| {}).unwrap();
    assert_eq!(below(&other), outside);
    assert!(std::fs::symlink_metadata(dir.join("topics")).unwrap().is_symlink());
}
