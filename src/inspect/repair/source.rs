//! The whole batches of a file, read around everything that is damaged.
//!
//! A header block may be damaged and the batches whole: then what seeds their checksums is sought,
//! in the header as it stands, in what index and successor say of the file, at last in the batches.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::super::walk::{Step, Walk, header_block};
use crate::disk::{Access, Disk, File, View};
use crate::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, BatchKind, FILE_HEADER_BYTES, FileHeader, FileKind, FormatError,
    RecordWalk, Seed, find_magic, seed_as_it_stands, seed_behind,
};
use crate::ids::LogId;
use crate::segment::{Place, Window, index_path};

const PAGE_BYTES: usize = 4096;

/// A whole batch in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole {
    pub(super) position: u64,
    pub(super) header: BatchHeader,
    /// Something before it, in this file, is damaged.
    pub(super) behind_damage: bool,
}

impl Whole {
    pub(super) fn end_position(&self) -> u64 {
        self.position + u64::from(self.header.length)
    }
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) batches: Vec<Whole>,
    /// Where the first damage is, and what it is.
    pub(super) damage: Vec<(u64, String)>,
    /// A version that this code doesn't know wrote it.
    pub(super) newer: Option<String>,
    /// Everything below this was durable once.
    pub(super) evidence: u64,
    /// End of the offsets that any header speaks of, whether its batch is whole or not.
    pub(super) told_end: u64,
    pub(super) epoch: u32,
    /// Where nothing fits any more, or the end.
    pub(super) length: u64,
}

/// Reads a file's batches.
///
/// # Errors
/// Those of the disk that say nothing about the file.
pub(super) fn read(file: &dyn File, header: &FileHeader, kind: FileKind) -> io::Result<Source> {
    read_seeded(file, header.seed(), header.rewrite > 0, kind, header.base_offset, header.epoch)
}

pub(super) fn read_seeded(
    file: &dyn File,
    seed: Seed,
    sparse: bool,
    kind: FileKind,
    base_offset: u64,
    epoch: u32,
) -> io::Result<Source> {
    let length = file.length()?;
    let place = Place { position: BLOCK_BYTES, next_offset: base_offset, epoch };
    let mut walk = Walk::new(file, length, kind, seed, place).sparse(sparse);
    let mut source =
        Source { batches: Vec::new(), damage: Vec::new(), newer: None, evidence: 0, told_end: 0, epoch, length };
    let (mut behind_damage, mut gap) = (false, None);
    while let Some(step) = walk.next()? {
        match step {
            Step::Gap { from, reason, .. } => {
                if let FormatError::Newer(found) = &reason {
                    source.newer.get_or_insert_with(|| found.clone());
                }
                gap = Some((from, reason.to_string()));
            }
            Step::Batch { mut header, position, problem, .. } => {
                if let Some(gap) = gap.take() {
                    source.damage.push(gap);
                    behind_damage = true;
                }
                source.evidence = source.evidence.max(header.durable_before);
                source.told_end = source.told_end.max(header.end_offset());
                source.epoch = source.epoch.max(header.epoch);
                match problem {
                    None => {
                        let before = header.max_timestamp;
                        header.max_timestamp = true_max_timestamp(&header, walk.body()?);
                        if header.max_timestamp > before {
                            let reason = format!("a record's timestamp is above the {before} its batch says at most");
                            source.damage.push((position, reason));
                        }
                        source.batches.push(Whole { position, header, behind_damage });
                        behind_damage = false;
                    }
                    Some(problem) => {
                        if let FormatError::Newer(found) = &problem {
                            source.newer.get_or_insert_with(|| found.clone());
                        }
                        source.damage.push((position, problem.to_string()));
                        behind_damage = true;
                    }
                }
            }
        }
    }
    if let Some(gap) = gap {
        // Nothing fits up to the end: torn or damaged, as evidence says.
        source.damage.push(gap);
    }
    Ok(source)
}

fn true_max_timestamp(header: &BatchHeader, body: &[u8]) -> i64 {
    if header.attributes.kind().ok() != Some(BatchKind::Records) || header.attributes.codec() != 0 {
        return header.max_timestamp;
    }
    let time = |delta: i32| header.base_timestamp.saturating_add(i64::from(delta));
    let found = RecordWalk::new(body, header.record_count).map(|record| time(record.timestamp_delta)).max();
    found.unwrap_or(i64::MIN).max(header.max_timestamp)
}

/// Opens a file to read around pages that the drive can't read.
pub(super) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Arc<dyn File>> {
    Ok(Arc::new(Forgiving(disk.open(path, Access::Read)?)))
}

/// A file's header; if it is damaged, what is left of it. And whether the rest of its block is zero.
pub(super) fn header_of(file: &dyn File) -> io::Result<(Result<FileHeader, FormatError>, bool)> {
    let (header, set) = header_block(file)?;
    Ok((header, set.is_none()))
}

/// The header of the file at `path`, whole or made whole; `None` if it can't be.
pub(super) fn header_at(disk: &dyn Disk, path: &Path) -> io::Result<Option<FileHeader>> {
    let file = open(disk, path)?;
    match header_of(&*file)?.0 {
        Ok(header) => Ok(Some(header)),
        Err(_) => corrected(&*file),
    }
}

/// The header with the one bit flipped that makes it whole, if there is one.
pub(super) fn corrected(file: &dyn File) -> io::Result<Option<FileHeader>> {
    let mut bytes = [0; FILE_HEADER_BYTES];
    if file.read_at(&mut bytes, 0)? < bytes.len() {
        return Ok(None);
    }
    for bit in 0..FILE_HEADER_BYTES * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(header) = FileHeader::decode(&bytes) {
            return Ok(Some(header));
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    Ok(None)
}

/// What seeds the checksums of a file without a header, if anything whole is in it. `file_ids`: what others
/// call the file.
pub(super) fn find_seed(
    disk: &dyn Disk,
    path: &Path,
    file: &dyn File,
    log: &LogId,
    base_offset: Option<u64>,
    file_ids: &[u64],
) -> io::Result<Option<(Seed, Option<u64>)>> {
    let mut bytes = [0; FILE_HEADER_BYTES];
    let _ = file.read_at(&mut bytes, 0)?;
    let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    let (stands_id, stands_rewrite) = (word(48), word(144) as u32);
    let mut seeds: Vec<(Seed, Option<u64>)> = vec![
        (seed_as_it_stands(&bytes), Some(stands_id)),
        (Seed::new(log, stands_id, stands_rewrite), Some(stands_id)),
        (Seed::new(log, stands_id, 0), Some(stands_id)),
    ];
    seeds.extend(file_ids.iter().map(|&id| (Seed::new(log, id, 0), Some(id))));
    if let Ok(index) = disk.open(&index_path(path), Access::Read)
        && let Ok((Ok(header), _)) = header_of(&*index)
        && header.kind == FileKind::Index
        && header.log == *log
    {
        seeds.push((header.seed(), Some(header.file_id)));
    }
    let mut found = Vec::new();
    each_header(file, |position, bytes, room| {
        if let Some(known) = seeds.iter().find(|(seed, _)| BatchHeader::decode(bytes, *seed, position, room).is_ok()) {
            found = vec![(known.0, known.1, 2)];
            return false;
        }
        // What it must have been for this header to be whole; two that agree are no accident.
        if let Some(seed) = seed_behind(bytes, position)
            && let Ok(header) = BatchHeader::decode(bytes, seed, position, room)
        {
            let first = position == BLOCK_BYTES && base_offset.is_none_or(|base| header.base_offset == base);
            let weight = if first && has_body(file, &header, position) { 2 } else { 1 };
            let full = found.len() >= 1_000;
            match found.iter_mut().find(|(known, ..)| *known == seed) {
                Some((.., count)) => *count += weight,
                None if !full => found.push((seed, None, weight)),
                None => {}
            }
        }
        true
    })?;
    let best = found.into_iter().filter(|(.., count)| *count >= 2).max_by_key(|(.., count)| *count);
    Ok(best.map(|(seed, id, _)| (seed, id.filter(|&id| id != 0))))
}

fn has_body(file: &dyn File, header: &BatchHeader, position: u64) -> bool {
    let mut body = vec![0; header.length as usize - BATCH_HEADER_BYTES];
    let read = file.read_at(&mut body, position + BATCH_HEADER_BYTES as u64);
    read.is_ok_and(|read| read == body.len()) && header.check_body(&body).is_ok()
}

/// Calls with every place where a batch header may stand, while more is wanted.
fn each_header(file: &dyn File, mut each: impl FnMut(u64, &[u8], u64) -> bool) -> io::Result<()> {
    const STRIDE_BYTES: usize = 1 << 20;
    let length = file.length()?;
    let mut window = Window::new(file, length);
    let mut at = BLOCK_BYTES;
    loop {
        at = window.skip_hole(at)?;
        if at >= length {
            break;
        }
        let bytes = window.at(at, STRIDE_BYTES)?;
        let last = bytes.len() < STRIDE_BYTES || at + bytes.len() as u64 >= length;
        let mut next = 0;
        while let Some(found) = find_magic(bytes, next) {
            let position = at + found as u64;
            if !each(position, &bytes[found..], length - position) {
                return Ok(());
            }
            next = found + 8;
        }
        if last {
            break;
        }
        at += ((bytes.len() - BATCH_HEADER_BYTES) & !7) as u64;
    }
    Ok(())
}

/// A file of which pages that can't be read are zero.
#[derive(Debug)]
struct Forgiving(Arc<dyn File>);

impl Forgiving {
    fn is_readable_somewhere(&self, length: u64) -> bool {
        const PLACES: u64 = 64;
        let pages = length.div_ceil(PAGE_BYTES as u64);
        let step = pages.div_ceil(PLACES).max(1) as usize;
        let mut page = [0; PAGE_BYTES];
        (0..pages).step_by(step).any(|at| self.0.read_at(&mut page, at * PAGE_BYTES as u64).is_ok())
    }
}

impl File for Forgiving {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let error = match self.0.read_at(buffer, position) {
            Err(error) if is_media(&error) => error,
            outcome => return outcome,
        };
        let length = self.0.length()?;
        let wanted = length.saturating_sub(position).min(buffer.len() as u64) as usize;
        let mut any = false;
        for (number, page) in buffer[..wanted].chunks_mut(PAGE_BYTES).enumerate() {
            match self.0.read_at(page, position + (number * PAGE_BYTES) as u64) {
                Ok(_) => any = true,
                Err(error) if is_media(&error) => page.fill(0),
                Err(error) => return Err(error),
            }
        }
        // A drive from which nothing comes at all says nothing about the file.
        if any || self.is_readable_somewhere(length) { Ok(wanted) } else { Err(error) }
    }

    fn identity(&self) -> io::Result<u64> {
        self.0.identity()
    }

    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn stored_end(&self, from: u64) -> io::Result<u64> {
        self.0.stored_end(from)
    }

    fn stored_from(&self, from: u64) -> io::Result<u64> {
        self.0.stored_from(from)
    }

    fn write_at(&self, _: &[io::IoSlice<'_>], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn allocate(&self, _: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn room(&self) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn give_back(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn forget(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn view(&self, _: u64) -> io::Result<Arc<dyn View>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Whether the drive couldn't read a place.
fn is_media(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO)
}
