//! What the file takes: when it is compacted and into what batches, and the zeros ahead of the next commits.

use super::super::log::bodies;
use super::state::blank;
use super::*;
use crate::format::{BLOCK_BYTES, OffsetEntry, OffsetEntryKind};
use crate::sim::{Operation, Repeat};

const FILE: &str = "data/offsets-1";

/// Whether compaction would halve the file.
fn is_due(offsets: &Offsets) -> bool {
    length(offsets) > 2 * (BLOCK_BYTES + offsets.with(|state| state.live_bytes()))
}

#[test]
fn it_is_compacted_as_soon_as_that_halves_it_and_no_sooner() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    offsets.compact_early();
    offsets.commit("a", 1, &[new(0, 0)], 1).unwrap();
    let mut compactions = 0;
    for offset in 1..200 {
        let (file, is_due) = (names(&disk), is_due(&offsets));
        offsets.commit("a", 1, &[new(0, offset)], 1).unwrap();
        assert_eq!(names(&disk) != file, is_due, "{file:?}, {offset}");
        compactions += u32::from(is_due);
    }
    assert!(compactions > 2, "{compactions}");
    assert_eq!(found(&disk), view(&offsets));
}

#[test]
fn a_compaction_that_found_no_room_is_tried_again_64_kib_later() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    offsets.compact_early();
    let commit = |offset| _ = offsets.commit("a", 1, &[new(0, offset)], 1).unwrap();
    let mut offset = 0;
    while !is_due(&offsets) {
        offset += 1;
        commit(offset);
    }
    let (before, tries) = (length(&offsets), disk.count(Operation::Create));
    disk.fail_after(0, Operation::Create, 28, Repeat::Once);
    while length(&offsets) <= before + (64 << 10) {
        offset += 1;
        commit(offset);
        assert_eq!((disk.count(Operation::Create), names(&disk)), (tries + 1, vec!["offsets-1".to_owned()]));
    }
    commit(offset + 1);
    assert_eq!((disk.count(Operation::Create), names(&disk)), (tries + 2, vec!["offsets-2".to_owned()]));
    // From now on it is tried whenever it is due.
    while !is_due(&offsets) {
        commit(offset);
    }
    commit(offset + 1);
    assert_eq!(names(&disk), ["offsets-3"]);
    assert_eq!(found(&disk), view(&offsets));
}

#[test]
fn a_compacted_log_has_batches_of_just_over_1_mib() {
    // Entries of 40 bytes behind a name of 56: after 26,213 of them it is 1 MiB exactly.
    let mut body = Vec::new();
    let name = OffsetEntry { payload: &[b'n'; 24], ..blank(OffsetEntryKind::Group, 1) };
    let mut count = name.encode(&mut body);
    for partition in 0..60_000 {
        let commit = blank(OffsetEntryKind::Commit, 1);
        count += OffsetEntry { topic_id: TopicId(1), partition, offset: 3, ..commit }.encode(&mut body);
    }
    let mut state = OffsetState::default();
    state.apply_batch(&body, count, 5).unwrap();
    let bodies = bodies(&state);
    let sizes: Vec<_> = bodies.iter().map(|(body, entries)| (body.len(), *entries)).collect();
    assert_eq!(sizes, [(1 << 20, 26_214), (26_215 * 40, 26_215), (7_572 * 40, 7_572)]);
    let mut again = OffsetState::default();
    for (body, entries) in &bodies {
        again.apply_batch(body, *entries, 9).unwrap();
    }
    assert!(again.groups().eq(state.groups()));
}

#[test]
fn zeros_are_written_ahead_of_the_next_commits() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    offsets.write_ahead();
    assert_eq!((offsets.wants_zeros(), names(&disk)), (false, vec![]));
    for offset in 1..=2 {
        offsets.commit("a", 1, &[new(0, offset)], 1).unwrap();
    }
    assert!(offsets.wants_zeros());
    // What lies behind the end shows where they are put.
    let mut bytes = disk.read_file(FILE).unwrap();
    bytes[length(&offsets) as usize..].fill(0xa5);
    disk.write_file(FILE, &bytes).unwrap();
    offsets.write_ahead();
    assert!(!offsets.wants_zeros());
    // 32 commits like the last take a block: in part the one that was begun.
    bytes[8_192..12_288].fill(0);
    assert_eq!(disk.read_file(FILE).unwrap(), bytes);
}
