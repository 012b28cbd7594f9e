//! Disks to begin with: an empty file system, or one with a data directory that has been in use.

use std::fs;
use std::path::Path;

use thalweg::Acks;

use crate::Run;
use crate::chance::Chance;
use crate::disk::{Attached, Image};
use crate::driver::{self, Driver, said};
use crate::failure::{Failure, Result};
use crate::history::History;
use crate::volume::{Kind, Mounted};
use crate::watch;

/// A little less than the size from which the log of commits is compacted.
const COMMITS_BYTES: usize = (4 << 20) - (50 << 10);

/// A disk, and what the data directory on it holds.
pub(crate) struct Start {
    pub(crate) image: Image,
    pub(crate) history: History,
}

/// A directory with a few topics, and with so many commits that their log will soon be compacted; closed. The
/// disk holds an empty file system.
pub(crate) fn used(run: &Run, attached: &Attached, kind: Kind) -> Result<Start> {
    let mounted = Mounted::new(kind, attached, &run.scratch)?;
    let directory = mounted.data();
    let mut chance = Chance::new(run.seed);
    let mut history = History::default();
    let engine = driver::open(&directory, &mut chance).map_err(|error| said("open", &error))?;
    let mut driver = Driver::new(engine, &directory, &attached.disk, &mut history, chance);
    driver.careful = true;
    for _ in 0..2 {
        driver.create_topic()?;
    }
    for _ in 0..40 {
        driver.step()?;
    }
    while commits_bytes(&directory)? < COMMITS_BYTES {
        watch::beat();
        driver.burst_of_commits(Acks::Written)?;
    }
    driver.close()?;
    drop(driver);
    // What was committed before the last time isn't asked for.
    for commits in history.topics.iter_mut().flat_map(|topic| topic.commits.values_mut()) {
        commits.drain(..commits.len().saturating_sub(1));
    }
    mounted.unmount()?;
    Ok(Start { image: attached.disk.image(), history })
}

/// The size of the log of commits, without the zeros ahead of its end.
fn commits_bytes(directory: &Path) -> Result<usize> {
    let trouble = |error| Failure::io(directory.display(), error);
    let mut bytes = 0;
    for entry in fs::read_dir(directory).map_err(trouble)? {
        let entry = entry.map_err(trouble)?;
        if entry.file_name().to_string_lossy().starts_with("offsets-") {
            let content = fs::read(entry.path()).map_err(trouble)?;
            bytes = bytes.max(content.iter().rposition(|byte| *byte != 0).unwrap_or(0));
        }
    }
    Ok(bytes)
}
