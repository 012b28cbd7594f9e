//! Where the bench works: a fresh directory, removed whatever happens, with room for what comes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::directory::{self, Directory};
use crate::failure::Failure;
use crate::output;

/// The directory of this run alone. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
    /// What was made to hold it, to be removed too.
    parent: Option<PathBuf>,
    next: AtomicU64,
}

impl Scratch {
    /// Below the directory that was named, else below the current one.
    pub(crate) fn make(directory: &Directory) -> Result<Scratch, Failure> {
        let parent = if directory.was_named() { directory.path().to_owned() } else { PathBuf::from(".") };
        directory::refuse_data(&parent, "bench")?;
        let failed = |path: &Path, error: io::Error| {
            let message = format!("could not make the directory {}: {error}", path.display());
            Failure::new(message).next("name a directory where you may write, with --dir")
        };
        let made = match fs::create_dir(&parent) {
            Ok(()) => Some(parent.clone()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
            Err(error) => return Err(failed(&parent, error)),
        };
        let mut scratch = Scratch { dir: PathBuf::new(), parent: made, next: AtomicU64::new(0) };
        let mut number = 0;
        loop {
            let dir = parent.join(format!("thalweg-bench-{}-{number}", std::process::id()));
            match fs::create_dir(&dir).and_then(|()| fs::canonicalize(&dir)) {
                Ok(path) => {
                    scratch.dir = path;
                    return Ok(scratch);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1_000 => number += 1,
                Err(error) => return Err(failed(&dir, error)),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// A directory that is still empty.
    pub(crate) fn fresh(&self, name: &str) -> Result<Piece, Failure> {
        let path = self.dir.join(format!("{name}-{}", self.next.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path)
            .map_err(|error| Failure::new(format!("could not make the directory {}: {error}", path.display())))?;
        Ok(Piece { path })
    }

    /// Waits until the file system is done with what was written and removed, which would slow down whoever comes
    /// next.
    pub(crate) fn settle(&self) {
        // Only a convenience: what can't be synced isn't waited for.
        let _ = fs::File::open(&self.dir).map(rustix::fs::syncfs);
    }

    /// Fails if there isn't so much room.
    pub(crate) fn need(&self, what: &str, bytes: u64) -> Result<(), Failure> {
        match self.free_bytes() {
            Some(free) if free < bytes => Err(Failure::new(self.no_room(what, bytes, free)).next(NO_ROOM_NEXT)),
            _ => Ok(()),
        }
    }

    /// A failure; if the disk was full, also how much was needed.
    pub(crate) fn explain(&self, what: &str, needed: u64, failure: Failure) -> Failure {
        match self.free_bytes() {
            Some(free) if failure.is_no_room() => failure.and(self.no_room(what, needed, free)).next(NO_ROOM_NEXT),
            _ => failure,
        }
    }

    fn no_room(&self, what: &str, needed: u64, free: u64) -> String {
        let place = self.dir.parent().unwrap_or(&self.dir);
        format!(
            "there is no room in {}: {what} needs {} ({needed} bytes), {} are free ({free} bytes)",
            place.display(),
            output::bytes(needed),
            output::bytes(free)
        )
    }

    fn free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.dir).ok()?;
        Some(stat.f_bavail * stat.f_frsize)
    }
}

/// What to do when there is no room.
const NO_ROOM_NEXT: &str = "free some space, choose another place with --dir, or do less with --total";

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.dir.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            output::tell(format_args!("could not remove {}: {error}", self.dir.display()));
        }
        if let Some(parent) = &self.parent {
            // Somebody may have put something else there.
            let _ = fs::remove_dir(parent);
        }
    }
}

/// A directory within it. Dropped, it is removed, and its room is free again.
#[derive(Debug)]
pub(crate) struct Piece {
    path: PathBuf,
}

impl Piece {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // What can't be removed is left to the whole, which says so.
        let _ = fs::remove_dir_all(&self.path);
    }
}
