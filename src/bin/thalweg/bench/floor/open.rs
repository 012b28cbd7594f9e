//! Opening: every file of a directory is opened and its first block read, and one block is written and
//! synced, as a new life must be noted.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use super::failed;
use crate::bench::figures::Run;
use crate::failure::Failure;

/// Once, on a directory that nobody has open.
pub(crate) fn run(dir: &Path) -> Result<Run, Failure> {
    let note = dir.with_extension("note");
    let begun = Instant::now();
    read_headers(dir)
        .and_then(|()| File::create(&note))
        .and_then(|file| file.write_all_at(&[1; 4096], 0).and_then(|()| file.sync_data()))
        .map_err(|error| failed(dir, &error))?;
    let took = begun.elapsed();
    fs::remove_file(&note).map_err(|error| failed(&note, &error))?;
    let mut run = Run::new(1, 0, took);
    run.latencies.record(took);
    Ok(run)
}

fn read_headers(dir: &Path) -> io::Result<()> {
    let mut block = [0; 4096];
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            read_headers(&entry.path())?;
        } else {
            let _ = File::open(entry.path())?.read_at(&mut block, 0)?;
        }
    }
    Ok(())
}
