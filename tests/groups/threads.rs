//! Members in threads on the real disk.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::*;

#[test]
fn members_in_threads_process_everything_once_while_others_come_and_go() {
    const RECORDS: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).pin_writers(false).open().unwrap();
    engine.create_topic("t", TopicConfig::default().partitions(8)).unwrap();
    let processed = Mutex::new(BTreeSet::new());
    let doubled = Mutex::new(Vec::new());
    let done = AtomicBool::new(false);
    let work = |polls: usize| {
        let mut consumer =
            member(&engine, "g").commit_acks(thalweg::Acks::Written).max_poll_records(500).start().unwrap();
        for _ in 0..polls {
            if done.load(Ordering::SeqCst) {
                return;
            }
            let polled = consumer.poll(Duration::from_millis(20)).unwrap();
            for value in values(&polled) {
                if !processed.lock().unwrap().insert(value) {
                    doubled.lock().unwrap().push(value);
                }
            }
            consumer.commit().unwrap();
            if processed.lock().unwrap().len() == RECORDS as usize {
                done.store(true, Ordering::SeqCst);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let producer = engine.producer_for("t").unwrap();
            for value in 0..RECORDS {
                let _ = producer.send(Record::new(&value.to_le_bytes())).unwrap();
            }
        });
        for _ in 0..3 {
            scope.spawn(|| work(usize::MAX));
        }
        scope.spawn(|| (0..20).for_each(|_| work(3)));
    });
    assert_eq!(processed.into_inner().unwrap().len(), RECORDS as usize);
    assert_eq!(doubled.into_inner().unwrap(), []);
}

#[test]
fn a_blocked_poll_takes_over_from_the_dead_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).pin_writers(false).open().unwrap();
    engine.create_topic("t", TopicConfig::default().partitions(2)).unwrap();
    let short = Duration::from_millis(100);
    let mut a = member(&engine, "g").start().unwrap();
    let mut b = member(&engine, "g").session_timeout(short).start().unwrap();
    settle(&mut [&mut a, &mut b]);
    let orphan = partitions(&b)[0];
    fill(&engine, orphan, 7, 1);
    std::mem::forget(b);
    // One poll, woken by nothing but the other's time-out.
    assert_eq!(values(&a.poll(Duration::from_secs(60)).unwrap()), [(orphan, 7)]);
}

#[test]
fn closing_wakes_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).pin_writers(false).open().unwrap();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let mut busy = member(&engine, "g").start().unwrap();
    let mut idle = member(&engine, "g").start().unwrap();
    settle(&mut [&mut busy, &mut idle]);
    std::thread::scope(|scope| {
        let waiting = [busy, idle].map(|mut member| scope.spawn(move || member.poll(Duration::MAX).map(drop)));
        engine.close().unwrap();
        for result in waiting {
            fails(result.join().unwrap(), "Closed");
        }
    });
}

#[test]
fn sends_go_on_while_partitions_are_added() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).pin_writers(false).open().unwrap();
    engine.create_topic("t", TopicConfig::default().partitions(2)).unwrap();
    let stop = AtomicBool::new(false);
    let sent = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for key in ["a", "b", "c", "d"] {
            let (engine, stop, sent) = (&engine, &stop, &sent);
            scope.spawn(move || {
                let producer = engine.producer_for("t").unwrap();
                let mut number = 0_u64;
                while number < 1_000 || (number < 20_000 && !stop.load(Ordering::SeqCst)) {
                    let _ = producer.send(Record::new(&number.to_le_bytes()).key(key)).unwrap();
                    number += 1;
                }
                sent.lock().unwrap().insert(key.as_bytes().to_vec(), number);
            });
        }
        let mut next: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let mut consumer = member(&engine, "g").commit_acks(thalweg::Acks::Written).start().unwrap();
        let mut rounds = 0;
        loop {
            for batch in &consumer.poll(Duration::from_millis(5)).unwrap() {
                for record in batch {
                    let number = u64::from_le_bytes(record.value().unwrap().try_into().unwrap());
                    let next = next.entry(record.key().unwrap().to_vec()).or_default();
                    assert_eq!(number, *next, "key {:?}", record.key());
                    *next += 1;
                }
            }
            consumer.commit().unwrap();
            rounds += 1;
            if rounds % 10 == 0 && rounds <= 50 {
                let config = engine.describe_topic("t").unwrap().config;
                let partitions = config.partitions + 3;
                engine.alter_topic("t", config.partitions(partitions)).unwrap();
            }
            if rounds == 60 {
                stop.store(true, Ordering::SeqCst);
            }
            if rounds > 60 && sent.lock().unwrap().len() == 4 && *sent.lock().unwrap() == next {
                break;
            }
        }
    });
}

#[test]
fn g3_a_poll_that_waits_long_takes_over_from_one_that_died_after_a_long_poll() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).pin_writers(false).open().unwrap();
    engine.create_topic("t", TopicConfig::default().partitions(2)).unwrap();
    let long = Duration::from_secs(30);
    let mut a = member(&engine, "g").session_timeout(10 * SESSION).max_poll_interval(10 * SESSION).start().unwrap();
    let mut b = member(&engine, "g").session_timeout(Duration::from_millis(100)).start().unwrap();
    settle(&mut [&mut a, &mut b]);
    let (mine, orphan) = (partitions(&a)[0], partitions(&b)[0]);
    assert_ne!(mine, orphan);
    std::thread::scope(|scope| {
        let dying = scope.spawn(|| {
            assert_eq!(values(&b.poll(long).unwrap()), [(orphan, 7)]);
            std::mem::forget(b);
        });
        let heir = scope.spawn(|| values(&a.poll(long).unwrap()));
        // Both are expected to be in their polls by now; it holds if they aren't, too.
        std::thread::yield_now();
        while engine.describe_group("g").unwrap().state != thalweg::GroupState::Stable {}
        std::thread::sleep(Duration::from_millis(50));
        fill(&engine, orphan, 7, 1);
        dying.join().unwrap();
        assert_eq!(heir.join().unwrap(), [(orphan, 7)], "it hadn't committed");
    });
}

#[test]
fn g7_a_poll_that_waits_is_let_go_by_another_members_commit() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).pin_writers(false).open().unwrap();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let patient = || member(&engine, "g").session_timeout(10 * SESSION).max_poll_interval(10 * SESSION);
    let mut a = patient().start().unwrap();
    a.poll(NOW).unwrap();
    fill(&engine, 0, 1, 3);
    let config = engine.describe_topic("t").unwrap().config;
    engine.alter_topic("t", config.partitions(2)).unwrap();
    fill(&engine, 1, 4, 1);
    let mut b = patient().start().unwrap();
    settle_all_but_records(&mut a, &mut b);
    assert!(b.poll(NOW).unwrap().held().len() == 1);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| values(&b.poll(Duration::from_secs(30)).unwrap()));
        std::thread::sleep(Duration::from_millis(50));
        a.commit().unwrap();
        assert_eq!(waits.join().unwrap(), [(1, 4)]);
    });
}

/// Until `a` has partition 0 and has read it, and `b` has partition 1.
fn settle_all_but_records(a: &mut Consumer, b: &mut Consumer) {
    while partitions(a) != [0] || partitions(b) != [1] || a.position("t", 0).unwrap() < 3 {
        a.poll(NOW).unwrap();
        b.poll(NOW).unwrap();
    }
}

#[test]
fn a_poll_that_waits_ends_when_its_topic_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).pin_writers(false).open().unwrap();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let mut busy = engine.consumer("g").subscribe(["t"]).start().unwrap();
    let mut idle = engine.consumer("g").subscribe(["t"]).start().unwrap();
    settle(&mut [&mut busy, &mut idle]);
    let mut by_hand = engine.consumer("h").assign([("t", 0)]).start().unwrap();
    let mut without_group = engine.assign([("t", 0)]).unwrap();
    std::thread::scope(|scope| {
        let waiting = [&mut busy, &mut idle, &mut by_hand, &mut without_group];
        let waiting = waiting.map(|consumer| scope.spawn(move || consumer.poll(Duration::MAX).map(drop)));
        engine.delete_topic("t").unwrap();
        for result in waiting {
            fails(result.join().unwrap(), "UnknownTopic");
        }
    });
}
