//! Members in threads on the real disk that leave, panic, die without a word and stall while topics
//! grow, for a few seconds; looked at from outside. `THALWEG_SEED=n` repeats a choice of acts (not
//! their timing), `THALWEG_CHAOS_SECONDS=n` runs for longer.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use thalweg::{Acks, ErrorKind, RebalanceListener};

use crate::model::Random;
use crate::*;

const GROUPS: [&str; 2] = ["g", "h"];
const MEMBERS: u64 = 5;
const KEYS: u8 = 16;
const SHORT: Duration = Duration::from_millis(150);
/// Nothing takes longer than this, or the test fails. On a busy machine members are late all the time, and begin anew.
const PATIENCE: Duration = Duration::from_secs(240);

/// Whose a partition is, since when, and when its member began the last poll that proved it alive.
struct Owner {
    serial: u64,
    since: Instant,
    polled: Arc<Mutex<Instant>>,
}

/// What is seen of one group from outside.
#[derive(Default)]
struct Watch {
    owners: Mutex<HashMap<u32, Owner>>,
    /// Records of each key that were returned: those below.
    seen: Mutex<BTreeMap<u8, u64>>,
}

struct Listener<'a> {
    watch: &'a Watch,
    serial: u64,
    polled: Arc<Mutex<Instant>>,
    /// When the poll that it is told in began.
    begun: Arc<Mutex<Instant>>,
}

/// A listener lives as long as its consumer: what it watches is leaked to be there for ever.
impl RebalanceListener for Listener<'static> {
    fn on_assigned(&mut self, consumer: &mut Consumer, partitions: &[(String, u32)]) {
        if consumer.commit().is_err() {
            // It was taken for dead while it was told: what comes next is that it lost them.
            return;
        }
        // It showed itself alive in this poll.
        *self.polled.lock().unwrap() = *self.begun.lock().unwrap();
        let mut owners = self.watch.owners.lock().unwrap();
        for (_, partition) in partitions {
            let owner = Owner { serial: self.serial, since: Instant::now(), polled: self.polled.clone() };
            if let Some(old) = owners.insert(*partition, owner) {
                // It was never given back: then its owner was dead for long enough.
                let silent = old.polled.lock().unwrap().elapsed();
                assert!(silent >= SHORT, "G1: {partition} was taken from a member that polled {silent:?} ago");
            }
        }
    }

    fn on_revoked(&mut self, consumer: &mut Consumer, partitions: &[(String, u32)]) {
        let _ = consumer.commit();
        self.watch.give_back(self.serial, |partition| partitions.iter().any(|given| given.1 == partition));
    }

    fn on_lost(&mut self, _: &mut Consumer, _: &[(String, u32)]) {
        self.watch.give_back(self.serial, |_| true);
    }
}

impl Watch {
    fn give_back(&self, serial: u64, which: impl Fn(u32) -> bool) {
        self.owners.lock().unwrap().retain(|&partition, owner| owner.serial != serial || !which(partition));
    }

    /// Each record comes only after the one before it with the same key (G7), though perhaps again.
    fn look(&self, polled: &Polled) {
        let mut seen = self.seen.lock().unwrap();
        for record in polled.batches().iter().flat_map(|batch| batch.iter()) {
            let number = u64::from_le_bytes(record.value().unwrap().try_into().unwrap());
            let next = seen.entry(record.key().unwrap()[0]).or_default();
            assert!(number <= *next, "G7: {number} of key {:?} before {next}", record.key());
            *next = (*next).max(number + 1);
        }
    }
}

/// One life of a member: until it dies in one way or another.
fn live(engine: &Engine, group: usize, watch: &'static Watch, random: &mut Random, stop: &AtomicBool, serial: u64) {
    let last_poll = Arc::new(Mutex::new(Instant::now()));
    let this_poll = last_poll.lock().map(|begun| Arc::new(Mutex::new(*begun))).unwrap();
    let listener = Listener { watch, serial, polled: last_poll.clone(), begun: this_poll.clone() };
    let mut builder = engine.consumer(GROUPS[group]).subscribe(["t"]).session_timeout(SHORT).max_poll_interval(SHORT);
    if random.one_in(4) {
        builder = builder.instance_id(format!("instance-{serial}"));
    }
    let mut consumer =
        builder.commit_acks(Acks::Written).max_poll_records(1 + random.below(200)).listener(listener).start().unwrap();
    loop {
        let (begun, id) = (Instant::now(), consumer.member_id().map(str::to_owned));
        *this_poll.lock().unwrap() = begun;
        let polled = consumer.poll(Duration::from_millis(random.below(20))).unwrap();
        if consumer.member_id() == id.as_deref() {
            *last_poll.lock().unwrap() = begun;
        }
        watch.look(&polled);
        let stalls = random.one_in(40) && !stop.load(Ordering::SeqCst);
        if stalls {
            std::thread::sleep(Duration::from_millis(random.below(300)));
        }
        if !random.one_in(5) {
            let begun = Instant::now();
            let partitions: Vec<u32> = consumer.assignment().map(|(_, partition)| partition).collect();
            match consumer.commit() {
                Ok(()) => {
                    let owners = watch.owners.lock().unwrap();
                    for owner in partitions.iter().filter_map(|partition| owners.get(partition)) {
                        assert!(owner.serial == serial || owner.since >= begun, "G4: a late commit was taken");
                    }
                }
                Err(error) => assert!(matches!(error.kind(), ErrorKind::UnknownMember { .. }), "{error}"),
            }
        }
        if stop.load(Ordering::SeqCst) {
            return watch.give_back(serial, |_| true);
        }
        match random.below(200) {
            0 => return std::mem::forget(consumer),
            1 => {
                watch.give_back(serial, |_| true);
                let panicked = catch_unwind(AssertUnwindSafe(move || {
                    let _consumer = consumer;
                    std::panic::resume_unwind(Box::new("while processing"));
                }));
                assert!(panicked.is_err());
                return;
            }
            2 => return watch.give_back(serial, |_| true),
            _ => {}
        }
    }
}

/// From outside: one holder each (G1), generations and commits that only rise (G4, D5).
fn look_at(engine: &Engine, last: &mut [(u32, BTreeMap<u32, u64>); 2]) {
    for (name, (generation, commits)) in GROUPS.iter().zip(last) {
        let Ok(found) = engine.describe_group(name) else { continue };
        let mut held = std::collections::BTreeSet::new();
        assert!(
            found.members.iter().flat_map(|member| &member.partitions).all(|key| held.insert(key)),
            "G1: {found:?}"
        );
        assert!(found.generation >= *generation, "G4");
        *generation = found.generation;
        for row in found.offsets {
            let before = commits.insert(row.partition, row.committed.unwrap_or(0)).unwrap_or(0);
            assert!(before <= row.committed.unwrap_or(0), "{name} {}: {before} to {:?}", row.partition, row.committed);
        }
    }
}

#[test]
fn g1_to_g7_hold_while_threads_die_and_stall() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("THALWEG_SEED").unwrap_or(1);
    let lasts = Duration::from_secs(number("THALWEG_CHAOS_SECONDS").unwrap_or(3));
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).pin_writers(false).open().unwrap();
    engine.create_topic("t", TopicConfig::default().partitions(8).acks(Acks::Written)).unwrap();
    let watches: &'static [Watch; 2] = Box::leak(Box::default());
    let (stop, sent, serials) = (AtomicBool::new(false), Mutex::new(None), AtomicU64::new(0));
    let begun = Instant::now();
    let all_seen = |sent: &BTreeMap<u8, u64>| watches.iter().all(|watch| *watch.seen.lock().unwrap() == *sent);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let producer = engine.producer_for("t").unwrap();
            let mut random = Random(seed);
            let mut next = BTreeMap::new();
            while begun.elapsed() < lasts {
                for _ in 0..50 {
                    let key = random.below(u64::from(KEYS)) as u8;
                    let number: &mut u64 = next.entry(key).or_default();
                    let _ = producer.send(Record::new(&number.to_le_bytes()).key(&[key])).unwrap();
                    *number += 1;
                }
                producer
                    .send(Record::new(&next.entry(0).or_default().to_le_bytes()).key(&[0]))
                    .unwrap()
                    .wait()
                    .unwrap();
                *next.entry(0).or_default() += 1;
            }
            *sent.lock().unwrap() = Some(next);
        });
        for thread in 0..2 * MEMBERS {
            let (engine, stop, serials) = (&engine, &stop, &serials);
            scope.spawn(move || {
                let group = (thread % 2) as usize;
                let mut random = Random(seed * 1_000 + thread);
                while !stop.load(Ordering::SeqCst) {
                    let serial = serials.fetch_add(1, Ordering::SeqCst);
                    live(engine, group, &watches[group], &mut random, stop, serial);
                }
            });
        }
        let _stops = Stops(&stop);
        let mut last = Default::default();
        let mut grown = 0;
        loop {
            look_at(&engine, &mut last);
            if grown < 3 && begun.elapsed() > lasts / 4 * (grown + 1) {
                grown += 1;
                let config = engine.describe_topic("t").unwrap().config;
                engine.alter_topic("t", config.partitions(8 + 2 * grown)).unwrap();
            }
            if sent.lock().unwrap().as_ref().is_some_and(all_seen) {
                break;
            }
            assert!(begun.elapsed() < lasts + PATIENCE, "{:?} {:?}", sent.lock(), watches[0].seen.lock());
            std::thread::yield_now();
        }
    });
}

/// So that a failed look ends the members, too.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
