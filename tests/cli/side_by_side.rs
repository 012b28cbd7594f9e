//! A writer at work: others may look and read, but not write.

use serde_json::json;

use crate::support::Place;

#[test]
fn readers_work_beside_a_writer() {
    let place = Place::with_topic("t", 1);
    let mut writer = place.start(&["produce", "t", "--json"]);
    writer.write(b"one\n");
    assert_eq!(writer.line(), r#"{"partition":0,"offset":0,"line":1}"#);
    assert_eq!(place.run(&["consume", "t"]).succeeded().text(), "one\n");
    assert_eq!(place.run(&["topic", "list", "--json"]).succeeded().json()[0]["records"], 1);
    let described = place.run(&["topic", "describe", "t", "--json"]).succeeded().json();
    assert_eq!(described["partitions"][0]["end_offset"], 1);
    let verified = place.run(&["verify", "--json"]).succeeded().json();
    assert_eq!((&verified["sound"], &verified["records"]), (&json!(true), &json!(1)));
    let holder = verified["live_writer"].as_str().unwrap();
    assert!(holder.contains(&format!("pid {}", writer.pid())), "{holder}");
    // A time that people can read: `since 2026-11-30T09:46:25.818Z`.
    let since = holder.split("since ").nth(1).unwrap();
    assert!(since.len() == 24 && since.starts_with("20") && since.ends_with('Z'), "{holder}");
    let segment = place.segment("t", 0);
    let dumped = place.run(&["dump", segment.to_str().unwrap(), "--records", "--json"]).succeeded().json_lines();
    assert!(dumped.iter().any(|line| line["value"] == "one"), "{dumped:?}");
    writer.write(b"two");
    assert_eq!(writer.finish().succeeded().text(), "{\"partition\":0,\"offset\":1,\"line\":2}\n");
}

#[test]
fn a_second_writer_is_told_who_has_it_open() {
    let place = Place::with_topic("t", 1);
    let mut writer = place.start(&["produce", "t", "--json"]);
    writer.write(b"one\n");
    writer.line();
    let pid = format!("pid {}", writer.pid());
    let data = place.path();
    let says = ["open for writing", &pid, data.to_str().unwrap(), "next: "];
    place.run_with(&["produce", "t"], b"lost?\n").failed(1, &says);
    place.run(&["topic", "create", "other", "--partitions", "1"]).failed(1, &says);
    place.run(&["topic", "delete", "t"]).failed(1, &says);
    place.run(&["demo"]).failed(1, &says);
    writer.finish().succeeded();
    assert_eq!(place.run(&["consume", "t"]).succeeded().text(), "one\n");
}

#[test]
fn following_prints_records_as_they_come() {
    let place = Place::with_topic("t", 2);
    let mut writer = place.start(&["produce", "t", "--json", "--partition", "1"]);
    writer.write(b"before\n");
    writer.line();
    let mut follower = place.start(&["consume", "t", "--follow"]);
    assert_eq!(follower.line(), "before");
    for line in ["one", "two", "three"] {
        writer.write(format!("{line}\n").as_bytes());
        assert_eq!(follower.line(), line);
    }
    let mut latest = place.start(&["consume", "t", "--follow", "--json", "--max", "1", "--from", "-1"]);
    assert!(latest.line().contains(r#""value":"three""#));
    assert_eq!(latest.finish().succeeded().stdout, b"");
    writer.finish().succeeded();
    // It goes on across the writers' lives.
    place.run_with(&["produce", "t", "--partition", "0"], b"four\n").succeeded();
    assert_eq!(follower.line(), "four");
}

#[test]
fn following_ends_when_the_topic_is_deleted() {
    let place = Place::with_topic("t", 1);
    place.run_with(&["produce", "t"], b"one\n").succeeded();
    let mut follower = place.start(&["consume", "t", "--follow"]);
    assert_eq!(follower.line(), "one");
    place.run(&["topic", "delete", "t"]).succeeded();
    follower.finish().failed(1, &["was deleted"]);
}

/// The follower stands still while the records that it would read next, and their files, are dropped.
#[test]
fn following_goes_on_where_the_log_starts_and_says_what_was_dropped() {
    let place = Place::new();
    place.run(&["topic", "create", "t", "--partitions", "1", "--config", "segment.bytes=65536"]).succeeded();
    place.run_with(&["produce", "t"], b"first\n").succeeded();
    let mut follower = place.start(&["consume", "t", "--follow"]);
    assert_eq!(follower.line(), "first");
    signal("-STOP", follower.pid());
    let engine = thalweg::Engine::open(place.path()).unwrap();
    let log = engine.partition("t", 0).unwrap();
    for letter in ["a", "b", "c", "d"] {
        log.append(&thalweg::Record::new(&letter.repeat(70_000))).unwrap().wait().unwrap();
    }
    log.append(&thalweg::Record::new("last")).unwrap().wait().unwrap();
    log.delete_records(5).unwrap();
    let dropped = place.path().join("topics/t/0/00000000000000000003.log");
    while dropped.exists() {
        std::thread::yield_now();
    }
    signal("-CONT", follower.pid());
    assert_eq!(follower.line(), "last");
    signal("-INT", follower.pid());
    let ran = follower.finish();
    assert!(
        ran.stderr.contains("skipped: topic t partition 0: offsets 1 to 4 were dropped before they were read"),
        "{ran:?}"
    );
}

/// The reader is held up by its full stdout while the records that it would read next, and their files, are dropped.
#[test]
fn reading_to_the_end_goes_on_where_the_log_starts_and_says_what_was_dropped() {
    let place = Place::new();
    place.run(&["topic", "create", "t", "--partitions", "1", "--config", "segment.bytes=65536"]).succeeded();
    let engine = thalweg::Engine::open(place.path()).unwrap();
    let log = engine.partition("t", 0).unwrap();
    let line = |number: u32| format!("{number}{}", " ".repeat(70_000));
    for number in 0..30 {
        log.append(&thalweg::Record::new(&line(number))).unwrap().wait().unwrap();
    }
    let mut reader = place.start(&["consume", "t"]);
    // Seven records fill the buffer of stdout, the eighth waits until they are printed.
    assert_eq!(reader.line(), line(0));
    log.delete_records(20).unwrap();
    let dropped = place.path().join("topics/t/0/00000000000000000019.log");
    while dropped.exists() {
        std::thread::yield_now();
    }
    // What comes meanwhile is behind the end that the command began with.
    log.append(&thalweg::Record::new(&line(30))).unwrap().wait().unwrap();
    let ran = reader.finish().succeeded();
    let printed: Vec<u32> = ran.text().lines().map(|line| line.trim_end().parse().unwrap()).collect();
    assert_eq!(printed, [1, 2, 3, 4, 5, 6, 7, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29]);
    let says = "skipped: topic t partition 0: offsets 8 to 19 were dropped before they were read\n";
    assert_eq!(ran.stderr, says);
}

fn signal(which: &str, pid: u32) {
    let sent = std::process::Command::new("kill").args([which, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}
