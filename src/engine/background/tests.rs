//! What the upkeep does when it is woken, and not only once a second.

use std::time::Instant;

use super::*;
use crate::config::{Acks, TopicConfig};
use crate::engine::{Engine, Record};
use crate::sim::{SimClock, SimDisk};

/// What opening reads after a crash is what no mark covers.
#[test]
fn a_place_is_marked_as_soon_as_much_has_become_durable() {
    let clock = Arc::new(SimClock::new());
    let engine = Engine::builder("data").sync_bytes(64 << 10).clock(clock).sim(&SimDisk::new()).open().unwrap();
    engine.create_topic("t", TopicConfig::default().acks(Acks::Synced)).unwrap();
    let id = engine.core.topic("t").unwrap().id;
    let marked = || {
        let catalog = lock(&engine.core.catalog);
        catalog.state().topic_by_id(id).and_then(|topic| topic.mark(0).map(|mark| mark.durable_offset))
    };
    let give_up = Instant::now() + Duration::from_secs(60);
    for round in 1..4 {
        for _ in 0..10 {
            engine.partition("t", 0).unwrap().append(&Record::new(&[7; 10 << 10])).unwrap().wait().unwrap();
        }
        // The clock stands still: nothing is due.
        while marked().is_none_or(|marked| marked <= 10 * (round - 1)) {
            assert!(Instant::now() < give_up, "{:?} in round {round}", marked());
            thread::yield_now();
        }
    }
}

/// Else a fast partition would have much more than its limit between two looks.
#[test]
fn limits_are_kept_as_soon_as_much_has_become_durable() {
    let clock = Arc::new(SimClock::new());
    let engine = Engine::builder("data").sync_bytes(64 << 10).clock(clock).sim(&SimDisk::new()).open().unwrap();
    let small = TopicConfig::default().acks(Acks::Synced).segment_bytes(64 << 10).retention_bytes(Some(128 << 10));
    engine.create_topic("t", small).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let give_up = Instant::now() + Duration::from_secs(60);
    let mut start = 0;
    for _ in 0..3 {
        // The clock stands still: nothing is due.
        while partition.log_start_offset() == start {
            assert!(Instant::now() < give_up, "{start}");
            partition.append(&Record::new(&[7; 10 << 10])).unwrap().wait().unwrap();
        }
        start = partition.log_start_offset();
    }
}
