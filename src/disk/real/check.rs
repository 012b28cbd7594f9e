//! Whether a directory's file system keeps what the engine relies on: that a write shows in a
//! mapping made before it, and that a lock is held against another descriptor. Network file systems
//! may fail here.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

use super::{RealDisk, unless_full};
use crate::disk::{Access, Disk, File};

/// Bytes written; the second write lands on a page that is mapped already.
const FIRST: &[u8] = b"thalweg checks this file system";
const SECOND: &[u8] = b" and removes this file";

pub(super) fn check(disk: &RealDisk, dir: &Path) -> io::Result<Result<(), String>> {
    // A full disk must be opened too, and passed when the directory was made ours.
    unless_full(try_out(disk, dir), Ok(()))
}

fn try_out(disk: &RealDisk, dir: &Path) -> io::Result<Result<(), String>> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!(".thalweg-check-{}-{count}.tmp", std::process::id()));
    // Left by a process that died here and had the same number. If it can't be removed, no other can be made.
    let _ = disk.unlink(&path);
    let file = disk.create(&path)?;
    let outcome = mapping_follows_writes(&*file).and_then(|mapping| match mapping {
        Ok(()) => lock_is_exclusive(disk, &path),
        refused => Ok(refused),
    });
    let outcome = outcome.and_then(|found| match found {
        Ok(()) if disk.length_at(&path, &*file)?.is_none() => {
            Ok(Err("its file system doesn't tell files apart by their numbers".to_owned()))
        }
        found => Ok(found),
    });
    drop(file);
    let removed = disk.unlink(&path);
    if let Ok(unnamed) = disk.create_unnamed(dir) {
        match disk.name(&*unnamed, &path) {
            Ok(()) => drop(disk.unlink(&path)),
            // No /proc, say.
            Err(_) => disk.no_unnamed.store(true, Ordering::Relaxed),
        }
    }
    let outcome = outcome?;
    removed.map(|()| outcome)
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

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::ops::Range;
    use std::sync::Arc;

    use super::*;
    use crate::config::SyncMode;
    use crate::disk::{Locked, View};

    /// A file whose mapping shows these bytes, whatever is written; `None` if it can't be mapped.
    #[derive(Debug)]
    struct Shows(Option<Vec<u8>>);

    #[derive(Debug)]
    struct Shown(Vec<u8>);

    impl File for Shows {
        fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
            Ok(())
        }

        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }

        fn allocate(&self, _: Range<u64>) -> io::Result<()> {
            Ok(())
        }

        fn room(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn give_back(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn identity(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn length(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn stored_end(&self, _: u64) -> io::Result<u64> {
            Ok(0)
        }

        fn stored_from(&self, from: u64) -> io::Result<u64> {
            Ok(from)
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn forget(&self) -> io::Result<()> {
            Ok(())
        }

        fn view(&self, _: u64) -> io::Result<Arc<dyn View>> {
            match &self.0 {
                Some(bytes) => Ok(Arc::new(Shown(bytes.clone()))),
                None => Err(io::ErrorKind::Unsupported.into()),
            }
        }

        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    impl View for Shown {
        fn bytes(&self, range: Range<u64>) -> io::Result<&[u8]> {
            Ok(&self.0[range.start as usize..range.end as usize])
        }

        fn populate(&self, _: Range<u64>) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_mapping_must_show_what_was_written_before_and_after_it_was_made() {
        let refusal = |bytes| mapping_follows_writes(&Shows(bytes)).unwrap().err().unwrap_or_default();
        let zeros = |bytes: &[u8]| vec![0; bytes.len()];
        assert_eq!(refusal(Some([FIRST, SECOND].concat())), "");
        for stale in [[zeros(FIRST), SECOND.to_vec()].concat(), [FIRST.to_vec(), zeros(SECOND)].concat()] {
            let reason = refusal(Some(stale));
            assert!(reason.contains("doesn't show what was written"), "{reason}");
        }
        let reason = refusal(None);
        assert!(reason.contains("can't map files"), "{reason}");
    }

    #[test]
    fn a_lock_that_is_not_given_is_told() {
        let disk = RealDisk::new(SyncMode::Threads, 1).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        disk.create(&path).unwrap();
        assert_eq!(lock_is_exclusive(&disk, &path).unwrap(), Ok(()));
        let Locked::Ours(_held) = disk.lock(&path, "me").unwrap() else { panic!("it is free") };
        let reason = lock_is_exclusive(&disk, &path).unwrap().unwrap_err();
        assert!(reason.contains("refuses locks"), "{reason}");
    }
}
