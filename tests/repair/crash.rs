//! Power failures and kills at every step of a repair: the next one comes to the same end.

use thalweg::inspect::{Repair, repair_sim};
use thalweg::sim::SimDisk;

use crate::support::{DATA, Sample, TOPIC, assert_nothing_deleted, change, check, open, repair};

/// Repairs; crashes before every operation in turn, in all ways there are (as many as `images`), and repairs again.
fn crashes(sample: &Sample, damaged: &SimDisk, images: usize, what: &str) -> usize {
    let whole = repair_sim(damaged, DATA, true, &mut |_| {}).unwrap();
    let disk = damaged.crash(thalweg::sim::CrashPolicy::Kill);
    disk.record_crash_points(true);
    repair(&disk).unwrap();
    let points = disk.take_crash_points();
    disk.record_crash_points(false);
    let mut states = 0;
    let mut seen = std::collections::BTreeSet::new();
    for point in points {
        let killed = std::iter::once(point.killed());
        for image in killed.chain(point.images().take(images)) {
            if !seen.insert(image.content_hash()) {
                continue;
            }
            states += 1;
            let what = format!("{what}, crashed before operation {}", point.operation());
            let done = repair(&image).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(done.impossible.is_empty(), "{what}: {done:#?}");
            assert_nothing_deleted(damaged, &image, &what);
            if !whole.notes.iter().any(|note| note.contains("default settings")) {
                // The topic's entry was whole: so its settings are what they were.
                let engine = open(&image, &sample.clock).unwrap();
                assert_eq!(engine.describe_topic(TOPIC).unwrap().config.index_interval_bytes, 4096, "{what}");
                engine.close().unwrap();
            }
            // What the first said to be lost is lost, and nothing else, whoever says it now.
            let all = Repair::clone(&whole);
            check(sample, &image, &all, &what);
        }
    }
    states
}

#[test]
fn d3_a_crash_at_any_step_loses_nothing_more() {
    let sample = Sample::new();
    let segments = sample.segments(0);
    let mut states = 0;
    let disk = sample.copy();
    change(&disk, &segments[1], |bytes| bytes[4_200] ^= 1);
    change(&disk, &segments[0], |bytes| bytes[40] ^= 0xff);
    states += crashes(&sample, &disk, 40, "two segments damaged");
    let disk = sample.copy();
    let (one, other) = (disk.read_file(&segments[0]).unwrap(), disk.read_file(&segments[2]).unwrap());
    disk.write_file(&segments[0], other).unwrap();
    disk.write_file(&segments[2], one).unwrap();
    states += crashes(&sample, &disk, 40, "swapped");
    let disk = sample.copy();
    disk.remove_file(&segments[3]).unwrap();
    disk.remove_file(&segments[0]).unwrap();
    states += crashes(&sample, &disk, 40, "missing");
    assert!(states > 60, "{states}");
}

#[test]
fn d7_a_crash_while_the_catalogue_is_rebuilt() {
    let sample = Sample::new();
    let disk = sample.copy();
    change(&disk, &sample.named("catalog-"), |bytes| bytes[4_230] ^= 1);
    let states = crashes(&sample, &disk, 60, "catalogue damaged");
    let disk = sample.copy();
    disk.remove_file(sample.named("catalog-")).unwrap();
    change(&disk, &sample.segments(0)[1], |bytes| bytes[4_200] ^= 1);
    let more = crashes(&sample, &disk, 60, "catalogue missing");
    assert!(states + more > 50, "{states} and {more}");
}

#[test]
fn d5_a_crash_while_the_offset_log_is_rewritten() {
    let sample = Sample::new();
    let disk = sample.copy();
    change(&disk, &sample.named("offsets-"), |bytes| bytes[4_230] ^= 1);
    let states = crashes(&sample, &disk, 60, "offset log damaged");
    assert!(states > 10, "{states}");
}
