//! Checking a whole data directory, and what repair would do about what was found.

use std::path::Path;
use std::sync::Arc;

use super::check::{holder, verify_disk};
use super::repair::shown_for;
use super::report::{Progress, Verification};
use crate::config::SyncMode;
use crate::disk::{Disk, RealDisk};
use crate::error::{Error, Result};

/// Checks every byte of a data directory that a checksum or a rule covers. Changes nothing, takes no
/// lock, maps no file; `progress` is called now and then.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let data = dir.path();
/// # thalweg::Engine::open(data)?.close()?;
/// let found = thalweg::inspect::verify(data, &mut |_| {})?;
/// for damage in &found.damage {
///     eprintln!("{damage}");
/// }
/// assert!(found.is_sound());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What keeps it from checking at all: `NotThalweg`; `Io` (no permission); `NoRoom` (too many open
/// files). Damage is not an error but found.
pub fn verify(dir: impl AsRef<Path>, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Verification> {
    let dir = dir.as_ref();
    let disk = RealDisk::new(SyncMode::Threads, 1).map_err(|error| Error::io(error).at_path(dir))?;
    verify_on(Arc::new(disk), dir, progress)
}

/// The same for a directory on a simulated disk.
///
/// # Errors
/// As [`verify`].
#[cfg(feature = "sim")]
pub fn verify_sim(
    disk: &crate::sim::SimDisk,
    dir: impl AsRef<Path>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Verification> {
    verify_on(Arc::new(disk.clone()), dir.as_ref(), progress)
}

/// Who has a data directory open for writing, as they wrote it down (pid, host, since when); `None`
/// if nobody does, or it can't be found out.
pub fn live_writer(dir: impl AsRef<Path>) -> Option<String> {
    let disk = RealDisk::new(SyncMode::Threads, 1).ok()?;
    holder(&disk, dir.as_ref())
}

fn verify_on(disk: Arc<dyn Disk>, dir: &Path, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Verification> {
    // One that can't be entered can't be listed either, which says why.
    let disk = disk.enter(dir).unwrap_or(disk);
    let mut found = verify_disk(disk.clone(), dir, false, progress)?;
    if !found.is_sound() && found.live_writer.is_none() {
        found.repair = Some(shown_for(&disk, dir, &found, progress)?);
    }
    Ok(found)
}
