//! File systems on the disk: made once, mounted again and again.

use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::disk::Attached;
use crate::failure::{Failure, Result, broken};
use crate::tools;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
    Btrfs,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Ext4, Kind::Xfs, Kind::Btrfs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
        }
    }

    /// The smallest disk that its `mkfs` takes, or a little more.
    pub(crate) fn disk_bytes(self) -> usize {
        match self {
            Kind::Ext4 => 48 << 20,
            Kind::Xfs => 320 << 20,
            Kind::Btrfs => 192 << 20,
        }
    }

    /// Why it can't be tested here, if it can't.
    pub(crate) fn missing(self) -> Option<String> {
        let name = self.name();
        let (program, package) = match self {
            Kind::Ext4 => ("mkfs.ext4", "e2fsprogs"),
            Kind::Xfs => ("mkfs.xfs", "xfsprogs"),
            Kind::Btrfs => ("mkfs.btrfs", "btrfs-progs"),
        };
        if !tools::is_here(program) {
            return Some(format!("{program} isn't here (package {package})"));
        }
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let is_known = known.lines().any(|line| line.split_whitespace().last() == Some(name));
        if !is_known && tools::run("modprobe", [name]).is_err() {
            return Some(format!("the kernel has no {name}"));
        }
        None
    }

    fn options(self) -> &'static CStr {
        match self {
            Kind::Ext4 | Kind::Xfs => c"",
            Kind::Btrfs => c"nodiscard",
        }
    }
}

/// Makes the file system. What depends on the time and on chance in it is the only thing that differs from
/// run to run.
pub(crate) fn format(kind: Kind, attached: &Attached) -> Result<()> {
    let device = attached.device().as_os_str();
    let args: &[&str] = match kind {
        Kind::Ext4 => &["-q", "-F", "-m", "0", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"],
        // A sector as large as the pages that are kept whole: `crash.rs`.
        Kind::Xfs => &["-q", "-f", "-K", "-s", "size=4096"],
        Kind::Btrfs => &["-q", "-f", "-K", "-m", "single", "-d", "single"],
    };
    let program = format!("mkfs.{}", kind.name());
    tools::run(&program, args.iter().map(AsRef::as_ref).chain([device])).map(drop)
}

/// A mounted file system; unmounted when it is dropped.
pub(crate) struct Mounted {
    directory: PathBuf,
}

impl Mounted {
    pub(crate) fn new(kind: Kind, attached: &Attached, scratch: &Path) -> Result<Mounted> {
        let directory = scratch.join("mnt");
        fs::create_dir_all(&directory).map_err(|error| Failure::io(directory.display(), error))?;
        let flags = MountFlags::NOATIME;
        rustix::mount::mount(attached.device(), &directory, kind.name(), flags, kind.options())
            .map_err(|error| Failure::io(format_args!("{} doesn't mount", kind.name()), error.into()))?;
        Ok(Mounted { directory })
    }

    /// Where the engine's directory is.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn unmount(self) -> Result<()> {
        // A ring that was closed lets go of its files a little later.
        let mut unmounted = Ok(());
        for _ in 0..100 {
            unmounted = rustix::mount::unmount(&self.directory, UnmountFlags::empty());
            if unmounted.is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        unmounted.map_err(|error| Failure::io("it doesn't unmount; the engine still has something open", error.into()))
    }

    /// Whether `fdatasync` of a file reaches the disk as a flush. Nothing is proved where it doesn't.
    pub(crate) fn check_flushes(&self, attached: &Attached) -> Result<()> {
        let path = self.directory.join("probe");
        let trouble = |error| Failure::io(path.display(), error);
        for round in 0..3u8 {
            fs::write(&path, [round; 5000]).map_err(trouble)?;
            let file = fs::File::open(&path).map_err(trouble)?;
            let before = attached.disk.flushes();
            file.sync_data().map_err(trouble)?;
            if attached.disk.flushes() == before {
                return broken(
                    "the model: an fdatasync didn't reach the disk as a flush, so this machine proves nothing",
                );
            }
        }
        fs::remove_file(&path).map_err(trouble)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if rustix::mount::unmount(&self.directory, UnmountFlags::empty()).is_err() {
            let _ = rustix::mount::unmount(&self.directory, UnmountFlags::DETACH);
        }
    }
}
