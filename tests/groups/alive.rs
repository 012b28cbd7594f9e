//! How long a member lives: which calls are signs of life, futures that nobody polls, and user code that
//! panics (listener, assignor).

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake, Waker};

use thalweg::assignor::{Assignment, Assignor, Sticky, Subscriptions};
use thalweg::{Consumer, Event, GroupState, RebalanceListener};

use crate::*;

#[test]
fn a_job_may_take_as_long_as_it_likes_below_the_poll_interval() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    fill(&engine, 0, 0, 2);
    let mut a = engine.consumer("g").subscribe(["t"]).max_poll_records(1).start().unwrap();
    for offset in 0..2 {
        assert_eq!(values(&a.poll(NOW).unwrap()), [(0, offset)]);
        // No call at all for 299 seconds.
        world.pass(299);
        a.commit().unwrap();
        assert_eq!(committed(&engine, "g"), [(0, offset + 1)].into());
    }
    a.poll(NOW).unwrap();
    world.pass(300);
    fails(a.commit(), "UnknownMember");
}

#[test]
fn keep_alive_counts_as_a_poll_and_tells_who_is_no_member_any_more() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    fill(&engine, 0, 0, 1);
    let mut a = member(&engine, "g").start().unwrap();
    assert_eq!(drain(&mut a), [(0, 0)]);
    for _ in 0..20 {
        world.pass(9);
        a.keep_alive().unwrap();
    }
    a.commit().unwrap();
    // Without it, the session time-out and the poll interval end the membership.
    world.pass(10);
    fails(a.keep_alive(), "UnknownMember");
    a.poll(NOW).unwrap();
    for _ in 0..4 {
        world.pass(9);
        let _ = a.position("t", 0);
    }
    fails(a.keep_alive(), "UnknownMember");
    // A consumer that is no member needs none.
    engine.consumer("h").assign([("t", 0)]).start().unwrap().keep_alive().unwrap();
    engine.close().unwrap();
    fails(a.keep_alive(), "Closed");
}

/// Counts its wake-ups.
#[derive(Default)]
struct Counting(AtomicU32);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_future_that_nobody_polls_is_no_sign_of_life() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    let wants = || engine.consumer("g").subscribe(["t"]).max_poll_interval(SESSION);
    let (mut a, mut b) = (wants().start().unwrap(), wants().start().unwrap());
    settle(&mut [&mut a, &mut b]);
    assert_eq!((partitions(&a).len(), partitions(&b).len()), (1, 1));
    let counting = Arc::<Counting>::default();
    let waker = Waker::from(counting.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = a.next_batches();
    let mut poll = || Pin::new(&mut future).poll(&mut context);
    assert!(poll().is_pending());
    // A task that runs is woken in time to show it, for as long as it waits.
    for round in 1..=20 {
        world.pass(5);
        b.poll(NOW).unwrap();
        assert_eq!(counting.0.load(Ordering::SeqCst), round);
        assert!(poll().is_pending());
    }
    assert_eq!(engine.describe_group("g").unwrap().members.len(), 2);
    // One that doesn't is woken once, and then its partitions are others'.
    world.pass(5);
    b.poll(NOW).unwrap();
    world.pass(5);
    b.poll(NOW).unwrap();
    assert_eq!(counting.0.load(Ordering::SeqCst), 21);
    assert_eq!((engine.describe_group("g").unwrap().members.len(), partitions(&b)), (1, vec![0, 1]));
    // It comes back when the task runs again.
    assert!(poll().is_pending());
    assert_eq!(engine.describe_group("g").unwrap().members.len(), 2);
}

#[test]
fn the_upkeep_thread_wakes_a_future_and_removes_who_does_not_poll() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).pin_writers(false).open().unwrap();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let wants = || engine.consumer("g").subscribe(["t"]);
    let mut a = wants().max_poll_interval(Duration::from_millis(200)).start().unwrap();
    assert!(a.poll(NOW).unwrap().is_empty());
    fill(&engine, 0, 7, 1);
    let first = a.next_batches();
    drop(first);
    assert_eq!(drain(&mut a), [(0, 7)]);
    let counting = Arc::<Counting>::default();
    let waker = Waker::from(counting.clone());
    let mut future = a.next_batches();
    assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
    let mut b = wants().start().unwrap();
    // One poll of the other, which nothing but the upkeep ends: the record comes again, as it wasn't committed.
    assert_eq!(values(&b.poll(Duration::from_secs(60)).unwrap()), [(0, 7)]);
    assert!(counting.0.load(Ordering::SeqCst) > 0);
}

/// Panics in the next call of the method it names.
#[derive(Clone, Default)]
struct Clumsy(Arc<Mutex<(&'static str, Vec<String>)>>);

impl Clumsy {
    fn will_panic_in(&self, method: &'static str) {
        self.0.lock().unwrap().0 = method;
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }

    fn call(&self, method: &'static str, partitions: &[(String, u32)]) {
        let mut inner = self.0.lock().unwrap();
        let numbers: Vec<u32> = partitions.iter().map(|(_, partition)| *partition).collect();
        inner.1.push(format!("{method} {numbers:?}"));
        if std::mem::take(&mut inner.0) == method {
            drop(inner);
            panic!("on purpose, in {method}");
        }
        if inner.0.is_empty() {
            inner.0 = "";
        }
    }
}

impl RebalanceListener for Clumsy {
    fn on_assigned(&mut self, _: &mut Consumer, partitions: &[(String, u32)]) {
        self.call("assigned", partitions);
    }

    fn on_revoked(&mut self, _: &mut Consumer, partitions: &[(String, u32)]) {
        self.call("revoked", partitions);
    }

    fn on_lost(&mut self, _: &mut Consumer, partitions: &[(String, u32)]) {
        self.call("lost", partitions);
    }
}

fn panics(consumer: &mut Consumer) {
    assert!(catch_unwind(AssertUnwindSafe(|| consumer.poll(NOW))).is_err());
}

#[test]
fn after_a_panic_in_a_listener_the_consumer_goes_on() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    fill(&engine, 0, 0, 1);
    fill(&engine, 1, 1, 1);
    let clumsy = Clumsy::default();
    let mut a = member(&engine, "g").listener(clumsy.clone()).start().unwrap();
    clumsy.will_panic_in("assigned");
    panics(&mut a);
    assert_eq!(drain(&mut a), [(0, 0), (1, 1)]);
    assert_eq!(clumsy.said(), ["assigned [0, 1]"], "told once");
    // A partition isn't given back before it was told, and it is told again.
    let mut b = member(&engine, "g").start().unwrap();
    clumsy.will_panic_in("revoked");
    panics(&mut a);
    b.poll(NOW).unwrap();
    assert_eq!((partitions(&a), partitions(&b)), (vec![0, 1], vec![]));
    a.poll(NOW).unwrap();
    b.poll(NOW).unwrap();
    let (kept, gone) = (partitions(&a)[0], partitions(&b)[0]);
    assert_eq!(clumsy.said(), [format!("revoked [{gone}]"), format!("revoked [{gone}]")]);
    a.commit().unwrap();
    drop(b);
    a.poll(NOW).unwrap();
    clumsy.said();
    // Lost: it joins again all the same.
    world.pass(60);
    engine.describe_group("g").unwrap();
    clumsy.will_panic_in("lost");
    panics(&mut a);
    a.poll(NOW).unwrap();
    assert_eq!(clumsy.said(), ["lost [0, 1]", "assigned [0, 1]"]);
    assert_eq!(committed(&engine, "g")[&kept], 1);
    a.commit().unwrap();
}

/// Panics while the count is above 0.
#[derive(Clone, Default)]
struct Fragile(Arc<AtomicU32>);

impl Assignor for Fragile {
    fn name(&self) -> &str {
        "fragile"
    }

    fn assign(&self, input: &Subscriptions) -> Assignment {
        assert_eq!(self.0.load(Ordering::SeqCst), 0, "on purpose");
        Sticky.assign(input)
    }
}

#[test]
fn a_panic_in_an_assignor_reaches_nobody_and_is_told() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    let fragile = Fragile::default();
    let wants = || member(&engine, "g").assignor(fragile.clone());
    let mut a = wants().start().unwrap();
    a.poll(NOW).unwrap();
    assert_eq!(partitions(&a), [0, 1]);
    fragile.0.store(1, Ordering::SeqCst);
    // In start, in a poll, in a drop, and while a topic grows.
    let mut b = wants().start().unwrap();
    settle(&mut [&mut a, &mut b]);
    assert_eq!((partitions(&a), partitions(&b)), (vec![0, 1], vec![]));
    let config = engine.describe_topic("t").unwrap().config;
    engine.alter_topic("t", config.partitions(3)).unwrap();
    drop(wants().start().unwrap());
    fill(&engine, 0, 0, 1);
    assert_eq!(drain(&mut a), [(0, 0)], "who reads reads on");
    a.commit().unwrap();
    let group = engine.describe_group("g").unwrap();
    assert_eq!((group.state, group.members.len()), (GroupState::Preparing, 2));
    assert!(group.assignor_failure.as_ref().unwrap().contains("on purpose"), "{group:?}");
    assert!(world.told(|event| matches!(event, Event::AssignorFailed { group, reason } if group == "g" && reason.contains("on purpose"))) >= 4);
    let failures = engine.failures();
    let failure = failures.iter().find(|failure| failure.what == "a group's assignor").unwrap();
    assert!(failure.error.to_string().contains("on purpose") && failure.count >= 4 && !failure.stopped, "{failure:?}");
    fragile.0.store(0, Ordering::SeqCst);
    for _ in 0..8 {
        world.pass(9);
        settle(&mut [&mut a, &mut b]);
    }
    let mut all = [partitions(&a), partitions(&b)].concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2]);
    let group = engine.describe_group("g").unwrap();
    assert_eq!((group.state, group.assignor_failure), (GroupState::Stable, None));
}

#[test]
fn a_panic_in_an_assignor_on_the_upkeep_thread_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (send, told) = std::sync::mpsc::channel();
    let send = Mutex::new(send);
    let engine = Engine::builder(dir.path()).pin_writers(false).on_event(move |event| {
        let what = match event {
            Event::AssignorFailed { .. } => "failed",
            Event::GroupRebalanced { members: 1, .. } => "one member",
            _ => return,
        };
        let _ = send.lock().unwrap().send(what);
    });
    let engine = engine.open().unwrap();
    engine.create_topic("t", TopicConfig::default().partitions(2)).unwrap();
    let fragile = Fragile::default();
    let wants = || engine.consumer("g").subscribe(["t"]).assignor(fragile.clone());
    let mut a = wants().start().unwrap();
    let mut b = wants().session_timeout(Duration::from_millis(100)).start().unwrap();
    settle(&mut [&mut a, &mut b]);
    fragile.0.store(1, Ordering::SeqCst);
    std::mem::forget(b);
    assert_eq!(told.recv().unwrap(), "one member", "a, at first");
    // The upkeep removes the dead one, calls the assignor again when it failed, and until it works.
    assert_eq!([told.recv().unwrap(), told.recv().unwrap()], ["failed", "failed"]);
    fragile.0.store(0, Ordering::SeqCst);
    while told.recv().unwrap() != "one member" {}
    a.poll(NOW).unwrap();
    assert_eq!(partitions(&a), [0, 1]);
    engine.close().unwrap();
}
