//! Carrying out a plan, step by step, so that a crash between any two leaves something to repair.
//!
//! What is new is whole and durable under another name before it takes its place; what it replaces has
//! a second, durable name under `set-aside/` before that. So no name is ever missing in between.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use super::plan::{Aside, NewKeyedFile, NewSegment, PartitionWork, TakenFrom, Work, at, list};
use super::source;
use crate::aside::aside_name;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader};
use crate::keyed::put_new_file;
use crate::partition::REPAIR_INFIX;

/// Does it.
///
/// # Errors
/// Of the disk. What was done stays; what was not can be done by another repair.
pub(super) fn execute(disk: &dyn Disk, dir: &Path, works: Vec<Work>) -> Result<()> {
    for work in works {
        match work {
            Work::Keyed(work) => keyed(disk, dir, &work)?,
            Work::Partition(work) => partition(disk, dir, &work)?,
            Work::MoveAway { path, root, name } => {
                let aside = Aside { path, name, is_file: false };
                put_aside(disk, &root, &[&aside])?;
                let parent = aside.path.parent().unwrap_or(dir);
                disk.sync_dir(parent).map_err(at(parent))?;
            }
        }
    }
    Ok(())
}

fn keyed(disk: &dyn Disk, dir: &Path, work: &NewKeyedFile) -> Result<()> {
    let (files, others): (Vec<&Aside>, Vec<&Aside>) = work.aside.iter().partition(|aside| aside.is_file);
    link_aside(disk, dir, &files)?;
    put_new_file(disk, dir, &work.path, &work.header, &work.bodies, work.now_ms)?;
    for aside in files {
        disk.unlink(&aside.path).map_err(at(&aside.path))?;
    }
    put_aside(disk, dir, &others)?;
    disk.sync_dir(dir).map_err(at(dir))
}

fn partition(disk: &dyn Disk, root: &Path, work: &PartitionWork) -> Result<()> {
    let dir = &work.dir;
    disk.create_dir_all(dir).map_err(at(dir))?;
    for parent in dir.ancestors().take_while(|parent| parent.starts_with(root)) {
        disk.sync_dir(parent).map_err(at(parent))?;
    }
    let mut written: Vec<PathBuf> = Vec::new();
    replace(disk, work, &mut written).inspect_err(|_| {
        // Those that have their own name by now aren't found. Of the others the sources are still there.
        for path in &written {
            let _ = disk.unlink(path);
        }
    })?;
    let aside: Vec<&Aside> = work.aside.iter().collect();
    put_aside(disk, dir, &aside)?;
    for path in work.indexes.iter().chain(&work.leftovers) {
        match disk.unlink(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(path)(error)),
            _ => {}
        }
    }
    disk.sync_dir(dir).map_err(at(dir))
}

/// Writes the new segments, as `written`, and has them take their places.
fn replace(disk: &dyn Disk, work: &PartitionWork, written: &mut Vec<PathBuf>) -> Result<()> {
    let dir = &work.dir;
    for new in &work.new {
        let path = temporary(disk, &new.path)?;
        written.push(path.clone());
        write(disk, &path, new).map_err(|error| if error.path().is_some() { error } else { error.at_path(&path) })?;
    }
    disk.sync_dir(dir).map_err(at(dir))?;
    let replaced: Vec<&Aside> = work.new.iter().filter_map(|new| new.replaced.as_ref()).collect();
    let (files, others): (Vec<&Aside>, Vec<&Aside>) = replaced.into_iter().partition(|aside| aside.is_file);
    link_aside(disk, dir, &files)?;
    put_aside(disk, dir, &others)?;
    if !others.is_empty() {
        disk.sync_dir(dir).map_err(at(dir))?;
    }
    for (new, path) in work.new.iter().zip(&*written) {
        disk.rename(path, &new.path).map_err(at(path))?;
    }
    disk.sync_dir(dir).map_err(at(dir))
}

fn temporary(disk: &dyn Disk, path: &Path) -> Result<PathBuf> {
    let random = disk.random().map_err(Error::io)?;
    Ok(path.with_extension(format!("{}{random:016x}", REPAIR_INFIX.trim_start_matches('.'))))
}

/// Writes a segment whole, its header last.
fn write(disk: &dyn Disk, path: &Path, new: &NewSegment) -> Result<()> {
    let file = disk.create(path).map_err(at(path))?;
    file.allocate(0..new.header.rewritten_length).map_err(at(path))?;
    let seed = new.header.seed();
    let mut position = BLOCK_BYTES;
    if let Some(TakenFrom { path: from, batches }) = &new.source {
        let source = source::open(disk, from).map_err(at(from))?;
        for (place, header) in batches {
            let body = body_of(&*source, *place, header).map_err(at(from))?;
            // It was whole a moment ago.
            if header.check_body(&body).is_err() {
                return Err(Error::corrupt("it changes while it is read").at_path(from).at_position(*place));
            }
            let bytes = header.encode(seed, position);
            file.write_at(&[IoSlice::new(&bytes), IoSlice::new(&body)], position).map_err(at(path))?;
            position += u64::from(header.length);
        }
    }
    file.sync().map_err(at(path))?;
    file.write_at(&[IoSlice::new(&new.header.encode())], 0).map_err(at(path))?;
    file.sync().map_err(at(path))
}

/// The body of a batch.
pub(super) fn body_of(file: &dyn crate::disk::File, position: u64, header: &BatchHeader) -> io::Result<Vec<u8>> {
    let mut body = vec![0; header.length as usize - BATCH_HEADER_BYTES];
    let read = file.read_at(&mut body, position + BATCH_HEADER_BYTES as u64)?;
    body.truncate(read);
    Ok(body)
}

/// The directory for what no longer counts, made durably.
fn aside_dir(disk: &dyn Disk, dir: &Path) -> Result<PathBuf> {
    let aside = dir.join(aside_name(disk, dir).map_err(at(dir))?);
    disk.create_dir_all(&aside).map_err(at(&aside))?;
    disk.sync_dir(dir).map_err(at(dir))?;
    Ok(aside)
}

/// Gives files a second name, durably.
fn link_aside(disk: &dyn Disk, dir: &Path, files: &[&Aside]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let directory = aside_dir(disk, dir)?;
    for aside in files {
        let to = free_name(disk, &directory, &aside.name)?;
        match disk.link(&aside.path, &to) {
            // Not every file system can.
            Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
                copy(disk, &aside.path, &to)?;
            }
            linked => linked.map_err(at(&to))?,
        }
    }
    disk.sync_dir(&directory).map_err(at(&directory))
}

/// Copies a file, durably; what can't be read of it is zero in the copy.
fn copy(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
    const PIECE_BYTES: u64 = 1 << 20;
    let source = source::open(disk, from).map_err(at(from))?;
    let length = source.length().map_err(at(from))?;
    let file = disk.create(to).map_err(at(to))?;
    file.allocate(0..length).map_err(at(to))?;
    let mut position = 0;
    loop {
        position = source.stored_from(position).map_err(at(from))?;
        if position >= length {
            break;
        }
        let mut bytes = vec![0; (length - position).min(PIECE_BYTES) as usize];
        source.read_at(&mut bytes, position).map_err(at(from))?;
        file.write_at(&[IoSlice::new(&bytes)], position).map_err(at(to))?;
        position += bytes.len() as u64;
    }
    file.sync().map_err(at(to))
}

/// Moves what is there, durably at its new place; the caller syncs the directory it leaves.
fn put_aside(disk: &dyn Disk, dir: &Path, files: &[&Aside]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let directory = aside_dir(disk, dir)?;
    for aside in files {
        let to = free_name(disk, &directory, &aside.name)?;
        disk.rename(&aside.path, &to).map_err(at(&aside.path))?;
    }
    disk.sync_dir(&directory).map_err(at(&directory))
}

fn free_name(disk: &dyn Disk, directory: &Path, name: &str) -> Result<PathBuf> {
    let taken: Vec<String> = list(disk, directory)?.into_iter().map(|entry| entry.name).collect();
    let mut free = name.to_owned();
    let mut number = 1;
    while taken.contains(&free) {
        number += 1;
        free = format!("{name}.{number}");
    }
    Ok(directory.join(free))
}
