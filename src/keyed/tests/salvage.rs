//! What is left of a damaged log, piece by piece: whole batches and holes. Only damage makes a hole.

use super::follow::beside;
use super::*;
use crate::format::{Attributes, BLOCK_BYTES};
use crate::keyed::salvage::Piece;
use crate::sim::Operation;

const FILE: &str = "data/catalog-1";

/// The numbers of the entries that are left, and of each hole where it begins.
fn pieces(disk: Arc<dyn Disk>) -> Result<(Vec<u64>, Vec<u64>)> {
    let (mut entries, mut holes) = (Vec::new(), Vec::new());
    let mut each = |piece: Piece<'_>| {
        match piece {
            Piece::Batch { body, .. } => entries.push(u64::from_le_bytes(*body.first_chunk().unwrap()) & !FILL),
            Piece::Hole(error) => holes.push(error.position().unwrap()),
        }
        Ok(())
    };
    KeyedLog::salvage(&disk, dir(), PREFIX, FileKind::Catalog, ENGINE, 0, &mut each)?;
    Ok((entries, holes))
}

/// Entries 1 to 5, of which all but the last are proven durable; the file's bytes, and where each begins.
fn sample() -> (SimDisk, Vec<u8>, Vec<u64>) {
    let disk = new_disk();
    let mut starts = vec![BLOCK_BYTES];
    let mut log = create(&disk).unwrap();
    for number in 2..=5 {
        starts.push(log.bytes());
        log.sync().unwrap();
        append(&mut log, number).unwrap();
    }
    let mut bytes = disk.read_file(FILE).unwrap();
    bytes.truncate(log.bytes() as usize);
    disk.write_file(FILE, &bytes).unwrap();
    (disk, bytes, starts)
}

#[test]
fn every_whole_batch_is_left_and_each_damaged_one_a_hole() {
    let (disk, mut bytes, starts) = sample();
    assert_eq!(pieces(Arc::new(disk.clone())), Ok((vec![1, 2, 3, 4, 5], vec![])));
    for damaged in [1, 3] {
        bytes[starts[damaged] as usize + 100] ^= 1;
    }
    disk.write_file(FILE, &bytes).unwrap();
    assert_eq!(pieces(Arc::new(disk.clone())), Ok((vec![1, 3, 5], vec![starts[1], starts[3]])));
    bytes[20] ^= 1;
    disk.write_file(FILE, &bytes).unwrap();
    assert_eq!(pieces(Arc::new(disk)), Ok((vec![], vec![0])));
}

#[test]
fn a_file_that_the_disk_can_not_read_has_no_hole() {
    let (disk, ..) = sample();
    for operation in [Operation::List, Operation::Open, Operation::Read] {
        disk.fail_next(operation, 5);
        assert_eq!(pieces(Arc::new(disk.clone())).unwrap_err().kind(), &ErrorKind::Io, "{operation:?}");
    }
    assert_eq!(pieces(Arc::new(disk)), Ok((vec![1, 2, 3, 4, 5], vec![])));
}

#[test]
fn a_batch_of_another_kind_is_a_hole_and_one_of_a_later_version_an_error() {
    let (disk, bytes, starts) = sample();
    let (header, at) = (FileHeader::decode(&bytes).unwrap(), starts[2]);
    let batch = BatchHeader::decode(&bytes[at as usize..], header.seed(), at, 1 << 20).unwrap();
    // A batch of records; one with a codec that isn't known.
    for (attributes, is_newer) in [(0, false), (4 << 4 | 1, true)] {
        let changed = BatchHeader { attributes: Attributes(attributes), ..batch };
        let mut crafted = bytes.clone();
        crafted[at as usize..][..BATCH_HEADER_BYTES].copy_from_slice(&changed.encode(header.seed(), at));
        disk.write_file(FILE, &crafted).unwrap();
        let found = pieces(Arc::new(disk.clone()));
        if is_newer {
            let error = found.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NewerFormat { .. }), "{error}");
            assert_eq!(error.position(), Some(at));
        } else {
            assert_eq!(found, Ok((vec![1, 2, 4, 5], vec![at])));
        }
    }
}

#[test]
fn what_a_live_writer_finishes_meanwhile_is_no_hole() {
    let (disk, bytes, starts) = sample();
    let mut unfinished = bytes.clone();
    unfinished[starts[2] as usize..starts[3] as usize].fill(0);
    // Open, the file's header, the batches, what lies behind the last that fits; then it is looked at once more.
    for step_of_writer in [3, 4, 100] {
        disk.write_file(FILE, &unfinished).unwrap();
        let (writers, whole) = (disk.clone(), bytes.clone());
        let shared = beside(&disk, move |step| {
            if step == step_of_writer {
                writers.write_file(FILE, &whole).unwrap();
            }
        });
        let expected = match step_of_writer {
            100 => (vec![1, 2, 4, 5], vec![starts[2]]),
            _ => (vec![1, 2, 3, 4, 5], vec![]),
        };
        assert_eq!(pieces(shared), Ok(expected), "finished before step {step_of_writer}");
    }
}
