//! Whole directories with fuzzed bytes in them: opened, read, appended to, opened again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::batch;
use super::stamp::{stamp_batches, stamp_header, with_batch, with_block};
use super::template::{CATALOG, DIR, SEGMENT, Template};
use crate::config::{Acks, Writers};
use crate::engine::{Engine, Partition, Record};
use crate::format::{BATCH_HEADER_BYTES, BatchKind, CatalogEntry};
use crate::sim::{SimClock, SimDisk};

/// The file header's identity and checksum are made right.
pub(super) const STAMPED_HEADER: u8 = 1;
/// The batches' checksums are made right.
pub(super) const STAMPED_BATCHES: u8 = 2;
/// The input has no zeros between the file's header and its batches.
pub(super) const COMPACT: u8 = 4;
/// The engine before didn't close: the catalogue has no mark of what it wrote.
pub(super) const CRASHED: u8 = 8;
/// There is no second segment; for the catalogue, there are none at all.
pub(super) const ALONE: u8 = 16;
/// Opened for reading only.
pub(super) const READ_ONLY: u8 = 32;
/// For the catalogue: the input is the body of one more batch of a good one.
pub(super) const ENTRIES: u8 = 64;

/// Room on the disk: a catalogue may name 100,000 partitions, and each takes a block.
const ROOM_BYTES: u64 = 4 << 20;

/// Bytes as the first segment of a partition.
pub fn segment_open(input: &[u8]) {
    if let Some((&mode, bytes)) = input.split_first() {
        open_and_use(&disk_with_segment(mode, bytes), mode & READ_ONLY != 0);
    }
}

/// Bytes as the catalogue of a directory.
pub fn catalog_open(input: &[u8]) {
    if let Some((&mode, bytes)) = input.split_first() {
        open_and_use(&disk_with_catalog(mode, bytes), mode & READ_ONLY != 0);
    }
}

fn disk_with_segment(mode: u8, bytes: &[u8]) -> SimDisk {
    let template = Template::get();
    let disk = SimDisk::new();
    for (path, contents) in &template.files {
        let contents = match path {
            path if path == Path::new(SEGMENT) => &dressed(mode, bytes, contents),
            path if path == Path::new(CATALOG) && mode & CRASHED != 0 => &template.young_catalog,
            path if path != Path::new(CATALOG) && mode & ALONE != 0 => continue,
            _ => contents,
        };
        let _ = disk.write_file(path, contents);
    }
    disk
}

fn disk_with_catalog(mode: u8, bytes: &[u8]) -> SimDisk {
    let template = Template::get();
    let disk = SimDisk::new();
    for (path, contents) in &template.files {
        let contents = match path {
            path if path == Path::new(CATALOG) && mode & ENTRIES != 0 => &with_entries(&template.young_catalog, bytes),
            path if path == Path::new(CATALOG) => &dressed(mode, bytes, contents),
            _ if mode & ALONE != 0 => continue,
            _ => contents,
        };
        let _ = disk.write_file(path, contents);
    }
    disk
}

/// A file from an input, as the mode says; `like` is what stood there.
pub(super) fn dressed(mode: u8, bytes: &[u8], like: &[u8]) -> Vec<u8> {
    let mut file = if mode & COMPACT != 0 { with_block(bytes) } else { bytes.to_vec() };
    if mode & STAMPED_HEADER != 0 {
        stamp_header(&mut file, like);
    }
    if mode & STAMPED_BATCHES != 0 {
        stamp_batches(&mut file, like);
    }
    file
}

/// The catalogue with one more batch, whose body is `body`.
fn with_entries(catalog: &[u8], body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len() / 8 * 8];
    let entries = CatalogEntry::decode_all(body).unwrap_or_default();
    // An epoch begins in the batch that says so.
    let begun = entries.iter().rev().find_map(|entry| match entry {
        CatalogEntry::Epoch { epoch } => Some(*epoch),
        _ => None,
    });
    with_batch(catalog, body, |base_offset, epoch| {
        let count = entries.len().max(1) as u32;
        batch(BatchKind::Catalog, base_offset, begun.unwrap_or(epoch), count, body)
    })
}

/// Opens the directory, reads all of it, appends where that is possible, and does it once more.
fn open_and_use(disk: &SimDisk, read_only: bool) {
    disk.set_capacity(ROOM_BYTES);
    for life in 0..2 {
        let clock = SimClock::new();
        clock.advance(Duration::from_secs(10 * (life + 1)));
        let builder = Engine::builder(DIR).sim(disk).clock(Arc::new(clock)).writers(Writers::Inline).seed(life);
        let builder = if read_only { builder.read_only() } else { builder };
        let Ok(engine) = builder.open() else { return };
        for topic in engine.topics().unwrap_or_default() {
            let Ok(description) = engine.describe_topic(&topic) else { continue };
            for described in &description.partitions {
                let Ok(partition) = engine.partition(&topic, described.partition) else { continue };
                read_all(disk, &partition);
                poll_all(disk, &engine, &partition);
                append_one(&partition);
            }
        }
        let _ = engine.close();
    }
}

/// Every batch by reading on, and single records by offset and time.
fn read_all(disk: &SimDisk, partition: &Partition) {
    let (start, end) = (partition.log_start_offset(), partition.end_offset());
    assert!(start <= end && partition.durable_offset() <= end, "log start and durable offset lie before the end");
    let mut next = start;
    let mut left = batches_at_most(disk);
    if let Ok(reading) = partition.read(..) {
        for batch in reading {
            let Ok(batch) = batch else { break };
            let offsets = batch.offsets();
            assert!(
                next <= offsets.start && offsets.start < offsets.end && offsets.end <= end,
                "offsets rise to the end"
            );
            for record in &batch {
                assert!(
                    next <= record.offset() && offsets.contains(&record.offset()),
                    "records rise within their batch"
                );
                next = record.offset() + 1;
                std::hint::black_box((record.timestamp(), record.key(), record.value(), record.headers().count()));
            }
            next = offsets.end;
            assert!(left > 0, "more batches than the disk has bytes for");
            left -= 1;
        }
    }
    for offset in [start, start + (end - start) / 2, end.saturating_sub(1), end] {
        if let Ok(record) = partition.get(offset) {
            assert!(
                record.offset() == offset && record.view().offset() == offset && offset < end,
                "what was asked for"
            );
        }
    }
    for batch in partition.last(3).into_iter().flatten() {
        let Ok(batch) = batch else { break };
        assert!(batch.iter().count() <= 3, "no more than asked for");
    }
    for timestamp in [i64::MIN, 1_704_067_200_000, i64::MAX] {
        if let Ok(Some(offset)) = partition.offset_for_timestamp(timestamp) {
            assert!((start..end).contains(&offset), "an offset of the log");
        }
    }
}

/// The same by polling.
fn poll_all(disk: &SimDisk, engine: &Engine, partition: &Partition) {
    let Ok(mut consumer) = engine.assign([(partition.topic(), partition.number())]) else { return };
    let mut left = batches_at_most(disk);
    while let Ok(polled) = consumer.poll(Duration::ZERO)
        && !polled.is_empty()
    {
        assert!(left >= polled.batches().len() as u64, "more batches than the disk has bytes for");
        left -= polled.batches().len() as u64;
    }
}

/// What is acknowledged can be read, unless damage stands before it; and it is that record, no other.
fn append_one(partition: &Partition) {
    let record = Record::new("appended").acks(Acks::Synced);
    if let Ok(receipt) = partition.append(&record)
        && let Ok(at) = receipt.wait()
        && let Ok(found) = partition.get(at.offset)
    {
        assert_eq!(found.view().value(), Some(&b"appended"[..]), "the record at offset {}", at.offset);
    }
}

fn batches_at_most(disk: &SimDisk) -> u64 {
    disk.used_bytes() / BATCH_HEADER_BYTES as u64
}

#[cfg(test)]
mod tests {
    //! That the seeds get where they should: behind the checksums.
    use super::*;
    use crate::engine::Recovery;
    use crate::error::{ErrorKind, Result};

    fn seed(target: &str, name: &str) -> (u8, Vec<u8>) {
        let seeds = crate::fuzzing::seeds::all();
        let (_, _, bytes) = seeds.iter().find(|seed| (seed.0, seed.1) == (target, name)).unwrap();
        (bytes[0], bytes[1..].to_vec())
    }

    fn open(disk: &SimDisk) -> Result<(Engine, Recovery)> {
        let engine = Engine::builder(DIR).sim(disk).writers(Writers::Inline).open()?;
        let recovery = engine.recovery();
        Ok((engine, recovery))
    }

    fn records(engine: &Engine) -> usize {
        let partition = engine.partition("t", 0).unwrap();
        partition.read(..).unwrap().map_while(|batch| batch.ok()).map(|batch| batch.iter().count()).sum()
    }

    fn with_segment(name: &str) -> (Engine, Recovery) {
        let (mode, bytes) = seed("segment_open", name);
        open(&disk_with_segment(mode, &bytes)).unwrap()
    }

    #[test]
    fn segments_are_found_as_they_were_dressed() {
        for name in ["whole", "stamped", "stamped-crashed"] {
            let (engine, recovery) = with_segment(name);
            assert!(recovery.partitions.is_empty(), "{name}: {recovery:?}");
            assert_eq!(records(&engine), 5, "{name}");
        }
        let (engine, recovery) = with_segment("stamped-crashed-alone");
        assert_eq!((records(&engine), recovery.clean, recovery.partitions.len()), (4, false, 0));
        let (engine, recovery) = with_segment("torn");
        assert_eq!((records(&engine), recovery.partitions[0].end_offset), (3, 3));
        assert!(recovery.partitions[0].cut_bytes > 0 && recovery.partitions[0].damage.is_none());
        let (_, recovery) = with_segment("damaged-header");
        assert!(recovery.partitions[0].damage.is_some());
    }

    #[test]
    fn catalogues_are_found_as_they_were_dressed() {
        for name in ["whole", "stamped"] {
            let (mode, bytes) = seed("catalog_open", name);
            let (engine, recovery) = open(&disk_with_catalog(mode, &bytes)).unwrap();
            assert_eq!((records(&engine), recovery.clean, recovery.partitions.len()), (5, true, 0), "{name}");
        }
        let (mode, bytes) = seed("catalog_open", "damaged");
        let error = open(&disk_with_catalog(mode, &bytes)).map(|_| ()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
        // All its entries count, the last of which deletes the topic that the others are about.
        let (mode, bytes) = seed("catalog_open", "entries");
        let (engine, _) = open(&disk_with_catalog(mode, &bytes)).unwrap();
        assert_eq!((engine.topics(), records(&engine)), (Ok(vec!["t".to_owned()]), 5));
        let (engine, _) = open(&disk_with_catalog(mode, &bytes[..bytes.len() - 16])).unwrap();
        assert_eq!(engine.topics(), Ok(vec!["t".to_owned(), "u".to_owned()]));
    }
}
