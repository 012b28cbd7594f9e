//! Bits flipped and tails torn in a data directory: `verify`, `consume`, `dump` and the next writer
//! say what is wrong and where, and give back what is whole.

use std::fs;
use std::io::Write;

use serde_json::{Value, json};

use crate::support::{Place, Ran, flip_bit};

/// A topic whose records lie in several batches: each run of the command begins a new one.
fn several_batches() -> Place {
    let place = Place::with_topic("t", 1);
    for line in ["one\n", "two\n", "three\n"] {
        place.run_with(&["produce", "t"], line.as_bytes()).succeeded();
    }
    place
}

/// Position and length of each batch in the segment, as `dump` shows them.
fn batches(place: &Place) -> Vec<(u64, u64)> {
    let segment = place.segment("t", 0);
    let lines = place.run(&["dump", segment.to_str().unwrap(), "--json"]).succeeded().json_lines();
    assert_eq!(lines[0]["type"], "file");
    let batches = lines.iter().filter(|line| line["type"] == "batch");
    batches.map(|batch| (batch["position"].as_u64().unwrap(), batch["length"].as_u64().unwrap())).collect()
}

#[test]
fn sound_data_is_said_to_be_sound() {
    let place = several_batches();
    let ran = place.run(&["verify"]).succeeded();
    assert!(ran.text().starts_with("sound: 1 topic, 1 partition, 1 segment, 3 records, "), "{ran:?}");
    assert_eq!(ran.text().lines().count(), 1);
    let found = place.run(&["verify", "--json"]).succeeded().json();
    assert_eq!((&found["sound"], &found["records"], &found["damage"]), (&json!(true), &json!(3), &json!([])));
    assert_eq!(found["live_writer"], json!(null));
}

#[test]
fn a_flipped_bit_is_found_and_named() {
    let place = several_batches();
    let segment = place.segment("t", 0);
    let path = segment.to_str().unwrap();
    let (position, length) = batches(&place)[1];
    flip_bit(&segment, position + length - 8);

    let ran = place.run(&["verify"]).failed(1, &["damage in 1 place"]);
    let named = format!("damaged: {path}, position {position}, topic t, partition 0");
    assert!(ran.text().contains(&named), "no {named:?} in {ran:?}");
    let found = place.run(&["verify", "--json"]).failed(1, &[]).json();
    let damage = &found["damage"][0];
    assert_eq!(
        (&found["sound"], &damage["path"], &damage["position"]),
        (&json!(false), &json!(path), &json!(position))
    );
    assert!(!damage["reason"].as_str().unwrap().is_empty());

    let ran = place.run(&["consume", "t"]).failed(1, &[path, &format!("position {position}"), "damaged"]);
    assert_eq!(ran.text(), "one\n");
    assert_eq!(place.run(&["consume", "t", "--from", "2"]).succeeded().text(), "three\n");
    let dumped = place.run(&["dump", path, "--json", "--records"]).succeeded().json_lines();
    let of_type = |kind: &str| dumped.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    assert_eq!(of_type("batch").iter().filter(|batch| batch["problem"] != Value::Null).count(), 1);
    let values: Vec<_> = of_type("record").iter().map(|record| record["value"].clone()).collect();
    assert_eq!(values, ["one", "three"]);
}

#[test]
fn a_torn_tail_is_cut_and_said_so() {
    let place = Place::with_topic("t", 1);
    let mut writer = place.start(&["produce", "t", "--json"]);
    writer.write(b"one\n");
    writer.line();
    writer.kill();
    writer.finish();
    // What a crash may leave of a write that was never acknowledged.
    let (position, length) = batches(&place)[0];
    let segment = place.segment("t", 0);
    let end = position + length;
    let mut file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(end)).unwrap();
    file.write_all(&[0xab; 100]).unwrap();
    drop(file);

    let found = place.run(&["verify", "--json"]).succeeded().json();
    assert_eq!((&found["sound"], &found["unfinished"][0]["position"]), (&json!(true), &json!(end)));
    assert_eq!(place.run(&["consume", "t"]).succeeded().text(), "one\n");
    let ran = place.run_with(&["produce", "t"], b"two\n").succeeded();
    let says = format!("recovered: topic t partition 0: cut 100 bytes at position {end} of {}", segment.display());
    assert_eq!(ran.stderr.lines().next(), Some(&*says), "{ran:?}");
    assert_eq!(place.run(&["consume", "t"]).succeeded().text(), "one\ntwo\n");
    assert!(!place.run_with(&["produce", "t"], b"three\n").succeeded().stderr.contains("recovered"));
}

#[test]
fn a_damaged_partition_shows_and_takes_no_records() {
    let place = several_batches();
    let (position, _) = batches(&place)[1];
    let segment = fs::OpenOptions::new().write(true).open(place.segment("t", 0)).unwrap();
    segment.set_len(position).unwrap();
    let described = place.run(&["topic", "describe", "t", "--json"]).succeeded().json();
    assert_eq!(described["partitions"][0]["state"], "damaged");
    assert!(described["partitions"][0]["error"].as_str().unwrap().contains(place.segment("t", 0).to_str().unwrap()));
    let text = place.run(&["topic", "describe", "t"]).succeeded();
    assert!(text.text().contains("✗ "), "{text:?}");
    let ran = place.run(&["consume", "t"]).failed(1, &["damaged", "thalweg verify"]);
    assert_eq!(ran.text(), "one\n");
    place.run_with(&["produce", "t"], b"four\n").failed(1, &["damaged", "thalweg verify"]);
}

#[test]
fn damage_in_one_topic_fails_no_command_on_others() {
    let place = several_batches();
    place.run(&["topic", "create", "whole", "--partitions", "1"]).succeeded();
    let (position, _) = batches(&place)[1];
    fs::OpenOptions::new().write(true).open(place.segment("t", 0)).unwrap().set_len(position).unwrap();
    let warned = |ran: Ran, text: &str| {
        let ran = ran.succeeded();
        assert!(ran.stderr.contains("warning: ") && !ran.stderr.contains("error: "), "{ran:?}");
        assert!(ran.text().contains(text), "{ran:?}");
    };
    warned(place.run_with(&["produce", "whole", "--json"], b"one\n"), "\"offset\":0");
    warned(place.run(&["consume", "whole", "--group", "g"]), "one");
    warned(place.run(&["group", "reset", "g", "--topic", "whole", "--to", "earliest"]), "");
    warned(place.run(&["topic", "create", "more", "--partitions", "1"]), "made topic more");
    warned(place.run(&["topic", "alter", "more", "--partitions", "2"]), "1 -> 2");
    warned(place.run(&["topic", "delete", "more"]), "deleted topic more");
    place.run_with(&["produce", "t"], b"four\n").failed(1, &["damaged", "thalweg verify"]);
    place.run(&["consume", "t", "--group", "g"]).failed(1, &["damaged", "thalweg verify"]);
}

#[test]
fn what_can_not_be_checked_is_no_damage() {
    let place = Place::new();
    place.run(&["verify"]).failed(3, &["there is no thalweg data in"]);
    fs::write(place.path(), "text").unwrap();
    place.run(&["verify"]).failed(3, &["not a directory"]);
    place.run(&["dump", "nowhere.log"]).failed(1, &["there is no file nowhere.log"]);
    place.run(&["dump", "."]).failed(1, &["not a regular file"]);
    let odd = place.run(&["dump", place.path().to_str().unwrap(), "--json"]).succeeded().json_lines();
    assert!(!odd[0]["problem"].as_str().unwrap().is_empty(), "{odd:?}");
}

#[test]
fn dump_shows_every_kind_of_file() {
    let place = several_batches();
    let segment = place.segment("t", 0);
    let dump = |path: &std::path::Path| place.run(&["dump", path.to_str().unwrap()]).succeeded().text().to_owned();
    let text = dump(&segment);
    assert!(text.contains("segment of topic t (id 1), partition 0"), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains(" records ")).count(), 3 + 1, "{text}");
    assert!(dump(&segment.with_extension("index")).contains("index of topic t"));
    let catalogue = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path());
    let catalogue = catalogue.max_by_key(|path| path.to_str().unwrap().contains("catalog-")).unwrap();
    let text = dump(&catalogue);
    for part in ["catalogue", "engine_id=", "name=t", "clean"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

/// Two partitions of three records each, in batches of one; the second of partition 0 is damaged. Its offset is 1.
fn two_partitions() -> (Place, String) {
    let place = Place::with_topic("t", 2);
    for line in ["one\n", "two\n", "three\n"] {
        for partition in ["0", "1"] {
            place.run_with(&["produce", "t", "--partition", partition], line.as_bytes()).succeeded();
        }
    }
    let (position, length) = batches(&place)[1];
    flip_bit(&place.segment("t", 0), position + length - 8);
    (place, format!("position {position}"))
}

#[test]
fn consume_prints_the_other_partitions_and_says_where_to_go_on() {
    let (place, position) = two_partitions();
    let named =
        ["partition 0", "offset 1", &position, "goes on at offset 2", "--skip-damaged", "--partition 0 --from 2"];
    let ran = place.run(&["consume", "t"]).failed(1, &named);
    assert_eq!(ran.text(), "one\none\ntwo\nthree\n");
    assert_eq!(place.run(&["consume", "t", "--partition", "0", "--from", "2"]).succeeded().text(), "three\n");
    let ran = place.run(&["consume", "t", "--skip-damaged"]).succeeded();
    assert_eq!(ran.text(), "one\nthree\none\ntwo\nthree\n");
    assert!(ran.stderr.contains("skipped: ") && ran.stderr.contains("goes on at offset 2"), "{ran:?}");
}

/// Damage in partition 0 hides where the time is: all other partitions are printed, and that one is if damage may be
/// skipped, from the first record that is young enough.
#[test]
fn a_start_time_behind_damage_holds_up_no_other_partition() {
    let place = Place::with_topic("t", 2);
    for (time, value) in [(10, "one"), (20, "two"), (30, "three"), (40, "four")] {
        let engine = thalweg::Engine::open(place.path()).unwrap();
        for number in [0, 1] {
            let record = thalweg::Record::new(value).timestamp(time);
            engine.partition("t", number).unwrap().append(&record).unwrap().wait().unwrap();
        }
        engine.close().unwrap();
    }
    let (position, length) = batches(&place)[1];
    flip_bit(&place.segment("t", 0), position + length - 8);
    let named = ["partition 0", "offset 1", "goes on at offset 2", "--skip-damaged", "--partition 0 --from 2"];
    let at = ["consume", "t", "--from", "@40"];
    let with = |more: &[&str]| place.run(&[&at[..], more].concat());
    assert_eq!(with(&[]).failed(1, &named).text(), "four\n");
    assert_eq!(with(&["--follow", "--max", "1"]).failed(1, &named).text(), "four\n");
    assert_eq!(with(&["--partition", "0"]).failed(1, &named).text(), "");
    assert_eq!(with(&["--follow", "--partition", "0"]).failed(1, &named).text(), "");
    let ran = with(&["--skip-damaged"]).succeeded();
    assert_eq!(ran.text(), "four\nfour\n");
    assert!(ran.stderr.contains("skipped: ") && ran.stderr.contains("goes on at offset 2"), "{ran:?}");
    // A group stands there until it is told, as at other damage.
    assert_eq!(with(&["--group", "g"]).failed(1, &named).text(), "four\n");
    assert_eq!(with(&["--group", "g", "--partition", "0"]).failed(1, &named).text(), "");
    assert_eq!(with(&["--group", "g", "--skip-damaged"]).succeeded().text(), "four\n");
    assert_eq!(with(&["--group", "g"]).text(), "");
}

#[test]
fn consume_follows_the_other_partitions() {
    let (place, _) = two_partitions();
    let mut following = place.start(&["consume", "t", "--follow", "--max", "5"]);
    let mut lines: Vec<_> = (0..4).map(|_| following.line()).collect();
    lines.sort();
    assert_eq!(lines, ["one", "one", "three", "two"]);
    // What comes to the other one is printed still, and the end names the damage.
    place.run_with(&["produce", "t", "--partition", "1"], b"four\n").succeeded();
    let ran = following.finish().failed(1, &["partition 0", "offset 1"]);
    assert!(ran.text().ends_with("four\n"), "{ran:?}");
    let ran = place.run(&["consume", "t", "--follow", "--max", "5", "--skip-damaged"]).succeeded();
    assert_eq!(ran.text().lines().count(), 5);
    // Where nothing else is left, following ends.
    let ran = place.run(&["consume", "t", "--follow", "--partition", "0"]).failed(1, &["goes on at offset 2"]);
    assert_eq!(ran.text(), "one\n");
}

#[test]
fn a_group_goes_on_behind_damage_if_told_to() {
    let (place, _) = two_partitions();
    let group = ["consume", "t", "--group", "g"];
    let ran = place.run(&group).failed(1, &["partition 0", "offset 1", "--skip-damaged"]);
    assert_eq!(ran.text().lines().count(), 4);
    // It stands there until it is told.
    assert_eq!(place.run(&group).failed(1, &["goes on at offset 2"]).text(), "");
    let skipping = [&group[..], &["--skip-damaged"]].concat();
    assert_eq!(place.run(&skipping).succeeded().text(), "three\n");
    assert_eq!(place.run(&group).text(), "");
    // Also where nothing follows the damage.
    let (place, _) = two_partitions();
    let (position, length) = batches(&place)[2];
    flip_bit(&place.segment("t", 0), position + length - 8);
    let ran = place.run(&skipping).succeeded();
    assert_eq!(ran.text().lines().count(), 4);
    assert_eq!(place.run(&skipping).succeeded().text(), "");
}

#[test]
fn a_writer_that_met_damage_takes_no_more_and_describe_shows_it() {
    let (place, _) = two_partitions();
    // Nothing has looked there yet.
    let state = |place: &Place| {
        let described = place.run(&["topic", "describe", "t", "--json"]).succeeded().json();
        described["partitions"][0]["error"].clone()
    };
    assert_eq!(state(&place), Value::Null);
    place.run(&["consume", "t", "--group", "g"]).failed(1, &["offset 1"]);
    assert!(state(&place).as_str().unwrap().contains("damaged"), "{}", state(&place));
    place.run_with(&["produce", "t", "--partition", "0"], b"four\n").failed(1, &["damaged", "offset 1"]);
    place.run_with(&["produce", "t", "--partition", "1"], b"four\n");
    assert_eq!(place.run(&["consume", "t", "--partition", "1"]).succeeded().text(), "one\ntwo\nthree\nfour\n");
}
