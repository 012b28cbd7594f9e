//! A single flipped bit anywhere in a directory that was closed: `verify` names the file, reading
//! refuses or gives what was sent.
//!
//! By default one bit in each of a choice of bytes; with `THALWEG_EXHAUSTIVE=1` every bit.

use std::fs;
use std::path::{Path, PathBuf};

use thalweg::ErrorKind;

use crate::support::{BLOCK_BYTES, HEADER_BYTES, Patch, Sample, check, files, read_all, segment};

/// Flips bits of `file` at every `stride`-th byte from `from` to `to`; a bit of the byte in turn.
fn flip_all(sample: &Sample, file: &Path, from: u64, to: u64, stride: usize) {
    // Bytes that were never written are all alike.
    let written = stride < 300;
    let exhaustive = written && std::env::var_os("THALWEG_EXHAUSTIVE").is_some();
    let stride = if exhaustive { 1 } else { stride };
    for position in (from..to).step_by(stride) {
        let bits = if exhaustive { 0..8 } else { (position % 8) as u32..(position % 8) as u32 + 1 };
        for bit in bits {
            flip_one(sample, file, position, bit);
        }
    }
}

fn flip_one(sample: &Sample, file: &Path, position: u64, bit: u32) {
    let what = format!("bit {bit} of byte {position} of {}", file.display());
    let _patch = Patch::flip(file, position, bit);
    let found = check(&sample.dir());
    assert!(!found.is_sound(), "{what}: verify sees nothing: {found:#?}");
    assert!(found.damage.iter().any(|damage| damage.path == file), "{what}: {:#?}", found.damage);
    let back = read_all(&sample.dir());
    back.assert_true_or_refused(&sample.contents, &what);
    for error in &back.errors {
        let expected = matches!(error.kind(), ErrorKind::Corrupt { .. });
        assert!(expected, "{what}: {error:?}");
        // Where a header is damaged, what is missing is missed behind the file before.
        let near = error.path().is_some_and(|path| path == file || path.parent() == file.parent());
        assert!(near, "{what}: {error:?}");
    }
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).unwrap().len()
}

/// Where the catalogue ended when the directory was closed, as `LOCK` says.
fn catalog(sample: &Sample) -> (PathBuf, u64) {
    let note = fs::read_to_string(sample.dir().join("LOCK")).unwrap();
    let mut words = note.split([' ', ';']).filter(|word| !word.is_empty());
    assert_eq!(words.next(), Some("closed"), "{note}");
    let name = words.next().unwrap();
    let position = words.find_map(|word| word.parse().ok()).unwrap();
    (sample.dir().join(name), position)
}

#[test]
fn a_closed_directory_is_sound() {
    let sample = Sample::closed();
    let found = check(&sample.dir());
    assert!(found.is_sound(), "{:#?}", found.damage);
    assert_eq!(found.unfinished, []);
    assert_eq!(found.ignored, Vec::<PathBuf>::new());
    assert_eq!(found.live_writer, None);
    assert_eq!((found.topics, found.partitions, found.segments), (1, 3, 5));
    assert_eq!((found.batches, found.records), (18, 35));
    assert_eq!(found.bytes, files(&sample.dir()).iter().map(|file| length(file)).sum::<u64>());
    let back = read_all(&sample.dir());
    assert!(back.errors.is_empty(), "{:?}", back.errors);
    back.assert_true_or_refused(&sample.contents, "closed");
}

#[test]
fn any_bit_of_a_file_header() {
    let sample = Sample::closed();
    flip_all(&sample, &segment(&sample.dir(), 0, 5), 0, HEADER_BYTES, 3);
    for file in files(&sample.dir()) {
        flip_all(&sample, &file, 0, HEADER_BYTES, 41);
        flip_all(&sample, &file, HEADER_BYTES, BLOCK_BYTES, 397);
    }
}

#[test]
fn any_bit_of_a_short_segment() {
    let sample = Sample::closed();
    for (partition, base_offset) in [(0, 0), (0, 29), (1, 0), (1, 2)] {
        let file = segment(&sample.dir(), partition, base_offset);
        flip_all(&sample, &file, BLOCK_BYTES, length(&file), 5);
    }
}

#[test]
fn any_bit_of_a_long_segment_or_its_index() {
    let sample = Sample::closed();
    let file = segment(&sample.dir(), 0, 5);
    flip_all(&sample, &file, BLOCK_BYTES, length(&file), 61);
    let index = file.with_extension("index");
    assert_eq!(length(&index), BLOCK_BYTES + 2 * 24);
    flip_all(&sample, &index, BLOCK_BYTES, length(&index), 1);
}

#[test]
fn any_bit_of_the_catalogue() {
    let sample = Sample::closed();
    let (file, end) = catalog(&sample);
    flip_all(&sample, &file, BLOCK_BYTES, end, 17);
    // The last entries are those that nothing in the file proves.
    flip_all(&sample, &file, end - 300, end, 2);
    // Behind the end it is a tail that never counted, for verify as for an opening, which cuts it and says so.
    for position in (end..end + 200).step_by(7).chain((end..length(&file)).step_by(2_003)) {
        let what = format!("bit of byte {position}, behind the end at {end}");
        let _patch = Patch::flip(&file, position, (position % 8) as u32);
        let found = check(&sample.dir());
        assert!(found.is_sound(), "{what}: {:#?}", found.damage);
        let tails: Vec<_> =
            found.unfinished.iter().map(|tail| (tail.path.clone(), tail.position, tail.bytes)).collect();
        assert_eq!(tails, [(file.clone(), end, position + 1 - end)], "{what}");
        let back = read_all(&sample.dir());
        back.assert_true_or_refused(&sample.contents, &what);
        assert!(back.errors.is_empty(), "{what}: {:?}", back.errors);
    }
}

#[test]
fn stretches_of_garbage_or_zeros_anywhere() {
    let sample = Sample::closed();
    let files = files(&sample.dir());
    let mut random = 7_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..200 {
        let file = &files[next(files.len() as u64) as usize];
        let end = if file.ends_with("catalog-1") { catalog(&sample).1 + 1_000 } else { length(file) };
        let position = next(end);
        let bytes = (1 + next(700)).min(end - position) as usize;
        let zeros = round % 3 == 0;
        let mut changed = false;
        let fill = |bytes: &mut [u8]| {
            for byte in bytes {
                let new = if zeros { 0 } else { next(255) as u8 + 1 };
                changed |= *byte != new;
                *byte = new;
            }
        };
        let _patch = Patch::new(file, position, fill, bytes);
        let what = format!("round {round}: {bytes} bytes from {position} of {}", file.display());
        let found = check(&sample.dir());
        // Behind the catalogue's end, too, a tail was never finished.
        let is_index = file.extension().is_some_and(|extension| extension == "index") || file.ends_with("catalog-1");
        let named = found.damage.iter().any(|damage| damage.path == *file)
            || (is_index && found.unfinished.iter().any(|unfinished| unfinished.path == *file));
        assert_eq!(named, changed, "{what}: {found:#?}");
        read_all(&sample.dir()).assert_true_or_refused(&sample.contents, &what);
        let shown = thalweg::inspect::DumpOptions::default().contents(true);
        thalweg::inspect::dump(file, shown, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    }
}
