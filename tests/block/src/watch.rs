//! Notices a hang, and a panic on whichever thread: whoever works says so from time to time, and after too
//! long a silence the run ends.

use std::panic;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// So long nothing takes on a disk in memory, on a busy machine either.
const PATIENCE_S: u64 = 120;

static BEATS: AtomicU64 = AtomicU64::new(0);

static SEED: AtomicU64 = AtomicU64::new(0);

/// What is done from now on is done with this seed.
pub(crate) fn seed(seed: u64) {
    SEED.store(seed, Ordering::Relaxed);
}

/// Something was done.
pub(crate) fn beat() {
    BEATS.fetch_add(1, Ordering::Relaxed);
}

/// Ends the process with exit code 1 when `beat` isn't called for a long time, and when a thread panics.
pub(crate) fn start(what: String) {
    let name = what.clone();
    panic::set_hook(Box::new(move |panic| end(&name, &format!("a panic: {panic}"))));
    thread::spawn(move || {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            thread::sleep(Duration::from_secs(1));
            let beats = BEATS.load(Ordering::Relaxed);
            if beats != seen {
                (seen, since) = (beats, Instant::now());
            } else if since.elapsed().as_secs() > PATIENCE_S {
                end(&what, &format!("it hangs: nothing was done for {PATIENCE_S} s"));
            }
        }
    });
}

fn end(what: &str, why: &str) {
    println!("BROKEN {what}: {why} (seed {})", SEED.load(Ordering::Relaxed));
    process::exit(1);
}
