//! Scenarios of threads that wait for what they sent, alone and among others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use thalweg::{Acks, ErrorKind, Record};

use super::Backend;
use super::scenarios::{all, small};

pub(crate) fn several_who_wait_at_once_all_go_on(backend: &Backend) {
    const ROUNDS: u64 = 300;
    let engine = backend.open();
    engine.create_topic("t", small().partitions(2)).unwrap();
    std::thread::scope(|scope| {
        let engine = &engine;
        scope.spawn(move || {
            let partition = engine.partition("t", 0).unwrap();
            for round in 0..ROUNDS {
                let acks = if round % 3 == 0 { Acks::Synced } else { Acks::Written };
                let sent = partition.append(&Record::new("x").acks(acks)).unwrap();
                assert_eq!(sent.wait().unwrap().offset, round);
            }
        });
        scope.spawn(move || {
            let mut consumer = engine.consumer("g").assign([("t", 0), ("t", 1)]).start().unwrap();
            let mut seen = 0;
            while seen < ROUNDS {
                let polled = consumer.poll(Duration::from_millis(2)).unwrap();
                seen += polled.batches().iter().map(|batch| batch.iter().count() as u64).sum::<u64>();
                consumer.commit().unwrap();
            }
        });
    });
    engine.close().unwrap();
}

/// One alone does the writer's work himself, with others he doesn't: nothing of it shows.
pub(crate) fn who_waits_alone_and_who_comes_meanwhile_lose_nothing(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small().acks(Acks::Synced)).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    for number in 0..100u64 {
        let at = partition.append(&Record::new(&number.to_le_bytes())).unwrap().wait().unwrap();
        assert_eq!(at.offset, number);
        assert!(partition.durable_offset() > number);
    }
    let done = AtomicBool::new(false);
    let others = thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut sent = 0;
            while !done.load(Ordering::SeqCst) {
                // Nobody waits for these.
                let _ = partition.append(&Record::new("other").acks(Acks::Written)).unwrap();
                sent += 1;
                thread::yield_now();
            }
            sent
        });
        for number in 100..200u64 {
            let receipt = partition.append(&Record::new(&number.to_le_bytes())).unwrap();
            let at = receipt.wait().unwrap();
            assert!(partition.durable_offset() > at.offset);
            assert_eq!(partition.get(at.offset).unwrap().view().value(), Some(&number.to_le_bytes()[..]));
        }
        done.store(true, Ordering::SeqCst);
        other.join().unwrap()
    });
    engine.flush().unwrap();
    let (other, mine): (Vec<_>, Vec<_>) = all(&partition).into_iter().partition(|value| value == b"other");
    assert_eq!(other.len(), others);
    assert_eq!(mine, (0..200u64).map(|number| number.to_le_bytes().to_vec()).collect::<Vec<_>>());
    engine.close().unwrap();
}

/// Whatever ends the partition, nobody waits for ever, and what was acknowledged is there.
pub(crate) fn who_waits_alone_is_told_of_the_end(backend: &Backend) {
    for deleted in [true, false] {
        let engine = backend.open();
        let name = if deleted { "deleted" } else { "closed" };
        engine.create_topic(name, small().acks(Acks::Synced)).unwrap();
        let partition = engine.partition(name, 0).unwrap();
        let waits = AtomicBool::new(false);
        let acknowledged = thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                for number in 0u64.. {
                    let outcome = partition.append(&Record::new("value")).and_then(|receipt| receipt.wait());
                    if let Err(error) = outcome {
                        let expected = matches!(error.kind(), ErrorKind::Closed | ErrorKind::UnknownTopic { .. });
                        assert!(expected, "{error}");
                        return number;
                    }
                    waits.store(number > 30, Ordering::SeqCst);
                }
                unreachable!("it ends with the partition")
            });
            while !waits.load(Ordering::SeqCst) && !waiter.is_finished() {
                thread::yield_now();
            }
            if deleted {
                engine.delete_topic(name).unwrap();
            } else {
                engine.close().unwrap();
            }
            waiter.join().unwrap()
        });
        if deleted {
            engine.close().unwrap();
        } else {
            let engine = backend.open();
            assert!(engine.partition(name, 0).unwrap().end_offset() >= acknowledged);
            engine.close().unwrap();
        }
    }
}
