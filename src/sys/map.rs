//! Read-only shared mappings of files that another thread appends to.
//!
//! A mapping is made once for the length a file may reach. A slice is handed out only below the
//! length that the file is known to have; pages that the drive can't read become errors in
//! [`populate`](Mapping::populate). Not here: writing, and advice about paging.
#![expect(unsafe_code, reason = "slices of a mapped file can only be made from raw pointers")]

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// A multiple of every page size there is.
const GRAIN_BYTES: u64 = 64 << 10;
/// Bytes that a read-at takes where populating isn't possible.
const SCRATCH_BYTES: usize = 64 << 10;

/// A read-only mapping of a file's first bytes, as many as were reserved.
pub(crate) struct Mapping {
    memory: MmapRaw,
    /// At most the file's length as last seen, and never more.
    known_length: AtomicU64,
    /// Whether populating failed because the kernel, or this kind of mapping, hasn't it.
    no_populate: AtomicBool,
    file: Arc<OwnedFd>,
}

impl Mapping {
    /// Maps the first `reserved_bytes` of `file`, which may be shorter.
    pub(crate) fn new(file: Arc<OwnedFd>, reserved_bytes: u64) -> io::Result<Mapping> {
        let reserved = usize::try_from(reserved_bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "more than this platform can map"))?;
        let memory = MmapOptions::new().len(reserved).map_raw_read_only(&*file)?;
        Ok(Mapping {
            memory,
            known_length: AtomicU64::new(0),
            no_populate: AtomicBool::new(cfg!(not(target_os = "linux"))),
            file,
        })
    }

    /// The bytes of `range`.
    ///
    /// The caller asks only for bytes that nobody changes any more, and nobody shortens the file
    /// below them: both are this crate's rules for published bytes. A file that an outsider shortens
    /// under the mapping makes the process end with SIGBUS where its bytes are touched.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the range goes beyond the reserved length, `UnexpectedEof` if beyond the file.
    pub(crate) fn bytes(&self, range: Range<u64>) -> io::Result<&[u8]> {
        self.check(&range)?;
        let length = (range.end - range.start) as usize;
        // SAFETY: `check` saw that start <= end <= the mapping's length, so the pointer and all
        // bytes up to `end` are inside one mapping, which lives as long as `self`; and that the file
        // reached `end`, so there is a page behind each byte. The mapping is read-only, initialised
        // by the file, and by the rule above nobody changes these bytes while the slice lives. A u8
        // has no alignment, and memmap2 maps at most isize::MAX bytes.
        Ok(unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(range.start as usize), length) })
    }

    /// Brings the pages of `range` into memory, so that one that can't be read is an error here and
    /// no signal later.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Mapping::bytes), and what reading the pages gave.
    pub(crate) fn populate(&self, range: Range<u64>) -> io::Result<()> {
        self.check(&range)?;
        if range.is_empty() {
            return Ok(());
        }
        if self.no_populate.load(Ordering::Relaxed) {
            return self.read_through(range);
        }
        match self.populate_pages(&range) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.no_populate.store(true, Ordering::Relaxed);
                self.read_through(range)
            }
            // The advice says only "bad address"; a read says what is wrong with the page.
            Err(error) => self.read_through(range).and(Err(error)),
        }
    }

    /// The range is rounded outwards to whole pages: its start by memmap2, its end by the kernel.
    /// As the range ends within the file, so does its last page at the file's end rounded up.
    #[cfg(target_os = "linux")]
    fn populate_pages(&self, range: &Range<u64>) -> io::Result<()> {
        let length = (range.end - range.start) as usize;
        self.memory.advise_range(memmap2::Advice::PopulateRead, range.start as usize, length)
    }

    #[cfg(not(target_os = "linux"))]
    fn populate_pages(&self, _range: &Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::InvalidInput.into())
    }

    /// Takes what lies wholly within the range, in steps of 64 KiB, out of this process's memory; it
    /// stays in the page cache, and is mapped again when it is touched.
    pub(crate) fn leave(&self, range: Range<u64>) {
        let start = range.start.next_multiple_of(GRAIN_BYTES);
        let end = range.end / GRAIN_BYTES * GRAIN_BYTES;
        if start >= end || end > self.memory.len() as u64 {
            return;
        }
        // SAFETY: the mapping is shared, read-only and of a file: unlike in a private or anonymous one,
        // pages dropped by this advice come back from the file with the same bytes.
        let advised = unsafe {
            self.memory.unchecked_advise_range(
                memmap2::UncheckedAdvice::DontNeed,
                start as usize,
                (end - start) as usize,
            )
        };
        // Advice that isn't taken changes nothing.
        let _ = advised;
    }

    /// Reads the range into nothing: a page that can't be read is an error.
    fn read_through(&self, range: Range<u64>) -> io::Result<()> {
        let mut scratch = vec![0u8; SCRATCH_BYTES.min((range.end - range.start) as usize)];
        let mut position = range.start;
        while position < range.end {
            let wanted = scratch.len().min((range.end - position) as usize);
            match rustix::io::pread(self.file.as_fd(), &mut scratch[..wanted], position) {
                Ok(0) => return Err(beyond_file(range.end, position)),
                Ok(count) => position += count as u64,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn check(&self, range: &Range<u64>) -> io::Result<()> {
        let reserved = self.memory.len() as u64;
        if range.start > range.end || range.end > reserved {
            let reason = format!("bytes {range:?} are not within the {reserved} mapped ones");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        if range.end <= self.known_length.load(Ordering::Relaxed) {
            return Ok(());
        }
        let length = file_length(&self.file)?;
        self.known_length.fetch_max(length, Ordering::Relaxed);
        if range.end <= length { Ok(()) } else { Err(beyond_file(range.end, length)) }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("reserved_bytes", &self.memory.len())
            .field("known_length", &self.known_length)
            .finish_non_exhaustive()
    }
}

fn file_length(file: &OwnedFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(file)?.st_size as u64)
}

fn beyond_file(end: u64, length: u64) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the file ends at {length}, before {end}"))
}

#[cfg(test)]
mod tests {
    //! A mapping longer than its file hands out what the file has, and errors beyond.

    use std::io::{ErrorKind, Write};

    use super::*;

    const PAGE: u64 = 4096;

    fn file_of(content: &[u8]) -> (std::fs::File, Arc<OwnedFd>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let fd = Arc::new(OwnedFd::from(file.try_clone().unwrap()));
        (file, fd)
    }

    #[test]
    fn sees_what_is_appended_after_it_was_made() {
        let (mut file, fd) = file_of(b"first");
        let mapping = Mapping::new(fd, 64 * PAGE).unwrap();
        assert_eq!(mapping.bytes(0..5).unwrap(), b"first");
        assert_eq!(mapping.bytes(0..6).unwrap_err().kind(), ErrorKind::UnexpectedEof);

        file.write_all(&vec![7; 3 * PAGE as usize]).unwrap();
        let later = mapping.bytes(5..5 + 3 * PAGE).unwrap();
        assert!(later.iter().all(|&byte| byte == 7));
        assert_eq!(mapping.bytes(0..5).unwrap(), b"first");
    }

    #[test]
    fn refuses_ranges_beyond_the_reserved_length_and_backward_ones() {
        let (_file, fd) = file_of(&[1; 100]);
        let mapping = Mapping::new(fd, 50).unwrap();
        assert_eq!(mapping.bytes(0..50).unwrap().len(), 50);
        assert_eq!(mapping.bytes(0..51).unwrap_err().kind(), ErrorKind::InvalidInput);
        let backwards = Range { start: 5, end: 4 };
        assert_eq!(mapping.bytes(backwards).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(mapping.bytes(0..u64::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(mapping.bytes(50..50).unwrap(), b"");
    }

    #[test]
    fn populates_what_the_file_has_and_errors_beyond_it() {
        let (_file, fd) = file_of(&vec![3; 2 * PAGE as usize + 10]);
        let mapping = Mapping::new(fd, 16 * PAGE).unwrap();
        mapping.populate(100..2 * PAGE + 10).unwrap();
        mapping.populate(0..0).unwrap();
        assert_eq!(mapping.populate(0..2 * PAGE + 11).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(mapping.populate(0..17 * PAGE).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn what_was_left_is_there_again_when_it_is_touched() {
        let (_file, fd) = file_of(&vec![3; 64 * PAGE as usize]);
        let mapping = Mapping::new(fd, 128 * PAGE).unwrap();
        let bytes = mapping.bytes(0..64 * PAGE).unwrap();
        mapping.populate(0..64 * PAGE).unwrap();
        mapping.leave(100..64 * PAGE);
        mapping.leave(0..1 << 40);
        assert!(bytes.iter().all(|&byte| byte == 3));
    }

    #[test]
    fn populating_a_file_that_was_shortened_is_an_error_and_no_signal() {
        let (file, fd) = file_of(&vec![3; 4 * PAGE as usize]);
        let mapping = Mapping::new(fd, 4 * PAGE).unwrap();
        mapping.populate(0..4 * PAGE).unwrap();
        file.set_len(PAGE).unwrap();
        mapping.populate(0..PAGE).unwrap();
        assert_eq!(mapping.populate(PAGE..2 * PAGE).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn without_populate_a_read_takes_its_place() {
        let (file, fd) = file_of(&vec![3; 40 * PAGE as usize]);
        let mapping = Mapping::new(fd, 64 * PAGE).unwrap();
        mapping.no_populate.store(true, Ordering::Relaxed);
        mapping.populate(1..40 * PAGE).unwrap();
        file.set_len(PAGE).unwrap();
        assert_eq!(mapping.populate(0..2 * PAGE).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}
