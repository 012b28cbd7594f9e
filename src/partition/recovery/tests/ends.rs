//! Where what counts ends: what is cut and set aside, what is damage, what the first sync has to prove.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::files::*;
use crate::disk::{Access, Disk, Step, Watched};
use crate::format::{BLOCK_BYTES, BatchHeader};
use crate::partition::recovery::{Doubt, Recovered, TailCut};
use crate::segment::index_path;
use crate::sim::SimDisk;

const OPEN: u64 = u64::MAX;

/// Of each part of the tail: base offset of its segment, from where to where.
fn tail(recovered: &Recovered) -> Vec<(u64, u64, u64)> {
    recovered.tail.iter().map(|part| (part.segment.base_offset(), part.from.position, part.to)).collect()
}

#[test]
fn the_tail_is_what_no_evidence_covers() {
    let whole = [(0, file(&header(0), (0..3).map(batch)))];
    let disk = disk_with(whole.clone());
    let of = |durable: u64, doubt: Doubt| tail(&recovered(&disk, Some(mark(durable, 0, durable)), doubt));
    assert_eq!(of(3, Doubt::Nothing), []);
    assert_eq!(of(1, Doubt::Nothing), [(0, place(1), place(3))]);
    assert_eq!(of(0, Doubt::Nothing), [(0, BLOCK_BYTES, place(3))]);
    // In doubt it is the last segment's end that is proven, if nothing else.
    assert_eq!(of(3, Doubt::Tail), [(0, place(3), place(3))]);
    assert_eq!(of(1, Doubt::Tail), [(0, place(1), place(3))]);
    // No batch was durable yet: nor may the file's header be.
    let empty = found([(0, file(&header(0), []))], None);
    assert_eq!(tail(&empty), [(0, BLOCK_BYTES, BLOCK_BYTES)]);
}

#[test]
fn the_tail_goes_on_through_all_later_segments() {
    let first = header(0);
    let second = next_header(&first, 2, 2);
    let third = next_header(&second, 5, 3);
    let files = [
        (0, file(&first, (0..2).map(batch))),
        (2, file(&second, (2..5).map(batch))),
        (5, file(&third, (5..6).map(batch))),
    ];
    let all = found(files.clone(), None);
    assert_eq!((all.end_offset, all.durable_offset), (6, 0));
    assert_eq!(tail(&all), [(0, BLOCK_BYTES, place(2)), (2, BLOCK_BYTES, place(3)), (5, BLOCK_BYTES, place(1))]);
    let from_mark = found(files, Some(mark(3, 2, 1)));
    assert_eq!((from_mark.end_offset, from_mark.durable_offset), (6, 3));
    assert_eq!(tail(&from_mark), [(2, place(1), place(3)), (5, BLOCK_BYTES, place(1))]);
}

#[test]
fn an_index_stays_only_where_everything_it_may_speak_of_is_durable() {
    let whole = file(&header(0), (0..3).map(batch));
    let torn = [&whole[..], b"torn"].concat();
    let unlinked = |bytes: &[u8], durable: u64| {
        let recovered = found([(0, bytes.to_vec())], Some(mark(durable, 0, durable)));
        (recovered.end_offset, recovered.cut.is_some(), recovered.unlink)
    };
    let index = index_path(&path(0));
    assert_eq!(unlinked(&whole, 3), (3, false, vec![]));
    assert_eq!(unlinked(&whole, 2), (3, false, vec![index.clone()]));
    assert_eq!(unlinked(&torn, 3), (3, true, vec![index.clone()]));
    assert_eq!(unlinked(&torn, 2), (3, true, vec![index]));
}

#[test]
fn what_is_cut_is_counted_through_all_later_files() {
    let whole = (0, file(&header(0), (0..3).map(batch)));
    let mark = Some(mark(3, 0, 3));
    let cut = |bytes: u64| Some(TailCut { path: path(0), position: place(3), bytes });
    // A file that nothing was written to is set aside, and said to be, all the same.
    let empty = found([whole.clone(), (7, file(&header(7), []))], mark);
    assert_eq!((empty.cut, empty.set_aside), (cut(0), vec![(path(7), 8)]));
    assert_eq!(empty.unlink, [index_path(&path(7)), index_path(&path(0))]);
    assert!(empty.active.is_some() && empty.damage.is_none());
    // Of what has no header every byte counts; else those written behind it.
    let mut written = file(&header(7), []);
    written.extend_from_slice(&[1; 16]);
    let mut torn = whole.clone();
    torn.1.extend_from_slice(&[1; 8]);
    let all = found([torn, (7, written), (9, vec![0; 100]), (11, vec![1; 50])], mark);
    assert_eq!((all.cut, all.end_offset), (cut(8 + 16 + 100 + 50), 3));
    assert_eq!(all.set_aside, [(path(7), 8), (path(9), 0), (path(11), 0)]);
}

#[test]
fn two_files_for_the_same_offsets_are_damage_unless_one_is_of_an_older_life() {
    let first = (0, file(&header(0), (0..3).map(batch)));
    let mut second = header(1);
    let both = found([first.clone(), (1, file(&second, (1..2).map(batch)))], None);
    let (_, reason) = damage(&both);
    assert!(reason.contains("two files for the same offsets"), "{reason}");
    assert_eq!((both.end_offset, both.durable_offset, both.set_aside.len()), (3, 3, 0));
    assert!(both.active.is_none());
    second.epoch = EPOCH - 1;
    let older = found([first, (1, file(&second, []))], None);
    assert_eq!((older.end_offset, older.set_aside), (3, vec![(path(1), 2)]));
    assert!(older.damage.is_none() && older.active.is_some());
}

#[test]
fn a_file_that_begins_where_the_log_ends_and_does_not_continue_it_is_set_aside() {
    let recovered = found([(0, file(&header(0), (0..3).map(batch))), (3, file(&header(3), [batch(3)]))], None);
    assert!(recovered.damage.is_none(), "{:?}", recovered.damage);
    assert_eq!((recovered.end_offset, recovered.set_aside), (3, vec![(path(3), 4)]));
    assert!(recovered.active.is_some());
}

/// The next file would bear the same name, and what validates in this one is never written over.
#[test]
fn a_file_whose_first_batch_is_torn_and_a_later_one_whole_is_set_aside() {
    let first = header(0);
    let second = next_header(&first, 2, 2);
    let of_second = spoiled(file(&second, (2..4).map(batch)), 0);
    let recovered = found([(0, file(&first, (0..2).map(batch))), (2, of_second)], Some(mark(2, 0, 2)));
    assert!(recovered.damage.is_none() && recovered.active.is_none());
    assert_eq!((recovered.end_offset, recovered.durable_offset), (2, 2));
    assert_eq!(recovered.set_aside, [(path(2), second.file_id)]);
    assert_eq!(recovered.previous, second.previous);
    assert_eq!(segments(&recovered), [(0, place(2), 2)]);
    assert!(recovered.tail.is_empty(), "{:?}", recovered.tail);
    // Where a batch before it counts, the file does, and another follows it.
    let kept = found([(0, spoiled(file(&first, (0..3).map(batch)), 1))], None);
    assert!(kept.active.is_none() && kept.set_aside.is_empty());
    assert_eq!(segments(&kept), [(0, place(1), 1)]);
    let previous = kept.previous;
    assert_eq!((previous.file_id, previous.end_offset, previous.length), (first.file_id, 1, place(1)));
}

#[test]
fn d3_behind_damage_each_segment_is_read_as_far_as_it_is_known_to_go() {
    let first = header(0);
    let of_first = || spoiled(file(&first, (0..4).map(batch)), 1);
    // The second file's batches say that the first one's were durable.
    let of_second = |header| file(&header, (4..6).map(|offset| BatchHeader { durable_before: 4, ..batch(offset) }));
    let whole = found([(0, of_first()), (4, of_second(next_header(&first, 4, 4)))], None);
    assert_eq!(damage(&whole).0, Some(1));
    assert_eq!((segments(&whole), whole.end_offset), (vec![(0, place(4), 4), (4, place(2), OPEN)], 6));
    // Its successor is missing: nothing but its batches says where the first one ends.
    let missing = found([(0, of_first()), (4, of_second(header(4)))], None);
    assert_eq!(damage(&missing).0, Some(1));
    assert_eq!((segments(&missing), missing.end_offset), (vec![(0, place(4), 4), (4, place(2), OPEN)], 6));
    assert!(whole.set_aside.is_empty() && missing.set_aside.is_empty());
}

/// Blocks that were reserved and never written lie behind these bytes.
fn with_reserved(bytes: Vec<u8>, reserved: u64) -> SimDisk {
    let disk = disk_with([(0, bytes)]);
    let file = disk.open(&path(0), Access::Write).unwrap();
    let length = file.length().unwrap();
    file.allocate(length..length + reserved).unwrap();
    disk
}

#[test]
fn what_was_reserved_and_never_written_is_not_read() {
    let reserved = 64 << 20;
    let disk = with_reserved(file(&header(0), (0..3).map(batch)), reserved);
    for doubt in [Doubt::Tail, Doubt::Memory, Doubt::Nothing] {
        let read = Arc::new(AtomicU64::new(0));
        let end = read.clone();
        let watched = Watched::<dyn Disk>::new(Arc::new(disk.clone()), move |step| {
            if let Step::Read { position, bytes } = step {
                end.fetch_max(position + bytes as u64, Ordering::SeqCst);
            }
            Ok(())
        });
        let found = recovered(&watched, None, doubt);
        assert_eq!((found.end_offset, found.cut), (3, None), "{doubt:?}");
        assert_eq!(found.active.unwrap().1, place(3) + reserved, "it is written there");
        assert!(read.load(Ordering::SeqCst) <= 4 << 20, "{doubt:?}");
    }
}

#[test]
fn d3_a_header_whose_batch_reaches_into_what_was_never_written_is_evidence() {
    // Of four batches two are whole, the third is torn, and of the last there is the header only.
    let mut bytes = spoiled(file(&header(0), (0..3).map(batch)), 2);
    let last = BatchHeader { durable_before: 3, length: 8 << 10, ..batch(3) };
    bytes.extend_from_slice(&last.encode(header(0).seed(), place(3)));
    let disk = with_reserved(bytes, 1 << 20);
    for doubt in [Doubt::Nothing, Doubt::Tail, Doubt::Memory] {
        let (at, said) = damage(&recovered(&disk, None, doubt));
        assert_eq!(at, Some(2), "{doubt:?}: {said}");
    }
}
