//! From one segment to the next: the file made ahead of need, and a roll that does not come about.

use std::path::PathBuf;

use super::*;
use crate::partition::FileChore;
use crate::sim::{CrashPolicy, Repeat};

/// How many times it was asked for the next segment's file; the chores are done with.
fn asked(writing: &Writing) -> usize {
    let chores = &writing.bare.partition.env.chores;
    std::iter::from_fn(|| chores.next_file_chore())
        .filter(|chore| matches!(chore, FileChore::Prepare { bytes, .. } if *bytes == 1 << 20))
        .count()
}

#[test]
fn the_next_file_is_asked_for_once_when_an_eighth_is_full_and_the_rest_lasts_for_seconds() {
    for (seconds, expected) in [(0, [0, 1, 0]), (2, [0, 0, 1]), (4, [0, 0, 1]), (60, [0, 0, 0])] {
        let mut writing = Writing::of(1 << 20);
        writing.write(10);
        writing.bare.clock.advance(Duration::from_secs(seconds));
        let asked = [100_000, 40_000, 500_000].map(|bytes| {
            writing.write(bytes);
            asked(&writing)
        });
        assert_eq!(asked, expected, "after {seconds} s");
    }
}

#[test]
fn the_next_file_is_asked_for_when_just_an_eighth_is_full() {
    for (bytes, expected) in [((128 << 10) - 8, 0), (128 << 10, 1)] {
        let mut writing = Writing::of(1 << 20);
        writing.write(value_of_batch(bytes - BLOCK_BYTES));
        assert_eq!((writing.active().position, asked(&writing)), (bytes, expected));
    }
}

#[test]
fn a_roll_takes_the_file_that_was_made_ahead() {
    // It has a name only where each file has one: nobody who copies the directory sees it vanish.
    for unnamed in [true, false] {
        takes_the_file_that_was_made_ahead(unnamed);
    }
}

fn takes_the_file_that_was_made_ahead(unnamed: bool) {
    let mut writing = Writing::of(64 << 10);
    let disk = writing.bare.disk.clone();
    disk.set_unnamed_files(unnamed);
    writing.write(50_000);
    for _ in 0..2 {
        prepare_next(&writing.bare.partition, 128 << 10);
    }
    assert_eq!(disk.list_files().contains(&PathBuf::from("0").join(PREPARED_NAME)), !unnamed);
    let made = disk.count(Operation::Create);
    writing.write(50_000);
    assert_eq!(disk.count(Operation::Create), made);
    assert_eq!((writing.active().allocated, writing.active().step_bytes), (128 << 10, 256 << 10));
    assert_eq!(disk.list_files().len(), 2);
    writing.write(50_000);
    assert_eq!(disk.count(Operation::Create), made + 1);
    assert_eq!(writing.bare.partition.segment_count(), 3);
}

#[test]
fn the_steps_after_a_large_file_made_ahead_are_no_longer_than_the_longest() {
    for (made, step) in [(LAST_STEP_BYTES / 4, LAST_STEP_BYTES / 2), (LAST_STEP_BYTES, LAST_STEP_BYTES)] {
        let mut writing = Writing::of(None);
        prepare_next(&writing.bare.partition, made);
        writing.write(10);
        assert_eq!((writing.active().allocated, writing.active().step_bytes), (made, step));
    }
}

#[test]
fn a_file_made_ahead_takes_no_more_than_its_part_of_the_room() {
    for (room, expected) in [(64 << 26, 64 << 20), ((64 << 24) - 1, LAST_STEP_BYTES)] {
        let mut writing = Writing::of(None);
        let disk = writing.bare.disk.clone();
        disk.set_capacity(disk.used_bytes() + room);
        prepare_next(&writing.bare.partition, 64 << 20);
        writing.write(10);
        assert_eq!(writing.active().allocated, expected, "with room for {room} bytes");
    }
}

#[test]
fn a_file_made_ahead_is_gone_with_the_writer_and_none_is_made_after_it() {
    let mut writing = Writing::of(64 << 10);
    prepare_next(&writing.bare.partition, 64 << 10);
    writing.writer.end(false);
    writing.turn();
    assert!(writing.writer.is_done());
    prepare_next(&writing.bare.partition, 64 << 10);
    assert_eq!(writing.bare.disk.list_files(), Vec::<PathBuf>::new());
}

#[test]
fn what_a_roll_left_that_failed_is_made_anew() {
    let mut writing = Writing::of(None);
    let disk = writing.bare.disk.clone();
    disk.set_unnamed_files(false);
    disk.write_file(PathBuf::from("0").join(NEXT_NAME), b"left").unwrap();
    writing.write(10);
    assert_eq!((writing.bare.ends().0, disk.list_files().len()), (1, 1));
    assert_eq!(writing.whole(), 1);
}

#[test]
fn a_roll_that_finds_no_room_leaves_nothing_and_is_tried_again() {
    for operation in [Operation::Create, Operation::Allocate, Operation::Write, Operation::Rename] {
        let mut writing = Writing::of(64 << 10);
        let disk = writing.bare.disk.clone();
        writing.write(50_000);
        let files = disk.list_files();
        disk.fail_next(operation, ENOSPC);
        writing.write(50_000);
        assert_eq!((writing.bare.ends().0, disk.errors_given()), (1, 1), "{operation:?}");
        assert!(!writing.bare.partition.progress.is_failed());
        assert_eq!(disk.list_files(), files);
        writing.write(50_000);
        assert_eq!(writing.bare.ends().0, 2);
        assert_eq!(writing.active().segment.base_offset(), 1);
        assert_eq!(writing.whole(), 2);
    }
}

#[test]
fn a_segment_names_the_one_before_it_whatever_was_set_aside_between() {
    let mut writing = Writing::of(64 << 10);
    let disk = writing.bare.disk.clone();
    writing.write(50_000);
    let first = writing.active().segment.header().clone();
    assert_eq!(first.previous, Previous::default());
    let previous = Previous {
        file_id: first.file_id,
        base_offset: 0,
        end_offset: 1,
        length: BLOCK_BYTES + batch_bytes(50_000),
        appended_ms: writing.now().wall_ms,
        max_timestamp: 0,
    };
    // Its file is made, and there is no room in it for its batch.
    disk.fail_after(1, Operation::Allocate, ENOSPC, Repeat::Forever);
    writing.write(100_000);
    disk.clear_faults();
    let empty = writing.active().segment.header().clone();
    assert_eq!((empty.base_offset, empty.previous), (1, previous));
    writing.write(200_000);
    let second = writing.active().segment.header().clone();
    assert_eq!((second.base_offset, second.previous), (1, previous));
    assert_ne!(second.file_id, empty.file_id);
    assert_eq!((writing.bare.ends().0, writing.whole()), (2, 2));
}

/// The earlier life's last segment got no batch and is too small for this one's first: another takes its place.
#[test]
fn d1_the_first_sync_covers_what_lies_before_a_segment_that_was_set_aside() {
    let mut writing = Writing::of(64 << 10);
    writing.write(50_000);
    writing.bare.disk.fail_after(1, Operation::Allocate, ENOSPC, Repeat::Forever);
    writing.write(100_000);
    assert_eq!((writing.active().segment.base_offset(), writing.bare.ends()), (1, (1, 0)));
    let mut writing = writing.after(CrashPolicy::Kill);
    assert_eq!((writing.active().segment.base_offset(), writing.writer.tail.len()), (1, 2));
    writing.write(200_000);
    assert_eq!(writing.bare.partition.segment_count(), 2);
    writing.bare.partition.want_sync(2);
    writing.turn();
    writing.end_syncs();
    assert_eq!(writing.bare.ends(), (2, 2), "{:?}", writing.bare.partition.stopped());
    assert_eq!(writing.after(CrashPolicy::PowerLoss).bare.ends().0, 2);
}

/// A partition whose segments are sealed after ten seconds, with one record.
fn of_ten_seconds() -> Writing {
    let topic = TopicConfig::default().segment_ms(Some(10_000));
    let mut writing = Writing::new(EngineConfig::default(), topic, 0);
    writing.write(10);
    writing
}

impl Writing {
    /// What the upkeep does, and the writer's next turn.
    fn seal_by_age(&mut self) -> usize {
        self.bare.partition.seal_by_age(self.now().wall_ms);
        self.turn();
        self.bare.partition.segment_count()
    }
}

#[test]
fn an_old_segment_is_sealed_without_a_batch_once_and_only_if_it_still_is_old() {
    let mut writing = of_ten_seconds();
    writing.bare.clock.advance(Duration::from_millis(9_999));
    assert_eq!(writing.seal_by_age(), 1);
    writing.bare.clock.advance(Duration::from_millis(1));
    assert_eq!(writing.seal_by_age(), 2);
    assert_eq!((writing.active().segment.base_offset(), writing.bare.ends().0), (1, 1));
    writing.bare.clock.advance(Duration::from_secs(100));
    assert_eq!(writing.seal_by_age(), 2, "it holds no record");
    writing.write(10);
    assert_eq!((writing.active().segment.base_offset(), writing.bare.ends().0, writing.whole()), (1, 2, 2));
    // A batch came between the look and the turn.
    writing.bare.clock.advance(Duration::from_secs(10));
    writing.bare.send(10, false);
    assert_eq!(writing.seal_by_age(), 3);
    assert_eq!((writing.active().segment.base_offset(), writing.bare.ends().0), (2, 3));
}

#[test]
fn a_segment_that_can_not_be_sealed_by_its_age_is_told_and_tried_again() {
    for operation in [Operation::Create, Operation::Allocate, Operation::Write, Operation::Rename] {
        let mut writing = of_ten_seconds();
        writing.bare.clock.advance(Duration::from_secs(10));
        writing.bare.disk.fail_next(operation, ENOSPC);
        assert_eq!(writing.seal_by_age(), 1, "{operation:?}");
        let failures = writing.bare.partition.env.events.failures();
        assert_eq!((failures[0].what, failures[0].count), ("sealing an old segment", 1));
        assert!(!writing.bare.partition.progress.is_failed());
        assert_eq!(writing.seal_by_age(), 2);
    }
}

/// Else what is too old would stay on a disk that is full.
#[test]
fn d4_after_a_half_done_write_a_segment_is_sealed_by_its_age_under_a_new_epoch() {
    let mut writing = of_ten_seconds();
    writing.bare.disk.fail_next(Operation::ShortWrite, ENOSPC);
    writing.write(10);
    assert_eq!(writing.bare.ends().0, 1);
    writing.bare.clock.advance(Duration::from_secs(10));
    assert_eq!(writing.seal_by_age(), 2);
    assert_eq!(writing.active().segment.header().epoch, 2);
    writing.write(10);
    assert_eq!((writing.bare.ends().0, writing.bare.partition.segment_count(), writing.whole()), (2, 2, 2));
}

/// Else a topic would keep many times its limit: only whole segments are dropped.
#[test]
fn a_segment_is_no_larger_than_a_quarter_of_the_bytes_that_are_kept() {
    let topic = TopicConfig::default().retention_bytes(Some(1 << 20));
    let mut writing = Writing::new(EngineConfig::default(), topic, 0);
    writing.write(value_of_batch((256 << 10) - BLOCK_BYTES));
    assert_eq!((writing.active().position, writing.bare.partition.segment_count()), (256 << 10, 1));
    writing.write(10);
    assert_eq!((writing.active().segment.base_offset(), writing.bare.partition.segment_count()), (1, 2));
    assert_eq!(writing.active().segment.reserved_bytes(), 256 << 10);
    let kept = |bytes| TopicConfig::default().retention_bytes(Some(bytes)).sealed_at_bytes();
    assert_eq!([0, 256 << 10, 1 << 30, u64::MAX].map(kept), [64 << 10, 64 << 10, 256 << 20, 256 << 20]);
}
