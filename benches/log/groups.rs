//! Consumer groups: a rebalance of 600 partitions among 100 members that sit in `poll`, each in its
//! own thread; a commit of 600 partitions, written and synced, beside a floor of the same bytes; a
//! poll of 600 partitions one of which has a record; how soon a waiting poll sees a record.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use criterion::Criterion;
use thalweg::assignor::{Assignor, Sticky, Subscriptions};
use thalweg::{Acks, Consumer, ConsumerBuilder, Engine, RebalanceListener, Record, TopicConfig};

use crate::Scratch;

const PARTITIONS: u32 = 600;
const MEMBERS: usize = 100;
/// Bytes of a commit of all of them.
const COMMIT_BYTES: usize = 96 + 32 * PARTITIONS as usize;

/// How many partitions members were told of and have not given back.
#[derive(Default)]
struct Held {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Held {
    fn add(&self, count: usize) {
        *self.count.lock().unwrap() += count;
        self.changed.notify_all();
    }

    fn remove(&self, count: usize) {
        *self.count.lock().unwrap() -= count;
    }

    fn wait_for_all(&self) {
        let count = self.count.lock().unwrap();
        drop(self.changed.wait_while(count, |count| *count < PARTITIONS as usize).unwrap());
    }
}

/// Counts; with `returns`, ends the poll that it is told in.
struct Counts {
    held: Arc<Held>,
    returns: bool,
}

impl RebalanceListener for Counts {
    fn on_assigned(&mut self, consumer: &mut Consumer, partitions: &[(String, u32)]) {
        self.held.add(partitions.len());
        if self.returns {
            consumer.wakeup().wake();
        }
    }

    fn on_revoked(&mut self, _: &mut Consumer, partitions: &[(String, u32)]) {
        self.held.remove(partitions.len());
    }
}

/// Gives everything to the member called `all`, if there is one; else it is the sticky one.
struct OneHasAll;

impl Assignor for OneHasAll {
    fn name(&self) -> &str {
        "one-has-all"
    }

    fn assign(&self, input: &Subscriptions) -> Vec<Vec<(usize, u32)>> {
        let Some(one) = input.members().iter().position(|member| member.id.starts_with("all-")) else {
            return Sticky.assign(input);
        };
        let mut assignment = vec![Vec::new(); input.members().len()];
        assignment[one] = (0..PARTITIONS).map(|partition| (0, partition)).collect();
        assignment
    }
}

fn member(engine: &Engine) -> ConsumerBuilder {
    engine.consumer("g").subscribe(["t"]).commit_acks(Acks::Written)
}

fn open() -> Scratch {
    let scratch = Scratch::open(|builder| builder.pin_writers(false)).unwrap();
    scratch.engine.create_topic("t", TopicConfig::default().partitions(PARTITIONS).acks(Acks::Written)).unwrap();
    scratch
}

pub(crate) fn bench(criterion: &mut Criterion) {
    rebalance(criterion);
    commit(criterion);
    poll(criterion);
    wake(criterion);
}

/// Another member comes (with `client_id`) and goes again, over and over: how long until all hold what they should, from
/// its coming and from its going.
fn rebalance(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rebalance/600 to 100");
    group.sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    for (name, client_id) in [("one more", "one"), ("one that has all", "all")] {
        let scratch = open();
        let held = Arc::new(Held::default());
        let stop = AtomicBool::new(false);
        let start = |id: &str, returns: bool| {
            let listener = Counts { held: held.clone(), returns };
            member(&scratch.engine).assignor(OneHasAll).client_id(id).listener(listener).start().unwrap()
        };
        let mut members: Vec<_> = (0..MEMBERS).map(|_| start("member", false)).collect();
        let wakeups: Vec<_> = members.iter().map(Consumer::wakeup).collect();
        thread::scope(|scope| {
            for member in &mut members {
                scope.spawn(|| {
                    while !stop.load(Ordering::SeqCst) {
                        member.poll(Duration::MAX).unwrap();
                    }
                });
            }
            held.wait_for_all();
            let share = if client_id == "all" { PARTITIONS as usize } else { PARTITIONS as usize / (MEMBERS + 1) };
            for (event, from_coming) in [("comes", true), ("goes", false)] {
                group.bench_function(format!("{name} {event}"), |bencher| {
                    bencher.iter_custom(|count| {
                        let mut spent = Duration::ZERO;
                        for _ in 0..count {
                            let begin = Instant::now();
                            let mut extra = start(client_id, true);
                            while extra.assignment().count() < share {
                                extra.poll(Duration::from_secs(10)).unwrap();
                            }
                            held.wait_for_all();
                            let came = begin.elapsed();
                            held.remove(share);
                            let begin = Instant::now();
                            drop(extra);
                            held.wait_for_all();
                            spent += if from_coming { came } else { begin.elapsed() };
                        }
                        spent
                    });
                });
            }
            stop.store(true, Ordering::SeqCst);
            wakeups.iter().for_each(thalweg::Wakeup::wake);
        });
    }
}

/// A consumer of all partitions, each with one more record that it has read.
fn read_one_of_each(engine: &Engine, consumer: &mut Consumer) {
    let partitions: Vec<_> = (0..PARTITIONS).map(|number| engine.partition("t", number).unwrap()).collect();
    for partition in &partitions {
        let _ = partition.append(&Record::new("value")).unwrap();
    }
    let mut left = u64::from(PARTITIONS);
    while left > 0 {
        left -= consumer.poll(Duration::from_secs(10)).unwrap().batches().iter().map(records).sum::<u64>();
    }
}

fn records(batch: &thalweg::Batch) -> u64 {
    batch.offsets().end - batch.offsets().start
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit 600 partitions");
    group.sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    let scratch = open();
    let mut consumer = member(&scratch.engine).start().unwrap();
    for (name, acks) in [("written", Acks::Written), ("synced", Acks::Synced)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    read_one_of_each(&scratch.engine, &mut consumer);
                    if acks == Acks::Synced {
                        // The records are durable already: what is timed is the offset log's own sync.
                        scratch.engine.sync().unwrap();
                    }
                    let begin = Instant::now();
                    consumer.commit_at(acks).unwrap();
                    spent += begin.elapsed();
                }
                spent
            });
        });
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = File::create(dir.path().join("floor")).unwrap();
    file.write_all_at(&vec![0; 64 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let (bytes, mut at) = (vec![7; COMMIT_BYTES], 0);
    for (name, syncs) in [("floor: pwrite", false), ("floor: pwrite and fdatasync", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                at = (at + COMMIT_BYTES as u64) % (60 << 20);
                file.write_all_at(&bytes, at).unwrap();
                if syncs {
                    file.sync_data().unwrap();
                }
            });
        });
    }
}

fn poll(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("poll 600 partitions");
    group.sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    let scratch = open();
    let mut consumer = member(&scratch.engine).start().unwrap();
    read_one_of_each(&scratch.engine, &mut consumer);
    let mut number = 0;
    group.bench_function("one ready", |bencher| {
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            for _ in 0..count {
                number = (number + 251) % PARTITIONS;
                let partition = scratch.engine.partition("t", number).unwrap();
                partition.append(&Record::new("value")).unwrap().wait().unwrap();
                let begin = Instant::now();
                // The record is acknowledged a moment before its partition counts as ready.
                let polled = consumer.poll(Duration::from_secs(1)).unwrap();
                spent += begin.elapsed();
                assert_eq!(polled.batches().len(), 1);
            }
            spent
        });
    });
    group.bench_function("none ready", |bencher| bencher.iter(|| consumer.poll(Duration::ZERO).unwrap()));
}

fn wake(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wake");
    group.sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    let scratch = open();
    let mut consumer = member(&scratch.engine).start().unwrap();
    consumer.poll(Duration::ZERO).unwrap();
    let producer = scratch.engine.producer_for("t").unwrap();
    let wakeup = consumer.wakeup();
    let (seen, sees) = mpsc::channel();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                if !consumer.poll(Duration::MAX).unwrap().is_empty() {
                    seen.send(Instant::now()).unwrap();
                }
            }
        });
        group.bench_function("send to a waiting poll's return", |bencher| {
            bencher.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    // Long enough for everyone to have gone to sleep.
                    thread::sleep(Duration::from_millis(1));
                    let begin = Instant::now();
                    let _ = producer.send(Record::new("value")).unwrap();
                    spent += sees.recv().unwrap().saturating_duration_since(begin);
                }
                spent
            });
        });
        stop.store(true, Ordering::SeqCst);
        wakeup.wake();
    });
}
