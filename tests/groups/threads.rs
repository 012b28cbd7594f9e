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
