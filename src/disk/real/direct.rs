//! Reading past the page cache: what the drive has, whatever memory says.
//!
//! The kernel first has the drive take what memory has changed there, and waits for it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, OFlags};
use rustix::io::{Errno, pread, retry_on_intr};

use super::{RealFile, open_regular};
use crate::disk::File;

/// Such reads begin and end at multiples of this, in the file and in memory. Drives that ask for more are
/// read through memory.
const ALIGNED_BYTES: usize = 4096;

/// Opens a file whose reads pass memory by; where that is refused, memory forgets it.
pub(super) fn open(path: &Path, no_fallocate: &Arc<AtomicBool>) -> io::Result<Arc<dyn File>> {
    let file = |fd| RealFile::new(fd, Arc::clone(no_fallocate));
    match open_regular(path, OFlags::RDONLY | OFlags::DIRECT) {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            let file = file(open_regular(path, OFlags::RDONLY)?)?;
            file.forget()?;
            Ok(Arc::new(file))
        }
        opened => {
            let file = file(opened?)?;
            file.direct.store(true, Ordering::Relaxed);
            Ok(Arc::new(file))
        }
    }
}

/// Reads until `buffer` is full or the file ends.
pub(super) fn read_at(file: &RealFile, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    match read_aligned(file, buffer, position) {
        // Opening is allowed in places where reading isn't.
        Err(Errno::INVAL) => {
            let flags = fs::fcntl_getfl(file.fd())?;
            fs::fcntl_setfl(file.fd(), flags.difference(OFlags::DIRECT))?;
            file.forget()?;
            file.direct.store(false, Ordering::Relaxed);
            file.read_at(buffer, position)
        }
        read => Ok(read?),
    }
}

fn read_aligned(file: &RealFile, buffer: &mut [u8], position: u64) -> rustix::io::Result<usize> {
    let before = (position % ALIGNED_BYTES as u64) as usize;
    let length = (before + buffer.len()).next_multiple_of(ALIGNED_BYTES);
    let mut memory = vec![0; length + ALIGNED_BYTES];
    let skipped = memory.as_ptr().align_offset(ALIGNED_BYTES);
    let Some(aligned) = memory.get_mut(skipped..skipped.saturating_add(length)) else { return Err(Errno::INVAL) };
    let mut filled = 0;
    while filled < length {
        let at = position - before as u64 + filled as u64;
        let read = retry_on_intr(|| pread(file.fd(), &mut aligned[filled..], at))?;
        filled += read;
        // The file ends within a block, or at one's beginning.
        if read == 0 || !read.is_multiple_of(ALIGNED_BYTES) {
            break;
        }
    }
    let read = filled.saturating_sub(before).min(buffer.len());
    buffer[..read].copy_from_slice(&aligned[before..before + read]);
    Ok(read)
}
