//! Touching memory before a measurement. A host gives memory to a virtual machine when it is first touched, and that
//! takes longer than writing to it: the measurement would be of the host.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MOST_BYTES: u64 = 5 << 29;
const STEP_BYTES: usize = 1 << 20;

/// How much page cache is touched before a measurement of `total` bytes: two and a half times as much, at most half of
/// the memory that is available.
pub(crate) fn touched_bytes(total: u64) -> u64 {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap_or_default();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    MOST_BYTES.min(total.saturating_mul(5) / 2).min(kib << 9)
}

/// Fills so much page cache and drops it: reads a file without blocks, so that nothing reaches the drive.
pub(crate) fn touch(dir: &Path, bytes: u64) -> io::Result<()> {
    let path = dir.join("memory");
    let file = File::options().create_new(true).read(true).write(true).open(&path)?;
    file.set_len(bytes)?;
    let mut buffer = vec![0; STEP_BYTES];
    for position in (0..bytes).step_by(STEP_BYTES) {
        file.read_at(&mut buffer, position)?;
    }
    std::fs::remove_file(path)
}
