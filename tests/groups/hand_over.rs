//! Who reads what, and what happens when members come, go, die and stall (G1 to G6).

use std::sync::{Arc, Mutex};

use thalweg::{Consumer, ErrorKind, Event, GroupState, RebalanceListener};

use crate::*;

#[test]
fn g1_g3_members_share_and_a_moving_partition_is_given_back_first() {
    let world = World::new();
    let engine = with_topic(&world, 4);
    for partition in 0..4 {
        fill(&engine, partition, 0, 10);
    }
    let mut a = member(&engine, "g").start().unwrap();
    assert_eq!(drain(&mut a).len(), 40);
    assert_eq!(partitions(&a), [0, 1, 2, 3]);
    let mut b = member(&engine, "g").start().unwrap();
    // a hasn't polled since: everything is still its own, and its commits count.
    assert!(b.poll(NOW).unwrap().is_empty() && partitions(&b).is_empty());
    assert_eq!(engine.describe_group("g").unwrap().state, GroupState::Preparing);
    a.commit().unwrap();
    settle(&mut [&mut a, &mut b]);
    assert_eq!((partitions(&a).len(), partitions(&b).len()), (2, 2));
    let mut all = [partitions(&a), partitions(&b)].concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    assert!(drain(&mut b).is_empty(), "a committed all of it");
    for partition in 0..4 {
        fill(&engine, partition, 10, 1);
    }
    assert_eq!((drain(&mut a).len(), drain(&mut b).len()), (2, 2));
    assert_eq!(engine.describe_group("g").unwrap().state, GroupState::Stable);
}

#[test]
fn g2_groups_do_not_know_of_each_other() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    fill(&engine, 0, 0, 5);
    fill(&engine, 1, 0, 5);
    let mut a = member(&engine, "a").start().unwrap();
    let mut b = member(&engine, "b").start().unwrap();
    assert_eq!((drain(&mut a).len(), drain(&mut b).len()), (10, 10));
    a.commit().unwrap();
    assert_eq!((committed(&engine, "a").len(), committed(&engine, "b").len()), (2, 0));
    assert_eq!(engine.groups().unwrap(), ["a", "b"]);
}

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn note(&self, what: &str, partitions: &[(String, u32)]) {
        let numbers: Vec<u32> = partitions.iter().map(|(_, partition)| *partition).collect();
        self.0.lock().unwrap().push(format!("{what} {numbers:?}"));
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl RebalanceListener for Told {
    fn on_assigned(&mut self, consumer: &mut Consumer, partitions: &[(String, u32)]) {
        for (topic, partition) in partitions {
            consumer.position(topic, *partition).unwrap();
        }
        assert!(consumer.poll(NOW).is_err(), "no poll within a poll");
        self.note("assigned", partitions);
    }

    fn on_revoked(&mut self, consumer: &mut Consumer, partitions: &[(String, u32)]) {
        consumer.commit().unwrap();
        self.note("revoked", partitions);
    }

    fn on_lost(&mut self, consumer: &mut Consumer, partitions: &[(String, u32)]) {
        assert!(partitions.iter().all(|(topic, partition)| consumer.position(topic, *partition).is_err()));
        self.note("lost", partitions);
    }
}

#[test]
fn g3_a_member_that_dies_without_a_word_is_replaced_after_the_session_time_out() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    let told = [Told::default(), Told::default()];
    let mut a = member(&engine, "g").listener(told[0].clone()).start().unwrap();
    let mut b = member(&engine, "g").listener(told[1].clone()).start().unwrap();
    settle(&mut [&mut a, &mut b]);
    fill(&engine, 0, 0, 3);
    fill(&engine, 1, 0, 3);
    assert_eq!((drain(&mut a).len(), drain(&mut b).len()), (3, 3));
    b.commit().unwrap();
    let (its, id) = (partitions(&b)[0], b.member_id().unwrap().to_owned());
    told.iter().for_each(|told| drop(told.take()));
    std::mem::forget(b);
    world.pass(9);
    assert!(a.poll(NOW).unwrap().is_empty());
    assert_eq!(partitions(&a).len(), 1);
    world.pass(1);
    assert!(a.poll(NOW).unwrap().is_empty(), "the dead one's commit counts");
    assert_eq!(partitions(&a), [0, 1]);
    assert_eq!(told[0].take(), [format!("assigned [{its}]")]);
    assert_eq!(told[1].take(), [] as [String; 0], "the dead hear nothing");
    let gone = |event: &Event| matches!(event, Event::MemberGone { member, reason, .. } if *member == id && reason.contains("session"));
    assert_eq!(world.told(gone), 1);
}

#[test]
fn g3_a_member_that_stalls_is_replaced_told_so_and_comes_back() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    let told = Told::default();
    let mut a = member(&engine, "g").start().unwrap();
    let mut b = member(&engine, "g").listener(told.clone()).start().unwrap();
    settle(&mut [&mut a, &mut b]);
    fill(&engine, 0, 0, 3);
    fill(&engine, 1, 0, 3);
    drain(&mut b);
    told.take();
    let stuck = partitions(&b)[0];
    let id = b.member_id().unwrap().to_owned();
    // It calls, but doesn't poll.
    let mut read = Vec::new();
    for _ in 0..30 {
        world.pass(1);
        read.extend(values(&a.poll(NOW).unwrap()));
        let _ = b.position("t", stuck);
    }
    assert_eq!(partitions(&a), [0, 1]);
    let error = fails(b.commit(), "UnknownMember");
    assert!(
        matches!(error.kind(), ErrorKind::UnknownMember { member, reason, .. } if *member == id && reason.contains("poll"))
    );
    read.extend(drain(&mut a));
    b.poll(NOW).unwrap();
    assert_eq!(told.take(), [format!("lost [{stuck}]")]);
    assert_ne!(b.member_id(), Some(&*id));
    a.commit().unwrap();
    settle(&mut [&mut a, &mut b]);
    assert_eq!((partitions(&a).len(), partitions(&b).len()), (1, 1));
    read.extend(drain(&mut b));
    read.sort_unstable();
    read.dedup();
    assert_eq!(read.len(), 6);
}

#[test]
fn g3_a_dropped_handle_leaves_at_once() {
    let world = World::new();
    let engine = with_topic(&world, 3);
    let mut a = member(&engine, "g").start().unwrap();
    let mut b = member(&engine, "g").start().unwrap();
    settle(&mut [&mut a, &mut b]);
    drop(b);
    a.poll(NOW).unwrap();
    assert_eq!(partitions(&a), [0, 1, 2]);
    drop(a);
    let group = engine.describe_group("g").unwrap();
    assert_eq!((group.state, group.members.len()), (GroupState::Empty, 0));
    assert!(group.empty_since_ms.is_some());
}

#[test]
fn g3_a_panicking_member_leaves() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    let mut a = member(&engine, "g").start().unwrap();
    a.poll(NOW).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _a = a;
        panic!("while processing");
    }));
    assert!(panicked.is_err());
    assert_eq!(engine.describe_group("g").unwrap().members.len(), 0);
}

#[test]
fn g4_generations_rise_over_restarts() {
    let world = World::new();
    let mut last = 0;
    for life in 0..4 {
        let engine = if life == 0 { with_topic(&world, 2) } else { world.open() };
        let mut a = member(&engine, "g").start().unwrap();
        a.poll(NOW).unwrap();
        let mut b = member(&engine, "g").start().unwrap();
        settle(&mut [&mut a, &mut b]);
        assert!(a.generation() > last && a.generation() == b.generation());
        last = a.generation();
        drop((a, b));
        engine.close().unwrap();
    }
}

#[test]
fn g6_more_members_than_partitions() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    let mut a = member(&engine, "g").start().unwrap();
    let mut b = member(&engine, "g").start().unwrap();
    settle(&mut [&mut a, &mut b]);
    let idle = if partitions(&a).is_empty() { &a } else { &b };
    let group = engine.describe_group("g").unwrap();
    let named: Vec<_> = group.members.iter().filter(|member| member.is_idle()).map(|member| &*member.id).collect();
    assert_eq!(named, [idle.member_id().unwrap()]);
    assert!(
        world.told(|event| matches!(event, Event::MemberIdle { member, .. } if Some(&**member) == idle.member_id()))
            > 0
    );
    let (busy, mut idle) = if partitions(&a).is_empty() { (b, a) } else { (a, b) };
    drop(busy);
    idle.poll(NOW).unwrap();
    assert_eq!(partitions(&idle), [0]);
}

#[test]
fn an_instance_comes_back_without_disturbing_anyone() {
    let world = World::new();
    let engine = with_topic(&world, 4);
    let mut a = member(&engine, "g").instance_id("one").start().unwrap();
    let mut b = member(&engine, "g").instance_id("two").start().unwrap();
    settle(&mut [&mut a, &mut b]);
    for partition in 0..4 {
        fill(&engine, partition, 0, 2);
    }
    drain(&mut a);
    a.commit().unwrap();
    let (mine, generation) = (partitions(&a), a.generation());
    drop(a);
    world.pass(5);
    b.poll(NOW).unwrap();
    assert_eq!(partitions(&b).len(), 2);
    let mut a = member(&engine, "g").instance_id("one").start().unwrap();
    assert!(a.poll(NOW).unwrap().is_empty(), "it goes on from its commit");
    b.poll(NOW).unwrap();
    assert_eq!((partitions(&a), a.generation(), b.generation()), (mine, generation, generation));
    drop(a);
    world.pass(10);
    b.poll(NOW).unwrap();
    assert_eq!(partitions(&b), [0, 1, 2, 3]);
}

#[test]
fn of_two_with_one_instance_id_the_older_is_fenced() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    fill(&engine, 0, 0, 1);
    let told = Told::default();
    let mut old = member(&engine, "g").instance_id("one").listener(told.clone()).start().unwrap();
    drain(&mut old);
    let mut new = member(&engine, "g").instance_id("one").start().unwrap();
    assert_eq!(drain(&mut new).len(), 1);
    fails(old.commit(), "FencedInstance");
    told.take();
    fails(old.poll(NOW), "FencedInstance");
    assert_eq!(told.take(), ["lost [0, 1]"]);
    // It stays so: coming back would fence the new one in turn, and that one it.
    fails(old.poll(NOW), "FencedInstance");
    fails(old.commit(), "FencedInstance");
    assert_eq!(old.member_id(), None);
    new.poll(NOW).unwrap();
    drop(old);
    new.commit().unwrap();
    assert_eq!(partitions(&new), [0, 1]);
}

#[test]
fn subscriptions_by_pattern_and_topics_that_come_and_go() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    let told = Told::default();
    let mut a = engine.consumer("g").subscribe_pattern("t.*").listener(told.clone()).start().unwrap();
    a.poll(NOW).unwrap();
    engine.create_topic("t2", TopicConfig::default().partitions(2)).unwrap();
    engine.create_topic("other", TopicConfig::default()).unwrap();
    a.poll(NOW).unwrap();
    assert_eq!(a.assignment().collect::<Vec<_>>(), [("t", 0), ("t2", 0), ("t2", 1)]);
    fill(&engine, 0, 0, 3);
    drain(&mut a);
    a.commit().unwrap();
    told.take();
    engine.delete_topic("t").unwrap();
    assert!(a.poll(NOW).unwrap().is_empty());
    assert_eq!(told.take(), ["lost [0]"]);
    assert_eq!(committed(&engine, "g").len(), 0, "the topic's commits went with it");
    // Another life of the name begins anew.
    engine.create_topic("t", TopicConfig::default()).unwrap();
    fill(&engine, 0, 7, 1);
    assert_eq!(drain(&mut a), [(0, 7)]);
}

#[test]
fn a_member_whose_last_topic_was_deleted_is_told_so_once() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    engine.create_topic("u", TopicConfig::default()).unwrap();
    let told = Told::default();
    let mut a = engine.consumer("g").subscribe(["t", "u"]).listener(told.clone()).start().unwrap();
    let mut idle = engine.consumer("g").subscribe(["t"]).start().unwrap();
    let mut by_pattern = engine.consumer("h").subscribe_pattern("t|u").start().unwrap();
    settle(&mut [&mut a, &mut idle, &mut by_pattern]);
    engine.delete_topic("u").unwrap();
    assert!(a.poll(NOW).unwrap().is_empty(), "there is another");
    engine.delete_topic("t").unwrap();
    for member in [&mut a, &mut idle] {
        let error = fails(member.poll(NOW), "UnknownTopic");
        assert_eq!(error.kind(), &ErrorKind::UnknownTopic { topic: "t".into() });
        assert!(member.poll(NOW).unwrap().is_empty(), "once");
    }
    assert!(told.take().contains(&"lost [0]".to_owned()));
    assert!(by_pattern.poll(NOW).unwrap().is_empty());
    // Made again, it is read; deleted again, that is told again.
    engine.create_topic("t", TopicConfig::default()).unwrap();
    fill(&engine, 0, 7, 1);
    settle(&mut [&mut a, &mut idle]);
    let read = [drain(&mut a), drain(&mut idle)].concat();
    assert!(read.is_empty() && partitions(&a).len() + partitions(&idle).len() == 1, "the settling polls read it");
    assert_eq!(drain(&mut by_pattern), [(0, 7)]);
    engine.delete_topic("t").unwrap();
    fails(a.poll(NOW), "UnknownTopic");
    fails(idle.poll(NOW), "UnknownTopic");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    fails(engine.consumer("").subscribe(["t"]).start(), "InvalidArgument");
    fails(engine.consumer(&"g".repeat(250)).subscribe(["t"]).start(), "InvalidArgument");
    fails(engine.consumer("g").start(), "InvalidArgument");
    fails(engine.consumer("g").subscribe(["nope"]).start(), "UnknownTopic");
    fails(engine.consumer("g").assign([("t", 1)]).start(), "UnknownPartition");
    fails(engine.consumer("g").assign([("t", 0), ("t", 0)]).start(), "InvalidArgument");
    fails(engine.consumer("g").subscribe_pattern("(").start(), "InvalidArgument");
    fails(member(&engine, "g").session_timeout(NOW).start(), "InvalidArgument");
    fails(member(&engine, "g").max_poll_records(0).start(), "InvalidArgument");
    fails(member(&engine, "g").instance_id("").start(), "InvalidArgument");
    fails(engine.describe_group("g"), "UnknownGroup");
    fails(engine.assign([("t", 0)]).unwrap().commit(), "InvalidArgument");
    assert_eq!(engine.groups().unwrap(), [] as [&str; 0]);
    engine.close().unwrap();
    fails(member(&engine, "g").start(), "Closed");
}

#[test]
fn a_consumer_outlives_its_engine_without_harm() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    fill(&engine, 0, 0, 1);
    let mut a = member(&engine, "g").start().unwrap();
    drain(&mut a);
    let log = engine.partition("t", 0).unwrap();
    engine.close().unwrap();
    let before = world.disk.read_file("data/offsets-1").unwrap();
    let catalog = world.disk.read_file("data/catalog-1").unwrap();
    // The directory may be another's by now: nothing is written any more.
    fails(a.commit(), "Closed");
    fails(log.delete_records(1), "Closed");
    assert!(a.poll(NOW).is_err() || a.poll(NOW).unwrap().is_empty());
    drop((a, engine));
    assert_eq!(world.disk.read_file("data/offsets-1").unwrap(), before);
    assert_eq!(world.disk.read_file("data/catalog-1").unwrap(), catalog);
    world.open();
}
