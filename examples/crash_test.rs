//! Crash-tests code of your own on the simulated disk: a loop that consumes, processes and commits
//! orders. At every change of the disk the power fails, or the process dies; the loop starts again on
//! what is left. Was an order processed twice, or never? That depends on what comes first: processing
//! (at least once), the commit (at most once), or neither, as a result and its order's offset are stored
//! as one record (exactly once).
//!
//! `cargo run --example crash_test --features sim`

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use thalweg::sim::{CrashPoint, SimClock, SimDisk};
use thalweg::{Consumer, Engine, Record, Result, TopicConfig, Writers};

const ORDERS: usize = 9;
/// Of what a power failure can leave at one moment, so much is tried.
const IMAGES: usize = 12;

// ---- The code under test: it would run on a real disk just so.
type Loop = fn(&Engine, &mut Outside) -> Result<()>;

fn process_then_commit(engine: &Engine, outside: &mut Outside) -> Result<()> {
    let mut consumer = start(engine)?;
    while let Some(orders) = poll(&mut consumer)? {
        orders.iter().for_each(|order| outside.process(*order));
        consumer.commit()?;
    }
    Ok(())
}

fn commit_then_process(engine: &Engine, outside: &mut Outside) -> Result<()> {
    let mut consumer = start(engine)?;
    while let Some(orders) = poll(&mut consumer)? {
        // Durable when it returns; with `commit_acks(Acks::Written)` it could be lost, and its orders come again.
        consumer.commit()?;
        orders.iter().for_each(|order| outside.process(*order));
    }
    Ok(())
}

/// Nothing happens outside: what counts is the result, whose key is its order's offset. So the results
/// themselves say how far the loop got, and there is no commit that could disagree with them. With more
/// partitions, results go to the partition with the same number.
fn store_result_with_offset(engine: &Engine, _: &mut Outside) -> Result<()> {
    let results = engine.partition("results", 0)?;
    let mut consumer = start(engine)?;
    consumer.seek("orders", 0, stored(engine)?.last().map_or(0, |last| last + 1))?;
    while let Some(orders) = poll(&mut consumer)? {
        let keys: Vec<_> = orders.iter().map(|order| order.to_be_bytes()).collect();
        let records: Vec<_> = keys.iter().map(|key| Record::new("done").key(key)).collect();
        results.append_batch(&records)?.wait()?;
    }
    Ok(())
}

fn start(engine: &Engine) -> Result<Consumer> {
    engine.consumer("billing").assign([("orders", 0)]).max_poll_records(3).start()
}

/// The offsets of the next orders; `None` when there are no more.
fn poll(consumer: &mut Consumer) -> Result<Option<Vec<u64>>> {
    let polled = consumer.poll(Duration::ZERO)?;
    Ok((!polled.is_empty()).then(|| polled.batches().iter().flatten().map(|order| order.offset()).collect()))
}

/// The offsets of the orders that have a result.
fn stored(engine: &Engine) -> Result<Vec<u64>> {
    let mut offsets = Vec::new();
    for batch in engine.partition("results", 0)?.read(..)? {
        offsets.extend(batch?.iter().filter_map(|result| Some(u64::from_be_bytes(result.key()?.try_into().ok()?))));
    }
    Ok(offsets)
}

// ---- The test.
/// What lies outside the disk: payments made, mails sent. No crash takes back what was done there.
struct Outside {
    disk: SimDisk,
    processed: Vec<u64>,
    crashes: Vec<Crash>,
}

/// A moment to crash at, and what had been processed outside by then.
type Crash = (CrashPoint, Vec<u64>);

impl Outside {
    fn process(&mut self, order: u64) {
        self.note_crashes();
        self.processed.push(order);
    }

    /// The crash points that weren't taken yet, one before each change of the disk, and this very moment:
    /// all of them between the order that was processed last and the next one.
    fn note_crashes(&mut self) {
        let points = self.disk.take_crash_points().into_iter().chain([self.disk.crash_point()]);
        self.crashes.extend(points.map(|point| (point, self.processed.clone())));
    }
}

/// Without threads, and with a clock that stands still, each run is the same.
fn open(disk: &SimDisk) -> Result<Engine> {
    Engine::builder("data").sim(disk).writers(Writers::Inline).clock(Arc::new(SimClock::new())).seed(1).open()
}

/// Runs the loop to its end, after `processed`. Where could it have crashed, and what is processed now?
fn run(work: Loop, disk: &SimDisk, processed: Vec<u64>) -> Result<(Vec<Crash>, Vec<u64>)> {
    let mut outside = Outside { disk: disk.clone(), processed, crashes: Vec::new() };
    let engine = open(disk)?;
    work(&engine, &mut outside)?;
    let stored = stored(&engine)?;
    engine.close()?;
    outside.note_crashes();
    Ok((outside.crashes, [outside.processed, stored].concat()))
}

/// Crashes the loop wherever it can crash, and goes on. `expected`: are orders processed twice, or never?
fn crash(name: &str, work: Loop, expected: (bool, bool)) -> Result<()> {
    let disk = SimDisk::new();
    let engine = open(&disk)?;
    engine.create_topic("orders", TopicConfig::default())?;
    engine.create_topic("results", TopicConfig::default())?;
    engine.partition("orders", 0)?.append_batch(&vec![Record::new("an order"); ORDERS])?.wait()?;
    engine.close()?;

    disk.record_crash_points(true);
    let (crashes, _) = run(work, &disk, Vec::new())?;
    let (mut seen, mut twice, mut never) = (HashSet::new(), 0, 0);
    for (point, processed) in crashes {
        for found in point.images_at_most(IMAGES, point.operation()).into_iter().chain([point.killed()]) {
            if seen.insert((found.content_hash(), processed.len())) {
                let (_, done) = run(work, &found, processed.clone())?;
                let times = |order| done.iter().filter(|&&other| other == order as u64).count();
                twice += usize::from((0..ORDERS).any(|order| times(order) > 1));
                never += usize::from((0..ORDERS).any(|order| times(order) == 0));
            }
        }
    }
    println!("{name:24} {:8} {twice:8} {never:8}", seen.len());
    assert_eq!((twice > 0, never > 0), expected, "{name}: twice, never");
    Ok(())
}

fn main() -> Result<()> {
    println!("{:24} {:>8} {:>8} {:>8}", "", "crashes", "twice", "never");
    crash("process, then commit", process_then_commit, (true, false))?;
    crash("commit, then process", commit_then_process, (false, true))?;
    crash("result with its offset", store_result_with_offset, (false, false))
}
