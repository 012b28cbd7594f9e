//! Tells the processor what memory is written next, so that it has it by then.
#![cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    expect(unsafe_code, reason = "only an instruction says it")
)]

use std::mem::MaybeUninit;

/// What one instruction brings.
const LINE_BYTES: usize = 64;

/// These bytes are about to be written: another core, which had them last, is asked for them now.
#[inline(always)]
pub(crate) fn will_be_written(bytes: &mut [MaybeUninit<u8>]) {
    for line in bytes.chunks_mut(LINE_BYTES) {
        let line = line.as_mut_ptr();
        #[cfg(target_arch = "x86_64")]
        // SAFETY: it reads and writes nothing that a program can see, and no address makes it fail.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        unsafe {
            std::arch::asm!("prfm pstl1keep, [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let _ = line;
    }
}
