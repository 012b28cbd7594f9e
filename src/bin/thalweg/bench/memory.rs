//! How much memory this process has of its own: pages of files that are mapped don't count.

use std::sync::atomic::{AtomicU64, Ordering};

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
