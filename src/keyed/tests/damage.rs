//! Damage and torn tails: every byte of a log cut, zeroed, and flipped. Below the evidence that is
//! an error that names the place and changes nothing; above it the whole batches before it count.

use super::*;
use crate::format::BLOCK_BYTES;
use crate::format::{Attributes, BatchKind, FormatError, crc};
use crate::sim::CrashPolicy;

/// A log of six entries of which all but the last are proven durable, the file's bytes, and where
/// its batches end.
fn sample() -> (SimDisk, Vec<u8>, Vec<u64>) {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    let mut ends = vec![log.bytes()];
    for number in 2..=6 {
        if number == 6 {
            log.sync().unwrap();
        }
        append(&mut log, number).unwrap();
        ends.push(log.bytes());
    }
    log.sync().unwrap();
    let bytes = bytes_of(&disk, &log);
    (disk, bytes, ends)
}

/// The file, without most of what is allocated behind its end: nothing to search there.
fn bytes_of(disk: &SimDisk, log: &KeyedLog) -> Vec<u8> {
    let mut bytes = disk.read_file("data/catalog-1").unwrap();
    bytes.truncate(log.bytes() as usize + 600);
    bytes
}

/// How many whole batches lie below `position`.
fn whole(ends: &[u64], position: u64) -> u64 {
    ends.iter().filter(|&&end| end <= position).count() as u64
}

fn start_of_batch(ends: &[u64], position: u64) -> u64 {
    ends.iter().copied().filter(|&end| end <= position).max().unwrap_or(BLOCK_BYTES)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_there() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    let mut ends = vec![log.bytes()];
    for number in 2..=5 {
        append(&mut log, number).unwrap();
        ends.push(log.bytes());
    }
    let (bytes, end) = (bytes_of(&disk, &log), log.bytes());
    for at in BLOCK_BYTES..end {
        let mut ways = [bytes[..at as usize].to_vec(), with_rest(&bytes, at, 0), with_rest(&bytes, at, 0xa5)];
        ways.rotate_left(at as usize % 3);
        for torn in ways.into_iter().take(more(1, 3) as usize) {
            disk.write_file("data/catalog-1", &torn).unwrap();
            let count = whole(&ends, at);
            if count == 0 {
                // The first batch was synced before the file had its name.
                for access in [Access::Read, Access::Write] {
                    assert_corrupt(&open(&disk, access).unwrap_err(), 1, BLOCK_BYTES);
                }
                continue;
            }
            assert_eq!(map_of(&disk), after(count), "cut at {at}");
            let (mut opened, map) = open(&disk, Access::Write).unwrap().unwrap();
            assert_eq!(map, after(count), "cut at {at}");
            let position = ends[count as usize - 1];
            let written = torn.iter().rposition(|&byte| byte != 0).unwrap() as u64 + 1;
            let cut = (written > position).then(|| Cut {
                path: "data/catalog-1".into(),
                position,
                bytes: written - position,
            });
            assert_eq!(opened.cut, cut, "cut at {at}");
            if cut.is_some() {
                let error = append(&mut opened.log, 9).unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::InvalidArgument { .. }), "{error}");
            }
            opened.log.set_epoch(2);
            append(&mut opened.log, count + 1).unwrap();
            opened.log.sync().unwrap();
            // What an earlier life left behind the new batch neither counts nor proves anything.
            assert_eq!(map_of(&disk), after(count + 1), "cut at {at}");
        }
    }
}

fn with_rest(bytes: &[u8], at: u64, byte: u8) -> Vec<u8> {
    let mut torn = bytes.to_vec();
    torn[at as usize..].fill(byte);
    torn
}

#[test]
fn a_flipped_bit_is_never_another_entry() {
    let (disk, bytes, ends) = sample();
    let evidence = ends[4];
    for at in (0..512).chain(BLOCK_BYTES..ends[5]) {
        let mut flipped = bytes.clone();
        flipped[at as usize] ^= 1 << (at % 8);
        disk.write_file("data/catalog-1", &flipped).unwrap();
        if at < BLOCK_BYTES || at < evidence {
            let position = if at < BLOCK_BYTES { 0 } else { start_of_batch(&ends, at) };
            for access in [Access::Read, Access::Write] {
                assert_corrupt(&open(&disk, access).unwrap_err(), 1, position);
            }
            assert_eq!(disk.read_file("data/catalog-1").unwrap(), flipped, "byte {at}");
        } else {
            let (opened, map) = open(&disk, Access::Write).unwrap().unwrap();
            assert_eq!(map, after(5), "byte {at}");
            let cut = opened.cut.unwrap();
            assert_eq!((cut.position, cut.bytes), (ends[4], ends[5] - ends[4]), "byte {at}");
        }
    }
}

#[test]
fn a_missing_piece_below_the_evidence_is_corrupt() {
    let (disk, bytes, ends) = sample();
    // A zeroed batch, a batch moved to another's place, a file cut within its header.
    let mut zeroed = bytes.clone();
    zeroed[ends[1] as usize..ends[2] as usize].fill(0);
    let mut moved = bytes.clone();
    moved.copy_within(ends[1] as usize..ends[2] as usize, ends[0] as usize);
    for (damaged, position) in [(zeroed, ends[1]), (moved, ends[0]), (bytes[..300].to_vec(), 0), (Vec::new(), 0)] {
        disk.write_file("data/catalog-1", &damaged).unwrap();
        assert_corrupt(&open(&disk, Access::Write).unwrap_err(), 1, position);
    }
}

#[test]
fn a_damaged_newest_file_is_not_replaced_by_an_older_one() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    let old = disk.read_file("data/catalog-1").unwrap();
    rewrite(&mut log, &after(1)).unwrap();
    disk.write_file("data/catalog-1", &old).unwrap();
    let mut bytes = disk.read_file("data/catalog-2").unwrap();
    bytes[BLOCK_BYTES as usize + 100] ^= 1;
    disk.write_file("data/catalog-2", &bytes).unwrap();
    for access in [Access::Read, Access::Write] {
        assert_corrupt(&open(&disk, access).unwrap_err(), 2, BLOCK_BYTES);
    }
    assert_eq!(names(&disk), ["catalog-1", "catalog-2"]);
}

#[test]
fn foreign_and_newer_files_are_called_so() {
    let (disk, bytes, _) = sample();
    let foreign = [
        open_as(&disk, FileKind::Offsets, Some(ENGINE), Access::Read),
        open_as(&disk, FileKind::Catalog, Some(EngineId([4; 16])), Access::Read),
    ];
    for result in foreign {
        assert!(matches!(result.unwrap_err().kind(), ErrorKind::Foreign { .. }));
    }
    let newer = |result: Result<Option<(Opened, Map)>>, position| {
        let error = result.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NewerFormat { .. }), "{error}");
        assert_eq!(error.position(), Some(position));
    };
    let mut header = bytes.clone();
    header[8] = 2;
    let crc = crc(&[&header[..12], &header[16..512]].concat());
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    disk.write_file("data/catalog-1", &header).unwrap();
    newer(open(&disk, Access::Write), 0);
    // Batches with right checksums: one with a codec, one of a kind that has no business here.
    for (attributes, is_newer) in [(4 << 4 | 1, true), (1 << 9, true), (0, false), (5 << 4, false)] {
        let (log, header) = (FileHeader::decode(&bytes).unwrap(), BLOCK_BYTES as usize);
        let first = BatchHeader::decode(&bytes[header..], log.seed(), BLOCK_BYTES, 1 << 20).unwrap();
        let changed = BatchHeader { attributes: Attributes(attributes), ..first };
        let mut crafted = bytes.clone();
        crafted[header..header + 96].copy_from_slice(&changed.encode(log.seed(), BLOCK_BYTES));
        disk.write_file("data/catalog-1", &crafted).unwrap();
        if is_newer {
            newer(open(&disk, Access::Read), BLOCK_BYTES);
        } else {
            assert_corrupt(&open(&disk, Access::Read).unwrap_err(), 1, BLOCK_BYTES);
        }
    }
}

#[test]
fn filler_between_batches_means_nothing() {
    let (disk, mut bytes, ends) = sample();
    let header = FileHeader::decode(&bytes).unwrap();
    let at = ends[5] as usize;
    let filler = BatchHeader {
        offset_count: 0,
        record_count: 0,
        attributes: Attributes::new(BatchKind::Filler),
        length: 512,
        body_crc: crc(&[0; 416]),
        base_offset: 6,
        ..BatchHeader::decode(&bytes[ends[4] as usize..], header.seed(), ends[4], 1 << 20).unwrap()
    };
    bytes[at..at + 96].copy_from_slice(&filler.encode(header.seed(), ends[5]));
    disk.write_file("data/catalog-1", &bytes).unwrap();
    let (mut opened, map) = open(&disk, Access::Write).unwrap().unwrap();
    assert_eq!((opened.cut, map, opened.log.bytes()), (None, after(6), ends[5] + 512));
    append(&mut opened.log, 7).unwrap();
    assert_eq!(map_of(&disk), after(7));
}

#[test]
fn an_error_of_the_replay_names_the_place() {
    let (disk, _, ends) = sample();
    let mut count = 0;
    let mut replay = |_: &BatchHeader, _: &[u8]| {
        count += 1;
        if count == 3 { Err(refused(FormatError::Invalid("nonsense".into()))) } else { Ok(()) }
    };
    let opened = KeyedLog::open(Arc::new(disk), dir(), PREFIX, FileKind::Catalog, None, Access::Write, &mut replay);
    assert_corrupt(&opened.unwrap_err(), 1, ends[1]);
}

#[test]
fn opening_twice_changes_nothing_the_second_time() {
    let (disk, bytes, _) = sample();
    let mut torn = bytes;
    let end = torn.iter().rposition(|&byte| byte != 0).unwrap();
    torn[end - 20..].fill(0);
    disk.write_file("data/catalog-1", &torn).unwrap();
    let first = open(&disk, Access::Write).unwrap().unwrap();
    let second = open(&disk, Access::Write).unwrap().unwrap();
    assert_eq!((first.0.cut, first.1), (second.0.cut, second.1));
    assert_eq!(disk.read_file("data/catalog-1").unwrap(), torn);
    assert_eq!(disk.crash(CrashPolicy::PowerLoss).read_file("data/catalog-1").unwrap(), torn);
}
