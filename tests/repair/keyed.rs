//! The catalogue and the offset log flipped, cut, missing.

use std::path::Path;

use thalweg::inspect::{RepairAction, verify_sim};
use thalweg::sim::SimDisk;
use thalweg::{Record, ResetTo, TopicConfig};

use crate::support::{DATA, Sample, change, check, lost, open, repair, repaired};

#[test]
fn d7_a_flipped_catalogue_is_rebuilt() {
    let sample = Sample::new();
    let path = sample.named("catalog-");
    for place in (0..512).step_by(53).chain([600]).chain((4096..6_000).step_by(41)) {
        let disk = sample.copy();
        change(&disk, &path, |bytes| bytes[place] ^= 1 << (place % 8));
        let what = format!("catalogue flipped at {place}");
        if verify_sim(&disk, DATA, &mut |_| {}).unwrap().is_sound() {
            continue;
        }
        let done = repaired(&sample, &disk, &what);
        assert_eq!(lost(&done), 0, "{what}: {done:#?}");
        assert!(matches!(done.steps[0].action, RepairAction::RebuildCatalog { topics: 1, .. }), "{what}: {done:#?}");
    }
}

#[test]
fn d7_a_missing_or_cut_catalogue_is_rebuilt() {
    let sample = Sample::new();
    let path = sample.named("catalog-");
    let length = 6_000;
    for to in (0..length).step_by(331) {
        let disk = sample.copy();
        change(&disk, &path, |bytes| bytes.truncate(to));
        if verify_sim(&disk, DATA, &mut |_| {}).unwrap().is_sound() {
            continue;
        }
        let done = repaired(&sample, &disk, &format!("catalogue cut to {to}"));
        assert_eq!(lost(&done), 0, "{done:#?}");
    }
    let disk = sample.copy();
    disk.remove_file(&path).unwrap();
    let done = repaired(&sample, &disk, "without a catalogue");
    assert_eq!(lost(&done), 0, "{done:#?}");
    assert!(done.notes.iter().any(|note| note.contains("default settings")), "{done:#?}");
    let RepairAction::RebuildCatalog { epoch, .. } = done.steps[0].action else { panic!("{done:#?}") };
    assert!(epoch > 2, "{done:#?}");
}

/// Two losses at once: a topic of which only a group's commits tell.
#[test]
fn d3_a_topic_that_is_gone_with_the_catalogue_is_named_by_what_groups_have_committed() {
    let sample = Sample::new();
    let engine = sample.open();
    let config = TopicConfig::default().partitions(2);
    for topic in ["gone", "deleted"] {
        engine.create_topic(topic, config.clone()).unwrap();
        for (partition, records) in [(0, 5), (1, 7)] {
            let partition = engine.partition(topic, partition).unwrap();
            for _ in 0..records {
                partition.append(&Record::new("x")).unwrap().wait().unwrap();
            }
        }
        engine.reset_group("audit", topic, ResetTo::Latest, false).unwrap();
    }
    engine.close().unwrap();
    let disk = SimDisk::new();
    let catalog = sample.named("catalog-");
    for path in sample.files().into_iter().filter(|path| *path != catalog && !path.starts_with("data/topics/gone")) {
        // As a deletion leaves them until they are removed.
        let to = match path.strip_prefix("data/topics/deleted") {
            Ok(below) => Path::new("data/topics/.deleted-3").join(below),
            Err(_) => path.clone(),
        };
        disk.write_file(to, sample.disk.read_file(&path).unwrap()).unwrap();
    }
    let done = repair(&disk).unwrap();
    check(&sample, &disk, &done, "a topic is gone");
    let lost: Vec<_> = done.lost.iter().map(ToString::to_string).collect();
    let expected = ["topic id 2, partition 0, offsets 0 to 4", "topic id 2, partition 1, offsets 0 to 6"];
    assert_eq!(lost, expected, "{done:#?}");
    let about: Vec<_> = done.notes.iter().filter(|note| note.starts_with("topic id ")).collect();
    assert_eq!(about.len(), 1, "{about:?}");
}

#[test]
fn d3_without_a_catalogue_all_that_is_whole_stays_and_gaps_are_lost() {
    let sample = Sample::in_one_go();
    let catalog = sample.named("catalog-");
    let segments = sample.segments(0);
    assert_eq!(segments.len(), 3);
    for (number, segment) in segments.iter().enumerate() {
        let length = sample.disk.read_file(segment).unwrap().len();
        // Not the last batch's header: what is missing at the end is told by that alone.
        let header = length - 200..length - 80;
        let places = (0..512).step_by(67).chain((4096..4800).step_by(61)).chain((4800..length).step_by(9_001));
        for place in
            places.chain((length - 300..length).step_by(11)).filter(|place| number < 2 || !header.contains(place))
        {
            let disk = sample.copy();
            disk.remove_file(&catalog).unwrap();
            change(&disk, segment, |bytes| bytes[place] ^= 1 << (place % 8));
            repaired(&sample, &disk, &format!("without a catalogue, segment {number} flipped at {place}"));
        }
        if number < 2 {
            let disk = sample.copy();
            disk.remove_file(&catalog).unwrap();
            disk.remove_file(segment).unwrap();
            let done = repaired(&sample, &disk, &format!("without a catalogue and segment {number}"));
            assert_eq!(lost(&done), 3, "{done:#?}");
        }
    }
}

#[test]
fn d5_commits_survive_a_damaged_offset_log() {
    let sample = Sample::new();
    let path = sample.named("offsets-");
    let end = 4096 + 1_200;
    let newest = [(0, sample.sent[&0].len() as u64), (1, sample.sent[&1].len() as u64)];
    for place in (0..512).step_by(61).chain([700]).chain((4096..end).step_by(23)) {
        let disk = sample.copy();
        change(&disk, &path, |bytes| bytes[place] ^= 1 << (place % 8));
        let what = format!("offset log flipped at {place}");
        if verify_sim(&disk, DATA, &mut |_| {}).unwrap().is_sound() {
            continue;
        }
        let done = repaired(&sample, &disk, &what);
        assert_eq!(lost(&done), 0, "{what}");
        let engine = open(&disk, &sample.clock).unwrap();
        let rows = engine.describe_group("billing").map(|group| group.offsets).unwrap_or_default();
        let is_named = done.in_doubt.iter().any(|doubt| doubt.group == "billing") || done.group_names_lost;
        for (partition, offset) in newest {
            let committed = rows.iter().find(|row| row.partition == partition).and_then(|row| row.committed);
            assert!(committed == Some(offset) || is_named, "{what}: {committed:?}\n{done:#?}");
            assert!(committed.is_none_or(|committed| committed <= offset), "{what}: invented {committed:?}");
        }
        // Groups go on committing.
        engine.reset_group("billing", crate::support::TOPIC, thalweg::ResetTo::Offset(1), false).unwrap();
        engine.close().unwrap();
    }
}

#[test]
fn d5_a_missing_or_cut_offset_log_is_rebuilt() {
    let sample = Sample::new();
    let path = sample.named("offsets-");
    let disk = sample.copy();
    disk.remove_file(&path).unwrap();
    let done = repaired(&sample, &disk, "without an offset log");
    assert!(done.group_names_lost, "{done:#?}");
    for to in (0..5_400).step_by(211) {
        let disk = sample.copy();
        change(&disk, &path, |bytes| bytes.truncate(to));
        if !verify_sim(&disk, DATA, &mut |_| {}).unwrap().is_sound() {
            let done = repaired(&sample, &disk, &format!("offset log cut to {to}"));
            assert!(done.group_names_lost || !done.in_doubt.is_empty(), "cut to {to}: {done:#?}");
        }
    }
}

#[test]
fn d7_everything_at_once() {
    let sample = Sample::new();
    let disk = sample.copy();
    disk.remove_file(sample.named("catalog-")).unwrap();
    change(&disk, &sample.named("offsets-"), |bytes| bytes[4_200] ^= 1);
    let segments = sample.segments(0);
    change(&disk, &segments[0], |bytes| bytes[33] ^= 0xff);
    change(&disk, &segments[1], |bytes| bytes[5_000] ^= 1);
    let done = repaired(&sample, &disk, "everything at once");
    assert_eq!(lost(&done), 2, "{done:#?}");
}

#[test]
fn d7_a_foreign_newest_file_gives_way_to_ours() {
    let sample = Sample::new();
    let segment = sample.disk.read_file(&sample.segments(1)[0]).unwrap();
    for name in ["catalog-9", "offsets-9"] {
        let disk = sample.copy();
        disk.write_file(std::path::Path::new(DATA).join(name), &segment).unwrap();
        let done = repaired(&sample, &disk, name);
        assert_eq!((lost(&done), done.group_names_lost, done.in_doubt.len()), (0, false, 0), "{done:#?}");
        let engine = open(&disk, &sample.clock).unwrap();
        assert_eq!(engine.groups().unwrap(), ["audit", "billing"]);
        engine.close().unwrap();
    }
}
