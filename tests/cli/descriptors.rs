//! More partitions than the process may have files open: all are written, and found whole.
//!
//! A shell lowers the limit before it becomes the command.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::{Place, Ran, run};

/// The command with at most so many descriptors; `-S`: a soft limit, which it may raise.
fn limited(place: &Place, limit: &str, args: &[&str], stdin: &[u8]) -> Ran {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit {limit}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_thalweg"), "--dir"]);
    shell.arg(place.path()).args(args).env_remove("CARGO").env_remove("THALWEG_DIR");
    run(shell, stdin)
}

#[test]
fn every_partition_is_written_with_few_descriptors() {
    for limit in ["-n 128", "-S -n 64"] {
        let place = Place::with_topic("t", 500);
        let lines: Vec<_> = (0..4_000).map(|number| format!("{number}:value {number}")).collect();
        for half in lines.chunks(2_000) {
            let input = half.join("\n") + "\n";
            let args = ["produce", "t", "--key-separator", ":", "--json", "--acks", "written"];
            let ran = limited(&place, limit, &args, input.as_bytes()).succeeded();
            assert_eq!(ran.json_lines().len(), 2_000, "{limit}");
        }
        let ran = place.run(&["consume", "t", "--json"]).succeeded();
        let records = ran.json_lines();
        let found: BTreeSet<_> = records
            .iter()
            .map(|record| format!("{}:{}", record["key"].as_str().unwrap(), record["value"].as_str().unwrap()))
            .collect();
        assert_eq!(found, lines.into_iter().collect(), "{limit}");
        let partitions: BTreeSet<_> = records.iter().map(|record| record["partition"].as_u64()).collect();
        assert!(partitions.len() > 490, "{} partitions", partitions.len());
        limited(&place, limit, &["verify"], b"").succeeded();
    }
}

/// A reader of all partitions at once, beside the writer or as a group.
#[test]
fn every_partition_is_read_with_few_descriptors() {
    let place = Place::with_topic("t", 500);
    let lines: BTreeSet<_> = (0..4_000).map(|number| format!("value {number}")).collect();
    let input: String = (0..4_000).map(|number| format!("{number}:value {number}\n")).collect();
    place.run_with(&["produce", "t", "--key-separator", ":", "--acks", "written"], input.as_bytes()).succeeded();
    for limit in ["-n 64", "-S -n 64"] {
        for (group, how) in [("", &["--follow", "--max", "4000"][..]), ("", &[]), ("g", &["--group"])] {
            let group = format!("{group}{}", limit.replace(' ', ""));
            let mut args = [&["consume", "t"], how].concat();
            args.extend((how == ["--group"]).then_some(&*group));
            let ran = limited(&place, limit, &args, b"").succeeded();
            assert_eq!(ran.text().lines().count(), 4_000, "{limit} {args:?}");
            let read: BTreeSet<_> = ran.text().lines().map(str::to_owned).collect();
            assert_eq!(read, lines, "{limit} {args:?}");
        }
    }
}

/// With too few for what the engine always has open, the message names the limit.
#[test]
fn too_few_descriptors_are_called_that() {
    let place = Place::with_topic("t", 100);
    let input: String = (0..1_000).map(|number| format!("{number}:value {number}\n")).collect();
    place.run_with(&["produce", "t", "--key-separator", ":", "--acks", "written"], input.as_bytes()).succeeded();
    let says = ["the process has as many files open as it may, 16; raise that limit (`ulimit -n`)"];
    for how in [&["--group", "g"][..], &[]] {
        let ran = limited(&place, "-n 16", &[&["consume", "t"], how].concat(), b"").failed(1, &says);
        assert!(!ran.stderr.contains("free some space"), "{ran:?}");
    }
}

/// More than a poll returns in each partition: a consumer is in the middle of all of them.
#[test]
fn every_partition_is_read_in_turn_with_few_descriptors() {
    let place = Place::with_topic("t", 200);
    let input: String = (0..1_400).map(|number| format!("{number}:{}\n", "x".repeat(80_000))).collect();
    place.run_with(&["produce", "t", "--key-separator", ":", "--acks", "written"], input.as_bytes()).succeeded();
    for how in [&["--follow", "--max", "1400"][..], &["--group", "g"]] {
        let ran = limited(&place, "-n 128", &[&["consume", "t"], how].concat(), b"").succeeded();
        assert_eq!(ran.text().lines().count(), 1_400, "{how:?}");
    }
}

/// After a kill, each partition's tail is synced anew by the next life: that takes no more files either.
#[test]
fn every_tail_is_synced_with_few_descriptors() {
    let place = Place::with_topic("t", 300);
    let mut produce = place.start(&["produce", "t", "--key-separator", ":", "--json", "--acks", "written"]);
    let input: String = (0..2_000).map(|number| format!("{number}:value {number}\n")).collect();
    produce.write(input.as_bytes());
    (0..2_000).for_each(|_| drop(produce.line()));
    produce.kill();
    produce.finish();
    let more = limited(&place, "-n 128", &["produce", "t", "--acks", "synced"], b"one more\n").succeeded();
    assert!(!more.stderr.contains("warning"), "{more:?}");
    assert_eq!(place.run(&["consume", "t"]).succeeded().text().lines().count(), 2_001);
    limited(&place, "-n 128", &["verify"], b"").succeeded();
}
