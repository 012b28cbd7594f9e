//! Whether a directory may be opened: whose it is, its lock, its file system, whether its catalogue is whole.

use std::io;
use std::path::{Path, PathBuf};

use super::lock_file::{LOCK_NAME, holder_in, note_again, own_holder, parse_closed};
use super::lost_entries;
use super::options::Options;
use crate::aside::is_aside_dir;
use crate::disk::{Disk, EntryKind, Locked};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::offsets::Offsets;
use crate::partition::EVIDENCE_NAME;
use crate::topic::{Catalog, DELETED_PREFIX};

pub(crate) const TOPICS_NAME: &str = "topics";

/// Refuses a catalogue that ends before the place where it ended, synced, when the directory was closed: a
/// catalogue that was cut behind a batch looks whole. The note stays for who looks next.
pub(super) fn check_ends_as_noted(options: &Options, catalog: &Catalog, note: &str) -> Result<()> {
    let Some(reason) = parse_closed(note).and_then(|closed| lost_entries::since_closed(&closed, catalog)) else {
        return Ok(());
    };
    if !options.read_only {
        let path = options.dir.join(LOCK_NAME);
        let noted = note_again(&*options.disk, &options.dir, note);
        noted.map_err(|error| Error::io(error).at_path(&path))?;
    }
    Err(Error::corrupt(reason).at_path(catalog.path()).at_position(catalog.end_position()))
}

/// Refuses a catalogue that lacks topics of which there are records: going on without them would
/// give their ids and epochs again.
pub(super) fn check_catalog_is_whole(options: &Options, catalog: &mut Catalog) -> Result<()> {
    let find = |catalog: &Catalog| lost_entries::find(&*options.disk, &options.dir, catalog.state());
    let mut lost = find(catalog)?;
    if lost.is_some() && options.read_only {
        // Beside a live writer the topic may have been made since the catalogue was read.
        catalog.refresh()?;
        lost = find(catalog)?;
    }
    match lost {
        Some((path, reason)) => Err(Error::corrupt(reason).at_path(&path)),
        None => Ok(()),
    }
}

/// Refuses a catalogue that is older than the offset log: going on would give epochs again, by which a commit
/// is told from one whose record was lost.
pub(super) fn check_offsets_epoch(offsets: &Offsets, known_epoch: u32) -> Result<()> {
    let Some((path, found)) = offsets.newest_epoch().filter(|(_, found)| *found > known_epoch) else { return Ok(()) };
    Err(Error::corrupt(lost_entries::of_epoch(found, known_epoch)).at_path(&path))
}

/// Enters the directory, which is made if it may be: from here on the disk means this one, whatever its name is.
pub(super) fn enter(options: &mut Options) -> Result<()> {
    let dir = &options.dir;
    let at = |error| Error::io(error).at_path(dir);
    let entered = match options.disk.enter(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if options.read_only || !options.create {
                return Err(not_thalweg(dir, "the directory does not exist"));
            }
            options.disk.create_dir_all(dir).map_err(at)?;
            options.disk.enter(dir)
        }
        entered => entered,
    };
    options.disk = match entered {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(not_thalweg(dir, "it is a file, not a directory"));
        }
        entered => entered.map_err(at)?,
    };
    Ok(())
}

/// What stands in the directory: ours, or new and empty (`true`), else refused. Changes nothing.
pub(super) fn check_directory(options: &Options) -> Result<bool> {
    let dir = &options.dir;
    let entries = options.disk.list(dir).map_err(|error| Error::io(error).at_path(dir))?;
    if entries.iter().any(|entry| entry.name.starts_with("catalog-") && !entry.name.ends_with(".tmp")) {
        for entry in &entries {
            let ours = [LOCK_NAME, TOPICS_NAME, EVIDENCE_NAME].contains(&entry.name.as_str())
                || is_aside_dir(entry)
                || entry.name.starts_with("catalog-")
                || entry.name.starts_with("offsets-")
                || entry.name.ends_with(".tmp");
            if !ours && !is_of_the_system(&entry.name) {
                options.events.emit(Event::Ignored { path: dir.join(&entry.name) });
            }
        }
        return Ok(false);
    }
    if entries.iter().any(|entry| entry.name == TOPICS_NAME && entry.kind == EntryKind::Directory) {
        let mut topics = options.disk.list(&dir.join(TOPICS_NAME)).map_err(|error| Error::io(error).at_path(dir))?;
        topics.retain(|entry| !entry.name.starts_with(DELETED_PREFIX));
        if !topics.is_empty() {
            return Err(Error::corrupt("the catalogue is missing, though there are topics").at_path(dir));
        }
    }
    let foreign = entries.iter().find(|entry| {
        let ours = [LOCK_NAME, TOPICS_NAME].contains(&entry.name.as_str())
            || is_aside_dir(entry)
            || entry.name.ends_with(".tmp");
        !ours && !is_of_the_system(&entry.name)
    });
    match foreign {
        Some(entry) => Err(not_thalweg(dir, &format!("it holds {:?} and no catalogue", entry.name))),
        None => Ok(true),
    }
}

/// Names that file systems, desktops and version control leave in a directory that is empty otherwise: no sign that
/// it is used for something else.
fn is_of_the_system(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "lost+found",
        "System Volume Information",
        "$RECYCLE.BIN",
        "Thumbs.db",
        "desktop.ini",
        "@eaDir",
        "#recycle",
        "aquota.user",
        "aquota.group",
    ];
    name.starts_with('.') || NAMES.contains(&name)
}

/// Makes the directory's own name durable, and those of directories above it that may be new too.
pub(super) fn sync_ancestors(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_owned),
    };
    let mut above = parent(dir);
    if let Some(nearest) = &above {
        disk.sync_dir(nearest).map_err(|error| Error::io(error).at_path(nearest))?;
    }
    while let Some(path) = above.as_deref().and_then(parent).filter(|path| Some(path) != above.as_ref()) {
        // One that we may not open is one that we haven't made.
        let _ = disk.sync_dir(&path);
        above = Some(path);
    }
    Ok(())
}

pub(super) fn not_thalweg(dir: &Path, reason: &str) -> Error {
    Error::new(ErrorKind::NotThalweg { reason: reason.to_owned() }).at_path(dir)
}

/// Takes the directory's lock, and writes down who has it, behind `before`.
pub(crate) fn take_lock(disk: &dyn Disk, dir: &Path, before: &str) -> Result<Box<dyn Send + Sync>> {
    let path = dir.join(LOCK_NAME);
    let holder = format!("{before}{}", own_holder());
    match disk.lock(&path, &holder).map_err(|error| Error::io(error).at_path(&path))? {
        Locked::Ours(guard) => Ok(guard),
        Locked::Held(text) => Err(Error::new(ErrorKind::Locked { holder: holder_in(&text) }).at_path(dir)),
    }
}

pub(super) fn check_file_system(disk: &dyn Disk, dir: &Path) -> Result<()> {
    match disk.check(dir) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(reason)) => Err(Error::new(ErrorKind::NotSupported { reason }).at_path(dir)),
        Err(error) => {
            let error = Error::io(error).at_path(dir);
            // On a full disk the check can't be made, but the log can be opened.
            if error.kind() == &ErrorKind::NoRoom { Ok(()) } else { Err(error) }
        }
    }
}
