//! The floors: the same bytes with the least possible work. What `append`, `read` and `index_lookup` are held against.
//!
//! Append: one thread frames records into buffers of 256 KiB (batches of 64 KiB), another checksums
//! each batch once and writes each buffer with one call into a file whose blocks are reserved in
//! steps. Read: a walk over such batches in memory, each checksum checked, each value looked at. Index_lookup: a value in
//! them, at a place that follows from its number; no checksum.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};

use crate::{Chance, VALUES};

const BYTES: usize = 64 << 20;
const BUFFER_BYTES: usize = 256 << 10;
const BATCH_BYTES: usize = 64 << 10;
const BATCH_HEADER_BYTES: usize = 96;
const RECORD_HEADER_BYTES: usize = 16;
const STEP_BYTES: u64 = 32 << 20;

/// Appends one record; a batch's header stands before its first.
fn frame(buffer: &mut Vec<u8>, batch_left: &mut usize, number: u32, value: &[u8]) {
    let bytes = RECORD_HEADER_BYTES + value.len().next_multiple_of(8);
    if *batch_left < bytes {
        buffer.extend_from_slice(&[0; BATCH_HEADER_BYTES]);
        *batch_left = BATCH_BYTES;
    }
    *batch_left -= bytes;
    let mut header = [0; RECORD_HEADER_BYTES];
    header[4..8].copy_from_slice(&number.to_le_bytes());
    header[8..12].copy_from_slice(&(value.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(value);
    buffer.extend_from_slice(&[0; 8][..value.len().next_multiple_of(8) - value.len()]);
}

fn append(path: &Path, value: &[u8], count: usize) {
    let (full, to_write) = mpsc::sync_channel::<Vec<u8>>(8);
    let (free, empty) = mpsc::channel::<Vec<u8>>();
    for _ in 0..8 {
        free.send(Vec::with_capacity(BUFFER_BYTES + BATCH_BYTES)).unwrap();
    }
    let file = File::create(path).unwrap();
    let writer = thread::spawn(move || {
        let (mut position, mut reserved) = (4096, 0);
        for mut buffer in to_write {
            for batch in buffer.chunks_mut(BATCH_BYTES + BATCH_HEADER_BYTES) {
                let checksum = crc32fast::hash(&batch[8..]);
                batch[..4].copy_from_slice(&checksum.to_le_bytes());
            }
            if position + buffer.len() as u64 > reserved {
                rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), reserved, STEP_BYTES).unwrap();
                reserved += STEP_BYTES;
            }
            file.write_all_at(&buffer, position).unwrap();
            position += buffer.len() as u64;
            buffer.clear();
            let _ = free.send(buffer);
        }
    });
    let mut buffer = empty.recv().unwrap();
    let mut batch_left = 0;
    for number in 0..count {
        if buffer.len() + value.len() + 2 * BATCH_HEADER_BYTES > BUFFER_BYTES {
            full.send(std::mem::replace(&mut buffer, empty.recv().unwrap())).unwrap();
            batch_left = 0;
        }
        frame(&mut buffer, &mut batch_left, number as u32, value);
    }
    full.send(buffer).unwrap();
    drop(full);
    writer.join().unwrap();
}

/// Sums the lengths of all values.
fn walk(log: &[Vec<u8>]) -> usize {
    let mut bytes = 0;
    for batch in log {
        black_box(crc32fast::hash(batch));
        let mut rest = &batch[BATCH_HEADER_BYTES..];
        while let Some(header) = rest.first_chunk::<RECORD_HEADER_BYTES>() {
            let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
            bytes += black_box(&rest[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + length]).len();
            rest = &rest[RECORD_HEADER_BYTES + length.next_multiple_of(8)..];
        }
    }
    bytes
}

/// The value of a record, whose place follows from its number, as all have the same length.
fn look_up(log: &[Vec<u8>], number: u32) -> &[u8] {
    let record_bytes = RECORD_HEADER_BYTES + 104;
    let in_batch = (log[0].len() - BATCH_HEADER_BYTES) / record_bytes;
    let at = BATCH_HEADER_BYTES + number as usize % in_batch * record_bytes + RECORD_HEADER_BYTES;
    &log[number as usize / in_batch][at..at + 100]
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("floor");
    let mut group = criterion.benchmark_group("floor");
    group.sample_size(10);
    for (name, bytes) in VALUES {
        let count = BYTES / bytes;
        let value = vec![b'v'; bytes];
        let remove = || drop(std::fs::remove_file(&path));
        group.throughput(Throughput::ElementsAndBytes { elements: count as u64, bytes: (count * bytes) as u64 });
        group.bench_function(BenchmarkId::new("append", name), |bencher| {
            bencher.iter_batched(remove, |()| append(&path, &value, count), BatchSize::PerIteration);
        });
    }
    let (mut log, value) = (Vec::new(), vec![b'v'; 100]);
    let records = 1_000_000;
    let mut batch = Vec::new();
    let mut batch_left = 0;
    for number in 0..records {
        if batch_left < 120 && !batch.is_empty() {
            log.push(std::mem::take(&mut batch));
        }
        frame(&mut batch, &mut batch_left, number, &value);
    }
    log.push(batch);
    group.throughput(Throughput::ElementsAndBytes { elements: u64::from(records), bytes: u64::from(records) * 100 });
    group.bench_function(BenchmarkId::new("read", "100 B"), |bencher| {
        bencher.iter(|| assert_eq!(walk(&log), records as usize * 100));
    });
    let mut chance = Chance::default();
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::new("index_lookup", "100 B"), |bencher| {
        bencher.iter(|| {
            let number = chance.below(u64::from(records)) as u32;
            let value = look_up(&log, number);
            assert_eq!(value, [b'v'; 100]);
            black_box(value[0])
        });
    });
}
