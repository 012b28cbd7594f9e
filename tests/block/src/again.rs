//! What a file system makes of bytes that are written again after their first write failed: in which ways
//! of writing them again a successful `fdatasync` means that they are on the disk. The engine isn't asked;
//! this is about what it may rely on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};

use crate::Run;
use crate::disk::{Attached, Faults, Image, What};
use crate::failure::{Failure, Result};
use crate::payload;
use crate::volume::{self, Kind, Mounted};
use crate::watch;

const BYTES: usize = 16 << 10;

/// What was there before the write that fails.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    /// Blocks that are reserved and were never written: as `fallocate` leaves them.
    Reserved,
    Zeros,
}

/// How it is written again.
#[derive(Clone, Copy, Debug)]
enum Way {
    Over,
    /// After the file's pages were dropped from the page cache.
    Dropped,
    NewFile,
}

pub(crate) fn run(run: &Run, kind: Kind) -> Result<String> {
    let attached = Attached::new(&run.scratch, kind.disk_bytes())?;
    volume::format(kind, &attached)?;
    let formatted = attached.disk.image();
    let mut lines = Vec::new();
    for before in [Before::Nothing, Before::Reserved, Before::Zeros] {
        for way in [Way::Over, Way::Dropped, Way::NewFile] {
            watch::beat();
            run.check_stopped()?;
            let found = attempt(run, kind, &attached, &formatted, before, way)?;
            lines.push(format!("\n  {:9} written again as {:8} {found}", format!("{before:?},"), format!("{way:?}:")));
        }
    }
    Ok(lines.concat())
}

fn attempt(
    run: &Run,
    kind: Kind,
    attached: &Attached,
    formatted: &Image,
    before: Before,
    way: Way,
) -> Result<&'static str> {
    attached.disk.put(formatted.clone());
    let bytes: Vec<u8> = (0..).flat_map(|offset| payload::make(1, offset)).take(BYTES).collect();
    let mounted = Mounted::new(kind, attached, &run.scratch)?;
    let path = mounted.directory().join("file");
    let written = write_twice(&path, &bytes, attached, before, way);
    mounted.unmount()?;
    match written.map_err(|error| Failure::io("the file", error))? {
        Told::NoError => return Ok("the first sync told of no error"),
        Told::Twice => return Ok("the second sync failed too"),
        Told::Once => {}
    }
    let mounted = Mounted::new(kind, attached, &run.scratch)?;
    let mut found = Vec::new();
    let read = File::open(&path).and_then(|mut file| file.read_to_end(&mut found));
    mounted.unmount()?;
    Ok(match read {
        Err(_) => "the second sync succeeded, and it can't be read: LOST",
        Ok(_) if found.get(..BYTES) == Some(&bytes[..]) => "the second sync succeeded, and the bytes are there",
        Ok(_) => "the second sync succeeded, and other bytes are there: LOST",
    })
}

enum Told {
    NoError,
    Once,
    Twice,
}

fn write_twice(path: &Path, bytes: &[u8], attached: &Attached, before: Before, way: Way) -> io::Result<Told> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    match before {
        Before::Nothing => {}
        Before::Reserved => fallocate(&file, FallocateFlags::empty(), 0, BYTES as u64)?,
        Before::Zeros => file.write_all_at(&[0; BYTES], 0)?,
    }
    file.sync_all()?;
    file.write_all_at(bytes, 0)?;
    attached.disk.refuse(Faults::new(What::Records, 0, usize::MAX));
    let first = file.sync_data();
    attached.disk.mend();
    drop(file);
    if first.is_ok() {
        return Ok(Told::NoError);
    }
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    if let Way::Dropped = way {
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    let file = match way {
        Way::NewFile => {
            std::fs::remove_file(path)?;
            File::create(path)?
        }
        Way::Over | Way::Dropped => file,
    };
    file.write_all_at(bytes, 0)?;
    match file.sync_all() {
        Ok(()) => Ok(Told::Once),
        Err(_) => Ok(Told::Twice),
    }
}
