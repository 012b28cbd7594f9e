//! Writes past the page cache, many at once: O_DIRECT through a ring with registered buffers.
//!
//! For the floors of `thalweg bench` alone. Owns its ring, file and buffers; when a call returns, the
//! kernel has answered for everything that was submitted.
#![expect(unsafe_code, reason = "a submission to io_uring lends the kernel a descriptor and buffers")]

use std::fmt;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use memmap2::MmapMut;
use rustix::fs::{Mode, OFlags};

/// A file open with O_DIRECT, and buffers that the kernel knows.
pub(crate) struct DirectFile {
    /// Declared before what it was lent, so it is closed first.
    ring: IoUring,
    file: OwnedFd,
    /// One block a buffer, one behind the other from the start of a page.
    buffers: MmapMut,
    block_bytes: usize,
    /// The buffers that no write is using.
    free: Vec<u16>,
    depth: usize,
}

impl DirectFile {
    /// Opens a file that exists; `depth` blocks are written at a time, each with the bytes of `content`,
    /// repeated.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if blocks are no multiple of 4 KiB, or none; `InvalidInput` too where the file
    /// system refuses O_DIRECT; where io_uring is refused, what the kernel says.
    pub(crate) fn open(path: &Path, block_bytes: usize, depth: u16, content: &[u8]) -> io::Result<DirectFile> {
        let fits = block_bytes.is_multiple_of(4096) && u32::try_from(block_bytes).is_ok();
        if block_bytes == 0 || !fits || depth == 0 || content.is_empty() {
            let reason = "a block has a multiple of 4096 bytes, and at least one is written at a time";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty())?;
        let mut buffers = MmapMut::map_anon(block_bytes * usize::from(depth))?;
        for piece in buffers.chunks_mut(content.len()) {
            piece.copy_from_slice(&content[..piece.len()]);
        }
        let ring = IoUring::new(u32::from(depth))?;
        let blocks: Vec<_> = buffers.chunks_mut(block_bytes).map(IoSliceMut::new).collect();
        // SAFETY: an `IoSliceMut` is laid out as an iovec, which std promises on Unix. Each points at
        // `block_bytes` bytes of `buffers`, which is neither unmapped nor touched by us while the ring
        // lives: the ring is dropped before it. The list itself is only read during the call.
        unsafe { ring.submitter().register_buffers(std::slice::from_raw_parts(blocks.as_ptr().cast(), blocks.len()))? };
        let (free, depth) = ((0..depth).collect(), usize::from(depth));
        Ok(DirectFile { ring, file, buffers, block_bytes, free, depth })
    }

    /// Writes block after block, over and over through the first `file_bytes` of the file, with as many
    /// in flight as there are buffers. `goes_on` is told how many bytes were written so far, and says
    /// whether to go on. Returns how many bytes were written in the end.
    ///
    /// # Errors
    ///
    /// The first that a write gives, once nothing is in flight any more.
    pub(crate) fn write(&mut self, file_bytes: u64, goes_on: &mut dyn FnMut(u64) -> bool) -> io::Result<u64> {
        let blocks = (file_bytes / self.block_bytes as u64).max(1);
        let (mut next, mut written, mut failed) = (0, 0, None);
        loop {
            let wanted = failed.is_none() && goes_on(written);
            while wanted && let Some(buffer) = self.free.pop() {
                self.push(buffer, next % blocks * self.block_bytes as u64);
                next += 1;
            }
            if self.free.len() == self.depth {
                return failed.map_or(Ok(written), Err);
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Short of memory: what is in the queue goes with the next call.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => {
                    failed.get_or_insert(error);
                    std::thread::yield_now();
                }
                Ok(_) => {}
            }
            for completion in self.ring.completion() {
                self.free.push(completion.user_data() as u16);
                match completion.result() {
                    code if code < 0 => drop(failed.get_or_insert(io::Error::from_raw_os_error(-code))),
                    bytes => written += bytes as u64,
                }
            }
        }
    }

    fn push(&mut self, buffer: u16, position: u64) {
        let block = &self.buffers[usize::from(buffer) * self.block_bytes..][..self.block_bytes];
        let entry = opcode::WriteFixed::new(Fd(self.file.as_raw_fd()), block.as_ptr(), block.len() as u32, buffer)
            .offset(position)
            .build();
        // SAFETY: the descriptor and the block are owned by `self`, and `write`, the only caller, returns
        // when the kernel has answered for every buffer. The kernel only reads the block.
        let pushed = unsafe { self.ring.submission().push(&entry.user_data(u64::from(buffer))) };
        debug_assert!(pushed.is_ok(), "the queue has an entry for each buffer");
    }
}

impl fmt::Debug for DirectFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectFile")
            .field("block_bytes", &self.block_bytes)
            .field("depth", &self.depth)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_whole_blocks_round_and_round() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("direct");
        std::fs::write(&path, vec![0; 3 * 4096]).unwrap();
        let mut file = match DirectFile::open(&path, 4096, 4, b"abcd") {
            Ok(file) => file,
            Err(error) => return eprintln!("SKIPPED: {error}"),
        };
        let written = file.write(3 * 4096, &mut |written| written < 10 * 4096).unwrap();
        assert!(written >= 10 * 4096 && written.is_multiple_of(4096), "{written}");
        assert_eq!(std::fs::read(&path).unwrap(), b"abcd".repeat(3 * 1024));
    }

    #[test]
    fn blocks_that_cannot_be_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (block_bytes, depth) in [(0, 1), (1000, 1), (4096, 0)] {
            let error = DirectFile::open(file.path(), block_bytes, depth, b"x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{block_bytes} {depth}");
        }
    }
}
