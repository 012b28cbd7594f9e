//! Where reading begins: what the catalogue's mark and the log start say, and when they say nothing.

use super::files::*;
use crate::format::Mark;
use crate::partition::recovery::TailCut;
use crate::segment::index_path;

#[test]
fn without_a_mark_it_is_read_from_its_first_batch() {
    let recovered = found([(0, file(&header(0), (0..3).map(batch)))], None);
    assert_eq!((recovered.end_offset, recovered.durable_offset), (3, 0));
    assert_eq!(segments(&recovered), [(0, place(3), u64::MAX)]);
    assert!(recovered.damage.is_none() && recovered.cut.is_none() && recovered.active.is_some());
}

#[test]
fn d6_what_lies_below_the_mark_is_not_read() {
    let bytes = spoiled(file(&header(0), (0..3).map(batch)), 0);
    let recovered = found([(0, bytes.clone())], Some(mark(2, 0, 2)));
    assert!(recovered.damage.is_none(), "{:?}", recovered.damage);
    assert_eq!((recovered.end_offset, recovered.durable_offset), (3, 2));
    // A mark that can't be one of this file's places is evidence, and no place to begin at.
    for misplaced in [Mark { position: place(2) + 4, ..mark(2, 0, 2) }, Mark { position: 8, ..mark(2, 0, 2) }] {
        assert_eq!(damage(&found([(0, bytes.clone())], Some(misplaced))).0, Some(0));
    }
}

#[test]
fn d3_a_mark_behind_the_end_of_its_file_is_evidence_of_what_is_missing() {
    let recovered = found([(0, file(&header(0), (0..3).map(batch)))], Some(mark(5, 0, 5)));
    let (offset, reason) = damage(&recovered);
    assert_eq!(offset, Some(3));
    assert!(reason.contains("offsets below 5 were durable"), "{reason}");
    assert_eq!(segments(&recovered), [(0, place(3), u64::MAX)]);
}

/// A copy of a directory in use has files with room reserved behind what was written.
#[test]
fn d3_an_older_copy_of_a_file_is_damaged_though_it_is_long_enough() {
    let mut older = file(&header(0), (0..2).map(batch));
    older.resize(place(9) as usize, 0);
    let (offset, reason) = damage(&found([(0, older)], Some(mark(5, 0, 5))));
    assert_eq!(offset, Some(2));
    assert!(reason.contains("offsets below 5 were durable"), "{reason}");
    // Nor does another batch that ends there count.
    let mut another = file(&header(0), (0..5).map(batch));
    another.resize(place(9) as usize, 0);
    let (offset, reason) = damage(&found([(0, another)], Some(mark(7, 0, 5))));
    assert_eq!(offset, Some(5), "{reason}");
}

#[test]
fn d3_a_mark_in_a_file_that_is_missing_is_evidence_all_the_same() {
    let recovered = found([(0, file(&header(0), (0..2).map(batch)))], Some(mark(3, 2, 1)));
    assert_eq!(damage(&recovered).0, Some(2));
    assert_eq!(segments(&recovered), [(0, place(2), u64::MAX)]);
}

/// Deleting records durably raises the log start, not the end.
#[test]
fn a_log_that_was_deleted_up_to_its_end_goes_on_in_its_last_segment() {
    let start = Mark { log_start_offset: 3, ..mark(3, 0, 3) };
    for mark in [start, Mark { position: 0, ..start }] {
        let recovered = found([(0, file(&header(0), (0..3).map(batch)))], Some(mark));
        assert_eq!((recovered.log_start, recovered.end_offset, recovered.durable_offset), (3, 3, 3));
        assert_eq!(segments(&recovered), [(0, place(3), u64::MAX)]);
        assert!(recovered.unlink.is_empty() && recovered.set_aside.is_empty() && recovered.cut.is_none());
        assert!(recovered.damage.is_none() && recovered.active.is_some());
    }
}

/// Retention was about to drop them when the power went, and what had been dropped of their bytes is gone.
#[test]
fn what_is_left_below_the_log_start_is_dropped_and_what_came_behind_set_aside() {
    let behind = file(&header(8), [batch(8)]);
    let behind_bytes = behind.len() as u64;
    let files = [(0, spoiled(file(&header(0), (0..4).map(batch)), 2)), (5, vec![1; 100]), (8, behind)];
    let start = Mark { log_start_offset: 5, position: 0, ..mark(5, 0, 0) };
    let recovered = found(files, Some(start));
    assert!(recovered.damage.is_none(), "{:?}", recovered.damage);
    assert_eq!((recovered.log_start, recovered.end_offset, recovered.durable_offset), (5, 5, 5));
    assert!(recovered.segments.is_empty() && recovered.active.is_none() && recovered.end.is_none());
    let index = |base_offset| index_path(&path(base_offset));
    assert_eq!(recovered.unlink, [index(0), path(0), index(5), index(8)]);
    assert_eq!(recovered.set_aside, [(path(5), 0), (path(8), 9)]);
    assert_eq!(recovered.cut, Some(TailCut { path: path(5), position: 0, bytes: 100 + behind_bytes }));
    // Where something at or above the log start was durable it is damage.
    let mut later = batch(8);
    later.durable_before = 6;
    let files = [(0, spoiled(file(&header(0), (0..4).map(batch)), 2)), (8, file(&header(8), [later]))];
    assert_eq!(damage(&found(files, Some(start))).0, Some(2));
}
