//! Goal: making a topic costs the same with many topics as with few.
//!
//! Method: the table of topics that groups work with is the one that was there before, changed in place, as long as
//! no group holds it. No time is measured.

use std::sync::Arc;

use crate::lock::read;
use crate::{Engine, TopicConfig, Writers};

#[test]
fn the_table_of_topics_is_copied_only_for_groups() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path().join("data")).writers(Writers::Inline).open().unwrap();
    let groups = &engine.core.groups;
    let table = || read(&groups.topics).clone();
    let names = || table().iter().map(|(name, _, count)| (name.to_owned(), count)).collect::<Vec<_>>();
    let before = Arc::as_ptr(&table());
    for name in ["a", "b", "c"] {
        engine.create_topic(name, TopicConfig::default()).unwrap();
    }
    engine.alter_topic("b", TopicConfig::default().partitions(3)).unwrap();
    engine.delete_topic("a").unwrap();
    assert_eq!(names(), [("b".to_owned(), 3), ("c".to_owned(), 1)]);
    assert_eq!(Arc::as_ptr(&table()), before, "copied though no group has it");

    // One that a group has doesn't change under it.
    let consumer = engine.consumer("g").subscribe_pattern("[b-d]").start().unwrap();
    let held = table();
    engine.create_topic("d", TopicConfig::default()).unwrap();
    assert_eq!(held.iter().count(), 2);
    assert_eq!(names(), [("b".to_owned(), 3), ("c".to_owned(), 1), ("d".to_owned(), 1)]);
    drop(consumer);
}
