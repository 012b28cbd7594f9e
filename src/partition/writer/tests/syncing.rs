//! What a sync covers, and when it counts.

use super::*;
use crate::format::Mark;
use crate::partition::writer::sync::SEALED_MAX;
use crate::sim::Repeat;

/// With several files to sync: one sealed, the active one, the directory. Three records are written, the last while the
/// sync of the first two is under way.
fn over_two_segments() -> Writing {
    let mut writing = Writing::of(64 << 10);
    writing.write(40_000);
    writing.write(40_000);
    assert!(!writing.writer.is_syncing(), "a sealed segment alone makes no sync due");
    writing.bare.partition.want_sync(2);
    writing.turn();
    writing.write(10);
    assert_eq!((writing.bare.partition.segment_count(), writing.writer.sealed.len()), (2, 1));
    writing
}

/// Takes from the queue what it was given to sync.
fn ended(writing: &mut Writing) -> usize {
    let mut ended = Vec::new();
    writing.queue.finished(&mut ended);
    ended.len()
}

#[test]
fn d1_nothing_is_durable_before_all_files_are_synced() {
    // The second record began a segment. The sync covers no more than was written when it began.
    let mut writing = over_two_segments();
    let position = BLOCK_BYTES + batch_bytes(40_000);
    assert!(writing.writer.is_syncing());
    assert_eq!(ended(&mut writing), 3);
    for _ in 0..2 {
        writing.writer.synced(Ok(()));
        assert_eq!((writing.bare.ends(), writing.bare.partition.mark()), ((3, 0), None));
    }
    assert!(writing.writer.is_syncing());
    writing.writer.synced(Ok(()));
    assert_eq!(writing.bare.ends(), (3, 2));
    assert!(!writing.writer.is_syncing());
    let mark = Mark { epoch: 1, log_start_offset: 0, durable_offset: 2, segment_base_offset: 1, position };
    assert_eq!(writing.bare.partition.mark(), Some(mark));
    assert!(writing.writer.sealed.is_empty());
    // From then on there is one file.
    writing.bare.partition.want_sync(3);
    writing.turn();
    assert_eq!(ended(&mut writing), 1);
    writing.writer.synced(Ok(()));
    assert_eq!(writing.bare.ends(), (3, 3));
}

#[test]
fn so_many_sealed_files_make_a_sync_due() {
    let mut writing = Writing::of(64 << 10);
    for _ in 0..SEALED_MAX {
        assert!(!writing.writer.is_syncing());
        writing.write(40_000);
    }
    assert_eq!((writing.writer.sealed.len(), writing.writer.is_syncing()), (SEALED_MAX - 1, false));
    writing.write(40_000);
    assert!(writing.writer.is_syncing());
    assert_eq!(ended(&mut writing), SEALED_MAX + 2, "the active one and the directory too");
    for _ in 0..SEALED_MAX + 2 {
        let _ = writing.writer.synced(Ok(()));
    }
    assert_eq!((writing.bare.ends(), writing.writer.sealed.len()), ((9, 9), 0));
}

#[test]
fn d1_one_failed_sync_among_several_fails_the_partition() {
    for failing in 0..3 {
        let mut writing = over_two_segments();
        for at in 0..3 {
            let result = if at == failing { Err(std::io::Error::from_raw_os_error(EIO)) } else { Ok(()) };
            writing.writer.synced(result);
        }
        assert!(writing.bare.partition.progress.is_failed());
        assert!(writing.bare.told.load(crate::lock::Ordering::SeqCst), "the next life must know");
        assert_eq!((writing.bare.ends(), writing.bare.partition.mark()), ((3, 0), None));
        let syncs = writing.bare.disk.count(Operation::Sync);
        writing.bare.partition.want_sync(3);
        writing.turn();
        assert_eq!(writing.bare.disk.count(Operation::Sync), syncs, "a failed sync is not tried again");
    }
}

#[test]
fn a_sync_that_is_wanted_begins_and_no_other_before_it_has_ended() {
    let mut writing = Writing::of(None);
    writing.write(10);
    assert!(!writing.writer.is_syncing());
    writing.bare.partition.want_sync(1);
    writing.turn();
    assert!(writing.writer.is_syncing());
    writing.bare.send(10, true);
    writing.turn();
    writing.end_syncs();
    assert_eq!(writing.bare.ends(), (2, 1));
    writing.turn();
    writing.end_syncs();
    assert_eq!(writing.bare.ends(), (2, 2));
    writing.turn();
    assert!(!writing.writer.is_syncing(), "all is durable");
}

#[test]
fn only_small_syncs_that_somebody_waits_for_are_done_at_once() {
    for (bytes, wanted, at_once) in
        [(10, true, true), (250_000, true, true), (262_144, true, false), (10, false, false)]
    {
        let mut writing = Writing::of(None);
        writing.bare.send(bytes, wanted);
        if !wanted {
            writing.bare.clock.advance(Duration::from_secs(3_600));
            writing.turn_alone();
            writing.bare.clock.advance(Duration::from_secs(3_600));
        }
        writing.turn_alone();
        assert_eq!(writing.bare.ends(), (1, u64::from(at_once)), "{bytes} bytes");
        assert_eq!(writing.writer.is_syncing(), !at_once);
        writing.end_syncs();
        assert_eq!(writing.bare.ends(), (1, 1));
    }
}

#[test]
fn zeros_are_written_ahead_of_small_syncs_where_blocks_are_reserved() {
    let mut writing = Writing::of(1 << 20);
    let disk = writing.bare.disk.clone();
    let mut seen = Vec::new();
    for bytes in [10, 10, 20_000, 20_000, 30_000, 10, 40_000, 10] {
        let before = disk.count(Operation::Write);
        writing.bare.send(bytes, true);
        writing.turn_alone();
        let active = writing.active();
        seen.push((disk.count(Operation::Write) - before, active.zeroed >> 10, active.allocated >> 10));
        assert_eq!(writing.bare.ends().0, writing.bare.ends().1);
        assert_eq!(writing.whole(), writing.bare.ends().0);
    }
    // The header, the batch, zeros up to what is reserved; batches alone while there are enough zeros; when more
    // is reserved, 64 KiB more of them, and more again when less than half of that is left, not before.
    let end = BLOCK_BYTES + 2 * batch_bytes(10) + 2 * batch_bytes(20_000) + batch_bytes(30_000);
    let zeroed = (end.next_multiple_of(BLOCK_BYTES) + (64 << 10)) >> 10;
    assert_eq!(seen[..5], [(3, 64, 64), (1, 64, 64), (1, 64, 64), (1, 64, 64), (2, zeroed, 192)]);
    assert_eq!(seen[5..], [(1, zeroed, 192), (2, 192, 192), (1, 192, 192)]);
}

#[test]
fn after_many_small_syncs_in_a_row_more_zeros_are_written_less_often() {
    let mut writing = Writing::of(64 << 20);
    (0..4).for_each(|_| writing.write(1_000_000));
    writing.bare.partition.want_sync(4);
    writing.turn();
    writing.end_syncs();
    let mut written = Vec::new();
    let mut last = writing.active().zeroed;
    for sync in 1..=60 {
        writing.bare.send(20_000, true);
        writing.turn_alone();
        let zeroed = writing.active().zeroed;
        if zeroed > last {
            written.push((sync, (zeroed - writing.active().position) >> 10));
        }
        last = zeroed;
    }
    // 64 KiB whenever less than half of that is left; from the ninth on 1 MiB, until less than an eighth is.
    let (near, far) = written.split_at(3);
    assert!(near.iter().all(|&(sync, ahead)| sync <= 8 && ahead < 100), "{written:?}");
    let first: Vec<_> = far.iter().map(|(sync, _)| *sync).collect();
    assert_eq!(first, [9, 56], "{written:?}");
    assert!(far[0].1 > 1_000, "{written:?}");
    assert_eq!(writing.whole(), 64);
    // What comes in a flow and is synced through the queue ends it.
    writing.bare.send(1_000_000, true);
    writing.turn_alone();
    assert_eq!(writing.writer.little_syncs, 0);
}

#[test]
fn as_many_zeros_are_written_as_it_takes_to_be_there() {
    let mut writing = Writing::of(None);
    let disk = writing.bare.disk.clone();
    writing.write(10);
    let path = writing.active().segment.path().to_owned();
    let (from, to) = (2 * BLOCK_BYTES as usize, 64 << 10);
    let mut bytes = disk.read_file(&path).unwrap();
    assert_eq!(bytes.len(), to);
    bytes[from..].fill(1);
    disk.write_file(&path, bytes).unwrap();
    writing.bare.partition.want_sync(1);
    writing.turn_alone();
    assert_eq!((writing.bare.ends(), writing.active().zeroed), ((1, 1), to as u64));
    assert_eq!(disk.read_file(&path).unwrap()[from..], vec![0; to - from]);
}

#[test]
fn zeros_that_can_not_be_written_fail_nothing() {
    let mut writing = Writing::of(None);
    let disk = writing.bare.disk.clone();
    disk.fail_after(2, Operation::Write, EIO, Repeat::Once);
    writing.bare.send(10, true);
    writing.turn_alone();
    assert_eq!((disk.errors_given(), writing.active().zeroed), (1, 0));
    writing.bare.send(10, true);
    writing.turn_alone();
    assert_eq!((writing.bare.ends(), writing.active().zeroed), ((2, 2), 64 << 10));
    assert!(!writing.bare.partition.progress.is_failed());
}

#[test]
fn behind_a_half_done_write_no_zeros_are_written() {
    let mut writing = Writing::of(None);
    let disk = writing.bare.disk.clone();
    writing.write(10);
    disk.fail_next(Operation::ShortWrite, ENOSPC);
    writing.bare.send(10, true);
    writing.turn_alone();
    assert!(writing.writer.must_renew);
    assert_eq!((writing.bare.ends(), writing.active().zeroed), ((1, 1), 0));
}

/// Three segments of an earlier life of which nothing was synced, after its process died; this one has written
/// nothing yet.
fn of_an_earlier_life() -> Writing {
    let mut writing = Writing::of(64 << 10);
    for bytes in [40_000, 40_000, 40_000, 10] {
        writing.write(bytes);
    }
    assert_eq!(writing.bare.ends(), (4, 0));
    let writing = writing.after(CrashPolicy::Kill);
    assert_eq!((writing.bare.ends(), writing.writer.tail.len()), ((4, 0), 3));
    writing
}

#[test]
fn d1_the_first_sync_covers_all_that_an_earlier_life_wrote() {
    for records in [0, 1] {
        let mut writing = of_an_earlier_life();
        (0..records).for_each(|_| writing.write(10));
        let end = 4 + records;
        writing.bare.partition.want_sync(end);
        writing.turn();
        assert_eq!(writing.writer.sealed.len(), 2);
        writing.end_syncs();
        assert_eq!((writing.bare.ends(), writing.writer.sealed.len()), ((end, end), 0));
        assert_eq!(writing.after(CrashPolicy::PowerLoss).bare.ends().0, end);
        // The next one has nothing to do with it.
        let opened = writing.bare.disk.count(Operation::Open);
        writing.bare.send(10, true);
        writing.turn();
        assert!(writing.writer.sealed.is_empty());
        writing.end_syncs();
        assert_eq!((writing.bare.ends(), writing.bare.disk.count(Operation::Open)), ((end + 1, end + 1), opened));
    }
}

#[test]
fn what_retention_dropped_before_the_first_sync_is_not_missed_and_all_else_is() {
    // The first segment's file is gone, when the log starts here.
    for (log_start, counts) in [(0, false), (1, true), (2, true)] {
        // Before the sync begins, or while it goes on.
        for gone_before in [true, false] {
            let mut writing = of_an_earlier_life();
            let first = writing.bare.partition.segments()[0].clone();
            assert_eq!(first.end_offset(), 1);
            writing.bare.partition.progress.raise_log_start(log_start);
            writing.bare.partition.want_sync(4);
            let gone = |writing: &Writing| writing.bare.disk.unlink(first.path()).unwrap();
            if gone_before {
                gone(&writing);
            }
            writing.turn();
            if !gone_before {
                gone(&writing);
            }
            writing.end_syncs();
            assert_eq!(writing.bare.partition.progress.is_failed(), !counts, "{log_start}, {gone_before}");
            assert_eq!(writing.bare.ends().1, if counts { 4 } else { 0 });
        }
    }
}

#[test]
fn a_file_that_is_there_and_cannot_be_opened_fails_the_first_sync_though_it_was_dropped() {
    for log_start in [0, 1] {
        for passing in [0, 3] {
            let mut writing = of_an_earlier_life();
            writing.bare.partition.progress.raise_log_start(log_start);
            writing.bare.disk.fail_after(passing, Operation::Open, EIO, Repeat::Once);
            writing.bare.partition.want_sync(4);
            writing.turn();
            writing.end_syncs();
            assert_eq!(writing.bare.disk.errors_given(), 1);
            assert!(writing.bare.partition.progress.is_failed(), "{log_start}, {passing}");
            assert_eq!(writing.bare.ends(), (4, 0));
        }
    }
}
