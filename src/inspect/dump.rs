//! Shows what stands in one file, damaged or not.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use super::dumped::{
    Dumped, DumpedFile, DumpedGap, DumpedIndexEntry, DumpedRecord, batch_fields, catalog_fields, file_fields,
    index_fields, offset_fields,
};
use super::walk::{Step, Walk};
use crate::config::SyncMode;
use crate::disk::{Access, Disk, File, RealDisk};
use crate::error::{Error, Result};
use crate::format::{
    BLOCK_BYTES, BatchHeader, BatchKind, CatalogEntry, FILE_HEADER_BYTES, FileHeader, FileKind, INDEX_ENTRY_BYTES,
    IndexEntry, OffsetEntry, RecordWalk, Seed, seed_as_it_stands,
};
use crate::segment::{Place, Window, base_offset_of};

/// What [`dump`] shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DumpOptions {
    /// Each batch's records or entries too.
    pub contents: bool,
}

impl DumpOptions {
    /// Shows each batch's records or entries too.
    pub fn contents(mut self, contents: bool) -> DumpOptions {
        self.contents = contents;
        self
    }
}

/// Shows what stands in a file, in its order, until `each` breaks. Changes nothing; works on
/// damaged files: where nothing fits it says so, and goes on at the next batch.
///
/// # Errors
/// `Io`, `NoRoom`; `InvalidArgument` for what isn't a regular file.
pub fn dump(
    path: impl AsRef<Path>,
    options: DumpOptions,
    each: &mut dyn FnMut(Dumped<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let path = path.as_ref();
    let disk = RealDisk::new(SyncMode::Threads, 1).map_err(|error| Error::io(error).at_path(path))?;
    dump_on(&disk, path, options, each)
}

/// The same on any disk.
pub(crate) fn dump_on(
    disk: &dyn Disk,
    path: &Path,
    options: DumpOptions,
    each: &mut dyn FnMut(Dumped<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let file = disk.open(path, Access::Read).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Error::invalid("this is not a regular file").at_path(path),
        _ => Error::io(error).at_path(path),
    })?;
    let mut dump = Dump { path, file: &*file, options, each };
    dump.run().map(|_| ()).map_err(|error| Error::io(error).at_path(path))
}

/// `Continue` while more is wanted.
type Shown = io::Result<ControlFlow<()>>;

/// Hands something on; returns if no more is wanted.
macro_rules! show {
    ($flow:expr) => {
        if $flow.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    };
}

struct Dump<'a> {
    path: &'a Path,
    file: &'a dyn File,
    options: DumpOptions,
    each: &'a mut dyn FnMut(Dumped<'_>) -> ControlFlow<()>,
}

impl Dump<'_> {
    fn run(&mut self) -> Shown {
        let length_bytes = self.file.length()?;
        let mut block = vec![0; BLOCK_BYTES as usize];
        let read = self.file.read_at(&mut block, 0)?;
        let head: [u8; FILE_HEADER_BYTES] = std::array::from_fn(|at| block[at]);
        let header = FileHeader::decode(&head[..read.min(FILE_HEADER_BYTES)]);
        let rest_is_zero = block[FILE_HEADER_BYTES..].iter().all(|&byte| byte == 0);
        let problem = match &header {
            Err(error) => Some(error.to_string()),
            Ok(_) if read < block.len() => Some("the file ends within its header block".to_owned()),
            Ok(_) if !rest_is_zero => Some("bytes of the header block that are never written are set".to_owned()),
            Ok(_) => None,
        };
        let fields = header.as_ref().ok().map(file_fields);
        let path = self.path.to_owned();
        show!((self.each)(Dumped::File(DumpedFile { path, length_bytes, problem, fields })));
        let rewritten = header.as_ref().is_ok_and(|header| header.rewrite > 0);
        let (kind, seed, base_offset, epoch) = match &header {
            Ok(header) => (header.kind, header.seed(), header.base_offset, header.epoch),
            Err(_) => {
                let (kind, base_offset) = by_name(self.path);
                (kind, seed_as_it_stands(&head), base_offset, 0)
            }
        };
        if kind == FileKind::Index {
            return self.index_entries(length_bytes, seed, base_offset);
        }
        let place = Place { position: BLOCK_BYTES, next_offset: base_offset, epoch };
        self.batches(Walk::new(self.file, length_bytes, kind, seed, place).sparse(rewritten))
    }

    fn batches(&mut self, mut walk: Walk<'_>) -> Shown {
        while let Some(step) = walk.next()? {
            match step {
                Step::Gap { from, to, written_end, reason } => {
                    let (zero, reason) = (written_end == from, reason.to_string());
                    show!((self.each)(Dumped::Gap(DumpedGap { position: from, bytes: to - from, zero, reason })));
                }
                Step::Batch { header, position, header_crc, problem } => {
                    let problem = problem.map(|error| error.to_string());
                    let shown = batch_fields(&header, position, header_crc, problem);
                    show!((self.each)(Dumped::Batch(shown)));
                    let body = walk.body()?;
                    if self.options.contents && header.check_body(body).is_ok() {
                        show!(self.contents(&header, body));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// What a whole body holds, as far as this version can tell.
    fn contents(&mut self, header: &BatchHeader, body: &[u8]) -> ControlFlow<()> {
        match header.attributes.kind() {
            Ok(BatchKind::Records) if header.attributes.codec() == 0 => {
                for record in RecordWalk::new(body, header.record_count) {
                    (self.each)(Dumped::Record(DumpedRecord {
                        offset: header.base_offset.saturating_add(u64::from(record.offset_delta)),
                        timestamp: header.base_timestamp.saturating_add(i64::from(record.timestamp_delta)),
                        key: record.key,
                        value: record.value,
                        headers: record.headers.iter().collect(),
                    }))?;
                }
            }
            Ok(BatchKind::Catalog) => {
                for entry in CatalogEntry::decode_all(body).unwrap_or_default() {
                    (self.each)(Dumped::Entry(catalog_fields(entry)))?;
                }
            }
            Ok(BatchKind::Offsets) => {
                let mut pieces = Vec::new();
                for entry in OffsetEntry::each_of(body).map_while(|entry| entry.ok()) {
                    pieces.extend_from_slice(entry.payload);
                    let whole = if entry.more { None } else { Some(std::mem::take(&mut pieces)) };
                    (self.each)(Dumped::Offset(offset_fields(entry, whole.as_deref())))?;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn index_entries(&mut self, length: u64, seed: Seed, base_offset: u64) -> Shown {
        let mut window = Window::new(self.file, length);
        let mut at = BLOCK_BYTES;
        while at < length {
            let bytes = window.at(at, INDEX_ENTRY_BYTES)?;
            if bytes.is_empty() {
                break;
            }
            let fields = match IndexEntry::decode(bytes, seed) {
                Ok(entry) => Ok(index_fields(entry, base_offset)),
                Err(error) => Err(error.to_string()),
            };
            show!((self.each)(Dumped::IndexEntry(DumpedIndexEntry { at, fields })));
            at += INDEX_ENTRY_BYTES as u64;
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Kind and base offset that a file's name speaks of, where its header doesn't.
fn by_name(path: &Path) -> (FileKind, u64) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("catalog-") {
        (FileKind::Catalog, 0)
    } else if name.starts_with("offsets-") {
        (FileKind::Offsets, 0)
    } else if let Some(stem) = name.strip_suffix(".index") {
        (FileKind::Index, base_offset_of(&format!("{stem}.log")).unwrap_or(0))
    } else {
        (FileKind::Segment, base_offset_of(&name).unwrap_or(0))
    }
}
