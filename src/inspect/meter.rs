//! How far checking a data directory is, in bytes of its files.

use std::path::Path;

use super::report::Progress;
use crate::aside::is_aside_dir;
use crate::disk::{Access, Disk, EntryKind};
use crate::topic::DELETED_PREFIX;

/// Counts bytes and tells how many.
pub(super) struct Meter<'a> {
    bytes_done: u64,
    bytes_total: u64,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl<'a> Meter<'a> {
    pub(super) fn new(disk: &dyn Disk, dir: &Path, progress: &'a mut dyn FnMut(Progress<'_>)) -> Meter<'a> {
        Meter { bytes_done: 0, bytes_total: bytes_below(disk, dir), progress }
    }

    pub(super) fn add(&mut self, path: &Path, bytes: u64) {
        self.bytes_done += bytes;
        let bytes_total = self.bytes_total.max(self.bytes_done);
        (self.progress)(Progress { path, bytes_done: self.bytes_done, bytes_total });
    }
}

/// Bytes of all files there are, for showing progress.
fn bytes_below(disk: &dyn Disk, dir: &Path) -> u64 {
    let mut bytes = 0;
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in disk.list(&dir).unwrap_or_default() {
            let path = dir.join(&entry.name);
            match entry.kind {
                EntryKind::Directory if entry.name.starts_with(DELETED_PREFIX) || is_aside_dir(&entry) => {}
                EntryKind::Directory => dirs.push(path),
                EntryKind::File => {
                    let length = disk.open(&path, Access::Read).and_then(|file| file.length());
                    bytes += length.unwrap_or(0);
                }
                EntryKind::Link | EntryKind::Other => {}
            }
        }
    }
    bytes
}
