//! The files in a partition's directory that may be part of its log, and which of them are.
//!
//! Two files for the same offsets: identity decides (who is named as whose predecessor), then the
//! epoch; and it is always said why.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::plan::{Aside, at, list};
use super::source::{self, Source};
use crate::disk::{Disk, EntryKind};
use crate::error::Result;
use crate::format::{FileHeader, FileKind, FormatError};
use crate::ids::LogId;
use crate::partition::REPAIR_INFIX;
use crate::segment::{MAX_SEGMENT_BYTES, base_offset_of};

/// A file that holds batches of this log.
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) base_offset: u64,
    /// As it stands, or with one bit put right.
    pub(super) header: Option<FileHeader>,
    /// Whether it bears the name that its base offset asks for.
    pub(super) is_named: bool,
    /// What is wrong with its header block.
    pub(super) header_damage: Option<String>,
    pub(super) source: Source,
}

impl Candidate {
    pub(super) fn rewrite(&self) -> u32 {
        self.header.as_ref().map_or(0, |header| header.rewrite)
    }

    pub(super) fn file_id(&self) -> u64 {
        self.header.as_ref().map_or(0, |header| header.file_id)
    }

    /// The least epoch that it can be of.
    pub(super) fn epoch(&self) -> u32 {
        let first = self.source.batches.first().map(|batch| batch.header.epoch);
        self.header.as_ref().map(|header| header.epoch).or(first).unwrap_or(u32::MAX)
    }

    /// Bytes of it that count, as it says itself or `next` says.
    pub(super) fn counted(&self, next: Option<&Candidate>) -> Option<u64> {
        match &self.header {
            Some(header) if header.rewrite > 0 => Some(header.rewritten_length),
            _ => next.filter(|next| self.is_continued_by(next))?.header.as_ref().map(|next| next.previous.length),
        }
    }

    /// Whether `next` names this file as the one before it, ending where it begins.
    pub(super) fn is_continued_by(&self, next: &Candidate) -> bool {
        let (Some(header), Some(next)) = (&self.header, &next.header) else { return false };
        let previous = next.previous;
        previous.file_id == header.file_id
            && previous.base_offset == header.base_offset
            && previous.end_offset == next.base_offset
            && next.epoch >= header.epoch
    }

    /// End of the offsets below `limit` that it holds something of.
    pub(super) fn end_below(&self, limit: u64) -> u64 {
        let whole = self.header.as_ref().map_or(0, |header| header.rewritten_end_offset);
        let last = self.source.batches.iter().rev().find(|batch| batch.header.base_offset < limit);
        last.map_or(self.base_offset, |batch| batch.header.end_offset()).max(whole)
    }

    fn epoch_below(&self, offset: u64) -> u32 {
        let batches = self.source.batches.iter().filter(|batch| batch.header.base_offset < offset);
        let newest = batches.map(|batch| batch.header.epoch).max();
        newest.unwrap_or(0).max(self.header.as_ref().map_or(0, |header| header.epoch))
    }

    fn epoch_from(&self, offset: u64) -> u32 {
        let batches = self.source.batches.iter().filter(|batch| batch.header.end_offset() > offset);
        batches.map(|batch| batch.header.epoch).max().unwrap_or(0)
    }
}

/// What stands in a partition's directory.
#[derive(Default)]
pub(super) struct Gathered {
    /// One for each base offset, rising.
    pub(super) chain: Vec<Candidate>,
    /// Files that are no part of the log, and why.
    pub(super) aside: BTreeMap<PathBuf, (Aside, String)>,
    /// Index files, and whether they are regular files.
    pub(super) indexes: Vec<(PathBuf, bool)>,
    /// Everything that is called like a segment.
    pub(super) logs: Vec<PathBuf>,
    pub(super) leftovers: Vec<PathBuf>,
    /// Files of a later version.
    pub(super) newer: Vec<(PathBuf, String)>,
}

impl Gathered {
    fn put_aside(&mut self, path: PathBuf, file_id: u64, is_file: bool, reason: impl Into<String>) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{name}.{file_id:016x}");
        self.aside.insert(path.clone(), (Aside { path, name, is_file }, reason.into()));
    }

    pub(super) fn drop_candidate(&mut self, candidate: Candidate, reason: impl Into<String>) {
        if candidate.path.to_string_lossy().contains(REPAIR_INFIX) {
            return;
        }
        let file_id = candidate.file_id();
        self.put_aside(candidate.path, file_id, true, reason);
    }
}

/// Looks at all files of a partition.
///
/// # Errors
/// Of the disk, where they say nothing about the files.
pub(super) fn gather(disk: &dyn Disk, dir: &std::path::Path, log: &LogId) -> Result<Gathered> {
    let mut gathered = Gathered::default();
    let mut found = Vec::new();
    let mut headerless = Vec::new();
    for entry in list(disk, dir)? {
        let path = dir.join(&entry.name);
        let named = base_offset_of(&entry.name);
        if named.is_some() {
            gathered.logs.push(path.clone());
        }
        let is_leftover = entry.name.contains(REPAIR_INFIX) && entry.kind == EntryKind::File;
        if entry.name.ends_with(".index") {
            gathered.indexes.push((path, entry.kind == EntryKind::File));
            continue;
        }
        if is_leftover {
            gathered.leftovers.push(path.clone());
        } else if named.is_none() {
            continue;
        }
        if entry.kind != EntryKind::File {
            gathered.put_aside(path, 0, false, "it is not a regular file");
            continue;
        }
        let file = source::open(disk, &path).map_err(at(&path))?;
        let (header, block_is_zero) = source::header_of(&*file).map_err(at(&path))?;
        let (header, mut header_damage) = match header {
            Ok(header) => (header, None),
            Err(FormatError::Newer(found)) if named.is_some() => {
                gathered.newer.push((path, found));
                continue;
            }
            Err(error) => match source::corrected(&*file).map_err(at(&path))? {
                Some(header) if header.expect(FileKind::Segment, log).is_ok() => (header, Some(error.to_string())),
                _ => {
                    headerless.extend(named.map(|base_offset| (path, base_offset, error.to_string())));
                    continue;
                }
            },
        };
        if let Err(error) = header.expect(FileKind::Segment, log) {
            gathered.put_aside(path, header.file_id, true, error.to_string());
            continue;
        }
        if !block_is_zero {
            header_damage.get_or_insert_with(|| "bytes of the header block that are never written are set".to_owned());
        }
        let length = file.length().map_err(at(&path))?;
        if length > MAX_SEGMENT_BYTES {
            header_damage.get_or_insert_with(|| format!("it is {length} bytes long, more than any segment"));
        }
        let source = source::read(&*file, &header, FileKind::Segment).map_err(at(&path))?;
        let is_named = named == Some(header.base_offset);
        let base_offset = header.base_offset;
        found.push(Candidate { path, base_offset, header: Some(header), is_named, header_damage, source });
    }
    for (path, base_offset, reason) in headerless {
        let names = found.iter().filter_map(|other| other.header.as_ref()).map(|header| header.previous);
        let ids: Vec<u64> =
            names.filter(|previous| previous.base_offset == base_offset).map(|previous| previous.file_id).collect();
        let file = source::open(disk, &path).map_err(at(&path))?;
        match source::find_seed(disk, &path, &*file, log, Some(base_offset), &ids).map_err(at(&path))? {
            Some((seed, _)) => {
                let kind = FileKind::Segment;
                let source = source::read_seeded(&*file, seed, false, kind, base_offset, 0).map_err(at(&path))?;
                let (header, header_damage) = (None, Some(reason));
                found.push(Candidate { path, base_offset, header, is_named: true, header_damage, source });
            }
            None => gathered.put_aside(path, 0, true, format!("{reason}; no batch of it could be found")),
        }
    }
    for candidate in &found {
        if let Some(newer) = &candidate.source.newer {
            gathered.newer.push((candidate.path.clone(), newer.clone()));
        }
    }
    one_for_each(&mut gathered, found);
    Ok(gathered)
}

/// Of several files with the same base offset one counts.
fn one_for_each(gathered: &mut Gathered, mut found: Vec<Candidate>) {
    let rank = |file: &Candidate| {
        let header = if file.header.is_none() { 0 } else { 1 + u32::from(file.is_named) };
        (header, file.rewrite(), file.source.batches.len())
    };
    found.sort_by_key(|file| (file.base_offset, std::cmp::Reverse(rank(file))));
    let mut sorted: Vec<Candidate> = Vec::new();
    for file in found {
        match sorted.last() {
            Some(first) if first.base_offset == file.base_offset => {
                let (base, holder) = (file.base_offset, first.path.display().to_string());
                let reason = if file.header.is_none() {
                    format!("its header is damaged, and {holder} holds the offsets from {base} on")
                } else {
                    format!("it is a second file for the offsets from {base} on, which {holder} holds")
                };
                gathered.drop_candidate(file, reason);
            }
            _ => sorted.push(file),
        }
    }
    without_overlap(gathered, sorted);
}

/// Of two files that hold the same offsets one counts.
fn without_overlap(gathered: &mut Gathered, sorted: Vec<Candidate>) {
    // Who names whom: file ids of predecessors, with the base offset of who says so.
    let named: Vec<(u64, u64)> =
        sorted.iter().filter_map(|file| Some((file.header.as_ref()?.previous.file_id, file.base_offset))).collect();
    let is_named_from = |file: &Candidate, from: u64| {
        file.header.is_some() && named.iter().any(|&(id, by)| id == file.file_id() && by >= from)
    };
    let mut kept: Vec<Candidate> = Vec::new();
    for file in sorted {
        let mut next = Some(file);
        while let Some(file) = next.take() {
            let Some(last) = kept.last() else {
                kept.push(file);
                break;
            };
            let base = file.base_offset;
            let end = last.end_below(u64::MAX);
            let (before, epoch) = (last.epoch_below(base), file.epoch());
            let overlaps = end > base && !last.is_continued_by(&file);
            let holder = last.path.display().to_string();
            if epoch < before {
                let reason = format!(
                    "it is of epoch {epoch}, and {holder}, which comes before it, of epoch {before}: it is stale"
                );
                gathered.drop_candidate(file, reason);
            } else if !overlaps || (last.rewrite() == 0 && epoch > last.epoch_from(base)) {
                kept.push(file);
            } else if is_named_from(last, base + 1) {
                let reason = format!(
                    "{holder} holds the same offsets, {base} to {}, and the file that follows names that one",
                    end - 1
                );
                gathered.drop_candidate(file, reason);
            } else if is_named_from(&file, base + 1)
                || file.header.as_ref().is_some_and(|header| names_one(header, &kept))
            {
                let reason = format!(
                    "{} holds the same offsets, {base} to {}, and its neighbours name that one",
                    file.path.display(),
                    end - 1
                );
                if let Some(wrong) = kept.pop() {
                    gathered.drop_candidate(wrong, reason);
                }
                next = Some(file);
            } else {
                let reason = format!(
                    "{holder} holds the same offsets, {base} to {}, and nothing names either: that one goes on from what \
                     is before it",
                    end - 1
                );
                gathered.drop_candidate(file, reason);
            }
        }
    }
    gathered.chain = kept;
}

/// Whether it names one of these files, but not the last, as the one before it.
fn names_one(header: &FileHeader, kept: &[Candidate]) -> bool {
    let before_last = kept.split_last().map_or(&[][..], |(_, rest)| rest);
    header.previous.file_id != 0 && before_last.iter().any(|file| file.file_id() == header.previous.file_id)
}
