//! Goal: what a file is longer by, and was never written, costs nothing: time is bounded by what is stored (D6).
//!
//! Method: each file of a small directory is made longer by a hole, with and without a byte at its end. Every way to
//! look at the directory reads about as much as without the hole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thalweg::inspect::{repair_sim, verify_sim};
use thalweg::sim::SimDisk;
use thalweg::{Engine, Record, Writers};

use crate::support::{DATA, Sample, open, read, repair};

/// What reading a hole's ends may cost: a few windows for each look at a file.
const MORE_BYTES: u64 = 64 << 20;

fn hole_lengths() -> [u64; 3] {
    [3 << 30, 8 << 30, 1 << 40]
}

/// All ways to look at a directory, and to go on with it.
fn look(sample: &Sample, disk: &SimDisk, what: &str) -> bool {
    let found = verify_sim(disk, DATA, &mut |_| {}).unwrap();
    repair_sim(disk, DATA, true, &mut |_| {}).unwrap();
    let clock = Arc::new(sample.clock.clone());
    let reader = Engine::builder(DATA).sim(disk).clock(clock).writers(Writers::Inline).read_only().open();
    if let Ok(reader) = reader {
        for partition in [0, 1] {
            let batches = reader.partition(crate::support::TOPIC, partition).unwrap().read(..).unwrap();
            assert!(batches.take_while(Result::is_ok).count() <= 100, "{what}");
        }
        reader.close().unwrap();
    }
    if !found.is_sound() {
        let done = repair(disk).unwrap();
        assert!(done.impossible.is_empty(), "{what}: {done:#?}");
    }
    let engine = open(disk, &sample.clock).unwrap_or_else(|error| panic!("{what}: {error}"));
    for partition in [0, 1] {
        let there = read(&engine, partition, what);
        assert_eq!(there.len(), sample.sent[&partition].len(), "{what}");
        engine
            .partition(crate::support::TOPIC, partition)
            .unwrap()
            .append(&Record::new("goes on"))
            .unwrap()
            .wait()
            .unwrap();
    }
    engine.close().unwrap_or_else(|error| panic!("{what}: {error}"));
    open(disk, &sample.clock).unwrap().close().unwrap_or_else(|error| panic!("{what}, again: {error}"));
    found.is_sound()
}

fn bytes_read(disk: &SimDisk, work: impl FnOnce()) -> u64 {
    let before = disk.bytes_read();
    work();
    disk.bytes_read() - before
}

#[test]
fn d6_a_hole_at_a_files_end_costs_nothing() {
    let sample = Sample::new();
    let disk = sample.copy();
    let usual = bytes_read(&disk, || assert!(look(&sample, &disk, "as it is")));
    let mut files: Vec<PathBuf> = sample.disk.list_files();
    files.push(sample.segments(0)[0].with_file_name("next.tmp"));
    for path in files {
        for length in hole_lengths() {
            let disk = sample.copy();
            if !disk.list_files().contains(&path) {
                disk.write_file(&path, b"").unwrap();
            }
            disk.lengthen(&path, length).unwrap();
            let what = format!("{} of {length} bytes", path.display());
            let mut sound = false;
            let read = bytes_read(&disk, || sound = look(&sample, &disk, &what));
            assert!(read <= usual + MORE_BYTES, "{what}: {read} bytes read, and {usual} without the hole");
            // No segment can be as long; an index has no room reserved; anything else may have.
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("log") => assert_eq!(sound, length <= 5 << 30, "{what}"),
                Some("index") => {}
                _ => assert!(sound, "{what}"),
            }
        }
    }
}

#[test]
fn d6_a_hole_within_a_file_costs_nothing() {
    const LENGTH: u64 = 3 << 30;
    let sample = Sample::new();
    let disk = sample.copy();
    let usual = bytes_read(&disk, || assert!(look(&sample, &disk, "as it is")));
    for path in sample.files() {
        let disk = sample.copy();
        disk.lengthen(&path, LENGTH).unwrap();
        disk.patch(&path, LENGTH - 1, b"x").unwrap();
        let what = format!("{} with a byte at its end", path.display());
        let stored = disk.stored_bytes();
        let read = bytes_read(&disk, || _ = look(&sample, &disk, &what));
        assert!(read <= usual + MORE_BYTES, "{what}: {read} bytes read, and {usual} without the hole");
        assert!(disk.stored_bytes() <= stored + (16 << 20), "{what}: the hole was filled");
    }
}

/// The smallest case: nothing that is done with a file depends on how long it is said to be.
#[test]
fn d6_verify_reads_no_hole() {
    let sample = Sample::new();
    let path: &Path = &sample.segments(0)[0];
    let disk = sample.copy();
    let usual = bytes_read(&disk, || _ = verify_sim(&disk, DATA, &mut |_| {}).unwrap());
    disk.lengthen(path, 3 << 30).unwrap();
    let read = bytes_read(&disk, || _ = verify_sim(&disk, DATA, &mut |_| {}).unwrap());
    assert!(read <= usual + (8 << 20), "{read} bytes read, and {usual} without the hole");
}
