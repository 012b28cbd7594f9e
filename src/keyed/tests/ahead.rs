//! What is kept behind a log's end: blocks, so that appends work on a full disk, and zeros in them, so that
//! the next batches cost less. Zeros show in what they take the place of: junk, put there behind the log's back.

use std::ops::Range;

use super::*;
use crate::format::{BLOCK_BYTES, MAX_OFFSET};
use crate::keyed::ahead::AHEAD_BYTES;
use crate::keyed::file::{allocation_for, check_batch_length};
use crate::sim::{Operation, Repeat};

const FILE: &str = "data/catalog-1";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Eight of them fill a block.
const BATCH: u64 = 512;

fn body_of(batch_bytes: u64) -> Vec<u8> {
    vec![0xab; batch_bytes as usize - BATCH_HEADER_BYTES]
}

fn append_bytes(log: &mut KeyedLog, batch_bytes: u64) -> Result<()> {
    log.append(&body_of(batch_bytes), 1, 20)
}

/// A log whose first batch, with which it is made, has so many bytes.
fn log_of(batch_bytes: u64) -> (SimDisk, KeyedLog) {
    let disk = new_disk();
    let shared = Arc::new(disk.clone());
    let log = KeyedLog::create(shared, dir(), PREFIX, FileKind::Catalog, ENGINE, 1, 10, &body_of(batch_bytes), 1);
    (disk, log.unwrap())
}

fn length(disk: &SimDisk) -> u64 {
    disk.read_file(FILE).unwrap().len() as u64
}

/// Has zeros written, once, and says where.
fn zeros(disk: &SimDisk, log: &mut KeyedLog) -> Option<Range<u64>> {
    let mut bytes = disk.read_file(FILE).unwrap();
    let end = log.bytes() as usize;
    bytes[end..].fill(0xa5);
    disk.write_file(FILE, &bytes).unwrap();
    let is_written = log.write_ahead();
    let after = disk.read_file(FILE).unwrap();
    let zeroed: Vec<u64> = (0..after.len() as u64).filter(|&at| after[at as usize] != bytes[at as usize]).collect();
    assert_eq!((after.len(), is_written), (bytes.len(), !zeroed.is_empty()));
    let range = *zeroed.first()?..zeroed.last()? + 1;
    assert!(after[range.start as usize..range.end as usize].iter().all(|&byte| byte == 0));
    Some(range)
}

#[test]
fn zeros_are_written_for_32_batches_like_the_last_and_again_when_two_are_left() {
    let (disk, mut log) = log_of(BATCH);
    append_bytes(&mut log, BATCH).unwrap();
    assert!(log.wants_zeros());
    // From the first whole block behind 5,120 to the end of the one in which the last of them would end.
    assert_eq!(zeros(&disk, &mut log), Some(8_192..24_576));
    assert_eq!(zeros(&disk, &mut log), None);
    while log.bytes() + 2 * BATCH <= 24_576 {
        assert!(!log.wants_zeros(), "{}", log.bytes());
        append_bytes(&mut log, BATCH).unwrap();
    }
    assert!(log.wants_zeros());
    assert_eq!(zeros(&disk, &mut log), Some(24_576..40_960));
    // It depends on the last batch how much two are.
    assert!(!log.wants_zeros());
    append_bytes(&mut log, 8_192).unwrap();
    assert!(log.bytes() + 8_192 < 40_960 && log.wants_zeros());
    // Behind a compaction there are none.
    log.rewrite(&[(body_of(BATCH), 1)], 30).unwrap();
    assert!(log.wants_zeros());
}

#[test]
fn zeros_are_written_in_pieces_and_never_where_no_blocks_are_reserved() {
    let (disk, mut log) = log_of(BATCH);
    append_bytes(&mut log, 100 << 10).unwrap();
    let (from, end) = (log.bytes().next_multiple_of(BLOCK_BYTES), length(&disk));
    let mut at = from;
    while at < end {
        assert!(log.wants_zeros());
        let to = end.min(at + (32 << 10));
        assert_eq!(zeros(&disk, &mut log), Some(at..to));
        at = to;
    }
    assert!(end - from > 64 << 10, "{from} to {end}");
    assert!(!log.wants_zeros());
    assert_eq!((zeros(&disk, &mut log), length(&disk)), (None, end));
}

#[test]
fn zeros_are_for_a_log_that_is_appended_to_and_works() {
    // Just made.
    let (disk, mut log) = log_of(BATCH);
    assert_eq!(zeros(&disk, &mut log), None);
    // An error is none of the log's, and the zeros aren't tried again.
    append_bytes(&mut log, BATCH).unwrap();
    disk.fail_next(Operation::Write, EIO);
    assert!(log.write_ahead());
    assert_eq!((zeros(&disk, &mut log), log.wants_zeros()), (None, false));
    append_bytes(&mut log, BATCH).unwrap();
    // One that failed is left as it is.
    let (disk, mut log) = log_of(BATCH);
    append_bytes(&mut log, BATCH).unwrap();
    disk.fail_next(Operation::Sync, EIO);
    log.sync().unwrap_err();
    assert_eq!(zeros(&disk, &mut log), None);
}

#[test]
fn blocks_are_reserved_in_steps_that_grow_with_the_log() {
    assert_eq!(allocation_for(4_096), 4_096 + (64 << 10) + 4_096);
    assert_eq!(allocation_for(8 << 20), (8 << 20) + (64 << 10) + (1 << 20));
    assert_eq!(allocation_for(1 << 30), (1 << 30) + (64 << 10) + (4 << 20));
    let (disk, mut log) = log_of(BATCH);
    let (reserved, before) = (length(&disk), disk.count(Operation::Allocate));
    while log.bytes() + BATCH + AHEAD_BYTES <= reserved {
        append_bytes(&mut log, BATCH).unwrap();
        assert_eq!(disk.count(Operation::Allocate), before, "{}", log.bytes());
    }
    append_bytes(&mut log, BATCH).unwrap();
    assert_eq!((disk.count(Operation::Allocate), length(&disk)), (before + 1, allocation_for(log.bytes())));
}

#[test]
fn blocks_that_are_there_are_used_up_when_there_are_no_more() {
    let (disk, mut log) = log_of(BATCH);
    let reserved = length(&disk);
    disk.fail_after(0, Operation::Allocate, ENOSPC, Repeat::Forever);
    while log.bytes() < reserved {
        append_bytes(&mut log, BATCH).unwrap();
    }
    assert_eq!(append_bytes(&mut log, BATCH).unwrap_err().kind(), &ErrorKind::NoRoom);
    assert_eq!((log.bytes(), length(&disk)), (reserved, reserved));
    disk.clear_faults();
    append_bytes(&mut log, BATCH).unwrap();
}

#[test]
fn a_batch_is_at_most_1_gib_long_and_ends_at_the_last_offset() {
    let body_bytes = (1 << 30) - BATCH_HEADER_BYTES;
    check_batch_length(body_bytes, 1).unwrap();
    for longer in [8, 1 << 30, 1 << 33] {
        let error = check_batch_length(body_bytes + longer, 1).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidArgument { .. }), "{error}");
    }
    let header = |next_offset, entries| {
        let end = Place { position: BLOCK_BYTES, next_offset, epoch: 1 };
        batch_header(FileKind::Catalog, end, 0, &[0; 8], entries, 1)
    };
    assert_eq!(header(MAX_OFFSET - 3, 3).unwrap().end_offset(), MAX_OFFSET);
    for (next_offset, entries) in [(MAX_OFFSET - 3, 4), (MAX_OFFSET, 1), (MAX_OFFSET - 1, u32::MAX)] {
        let error = header(next_offset, entries).unwrap_err();
        assert!(error.to_string().contains("offsets are used up"), "{error}");
    }
}
