//! Identity and length of a file that is being written, never its times.
//!
//! Since Linux 6.13, reading a file's times makes its next write store new ones. On ext4 without a journal the next sync
//! then writes the inode as well, and a small sync takes 1.5 times as long.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

/// See the module.
pub(super) struct Found {
    /// Device and number: the same under any name.
    pub(super) identity: (u64, u64),
    pub(super) length: u64,
}

/// Looks at an open file.
pub(super) fn look(fd: impl AsFd) -> io::Result<Found> {
    #[cfg(target_os = "linux")]
    let found = look_at(fd, Path::new(""), AtFlags::EMPTY_PATH)?;
    #[cfg(not(target_os = "linux"))]
    let found = of(&fs::fstat(fd)?);
    Ok(found)
}

/// Looks at what has a name in a directory.
#[cfg(target_os = "linux")]
pub(super) fn look_at(dir: impl AsFd, name: &Path, flags: AtFlags) -> rustix::io::Result<Found> {
    use rustix::fs::StatxFlags;

    match fs::statx(&dir, name, flags, StatxFlags::INO | StatxFlags::SIZE) {
        // Some sandboxes refuse `statx`.
        Err(Errno::NOSYS | Errno::PERM) => Ok(of(&fs::statat(&dir, name, flags)?)),
        found => {
            let found = found?;
            let device = fs::makedev(found.stx_dev_major, found.stx_dev_minor);
            Ok(Found { identity: (device, found.stx_ino), length: found.stx_size })
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn look_at(dir: impl AsFd, name: &Path, flags: AtFlags) -> rustix::io::Result<Found> {
    Ok(of(&fs::statat(dir, name, flags)?))
}

#[expect(clippy::unnecessary_cast, reason = "not the same types on every system")]
fn of(found: &fs::Stat) -> Found {
    Found { identity: (found.st_dev as u64, found.st_ino as u64), length: found.st_size as u64 }
}
