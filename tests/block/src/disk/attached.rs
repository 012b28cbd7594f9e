//! The disk as a block device: the FUSE file, and a loop device on it, for as long as this lives.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption};

use super::Disk;
use super::file::OneFile;
use crate::failure::{Failure, Result};
use crate::{supervise, tools};

pub(crate) struct Attached {
    pub(crate) disk: Disk,
    device: PathBuf,
    directory: PathBuf,
    session: Option<BackgroundSession>,
}

impl Attached {
    /// Below `scratch`, whose own name stands in the file's: by it, what was left behind is found.
    pub(crate) fn new(scratch: &Path, bytes: usize) -> Result<Attached> {
        let disk = Disk::new(bytes);
        let directory = scratch.join("disk");
        fs::create_dir_all(&directory).map_err(|error| Failure::io(directory.display(), error))?;
        let mut name = scratch.file_name().map_or_else(|| OsString::from("disk"), OsString::from);
        name.push(".img");
        let mut options = Config::default();
        options.mount_options = vec![MountOption::FSName("thalweg-block".to_owned())];
        let files = OneFile { disk: disk.clone(), name: name.clone() };
        let session = fuser::spawn_mount(files, &directory, &options)
            .map_err(|error| Failure::Skipped(format!("a FUSE file system can't be mounted here: {error}")))?;
        supervise::note_connection(scratch, &directory)?;
        let file = directory.join(name);
        let mut attached = Attached { disk, device: PathBuf::new(), directory, session: Some(session) };
        let device = tools::run("losetup", ["--find".as_ref(), "--show".as_ref(), file.as_os_str()])
            .map_err(|failure| Failure::Skipped(format!("no loop device can be had here: {failure:?}")))?;
        attached.device = PathBuf::from(device.trim());
        Ok(attached)
    }

    /// The block device.
    pub(crate) fn device(&self) -> &Path {
        &self.device
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.disk.mend();
        if self.device != Path::new("") {
            let _ = tools::run("losetup", ["-d".as_ref(), self.device.as_os_str()]);
        }
        // The loop driver lets go of the file a little later.
        for _ in 0..50 {
            if rustix::mount::unmount(&self.directory, rustix::mount::UnmountFlags::empty()).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}
