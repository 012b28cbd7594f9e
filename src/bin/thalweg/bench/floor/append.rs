//! Appending: producers frame records into buffers of 256 KiB, or of one ready batch, and checksum each batch once;
//! writers write each buffer with one call into files whose blocks are reserved in steps of 32 MiB. Where the engine
//! syncs by itself, so does this: 64 MiB that aren't synced are, beside the writing, and what is written meanwhile
//! is reserved before. One buffer after the other goes to one file after the other; ready batches of a producer all
//! go to one file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thalweg::Acks;

use super::frame::Framer;
use super::syncs::Syncs;
use super::{failed, reserve, room};
use crate::bench::context::Bench;
use crate::bench::figures::Run;
use crate::bench::lanes::{self, CHUNK, Lane, Plan};
use crate::bench::payload::Payloads;
use crate::bench::settings::Settings;
use crate::failure::Failure;

const BUFFER_BYTES: usize = 256 << 10;
const STEP_BYTES: u64 = 32 << 20;
/// What waits to be written at most, over all producers.
const WAITING_BYTES: usize = 16 << 20;
const SYNC_BYTES: u64 = 64 << 20;
/// So many sealed files make a sync due.
const SEALED_MAX: usize = 8;
const SYNC_AHEAD_MAX_BYTES: u64 = 256 << 20;
const SYNC_AHEAD_PART: u64 = 16;
const SYNC_TIME: Duration = Duration::from_secs(1);

/// A full buffer on its way to a file, and whose it is.
struct Full {
    buffer: Vec<u8>,
    file: usize,
    producer: usize,
}

/// A producer's empty buffers. The one that was used last goes out first: it is still in a cache.
#[derive(Default)]
struct Empties {
    state: Mutex<(Vec<Vec<u8>>, bool)>,
    changed: Condvar,
}

impl Empties {
    fn new(count: usize) -> Empties {
        Empties { state: Mutex::new((vec![Vec::new(); count], false)), changed: Condvar::new() }
    }

    /// Waits for one; there comes none any more once a writer has failed.
    fn take(&self) -> Option<Vec<u8>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_while(state, |(buffers, over)| buffers.is_empty() && !*over);
        waited.unwrap_or_else(PoisonError::into_inner).0.pop()
    }

    fn give(&self, buffer: Vec<u8>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.push(buffer);
        self.changed.notify_one();
    }

    fn end(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.changed.notify_all();
    }
}

/// One run.
pub(crate) fn run(bench: &Bench, settings: &Settings, payloads: &Payloads, plan: Plan) -> Result<Run, Failure> {
    let piece = bench.scratch.fresh("floor")?;
    let buffers = (WAITING_BYTES / settings.ready_bytes.map_or(BUFFER_BYTES, |bytes| bytes as usize)).max(3);
    let share = (buffers / settings.producers).max(3);
    let empties: Arc<[Empties]> = (0..settings.producers).map(|_| Empties::new(share)).collect();
    let writer_count = settings.writer_threads().min(settings.partitions as usize);
    let (mut to_writers, mut writers) = (Vec::new(), Vec::new());
    for number in 0..writer_count {
        let (sender, full) = mpsc::sync_channel::<Full>(buffers);
        to_writers.push(sender);
        let mut writer = Writer::new(piece.path(), settings, number, writer_count, empties.clone());
        writers.push(thread::spawn(move || writer.work(full)));
    }
    // Each producer's own; the last one gone, writers end.
    let to_writers = Mutex::new(to_writers);
    let work = |lane: &mut Lane<'_>| {
        let senders = to_writers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        produce(lane, payloads, settings, &empties[lane.number], &senders);
        Ok(())
    };
    let mut syncing = Vec::new();
    let settle = || {
        to_writers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let outcomes: Vec<_> = writers.into_iter().map(JoinHandle::join).collect();
        for outcome in outcomes {
            syncing.push(outcome.unwrap_or_else(|_| Err(Failure::new("a floor's thread panicked")))?);
        }
        Ok(())
    };
    let run = lanes::run(bench, plan, settings.producers, work, settle).map(|(run, _)| run)?;
    for syncs in syncing {
        // Nobody waits for these: as in the engine they end beside what comes next.
        syncs.finish().map_err(|error| failed(piece.path(), &error))?;
    }
    Ok(run)
}

/// Frames values until it is over. If a writer has failed, it ends early.
fn produce(
    lane: &mut Lane<'_>,
    payloads: &Payloads,
    settings: &Settings,
    empties: &Empties,
    writers: &[SyncSender<Full>],
) {
    let files = settings.partitions as usize;
    let full_bytes = BUFFER_BYTES.saturating_sub(2 * settings.record.max).max(1);
    // A ready batch is full when it has its records, and isn't divided.
    let (full_bytes, full_records, batch_bytes) = match settings.ready_records() {
        None => (full_bytes, u64::MAX, settings.batch_bytes),
        Some(records) => (usize::MAX, records, u64::MAX),
    };
    let (mut n, mut file) = (0, lane.number % files);
    let mut goes_on = true;
    while goes_on && let Some(mut buffer) = empties.take() {
        buffer.reserve(BUFFER_BYTES);
        let mut framer = Framer::new(batch_bytes);
        let full_n = full_records.saturating_add(n);
        while goes_on && buffer.len() < full_bytes && n < full_n {
            let mut bytes = 0;
            let until = (n + CHUNK).min(full_n);
            let begun = n;
            while n < until && buffer.len() < full_bytes {
                let value = payloads.value(lane.number, n);
                framer.push(&mut buffer, value);
                bytes += value.len() as u64;
                n += 1;
            }
            goes_on = lane.did(n - begun, bytes);
        }
        framer.close(&mut buffer);
        let producer = lane.number;
        if writers[file % writers.len()].send(Full { buffer, file, producer }).is_err() {
            return;
        }
        if settings.ready_bytes.is_none() {
            file = (file + 1) % files;
        }
    }
}

/// One thread that writes its share of the files.
struct Writer {
    segment_bytes: u64,
    kept_bytes: u64,
    acks: Acks,
    own_syncs: bool,
    pin: bool,
    number: usize,
    count: usize,
    empties: Arc<[Empties]>,
    logs: Vec<Log>,
}

/// A file that is written, and those before it.
struct Log {
    path: PathBuf,
    file: Option<Arc<File>>,
    position: u64,
    reserved: u64,
    unsynced: u64,
    synced_at: Instant,
    /// Sealed ones, with their lengths, oldest first.
    sealed: Vec<(PathBuf, u64)>,
    /// Sealed ones that the next sync covers.
    sealed_unsynced: Vec<Arc<File>>,
    next: u64,
}

impl Writer {
    fn new(dir: &Path, settings: &Settings, number: usize, count: usize, empties: Arc<[Empties]>) -> Writer {
        let logs = (0..settings.partitions as usize).filter(|file| file % count == number);
        let logs = logs.map(|file| Log::new(dir.join(file.to_string()))).collect();
        let kept_bytes = settings.kept_bytes();
        let (segment_bytes, acks, pin) = (settings.sealed_bytes(), settings.acks, settings.pin);
        let own_syncs = settings.own_syncs;
        Writer { segment_bytes, kept_bytes, acks, own_syncs, pin, number, count, empties, logs }
    }

    /// Writes until nobody sends any more; the syncs that are on then. If it fails, nobody waits for it.
    fn work(&mut self, full: Receiver<Full>) -> Result<Syncs, Failure> {
        let outcome = self.write_all(full);
        if outcome.is_err() {
            self.empties.iter().for_each(Empties::end);
        }
        outcome
    }

    fn write_all(&mut self, full: Receiver<Full>) -> Result<Syncs, Failure> {
        if self.pin {
            // Where it can't be, the engine's threads run free too.
            let _ = thalweg::floors::pin_to(self.number);
        }
        let mut syncs = Syncs::start();
        for mut full in full {
            let log = &mut self.logs[full.file / self.count];
            let sealed = log.write(&full.buffer, self.segment_bytes, self.kept_bytes);
            let sealed = sealed.map_err(|error| failed(&log.path, &error))?;
            if self.own_syncs || self.acks == Acks::Synced {
                log.sealed_unsynced.extend(sealed);
                let due_bytes = if self.acks == Acks::Synced { 1 } else { SYNC_BYTES };
                log.sync(&syncs, due_bytes, self.segment_bytes).map_err(|error| failed(&log.path, &error))?;
            }
            full.buffer.clear();
            self.empties[full.producer].give(full.buffer);
        }
        if self.acks == Acks::Synced {
            let files = self.logs.iter().flat_map(|log| log.sealed_unsynced.iter().chain(&log.file));
            files.for_each(|file| syncs.start_one(file));
            syncs.wait();
        }
        Ok(syncs)
    }
}

impl Log {
    fn new(path: PathBuf) -> Log {
        let synced_at = Instant::now();
        let (sealed, sealed_unsynced) = (Vec::new(), Vec::new());
        Log { path, file: None, position: 0, reserved: 0, unsynced: 0, synced_at, sealed, sealed_unsynced, next: 0 }
    }

    /// The file that this sealed, if it was full.
    fn write(&mut self, buffer: &[u8], segment_bytes: u64, kept_bytes: u64) -> std::io::Result<Option<Arc<File>>> {
        let length = buffer.len() as u64;
        let full = if self.position + length > segment_bytes { self.file.take() } else { None };
        if full.is_some() {
            self.sealed.push((self.path.with_extension((self.next - 1).to_string()), self.position));
            while self.sealed.iter().map(|sealed| sealed.1).sum::<u64>() > kept_bytes {
                let (path, _) = self.sealed.remove(0);
                std::fs::remove_file(path)?;
            }
        }
        let file = match &self.file {
            Some(file) => file.clone(),
            None => {
                let file = Arc::new(File::create(self.path.with_extension(self.next.to_string()))?);
                (self.position, self.reserved, self.next) = (4096, 0, self.next + 1);
                self.file.insert(file).clone()
            }
        };
        while self.position + length > self.reserved {
            // As the engine's steps: doubled from 64 KiB.
            let step = self.reserved.clamp(64 << 10, STEP_BYTES).min(segment_bytes.max(64 << 10));
            reserve(&file, self.reserved, step)?;
            self.reserved += step;
        }
        file.write_all_at(buffer, self.position)?;
        self.position += length;
        self.unsynced += length;
        Ok(full)
    }

    fn sync(&mut self, syncs: &Syncs, due_bytes: u64, segment_bytes: u64) -> std::io::Result<()> {
        let due = self.unsynced >= due_bytes
            || self.sealed_unsynced.len() >= SEALED_MAX
            || (self.unsynced > 0 && self.synced_at.elapsed() >= SYNC_TIME);
        if due
            && let Some(file) = &self.file
            && syncs.begins_if_idle()
        {
            // As the engine does.
            let ahead = (4 * self.unsynced).min(SYNC_AHEAD_MAX_BYTES);
            let end = (self.position + ahead).min(segment_bytes);
            let more = end.saturating_sub(self.reserved);
            if ahead > STEP_BYTES && more > 0 && more <= room(file)? / SYNC_AHEAD_PART {
                reserve(file, self.reserved, more)?;
                self.reserved = end;
            }
            self.sealed_unsynced.drain(..).for_each(|sealed| syncs.start_one(&sealed));
            syncs.start_one(file);
            (self.unsynced, self.synced_at) = (0, Instant::now());
        }
        Ok(())
    }
}
