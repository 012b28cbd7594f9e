//! The catalogue by its rules: what may follow what, what survives compaction and reopening, and
//! that a crafted catalogue is an error. Crash safety is the keyed log's, tested there.

use std::path::Path;
use std::sync::Arc;

use super::state::{CatalogState, Truncation};
use super::*;
use crate::config::TopicConfig;
use crate::disk::{Access, Disk};
use crate::error::{Error, ErrorKind};
use crate::format::{CatalogEntry, FileKind, FormatError, MAX_OFFSET, Mark};
use crate::ids::EngineId;
use crate::keyed::KeyedLog;
use crate::sim::SimDisk;

const ENGINE: EngineId = EngineId([9; 16]);

fn mark(epoch: u32, log_start_offset: u64, durable_offset: u64) -> Mark {
    Mark { epoch, log_start_offset, durable_offset, segment_base_offset: 0, position: 4_096 }
}

fn topic(id: u32, name: &str, partitions: u32) -> CatalogEntry {
    let config = TopicConfig::default().to_text();
    CatalogEntry::Topic { topic_id: TopicId(id), name: name.into(), partitions, created_ms: 5, config }
}

fn put(topic: u32, partition: u32, mark: Mark) -> CatalogEntry {
    CatalogEntry::Mark { topic_id: TopicId(topic), partition, mark }
}

fn truncated(offset: u64, epoch: u32) -> CatalogEntry {
    CatalogEntry::Truncated { topic_id: TopicId(1), partition: 0, offset, epoch }
}

fn state(entries: &[CatalogEntry]) -> CatalogState {
    let mut state = CatalogState::default();
    let begin = [CatalogEntry::Engine { engine_id: ENGINE, created_ms: 1 }, CatalogEntry::Epoch { epoch: 4 }];
    begin.iter().chain(entries).for_each(|entry| state.apply(entry).unwrap());
    state
}

fn again(state: &CatalogState) -> CatalogState {
    let mut other = CatalogState::default();
    state.entries(|entry| other.apply(&entry).unwrap());
    other
}

#[test]
fn layout() {
    let dir = Path::new("data");
    assert_eq!(partition_dir(dir, "orders", 17), Path::new("data/topics/orders/17"));
    assert_eq!(deleted_dir(dir, TopicId(4)), Path::new("data/topics/.deleted-4"));
}

#[test]
fn entries_lead_to_the_same_state() {
    let expanded = CatalogEntry::Expanded { topic_id: TopicId(1), partitions: 3, end_offsets: vec![7, 8] };
    let state = state(&[
        topic(1, "orders", 2),
        put(1, 1, mark(3, 5, 60)),
        topic(2, "trades", 1),
        CatalogEntry::Deleted { topic_id: TopicId(2) },
        expanded,
        put(1, 2, mark(4, 0, 1)),
        topic(5, "Trades", 7),
        truncated(10, 3),
        truncated(20, 4),
        topic(8, "last", 1),
        CatalogEntry::Deleted { topic_id: TopicId(8) },
        CatalogEntry::Clean { epoch: 4, offsets_end: 6 },
    ]);
    assert_eq!(again(&state), state);
    assert_eq!(state.next_topic_id(), Some(TopicId(9)));
    assert_eq!(state.topics().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), ["orders", "Trades"]);
    assert_eq!(state.deleted().collect::<Vec<_>>(), [(TopicId(2), "trades"), (TopicId(8), "last")]);
    assert_eq!(state.topic("orders").map(|topic| topic.config.partitions), Some(3));
    assert_eq!(state.topic("trades"), None);
    assert_eq!(state.topic_like("tRADES").map(|topic| topic.id), Some(TopicId(5)));
    assert!(state.is_clean());
}

#[test]
fn marks_never_go_back() {
    let mut state = state(&[topic(1, "a", 1), put(1, 0, mark(3, 50, 100))]);
    let mut then = |next: Mark| {
        state.apply(&put(1, 0, next)).unwrap();
        *state.topic("a").unwrap().mark(0).unwrap()
    };
    // Of an older epoch: only its log start can matter.
    assert_eq!(then(mark(2, 10, 999)), mark(3, 50, 100));
    assert_eq!(then(mark(2, 60, 999)), mark(3, 60, 100));
    // Of the same epoch: marks may come out of order.
    assert_eq!(then(mark(3, 70, 90)), mark(3, 70, 100));
    assert_eq!(then(mark(3, 10, 110)), mark(3, 70, 110));
    // Of a newer epoch: the partition may have been cut.
    assert_eq!(then(mark(4, 10, 80)), mark(4, 70, 80));
    assert_eq!(state.topic("a").unwrap().mark(1), None);
}

#[test]
fn truncations_that_say_nothing_more_are_dropped() {
    let mut state = state(&[topic(1, "a", 1)]);
    for (offset, epoch) in [(10, 1), (30, 2), (20, 3), (25, 4)] {
        state.apply(&truncated(offset, epoch)).unwrap();
    }
    let left =
        [Truncation { offset: 10, epoch: 1 }, Truncation { offset: 20, epoch: 3 }, Truncation { offset: 25, epoch: 4 }];
    assert_eq!(state.topic("a").unwrap().truncations(0), left);
    assert_eq!(again(&state), state);
}

#[test]
fn anything_after_it_undoes_clean() {
    let mut state = state(&[topic(1, "a", 1), CatalogEntry::Clean { epoch: 4, offsets_end: 6 }]);
    assert!(state.is_clean());
    state.apply(&put(1, 0, mark(4, 0, 0))).unwrap();
    assert!(!state.is_clean());
}

/// Entries that must not follow a topic 3 named "orders" with 2 partitions in epoch 4.
fn misfits() -> Vec<CatalogEntry> {
    let id = TopicId(3);
    let offset = MAX_OFFSET + 1;
    let config = |text: &str| CatalogEntry::Topic {
        topic_id: TopicId(4),
        name: "x".into(),
        partitions: 1,
        created_ms: 0,
        config: text.into(),
    };
    vec![
        CatalogEntry::Engine { engine_id: ENGINE, created_ms: 1 },
        CatalogEntry::Epoch { epoch: 4 },
        CatalogEntry::Epoch { epoch: 0 },
        topic(3, "again", 1),
        topic(0, "zero", 1),
        topic(4, "orders", 1),
        topic(4, "ORDERS", 1),
        topic(4, "../orders", 1),
        topic(4, "none", 0),
        topic(4, "many", 100_001),
        topic(4, "more", 4_000_000_000),
        config("segment.bytes=1\n"),
        config("segment.bytes"),
        CatalogEntry::Deleted { topic_id: TopicId(7) },
        CatalogEntry::Expanded { topic_id: id, partitions: 2, end_offsets: vec![0; 2] },
        CatalogEntry::Expanded { topic_id: id, partitions: 3, end_offsets: vec![0; 3] },
        CatalogEntry::Expanded { topic_id: id, partitions: u32::MAX, end_offsets: vec![0; 2] },
        CatalogEntry::Expanded { topic_id: id, partitions: 3, end_offsets: vec![0, offset] },
        CatalogEntry::Expanded { topic_id: TopicId(7), partitions: 3, end_offsets: vec![] },
        put(7, 0, mark(4, 0, 0)),
        put(3, 2, mark(4, 0, 0)),
        put(3, u32::MAX, mark(4, 0, 0)),
        put(3, 0, mark(5, 0, 0)),
        put(3, 0, mark(4, offset, 0)),
        put(3, 0, mark(4, 0, u64::MAX)),
        CatalogEntry::Truncated { topic_id: id, partition: 0, offset, epoch: 4 },
        CatalogEntry::Truncated { topic_id: id, partition: 2, offset: 0, epoch: 4 },
        CatalogEntry::Truncated { topic_id: id, partition: 0, offset: 0, epoch: 5 },
        CatalogEntry::Clean { epoch: 3, offsets_end: 0 },
        CatalogEntry::Clean { epoch: 5, offsets_end: 0 },
        CatalogEntry::Clean { epoch: 4, offsets_end: offset },
    ]
}

#[test]
fn what_contradicts_is_refused_and_changes_nothing() {
    let before = state(&[topic(3, "orders", 2)]);
    for entry in misfits() {
        let mut after = before.clone();
        assert!(after.apply(&entry).is_err(), "{entry:?}");
        assert_eq!(after, before, "{entry:?}");
    }
    let unknown = CatalogEntry::Topic {
        topic_id: TopicId(4),
        name: "x".into(),
        partitions: 1,
        created_ms: 0,
        config: "tiered.storage=true\n".into(),
    };
    assert!(matches!(before.check(&unknown), Err(FormatError::Newer(_))));
    let nothing = CatalogState::default();
    assert!(nothing.check(&CatalogEntry::Epoch { epoch: 1 }).is_err());
}

// --- on a disk ---

fn dir() -> &'static Path {
    Path::new("/data")
}

fn disk() -> Arc<dyn Disk> {
    let disk = SimDisk::new();
    disk.create_dir_all(dir()).unwrap();
    Arc::new(disk)
}

fn names(disk: &Arc<dyn Disk>) -> Vec<String> {
    disk.list(dir()).unwrap().into_iter().map(|entry| entry.name).collect()
}

/// Of the newest file.
fn length(disk: &Arc<dyn Disk>) -> u64 {
    let path = dir().join(names(disk).pop().unwrap());
    disk.open(&path, Access::Read).unwrap().length().unwrap()
}

fn open(disk: &Arc<dyn Disk>) -> Catalog {
    let (catalog, cut) = Catalog::open(disk.clone(), dir(), Access::Write).unwrap().unwrap();
    assert_eq!(cut, None);
    catalog
}

fn kind(error: Result<impl std::fmt::Debug, Error>) -> ErrorKind {
    error.unwrap_err().kind().clone()
}

#[test]
fn topics_survive_reopening() {
    let disk = disk();
    assert!(Catalog::open(disk.clone(), dir(), Access::Write).unwrap().is_none());
    let mut catalog = Catalog::create(disk.clone(), dir(), ENGINE, 10).unwrap();
    let config = TopicConfig::default().partitions(6).segment_ms(Some(5_000));
    assert_eq!(catalog.create_topic("orders", &config, 11), Ok(TopicId(1)));
    assert_eq!(catalog.create_topic("trades", &TopicConfig::default(), 12), Ok(TopicId(2)));
    assert_eq!(kind(catalog.create_topic("Orders", &config, 13)), ErrorKind::TopicExists { topic: "orders".into() });
    assert!(matches!(kind(catalog.create_topic("a/b", &config, 13)), ErrorKind::InvalidTopicName { .. }));
    let none = TopicConfig::default().partitions(0);
    assert!(matches!(kind(catalog.create_topic("none", &none, 13)), ErrorKind::InvalidConfig { .. }));
    assert_eq!(kind(catalog.delete_topic("Trades", 14)), ErrorKind::UnknownTopic { topic: "Trades".into() });
    assert_eq!(catalog.delete_topic("trades", 14), Ok(TopicId(2)));
    assert_eq!(catalog.create_topic("trades", &config, 15), Ok(TopicId(3)));
    let before = catalog.state().clone();
    drop(catalog);

    let catalog = open(&disk);
    assert_eq!(catalog.state(), &before);
    assert_eq!(catalog.engine_id(), ENGINE);
    assert_eq!(catalog.state().engine(), Some((ENGINE, 10)));
    let orders = catalog.state().topic("orders").unwrap();
    assert_eq!((orders.id, &orders.config, orders.created_ms), (TopicId(1), &config, 11));
    assert!(Catalog::create(disk, dir(), ENGINE, 20).is_err());
}

#[test]
fn only_the_newest_epochs_end_is_clean() {
    let disk = disk();
    let mut catalog = Catalog::create(disk.clone(), dir(), ENGINE, 1).unwrap();
    assert!(!catalog.was_clean());
    catalog.put_clean(0, 2).unwrap();
    assert!(!catalog.was_clean());
    let mut catalog = open(&disk);
    assert!(catalog.was_clean());
    assert_eq!(catalog.begin_epoch(3), Ok(2));
    assert_eq!(catalog.state().epoch(), 2);
    let mut catalog = open(&disk);
    assert!(!catalog.was_clean());
    assert_eq!(catalog.begin_epoch(4), Ok(3));
    catalog.put_clean(0, 5).unwrap();
    catalog.create_topic("late", &TopicConfig::default(), 6).unwrap();
    assert!(!open(&disk).was_clean());
}

#[test]
fn marks_of_what_is_gone_are_left_out_and_wrong_ones_refused() {
    let disk = disk();
    let mut catalog = Catalog::create(disk.clone(), dir(), ENGINE, 1).unwrap();
    let here = catalog.create_topic("here", &TopicConfig::default(), 1).unwrap();
    let gone = catalog.create_topic("gone", &TopicConfig::default(), 1).unwrap();
    catalog.delete_topic("gone", 1).unwrap();
    catalog.put_marks(&[(gone, 0, mark(1, 0, 9)), (here, 0, mark(1, 0, 7))], 1, true).unwrap();
    catalog.put_marks(&[(gone, 0, mark(1, 0, 9))], 1, true).unwrap();
    let wrong = catalog.put_marks(&[(here, 0, mark(1, 0, 8)), (here, 1, mark(1, 0, 8))], 1, true);
    assert!(matches!(kind(wrong), ErrorKind::InvalidArgument { .. }));
    for catalog in [catalog, open(&disk)] {
        assert_eq!(catalog.state().topic_by_id(here).unwrap().mark(0), Some(&mark(1, 0, 7)));
        assert_eq!(catalog.state().topic_by_id(gone), None);
    }
}

#[test]
fn it_compacts_itself_and_forgets_no_id() {
    let disk = disk();
    let mut catalog = Catalog::create(disk.clone(), dir(), ENGINE, 1).unwrap();
    let config = TopicConfig::default().partitions(1_000);
    let id = catalog.create_topic("busy", &config, 1).unwrap();
    for name in ["one", "two"] {
        catalog.create_topic(name, &config, 1).unwrap();
        catalog.delete_topic(name, 1).unwrap();
    }
    catalog.forget_deleted(TopicId(2));
    catalog.forget_deleted(TopicId(3));
    let mut largest = 0;
    for round in 0..100 {
        let marks: Vec<_> = (0..1_000).map(|partition| (id, partition, mark(1, round, 10 * round))).collect();
        catalog.put_marks(&marks, 1, false).unwrap();
        largest = largest.max(length(&disk));
    }
    assert!((1 << 20..(1 << 20) + 400_000).contains(&largest), "{largest}");
    assert_ne!(names(&disk), ["catalog-1"]);
    assert_eq!(names(&disk).len(), 1);
    let before = catalog.state().clone();
    let mut catalog = open(&disk);
    assert_eq!(catalog.state(), &before);
    assert_eq!(catalog.state().topic_by_id(id).unwrap().mark(999), Some(&mark(1, 99, 990)));
    assert_eq!(catalog.state().deleted().collect::<Vec<_>>(), [(TopicId(3), "two")]);
    assert_eq!(catalog.create_topic("next", &config, 1), Ok(TopicId(4)));
}

#[test]
fn a_follower_sees_what_the_writer_did() {
    let disk = disk();
    let mut writer = Catalog::create(disk.clone(), dir(), ENGINE, 1).unwrap();
    let (mut follower, cut) = Catalog::open(disk.clone(), dir(), Access::Read).unwrap().unwrap();
    assert_eq!(cut, None);
    assert_eq!(follower.refresh(), Ok(false));
    let config = TopicConfig::default().partitions(1_000);
    let id = writer.create_topic("busy", &config, 1).unwrap();
    assert_eq!(follower.refresh(), Ok(true));
    assert_eq!(follower.state(), writer.state());
    for round in 0..60 {
        let marks: Vec<_> = (0..1_000).map(|partition| (id, partition, mark(1, round, 10 * round))).collect();
        writer.put_marks(&marks, 1, false).unwrap();
        if round % 7 == 0 {
            assert_eq!(follower.refresh(), Ok(true));
            assert_eq!(follower.state(), writer.state());
        }
    }
    assert_ne!(names(&disk), ["catalog-1"]);
    assert_eq!(kind(follower.begin_epoch(1)), ErrorKind::ReadOnly);
}

#[test]
fn a_crafted_catalogue_is_corrupt() {
    for entry in misfits() {
        let disk = disk();
        let good = [
            CatalogEntry::Engine { engine_id: ENGINE, created_ms: 1 },
            CatalogEntry::Epoch { epoch: 4 },
            topic(3, "orders", 2),
        ];
        let mut body = Vec::new();
        good.iter().chain([&entry]).for_each(|entry| entry.encode(&mut body));
        KeyedLog::create(disk.clone(), dir(), "catalog", FileKind::Catalog, ENGINE, 9, 1, &body, 4).unwrap();
        for access in [Access::Read, Access::Write] {
            let error = Catalog::open(disk.clone(), dir(), access).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{entry:?}: {error}");
            assert_eq!(error.path(), Some(dir().join("catalog-1").as_path()));
            assert_eq!(error.position(), Some(4_096));
        }
    }
}

#[test]
fn another_engines_catalogue_and_wrong_counts_are_corrupt() {
    let begin = |engine_id| {
        let mut body = Vec::new();
        CatalogEntry::Engine { engine_id, created_ms: 1 }.encode(&mut body);
        CatalogEntry::Epoch { epoch: 1 }.encode(&mut body);
        body
    };
    for (engine_id, epoch, count) in [(EngineId([1; 16]), 1, 2), (ENGINE, 1, 3), (ENGINE, 0, 2)] {
        let disk = disk();
        KeyedLog::create(disk.clone(), dir(), "catalog", FileKind::Catalog, ENGINE, epoch, 1, &begin(engine_id), count)
            .unwrap();
        let error = Catalog::open(disk, dir(), Access::Read).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
    }
}
