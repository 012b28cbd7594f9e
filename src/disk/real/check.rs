//! Whether a directory's file system keeps what the engine relies on: that a write shows in a
//! mapping made before it, and that a lock is held against another descriptor. Network file systems
//! may fail here.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

use super::{RealDisk, is_full};
use crate::disk::{Access, Disk, File};

/// Bytes written; the second write lands on a page that is mapped already.
const FIRST: &[u8] = b"thalweg checks this file system";
const SECOND: &[u8] = b" and removes this file";

pub(super) fn check(disk: &RealDisk, dir: &Path) -> io::Result<Result<(), String>> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!(".thalweg-check-{}-{count}.tmp", std::process::id()));
    match std::fs::remove_file(&path) {
        // Left by a process that died here and had the same number.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // A full disk must be opened too, and passed when the directory was made ours.
    let file = match disk.create(&path) {
        Err(error) if is_full(&error) => return Ok(Ok(())),
        created => created?,
    };
    let outcome = mapping_follows_writes(&*file).and_then(|mapping| match mapping {
        Ok(()) => lock_is_exclusive(disk, &path),
        refused => Ok(refused),
    });
    drop(file);
    let removed = disk.unlink(&path);
    match outcome {
        Err(error) if is_full(&error) => Ok(Ok(())),
        Err(error) => Err(error),
        Ok(outcome) => removed.map(|()| outcome),
    }
}

fn mapping_follows_writes(file: &dyn File) -> io::Result<Result<(), String>> {
    let length = (FIRST.len() + SECOND.len()) as u64;
    file.write_at(&[IoSlice::new(FIRST)], 0)?;
    let view = match file.view(length) {
        Ok(view) => view,
        Err(error) => return Ok(Err(format!("its file system can't map files: {error}"))),
    };
    let mut same = view.bytes(0..FIRST.len() as u64)? == FIRST;
    file.write_at(&[IoSlice::new(SECOND)], FIRST.len() as u64)?;
    same &= view.bytes(FIRST.len() as u64..length)? == SECOND;
    let reason = "a mapped file doesn't show what was written; thalweg is for local file systems";
    Ok(if same { Ok(()) } else { Err(reason.to_owned()) })
}

fn lock_is_exclusive(disk: &RealDisk, path: &Path) -> io::Result<Result<(), String>> {
    let (first, second) = (disk.open(path, Access::Write)?, disk.open(path, Access::Write)?);
    let try_lock = |file: &dyn File| match file.as_any().downcast_ref::<super::RealFile>() {
        Some(file) => retry_on_intr(|| flock(file.fd(), FlockOperation::NonBlockingLockExclusive)),
        None => Err(Errno::INVAL),
    };
    if let Err(errno) = try_lock(&*first) {
        return Ok(Err(format!("its file system refuses locks: {}", io::Error::from(errno))));
    }
    Ok(match try_lock(&*second) {
        Err(Errno::WOULDBLOCK) => Ok(()),
        _ => Err("a lock doesn't hold against another descriptor; thalweg is for local file systems".to_owned()),
    })
}
