//! What a file system makes of bytes that are written again after their first write failed: in which ways
//! of writing them again a successful `fdatasync` means that they are on the disk. That is what the engine
//! may rely on; and what comes of it where the engine does so.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};

use thalweg::{Engine, Record, TopicConfig, inspect};

use crate::Run;
use crate::disk::{Attached, Faults, Image, What};
use crate::driver::said;
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
    lines.push(format!("\n  the engine, opened anew on the same mount: {}", engine(run, kind, &attached, &formatted)?));
    Ok(lines.concat())
}

/// A first append fails on the disk; the disk works again; the engine is opened anew, takes the append and
/// acknowledges it; the file system is mounted anew. What does the directory hold?
fn engine(run: &Run, kind: Kind, attached: &Attached, formatted: &Image) -> Result<String> {
    attached.disk.put(formatted.clone());
    let mounted = Mounted::new(kind, attached, &run.scratch)?;
    let tried = fail_and_append(&mounted.data(), attached);
    mounted.unmount()?;
    let end = tried.map_err(|error| said("go on", &error))?;
    let mounted = Mounted::new(kind, attached, &run.scratch)?;
    let verified = inspect::verify(mounted.data(), &mut |_| {});
    mounted.unmount()?;
    let verified = verified.map_err(|error| said("verify", &error))?;
    let damage = verified.damage.first().map_or_else(|| "no damage".to_owned(), |damage| format!("LOST: {damage}"));
    Ok(format!("acknowledged as synced {end}, found {}, {damage}", verified.records))
}

/// How many records the second life acknowledged as synced.
fn fail_and_append(directory: &Path, attached: &Attached) -> thalweg::Result<u64> {
    let value = payload::make(1, 0);
    let engine = Engine::open(directory)?;
    engine.create_topic("t", TopicConfig::default())?;
    attached.disk.refuse(Faults::new(What::Records, 0, usize::MAX));
    // Fails, as it should: the partition stops.
    let _ = engine.partition("t", 0)?.append(&Record::new(&value))?.wait();
    attached.disk.mend();
    let _ = engine.close();
    drop(engine);
    let engine = Engine::open(directory)?;
    let partition = engine.partition("t", 0)?;
    partition.append(&Record::new(&value))?.wait()?;
    let end = partition.durable_offset();
    engine.close()?;
    Ok(end)
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
