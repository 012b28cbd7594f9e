//! Reading past the page cache: what the drive has, whatever memory says.
//!
//! The kernel first has the drive take what memory has changed there, and waits for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, OFlags};
use rustix::io::{Errno, pread, retry_on_intr};

use super::place::Place;
use super::{RealFile, open_regular};
use crate::disk::File;

/// Such reads begin and end at multiples of this, in the file and in memory. Drives that ask for more are
/// read through memory.
const ALIGNED_BYTES: usize = 4096;

/// Opens a file whose reads pass memory by; where that is refused, memory forgets it.
pub(super) fn open(place: &Place<'_>, no_fallocate: &Arc<AtomicBool>) -> io::Result<Arc<dyn File>> {
    let file = |fd| RealFile::new(fd, Arc::clone(no_fallocate));
    match open_regular(place, OFlags::RDONLY | OFlags::DIRECT) {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            let file = file(open_regular(place, OFlags::RDONLY)?)?;
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
    let filled =
        fill(aligned, position - before as u64, |buffer, at| retry_on_intr(|| pread(file.fd(), &mut *buffer, at)))?;
    let read = filled.saturating_sub(before).min(buffer.len());
    buffer[..read].copy_from_slice(&aligned[before..before + read]);
    Ok(read)
}

/// Reads from `start` on until `aligned` is full or the file ends; each read begins at a multiple again.
fn fill(
    aligned: &mut [u8],
    start: u64,
    mut read: impl FnMut(&mut [u8], u64) -> rustix::io::Result<usize>,
) -> rustix::io::Result<usize> {
    let mut filled = 0;
    while filled < aligned.len() {
        let count = read(&mut aligned[filled..], start + filled as u64)?;
        filled += count;
        // The file ends within a block, or at one's beginning.
        if count == 0 || !count.is_multiple_of(ALIGNED_BYTES) {
            break;
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::path::Path;

    use super::*;
    use crate::config::SyncMode;
    use crate::disk::{Access, Disk, RealDisk};

    fn is_direct(file: &Arc<dyn File>) -> bool {
        file.as_any().downcast_ref::<RealFile>().unwrap().direct.load(Ordering::Relaxed)
    }

    /// What the drive would refuse is never asked of it, and the end of a file is its end.
    #[test]
    fn reads_at_any_place_pass_memory_by() {
        let disk = RealDisk::new(SyncMode::Threads, 1).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = disk.create(&path).unwrap();
        let bytes: Vec<u8> = (0..16_384_u32 / 4).flat_map(|number| number.to_le_bytes()).collect();
        for length in [16_384, 16_000] {
            file.write_at(&[IoSlice::new(&bytes)], 0).unwrap();
            file.give_back(length as u64).unwrap();
            let past = disk.open(&path, Access::Drive).unwrap();
            past.read_at(&mut [0; 4096], 0).unwrap();
            if !is_direct(&past) {
                return eprintln!("SKIPPED: this file system can't, or its drive asks for more");
            }
            for (from, wanted) in
                [(8_192, 12_000), (0, 20_480), (4_097, 12_287), (777, 6_000), (5, 20_000), (15_999, 1)]
            {
                let mut read = vec![0; wanted];
                let count = past.read_at(&mut read, from as u64).unwrap();
                assert_eq!(count, wanted.min(length - from), "{wanted} at {from} of {length}");
                assert!(read[..count] == bytes[from..from + count], "{wanted} at {from} of {length}");
                assert!(is_direct(&past), "{wanted} at {from} of {length}");
            }
        }
    }

    #[test]
    fn a_read_that_gave_less_is_gone_on_with_unless_the_file_ends_there() {
        for (given, filled) in [
            (vec![20_480], 20_480),
            (vec![4_096, 8_192, 8_192], 20_480),
            (vec![8_192, 0], 8_192),
            (vec![8_192, 4_000], 12_192),
            (vec![100], 100),
            (vec![0], 0),
        ] {
            let mut rest = given.iter();
            let mut expected_at = 40_960;
            let mut memory = vec![0; 20_480];
            let read = fill(&mut memory, 40_960, |buffer, at| {
                assert_eq!((at, buffer.len() as u64), (expected_at, 61_440 - at), "{given:?}");
                let count = *rest.next().unwrap_or_else(|| panic!("read once more after {given:?}"));
                buffer[..count].fill(7);
                expected_at += count as u64;
                Ok(count)
            });
            assert_eq!(read, Ok(filled));
            assert_eq!(rest.next(), None, "{given:?}");
            assert!(memory[..filled].iter().all(|&byte| byte == 7), "{given:?}");
        }
        assert_eq!(fill(&mut [0; 4_096], 0, |_, _| Err(Errno::IO)), Err(Errno::IO));
    }

    #[test]
    fn a_file_that_can_not_be_opened_past_memory_is_read_through_it() {
        let disk = RealDisk::new(SyncMode::Threads, 1).unwrap();
        let path = Path::new("/proc/version");
        let Ok(expected) = std::fs::read(path) else { return eprintln!("SKIPPED: no /proc here") };
        let file = disk.open(path, Access::Drive).unwrap();
        assert!(!is_direct(&file));
        let mut read = vec![0; expected.len() + 10];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), expected.len());
        assert!(read.starts_with(&expected));
        let missing = disk.open(Path::new("/proc/none"), Access::Drive).err().unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
