//! Goal: a topic's limits are kept by time alone: after opening, after altering, while nothing is sent, and at close.
//!
//! Method: a simulated clock, over threads and without; nothing is appended once the limit is passed.

use super::*;
use crate::Partition;
use crate::clock::Clock;
use crate::sim::CrashPolicy;

const WAYS: [Writers; 2] = [Writers::Threads(1), Writers::Inline];
const MINUTE: Duration = Duration::from_secs(60);

struct Place {
    disk: SimDisk,
    clock: SimClock,
    writers: Writers,
}

impl Place {
    fn new(writers: Writers) -> Place {
        Place { disk: SimDisk::new(), clock: SimClock::new(), writers }
    }

    fn open(&self) -> Engine {
        let builder = Engine::builder("data").writers(self.writers).clock(Arc::new(self.clock.clone()));
        builder.sim(&self.disk).open().unwrap()
    }

    /// How many segment files the topic has.
    fn segments(&self) -> usize {
        let names = self.disk.list_files();
        names
            .iter()
            .filter(|path| path.starts_with("data/topics/t") && path.extension().is_some_and(|e| e == "log"))
            .count()
    }

    /// Lets time pass until the next look.
    fn next_look(&self) {
        self.clock.advance(UPKEEP_EVERY);
    }

    /// Several looks, in which nothing more may happen.
    fn looks(&self, engine: &Engine) {
        for _ in 0..5 {
            self.next_look();
            engine.core.background.round(true);
            engine.core.env.drive.nudge();
        }
    }
}

fn range(partition: &Partition) -> (u64, u64) {
    (partition.log_start_offset(), partition.end_offset())
}

#[test]
fn limits_are_kept_after_opening_and_altering_without_an_append() {
    for writers in WAYS {
        let place = Place::new(writers);
        let engine = place.open();
        let config = TopicConfig::default().retention_ms(Some(60_000));
        let end = of_three_segments(&engine, &config).end_offset();
        engine.close().unwrap();
        place.clock.advance(2 * MINUTE);
        let engine = place.open();
        let partition = engine.partition("t", 0).unwrap();
        // The clock stands still: nothing is due.
        wait_until(&engine, "after opening", || range(&partition) == (end, end));
        engine.delete_topic("t").unwrap();
        // Another limit, of an engine that is open.
        let partition = of_three_segments(&engine, &TopicConfig::default());
        place.looks(&engine);
        assert_eq!(range(&partition), (0, end));
        let config = engine.describe_topic("t").unwrap().config;
        engine.alter_topic("t", config.clone().retention_bytes(Some(100_000))).unwrap();
        wait_until(&engine, "after altering", || partition.log_start_offset() > 0);
        // And none again.
        engine.alter_topic("t", config).unwrap();
        let key = (partition.inner.log.topic_id, 0);
        assert!(!lock(&engine.core.background.limited).contains_key(&key));
        engine.close().unwrap();
    }
}

#[test]
fn a_segment_that_nothing_is_sent_to_is_sealed_when_it_is_old_and_dropped_when_it_is_too_old() {
    for writers in WAYS {
        // The second by a quarter of what is kept.
        for (segment_ms, retention_ms) in [(Some(15_000), None), (None, Some(60_000)), (Some(15_000), Some(60_000))] {
            let place = Place::new(writers);
            let engine = place.open();
            let config = TopicConfig::default().segment_ms(segment_ms).retention_ms(retention_ms);
            engine.create_topic("t", config).unwrap();
            let partition = engine.partition("t", 0).unwrap();
            partition.append(&Record::new("x")).unwrap().wait().unwrap();
            place.clock.advance(Duration::from_millis(9_999));
            place.looks(&engine);
            assert_eq!(place.segments(), 1, "{segment_ms:?}, {retention_ms:?}");
            place.clock.advance(Duration::from_millis(1));
            place.next_look();
            wait_until(&engine, "it is sealed", || place.segments() == 2);
            place.looks(&engine);
            place.clock.advance(MINUTE);
            place.next_look();
            if retention_ms.is_some() {
                wait_until(&engine, "it is dropped", || range(&partition) == (1, 1) && place.segments() == 1);
            }
            // The record's own segment stays or is gone; the empty one is neither replaced nor set aside.
            let files = || -> Vec<_> {
                let files = place.disk.list_files();
                files.into_iter().filter(|path| path.extension().is_none_or(|e| e != "index")).collect()
            };
            let before = files();
            place.clock.advance(100 * MINUTE);
            place.looks(&engine);
            assert_eq!(files(), before, "what holds no record is never sealed");
            // It goes on, also after a crash.
            partition.append(&Record::new("y")).unwrap().wait().unwrap();
            let place = Place { disk: place.disk.crash(CrashPolicy::PowerLoss), ..place };
            let engine = place.open();
            let recovery = engine.recovery();
            assert!(recovery.partitions.iter().all(|found| found.damage.is_none()), "{recovery:?}");
            let partition = engine.partition("t", 0).unwrap();
            assert_eq!(range(&partition), (u64::from(retention_ms.is_some()), 2));
            assert_eq!(partition.get(1).unwrap().view().value(), Some(&b"y"[..]));
        }
    }
}

#[test]
fn a_segments_age_is_that_of_its_oldest_record() {
    let place = Place::new(Writers::Inline);
    let engine = place.open();
    engine.create_topic("t", TopicConfig::default().segment_ms(Some(10_000))).unwrap();
    let append = |engine: &Engine| engine.partition("t", 0).unwrap().append(&Record::new("x")).unwrap().wait().unwrap();
    append(&engine);
    place.clock.advance(MINUTE);
    place.looks(&engine);
    assert_eq!(place.segments(), 2);
    // The second was made long before its first record, which a next life has to look up.
    place.clock.advance(MINUTE);
    append(&engine);
    engine.close().unwrap();
    let engine = place.open();
    append(&engine);
    place.looks(&engine);
    assert_eq!(place.segments(), 2);
    place.clock.advance(Duration::from_secs(10));
    place.looks(&engine);
    assert_eq!(place.segments(), 3);
}

#[test]
fn a_segment_of_a_time_that_has_not_come_yet_is_sealed_and_does_not_stay_for_ever() {
    let place = Place::new(Writers::Inline);
    let began_ms = place.clock.wall_ms();
    let engine = place.open();
    engine.create_topic("t", TopicConfig::default().retention_ms(Some(60_000))).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    place.clock.set_wall_ms(began_ms + 1_000_000_000_000);
    partition.append(&Record::new("x")).unwrap().wait().unwrap();
    place.clock.set_wall_ms(began_ms);
    place.looks(&engine);
    assert_eq!((place.segments(), partition.log_start_offset()), (2, 0));
    place.clock.advance(MINUTE);
    place.looks(&engine);
    assert_eq!((place.segments(), partition.log_start_offset()), (1, 1));
}

#[test]
fn limits_are_kept_when_the_engine_is_closed() {
    for writers in WAYS {
        let place = Place::new(writers);
        let engine = place.open();
        // More than its limit, while the clock stands still.
        let small = TopicConfig::default().segment_bytes(64 << 10).retention_bytes(Some(128 << 10)).acks(Acks::None);
        engine.create_topic("t", small).unwrap();
        let partition = engine.partition("t", 0).unwrap();
        for _ in 0..100 {
            let _ = partition.append(&Record::new(&[7; 10 << 10])).unwrap();
        }
        engine.close().unwrap();
        let engine = place.open();
        let bytes = engine.describe_topic("t").unwrap().partitions[0].bytes;
        assert!((128 << 10..200 << 10).contains(&bytes), "its limit and a segment: {bytes}");
        // And those that are too old, the last one too.
        engine.alter_topic("t", TopicConfig::default().retention_ms(Some(60_000))).unwrap();
        place.clock.advance(2 * MINUTE);
        engine.close().unwrap();
        assert_eq!(place.segments(), 1);
        let partition = place.open().partition("t", 0).unwrap();
        assert_eq!(range(&partition), (100, 100));
    }
}

/// One sync of the catalogue for all partitions.
#[test]
fn the_limits_of_many_partitions_are_kept_by_one_entry() {
    let place = Place::new(Writers::Inline);
    let engine = place.open();
    engine.create_topic("t", TopicConfig::default().partitions(50).retention_ms(Some(60_000))).unwrap();
    for number in 0..50 {
        engine.partition("t", number).unwrap().append(&Record::new("x")).unwrap().wait().unwrap();
    }
    place.clock.advance(MINUTE / 2);
    place.looks(&engine);
    assert_eq!(place.segments(), 100);
    place.clock.advance(MINUTE);
    let syncs = place.disk.count(Operation::Sync);
    engine.core.background.keep_limits();
    assert!((0..50).all(|number| engine.partition("t", number).unwrap().log_start_offset() == 1));
    assert_eq!(place.disk.count(Operation::Sync), syncs + 1);
}

/// Recovery closes the last segment where a torn tail has whole batches behind it, and reads it from the mark on. What
/// the next segment says of it must hold also if its times were learned before that one is begun.
#[test]
fn the_age_of_a_segment_that_recovery_closed_is_known_to_the_life_after_the_next() {
    let place = Place::new(Writers::Inline);
    let engine = place.open();
    engine.create_topic("t", TopicConfig::default().retention_ms(Some(60_000))).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let append = |partition: &Partition, acks| {
        partition.append(&Record::new("x").timestamp(1).acks(acks)).unwrap().wait().unwrap();
    };
    append(&partition, Acks::Synced);
    place.looks(&engine);
    let (position, is_marked) = {
        let mark = partition.inner.mark().unwrap();
        let catalog = lock(&engine.core.catalog);
        let marked = catalog.state().topic_by_id(partition.inner.log.topic_id).and_then(|topic| topic.mark(0).copied());
        (mark.position, marked.is_some_and(|marked| marked.durable_offset == 1))
    };
    assert!(is_marked);
    append(&partition, Acks::Written);
    append(&partition, Acks::Written);
    // The first of the two is lost, the second isn't.
    let place = Place { disk: place.disk.crash(CrashPolicy::Kill), ..place };
    let path = partition.inner.segments()[0].path().to_owned();
    place.disk.patch(&path, position, &[0; 64]).unwrap();
    let engine = place.open();
    let partition = engine.partition("t", 0).unwrap();
    assert_eq!(range(&partition), (0, 1));
    let closed = partition.inner.segments();
    assert!(closed.len() == 1 && closed[0].is_sealed() && !closed[0].knows_times());
    // A reader learns its times; half of what is kept later the next one is begun.
    assert_eq!(partition.offset_for_timestamp(1).unwrap(), Some(0));
    assert!(closed[0].knows_times());
    place.clock.advance(MINUTE / 2);
    append(&partition, Acks::Synced);
    assert_eq!((place.segments(), range(&partition)), (2, (0, 2)));
    let place = Place { disk: place.disk.crash(CrashPolicy::PowerLoss), ..place };
    place.clock.advance(MINUTE / 2);
    let engine = place.open();
    place.looks(&engine);
    assert_eq!(range(&engine.partition("t", 0).unwrap()), (1, 2));
}
