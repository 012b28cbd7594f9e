//! What a segment knows of itself in memory, from its index file, and from its own headers.

use super::*;
use crate::segment::{index_path, read_index, write_index};
use crate::sim::Operation;

const BATCHES: u64 = 200;

/// Batch `number` is appended at 2,000 + `number`; its timestamp is 1,000 less.
fn noted(number: u64) -> BatchHeader {
    BatchHeader { appended_ms: 2_000 + number as i64, ..batch(number, 1_000 + number as i64) }
}

fn times(segment: &Segment) -> (i64, i64) {
    (segment.max_timestamp(), segment.appended_ms())
}

#[test]
fn times_are_those_of_the_whole_segment_once_it_was_read() {
    let disk = SimDisk::new();
    write(&disk, (0..BATCHES).map(|number| noted(if number == 0 { 500 } else { number })));
    let views = views_of(8);
    // The batches before the fortieth are of an earlier life.
    let segment = segment(position_of(BATCHES), (SegmentIndex::new(INTERVAL_BYTES), position_of(40)));
    assert_eq!(times(&segment), (i64::MIN, i64::MIN));
    for number in 40..BATCHES {
        segment.note(&noted(number), position_of(number));
        assert_eq!(times(&segment), (1_000 + number as i64, 2_000 + number as i64));
    }
    assert!(!segment.knows_times());
    segment.complete_times(&disk, &views);
    assert!(segment.knows_times());
    assert_eq!(times(&segment), (1_500, 2_500));
    // A lookup by time has to look inside, whatever it is looking for.
    segment.forget_times();
    assert_eq!(times(&segment), (i64::MAX, i64::MAX));
}

/// Two headers are damaged, one behind the other; the batch with the greatest times follows.
#[test]
fn damage_hides_nothing_that_lies_behind_it() {
    let disk = SimDisk::new();
    let file = write(&disk, (0..40).map(|number| noted(if number == 12 { 500 } else { number })));
    for damaged in [10, 11] {
        file.write_at(&[IoSlice::new(&[0xff])], position_of(damaged) + 16).unwrap();
    }
    let views = views_of(8);
    let segment = Arc::new(Segment::new(parts(position_of(40))));
    assert_eq!(segment.position_at_or_before(1_009, &disk, &views).unwrap(), BLOCK_BYTES);
    assert_eq!(times(&segment), (1_500, 2_500));
}

/// The file's index has one entry only, and nearer ones are gathered: so it shows which was asked.
#[test]
fn the_index_file_is_asked_of_a_sealed_segment_and_of_no_other() {
    let disk = SimDisk::new();
    write(&disk, (0..BATCHES).map(noted));
    let views = views_of(8);
    let mut with_one_entry = SegmentIndex::new(150 * BATCH_BYTES);
    let mut gathered = SegmentIndex::new(INTERVAL_BYTES);
    for number in 0..BATCHES {
        with_one_entry.note(number as u32, position_of(number) as u32, noted(number).max_timestamp);
        gathered.note(number as u32, position_of(number) as u32, noted(number).max_timestamp);
    }
    disk.write_file(index_path(Path::new(PATH)), with_one_entry.encode(&example_header())).unwrap();
    let last = 1_000 + BATCHES - 1;

    let segment = Arc::new(Segment::new(parts(position_of(BATCHES))));
    let found = segment.position_at_or_before(last, &disk, &views).unwrap();
    assert_eq!(found, position_of(172), "what is written beyond its index, the file doesn't know");
    segment.seal(last + 1);
    assert_eq!(segment.encode_index(), Some(gathered.encode(&example_header())));
    assert_eq!(segment.position_at_or_before(last, &disk, &views).unwrap(), found);
    segment.forget_index();
    assert_eq!(segment.encode_index(), None);
    assert_eq!(segment.position_at_or_before(last, &disk, &views).unwrap(), position_of(150));
}

/// It would be taken for one of the whole segment.
#[test]
fn an_index_of_a_part_is_not_written() {
    let disk = SimDisk::new();
    write(&disk, (0..BATCHES).map(noted));
    let segment = segment(position_of(BATCHES), (SegmentIndex::new(INTERVAL_BYTES), position_of(40)));
    for number in 40..BATCHES {
        segment.note(&noted(number), position_of(number));
    }
    assert_eq!(segment.encode_index(), None);
    segment.complete_times(&disk, &views_of(8));
    assert!(segment.encode_index().is_some());
}

const INDEX: &str = "data/00000000000000001000.index";

/// An index file with so many entries.
fn index_file(entries: u32) -> Vec<u8> {
    let mut index = SegmentIndex::new(8);
    for number in 0..=entries {
        index.note(number, BLOCK_BYTES as u32 + number * 8, 1_000);
    }
    index.encode(&example_header())
}

#[test]
fn an_index_file_is_read_up_to_the_size_that_one_can_have() {
    const MOST: u32 = 1 << 20;
    let disk = SimDisk::new();
    let read = |bytes: &[u8]| {
        disk.write_file(INDEX, bytes).unwrap();
        let reads = disk.count(Operation::Read);
        let index = read_index(&disk, Path::new(INDEX), &example_header(), 8);
        (index.map(|index| index.encode(&example_header()) == bytes), disk.count(Operation::Read) - reads)
    };
    let bytes = index_file(MOST + 1);
    assert_eq!(read(&bytes), (None, 0), "it isn't even brought into memory");
    assert_eq!(read(&bytes[..bytes.len() - 24]), (Some(true), 1));
    assert_eq!(read(&index_file(3)), (Some(true), 1));
    disk.remove_file(INDEX).unwrap();
    assert!(read_index(&disk, Path::new(INDEX), &example_header(), 8).is_none());
}

#[test]
fn an_index_file_that_can_not_be_written_leaves_the_one_before() {
    const EIO: i32 = 5;
    let disk = SimDisk::new();
    let (before, after) = (index_file(2), index_file(3));
    let temporary = "data/00000000000000001000.index.tmp";
    for failing in [Operation::Unlink, Operation::Create, Operation::Write, Operation::Rename] {
        disk.write_file(INDEX, &before).unwrap();
        disk.write_file(temporary, b"left by an earlier life").unwrap();
        disk.fail_next(failing, EIO);
        let error = write_index(&disk, Path::new(INDEX), &after).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(EIO), "{failing:?}");
        assert!(disk.read_file(INDEX).unwrap() == before, "{failing:?}");
        write_index(&disk, Path::new(INDEX), &after).unwrap();
        assert!(disk.read_file(INDEX).unwrap() == after, "{failing:?}");
        disk.read_file(temporary).unwrap_err();
    }
}
