//! What counts as a batch and what doesn't: walked one by one, and looked for beyond the end, in files that are
//! longer than what is read at once.

use super::windows::Read;
use super::*;
use crate::format::Seed;

/// How much a search reads at once; the next read begins a header's length before its end.
const WINDOW_BYTES: u64 = 1 << 20;
const MIB: u64 = 1 << 20;

fn seed() -> Seed {
    example_header().seed()
}

/// Batch `number` with a body.
fn with_body(number: u64, body: &[u8]) -> BatchHeader {
    BatchHeader { length: (BATCH_BYTES + body.len() as u64) as u32, body_crc: crc(body), ..batch(number, 0) }
}

fn place(position: u64, number: u64) -> Place {
    Place { position, next_offset: 1_000 + number, epoch: 2 }
}

/// An empty file of so many bytes.
fn empty(length: u64) -> Arc<dyn File> {
    let disk = SimDisk::new();
    disk.write_file("data/x", b"").unwrap();
    let file = disk.create(Path::new(PATH)).unwrap();
    file.allocate(0..length).unwrap();
    file
}

fn put(file: &dyn File, position: u64, header: &BatchHeader, body: &[u8]) {
    file.write_at(&[IoSlice::new(&header.encode(seed(), position)), IoSlice::new(body)], position).unwrap();
}

/// Why the scan of this file ends at `place`.
fn end_of(file: &dyn File, length: u64, place: Place, sparse: bool) -> String {
    let mut scan = Scan::new(file, length, seed(), place).sparse(sparse);
    let Found::End(reason) = scan.next().unwrap() else { panic!("a batch was taken") };
    assert_eq!(scan.place(), place);
    reason.to_string()
}

/// Batches of many lengths, so that headers and bodies lie across the ends of what is read.
#[test]
fn a_scan_takes_every_batch_of_a_long_file_and_gives_out_its_bytes() {
    let body_of = |number: u64| -> Vec<u8> {
        let length = if number == 30 { 5 * MIB / 2 } else { number * 1_237 % 9_000 * 8 };
        (0..length).map(|at| (at + number) as u8).collect()
    };
    let file = empty(8 * MIB);
    let mut position = BLOCK_BYTES;
    for number in 0..100 {
        let body = body_of(number);
        put(&*file, position, &with_body(number, &body), &body);
        position += BATCH_BYTES + body.len() as u64;
    }
    let mut scan = Scan::new(&*file, 8 * MIB, seed(), place(BLOCK_BYTES, 0));
    assert_eq!(scan.batch_bytes().unwrap(), b"");
    for number in 0..100 {
        let body = body_of(number);
        let Found::Batch { header, .. } = scan.next().unwrap() else { panic!("batch {number} is missing") };
        assert_eq!(header, with_body(number, &body));
        assert!(scan.batch_bytes().unwrap()[BATCH_HEADER_BYTES..] == body);
        assert_eq!(scan.place().next_offset, 1_001 + number);
    }
    assert_eq!(scan.place().position, position);
    assert!(matches!(scan.next().unwrap(), Found::End(_)));
}

/// In a file that was rewritten offsets are left out; in any other a gap is damage. None goes back.
#[test]
fn d2_offsets_are_left_out_in_a_rewritten_file_only() {
    let file = empty(1 << 16);
    put(&*file, BLOCK_BYTES, &batch(5, 0), &[]);
    for sparse in [false, true] {
        let mut scan = Scan::new(&*file, 1 << 16, seed(), place(BLOCK_BYTES, 5)).sparse(sparse);
        assert!(matches!(scan.next().unwrap(), Found::Batch { .. }));
        let reason = end_of(&*file, 1 << 16, place(BLOCK_BYTES, 6), sparse);
        assert!(reason.contains("base offset is 1005, expected 1006"), "{reason}");
    }
    let reason = end_of(&*file, 1 << 16, place(BLOCK_BYTES, 4), false);
    assert!(reason.contains("base offset is 1005, expected 1004"), "{reason}");
    let mut scan = Scan::new(&*file, 1 << 16, seed(), place(BLOCK_BYTES, 4)).sparse(true);
    assert!(matches!(scan.next().unwrap(), Found::Batch { .. }));
    assert_eq!(scan.place(), place(BLOCK_BYTES + BATCH_BYTES, 6));
}

/// Its writer gave space back meanwhile, or the file system lost it.
#[test]
fn a_batch_that_the_file_ends_within_is_told_from_a_damaged_one() {
    let body = [7; 400];
    let file = empty(1 << 16);
    put(&*file, BLOCK_BYTES, &with_body(0, &body), &body);
    let start = place(BLOCK_BYTES, 0);
    let mut scan = Scan::new(&*file, 1 << 16, seed(), start);
    assert!(matches!(scan.next().unwrap(), Found::Batch { .. }));
    file.give_back(BLOCK_BYTES + BATCH_BYTES + 399).unwrap();
    let reason = end_of(&*file, 1 << 16, start, false);
    assert!(reason.contains("the file ends within the batch"), "{reason}");
    let reason = end_of(&*file, BLOCK_BYTES + BATCH_BYTES + 399, start, false);
    assert!(reason.contains("the batch has 496 bytes, the file 495"), "{reason}");
}

/// Where the search begins, and where a header may lie behind that: around the ends of the first windows too.
fn places() -> impl Iterator<Item = (u64, u64)> {
    let around = |end: u64| [end - 2 * BATCH_BYTES, end - 104, end - 96, end - 88, end - 48, end - 8, end, end + 8];
    let ends = [WINDOW_BYTES, 2 * WINDOW_BYTES - BATCH_BYTES, 3 * WINDOW_BYTES - 2 * BATCH_BYTES];
    let behind = move || [0, 8, 4_096].into_iter().chain(ends.into_iter().flat_map(around));
    [BLOCK_BYTES, BLOCK_BYTES + 8 * 1_231].into_iter().flat_map(move |from| behind().map(move |at| (from, from + at)))
}

#[test]
fn d3_evidence_is_found_wherever_its_header_lies() {
    for (from, position) in places() {
        let file = empty(4 * MIB);
        // What looks like a header's beginning, in the body before it.
        put(&*file, position - 8, &batch(3, 0), &[]);
        put(&*file, position, &BatchHeader { durable_before: 950, ..batch(0, 0) }, &[]);
        let found = search(&*file, 4 * MIB, seed(), from..4 * MIB, 2).unwrap();
        // The last byte of it that isn't zero is its epoch's.
        let expected = super::super::Beyond { durable_before: 950, any_valid: true, written_end: position + 89 };
        assert_eq!(found, expected, "{position} from {from}");
    }
}

#[test]
fn the_next_batch_behind_damage_is_found_wherever_its_header_lies() {
    for (from, position) in places() {
        let file = empty(4 * MIB);
        // What looks like a header's beginning, in the body before it.
        put(&*file, position - 8, &batch(3, 0), &[]);
        put(&*file, position, &batch(7, 0), &[]);
        let found = next_batch(&*file, 4 * MIB, seed(), place(from - 8, 0)).unwrap();
        assert_eq!(found, Some(place(position, 7)), "{position} from {from}");
        // What stands at the damage itself isn't beyond it.
        assert_eq!(next_batch(&*file, 4 * MIB, seed(), place(position, 0)).unwrap(), None);
    }
}

/// Up to the last byte, and no further than the file reaches.
#[test]
fn a_search_goes_to_the_end_of_the_file_and_stops_there() {
    let window = WINDOW_BYTES as usize;
    let rest = 3 * BATCH_BYTES;
    let length = BLOCK_BYTES + WINDOW_BYTES - BATCH_BYTES + rest;
    let file = Read::of(empty(length));
    // Without a hole, which would be skipped.
    file.file.write_at(&[std::io::IoSlice::new(&vec![0; length as usize])], 0).unwrap();
    put(&file.file, length - BATCH_BYTES, &batch(3, 0), &[]);
    // Longer than it is: its writer gave space back meanwhile.
    for (told, last_read) in [(length, rest as usize), (length + 1_000, rest as usize + 1_000), (9 * MIB, window)] {
        let reads = [(BLOCK_BYTES, window), (length - rest, last_read)];
        assert!(search(&file.file, told, seed(), BLOCK_BYTES..told, 2).unwrap().any_valid);
        assert_eq!(file.taken(), reads, "{told}");
        assert!(search(&file.file, told, seed(), length - 8..told, 2).unwrap().written_end <= length);
        file.taken();

        // Its epoch is too old, so that nothing is found.
        let after = Place { epoch: 3, ..place(BLOCK_BYTES - 8, 0) };
        assert_eq!(next_batch(&file.file, told, seed(), after).unwrap(), None);
        assert_eq!(file.taken(), reads, "{told}");
    }
    // There is nothing behind the end.
    assert_eq!(search(&file.file, length, seed(), length..length, 2).unwrap().written_end, length);
    assert_eq!(next_batch(&file.file, length, seed(), place(length - 8, 0)).unwrap(), None);
    assert_eq!(file.taken(), []);
}

/// What was never written is skipped, however much of it there is.
#[test]
fn a_search_reads_no_hole() {
    let length = 4_000 * MIB;
    let file = Read::of(empty(length));
    put(&file.file, 3_000 * MIB, &batch(3, 0), &[]);
    let found = search(&file.file, length, seed(), BLOCK_BYTES..length, 2).unwrap();
    let written = 3_000 * MIB..=3_000 * MIB + BATCH_BYTES;
    assert!(found.any_valid && written.contains(&found.written_end), "{found:?}");
    assert_eq!(file.taken(), [(3_000 * MIB, WINDOW_BYTES as usize)]);
    let after = Place { epoch: 3, ..place(BLOCK_BYTES - 8, 0) };
    assert_eq!(next_batch(&file.file, length, seed(), after).unwrap(), None);
    assert_eq!(file.taken(), [(3_000 * MIB, WINDOW_BYTES as usize)]);
}

#[test]
fn a_header_of_more_than_the_file_has_room_for_is_no_evidence() {
    let file = empty(1 << 16);
    let long = BatchHeader { length: (1 << 16) - BLOCK_BYTES as u32, ..batch(0, 0) };
    put(&*file, BLOCK_BYTES, &long, &[]);
    assert!(search(&*file, 1 << 16, seed(), BLOCK_BYTES..1 << 16, 2).unwrap().any_valid);
    let found = search(&*file, (1 << 16) - 8, seed(), BLOCK_BYTES..(1 << 16) - 8, 2).unwrap();
    assert_eq!((found.any_valid, found.durable_before), (false, 0));
    assert_eq!(found.written_end, BLOCK_BYTES + 89, "its place is written all the same");
}

/// Four batches in a row; the bodies of the first and the second are damaged.
#[test]
fn behind_damage_the_first_whole_batch_counts_and_damaged_ones_cost_their_length() {
    let body = [7; 104];
    let length = BATCH_BYTES + 104;
    let position_of = |number: u64| BLOCK_BYTES + 8 + number * length;
    let file = empty(1 << 16);
    for number in 0..4 {
        put(&*file, position_of(number), &with_body(number, if number < 2 { &[8; 104] } else { &body }), &body);
    }
    let after = place(BLOCK_BYTES, 0);
    let within = |after: Place, mut budget: u64| {
        let found = next_batch_within(&*file, 1 << 16, seed(), after, &mut budget).unwrap();
        (found, budget)
    };
    let third = Some(place(position_of(2), 2));
    assert_eq!(next_batch(&*file, 1 << 16, seed(), after).unwrap(), third);
    assert_eq!(within(after, 3 * length), (third, 0));
    assert_eq!(within(after, 3 * length - 1), (None, length - 1));
    // Lower offsets and older epochs aren't looked into.
    assert_eq!(within(place(BLOCK_BYTES, 2), length), (third, 0));
    assert_eq!(within(place(BLOCK_BYTES, 3), length), (Some(place(position_of(3), 3)), 0));
    assert_eq!(within(Place { epoch: 3, ..after }, 1), (None, 1));
    // Nor is a batch that the file has no room for.
    let long = BatchHeader { length: (1 << 16) - BLOCK_BYTES as u32, ..batch(0, 0) };
    put(&*file, position_of(0), &long, &[]);
    assert_eq!(within(after, 2 * length), (third, 0));
}
