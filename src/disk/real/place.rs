//! Where a path leads: below the directory that was entered, from its descriptor and one name at a time.
//!
//! The directory may be renamed and the working directory may change: the descriptor still means the same one.
//! No link below it is followed, so that nothing outside is read, written or removed. Paths outside it mean what
//! they mean to the process.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::teeth::bites;

/// A directory that was entered.
#[derive(Debug)]
pub(super) struct Root {
    /// How the engine names it; compared with the begin of a path, never looked up again.
    path: PathBuf,
    fd: OwnedFd,
}

/// A directory that is open, and a name in it.
pub(super) struct Place<'a> {
    dir: Base<'a>,
    pub(super) name: &'a Path,
    /// Whether a link under the name is refused.
    below_root: bool,
}

enum Base<'a> {
    Given(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl Root {
    pub(super) fn open(place: &Place<'_>, path: &Path) -> io::Result<Root> {
        Ok(Root { path: path.to_owned(), fd: place.open_dir()? })
    }

    /// The same directory, with a descriptor of its own.
    #[cfg(target_os = "linux")]
    pub(super) fn again(&self) -> io::Result<Root> {
        Ok(Root { path: self.path.clone(), fd: self.fd.try_clone()? })
    }
}

impl<'a> Place<'a> {
    /// Where `path` leads.
    pub(super) fn find(root: Option<&'a Root>, path: &'a Path) -> io::Result<Place<'a>> {
        let root = root.filter(|_| !bites("paths-looked-up-anew"));
        let Some((root, rest)) = root.and_then(|root| Some((root, path.strip_prefix(&root.path).ok()?))) else {
            return Ok(Place { dir: Base::Given(CWD), name: path, below_root: false });
        };
        let mut dir = Base::Given(root.fd.as_fd());
        let mut names = names(rest)?.into_iter();
        let Some(name) = names.next_back() else {
            return Ok(Place { dir, name: Path::new("."), below_root: true });
        };
        for name in names {
            dir = Base::Opened(enter(dir.fd(), name)?);
        }
        Ok(Place { dir, name: Path::new(name), below_root: true })
    }

    /// The same in one step, for a look that takes no descriptor. It may go through links: only what was opened
    /// without them is recognised at its end.
    pub(super) fn unchecked(root: Option<&'a Root>, path: &'a Path) -> (BorrowedFd<'a>, &'a Path) {
        let below = root.and_then(|root| Some((root.fd.as_fd(), path.strip_prefix(&root.path).ok()?)));
        below.unwrap_or((CWD, path))
    }

    /// Makes the directory and its missing parents, as far as they lie below the root.
    pub(super) fn create_dir_all(root: Option<&Root>, path: &Path) -> io::Result<()> {
        let Some((root, rest)) = root.and_then(|root| Some((root, path.strip_prefix(&root.path).ok()?))) else {
            return std::fs::create_dir_all(path);
        };
        let mut dir = Base::Given(root.fd.as_fd());
        let names = names(rest)?;
        for (at, name) in names.iter().enumerate() {
            let made = match retry_on_intr(|| fs::mkdirat(dir.fd(), *name, Mode::from_raw_mode(0o777))) {
                Err(Errno::EXIST) => false,
                made => made.map(|()| true)?,
            };
            dir = match enter(dir.fd(), name) {
                Err(error) if error.kind() == io::ErrorKind::NotADirectory && !made && at + 1 == names.len() => {
                    return Err(Errno::EXIST.into());
                }
                entered => Base::Opened(entered?),
            };
        }
        Ok(())
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.fd()
    }

    /// Whether the name is a whole path, which means what it means to the process.
    pub(super) fn is_outside(&self) -> bool {
        !self.below_root
    }

    /// Makes a file without a name in the directory of this name.
    #[cfg(target_os = "linux")]
    pub(super) fn create_unnamed(&self, mode: Mode) -> io::Result<OwnedFd> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let flags = if self.below_root { flags | OFlags::NOFOLLOW } else { flags };
        match retry_on_intr(|| fs::openat(self.dir(), self.name, flags, mode)) {
            // What file systems and kernels say that have none.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Err(io::ErrorKind::Unsupported.into()),
            made => Ok(made?),
        }
    }

    /// Opens the directory of this name, to list or to sync it.
    pub(super) fn open_dir(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let flags = if self.below_root { flags | OFlags::NOFOLLOW } else { flags };
        retry_on_intr(|| fs::openat(self.dir(), self.name, flags, Mode::empty()))
            .map_err(|errno| refusal(self.dir(), self.name.as_os_str(), errno))
    }
}

impl Base<'_> {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Base::Given(fd) => *fd,
            Base::Opened(fd) => fd.as_fd(),
        }
    }
}

/// The names in a path below the root; none of them leads out of it.
fn names(rest: &Path) -> io::Result<Vec<&OsStr>> {
    let name = |component| match component {
        Component::Normal(name) => Ok(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leads out of the data directory")),
    };
    rest.components().map(name).collect()
}

/// Opens a directory to look up names in it.
fn enter(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    const FLAGS: OFlags = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    const FLAGS: OFlags = OFlags::RDONLY;
    let mut flags = FLAGS | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if bites("links-followed") {
        flags.remove(OFlags::NOFOLLOW);
    }
    retry_on_intr(|| fs::openat(dir, name, flags, Mode::empty())).map_err(|errno| refusal(dir, name, errno))
}

/// Says so if it is a link that was not followed.
fn refusal(dir: BorrowedFd<'_>, name: &OsStr, errno: Errno) -> io::Error {
    let is_link = matches!(errno, Errno::NOTDIR | Errno::LOOP)
        && fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink);
    if !is_link {
        return errno.into();
    }
    let reason = format!(
        "{name:?} is a symbolic link, expected a directory: no link below a data directory is followed; put the \
         directory itself there, or mount it there"
    );
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
