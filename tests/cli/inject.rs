//! Errors from the system itself, given by strace at the n-th call of a kind: what was acknowledged is
//! there afterwards, the directory is sound, the command says what failed, and goes on the next time.
//!
//! Syncs go through threads here (the ring is refused): strace sees no call of the ring's.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::{Place, Ran, run, thalweg};

/// Longer than any command takes: then it hangs.
const PATIENCE: &str = "10";

/// Calls, and the errors that they give.
const APPENDING: [(&str, &[&str]); 10] = [
    ("pwritev", &["EIO", "ENOSPC", "EINTR"]),
    ("pwrite64", &["EIO", "ENOSPC", "EINTR"]),
    ("fdatasync", &["EIO", "ENOSPC", "EINTR"]),
    ("fsync", &["EIO"]),
    ("fallocate", &["EIO", "ENOSPC", "EINTR"]),
    ("openat", &["EIO", "EMFILE", "EINTR"]),
    ("rename", &["EIO", "ENOSPC"]),
    ("unlink", &["EIO"]),
    ("ftruncate", &["EIO", "EINTR"]),
    ("flock", &["EIO", "EINTR"]),
];

const CONSUMING: [(&str, &[&str]); 6] = [
    ("pwritev", &["EIO", "ENOSPC", "EINTR"]),
    ("fdatasync", &["EIO"]),
    ("openat", &["EIO", "EMFILE"]),
    ("mmap", &["ENOMEM", "EMFILE"]),
    ("madvise", &["EIO", "ENOMEM"]),
    ("pread64", &["EIO", "EINTR"]),
];

#[test]
fn produce_loses_nothing_acknowledged_when_a_call_fails() {
    let Some(strace) = Strace::find() else { return };
    let mut round = 0;
    for (call, errors) in APPENDING {
        let place = a_topic();
        for error in errors {
            for number in strace.places(&place, call, &["produce", "t", "--json"]) {
                round += 1;
                let lines: Vec<_> =
                    (0..120).map(|line| format!("round {round} line {line} {}", "x".repeat(700))).collect();
                let what = format!("{call} {error} at call {number}");
                let args = ["produce", "t", "--json"];
                let ran = run(strace.command(&place, &inject(call, error, number), &args), lines.join("\n").as_bytes());
                ended_well(&ran, &what);
                let acks = ran.json_lines();
                if *error == "EINTR" || ran.code == Some(0) {
                    assert_eq!((ran.code, acks.len()), (Some(0), lines.len()), "{what}: {ran:?}");
                }
                let sound = place.run(&["verify"]);
                assert_eq!(sound.code, Some(0), "{what}: {sound:?}");
                let found = [place.records("t", 0), place.records("t", 1)];
                // What failed isn't named, the rest is in order of sending.
                let mut unnamed = lines.iter();
                for ack in &acks {
                    let found = &found[ack["partition"].as_u64().unwrap() as usize];
                    let record = found.iter().find(|record| record["offset"] == ack["offset"]);
                    let value = record.and_then(|record| record["value"].as_str());
                    assert!(unnamed.any(|line| value == Some(line)), "{what}: {ack}: {record:?}");
                }
            }
        }
        place.run_with(&["produce", "t"], b"and on\n").succeeded();
    }
}

#[test]
fn a_group_misses_nothing_when_a_call_fails() {
    let Some(strace) = Strace::find() else { return };
    let place = a_topic();
    let args = ["consume", "t", "--group", "g", "--json"];
    let mut round = 0;
    for (call, errors) in CONSUMING {
        for error in errors {
            place.run_with(&["produce", "t"], b"so that there is something to read\n").succeeded();
            for number in strace.places(&place, call, &args) {
                round += 1;
                let lines: BTreeSet<_> = (0..50).map(|line| format!("round {round} line {line}")).collect();
                let input = lines.iter().cloned().collect::<Vec<_>>().join("\n");
                place.run_with(&["produce", "t"], input.as_bytes()).succeeded();
                let what = format!("{call} {error} at call {number}");
                let ran = run(strace.command(&place, &inject(call, error, number), &args), b"");
                ended_well(&ran, &what);
                assert!(*error != "EINTR" || ran.code == Some(0), "{what}: {ran:?}");
                let sound = place.run(&["verify"]);
                assert_eq!(sound.code, Some(0), "{what}: {sound:?}");
                let rest = place.run(&args).succeeded();
                let seen = [ran.json_lines(), rest.json_lines()].concat();
                let seen: BTreeSet<_> = seen.iter().filter_map(|record| record["value"].as_str()).collect();
                assert!(lines.iter().all(|line| seen.contains(line.as_str())), "{what}: {ran:?} {rest:?}");
                if ran.code == Some(0) {
                    assert!(rest.stdout.is_empty(), "{what}: what was committed came again: {rest:?}");
                }
            }
        }
    }
}

#[test]
fn a_thread_that_cannot_be_started_is_told() {
    let Some(strace) = Strace::find() else { return };
    let place = a_topic();
    for number in 1..=6 {
        let option = inject("clone3", "EAGAIN", number);
        let ran = run(strace.command(&place, &option, &["produce", "t", "--json"]), b"a\nb\n");
        ended_well(&ran, &option);
        assert!(ran.code == Some(1) || ran.json_lines().len() == 2, "{option}: {ran:?}");
        place.run(&["verify"]).succeeded();
    }
}

/// Small segments, so that each run makes new ones.
fn a_topic() -> Place {
    let place = Place::new();
    let args = ["topic", "create", "t", "--partitions", "2", "--config", "segment.bytes=65536"];
    place.run(&args).succeeded();
    place.run_with(&["produce", "t", "--partition", "0"], b"first\n").succeeded();
    place.run_with(&["produce", "t", "--partition", "1"], b"first\n").succeeded();
    place.run(&["consume", "t", "--group", "g"]).succeeded();
    place
}

fn inject(call: &str, error: &str, number: usize) -> String {
    format!("inject={call}:error={error}:when={number}")
}

/// It did what it should, or failed and said so.
#[track_caller]
fn ended_well(ran: &Ran, what: &str) {
    assert!(matches!(ran.code, Some(0 | 1)), "{what}: {ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{what}: {ran:?}");
    if ran.code == Some(1) {
        assert!(ran.stderr.lines().any(|line| line.starts_with("error: ")), "{what}: {ran:?}");
    }
}

struct Strace;

impl Strace {
    /// `None`, and says so, where there is none or it may not trace.
    fn find() -> Option<Strace> {
        let works = Command::new("strace").args(["-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"]).output();
        if works.is_ok_and(|output| output.status.success()) {
            return Some(Strace);
        }
        println!("SKIPPED: strace isn't here or may not trace; errors of the system were not injected");
        None
    }

    /// The command on this directory under strace, with this option.
    fn command(&self, place: &Place, option: &str, args: &[&str]) -> Command {
        self.logged(place, option, "/dev/null", args)
    }

    fn logged(&self, place: &Place, option: &str, log: &str, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", PATIENCE, "strace", "-f", "-y", "-qq", "-o", log, "-e", option]);
        command.args(["-e", "inject=io_uring_setup:error=EPERM"]);
        command.env_remove("CARGO").env_remove("THALWEG_DIR");
        command.arg(thalweg().get_program()).arg("--dir").arg(place.path()).args(args);
        command
    }

    /// At which calls of a thread the command comes to the data directory: the first and the last one.
    /// strace counts each thread's calls by themselves.
    fn places(&self, place: &Place, call: &str, args: &[&str]) -> BTreeSet<usize> {
        let log = place.path().with_extension("strace");
        let traced = self.logged(place, &format!("trace={call},io_uring_setup"), log.to_str().unwrap(), args);
        let lines = (String::from("a line") + &"x".repeat(700) + "\n").repeat(120);
        run(traced, lines.as_bytes()).succeeded();
        let data = place.path();
        let mut calls = std::collections::HashMap::<String, usize>::new();
        let mut places = BTreeSet::new();
        for line in std::fs::read_to_string(log).unwrap().lines() {
            let Some((thread, what)) = line.split_once(' ') else { continue };
            if what.trim_start().starts_with(&format!("{call}(")) {
                let number = calls.entry(thread.to_owned()).or_default();
                *number += 1;
                if what.contains(data.to_str().unwrap()) {
                    places.insert(*number);
                }
            }
        }
        places.first().into_iter().chain(places.last()).copied().collect()
    }
}
