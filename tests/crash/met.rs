//! Goal: damage that a reader meets in a log that was closed cleanly stops the appends to that partition, in this
//! life and the next; readers and groups can go on behind it, and other partitions are not held up.
//!
//! Method: one byte is flipped in a closed directory on the simulated disk, below every mark, so that opening does
//! not notice; exact offsets, errors and events.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use thalweg::inspect::{repair_sim, verify_sim};
use thalweg::sim::{CrashPolicy, SimClock, SimDisk};
use thalweg::{Acks, Consumer, Engine, Error, ErrorKind, Event, OnDamage, Record, TopicConfig, Writers};

use crate::support::{append, numbers};

/// A batch of one record with a value of 100 bytes.
const BATCH: usize = 96 + 120;

/// An engine, and what it tells.
fn open(disk: &SimDisk) -> (Engine, Arc<Mutex<Vec<Event>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let events = told.clone();
    let builder = Engine::builder("data").writers(Writers::Inline).sim(disk).clock(Arc::new(SimClock::new())).seed(1);
    let engine = builder.on_event(move |event| events.lock().unwrap().push(event.clone())).open().unwrap();
    (engine, told)
}

/// Two partitions of ten records, closed; the bytes at these places of partition 0's first segment are flipped.
fn damaged(places: &[usize]) -> SimDisk {
    let disk = SimDisk::new();
    let (engine, _) = open(&disk);
    engine.create_topic("t", TopicConfig::default().partitions(2)).unwrap();
    for number in 0..2 {
        append(&engine.partition("t", number).unwrap(), 0, 10, 100, Acks::Synced);
    }
    engine.close().unwrap();
    let path = "data/topics/t/0/00000000000000000000.log";
    let mut bytes = disk.read_file(path).unwrap();
    places.iter().for_each(|&at| bytes[at] ^= 4);
    disk.write_file(path, bytes).unwrap();
    disk
}

/// In the body, and in the header, of the batch with this offset.
fn places_in(offset: usize) -> [usize; 2] {
    [4096 + offset * BATCH + 150, 4096 + offset * BATCH + 20]
}

fn is_corrupt(error: &Error, offset: u64, next_intact: u64) {
    assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
    let found = (error.topic(), error.partition(), error.offset(), error.next_intact());
    assert_eq!(found, (Some("t"), Some(0), Some(offset), Some(next_intact)), "{error}");
}

fn corrupt_events(told: &Mutex<Vec<Event>>) -> usize {
    told.lock().unwrap().iter().filter(|event| matches!(event, Event::PartitionCorrupt { .. })).count()
}

#[test]
fn a_reader_that_meets_damage_stops_the_appends_and_the_next_life_knows() {
    for place in places_in(4) {
        let disk = damaged(&[place]);
        let (engine, told) = open(&disk);
        let partition = engine.partition("t", 0).unwrap();
        // Nobody has looked there yet.
        assert!(engine.describe_topic("t").unwrap().partitions[0].failure.is_none());
        append(&partition, 10, 1, 100, Acks::Synced);
        let mut reading = partition.read(..).unwrap();
        (0..4).for_each(|_| drop(reading.next().unwrap().unwrap()));
        is_corrupt(&reading.next().unwrap().unwrap_err(), 4, 5);
        is_corrupt(&partition.get(4).unwrap_err(), 4, 5);
        // From now on it takes nothing, and says so.
        is_corrupt(&partition.append(&Record::new("x")).unwrap_err(), 4, 5);
        is_corrupt(engine.describe_topic("t").unwrap().partitions[0].failure.as_ref().unwrap(), 4, 5);
        assert_eq!(corrupt_events(&told), 1);
        // What is intact can be read, and ends without an error.
        let behind: Vec<_> = partition.read(5..).unwrap().map(|batch| batch.unwrap().offsets()).collect();
        assert_eq!((behind.first().unwrap().start, behind.last().unwrap().end), (5, 11));
        append(&engine.partition("t", 1).unwrap(), 10, 1, 100, Acks::Synced);
        engine.close().unwrap_err();
        // The next life looks there, whether it writes or only reads.
        for read_only in [true, false] {
            let disk = disk.crash(CrashPolicy::Kill);
            let builder = Engine::builder("data").writers(Writers::Inline).sim(&disk);
            let builder = if read_only { builder.read_only() } else { builder };
            let engine = builder.clock(Arc::new(SimClock::new())).open().unwrap();
            let damage = engine.recovery().partitions[0].damage.clone().unwrap();
            assert_eq!((damage.partition(), damage.offset()), (Some(0), Some(4)), "{damage}");
            assert_eq!(engine.partition("t", 0).unwrap().end_offset(), 11);
        }
        // Once it is repaired, it goes on, and is forgotten.
        repair_sim(&disk, "data", false, &mut |_| {}).unwrap();
        for offset in 11..13 {
            let (engine, _) = open(&disk);
            append(&engine.partition("t", 0).unwrap(), offset, 1, 100, Acks::Synced);
            engine.close().unwrap();
        }
        assert!(verify_sim(&disk, "data", &mut |_| {}).unwrap().is_sound());
    }
}

/// What all polls return until one returns nothing: the offsets of each partition, and the errors.
fn poll_all(consumer: &mut Consumer, mut after_error: impl FnMut(&mut Consumer, &Error)) -> ([Vec<u64>; 2], usize) {
    let (mut offsets, mut errors) = ([Vec::new(), Vec::new()], 0);
    for _ in 0..100 {
        match consumer.poll(Duration::ZERO) {
            Ok(polled) if polled.is_empty() => return (offsets, errors),
            Ok(polled) => {
                polled.into_iter().for_each(|batch| offsets[batch.partition() as usize].extend(batch.offsets()))
            }
            Err(error) => {
                errors += 1;
                after_error(consumer, &error);
            }
        }
    }
    panic!("it never ends: {offsets:?}, {errors} errors");
}

#[test]
fn a_consumer_delivers_other_partitions_and_is_told_where_to_go_on() {
    // Two batches in a row, and one alone.
    let disk = damaged(&[places_in(2)[0], places_in(3)[1], places_in(7)[1]]);
    let (engine, _) = open(&disk);
    let mut consumer = engine.assign([("t", 0), ("t", 1)]).unwrap();
    let mut skipped = Vec::new();
    let (offsets, errors) = poll_all(&mut consumer, |consumer, error| {
        skipped.push(error.offset().unwrap()..error.next_intact().unwrap());
        consumer.seek("t", 0, error.next_intact().unwrap()).unwrap();
    });
    assert_eq!((offsets, errors), ([vec![0, 1, 4, 5, 6, 8, 9], (0..10).collect()], 2));
    assert_eq!(skipped, [2..4, 7..8]);
}

#[test]
fn an_error_and_the_records_of_other_partitions_take_turns() {
    let disk = damaged(&[places_in(0)[0]]);
    let (engine, _) = open(&disk);
    let mut consumer = engine.assign([("t", 0), ("t", 1)]).unwrap();
    let other = engine.partition("t", 1).unwrap();
    let (mut read, mut errors) = (0, 0);
    for round in 0..10 {
        append(&other, 10 + round, 1, 100, Acks::Written);
        for _ in 0..2 {
            match consumer.poll(Duration::ZERO) {
                Ok(polled) => read += polled.into_iter().map(|batch| batch.offsets().count()).sum::<usize>(),
                Err(error) => {
                    is_corrupt(&error, 0, 1);
                    errors += 1;
                }
            }
        }
    }
    assert_eq!((read, errors), (20, 10));
}

#[test]
fn a_group_skips_damage_and_commits_behind_it() {
    for place in places_in(4) {
        let disk = damaged(&[place]);
        let (engine, told) = open(&disk);
        let group =
            |engine: &Engine, on_damage| engine.consumer("g").subscribe(["t"]).on_damage(on_damage).start().unwrap();
        // By default it stands before the damage, however often it is asked.
        let mut consumer = group(&engine, OnDamage::Fail);
        let (mut first, mut errors) = (Vec::new(), 0);
        for _ in 0..6 {
            match consumer.poll(Duration::ZERO) {
                Ok(polled) => first.extend(polled.into_iter().map(|batch| (batch.partition(), batch.offsets()))),
                Err(error) => {
                    is_corrupt(&error, 4, 5);
                    errors += 1;
                }
            }
        }
        assert_eq!((first.iter().filter(|(partition, _)| *partition == 0).count(), first.len()), (4, 14));
        assert!(errors > 2);
        consumer.commit().unwrap();
        drop(consumer);
        let mut consumer = group(&engine, OnDamage::Skip);
        assert_eq!(poll_all(&mut consumer, |_, error| panic!("{error}")).0, [(5..10).collect(), vec![]]);
        let skips: Vec<_> = told
            .lock()
            .unwrap()
            .iter()
            .filter_map(|event| match event {
                Event::DamageSkipped { topic, partition, from, to, .. } => {
                    Some((topic.clone(), *partition, *from, *to))
                }
                _ => None,
            })
            .collect();
        assert_eq!(skips, [("t".to_owned(), 0, 4, 5)]);
        // Also right behind the damage a commit is possible, and the next life, damaged or repaired, begins there.
        consumer.seek("t", 0, 5).unwrap();
        consumer.commit().unwrap();
        drop(consumer);
        engine.close().unwrap_err();
        for repaired in [false, true] {
            if repaired {
                repair_sim(&disk, "data", false, &mut |_| {}).unwrap();
            }
            let disk = disk.crash(CrashPolicy::Kill);
            let mut consumer = group(&open(&disk).0, OnDamage::Fail);
            let (offsets, errors) = poll_all(&mut consumer, |_, error| panic!("{error}"));
            assert_eq!((offsets, errors), ([(5..10).collect(), vec![]], 0), "repaired: {repaired}");
        }
    }
}

/// Damage at the end leaves nothing to go on with: a reader there is told, and a consumer that skips waits.
#[test]
fn behind_damage_at_the_end_there_is_nothing() {
    let disk = damaged(&[]);
    let (engine, _) = open(&disk);
    let partition = engine.partition("t", 0).unwrap();
    append(&partition, 10, 1, 100, Acks::Synced);
    let disk = disk.crash(CrashPolicy::Kill);
    let path = "data/topics/t/0/00000000000000000000.log";
    let mut bytes = disk.read_file(path).unwrap();
    bytes[places_in(10)[0]] ^= 1;
    disk.write_file(path, bytes).unwrap();
    let (engine, _) = open(&disk);
    assert_eq!(engine.partition("t", 0).unwrap().end_offset(), 10);
    let mut consumer = engine.assign([("t", 0)]).unwrap();
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().into_iter().count(), 10);
    let error = consumer.poll(Duration::ZERO).unwrap_err();
    assert_eq!((error.offset(), error.next_intact()), (Some(10), None), "{error}");
    consumer.on_damage(OnDamage::Skip);
    assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
    assert_eq!(consumer.position("t", 0).unwrap(), 10);
    assert_eq!(numbers(&engine.partition("t", 1).unwrap()), (0..10).collect::<Vec<_>>());
}
