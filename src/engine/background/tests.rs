//! What the upkeep does when it is woken, and not only once a second.

mod last_handle;
mod limits;
mod panics;
mod removals;

use std::time::Instant;

use super::*;
use crate::config::{Acks, TopicConfig, Writers};
use crate::engine::{Engine, Record};
use crate::sim::{Operation, SimClock, SimDisk};

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

/// A topic of three segments and its partition 0, durable, as a handle that outlives the topic has it.
fn of_three_segments(engine: &Engine, old: &TopicConfig) -> crate::Partition {
    engine.create_topic("t", old.clone().acks(Acks::Synced).segment_bytes(64 << 10)).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    for _ in 0..15 {
        partition.append(&Record::new(&[7; 10 << 10])).unwrap().wait().unwrap();
    }
    assert!(engine.describe_topic("t").unwrap().partitions[0].segments >= 3);
    partition
}

/// Waits until it is so; a minute is never. Without threads, does the next step of the work each time.
fn wait_until(engine: &Engine, what: &str, condition: impl Fn() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < give_up, "{what}: {:?}", engine.failures());
        engine.core.env.drive.nudge();
        thread::yield_now();
    }
}

fn make_again(engine: &Engine) {
    engine.delete_topic("t").unwrap();
    engine.create_topic("t", TopicConfig::default().acks(Acks::Synced)).unwrap();
    engine.partition("t", 0).unwrap().append(&Record::new("new")).unwrap().wait().unwrap();
}

#[test]
fn d1_what_is_left_of_a_deleted_topic_removes_nothing_of_one_made_again() {
    let disk = SimDisk::new();
    let clock = Arc::new(SimClock::new());
    let open = || Engine::builder("data").writers(Writers::Inline).clock(clock.clone()).sim(&disk).open().unwrap();
    let engine = open();
    let old = of_three_segments(&engine, &TopicConfig::default().retention_ms(Some(60_000)));
    make_again(&engine);
    // By hand, and by its limits.
    let refused = old.delete_records(6).unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::UnknownTopic { topic: "t".into() });
    clock.advance(Duration::from_secs(3_600));
    engine.core.background.round(true);
    engine.close().unwrap();
    let engine = open();
    assert!(engine.recovery().partitions.iter().all(|partition| partition.damage.is_none()));
    assert_eq!(engine.partition("t", 0).unwrap().get(0).unwrap().view().value(), Some(&b"new"[..]));
}

#[test]
fn d1_what_was_to_be_removed_when_a_topic_is_deleted_is_not_removed_later() {
    let disk = SimDisk::new();
    let engine = Engine::builder("data").writers(Writers::Inline).sim(&disk).open().unwrap();
    let old = of_three_segments(&engine, &TopicConfig::default());
    let background = &engine.core.background;
    background.do_files();
    // Both wait for the files thread.
    background.raise_log_start(&old.inner, 6).unwrap();
    let sealed = old.inner.segments()[0].clone();
    engine.core.env.chores.add(FileChore::Sealed { partition: old.inner.clone(), segment: sealed, file: None });
    let waiting: Vec<_> = std::iter::from_fn(|| engine.core.env.chores.next_file_chore()).collect();
    make_again(&engine);
    let files = disk.list_files();
    waiting.into_iter().for_each(|chore| engine.core.env.chores.add(chore));
    background.do_files();
    assert_eq!(disk.list_files(), files);
}

/// What is in a queue then would keep the engine's memory: a partition has what the queue is part of.
#[test]
fn when_all_marks_are_stored_at_the_end_nothing_waits_for_a_look_that_does_not_come() {
    let engine = Engine::builder("data").writers(Writers::Inline).sim(&SimDisk::new()).open().unwrap();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let chores = &engine.core.env.chores;
    chores.add_far(engine.partition("t", 0).unwrap().inner);
    engine.core.background.store_marks(true);
    assert!(chores.next_far().is_none() && chores.next_mark().is_none());
}

#[test]
fn who_is_told_of_a_file_that_stays_may_delete_its_topic() {
    const EIO: i32 = 5;
    for (operation, told) in [(Operation::Unlink, "removing a file"), (Operation::Create, "writing an index")] {
        let disk = SimDisk::new();
        let engine = Arc::new(crate::lock::OnceLock::<Engine>::new());
        let deletes = engine.clone();
        let listener = move |event: &Event| {
            if let (Event::Background { what, .. }, Some(engine)) = (event, deletes.get())
                && *what == told
            {
                engine.delete_topic("t").unwrap();
            }
        };
        let opened = Engine::builder("data").writers(Writers::Inline).on_event(listener).sim(&disk).open().unwrap();
        let old = of_three_segments(&opened, &TopicConfig::default());
        let background = &opened.core.background;
        background.do_files();
        assert!(engine.set(opened.clone()).is_ok());
        if operation == Operation::Unlink {
            background.raise_log_start(&old.inner, 6).unwrap();
        } else {
            let sealed = old.inner.segments()[2].clone();
            let chore = FileChore::Sealed { partition: old.inner.clone(), segment: sealed, file: None };
            opened.core.env.chores.add(chore);
        }
        disk.fail_next(operation, EIO);
        background.do_files();
        assert_eq!(opened.topics().unwrap(), Vec::<String>::new(), "{told}");
    }
}

/// A thread that the system refuses is named, with what to do. That it is refused can't be brought about here: root
/// has no limit.
#[test]
fn a_thread_that_is_refused_is_named() {
    let refused = std::io::Error::from_raw_os_error(rustix::io::Errno::AGAIN.raw_os_error());
    let error = crate::error::Error::io(crate::error::thread_not_started("thalweg-write-3", &refused));
    assert_eq!(error.kind(), &ErrorKind::Io);
    let text = error.to_string();
    assert!(text.contains("could not start thread thalweg-write-3: Resource temporarily unavailable"), "{text}");
    assert!(text.contains("fewer writers"), "{text}");
}
