//! Pins a thread to a core. Safe code; it lives here because only here the platforms differ.

use std::io;

/// Pins the current thread to the `index`-th (from 0) of the CPUs that it may run on, and returns
/// that CPU's number.
///
/// The mask asked is the thread's own: a thread that was pinned before has one CPU left.
///
/// # Errors
///
/// `InvalidInput` if the mask has fewer CPUs; `Unsupported` where threads can't be pinned.
#[cfg(target_os = "linux")]
pub(crate) fn pin_to(index: usize) -> io::Result<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let allowed = sched_getaffinity(None)?;
    let cpu = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).nth(index).ok_or_else(|| {
        let reason = format!("no CPU number {index} in the affinity mask, which has {}", allowed.count());
        io::Error::new(io::ErrorKind::InvalidInput, reason)
    })?;
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only)?;
    Ok(cpu)
}

/// Pinning isn't possible here: `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub(crate) fn pin_to(_index: usize) -> io::Result<usize> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "threads can't be pinned to a core on this platform"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn pins_to_a_cpu_of_the_mask_and_to_no_other() {
        std::thread::spawn(|| {
            let allowed = || rustix::thread::sched_getaffinity(None).unwrap().count() as usize;
            let count = allowed();
            assert_eq!(pin_to(count).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            let cpu = pin_to(count - 1).unwrap();
            assert_eq!(allowed(), 1);
            assert_eq!(pin_to(0).unwrap(), cpu);
        })
        .join()
        .unwrap();
    }
}
