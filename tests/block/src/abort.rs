//! What syncs say on ext4 after its journal was given up, because a flush was refused while another file was
//! synced: of a file whose name and blocks were in the lost transaction. And what the engine makes of it, which
//! must not believe them (D1).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags, Timespec, Timestamps, UTIME_NOW, fallocate, futimens};

use thalweg::{Acks, Engine, Record, TopicConfig};

use crate::Run;
use crate::disk::{Attached, Faults, What};
use crate::failure::{Failure, Result};
use crate::payload;
use crate::volume::{self, Kind, Mounted};

pub(crate) fn run(run: &Run) -> Result<String> {
    let attached = Attached::new(&run.scratch, Kind::Ext4.disk_bytes())?;
    let (told, name) = on_anew(run, &attached, &|mounted| {
        let told = told(mounted.directory(), &attached).map_err(|error| Failure::io("the files", error))?;
        Ok((told, mounted.directory().join("sub/file")))
    })?;
    let (synced, segment) = on_anew(run, &attached, &|mounted| {
        let synced = engine(&mounted.data(), mounted.directory(), &attached)?;
        Ok((synced, mounted.data().join(SEGMENT)))
    })?;
    match synced {
        Ok(()) if segment == "GONE" => return Err(Failure::Broken("D1: a synced record's segment is gone".to_owned())),
        Ok(()) => return Err(Failure::Trouble("the journal wasn't given up".to_owned())),
        Err(error) => Ok(format!(
            "{}\n  after the next mount its name is {name}\n  the engine's sync: {error}: the name is {segment}",
            told.concat()
        )),
    }
}

const SEGMENT: &str = "topics/t/0/00000000000000000000.log";

/// Does something on an empty file system, and looks what a name is after the next mount.
fn on_anew<T>(
    run: &Run,
    attached: &Attached,
    act: &dyn Fn(&Mounted) -> Result<(T, PathBuf)>,
) -> Result<(T, &'static str)> {
    volume::format(Kind::Ext4, attached)?;
    let mounted = Mounted::new(Kind::Ext4, attached, &run.scratch)?;
    let done = act(&mounted);
    attached.disk.mend();
    mounted.unmount()?;
    let (done, path) = done?;
    let mounted = Mounted::new(Kind::Ext4, attached, &run.scratch)?;
    let is_there = path.exists();
    mounted.unmount()?;
    Ok((done, if is_there { "there" } else { "GONE" }))
}

/// What the engine says to a sync of a record, when the journal was given up after it was written.
fn engine(data: &Path, directory: &Path, attached: &Attached) -> Result<thalweg::Result<()>> {
    let trouble = |error| Failure::io("the engine", io::Error::other(error));
    // No sync but the one that is asked for.
    let engine = Engine::builder(data).sync_ms(600_000).open().map_err(trouble)?;
    engine.create_topic("t", TopicConfig::default().acks(Acks::Written)).map_err(trouble)?;
    let value = payload::make(1, 0);
    let partition = engine.partition("t", 0).map_err(trouble)?;
    partition.append(&Record::new(&value)).and_then(|receipt| receipt.wait()).map_err(trouble)?;
    let given_up = read_past_memory(&data.join(SEGMENT)).and_then(|()| give_up(directory, attached));
    given_up
        .map_err(|error| Failure::io("the files", error))?
        .ok_or_else(|| Failure::Trouble("a flush was refused, and a sync succeeded".to_owned()))?;
    let synced = engine.sync();
    let _ = engine.close();
    Ok(synced)
}

/// Has the drive take what memory has of a file, and nothing more.
fn read_past_memory(path: &Path) -> io::Result<()> {
    let direct = OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits() as i32).open(path)?;
    let length = direct.metadata()?.len().next_multiple_of(4096) as usize;
    let mut memory = vec![0; length + 4096];
    let skipped = memory.as_ptr().align_offset(4096);
    direct.read_at(&mut memory[skipped..skipped + length], 0)?;
    Ok(())
}

/// Syncs another file while flushes are refused: the error that it gets.
fn give_up(directory: &Path, attached: &Attached) -> io::Result<Option<io::Error>> {
    let other = File::create(directory.join("other"))?;
    attached.disk.refuse(Faults::new(What::Flushes, 0, usize::MAX));
    let refused = other.sync_all().err();
    attached.disk.mend();
    Ok(refused)
}

fn told(directory: &Path, attached: &Attached) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut tell = |what: &str, result: io::Result<()>| {
        lines.push(format!("\n  {what:34} {}", result.map_or_else(|error| error.to_string(), |()| "done".to_owned())));
    };
    let sub = directory.join("sub");
    std::fs::create_dir(&sub)?;
    File::open(&sub)?.sync_all()?;
    File::open(directory)?.sync_all()?;
    let path = sub.join("file");
    let bytes = &payload::make(1, 0)[..512];
    let file = OpenOptions::new().create_new(true).read(true).write(true).open(&path)?;
    fallocate(&file, FallocateFlags::empty(), 0, 1 << 16)?;
    file.write_all_at(bytes, 0)?;
    read_past_memory(&path)?;
    let refused = give_up(directory, attached)?;
    tell("sync of another file, refused:", refused.map_or(Ok(()), Err));
    tell("sync of the file:", file.sync_data());
    tell("sync of its directory:", File::open(&sub).and_then(|directory| directory.sync_all()));
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let now = Timestamps { last_access: now, last_modification: now };
    tell("first change of its times:", futimens(&file, &now).map_err(io::Error::from));
    tell("second change of its times:", futimens(&file, &now).map_err(io::Error::from));
    tell("sync of the file:", file.sync_data());
    Ok(lines)
}
