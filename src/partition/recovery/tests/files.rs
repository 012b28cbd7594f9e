//! Segment files made by hand, each batch of one offset and without a body, and what recovery finds in them.

use std::path::{Path, PathBuf};

use crate::config::TopicConfig;
use crate::disk::Disk;
use crate::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, BatchKind, FileHeader, Mark, Previous, example_header,
};
use crate::partition::NotedOf;
use crate::partition::recovery::{Doubt, Recovered, recover};
use crate::segment::log_name;
use crate::sim::SimDisk;

const DIR: &str = "data/topics/t/0";
pub(super) const EPOCH: u32 = 2;

pub(super) fn path(base_offset: u64) -> PathBuf {
    Path::new(DIR).join(log_name(base_offset))
}

/// Where the batch stands that comes after so many.
pub(super) fn place(number: u64) -> u64 {
    BLOCK_BYTES + number * BATCH_HEADER_BYTES as u64
}

/// Of a file that continues none and knows nothing of what is durable.
pub(super) fn header(base_offset: u64) -> FileHeader {
    FileHeader {
        epoch: EPOCH,
        file_id: base_offset + 1,
        base_offset,
        durable_before: 0,
        previous: Previous::default(),
        ..example_header()
    }
}

/// Of the file that begins where this one ends after so many batches.
pub(super) fn next_header(header: &FileHeader, base_offset: u64, batches: u64) -> FileHeader {
    let previous = Previous {
        file_id: header.file_id,
        base_offset: header.base_offset,
        end_offset: base_offset,
        length: place(batches),
        ..Previous::default()
    };
    FileHeader { previous, ..self::header(base_offset) }
}

pub(super) fn batch(base_offset: u64) -> BatchHeader {
    BatchHeader {
        base_offset,
        offset_count: 1,
        record_count: 1,
        epoch: EPOCH,
        ..BatchHeader::of(BatchKind::Records, &[])
    }
}

/// A file's bytes.
pub(super) fn file(header: &FileHeader, batches: impl IntoIterator<Item = BatchHeader>) -> Vec<u8> {
    let mut bytes = header.encode().to_vec();
    bytes.resize(BLOCK_BYTES as usize, 0);
    for batch in batches {
        let position = bytes.len() as u64;
        bytes.extend_from_slice(&batch.encode(header.seed(), position));
    }
    bytes
}

/// The same where batch `number` doesn't validate.
pub(super) fn spoiled(mut bytes: Vec<u8>, number: u64) -> Vec<u8> {
    bytes[place(number) as usize + 20] ^= 1;
    bytes
}

/// A disk with these files, and nothing else.
pub(super) fn disk_with(files: impl IntoIterator<Item = (u64, Vec<u8>)>) -> SimDisk {
    let disk = SimDisk::new();
    for (base_offset, bytes) in files {
        disk.write_file(path(base_offset), bytes).unwrap();
    }
    disk
}

/// The catalogue's mark: all below the offset is durable, which ends after so many batches of that segment.
pub(super) fn mark(durable_offset: u64, segment_base_offset: u64, batches: u64) -> Mark {
    Mark { epoch: EPOCH, log_start_offset: 0, durable_offset, segment_base_offset, position: place(batches) }
}

pub(super) fn recovered(disk: &dyn Disk, mark: Option<Mark>, doubt: Doubt) -> Recovered {
    recover(
        disk,
        Path::new(DIR),
        &example_header().log,
        &TopicConfig::default(),
        mark.as_ref(),
        NotedOf::default(),
        doubt,
    )
    .unwrap()
}

/// What is found in these files, without a doubt.
pub(super) fn found(files: impl IntoIterator<Item = (u64, Vec<u8>)>, mark: Option<Mark>) -> Recovered {
    recovered(&disk_with(files), mark, Doubt::Nothing)
}

/// Of each segment that counts: base offset, how many bytes are published, where it ends.
pub(super) fn segments(recovered: &Recovered) -> Vec<(u64, u64, u64)> {
    let of = |segment: &crate::segment::Segment| (segment.base_offset(), segment.published(), segment.end_offset());
    recovered.segments.iter().map(|segment| of(segment)).collect()
}

/// The offset where damage begins, and what is said of it.
pub(super) fn damage(recovered: &Recovered) -> (Option<u64>, String) {
    let error = recovered.damage.as_ref().unwrap();
    (error.offset(), error.to_string())
}
