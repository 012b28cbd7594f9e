//! Checks an index file: each entry's checksum, and that it points to a batch and tells the truth.
//!
//! An index may speak of the first part of its segment only: it was written when the segment was
//! sealed or the directory closed, and never synced. So one that ends early, or of which sectors are
//! missing, is no damage; it is rebuilt when it is used.

use std::io;
use std::path::{Path, PathBuf};

use super::report::Damage;
use crate::disk::{Access, Disk, File};
use crate::format::{BLOCK_BYTES, BatchHeader, FILE_HEADER_BYTES, FileHeader, FileKind, INDEX_ENTRY_BYTES, IndexEntry};

const SECTOR_BYTES: usize = 512;
/// More entries than a segment can have.
const INDEX_BYTES_MAX: u64 = 32 << 20;

/// An index while its segment is walked.
pub(super) struct IndexFile {
    path: PathBuf,
    length: u64,
    base_offset: u64,
    entries: Vec<(u64, IndexEntry)>,
    next: usize,
    damage: Vec<Damage>,
}

/// What reading an index file gives.
pub(super) enum IndexRead {
    Index(IndexFile),
    /// It never was finished: where what is there of it ends.
    Unfinished {
        position: u64,
        length: u64,
    },
    /// Of another segment that bore the same name.
    Stale {
        length: u64,
    },
}

impl IndexFile {
    /// Reads the index file of the segment with this header.
    pub(super) fn read(disk: &dyn Disk, path: &Path, segment: &FileHeader) -> io::Result<IndexRead> {
        let file = disk.open(path, Access::Read)?;
        let length = file.length()?;
        let bytes = written(&*file, length.min(INDEX_BYTES_MAX))?;
        let read = bytes.len();
        let mut index = IndexFile {
            path: path.to_owned(),
            length,
            base_offset: segment.base_offset,
            entries: Vec::new(),
            next: 0,
            damage: Vec::new(),
        };
        let header = match FileHeader::decode(&bytes[..read.min(FILE_HEADER_BYTES)]) {
            Err(_) if is_missing(&bytes, 0, FILE_HEADER_BYTES) => {
                return Ok(IndexRead::Unfinished { position: 0, length });
            }
            Err(error) => {
                index.wrong(0, error.to_string());
                return Ok(IndexRead::Index(index));
            }
            Ok(header) => header,
        };
        if header != (FileHeader { kind: FileKind::Index, ..segment.clone() }) {
            return Ok(IndexRead::Stale { length });
        }
        let Some((block, _)) = bytes.split_at_checked(BLOCK_BYTES as usize) else {
            return Ok(IndexRead::Unfinished { position: read as u64, length });
        };
        if let Some(at) = block[FILE_HEADER_BYTES..].iter().position(|&byte| byte != 0) {
            index.wrong((FILE_HEADER_BYTES + at) as u64, "bytes of the header block that are never written are set");
        }
        let mut at = BLOCK_BYTES as usize;
        while at < bytes.len() {
            match IndexEntry::decode(&bytes[at..], header.seed()) {
                Ok(entry) => index.entries.push((at as u64, entry)),
                Err(_) if is_missing(&bytes, at, INDEX_ENTRY_BYTES) => {
                    // Nothing behind a missing sector is sure to be whole; nothing in it is used.
                    return Ok(if index.damage.is_empty() {
                        IndexRead::Unfinished { position: at as u64, length }
                    } else {
                        IndexRead::Index(index)
                    });
                }
                Err(error) => index.wrong(at as u64, error.to_string()),
            }
            at += INDEX_ENTRY_BYTES;
        }
        Ok(IndexRead::Index(index))
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Compares what the index says with a batch of the segment; called for each in order, with the
    /// largest timestamp of all before.
    pub(super) fn batch(&mut self, header: &BatchHeader, position: u64, max_timestamp_before: i64) {
        while let Some(&(at, entry)) = self.entries.get(self.next)
            && u64::from(entry.position) <= position
        {
            self.next += 1;
            let offset = self.base_offset + u64::from(entry.relative_offset);
            if u64::from(entry.position) < position {
                self.wrong(at, format!("an entry points to position {}, where no batch begins", entry.position));
            } else if offset != header.base_offset {
                let found = header.base_offset;
                self.wrong(at, format!("an entry says that offset {offset} stands at {position}, it is {found}"));
            } else if entry.max_timestamp_before != max_timestamp_before {
                self.wrong(at, format!("an entry's timestamp doesn't fit the batches before position {position}"));
            }
        }
    }

    /// What is wrong. Entries behind the end of what counts are of a life that was cut, and no damage.
    pub(super) fn finish(self) -> Vec<Damage> {
        self.damage
    }

    fn wrong(&mut self, position: u64, reason: impl Into<String>) {
        let reason = format!("wrong index: {}; it is rebuilt when it is used", reason.into());
        self.damage.push(Damage { position: Some(position), ..Damage::of_path(&self.path, reason) });
    }
}

/// The first `length` bytes of the file, up to a piece that was never written: nothing behind one is used.
fn written(file: &dyn File, length: u64) -> io::Result<Vec<u8>> {
    const PIECE_BYTES: u64 = 64 << 10;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        let from = bytes.len();
        bytes.resize(from + (length - from as u64).min(PIECE_BYTES) as usize, 0);
        let read = file.read_at(&mut bytes[from..], from as u64)?;
        bytes.truncate(from + read);
        if read == 0 || bytes[from..].iter().all(|&byte| byte == 0) {
            break;
        }
    }
    Ok(bytes)
}

/// Whether what should stand at `at` was never written, as a crash leaves it: the file ends within
/// it, or one of its sectors is all zero.
fn is_missing(bytes: &[u8], at: usize, length: usize) -> bool {
    let end = at + length;
    let sector = |number: usize| &bytes[number * SECTOR_BYTES..bytes.len().min((number + 1) * SECTOR_BYTES)];
    end > bytes.len()
        || (at / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES).any(|number| sector(number).iter().all(|&byte| byte == 0))
}
