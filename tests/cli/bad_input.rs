//! What can't be done: a clear error with a next step, the right exit code, and nothing lost.

use std::fs;

use crate::support::{Place, run, thalweg};

#[test]
fn command_lines_that_make_no_sense() {
    let place = Place::with_topic("t", 1);
    let lines: &[&[&str]] = &[
        &["frobnicate"],
        &["topic", "create"],
        &["topic", "create", "x"],
        &["topic", "create", "x", "--partitions", "many"],
        &["topic", "create", "x", "--partitions", "-1"],
        &["topic", "create", "x", "--partitions", "1", "--config", "segment.bytes"],
        &["produce"],
        &["produce", "t", "--acks", "all"],
        &["produce", "t", "--partition", "first"],
        &["produce", "t", "--key-separator", ""],
        &["produce", "t", "--key-separator", r"\n"],
        &["produce", "t", "--key-separator", r"a\q"],
        &["produce", "t", "extra"],
        &["consume", "t", "--from", "somewhere"],
        &["consume", "t", "--from", "--follow"],
        &["consume", "t", "--max", "-1"],
        &["consume", "t", "--group"],
        &["group", "frobnicate"],
        &["group", "describe"],
        &["group", "delete", "a", "b"],
        &["group", "copy", "a"],
        &["group", "reset", "g", "--topic", "t"],
        &["group", "reset", "g", "--to", "earliest"],
        &["group", "reset", "g", "--topic", "t", "--to", "-5"],
        &["group", "reset", "g", "--topic", "t", "--to", "somewhere"],
        &["topic", "alter", "t"],
        &["topic", "alter", "t", "--partitions", "few"],
        &["topic", "alter", "t", "--config", "fence"],
        &["dump"],
        &["demo", "--seed", "x"],
    ];
    for line in lines {
        place.run(line).failed(2, &[]);
    }
    // Half a command gets its help.
    assert_eq!(run(thalweg(), b"").code, Some(2));
    assert_eq!(place.run(&["topic"]).code, Some(2));
    assert_eq!(place.run(&["group"]).code, Some(2));
    let help = place.run(&["--help"]).succeeded();
    for command in ["demo", "topic", "group", "produce", "consume", "verify", "dump"] {
        assert!(help.text().contains(command), "{help:?}");
    }
    assert_eq!(place.run(&["--version"]).succeeded().text(), format!("thalweg {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn topic_names_that_are_none() {
    let place = Place::new();
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a/b", "../a", "a b", "ünicode", "a\nb", "a:b", &long] {
        let error = place.run(&["topic", "create", name, "--partitions", "1"]);
        error.failed(1, &["topic name", "is not valid", "1 to 249 characters"]);
        place.run(&["consume", name]).failed(1, &[]);
    }
    place.run(&["topic", "create", &"x".repeat(249), "--partitions", "1"]).succeeded();
    assert_eq!(fs::read_dir(place.path().join("topics")).unwrap().count(), 1);
}

#[test]
fn topics_that_are_not_there_or_there_already() {
    let place = Place::with_topic("lines", 1);
    for args in [
        &["produce", "linse"][..],
        &["consume", "linse"],
        &["topic", "describe", "linse"],
        &["topic", "delete", "linse"],
        &["topic", "alter", "linse", "--partitions", "2"],
        &["consume", "linse", "--group", "g"],
        &["group", "reset", "g", "--topic", "linse", "--to", "earliest"],
        &["group", "reset", "g", "--topic", "linse", "--to", "earliest", "--dry-run"],
    ] {
        place
            .run(args)
            .failed(1, &["topic \"linse\" does not exist", "there are: lines", "topic create linse --partitions"]);
    }
    place.run(&["topic", "create", "lines", "--partitions", "1"]).failed(1, &["exists already"]);
    place
        .run(&["topic", "create", "LINES", "--partitions", "1"])
        .failed(1, &["\"lines\" exists already (topic names are compared without case)"]);
}

#[test]
fn settings_out_of_bounds() {
    let place = Place::new();
    let create = |args: &[&str]| place.run(&[&["topic", "create", "t"], args].concat());
    create(&["--partitions", "0"]).failed(1, &["partitions = 0", "1 to 100000"]);
    create(&["--partitions", "100001"]).failed(1, &["partitions = 100001"]);
    create(&["--partitions", "1", "--config", "segment.byte=1"]).failed(1, &["segment.byte", "segment.bytes"]);
    create(&["--partitions", "1", "--config", "segment.bytes=1"]).failed(1, &["segment.bytes = 1", "65536"]);
    create(&["--partitions", "1", "--config", "acks=all"]).failed(1, &["acks = all", "none, written or synced"]);
    place.run(&["topic", "describe", "t"]).failed(1, &[]);
}

#[test]
fn partitions_out_of_range() {
    let place = Place::with_topic("t", 3);
    let says = ["partition 3 does not exist", "has 3, numbered from 0"];
    // Refused before stdin is read.
    let mut produce = place.start(&["produce", "t", "--partition", "3"]);
    let stdin = produce.take_stdin();
    produce.finish().failed(1, &says);
    drop(stdin);
    place.run(&["consume", "t", "--partition", "3"]).failed(1, &says);
    place.run(&["consume", "t", "--partition", "4294967295", "--follow"]).failed(1, &["partition 4294967295"]);
}

#[test]
fn records_over_the_limit() {
    let place = Place::new();
    place.run(&["topic", "create", "t", "--partitions", "1", "--config", "max.message.bytes=2000"]).succeeded();
    let input = format!("one\ntwo\n{}\nfour\n", "x".repeat(3_000));
    let says = ["line 3: ", "limit of 2000", "2 in all", "next: "];
    place.run_with(&["produce", "t"], input.as_bytes()).failed(1, &says);
    let ran = place.run_with(&["produce", "t", "--json"], input.as_bytes()).failed(1, &says);
    assert_eq!(ran.json_lines().len(), 2);
    assert_eq!(place.run(&["consume", "t"]).succeeded().text(), "one\ntwo\none\ntwo\n");
    // A line that never ends isn't gathered.
    let endless = vec![b'x'; 5 << 20];
    place.run_with(&["produce", "t"], &endless).failed(1, &["line 1 is longer", "max.message.bytes = 2000"]);
}

#[test]
fn directories_that_are_not_ours() {
    let place = Place::new();
    let reading = [
        &["consume", "t"][..],
        &["topic", "list"],
        &["topic", "describe", "t"],
        &["produce", "t"],
        &["topic", "delete", "t"],
        &["topic", "alter", "t", "--partitions", "2"],
        &["consume", "t", "--group", "g"],
        &["group", "list"],
        &["group", "describe", "g"],
        &["group", "delete", "g"],
        &["group", "copy", "g", "h"],
        &["group", "reset", "g", "--topic", "t", "--to", "latest"],
    ];
    for args in reading {
        place.run(args).failed(1, &["there is no thalweg data in", "topic create"]);
        assert!(!place.path().exists(), "{args:?} made the directory");
    }
    fs::create_dir(place.path()).unwrap();
    place.run(&["topic", "list"]).failed(1, &["there is no thalweg data in"]);
    fs::write(place.path().join("letter.txt"), "dear reader").unwrap();
    let create = ["topic", "create", "t", "--partitions", "1"];
    for args in [&create[..], &["topic", "list"], &["demo"], &["produce", "t"]] {
        place.run(args).failed(1, &["not a thalweg data directory", "letter.txt"]);
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn a_file_in_place_of_the_directory() {
    let place = Place::new();
    fs::write(place.path(), "text").unwrap();
    let create = ["topic", "create", "t", "--partitions", "1"];
    for args in [&create[..], &["topic", "list"], &["demo"], &["produce", "t"], &["consume", "t"]] {
        place.run(args).failed(1, &["it is a file, not a directory"]);
    }
    assert_eq!(fs::read(place.path()).unwrap(), b"text");
}

#[test]
fn groups_that_are_not_there_or_can_not_be() {
    let place = Place::with_topic("t", 1);
    for args in
        [&["group", "describe", "nobody"][..], &["group", "delete", "nobody"], &["group", "copy", "nobody", "g"]]
    {
        let says = ["group \"nobody\" does not exist", "there are none yet", "--group nobody"];
        place.run(args).failed(1, &says);
    }
    place.run(&["consume", "t", "--group", "known"]).succeeded();
    place.run(&["group", "describe", "knwon"]).failed(1, &["does not exist", "there are: known"]);
    let long = "x".repeat(250);
    for name in ["", "a\nb", &long] {
        place.run(&["consume", "t", "--group", name]).failed(1, &["a group's name has 1 to 249 bytes"]);
        place.run(&["group", "reset", name, "--topic", "t", "--to", "earliest"]).failed(1, &["a group's name"]);
        place.run(&["group", "copy", "known", name]).failed(1, &["a group's name"]);
    }
    place.run(&["consume", "t", "--group", "g", "--partition", "1"]).failed(1, &["partition 1 does not exist"]);
    let groups = place.run(&["group", "list", "--json"]).succeeded().json();
    assert_eq!(groups.as_array().unwrap().len(), 1, "{groups}");
}
