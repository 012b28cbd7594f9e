//! How a partition's writer ends: all is synced first, or all is dropped; and what it leaves beside the log.

use super::*;
use crate::segment::index_path;

/// Whether the last segment has its index beside it, and no more room than it needs.
fn is_tidy(writing: &Writing, segment: &Segment) -> [bool; 2] {
    let disk = &writing.bare.disk;
    let length = disk.read_file(segment.path()).unwrap().len() as u64;
    [disk.read_file(index_path(segment.path())).is_ok(), length == segment.published()]
}

#[test]
fn closing_writes_and_syncs_what_there_is_and_leaves_the_log_tidy() {
    let mut writing = Writing::of(None);
    writing.write(10);
    let segment = writing.active().segment.clone();
    writing.bare.send(10, false);
    writing.writer.end(false);
    writing.turn();
    assert_eq!(writing.bare.ends(), (2, 0));
    assert!(writing.writer.is_syncing() && !writing.writer.is_done());
    assert_eq!(is_tidy(&writing, &segment), [false, false]);
    writing.end_syncs();
    assert!(!writing.writer.is_done());
    assert!(!writing.turn());
    assert_eq!(writing.bare.ends(), (2, 2));
    assert!(writing.writer.is_done());
    assert_eq!(is_tidy(&writing, &segment), [true, true]);
    assert!(!writing.turn(), "it has ended");
}

#[test]
fn it_does_not_end_while_something_is_left_to_write_or_to_sync() {
    let mut writing = Writing::of(None);
    writing.write(10);
    writing.writer.end(false);
    writing.writer.end_if_done();
    assert!(!writing.writer.is_done(), "it isn't durable");
    writing.turn();
    writing.end_syncs();
    assert_eq!(writing.bare.ends(), (1, 1));
    writing.bare.send(10, false);
    writing.writer.end_if_done();
    assert!(!writing.writer.is_done(), "it isn't written");
    writing.turn();
    writing.end_syncs();
    writing.turn();
    assert_eq!(writing.bare.ends(), (2, 2));
    assert!(writing.writer.is_done());
}

#[test]
fn what_is_dropped_has_failed_and_holds_no_buffer() {
    let mut writing = Writing::of(None);
    writing.write(10);
    let partition = writing.bare.partition.clone();
    let segment = writing.active().segment.clone();
    let (offset, run) = (writing.bare.send(10, false), partition.progress.run());
    lock(&partition.intake).refuse(Error::new(ErrorKind::Closed));
    writing.writer.end(true);
    assert!(!writing.turn());
    assert!(writing.writer.is_done());
    let error = partition.outcome(Acks::Written, offset + 1, run).unwrap().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Closed);
    assert!(lock(&partition.intake).is_empty());
    assert!(partition.take_failure().is_some());
    assert_eq!(writing.bare.ends(), (1, 0));
    assert_eq!(is_tidy(&writing, &segment), [false, false], "nothing is done for a log that is dropped");
}

#[test]
fn nothing_to_drop_is_no_failure() {
    let mut writing = Writing::of(None);
    writing.write(10);
    let run = writing.bare.partition.progress.run();
    writing.writer.end(true);
    assert!(!writing.turn());
    assert!(writing.writer.is_done());
    assert_eq!(writing.bare.partition.progress.run(), run);
}

#[test]
fn a_failed_partition_is_left_as_it_is() {
    let mut writing = Writing::of(None);
    writing.write(10);
    let segment = writing.active().segment.clone();
    writing.bare.disk.fail_next(Operation::Sync, EIO);
    writing.bare.send(10, true);
    writing.turn();
    writing.end_syncs();
    assert!(writing.bare.partition.progress.is_failed());
    assert!(writing.bare.told.load(crate::lock::Ordering::SeqCst));
    writing.writer.end(false);
    assert!(!writing.turn());
    assert!(writing.writer.is_done());
    assert_eq!(writing.bare.ends(), (2, 0));
    assert_eq!(is_tidy(&writing, &segment), [false, false]);
}
