//! Where a segment is full, and how far blocks are reserved.

use super::*;
use crate::format::BatchKind;
use crate::sim::Repeat;

/// The header of a batch that is to be placed.
fn draft(base_offset: u64, length: u64) -> BatchHeader {
    BatchHeader {
        length: length as u32,
        base_offset,
        offset_count: 1,
        record_count: 1,
        ..BatchHeader::of(BatchKind::Records, &[])
    }
}

#[test]
fn a_segment_ends_where_its_bytes_its_offsets_or_its_time_end() {
    let topic = TopicConfig::default().segment_bytes(64 << 10).segment_ms(Some(5_000));
    let mut writing = Writing::new(EngineConfig::default(), topic, 100);
    writing.write(10);
    let now = writing.now();
    let at = |draft: BatchHeader, pending: u64, now: Now| {
        writing.writer.needs_roll(&draft, &Pending { bytes: pending, ..Pending::default() }, now)
    };
    let left = (64 << 10) - BLOCK_BYTES - batch_bytes(10);
    assert_eq!([left - 8, left, left + 8].map(|length| at(draft(101, length), 0, now)), [false, false, true]);
    assert_eq!([0, 800, 808].map(|pending| at(draft(101, left - 800), pending, now)), [false, false, true]);
    let last = 100 + u64::from(u32::MAX);
    // A batch ends behind its offset: the last that fits begins one before.
    assert_eq!([101, last - 1, last, last + 1].map(|base| at(draft(base, 64), 0, now)), [false, false, true, true]);
    let later = |ms: i64| Now { wall_ms: now.wall_ms + ms, ..now };
    assert_eq!([-1, 4_999, 5_000].map(|ms| at(draft(101, 64), 0, later(ms))), [false, false, true]);
}

/// A writer whose first batch, of the size given, got a file and no room in it; and how long the file may be.
fn with_an_empty_segment(bytes: usize) -> (Writing, u64) {
    let mut writing = Writing::of(64 << 10);
    // The first blocks are reserved with the file.
    writing.bare.disk.fail_after(1, Operation::Allocate, ENOSPC, Repeat::Once);
    writing.write(bytes);
    assert_eq!(writing.bare.ends(), (0, 0));
    assert_eq!(writing.active().position, BLOCK_BYTES);
    let reserved_bytes = writing.active().segment.reserved_bytes();
    (writing, reserved_bytes)
}

#[test]
fn an_empty_segment_takes_what_its_reserved_length_holds() {
    // Longer than segments are meant to be.
    let exact = value_of_batch(96 << 10);
    let (mut writing, reserved_bytes) = with_an_empty_segment(exact);
    assert_eq!(reserved_bytes, (96 << 10) + BLOCK_BYTES);
    let now = writing.now();
    let rolls = [64, 95 << 10, 96 << 10, (96 << 10) + 8]
        .map(|length| writing.writer.needs_roll(&draft(0, length), &Pending::default(), now));
    assert_eq!(rolls, [false, false, false, true]);
    writing.write(exact);
    assert_eq!((writing.bare.ends().0, writing.active().position), (1, reserved_bytes));
    assert_eq!(writing.bare.disk.list_files().len(), 1);
}

#[test]
fn an_empty_segment_that_is_too_small_gives_way_to_another() {
    let (mut writing, reserved_bytes) = with_an_empty_segment(value_of_batch(80 << 10));
    writing.write(200_000);
    assert_eq!(writing.bare.ends().0, 1);
    let segment = &writing.active().segment;
    assert!(segment.published() > reserved_bytes && segment.published() <= segment.reserved_bytes());
    assert_eq!(writing.bare.partition.segment_count(), 1);
    assert_eq!(writing.bare.disk.list_files().len(), 2, "one is set aside");
}

#[test]
fn blocks_are_reserved_ahead_in_steps_that_double() {
    let mut writing = Writing::of(1 << 20);
    let disk = writing.bare.disk.clone();
    let mut asked = Vec::new();
    for bytes in [50_000, 60_000, 60_000, 40_000, 300_000, 500_000] {
        let before = disk.count(Operation::Allocate);
        writing.write(bytes);
        let active = writing.active();
        assert!(active.position <= active.allocated);
        assert_eq!(disk.read_file(active.segment.path()).unwrap().len() as u64, active.allocated);
        asked.push((disk.count(Operation::Allocate) - before, active.allocated >> 10));
    }
    assert_eq!(asked, [(1, 64), (1, 192), (0, 192), (1, 448), (1, 960), (1, 1_024)]);
}

#[test]
fn where_there_is_no_room_to_reserve_ahead_what_is_needed_does() {
    let mut writing = Writing::of(1 << 20);
    writing.write(50_000);
    let disk = writing.bare.disk.clone();
    disk.fail_next(Operation::Allocate, ENOSPC);
    writing.write(60_000);
    assert_eq!(writing.bare.ends().0, 2);
    let least = (BLOCK_BYTES + batch_bytes(50_000) + batch_bytes(60_000)).next_multiple_of(BLOCK_BYTES);
    assert_eq!(writing.active().allocated, least);
    disk.fail_after(0, Operation::Allocate, ENOSPC, Repeat::Forever);
    writing.write(60_000);
    assert_eq!(writing.bare.ends().0, 2, "there is none for that either");
    disk.clear_faults();
    writing.write(60_000);
    assert_eq!(writing.bare.ends().0, 3);
    assert_eq!(disk.list_files().len(), 1, "in the same file, as nothing was half written");
}

/// So many bytes unsynced begin a sync; also where that begins.
fn syncing_after(sync_bytes: u64, segment_bytes: u64) -> (Writing, u64) {
    let config = EngineConfig { sync_bytes, ..EngineConfig::default() };
    let mut writing = Writing::new(config, TopicConfig::default().segment_bytes(segment_bytes), 0);
    while !writing.writer.is_syncing() {
        writing.write(100_000);
    }
    let unsynced = writing.active().position - BLOCK_BYTES;
    (writing, unsynced)
}

#[test]
fn what_is_written_while_a_sync_is_under_way_was_reserved_before() {
    let (mut writing, unsynced) = syncing_after(1 << 20, 64 << 20);
    let disk = writing.bare.disk.clone();
    let Active { position, allocated, .. } = *writing.active();
    assert_eq!(allocated, (position + 4 * unsynced).next_multiple_of(BLOCK_BYTES));
    let asked = disk.count(Operation::Allocate);
    while writing.active().position + batch_bytes(100_000) <= allocated {
        writing.write(100_000);
    }
    assert_eq!(disk.count(Operation::Allocate), asked);
    // Not more than a segment, and nothing where a step is more.
    let (writing, _) = syncing_after(1 << 20, 2 << 20);
    assert_eq!(writing.active().allocated, 2 << 20);
    for (step_bytes, wanted_only) in [(64 << 20, false), (64 << 10, true)] {
        let (mut writing, unsynced) = syncing_after(1 << 20, 64 << 20);
        writing.end_syncs();
        let before = writing.active().allocated;
        let until = if wanted_only { unsynced / 2 } else { unsynced - batch_bytes(100_000) };
        while writing.writer.unsynced_bytes < until {
            writing.write(100_000);
        }
        writing.writer.active.as_mut().unwrap().step_bytes = step_bytes;
        if wanted_only {
            writing.bare.partition.want_sync(writing.bare.ends().0);
            writing.turn();
        } else {
            writing.write(100_000);
        }
        assert!(writing.writer.is_syncing());
        assert_eq!(writing.active().allocated, before, "{wanted_only}");
    }
    // What is being closed needs no more.
    let (mut writing, _) = syncing_after(1 << 20, 64 << 20);
    writing.end_syncs();
    let before = writing.active().allocated;
    for _ in 0..20 {
        writing.bare.send(100_000, false);
    }
    writing.writer.end(false);
    writing.turn();
    assert!(writing.writer.is_syncing());
    assert_eq!(writing.active().allocated, before);
}

#[test]
fn before_a_sync_only_a_part_of_the_room_there_is_is_reserved() {
    for (less, reserves) in [(0, true), (BLOCK_BYTES, false)] {
        let (mut writing, unsynced) = syncing_after(1 << 20, 64 << 20);
        writing.end_syncs();
        let before = writing.active().allocated;
        while writing.writer.unsynced_bytes + batch_bytes(100_000) < unsynced {
            writing.write(100_000);
        }
        let position = writing.active().position + batch_bytes(100_000);
        let to = (position + 4 * unsynced).next_multiple_of(BLOCK_BYTES);
        let disk = writing.bare.disk.clone();
        disk.set_capacity(disk.used_bytes() + ROOM_PART * (to - before) - less);
        writing.write(100_000);
        assert!(writing.writer.is_syncing());
        assert_eq!(writing.active().allocated, if reserves { to } else { before });
    }
}

#[test]
fn room_that_is_too_little_to_reserve_ahead_is_left_to_others() {
    const ROOM: u64 = 1 << 20;
    let (mut writing, _) = syncing_after(1 << 20, 64 << 20);
    let disk = writing.bare.disk.clone();
    let allocated = writing.active().allocated;
    let capacity = disk.used_bytes() + ROOM;
    disk.set_capacity(capacity);
    let mut syncs = 0;
    while writing.active().position + batch_bytes(100_000) <= allocated {
        writing.end_syncs();
        writing.write(100_000);
        syncs += u64::from(writing.writer.is_syncing());
        assert_eq!((writing.active().allocated, disk.used_bytes()), (allocated, capacity - ROOM));
    }
    assert!(syncs > 1, "before each there was too little");
    // Nor is there room for a step, but for what is written.
    writing.write(100_000);
    let Active { position, allocated, .. } = *writing.active();
    assert_eq!(allocated, position.next_multiple_of(BLOCK_BYTES));
    assert!(capacity - disk.used_bytes() >= ROOM - batch_bytes(100_000) - BLOCK_BYTES);
    assert_eq!(writing.whole(), writing.bare.ends().0);
}
