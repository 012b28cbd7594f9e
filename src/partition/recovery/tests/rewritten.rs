//! Files that repair wrote: offsets may be left out, and the header says how much of them counts.

use super::files::*;
use crate::format::{BLOCK_BYTES, FileHeader, Previous};
use crate::partition::recovery::Doubt;

/// Of a file that stands for the offsets below `end_offset` with so many batches.
fn rewritten(end_offset: u64, batches: u64) -> FileHeader {
    FileHeader { rewrite: 1, rewritten_end_offset: end_offset, rewritten_length: place(batches), ..header(0) }
}

#[test]
fn offsets_may_be_left_out_between_batches_and_behind_them() {
    let header = rewritten(7, 3);
    let bytes = file(&header, [0, 2, 4].map(batch));
    // Read from its first batch on, and believed from its end on.
    for mark in [None, Some(mark(7, 0, 1))] {
        let recovered = found([(0, bytes.clone())], mark);
        assert!(recovered.damage.is_none() && recovered.cut.is_none(), "{recovered:?}");
        assert_eq!((recovered.end_offset, segments(&recovered)), (7, vec![(0, place(3), 7)]));
        assert!(recovered.active.is_none(), "it is not written on");
        let expected =
            Previous { file_id: header.file_id, base_offset: 0, end_offset: 7, length: place(3), ..recovered.previous };
        assert_eq!(recovered.previous, expected);
    }
}

#[test]
fn a_file_with_nothing_left_stands_for_its_offsets_all_the_same() {
    let header = rewritten(4, 0);
    let recovered = found([(0, file(&header, []))], None);
    assert_eq!((recovered.end_offset, segments(&recovered)), (4, vec![(0, BLOCK_BYTES, 4)]));
    assert!(recovered.set_aside.is_empty() && recovered.active.is_none());
    assert_eq!((recovered.previous.file_id, recovered.previous.end_offset), (header.file_id, 4));
}

#[test]
fn it_is_never_part_of_the_tail() {
    for durable in [0, 7] {
        let disk = disk_with([(0, file(&rewritten(7, 3), [0, 2, 4].map(batch)))]);
        let recovered = recovered(&disk, Some(mark(durable, 0, 0)), Doubt::Tail);
        assert!(recovered.tail.is_empty(), "{:?}", recovered.tail);
    }
}

#[test]
fn one_that_is_shorter_than_it_says_does_not_stand_for_what_it_lacks() {
    let mut bytes = file(&rewritten(7, 3), [0, 2, 4].map(batch));
    bytes.truncate(place(2) as usize);
    let torn = found([(0, bytes.clone())], None);
    assert_eq!((torn.end_offset, torn.damage.is_some()), (3, false));
    assert_eq!(segments(&torn), [(0, place(2), 3)]);
    let below_the_evidence = found([(0, bytes)], Some(mark(7, 0, 3)));
    assert_eq!(damage(&below_the_evidence).0, Some(3));
    assert_eq!(segments(&below_the_evidence)[0].1, place(2));
}

#[test]
fn d3_behind_damage_its_batches_are_found_though_offsets_are_left_out() {
    let mut bytes = spoiled(file(&rewritten(9, 4), [0, 2, 5, 7].map(batch)), 0);
    bytes.truncate(place(3) as usize);
    let recovered = found([(0, bytes)], Some(mark(9, 0, 4)));
    assert_eq!(damage(&recovered).0, Some(0));
    assert_eq!((recovered.end_offset, segments(&recovered)), (6, vec![(0, place(3), u64::MAX)]));
}

/// It is of no use to be strict there: what is left out nobody gets, and what is whole is to be had.
#[test]
fn d3_behind_damage_each_whole_batch_counts_though_offsets_are_left_out_before_it() {
    for header in [header(0), rewritten(9, 4)] {
        let recovered = found([(0, spoiled(file(&header, [0, 1, 3].map(batch)), 0))], Some(mark(9, 0, 4)));
        assert_eq!(damage(&recovered).0, Some(0));
        assert_eq!((recovered.end_offset, segments(&recovered)), (4, vec![(0, place(3), u64::MAX)]));
    }
}
