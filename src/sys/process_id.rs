//! The number of this process, without a system call: also right in a child that was forked.
//!
//! It lies in a page that the kernel empties in a child (`MADV_WIPEONFORK`), and is asked for again then. Where
//! there is no such page, the system is asked each time.

#![expect(unsafe_code, reason = "an atomic in a page that the kernel empties can only be made from a raw pointer")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// What is mapped: at least a page of any machine.
#[cfg(target_os = "linux")]
const PAGE_BYTES: usize = 64 << 10;

/// Where the number lies; null until it is first asked for, [`NOWHERE`] if there is no such page.
static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
static NOWHERE: AtomicU32 = AtomicU32::new(0);

/// The number of the process that calls.
#[inline]
pub(crate) fn process_id() -> u32 {
    let mut page = PAGE.load(Ordering::Acquire).cast_const();
    if page.is_null() {
        page = first_page();
    }
    if ptr::eq(page, &NOWHERE) {
        return std::process::id();
    }
    // SAFETY: it is not null, and so came from `first_page`: a reference that lives as long as the process.
    let known = unsafe { &*page };
    match known.load(Ordering::Relaxed) {
        0 => {
            let id = std::process::id();
            known.store(id, Ordering::Relaxed);
            id
        }
        id => id,
    }
}

/// Makes the page, unless another thread was faster.
#[cold]
fn first_page() -> *const AtomicU32 {
    let made: *const AtomicU32 = page().unwrap_or(&NOWHERE);
    match PAGE.compare_exchange(ptr::null_mut(), made.cast_mut(), Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => made,
        Err(other) => other.cast_const(),
    }
}

#[cfg(target_os = "linux")]
fn page() -> Option<&'static AtomicU32> {
    use rustix::mm::{Advice, madvise};
    let memory = memmap2::MmapRaw::from(memmap2::MmapOptions::new().len(PAGE_BYTES).map_anon().ok()?);
    let pointer = memory.as_mut_ptr().cast::<u32>();
    // SAFETY: the range is the mapping's own, and what is lost in a child is what this is for.
    unsafe { madvise(memory.as_mut_ptr().cast(), PAGE_BYTES, Advice::LinuxWipeOnFork) }.ok()?;
    // It stays mapped for as long as the process lives.
    std::mem::forget(memory);
    // SAFETY: the mapping begins at a page, is long enough, is zero (so initialised), is never unmapped, and is
    // reached through this reference alone. That the kernel zeroes it happens in a child, before that runs.
    Some(unsafe { AtomicU32::from_ptr(pointer) })
}

#[cfg(not(target_os = "linux"))]
fn page() -> Option<&'static AtomicU32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_system_says() {
        assert_eq!(process_id(), std::process::id());
        assert_eq!(process_id(), std::process::id());
    }
}
