//! The floors: the same bytes with the least possible work, by as many threads, with the same
//! preallocation and syncs as the engine. They know nothing of it.

pub(super) mod append;
pub(super) mod commit;
pub(super) mod durable;
mod frame;
pub(super) mod group;
pub(super) mod open;
pub(super) mod replay;
mod syncs;
pub(super) mod tail;
pub(super) mod wake;

use std::fs::File;
use std::io;
use std::path::Path;

use crate::failure::Failure;

pub(super) use frame::single_record_bytes;

/// A floor's file didn't do.
fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::io(path, error)
}

/// Bytes that its file system has left.
pub(super) fn room(file: &File) -> io::Result<u64> {
    let found = rustix::fs::fstatvfs(file)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Reserves blocks, where the file system can.
#[cfg(target_os = "linux")]
pub(super) fn reserve(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), from, bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reserve(_file: &File, _from: u64, _bytes: u64) -> io::Result<()> {
    Ok(())
}
