//! Topics that get more partitions while they are written and read (G7).

use thalweg::{Acks, Event};

use crate::*;

/// Sends `key:number` records; each key's numbers rise.
fn send(engine: &Engine, numbers: std::ops::Range<u64>) {
    let producer = engine.producer_for("t").unwrap();
    for number in numbers {
        for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            let _ = producer.send(Record::new(&number.to_le_bytes()).key(key)).unwrap();
        }
    }
    engine.sync().unwrap();
}

/// Checks that each key's numbers come in order, and counts.
#[derive(Default)]
struct Order(BTreeMap<Vec<u8>, u64>, usize);

impl Order {
    #[track_caller]
    fn check(&mut self, polled: &Polled) -> usize {
        let mut seen = 0;
        for batch in polled {
            for record in batch {
                let number = u64::from_le_bytes(record.value().unwrap().try_into().unwrap());
                let next = self.0.entry(record.key().unwrap().to_vec()).or_default();
                assert_eq!(number, *next, "key {:?}", record.key());
                *next += 1;
                seen += 1;
            }
        }
        self.1 += seen;
        seen
    }
}

fn expand(engine: &Engine, partitions: u32) {
    let config = engine.describe_topic("t").unwrap().config.partitions(partitions);
    engine.alter_topic("t", config).unwrap();
}

#[test]
fn g7_order_per_key_is_kept_over_expansions() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    let mut order = Order::default();
    send(&engine, 0..20);
    let mut a = member(&engine, "g").max_poll_records(7).start().unwrap();
    order.check(&a.poll(NOW).unwrap());
    expand(&engine, 5);
    send(&engine, 20..40);
    let mut b = member(&engine, "g").max_poll_records(5).start().unwrap();
    expand(&engine, 6);
    send(&engine, 40..60);
    let mut held = 0;
    for _ in 0..1_000 {
        for consumer in [&mut a, &mut b] {
            let polled = consumer.poll(NOW).unwrap();
            held += polled.held().len();
            order.check(&polled);
            consumer.commit().unwrap();
        }
    }
    assert_eq!(order.1, 60 * 8);
    assert!(held > 0);
    assert!(world.told(|event| matches!(event, Event::GroupHeld { .. })) > 0);
    assert_eq!(engine.describe_topic("t").unwrap().partitions.len(), 6);
}

#[test]
fn g7_who_does_not_commit_is_held_and_shown() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    send(&engine, 0..3);
    expand(&engine, 2);
    send(&engine, 3..6);
    let mut a = member(&engine, "g").start().unwrap();
    assert_eq!(drain_keyed(&mut a), 24);
    let polled = a.poll(NOW).unwrap();
    let held: Vec<_> = polled
        .held()
        .iter()
        .map(|held| (held.partition, held.waits_for, held.until_offset, held.reached_offset))
        .collect();
    assert_eq!(held, [(0, 0, 24, 0), (1, 0, 24, 0)]);
    let rows = engine.describe_group("g").unwrap().offsets;
    assert!(rows.iter().all(|row| row.waits_for == Some((0, 24, 0))), "{rows:?}");
    a.commit().unwrap();
    assert_eq!(drain_keyed(&mut a), 24);
    assert!(a.poll(NOW).unwrap().held().is_empty());
    assert!(engine.describe_group("g").unwrap().offsets.iter().all(|row| row.waits_for.is_none()));
}

#[test]
fn g7_who_gets_none_of_the_new_partitions_is_held_too() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    let mut a = member(&engine, "g").start().unwrap();
    let mut b = member(&engine, "g").start().unwrap();
    settle(&mut [&mut a, &mut b]);
    send(&engine, 0..5);
    expand(&engine, 3);
    send(&engine, 5..10);
    let ends: Vec<u64> = (0..2).map(|partition| expansion_end(&engine, partition)).collect();
    for consumer in [&mut a, &mut b] {
        drain_keyed(consumer);
        for (_, partition) in consumer.assignment().collect::<Vec<_>>() {
            let position = consumer.position("t", partition).unwrap();
            assert_eq!(position, ends.get(partition as usize).copied().unwrap_or(0), "partition {partition}");
        }
    }
}

/// Where a group without commits is held in an old partition.
fn expansion_end(engine: &Engine, partition: u32) -> u64 {
    let mut asking = engine.consumer("asking").subscribe(["t"]).start().unwrap();
    drain_keyed(&mut asking);
    asking.position("t", partition).unwrap()
}

#[test]
fn g7_a_commit_whose_record_was_lost_lets_nothing_go() {
    let mut world = World::new();
    let engine = world.open();
    engine.create_topic("t", TopicConfig::default().partitions(2).acks(Acks::Written)).unwrap();
    let mut a = member(&engine, "g").commit_acks(Acks::Written).start().unwrap();
    let log = engine.partition("t", 1).unwrap();
    for number in 0_u64..10 {
        log.append(&Record::new(&number.to_le_bytes())).unwrap().wait().unwrap();
    }
    assert_eq!(drain_keyed(&mut a), 10);
    a.commit().unwrap();
    // The offset log survives the power loss, the records don't.
    let offsets = world.disk.list_files().into_iter().find(|path| path.to_string_lossy().contains("offsets-")).unwrap();
    let bytes = world.disk.read_file(&offsets).unwrap();
    std::mem::forget((engine, a, log));
    world.disk = world.disk.crash(thalweg::sim::CrashPolicy::PowerLoss);
    world.disk.write_file(&offsets, bytes).unwrap();
    let engine = world.open();
    assert_eq!(committed(&engine, "g")[&1], 10);
    fill(&engine, 1, 100, 5);
    expand(&engine, 3);
    fill(&engine, 2, 200, 1);
    let mut a = member(&engine, "g").max_poll_records(1).start().unwrap();
    let polled = a.poll(NOW).unwrap();
    assert_eq!(values(&polled), [(1, 100)]);
    let held: Vec<_> = polled.held().iter().map(|held| (held.partition, held.waits_for, held.reached_offset)).collect();
    assert_eq!(held, [(2, 1, 0)]);
    assert_eq!(drain(&mut a), [101, 102, 103, 104].map(|value| (1, value)));
    a.commit().unwrap();
    assert_eq!(drain(&mut a), [(2, 200)]);
}

fn drain_keyed(consumer: &mut Consumer) -> usize {
    let mut count = 0;
    loop {
        let polled = consumer.poll(NOW).unwrap();
        if polled.is_empty() {
            return count;
        }
        count += polled.batches().iter().map(|batch| batch.iter().count()).sum::<usize>();
    }
}

#[test]
fn g7_what_lets_go() {
    // By member, by topic, by hand, from the end on.
    for way in 0..4 {
        let world = World::new();
        let engine = with_topic(&world, 1);
        send(&engine, 0..3);
        expand(&engine, 2);
        let mut expected = 48;
        if way == 1 {
            let config = engine.describe_topic("t").unwrap().config.fence(false);
            engine.alter_topic("t", config).unwrap();
        }
        let settings = match way {
            0 => member(&engine, "g").skip_fence(true),
            2 => engine.consumer("g").assign([("t", 0), ("t", 1)]),
            3 => {
                expected = 24;
                member(&engine, "g").start_from(thalweg::StartPolicy::Latest)
            }
            _ => member(&engine, "g"),
        };
        let mut a = settings.start().unwrap();
        a.poll(NOW).unwrap();
        let read = if way == 3 { 0 } else { 24 };
        send(&engine, 3..6);
        assert_eq!(drain_keyed(&mut a), expected - read, "way {way}");
    }
}

#[test]
fn g7_an_expansion_survives_power_loss_with_what_it_promised() {
    let mut world = World::new();
    let engine = world.open();
    engine.create_topic("t", TopicConfig::default().acks(Acks::Written)).unwrap();
    let producer = engine.producer_for("t").unwrap();
    for number in 0_u64..10 {
        let _ = producer.send(Record::new(&number.to_le_bytes()).key("k")).unwrap();
    }
    expand(&engine, 3);
    std::mem::forget((engine, producer));
    world.disk = world.disk.crash(thalweg::sim::CrashPolicy::PowerLoss);
    let engine = world.open();
    let topic = engine.describe_topic("t").unwrap();
    assert_eq!(topic.partitions.iter().map(|partition| partition.end_offset).collect::<Vec<_>>(), [10, 0, 0]);
    for number in 10_u64..20 {
        let _ = engine.producer_for("t").unwrap().send(Record::new(&number.to_le_bytes()).key("k")).unwrap();
    }
    engine.sync().unwrap();
    let mut a = member(&engine, "g").start().unwrap();
    let mut order = Order::default();
    while order.1 < 20 {
        assert!(order.check(&a.poll(NOW).unwrap()) > 0);
        a.commit().unwrap();
    }
}

#[test]
fn g7_who_starts_at_the_end_misses_nothing_of_partitions_that_are_added() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    send(&engine, 0..3);
    let latest = |engine: &Engine| member(engine, "g").start_from(thalweg::StartPolicy::Latest).start().unwrap();
    let mut a = latest(&engine);
    assert_eq!(drain_keyed(&mut a), 0);
    expand(&engine, 3);
    send(&engine, 3..6);
    assert_eq!(drain_keyed(&mut a), 24);
    a.commit().unwrap();
    drop(a);
    // Also when it isn't there while that happens.
    expand(&engine, 5);
    send(&engine, 6..9);
    drop(engine);
    let engine = world.open();
    let mut a = latest(&engine);
    let mut read = 0;
    for _ in 0..5 {
        read += drain_keyed(&mut a);
        a.commit().unwrap();
    }
    assert_eq!(read, 24);
    let mut other = member(&engine, "other").start_from(thalweg::StartPolicy::Latest).start().unwrap();
    assert_eq!(drain_keyed(&mut other), 0);
}

#[test]
fn settings_can_be_changed_and_stay() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    let log = engine.partition("t", 0).unwrap();
    let large = vec![0; 4_000];
    let _ = log.append(&Record::new(&large)).unwrap();
    let config = engine.describe_topic("t").unwrap().config.max_message_bytes(2_000).retention_ms(Some(5_000));
    engine.alter_topic("t", config.clone()).unwrap();
    fails(log.append(&Record::new(&large)), "RecordTooLarge");
    fails(engine.alter_topic("t", config.clone().partitions(1)), "InvalidArgument");
    fails(engine.alter_topic("t", config.clone().partitions(0)), "InvalidConfig");
    fails(engine.alter_topic("nope", config.clone()), "UnknownTopic");
    assert_eq!(engine.describe_topic("t").unwrap().config, config);
    drop((engine, log));
    assert_eq!(world.open().describe_topic("t").unwrap().config, config);
}
