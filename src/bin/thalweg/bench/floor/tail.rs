//! From sending to seeing: a sender hands records to a thread that writes them, which hands them to one
//! that looks at them. Each sleeps when it has nothing to do, and is woken only then.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::frame::Framer;
use super::{failed, reserve};
use crate::bench::context::Bench;
use crate::bench::figures::{Latencies, Run};
use crate::bench::lanes::{self, Lane, Plan, Schedule};
use crate::bench::payload::Payloads;
use crate::bench::settings::Settings;
use crate::failure::Failure;

const FILE_BYTES: u64 = 256 << 20;

/// What goes from one thread to the next.
#[derive(Default)]
struct Hand {
    state: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    /// When each record in it was due.
    due: Vec<Instant>,
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
    fn take(&self, bytes: &mut Vec<u8>, due: &mut Vec<Instant>) -> bool {
        let mut held = self.lock();
        while held.due.is_empty() && !held.over {
            held.sleeps = true;
            held = self.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut held.bytes, bytes);
        std::mem::swap(&mut held.due, due);
        !due.is_empty()
    }

    fn end(&self) {
        self.lock().over = true;
        self.changed.notify_one();
    }
}

/// One run, at so many records a second.
pub(crate) fn run(
    bench: &Bench,
    settings: &Settings,
    payloads: &Payloads,
    rate: u64,
    plan: Plan,
) -> Result<Run, Failure> {
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
            let (mut bytes, mut due, mut latencies) = (Vec::new(), Vec::new(), Latencies::default());
            while to_reader.take(&mut bytes, &mut due) {
                bytes.clear();
                for due in due.drain(..) {
                    let took = due.elapsed();
                    if measured.load(Ordering::Relaxed) {
                        latencies.record(took);
                    }
                }
            }
            latencies
        });
        let work = |lane: &mut Lane<'_>| {
            let (mut schedule, mut n) = (Schedule::new(rate as f64), 0);
            loop {
                let due = schedule.next();
                let value = payloads.value(0, n);
                to_writer.give(|held| {
                    held.bytes.extend_from_slice(value);
                    held.due.push(due);
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
        let written = writer.join().unwrap_or_else(|_| Err(std::io::Error::other("a floor's thread panicked")));
        let latencies = reader.join().unwrap_or_default();
        written.map_err(|error| failed(&path, &error))?;
        ran.map(|(run, _)| Run { latencies, ..run })
    })
}

/// Frames what piled up as one batch, writes it, hands it on.
fn write(file: &File, settings: &Settings, from: &Hand, to: &Hand) -> std::io::Result<()> {
    if settings.pin {
        let _ = thalweg::floors::pin_to(0);
    }
    let (mut bytes, mut due, mut buffer, mut position) = (Vec::new(), Vec::new(), Vec::new(), 4096);
    let value_bytes = settings.record.max;
    while from.take(&mut bytes, &mut due) {
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
            held.due.append(&mut due);
        });
        buffer.clear();
        bytes.clear();
    }
    Ok(())
}
