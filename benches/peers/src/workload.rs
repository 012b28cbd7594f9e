//! What is measured, and one measurement of it: in a process of its own, which the parent starts.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::payload::{Span, Tally};
use crate::peer::{About, Can, Entry, Level, Outcome, Peer, Settings};

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// One producer, one call a record, until all is written.
    Each,
    /// One producer, ready batches, until all is written.
    Batches,
    /// One thread, one record at a time, each durable before the next.
    Durable,
    /// Threads that each append one record at a time and wait until it is durable.
    Group,
    /// Reading all that was appended, from the page cache, every byte looked at.
    Replay,
    /// Two producers that go round the logs, one call a record.
    LogsEach,
    /// Two producers that go round the logs, a batch of 100 records for each.
    LogsBatches,
}

#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
    pub(crate) record_bytes: usize,
    pub(crate) logs: u32,
    /// Bytes of payload in each ready batch, the same for every log.
    batch_bytes: Option<usize>,
}

const fn workload(name: &'static str, title: &'static str, kind: Kind, record_bytes: usize, logs: u32) -> Workload {
    Workload { name, title, kind, record_bytes, logs, batch_bytes: None }
}

const fn batches(name: &'static str, title: &'static str, record_bytes: usize, batch_bytes: usize) -> Workload {
    Workload { name, title, kind: Kind::Batches, record_bytes, logs: 1, batch_bytes: Some(batch_bytes) }
}

pub(crate) const ALL: [Workload; 16] = [
    workload("each-100", "Append 100 B, one call a record, until written", Kind::Each, 100, 1),
    batches("batch-100-64k", "Append 100 B, batches of 64 KiB, until written", 100, 64 << 10),
    batches("batch-100-256k", "Append 100 B, batches of 256 KiB, until written", 100, 256 << 10),
    batches("batch-100-1m", "Append 100 B, batches of 1 MiB, until written", 100, 1 << 20),
    workload("each-1k", "Append 1 KiB, one call a record, until written", Kind::Each, 1024, 1),
    batches("batch-1k-64k", "Append 1 KiB, batches of 64 KiB, until written", 1024, 64 << 10),
    batches("batch-1k-256k", "Append 1 KiB, batches of 256 KiB, until written", 1024, 256 << 10),
    batches("batch-1k-1m", "Append 1 KiB, batches of 1 MiB, until written", 1024, 1 << 20),
    workload("durable", "Append 100 B, durable one at a time, one thread", Kind::Durable, 100, 1),
    workload("group", "Group commit: 32 threads, 100 B, each waits until durable", Kind::Group, 100, 1),
    workload("replay-100", "Replay from the page cache, 100 B", Kind::Replay, 100, 1),
    workload("replay-1k", "Replay from the page cache, 1 KiB", Kind::Replay, 1024, 1),
    workload("logs-8-each", "8 logs, 2 producers, 100 B, one call a record", Kind::LogsEach, 100, 8),
    workload("logs-8-batch", "8 logs, 2 producers, 100 B, batches of 100", Kind::LogsBatches, 100, 8),
    workload("logs-600-each", "600 logs, 2 producers, 100 B, one call a record", Kind::LogsEach, 100, 600),
    workload("logs-600-batch", "600 logs, 2 producers, 100 B, batches of 100", Kind::LogsBatches, 100, 600),
];

const GROUP_THREADS: u64 = 32;
const PRODUCERS: u64 = 2;
const BATCH_A_VISIT: u64 = 100;

/// Durable appends that aren't timed, before those that are.
const WARM_UP: u64 = 100;

/// The most records in the durable workloads.
const DURABLE_RECORDS: u64 = 500_000;

/// How long what was appended is read back after a timed append, if it takes that long.
const VERIFY: Duration = Duration::from_millis(300);

impl Workload {
    pub(crate) fn named(name: &str) -> Option<&'static Workload> {
        ALL.iter().find(|workload| workload.name == name)
    }

    /// The level that this workload asks for.
    pub(crate) fn level(&self) -> Level {
        if self.is_durable() { Level::Synced } else { Level::Written }
    }

    pub(crate) fn is_durable(&self) -> bool {
        matches!(self.kind, Kind::Durable | Kind::Group)
    }

    /// What `about` does in this workload.
    pub(crate) fn way(&self, about: &About) -> Can {
        match (self.kind, about.logs) {
            (Kind::LogsEach | Kind::LogsBatches, Can::No(why)) => Can::No(why),
            (Kind::Each | Kind::LogsEach, _) => about.each,
            (Kind::Batches | Kind::LogsBatches, _) => about.batches,
            (Kind::Durable | Kind::Group, _) => about.durable,
            (Kind::Replay, _) => about.replay,
        }
    }
}

/// What one measurement found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) records: u64,
    pub(crate) seconds: f64,
    /// Latencies of the durable workloads.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    /// Records that were read back and were those that were appended.
    pub(crate) verified: u64,
}

/// Measures `entry` once: opens it in `dir`, does the work, and reads back what it wrote.
pub(crate) fn measure(entry: &Entry, work: &Workload, dir: &Path, total: u64, limit: Duration) -> Outcome<Measured> {
    let total_bytes = if work.is_durable() { DURABLE_RECORDS * work.record_bytes as u64 } else { total };
    let settings = Settings {
        logs: work.logs,
        total_bytes,
        record_bytes: work.record_bytes,
        durable: work.is_durable(),
        replay: work.kind == Kind::Replay,
        batch_bytes: work.batch_bytes,
    };
    let open = entry.open.ok_or("not in this build")?;
    let peer = open(dir, &settings)?;
    let records = total_bytes / work.record_bytes as u64;
    let run = Run { peer: &*peer, work, records, limit };
    run.warm_up()?;
    // What opening wrote (files filled ahead) isn't to be paid for by the first sync that is timed.
    rustix::fs::syncfs(std::fs::File::open(dir)?)?;
    match work.kind {
        Kind::Each => run.appends(|span| peer.append_each(0, span)),
        Kind::Batches => run.appends(|span| peer.append_batches(0, span)),
        Kind::Durable => run.durable(1),
        Kind::Group => run.durable(GROUP_THREADS),
        Kind::Replay => run.replay(),
        Kind::LogsEach => run.logs(|log, span| peer.append_each(log, span)),
        Kind::LogsBatches => run.logs(|log, span| peer.append_batches(log, span)),
    }
}

/// What `act` gives in each of `count` threads.
fn in_threads<T: Send>(count: u64, act: impl Fn(u64) -> Outcome<T> + Sync) -> Vec<Outcome<T>> {
    let act = &act;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|thread| scope.spawn(move || act(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    })
}

struct Run<'a> {
    peer: &'a dyn Peer,
    work: &'a Workload,
    records: u64,
    limit: Duration,
}

impl Run<'_> {
    fn span(&self, records: std::ops::Range<u64>) -> Span {
        Span::new(self.work.record_bytes, records)
    }

    /// Records between two looks at the clock: 4 MiB, so that a batch may be as large.
    fn step(&self) -> u64 {
        (4 << 20) / self.work.record_bytes as u64
    }

    /// Puts records into each of many logs: some make their files at the first one. Those of one
    /// log are made in no time, and the durable workloads begin with records that aren't timed.
    fn warm_up(&self) -> Outcome {
        let warm_up = self.warm_up_records();
        if warm_up == 0 {
            return Ok(());
        }
        for log in 0..self.work.logs {
            match self.work.kind {
                Kind::LogsBatches => self.peer.append_batches(log, self.span(0..warm_up))?,
                _ => self.peer.append_each(log, self.span(0..warm_up))?,
            }
        }
        self.peer.flush()
    }

    /// Records in each of many logs before the clock starts.
    fn warm_up_records(&self) -> u64 {
        match self.work.kind {
            Kind::LogsEach => 1,
            Kind::LogsBatches => BATCH_A_VISIT,
            _ => 0,
        }
    }

    fn appends(&self, append: impl Fn(Span) -> Outcome) -> Outcome<Measured> {
        let began = Instant::now();
        let mut done = 0;
        // A peer that syncs every record would need seconds for a whole step.
        let mut step = 100;
        while done < self.records && began.elapsed() < self.limit {
            let next = (done + step).min(self.records);
            let before = Instant::now();
            append(self.span(done..next))?;
            done = next;
            if before.elapsed() < self.limit / 50 {
                step = (step * 4).min(self.step());
            }
        }
        self.peer.flush()?;
        let seconds = began.elapsed().as_secs_f64();
        let verified = self.verify_in_order(done)?;
        Ok(Measured { records: done, seconds, p50_us: None, p99_us: None, verified })
    }

    fn durable(&self, threads: u64) -> Outcome<Measured> {
        for record in self.span(0..WARM_UP) {
            self.peer.append_durable(record)?;
        }
        let part = (self.records - WARM_UP) / threads;
        let stop = AtomicBool::new(false);
        let began = Instant::now();
        let append = |thread: u64| -> Outcome<Vec<u32>> {
            let first = WARM_UP + thread * part;
            let mut nanos = Vec::with_capacity(1 << 16);
            for record in self.span(first..first + part) {
                let before = Instant::now();
                self.peer.append_durable(record)?;
                nanos.push(u32::try_from(before.elapsed().as_nanos()).unwrap_or(u32::MAX));
                if stop.load(Ordering::Relaxed) || began.elapsed() >= self.limit {
                    stop.store(true, Ordering::Relaxed);
                    break;
                }
            }
            Ok(nanos)
        };
        let results = in_threads(threads, append);
        let seconds = began.elapsed().as_secs_f64();
        let mut nanos = Vec::new();
        let mut spans = Vec::with_capacity(results.len());
        for (thread, result) in (0..).zip(results) {
            let of_thread = result?;
            let first = WARM_UP + thread * part;
            spans.push(first..first + of_thread.len() as u64);
            nanos.extend(of_thread);
        }
        nanos.sort_unstable();
        let expected = Tally::of(self.span(0..WARM_UP).chain(spans.into_iter().flat_map(|records| self.span(records))));
        let verified = self.verify_any_order(&expected)?;
        let at = |part: f64| Some(f64::from(nanos[((nanos.len() - 1) as f64 * part) as usize]) / 1e3);
        Ok(Measured { records: nanos.len() as u64, seconds, p50_us: at(0.5), p99_us: at(0.99), verified })
    }

    fn replay(&self) -> Outcome<Measured> {
        let began = Instant::now();
        let mut done = 0;
        // Filling isn't timed, but a slow peer fills no more than it can within some seconds.
        while done < self.records && began.elapsed() < self.limit * 2 {
            let next = (done + self.step()).min(self.records);
            self.peer.append_batches(0, self.span(done..next))?;
            done = next;
        }
        self.peer.flush()?;
        self.peer.sync()?;
        let began = Instant::now();
        let mut tally = Tally::until(Some(began + self.limit));
        self.peer.replay(0, &mut tally)?;
        let seconds = began.elapsed().as_secs_f64();
        let verified = self.check_prefix(&tally, done, tally.records < done && began.elapsed() >= self.limit)?;
        Ok(Measured { records: tally.records, seconds, p50_us: None, p99_us: None, verified })
    }

    fn logs(&self, append: impl Fn(u32, Span) -> Outcome + Sync) -> Outcome<Measured> {
        let logs = u64::from(self.work.logs);
        let a_visit = if self.work.kind == Kind::LogsBatches { BATCH_A_VISIT } else { 1 };
        let part = self.records / PRODUCERS;
        let began = Instant::now();
        let produce = |producer: u64| -> Outcome<u64> {
            let first = producer * part;
            // Each begins elsewhere, so that they don't meet at each log.
            let mut log = producer * logs / PRODUCERS;
            let mut done = 0;
            while done < part {
                let next = (done + a_visit).min(part);
                append((log % logs) as u32, self.span(first + done..first + next))?;
                done = next;
                log += 1;
                if log.is_multiple_of(128) && began.elapsed() >= self.limit {
                    break;
                }
            }
            Ok(done)
        };
        let results = in_threads(PRODUCERS, produce);
        self.peer.flush()?;
        let seconds = began.elapsed().as_secs_f64();
        let mut spans: Vec<_> = (0..logs).map(|_| 0..self.warm_up_records()).collect();
        let mut records = 0;
        for (producer, result) in (0..).zip(results) {
            let done = result?;
            records += done;
            spans.push(producer * part..producer * part + done);
        }
        let expected = Tally::of(spans.into_iter().flat_map(|records| self.span(records)));
        let verified = self.verify_any_order(&expected)?;
        Ok(Measured { records, seconds, p50_us: None, p99_us: None, verified })
    }

    /// Reads back the one log, whose records stand in the order they were appended.
    fn verify_in_order(&self, appended: u64) -> Outcome<u64> {
        self.peer.sync()?;
        let deadline = Instant::now() + VERIFY;
        let mut tally = Tally::until(Some(deadline));
        self.peer.replay(0, &mut tally)?;
        self.check_prefix(&tally, appended, Instant::now() >= deadline)
    }

    /// Whether what was read is what was appended, or its beginning if there was no time for all.
    fn check_prefix(&self, read: &Tally, appended: u64, no_time: bool) -> Outcome<u64> {
        if read.records != appended && !no_time || read.records > appended {
            return Err(format!("{appended} records were appended, {} were read back", read.records).into());
        }
        let expected = Tally::of(self.span(0..read.records));
        if (expected.bytes, expected.in_order) != (read.bytes, read.in_order) {
            return Err(format!("the first {} records read back aren't those that were appended", read.records).into());
        }
        Ok(read.records)
    }

    /// Reads back all logs, whose records stand in any order; nothing is said where there is no
    /// time for all of them.
    fn verify_any_order(&self, expected: &Tally) -> Outcome<u64> {
        self.peer.sync()?;
        let deadline = Instant::now() + VERIFY * 3;
        let mut tally = Tally::until(Some(deadline));
        for log in 0..self.work.logs {
            self.peer.replay(log, &mut tally)?;
            if Instant::now() >= deadline {
                return Ok(0);
            }
        }
        if (tally.records, tally.bytes, tally.any_order) != (expected.records, expected.bytes, expected.any_order) {
            let (appended, read) = (expected.records, tally.records);
            return Err(format!("{appended} records were appended, {read} were read back, or others").into());
        }
        Ok(tally.records)
    }
}
