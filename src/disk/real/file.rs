//! An open file or directory of the machine.

use std::any::Any;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs;
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Resource, getrlimit};

use crate::disk::look::{Found, look};
use crate::disk::target::Target;
use crate::disk::{File, View};
use crate::opener::Opener;
use crate::sys::map::Mapping;

#[derive(Debug)]
pub(in crate::disk) struct RealFile {
    target: Target,
    /// The process's limit on a file's size. Beyond it the system would not only refuse but send
    /// SIGXFSZ, which ends a process that doesn't handle it.
    length_max: u64,
    no_fallocate: Arc<AtomicBool>,
    /// A child that was forked from this process changes nothing.
    opener: Opener,
    /// It was opened with O_DIRECT.
    #[cfg(target_os = "linux")]
    pub(super) direct: AtomicBool,
}

impl RealFile {
    pub(super) fn new(fd: OwnedFd, no_fallocate: Arc<AtomicBool>) -> io::Result<RealFile> {
        let length_max = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        Ok(RealFile {
            target: Target::new(fd)?,
            length_max,
            no_fallocate,
            opener: Opener::this(),
            #[cfg(target_os = "linux")]
            direct: AtomicBool::new(false),
        })
    }

    /// Whether this was found of the same file.
    pub(super) fn is(&self, found: &Found) -> bool {
        self.target.identity == found.identity
    }

    pub(in crate::disk) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.target.fd.as_fd()
    }

    /// Before anything is written up to there.
    fn check_end(&self, position: u64, length: u64) -> io::Result<()> {
        self.opener.check_io()?;
        match position.checked_add(length) {
            Some(end) if end <= self.length_max => Ok(()),
            _ => Err(Errno::FBIG.into()),
        }
    }

    /// Lengthens the file where blocks can't be reserved.
    fn extend(&self, end: u64) -> io::Result<()> {
        if self.length()? < end {
            self.target.resized();
            retry_on_intr(|| fs::ftruncate(self.fd(), end))?;
        }
        Ok(())
    }
}

impl RealFile {
    /// Only where the file system is known to tell holes right, unwritten blocks among them: ext4, XFS, tmpfs.
    #[cfg(target_os = "linux")]
    fn tells_holes(&self) -> io::Result<bool> {
        const TELL_HOLES: [u64; 3] = [0xef53, 0x5846_5342, 0x0102_1994];
        Ok(TELL_HOLES.contains(&(fs::fstatfs(self.fd())?.f_type as u64)))
    }
}

impl File for RealFile {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total == 0 {
            return Ok(());
        }
        self.check_end(position, total as u64)?;
        self.target.written(position, total as u64);
        let written = retry_on_intr(|| rustix::io::pwritev(self.fd(), parts, position))?;
        if written == total {
            return Ok(());
        }
        write_rest(self.fd(), parts, position, written)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        #[cfg(target_os = "linux")]
        if self.direct.load(Ordering::Relaxed) {
            return super::direct::read_at(self, buffer, position);
        }
        let mut filled = 0;
        while filled < buffer.len() {
            let at = position + filled as u64;
            match retry_on_intr(|| rustix::io::pread(self.fd(), &mut buffer[filled..], at))? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    #[cfg(target_os = "linux")]
    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let length = range.end - range.start;
        self.check_end(range.start, length)?;
        if self.no_fallocate.load(Ordering::Relaxed) {
            return self.extend(range.end);
        }
        self.target.resized();
        match retry_on_intr(|| fs::fallocate(self.fd(), fs::FallocateFlags::empty(), range.start, length)) {
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                self.no_fallocate.store(true, Ordering::Relaxed);
                self.extend(range.end)
            }
            outcome => Ok(outcome?),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        self.check_end(range.start, range.end - range.start)?;
        self.no_fallocate.store(true, Ordering::Relaxed);
        self.extend(range.end)
    }

    fn room(&self) -> io::Result<u64> {
        if self.no_fallocate.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let found = fs::fstatvfs(self.fd())?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn give_back(&self, length: u64) -> io::Result<()> {
        self.opener.check_io()?;
        if self.length()? > length {
            self.target.resized();
            retry_on_intr(|| fs::ftruncate(self.fd(), length))?;
        }
        Ok(())
    }

    /// Inode number combined with birth time where the file system has one: ext4 reuses an inode number at once.
    fn identity(&self) -> io::Result<u64> {
        #[cfg(target_os = "linux")]
        if let Ok(found) =
            fs::statx(self.fd(), "", fs::AtFlags::EMPTY_PATH, fs::StatxFlags::INO | fs::StatxFlags::BTIME)
            && found.stx_mask & fs::StatxFlags::BTIME.bits() != 0
        {
            let born_ns =
                (found.stx_btime.tv_sec as u64).wrapping_mul(1_000_000_000) + u64::from(found.stx_btime.tv_nsec);
            return Ok(found.stx_ino ^ born_ns.rotate_left(24));
        }
        Ok(fs::fstat(self.fd())?.st_ino)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(look(self.fd())?.length)
    }

    #[cfg(target_os = "linux")]
    fn stored_end(&self, from: u64) -> io::Result<u64> {
        /// More stretches than any file of ours has.
        const STRETCHES_MAX: usize = 1_000;
        let length = self.length()?;
        if !self.tells_holes()? {
            return Ok(length);
        }
        let mut end = from;
        for _ in 0..STRETCHES_MAX {
            match fs::seek(self.fd(), fs::SeekFrom::Data(end)) {
                Ok(data) => end = fs::seek(self.fd(), fs::SeekFrom::Hole(data))?,
                // Nothing is written from there on.
                Err(Errno::NXIO) => return Ok(end.min(length)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(length)
    }

    #[cfg(not(target_os = "linux"))]
    fn stored_end(&self, _from: u64) -> io::Result<u64> {
        self.length()
    }

    #[cfg(target_os = "linux")]
    fn stored_from(&self, from: u64) -> io::Result<u64> {
        if !self.tells_holes()? {
            return Ok(from);
        }
        match fs::seek(self.fd(), fs::SeekFrom::Data(from)) {
            Ok(data) => Ok(data),
            // Nothing is written from there on.
            Err(Errno::NXIO) => Ok(self.length()?.max(from)),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn stored_from(&self, from: u64) -> io::Result<u64> {
        Ok(from)
    }

    fn sync(&self) -> io::Result<()> {
        self.target.sync()
    }

    fn forget(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        fs::fadvise(self.fd(), 0, None, fs::Advice::DontNeed)?;
        Ok(())
    }

    fn view(&self, reserved: u64) -> io::Result<Arc<dyn View>> {
        Ok(Arc::new(Mapping::new(Arc::clone(&self.target.fd), reserved)?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl View for Mapping {
    fn bytes(&self, range: Range<u64>) -> io::Result<&[u8]> {
        Mapping::bytes(self, range)
    }

    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        Mapping::populate(self, range)
    }

    fn leave(&self, range: Range<u64>) {
        Mapping::leave(self, range);
    }
}

/// Goes on after a short write of `written` bytes. One that takes nothing is an error, else this
/// might never end.
pub(super) fn write_rest(
    fd: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    position: u64,
    mut written: usize,
) -> io::Result<()> {
    let mut copies = parts.to_vec();
    let mut rest = copies.as_mut_slice();
    let mut position = position;
    loop {
        position += written as u64;
        IoSlice::advance_slices(&mut rest, written);
        if rest.is_empty() {
            return Ok(());
        }
        written = retry_on_intr(|| rustix::io::pwritev(fd, rest, position))?;
        if written == 0 {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "the system took none of the bytes"));
        }
    }
}

#[cfg(test)]
impl RealFile {
    /// A file over any descriptor.
    pub(in crate::disk) fn of_descriptor(fd: OwnedFd) -> RealFile {
        RealFile::new(fd, Arc::default()).unwrap()
    }
}
