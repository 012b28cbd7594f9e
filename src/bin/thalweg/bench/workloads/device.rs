//! `device`: the floors alone, what this machine can do: copying, checksums, writing with and without the
//! page cache, syncing, reading.

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use thalweg::floors::{Direct, write_direct};

use super::Line;
use crate::bench::context::Bench;
use crate::bench::figures::{Figures, Measure, Row, Run};
use crate::bench::floor::reserve;
use crate::bench::payload::Payloads;
use crate::bench::settings::Settings;
use crate::failure::Failure;
use crate::output;

/// Copied to, one block after the other, so that it isn't in a core's cache.
const COPY_BYTES: usize = 32 << 20;
const FILE_BYTES: u64 = 512 << 20;
const SMALL_BYTES: usize = 4096;

pub(crate) fn run(bench: &Bench, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let block = settings.block_bytes as u64;
    let file_bytes = file_bytes(settings);
    let payloads = Payloads::new(settings.record, settings.seed);
    let piece = bench.scratch.fresh("device")?;
    let path = piece.path().join("file");
    let device = Device {
        bench,
        block: payloads.pool().iter().copied().cycle().take(settings.block_bytes).collect(),
        path: &path,
        file_bytes,
        time: settings.time / 6,
        depth: settings.depth,
    };
    let size = output::bytes(block).replace(".0 ", " ");
    let direct = format!("O_DIRECT {} × {size}", settings.depth);
    let parts: [Part<'_>; 6] = [
        (format!("memcpy {size}"), "copies", &|| Ok(device.copy())),
        ("CRC-32 64 KiB".to_owned(), "checksums", &|| Ok(device.checksum())),
        (format!("pwrite {size}"), "writes", &|| device.write()),
        ("fdatasync 4 KiB".to_owned(), "writes", &|| device.write_and_sync()),
        (direct, "writes", &|| device.write_direct()),
        (format!("read {size}"), "reads", &|| device.read()),
    ];
    let mut rows = Vec::new();
    for (variant, unit, part) in parts {
        if bench.is_interrupted() {
            break;
        }
        let mut figures = Figures::default();
        let mut notes = Vec::new();
        match part() {
            Ok(run) => figures.add(&run),
            Err(error) if variant.starts_with("O_DIRECT") => notes.push(format!("O_DIRECT refused here: {error}")),
            Err(error) => return Err(Failure::io(&path, &error)),
        }
        let uses: &[&[&str]] = &[&["block_bytes", "depth", "seconds"]];
        let measure = Measure::Rate;
        let line = Line { workload: "device", variant, unit, measure, uses, figures, floors: Vec::new() };
        let row = Row { notes, peak_anonymous_bytes: None, ..line.row(bench, settings) };
        rows.push(row);
    }
    Ok(rows)
}

/// Its name, what is counted, and how it is measured.
type Part<'a> = (String, &'static str, &'a dyn Fn() -> io::Result<Run>);

/// The file, and one that is being removed.
pub(crate) fn needs(settings: &Settings) -> u64 {
    file_bytes(settings) + (16 << 20)
}

fn file_bytes(settings: &Settings) -> u64 {
    let block = settings.block_bytes as u64;
    settings.total_bytes.unwrap_or(FILE_BYTES).next_multiple_of(block).max(4 * block)
}

struct Device<'a> {
    bench: &'a Bench,
    block: Vec<u8>,
    path: &'a Path,
    file_bytes: u64,
    time: Duration,
    depth: u16,
}

impl Device<'_> {
    fn copy(&self) -> Run {
        let mut to = vec![1; COPY_BYTES.max(self.block.len())];
        let mut at = 0;
        self.repeat(self.block.len(), 16, |_| {
            to[at..at + self.block.len()].copy_from_slice(black_box(&self.block));
            black_box(&to[at..at + self.block.len()]);
            at = if at + 2 * self.block.len() > to.len() { 0 } else { at + self.block.len() };
        })
    }

    fn checksum(&self) -> Run {
        let piece = &self.block[..self.block.len().min(64 << 10)];
        self.repeat(piece.len(), 64, |_| {
            black_box(crc32fast::hash(black_box(piece)));
        })
    }

    /// Does it over and over, looking at the clock every few times; each is told its number.
    fn repeat(&self, bytes: usize, times: u64, mut once: impl FnMut(u64)) -> Run {
        let (begun, mut count) = (Instant::now(), 0);
        while begun.elapsed() < self.time && !self.bench.is_interrupted() {
            (count..count + times).for_each(&mut once);
            count += times;
            self.bench.tick();
        }
        Run::new(count, count * bytes as u64, begun.elapsed())
    }

    /// Large writes into the page cache, through a file whose blocks are reserved; again and again.
    fn write(&self) -> io::Result<Run> {
        let mut run = Run::new(0, 0, Duration::ZERO);
        while run.time < self.time && !self.bench.is_interrupted() {
            let file = File::create(self.path)?;
            reserve(&file, 0, self.file_bytes)?;
            let begun = Instant::now();
            let blocks = self.file_bytes / self.block.len() as u64;
            for at in 0..blocks {
                file.write_all_at(&self.block, at * self.block.len() as u64)?;
                run.count += 1;
                if begun.elapsed() + run.time >= self.time {
                    break;
                }
            }
            run.time += begun.elapsed();
            self.bench.tick();
        }
        run.bytes = run.count * self.block.len() as u64;
        Ok(run)
    }

    /// A block at a time into blocks that were written before, each synced before the next.
    fn write_and_sync(&self) -> io::Result<Run> {
        let file = self.written()?;
        let (begun, mut run) = (Instant::now(), Run::new(0, 0, Duration::ZERO));
        let blocks = self.file_bytes / SMALL_BYTES as u64;
        while begun.elapsed() < self.time && !self.bench.is_interrupted() {
            let start = Instant::now();
            file.write_all_at(&self.block[..SMALL_BYTES], run.count % blocks * SMALL_BYTES as u64)?;
            file.sync_data()?;
            run.latencies.record(start.elapsed());
            run.count += 1;
            self.bench.tick();
        }
        Ok(Run { bytes: run.count * SMALL_BYTES as u64, time: begun.elapsed(), ..run })
    }

    fn write_direct(&self) -> io::Result<Run> {
        drop(self.written()?);
        let direct = Direct {
            path: self.path,
            file_bytes: self.file_bytes,
            block_bytes: self.block.len(),
            depth: self.depth,
            content: &self.block,
        };
        let begun = Instant::now();
        let bytes = write_direct(&direct, &mut |_| {
            self.bench.tick();
            begun.elapsed() < self.time && !self.bench.is_interrupted()
        })?;
        Ok(Run::new(bytes / self.block.len() as u64, bytes, begun.elapsed()))
    }

    /// Large reads from the page cache.
    fn read(&self) -> io::Result<Run> {
        let file = self.written()?;
        let mut buffer = vec![0; self.block.len()];
        let blocks = self.file_bytes / self.block.len() as u64;
        let mut failed = None;
        let run = self.repeat(self.block.len(), 4, |n| {
            let read = file.read_exact_at(&mut buffer, n % blocks * self.block.len() as u64);
            failed = failed.take().or(read.err());
        });
        failed.map_or(Ok(run), Err)
    }

    /// The file, all of it written; whichever part made it.
    fn written(&self) -> io::Result<File> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(self.path)?;
        for at in 0..self.file_bytes / self.block.len() as u64 {
            file.write_all_at(&self.block, at * self.block.len() as u64)?;
            self.bench.tick();
            if self.bench.is_interrupted() {
                break;
            }
        }
        file.sync_all()?;
        Ok(file)
    }
}
