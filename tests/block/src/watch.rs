//! Notices a hang: whoever works says so from time to time, and after too long a silence the run ends.

use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// So long nothing takes on a disk in memory, on a busy machine either.
const PATIENCE_S: u64 = 120;

static BEATS: AtomicU64 = AtomicU64::new(0);

/// Something was done.
pub(crate) fn beat() {
    BEATS.fetch_add(1, Ordering::Relaxed);
}

/// Ends the process with exit code 1 when `beat` isn't called for a long time.
pub(crate) fn start(what: String) {
    thread::spawn(move || {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            thread::sleep(Duration::from_secs(1));
            let beats = BEATS.load(Ordering::Relaxed);
            if beats != seen {
                (seen, since) = (beats, Instant::now());
            } else if since.elapsed().as_secs() > PATIENCE_S {
                println!("BROKEN {what}: it hangs: nothing was done for {PATIENCE_S} s");
                process::exit(1);
            }
        }
    });
}
