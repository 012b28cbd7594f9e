//! Commits: a write of as many bytes as the engine's entry has, with or without `fdatasync`, into blocks
//! that were written before.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::failed;
use crate::bench::context::Bench;
use crate::bench::figures::Run;
use crate::failure::Failure;

const FILE_BYTES: u64 = 1 << 20;

/// Commits of this many partitions, for so long.
pub(crate) fn run(bench: &Bench, partitions: u32, syncs: bool, time: Duration) -> Result<Run, Failure> {
    let piece = bench.scratch.fresh("floor")?;
    let path = piece.path().join("commits");
    let bytes = vec![7; 96 + 32 * partitions as usize];
    let file_bytes = FILE_BYTES.max(4 * bytes.len() as u64);
    let written = File::create(&path).and_then(|file| {
        file.write_all_at(&vec![0; file_bytes as usize], 0)?;
        file.sync_all()?;
        Ok(file)
    });
    let file = written.map_err(|error| failed(&path, &error))?;
    let (begun, mut at, mut run) = (Instant::now(), 0, Run::new(0, 0, Duration::ZERO));
    while begun.elapsed() < time && !bench.is_interrupted() {
        let start = Instant::now();
        file.write_all_at(&bytes, at)
            .and_then(|()| if syncs { file.sync_data() } else { Ok(()) })
            .map_err(|error| failed(&path, &error))?;
        let took = start.elapsed();
        run.latencies.record(took);
        (run.count, run.bytes, run.time) = (run.count + 1, run.bytes + bytes.len() as u64, run.time + took);
        at = if at + 2 * bytes.len() as u64 > file_bytes { 0 } else { at + bytes.len() as u64 };
        bench.tick();
    }
    Ok(run)
}
