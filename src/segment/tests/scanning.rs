//! The scanner over large, damaged and short files: what lies across its windows is seen all the same.

use super::*;
use crate::segment::{Window, next_batch, next_batch_within};

const LENGTH: u64 = 3 << 20;
/// How much the scanner reads at once.
const WINDOW: u64 = 1 << 20;
const FROM: u64 = BLOCK_BYTES;

fn large() -> Arc<dyn File> {
    let disk = SimDisk::new();
    disk.write_file(PATH, vec![0; LENGTH as usize]).unwrap();
    disk.open(Path::new(PATH), crate::disk::Access::Write).unwrap()
}

fn put(file: &dyn File, bytes: &[u8], position: u64) {
    file.write_at(&[IoSlice::new(bytes)], position).unwrap();
}

#[test]
fn d3_evidence_and_whole_batches_are_found_wherever_they_lie() {
    let file = large();
    let seed = example_header().seed();
    let after = Place { position: FROM, next_offset: 1_000, epoch: 2 };
    let second = FROM + WINDOW - BATCH_BYTES;
    let places = [FROM + 8, second - 8, second, second + 8, FROM + WINDOW - 8, FROM + WINDOW, FROM + WINDOW + 8];
    let last = LENGTH - BATCH_BYTES;
    for position in places.into_iter().chain([FROM + 2 * WINDOW, last - 8, last]) {
        let bytes = batch(0, 0).encode(seed, position);
        put(&*file, &bytes, position);
        let found = search(&*file, LENGTH, seed, FROM..LENGTH, 2).unwrap();
        let written = bytes.iter().rposition(|&byte| byte != 0).unwrap() as u64 + 1;
        assert_eq!((found.durable_before, found.any_valid, found.written_end), (900, true, position + written));
        let place = Place { position, ..after };
        assert_eq!(next_batch(&*file, LENGTH, seed, after).unwrap(), Some(place));
        // Half of it is gone.
        put(&*file, &[0; BATCH_HEADER_BYTES / 2], position);
        let found = search(&*file, LENGTH, seed, FROM..LENGTH, 2).unwrap();
        assert_eq!((found.durable_before, found.any_valid, found.written_end), (0, false, position + written));
        assert_eq!(next_batch(&*file, LENGTH, seed, after).unwrap(), None);
        put(&*file, &[0; BATCH_HEADER_BYTES], position);
        assert_eq!(search(&*file, LENGTH, seed, FROM..LENGTH, 2).unwrap().written_end, FROM);
    }
}

#[test]
fn what_only_begins_like_a_batch_hides_none_behind_it() {
    let file = large();
    let seed = example_header().seed();
    let position = FROM + 64;
    let bytes = batch(0, 0).encode(seed, position);
    put(&*file, &bytes[..8], position - 8);
    put(&*file, &bytes, position);
    assert!(search(&*file, LENGTH, seed, FROM..LENGTH, 2).unwrap().any_valid);
    let after = Place { position: FROM, next_offset: 1_000, epoch: 2 };
    assert_eq!(next_batch(&*file, LENGTH, seed, after).unwrap(), Some(Place { position, ..after }));
}

#[test]
fn behind_damage_reading_goes_on_at_the_first_batch_that_may_stand_there() {
    let disk = SimDisk::new();
    let of_epoch = |number: u64, epoch: u32| BatchHeader { epoch, ..batch(number, 0) };
    let file = write(&disk, [of_epoch(0, 2), of_epoch(1, 2), of_epoch(2, 2), of_epoch(3, 4), of_epoch(4, 4)]);
    let (seed, length) = (example_header().seed(), 1 << 16);
    let next = |number: u64, next_offset: u64, epoch: u32| {
        let after = Place { position: position_of(number), next_offset, epoch };
        let place = next_batch(&*file, length, seed, after).unwrap();
        place.map(|place| ((place.position - BLOCK_BYTES) / BATCH_BYTES, place.next_offset, place.epoch))
    };
    assert_eq!(next(0, 1_000, 2), Some((1, 1_001, 2)), "not the one that stands there itself");
    assert_eq!(next(0, 1_002, 2), Some((2, 1_002, 2)));
    assert_eq!(next(0, 1_000, 3), Some((3, 1_003, 4)));
    assert_eq!(next(0, 1_004, 4), Some((4, 1_004, 4)));
    assert_eq!([next(0, 1_005, 2), next(0, 1_000, 5), next(4, 1_000, 2)], [None; 3]);
    let after = Place { position: BLOCK_BYTES, next_offset: 1_000, epoch: 2 };
    for (mut budget, found, left) in [(BATCH_BYTES, true, 0), (BATCH_BYTES - 1, false, BATCH_BYTES - 1)] {
        let place = next_batch_within(&*file, length, seed, after, &mut budget).unwrap();
        assert_eq!((place.is_some(), budget), (found, left));
    }
}

#[test]
fn a_file_that_ends_within_a_batch_ends_the_scan_there() {
    let disk = SimDisk::new();
    let (seed, position) = (example_header().seed(), position_of(0));
    let header = BatchHeader { length: BATCH_HEADER_BYTES as u32 + 64, ..batch(0, 0) };
    let bytes = header.encode(seed, position);
    // It was longer when its length was asked for.
    disk.write_file(PATH, [&vec![0; position as usize][..], &bytes, &[1; 8]].concat()).unwrap();
    let file = disk.open(Path::new(PATH), crate::disk::Access::Read).unwrap();
    let start = Place { position, next_offset: 1_000, epoch: 2 };
    let mut scan = Scan::new(&*file, 1 << 16, seed, start);
    let Found::End(reason) = scan.next().unwrap() else { panic!("a part was taken for the whole") };
    assert!(reason.to_string().contains("the file ends within the batch"), "{reason}");
    assert_eq!(scan.place(), start);
    let beyond = position + BATCH_BYTES;
    let found = search(&*file, 1 << 16, seed, beyond..1 << 16, 2).unwrap();
    assert_eq!((found.any_valid, found.written_end), (false, beyond + 8));
    let after = Place { position: beyond - 8, ..start };
    assert_eq!(next_batch(&*file, 1 << 16, seed, after).unwrap(), None);
}

#[test]
fn a_header_whose_batch_would_end_behind_the_file_is_none() {
    let file = large();
    let (seed, position) = (example_header().seed(), LENGTH - BATCH_BYTES);
    let header = BatchHeader { length: BATCH_HEADER_BYTES as u32 + 8, ..batch(0, 0) };
    put(&*file, &header.encode(seed, position), position);
    assert!(!search(&*file, LENGTH, seed, position..LENGTH, 2).unwrap().any_valid);
    let after = Place { position: position - 8, next_offset: 1_000, epoch: 2 };
    let mut budget = 1_000;
    assert_eq!(next_batch_within(&*file, LENGTH, seed, after, &mut budget).unwrap(), None);
    assert_eq!(budget, 1_000, "nothing of it was read");
}

#[test]
fn a_window_is_moved_forth_and_back() {
    let file = large();
    for position in [0, 100_000, LENGTH - 8] {
        put(&*file, &(position + 1).to_le_bytes(), position);
    }
    let mut window = Window::new(&*file, LENGTH);
    for position in [100_000, 0, LENGTH - 8, 100_000, 0] {
        assert_eq!(window.at(position, 16).unwrap()[..8], (position + 1).to_le_bytes());
    }
    assert_eq!(window.at(LENGTH - 8, 16).unwrap().len(), 8);
    assert_eq!(window.at(LENGTH, 16).unwrap().len(), 0);
}
