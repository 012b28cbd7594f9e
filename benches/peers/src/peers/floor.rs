//! The floor: no log, but the same bytes with the least possible work, framed, with a CRC-32 a batch. Once with syncs at
//! the same points as thalweg's own, in a thread beside the writing, and once without any. Durable: leader and
//! followers.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};

use crate::payload::{Span, Tally};
use crate::peer::{About, Can, Level, Outcome, Peer, Settings};

pub(crate) const ABOUT: About = About {
    name: "floor",
    each: Can::Yes(Level::Written, "framed into a buffer of 256 KiB, which is written with one pwrite"),
    batches: Can::Yes(Level::Written, "a pwrite a batch"),
    durable: Can::Yes(Level::Synced, "leader and followers: one thread writes and syncs for all that have come"),
    replay: Can::Yes(Level::Written, "pread of a batch at a time; CRC-32 of each batch"),
    logs: Can::Yes(Level::Written, "a file each, with a buffer of 16 KiB"),
    settings: "no log; fdatasync after 64 MiB and after a second, beside the writing",
};

pub(crate) const NO_SYNCS: About = About {
    name: "floor-nosync",
    durable: Can::No("it is floor"),
    replay: Can::No("it is floor"),
    settings: "no log; no syncs",
    ..ABOUT
};

const BUFFER_BYTES: usize = 256 << 10;
const MANY_BUFFER_BYTES: usize = 16 << 10;
const RESERVED_BYTES: u64 = 32 << 20;
const SYNC_BYTES: u64 = 64 << 20;
const SYNC_TIME: Duration = Duration::from_secs(1);
/// Zeros that durable records are written over.
const WRITTEN_BYTES: usize = 64 << 20;

/// Of a batch: its length, its records, its checksum; as long as thalweg's.
const BATCH_HEADER_BYTES: usize = 96;
/// Of a record: its length; as long as thalweg's.
const RECORD_HEADER_BYTES: usize = 16;

/// Frames records into one batch behind what `buffer` has.
fn frame(buffer: &mut Vec<u8>, records: impl Iterator<Item = &'static [u8]>) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; BATCH_HEADER_BYTES]);
    records.for_each(|record| push(buffer, record));
    close(&mut buffer[start..]);
}

fn push(buffer: &mut Vec<u8>, record: &[u8]) {
    let mut header = [0; RECORD_HEADER_BYTES];
    header[..8].copy_from_slice(&(record.len() as u64).to_le_bytes());
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(record);
    buffer.extend_from_slice(&[0; 8][..record.len().next_multiple_of(8) - record.len()]);
}

/// Length and checksum of a batch that has its records.
fn close(batch: &mut [u8]) {
    let length = batch.len() as u64;
    batch[..8].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32fast::hash(&batch[BATCH_HEADER_BYTES..]);
    batch[8..12].copy_from_slice(&checksum.to_le_bytes());
}

/// A thread that syncs what it is handed.
struct Syncs {
    files: Option<Sender<Arc<File>>>,
    is_idle: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Syncs {
    fn start() -> Syncs {
        let (files, to_sync) = mpsc::channel::<Arc<File>>();
        let is_idle = Arc::new(AtomicBool::new(true));
        let idle = is_idle.clone();
        let sync = move || {
            for file in to_sync {
                file.sync_data()?;
                idle.store(true, Ordering::Release);
            }
            Ok(())
        };
        Syncs { files: Some(files), is_idle, thread: Some(std::thread::spawn(sync)) }
    }

    /// Whether it took the file: it has one at a time.
    fn took(&self, file: &Arc<File>) -> bool {
        let Some(files) = &self.files else { return false };
        self.is_idle.swap(false, Ordering::AcqRel) && files.send(file.clone()).is_ok()
    }
}

impl Drop for Syncs {
    fn drop(&mut self) {
        self.files = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Log {
    file: Arc<File>,
    buffer: Vec<u8>,
    position: u64,
    reserved: u64,
    unsynced: u64,
    synced_at: Instant,
}

impl Log {
    /// Writes what the buffer has.
    fn write(&mut self, syncs: Option<&Syncs>) -> Outcome {
        let length = self.buffer.len() as u64;
        while self.position + length > self.reserved {
            // As thalweg's steps: doubled from 64 KiB.
            let step = self.reserved.clamp(64 << 10, RESERVED_BYTES);
            fallocate(&*self.file, FallocateFlags::empty(), self.reserved, step)?;
            self.reserved += step;
        }
        self.file.write_all_at(&self.buffer, self.position)?;
        self.buffer.clear();
        self.position += length;
        self.unsynced += length;
        let is_due = self.unsynced >= SYNC_BYTES || self.synced_at.elapsed() >= SYNC_TIME;
        if is_due && syncs.is_some_and(|syncs| syncs.took(&self.file)) {
            (self.unsynced, self.synced_at) = (0, Instant::now());
        }
        Ok(())
    }

    /// Closes the open batch of single records and writes it.
    fn write_open(&mut self, syncs: Option<&Syncs>) -> Outcome {
        if self.buffer.is_empty() {
            return Ok(());
        }
        close(&mut self.buffer);
        self.write(syncs)
    }
}

struct Floor {
    logs: Vec<Mutex<Log>>,
    batch: u64,
    buffer_bytes: usize,
    syncs: Option<Syncs>,
    group: Mutex<Group>,
    /// Where the threads of a batch wait: those of even numbers in one place, those of odd ones in the other.
    changed: [Condvar; 2],
}

/// The batch of durable records that is filled.
struct Group {
    batch: Vec<u8>,
    number: u64,
    waiting: usize,
    /// Every batch up to this number is synced.
    synced: u64,
    leads: bool,
    failed: bool,
}

pub(crate) fn open(dir: &Path, settings: &Settings) -> Outcome<Box<dyn Peer>> {
    with(dir, settings, Some(Syncs::start()))
}

pub(crate) fn open_without_syncs(dir: &Path, settings: &Settings) -> Outcome<Box<dyn Peer>> {
    with(dir, settings, None)
}

fn with(dir: &Path, settings: &Settings, syncs: Option<Syncs>) -> Outcome<Box<dyn Peer>> {
    let mut logs = Vec::new();
    for log in 0..settings.logs {
        let path = dir.join(log.to_string());
        let file = File::options().create_new(true).read(true).write(true).open(path)?;
        let mut reserved = 0;
        if settings.durable {
            file.write_all_at(&vec![0; WRITTEN_BYTES], 0)?;
            file.sync_all()?;
            reserved = WRITTEN_BYTES as u64;
        }
        let (file, synced_at) = (Arc::new(file), Instant::now());
        logs.push(Mutex::new(Log { file, buffer: Vec::new(), position: 0, reserved, unsynced: 0, synced_at }));
    }
    let buffer_bytes = if settings.logs > 1 { MANY_BUFFER_BYTES } else { BUFFER_BYTES };
    let group = Group { batch: Vec::new(), number: 1, waiting: 0, synced: 0, leads: false, failed: false };
    let batch = settings.batch_of(BUFFER_BYTES);
    Ok(Box::new(Floor { logs, batch, buffer_bytes, syncs, group: Mutex::new(group), changed: Default::default() }))
}

impl Floor {
    fn log(&self, log: u32) -> Outcome<MutexGuard<'_, Log>> {
        Ok(self.logs[log as usize].lock().map_err(|_| "the log's lock is poisoned")?)
    }

    fn group(&self) -> Outcome<MutexGuard<'_, Group>> {
        Ok(self.group.lock().map_err(|_| "the group's lock is poisoned")?)
    }

    fn write_and_sync(&self, batch: Vec<u8>) -> Outcome {
        let mut log = self.log(0)?;
        log.buffer = batch;
        log.write_open(None)?;
        Ok(log.file.sync_data()?)
    }

    fn place(&self, number: u64) -> &Condvar {
        &self.changed[(number % 2) as usize]
    }
}

impl Peer for Floor {
    fn append_each(&self, log: u32, records: Span) -> Outcome {
        let mut log = self.log(log)?;
        for record in records {
            if log.buffer.is_empty() {
                log.buffer.extend_from_slice(&[0; BATCH_HEADER_BYTES]);
            }
            push(&mut log.buffer, record);
            if log.buffer.len() >= self.buffer_bytes {
                log.write_open(self.syncs.as_ref())?;
            }
        }
        Ok(())
    }

    fn append_batches(&self, log: u32, mut records: Span) -> Outcome {
        let mut log = self.log(log)?;
        while records.len() > 0 {
            frame(&mut log.buffer, records.take_span(self.batch));
            log.write(self.syncs.as_ref())?;
        }
        Ok(())
    }

    fn append_durable(&self, record: &'static [u8]) -> Outcome {
        let mut group = self.group()?;
        if group.batch.is_empty() {
            group.batch.extend_from_slice(&[0; BATCH_HEADER_BYTES]);
        }
        push(&mut group.batch, record);
        let (number, waits) = (group.number, group.leads);
        group.waiting += usize::from(waits);
        // A thread that is woken to lead may find that another came first: that one takes its record along.
        while group.leads && !group.failed {
            group = self.place(number).wait(group).map_err(|_| "the group's lock is poisoned")?;
            if group.synced >= number {
                return Ok(());
            }
        }
        if group.failed {
            return Err("another thread failed".into());
        }
        group.waiting -= usize::from(waits);
        let batch = std::mem::take(&mut group.batch);
        let followers = std::mem::take(&mut group.waiting);
        (group.leads, group.number) = (true, number + 1);
        drop(group);

        let outcome = self.write_and_sync(batch);
        let mut group = self.group()?;
        group.leads = false;
        if outcome.is_err() {
            group.failed = true;
            self.changed.iter().for_each(Condvar::notify_all);
            return outcome;
        }
        group.synced = number;
        let leader_waits = group.waiting > 0;
        drop(group);
        if leader_waits {
            self.place(number + 1).notify_one();
        }
        if followers > 0 {
            self.place(number).notify_all();
        }
        Ok(())
    }

    fn flush(&self) -> Outcome {
        (0..self.logs.len() as u32).try_for_each(|log| self.log(log)?.write_open(self.syncs.as_ref()))
    }

    fn sync(&self) -> Outcome {
        (0..self.logs.len() as u32).try_for_each(|log| Ok(self.log(log)?.file.sync_data()?))
    }

    fn replay(&self, log: u32, tally: &mut Tally) -> Outcome {
        let (file, end) = {
            let log = self.log(log)?;
            (log.file.clone(), log.position)
        };
        let (mut position, mut batch) = (0, Vec::new());
        while position < end {
            let mut header = [0; BATCH_HEADER_BYTES];
            file.read_exact_at(&mut header, position)?;
            let length = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at| header[at]));
            let body = length.checked_sub(BATCH_HEADER_BYTES as u64).ok_or("a batch is too short")?;
            batch.resize(usize::try_from(body)?, 0);
            file.read_exact_at(&mut batch, position + BATCH_HEADER_BYTES as u64)?;
            if crc32fast::hash(&batch).to_le_bytes() != header[8..12] {
                return Err(format!("the batch at {position} has another checksum").into());
            }
            let mut records = &batch[..];
            while let Some((header, rest)) = records.split_first_chunk::<RECORD_HEADER_BYTES>() {
                let length = usize::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at| header[at]));
                if !tally.add(rest.get(..length).ok_or("a record is cut")?) {
                    return Ok(());
                }
                records = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
            }
            position += length;
        }
        Ok(())
    }
}
