//! How much memory this process has of its own: pages of files that are mapped don't count. And touching the
//! machine's memory before a measurement.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::context::Bench;
use crate::failure::Failure;

/// The most there was since it was begun anew.
#[derive(Debug, Default)]
pub(crate) struct Peak(AtomicU64);

impl Peak {
    pub(crate) fn look(&self) {
        self.0.fetch_max(anonymous_bytes().unwrap_or_default(), Ordering::Relaxed);
    }

    /// The peak until now; `None` where the system doesn't say. The next one begins.
    pub(crate) fn take(&self) -> Option<u64> {
        Some(self.0.swap(0, Ordering::Relaxed)).filter(|&bytes| bytes > 0)
    }
}

/// `RssAnon` of `/proc/self/status`.
fn anonymous_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The most page cache that is touched before a round.
const TOUCHED_BYTES: u64 = 5 << 29;
const STEP_BYTES: usize = 1 << 20;

/// How much page cache is touched before a round that writes `round_bytes`: two and a half times as much, at most
/// half of the memory that is available, and none where the system doesn't say how much that is.
pub(crate) fn touched_bytes(round_bytes: u64) -> u64 {
    let wanted = TOUCHED_BYTES.min(round_bytes.saturating_mul(5) / 2);
    wanted.min(available_bytes().unwrap_or_default() / 2)
}

/// Fills `bytes` of page cache and drops them. A host gives memory to a virtual machine when it is first
/// touched, and that takes longer than writing to it: the measurement would be of the host.
///
/// The pages are those of a file without blocks, which is read: nothing reaches the drive.
pub(crate) fn touch(bench: &Bench, bytes: u64) -> Result<(), Failure> {
    let piece = bench.scratch.fresh("memory")?;
    let path = piece.path().join("pages");
    let read = || -> io::Result<()> {
        let file = File::options().create_new(true).read(true).write(true).open(&path)?;
        file.set_len(bytes)?;
        let mut buffer = vec![0; STEP_BYTES];
        for position in (0..bytes).step_by(STEP_BYTES) {
            if bench.is_interrupted() {
                break;
            }
            file.read_at(&mut buffer, position)?;
            bench.tick();
        }
        Ok(())
    };
    read().map_err(|error| Failure::io(&path, &error))
}

/// `MemAvailable` of `/proc/meminfo`.
fn available_bytes() -> Option<u64> {
    let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_memory_is_touched_than_a_round_may_use() {
        assert_eq!(touched_bytes(0), 0);
        assert!(touched_bytes(1 << 20) <= 5 << 19);
        assert!(touched_bytes(u64::MAX) <= TOUCHED_BYTES);
    }
}
