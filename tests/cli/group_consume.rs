//! `consume --group`: goes on where the group is, commits what has been printed, and nothing else.

use std::io::Read;

use crate::support::Place;

/// A topic `t` whose partitions have so many records, `p0-0`, `p0-1` and so on.
fn topic<const N: usize>(counts: [usize; N]) -> Place {
    let place = Place::with_topic("t", N as u32);
    for (partition, count) in counts.into_iter().enumerate() {
        produce(&place, partition, 0..count);
    }
    place
}

fn produce(place: &Place, partition: usize, numbers: std::ops::Range<usize>) {
    let lines: String = numbers.map(|number| format!("p{partition}-{number}\n")).collect();
    place.run_with(&["produce", "t", "--partition", &partition.to_string()], lines.as_bytes()).succeeded();
}

/// The lines that a consumer of group `g` prints, in one line.
fn consume(place: &Place, args: &[&str]) -> String {
    let ran = place.run(&[&["consume", "t", "--group", "g"], args].concat()).succeeded();
    assert_eq!(ran.stderr, "");
    ran.text().lines().collect::<Vec<_>>().join(" ")
}

fn committed(place: &Place) -> Vec<Option<u64>> {
    let described = place.run(&["group", "describe", "g", "--json"]).succeeded().json();
    described["offsets"].as_array().unwrap().iter().map(|row| row["committed"].as_u64()).collect()
}

#[test]
fn goes_on_where_it_was() {
    let place = topic([3]);
    assert_eq!(consume(&place, &[]), "p0-0 p0-1 p0-2");
    assert_eq!(consume(&place, &[]), "");
    produce(&place, 0, 3..5);
    assert_eq!(consume(&place, &[]), "p0-3 p0-4");
    assert_eq!(committed(&place), [Some(5)]);
}

#[test]
fn commits_no_more_than_it_prints() {
    let place = topic([4, 2]);
    let mut all = Vec::new();
    for count in [1, 2, 1, 0, 5] {
        let lines = consume(&place, &["--max", &count.to_string()]);
        assert!(lines.split_whitespace().count() <= count);
        all.extend(lines.split_whitespace().map(str::to_owned));
        let sum: u64 = committed(&place).into_iter().map(Option::unwrap_or_default).sum();
        assert_eq!(sum, all.len() as u64);
    }
    all.sort_unstable();
    assert_eq!(all, ["p0-0", "p0-1", "p0-2", "p0-3", "p1-0", "p1-1"]);
}

#[test]
fn from_counts_only_without_a_commit() {
    let place = topic([4, 2]);
    let begun = |group: &str, from: &str| {
        let ran = place.run(&["consume", "t", "--group", group, "--from", from]).succeeded();
        let mut lines: Vec<_> = ran.text().lines().collect();
        lines.sort_unstable();
        lines.join(" ")
    };
    assert_eq!(begun("a", "latest"), "");
    assert_eq!(begun("b", "-1"), "p0-3 p1-1");
    assert_eq!(begun("c", "2"), "p0-2 p0-3");
    assert_eq!(begun("d", "@9999999999999"), "");
    assert_eq!(begun("e", "@0"), "p0-0 p0-1 p0-2 p0-3 p1-0 p1-1");
    produce(&place, 0, 4..5);
    for (group, from) in [("a", "earliest"), ("b", "earliest"), ("c", "0"), ("d", "-9"), ("e", "latest")] {
        assert_eq!(begun(group, from), "p0-4", "{group}");
    }
    // Where it should begin must be in one of the partitions; nothing is printed or committed otherwise.
    let error = place.run(&["consume", "t", "--group", "g", "--from", "6"]);
    let error = error.failed(1, &["partition 0", "offset 6", "ends before 5", "--from earliest"]);
    assert!(error.stdout.is_empty(), "{error:?}");
    assert_eq!(committed(&place), [None, None]);
    let ran = place.run(&["consume", "t", "--group", "g", "--from", "3"]).succeeded();
    assert_eq!(ran.text(), "p0-3\np0-4\n");
    assert!(ran.stderr.contains("partition 1: offset 3 is out of range"), "{ran:?}");
    assert_eq!(committed(&place), [Some(5), Some(2)]);
}

#[test]
fn one_partition_by_hand() {
    let place = topic([4, 2]);
    assert_eq!(consume(&place, &["--partition", "1", "--max", "1"]), "p1-0");
    assert_eq!(consume(&place, &["--partition", "1"]), "p1-1");
    assert_eq!(consume(&place, &["--partition", "1"]), "");
    assert_eq!(consume(&place, &[]), "p0-0 p0-1 p0-2 p0-3");
}

#[test]
fn groups_do_not_know_of_each_other() {
    let place = topic([4]);
    assert_eq!(consume(&place, &["--max", "2"]), "p0-0 p0-1");
    assert_eq!(place.run(&["consume", "t", "--group", "other"]).succeeded().text().lines().count(), 4);
    assert_eq!(place.run(&["consume", "t"]).succeeded().text().lines().count(), 4);
    assert_eq!(consume(&place, &[]), "p0-2 p0-3");
}

#[test]
fn records_as_json() {
    let place = topic([2]);
    let ran = place.run(&["consume", "t", "--group", "g", "--json"]).succeeded();
    let offsets: Vec<_> = ran.json_lines().iter().map(|record| record["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, [0, 1]);
}

#[test]
fn what_a_closed_stdout_did_not_take_is_not_committed() {
    let place = Place::with_topic("t", 1);
    let lines: String = (0..200_000).map(|number| format!("{number:06}\n")).collect();
    place.run_with(&["produce", "t"], lines.as_bytes()).succeeded();
    let mut head = place.start(&["consume", "t", "--group", "g"]);
    assert_eq!(head.line(), "000000");
    head.close_stdout();
    head.finish().was_cut_off();
    // What it could write before the pipe was closed fits into the pipe and this test's buffer.
    let next = committed(&place)[0].unwrap();
    assert!(next < 100_000, "{next} of 200000 are committed");
    let rest = place.run(&["consume", "t", "--group", "g"]).succeeded();
    assert_eq!(rest.text().lines().next(), Some(&*format!("{next:06}")));
    assert_eq!(rest.text().lines().count() as u64, 200_000 - next);
}

#[test]
fn nothing_printed_is_lost_by_a_kill_and_little_comes_twice() {
    let place = Place::with_topic("t", 2);
    let lines: String = (0..60_000).map(|number| format!("{number:06} {}\n", "x".repeat(60))).collect();
    place.run_with(&["produce", "t"], lines.as_bytes()).succeeded();
    let mut printed = Vec::new();
    for _ in 0..3 {
        let mut consume = place.start(&["consume", "t", "--group", "g", "--follow"]);
        printed.extend((0..5_000).map(|_| consume.line()));
        consume.kill();
        let rest = consume.finish();
        let whole = rest.text().rfind('\n').map_or(0, |last| last + 1);
        printed.extend(rest.text()[..whole].lines().map(str::to_owned));
    }
    let rest = place.run(&["consume", "t", "--group", "g"]).succeeded();
    printed.extend(rest.text().lines().map(str::to_owned));
    printed.sort_unstable();
    let count = printed.len();
    printed.dedup();
    // Each death costs what was printed since the last commit: two stretches of 64 KiB at most.
    let twice = count - printed.len();
    assert!(twice < 3 * 4_000, "{twice} lines came twice");
    assert_eq!(printed.iter().map(|line| line.clone() + "\n").collect::<String>(), lines);
}

#[test]
fn following_prints_what_comes_and_commits_it() {
    let place = topic([1, 0]);
    let mut follower = place.start(&["consume", "t", "--group", "g", "--follow", "--max", "2"]);
    assert_eq!(follower.line(), "p0-0");
    // The commit follows what is printed, and can be seen from here.
    while committed(&place) != [Some(1), Some(0)] {}
    follower.kill();
    follower.finish();
    assert_eq!(consume(&place, &[]), "");
    assert_eq!(committed(&place), [Some(1), Some(0)]);
    produce(&place, 1, 0..2);
    let mut follower = place.start(&["consume", "t", "--group", "g", "--follow", "--max", "2"]);
    let mut rest = String::new();
    follower.take_stdout().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "p1-0\np1-1\n");
    follower.finish().succeeded();
    assert_eq!(committed(&place), [Some(1), Some(2)]);
}

#[test]
fn a_commit_below_the_log_start_is_told() {
    let place = topic([4]);
    assert_eq!(consume(&place, &["--max", "1"]), "p0-0");
    let engine = thalweg::Engine::open(place.path()).unwrap();
    engine.partition("t", 0).unwrap().delete_records(3).unwrap();
    engine.close().unwrap();
    let ran = place.run(&["consume", "t", "--group", "g"]).succeeded();
    assert_eq!(ran.text(), "p0-3\n");
    assert!(ran.stderr.contains("group g goes on at offset 3 instead of at 1"), "{ran:?}");
}
