//! What `thalweg bench` takes from the system to measure the machine's own limit: the few things that
//! need unsafe code. No part of the API, which the feature `cli` alone makes visible.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::sys::map::Mapping;

/// Pins the current thread to the `index`-th (from 0) of the CPUs that it may run on.
///
/// # Errors
/// If there are fewer, or where threads can't be pinned.
pub fn pin_to(index: usize) -> io::Result<()> {
    crate::sys::affinity::pin_to(index).map(drop)
}

/// A file mapped to be read, whole and populated.
#[derive(Debug)]
pub struct MappedFile {
    mapping: Mapping,
    length: u64,
}

impl MappedFile {
    /// Maps a file that nobody changes or shortens any more.
    ///
    /// # Errors
    /// What mapping it or reading its pages gave.
    pub fn open(path: &Path) -> io::Result<MappedFile> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mapping = Mapping::new(Arc::new(file.into()), length)?;
        mapping.populate(0..length)?;
        Ok(MappedFile { mapping, length })
    }

    /// All of it.
    ///
    /// # Errors
    /// If the file became shorter.
    pub fn bytes(&self) -> io::Result<&[u8]> {
        self.mapping.bytes(0..self.length)
    }
}

/// Writes past the page cache: see [`write_direct`].
#[derive(Clone, Copy, Debug)]
pub struct Direct<'a> {
    /// A file that exists, with blocks of its own.
    pub path: &'a Path,
    /// How much of it is written, over and over.
    pub file_bytes: u64,
    /// Bytes of a write, a multiple of 4 KiB.
    pub block_bytes: usize,
    /// Writes in flight.
    pub depth: u16,
    /// What is written, repeated.
    pub content: &'a [u8],
}

/// Writes with O_DIRECT through io_uring, from registered buffers, until `goes_on` says no: it is told
/// the bytes written so far. Returns how many it were in the end.
///
/// # Errors
/// `InvalidInput` where the file system refuses O_DIRECT; what the kernel says where it refuses io_uring;
/// `Unsupported` on other systems than Linux; what a write gave.
#[cfg(target_os = "linux")]
pub fn write_direct(direct: &Direct<'_>, goes_on: &mut dyn FnMut(u64) -> bool) -> io::Result<u64> {
    let mut file = crate::sys::direct::DirectFile::open(direct.path, direct.block_bytes, direct.depth, direct.content)?;
    file.write(direct.file_bytes, goes_on)
}

/// As on Linux, but there is no io_uring here: `Unsupported`.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn write_direct(_direct: &Direct<'_>, _goes_on: &mut dyn FnMut(u64) -> bool) -> io::Result<u64> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring is not on this platform"))
}
