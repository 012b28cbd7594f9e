//! Goal: closing doesn't wait until the files of a large deleted topic are removed, and nothing of it stays for good.
//!
//! Method: on the simulated disk without threads, where a deleted topic's files are removed at the close; what is left
//! is counted.

use std::path::{Path, PathBuf};

use super::*;
use crate::disk::Disk;

fn open(disk: &SimDisk) -> Engine {
    Engine::builder("data").writers(Writers::Inline).sim(disk).open().unwrap()
}

/// What stands in `topics`, and below the first of it.
fn topics(disk: &SimDisk) -> (Vec<String>, usize) {
    let names = |dir: &Path| {
        let entries = Disk::list(disk, dir).unwrap();
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
        names.sort();
        names
    };
    let topics = names(Path::new("data/topics"));
    let below = topics.first().map_or(0, |first| names(&Path::new("data/topics").join(first)).len());
    (topics, below)
}

#[test]
fn closing_leaves_most_of_a_large_deleted_topic_to_the_next_opening() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    engine.create_topic("large", TopicConfig::default().partitions(3_000)).unwrap();
    engine.delete_topic("large").unwrap();
    engine.close().unwrap();
    let (names, partitions) = topics(&disk);
    assert_eq!((names.len(), partitions), (1, 3_000 - REMOVED_AT_CLOSE as usize), "{names:?}");
    // Opened and closed without anything between, it gets on.
    open(&disk).close().unwrap();
    assert_eq!(topics(&disk).1, 3_000 - 2 * REMOVED_AT_CLOSE as usize);
    let engine = open(&disk);
    engine.create_topic("large", TopicConfig::default()).unwrap();
    wait_until(&engine, "the rest is removed", || topics(&disk).0 == ["large"]);
    assert_eq!(engine.topics().unwrap(), ["large"]);
}

/// Wherever it is stopped, the next removal does the rest.
#[test]
fn a_removal_that_was_stopped_is_finished_by_the_next() {
    let dir = PathBuf::from("data/topics/t");
    let mut stopped = 0;
    for entries in 1.. {
        let disk = SimDisk::new();
        let engine = open(&disk);
        let log = of_three_segments(&engine, &TopicConfig::default()).inner.log;
        engine.close().unwrap();
        let files = || disk.list_files().into_iter().filter(|path| path.starts_with("data/topics/t")).count();
        let before = files();
        let mut removed = 0;
        remove_topic(&disk, &dir, &log, &mut || {
            removed += 1;
            removed < entries
        });
        if removed < entries {
            assert_eq!((Disk::list(&disk, Path::new("data/topics")).unwrap().len(), stopped), (0, entries - 1));
            break;
        }
        stopped = entries;
        assert_eq!(files(), before.saturating_sub(entries), "stopped after {entries}");
        remove_topic(&disk, &dir, &log, &mut || true);
        assert!(Disk::list(&disk, Path::new("data/topics")).unwrap().is_empty(), "stopped after {entries}");
    }
    assert!(stopped > 6, "segments, indexes and the partition: {stopped}");
}
