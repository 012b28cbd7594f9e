//! From sending to seeing, in two ways. Sleeping: a sender hands records to a thread that writes them, which hands
//! them to one that looks at them; each sleeps when it has nothing to do, and is woken only then. Polling: the sender
//! writes each record itself, and a reader looks for new ones without ever sleeping.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::frame::{Framer, single_record_bytes, walk};
use super::{failed, reserve};
use crate::bench::context::Bench;
use crate::bench::figures::{Lateness, Run};
use crate::bench::lanes::{self, Lane, Pace, Plan, Schedule};
use crate::bench::payload::Payloads;
use crate::bench::settings::Settings;
use crate::failure::Failure;

const FILE_BYTES: u64 = 256 << 20;
/// What a polling reader reads at once, at most.
const READ_BYTES: u64 = 64 << 10;
/// The times when a record was due and when it was sent, in nanoseconds.
const TIMES_BYTES: usize = 16;

/// What goes from one thread to the next.
#[derive(Default)]
struct Hand {
    state: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    /// When each record in it was due, and when it was sent.
    times: Vec<(Instant, Instant)>,
    sleeps: bool,
    over: bool,
}

impl Hand {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, add: impl FnOnce(&mut Held)) {
        let mut held = self.lock();
        add(&mut held);
        let sleeps = std::mem::take(&mut held.sleeps);
        drop(held);
        if sleeps {
            self.changed.notify_one();
        }
    }

    /// Swaps what there is for what was emptied; `false` at the end.
    fn take(&self, bytes: &mut Vec<u8>, times: &mut Vec<(Instant, Instant)>) -> bool {
        let mut held = self.lock();
        while held.times.is_empty() && !held.over {
            held.sleeps = true;
            held = self.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut held.bytes, bytes);
        std::mem::swap(&mut held.times, times);
        !times.is_empty()
    }

    fn end(&self) {
        self.lock().over = true;
        self.changed.notify_one();
    }
}

/// One run in which every thread sleeps, at `rate` records a second.
pub(crate) fn run_sleeping(
    bench: &Bench,
    settings: &Settings,
    payloads: &Payloads,
    rate: u64,
    plan: Plan,
) -> Result<(Run, Lateness), Failure> {
    let piece = bench.scratch.fresh("floor")?;
    let path = piece.path().join("tail");
    let made = File::create(&path).and_then(|file| reserve(&file, 0, FILE_BYTES).map(|()| file));
    let file = made.map_err(|error| failed(&path, &error))?;
    let (to_writer, to_reader) = (Hand::default(), Hand::default());
    let measured = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let outcome = write(&file, settings, &to_writer, &to_reader);
            to_reader.end();
            outcome
        });
        let reader = scope.spawn(|| {
            let (mut bytes, mut times, mut lateness) = (Vec::new(), Vec::new(), Lateness::default());
            while to_reader.take(&mut bytes, &mut times) {
                bytes.clear();
                for (due, sent) in times.drain(..) {
                    let now = Instant::now();
                    if measured.load(Ordering::Relaxed) {
                        lateness.record(now.saturating_duration_since(due), now.saturating_duration_since(sent));
                    }
                }
            }
            lateness
        });
        let work = |lane: &mut Lane<'_>| {
            let (mut schedule, mut n) = (Schedule::new(rate as f64, Pace::Sleep), 0);
            loop {
                let due = schedule.next();
                let sent = Instant::now();
                let value = payloads.value(0, n);
                to_writer.give(|held| {
                    held.bytes.extend_from_slice(value);
                    held.times.push((due, sent));
                });
                n += 1;
                let goes_on = lane.did(1, value.len() as u64);
                measured.store(lane.is_measured(), Ordering::Relaxed);
                if !goes_on {
                    return Ok(());
                }
            }
        };
        let ran = lanes::run(bench, plan, 1, work, || Ok(()));
        to_writer.end();
        let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("a floor's thread panicked")));
        let lateness = reader.join().unwrap_or_default();
        written.map_err(|error| failed(&path, &error))?;
        ran.map(|(run, _)| (run, lateness))
    })
}

/// One run of the polling way. The records stand in places of the same size, so that the reader needs their number
/// only; behind the last place the sender begins again with the first.
pub(crate) fn run_polling(
    bench: &Bench,
    settings: &Settings,
    payloads: &Payloads,
    rate: u64,
    plan: Plan,
) -> Result<(Run, Lateness), Failure> {
    let piece = bench.scratch.fresh("floor")?;
    let path = piece.path().join("tail");
    let made = File::options().create_new(true).read(true).write(true).open(&path).and_then(|file| {
        file.set_len(FILE_BYTES)?;
        reserve(&file, 0, FILE_BYTES)?;
        Ok(file)
    });
    let file = made.map_err(|error| failed(&path, &error))?;
    let place_bytes = single_record_bytes(TIMES_BYTES + settings.record.max) as u64;
    let log = PollLog {
        file: &file,
        place_bytes,
        places: FILE_BYTES / place_bytes,
        base: Instant::now(),
        written: AtomicU64::new(0),
        measured: AtomicBool::new(false),
        over: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let reader = scope.spawn(|| log.read());
        let work = |lane: &mut Lane<'_>| {
            let (mut schedule, mut n) = (Schedule::new(rate as f64, Pace::Spin), 0);
            let (mut record, mut batch) = (Vec::new(), Vec::new());
            loop {
                let due = schedule.next();
                let value = payloads.value(0, n);
                record.clear();
                record.extend_from_slice(&log.ns(due).to_le_bytes());
                record.extend_from_slice(&log.ns(Instant::now()).to_le_bytes());
                record.extend_from_slice(value);
                batch.clear();
                let mut framer = Framer::new(u64::MAX);
                framer.push(&mut batch, &record);
                framer.close(&mut batch);
                file.write_all_at(&batch, n % log.places * place_bytes).map_err(|error| failed(&path, &error))?;
                n += 1;
                log.written.store(n, Ordering::Release);
                let goes_on = lane.did(1, value.len() as u64);
                log.measured.store(lane.is_measured(), Ordering::Relaxed);
                if !goes_on {
                    return Ok(());
                }
            }
        };
        let ran = lanes::run(bench, plan, 1, work, || Ok(()));
        log.over.store(true, Ordering::Release);
        let read = reader.join().unwrap_or_else(|_| Err(io::Error::other("a floor's thread panicked")));
        let lateness = read.map_err(|error| failed(&path, &error))?;
        ran.map(|(run, _)| (run, lateness))
    })
}

/// What the sender and the reader that polls share.
struct PollLog<'a> {
    file: &'a File,
    place_bytes: u64,
    places: u64,
    /// The records' times count from here.
    base: Instant,
    /// How many records there are.
    written: AtomicU64,
    measured: AtomicBool,
    over: AtomicBool,
}

impl PollLog<'_> {
    fn ns(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.base).as_nanos() as u64
    }

    /// Reads until all is over and read.
    fn read(&self) -> io::Result<Lateness> {
        let most = (READ_BYTES / self.place_bytes).max(1);
        let mut buffer = vec![0; (most * self.place_bytes) as usize];
        let (mut seen, mut lateness) = (0, Lateness::default());
        loop {
            let over = self.over.load(Ordering::Acquire);
            let there = self.written.load(Ordering::Acquire);
            if seen == there {
                if over {
                    return Ok(lateness);
                }
                std::hint::spin_loop();
                continue;
            }
            let first = seen % self.places;
            let count = (there - seen).min(self.places - first).min(most);
            let records = &mut buffer[..(count * self.place_bytes) as usize];
            self.file.read_exact_at(records, first * self.place_bytes)?;
            for record in records.chunks(self.place_bytes as usize) {
                walk(record, |value| self.look(value, &mut lateness));
            }
            seen += count;
        }
    }

    fn look(&self, value: &[u8], lateness: &mut Lateness) {
        let now = self.base.elapsed();
        if self.measured.load(Ordering::Relaxed) {
            let [due, sent] = [0, TIMES_BYTES / 2].map(|at| {
                let ns = value.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u64::from_le_bytes);
                now.saturating_sub(Duration::from_nanos(ns))
            });
            lateness.record(due, sent);
        }
    }
}

/// Frames what piled up as one batch, writes it, hands it on.
fn write(file: &File, settings: &Settings, from: &Hand, to: &Hand) -> io::Result<()> {
    if settings.pin {
        let _ = thalweg::floors::pin_to(0);
    }
    let (mut bytes, mut times, mut buffer, mut position) = (Vec::new(), Vec::new(), Vec::new(), 4096);
    let value_bytes = settings.record.max;
    while from.take(&mut bytes, &mut times) {
        let mut framer = Framer::new(settings.batch_bytes);
        bytes.chunks(value_bytes).for_each(|value| framer.push(&mut buffer, value));
        framer.close(&mut buffer);
        if position + buffer.len() as u64 > FILE_BYTES {
            position = 4096;
        }
        file.write_all_at(&buffer, position)?;
        position += buffer.len() as u64;
        to.give(|held| {
            held.bytes.extend_from_slice(&buffer);
            held.times.append(&mut times);
        });
        buffer.clear();
        bytes.clear();
    }
    Ok(())
}
