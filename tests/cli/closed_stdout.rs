//! A closed stdout (`| head`) ends every command that prints: by SIGPIPE, without a message, after what was sent
//! has been waited for. A stdout that fails otherwise is an error.
//!
//! Each command is started with a pipe whose reading end is closed: at once, after the first line, or while the
//! command waits for something to print. A command that doesn't notice hangs, and the test with it.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use crate::support::{Place, run};

#[test]
fn a_command_that_prints_much_ends() {
    let place = Place::with_topic("t", 1);
    let lines: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    place.run_with(&["produce", "t"], lines.as_bytes()).succeeded();
    let segment = place.segment("t", 0).display().to_string();
    for args in [
        &["consume", "t"][..],
        &["consume", "t", "--json"],
        &["consume", "t", "--follow"],
        &["consume", "t", "--group", "g", "--follow"],
        &["dump", &segment, "--records"],
        &["dump", &segment, "--records", "--json"],
    ] {
        let mut head = place.start(args);
        assert!(!head.line().is_empty());
        head.close_stdout();
        head.finish().was_cut_off();
    }
}

#[test]
fn a_command_that_prints_once_ends() {
    let place = Place::with_topic("t", 1);
    place.run(&["consume", "t", "--group", "g"]).succeeded();
    for args in [
        &["topic", "list"][..],
        &["topic", "describe", "t"],
        &["topic", "create", "u", "--partitions", "1"],
        &["topic", "alter", "t", "--config", "acks=written"],
        &["group", "list"],
        &["group", "describe", "g", "--json"],
        &["group", "copy", "g", "h"],
        &["verify"],
        &["repair"],
        &["topic", "delete", "u"],
        &["demo"],
        &["demo", "--json"],
        &["torture", "sim", "--cycles", "1"],
    ] {
        let ran = place.run_unread(args);
        // The seed that `torture` says first goes to stderr.
        assert_eq!((ran.code, ran.signal), (None, Some(13)), "{args:?}: {ran:?}");
        assert!(!ran.stderr.contains("error"), "{args:?}: {ran:?}");
    }
}

/// It waits for records, for input or for time to pass: nothing that it prints tells it.
#[test]
fn a_command_that_waits_ends() {
    let place = Place::with_topic("t", 1);
    place.run_with(&["produce", "t"], b"one\n").succeeded();
    for args in [
        &["consume", "t", "--follow", "--from", "latest"][..],
        &["consume", "t", "--follow", "--from", "latest", "--group", "g"],
        &["produce", "t", "--json"],
        &["group", "plan"],
        &["torture", "sim", "--seconds", "100000"],
        &["torture", "sim", "--seconds", "100000", "--json"],
    ] {
        let mut waiting = place.start(args);
        let stdin = waiting.take_stdin();
        waiting.close_stdout();
        let ran = waiting.finish();
        assert_eq!((ran.code, ran.signal), (None, Some(13)), "{args:?}: {ran:?}");
        drop(stdin);
    }
}

/// `yes | thalweg produce t --json | head -1`: it ends, and what it sent is in the log.
#[test]
fn produce_stops_reading_and_waits_for_what_it_sent() {
    let place = Place::with_topic("t", 1);
    let mut before = 0;
    for acks in ["none", "written", "synced"] {
        let mut produce = place.start(&["produce", "t", "--json", "--acks", acks]);
        let mut stdin = produce.take_stdin();
        let endless = std::thread::spawn(move || while stdin.write_all(&b"y\n".repeat(1_000)).is_ok() {});
        let first = produce.line();
        assert_eq!(first, format!(r#"{{"partition":0,"offset":{before},"line":1}}"#));
        produce.close_stdout();
        produce.finish().was_cut_off();
        endless.join().unwrap();
        let verified = place.run(&["verify", "--json"]).succeeded().json();
        assert_eq!(verified["unfinished"], serde_json::json!([]));
        let described = place.run(&["topic", "describe", "t", "--json"]).succeeded().json();
        let end = described["partitions"][0]["end_offset"].as_u64().unwrap();
        assert!(end > before);
        assert_eq!(described["partitions"][0]["durable_offset"], end, "closing syncs");
        before = end;
    }
}

#[test]
fn a_full_stdout_is_an_error() {
    let place = Place::with_topic("t", 1);
    let lines: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    place.run_with(&["produce", "t"], lines.as_bytes()).succeeded();
    place.run(&["consume", "t", "--group", "g"]).succeeded();
    let segment = place.segment("t", 0).display().to_string();
    for args in [
        &["consume", "t"][..],
        &["produce", "t", "--json"],
        &["topic", "list"],
        &["group", "describe", "g"],
        &["verify", "--json"],
        &["dump", &segment],
        &["torture", "sim", "--seconds", "100000", "--json"],
    ] {
        let mut command = place.command(args);
        let full = File::options().write(true).open("/dev/full").unwrap();
        command.stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Of those that read stdin, none may wait for its end.
        let endless = std::thread::spawn(move || while stdin.write_all(b"line\n").is_ok() {});
        let output = child.wait_with_output().unwrap();
        endless.join().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains("could not write to stdout"), "{args:?}: {stderr}");
    }
}

#[test]
fn a_closed_stderr_is_no_error() {
    let place = Place::with_topic("t", 1);
    let code = |args: &[&str]| {
        let mut command = place.command(args);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(writer).spawn().unwrap();
        // Those that read nothing may be gone already.
        let _ = child.stdin.take().unwrap().write_all(b"line\n");
        child.wait().unwrap().code()
    };
    for args in [&["produce", "t"][..], &["produce", "t", "--json"], &["consume", "t"], &["verify"]] {
        assert_eq!(code(args), Some(0), "{args:?}");
    }
    assert_eq!(code(&["consume", "absent"]), Some(1));
    assert_eq!(code(&["consume"]), Some(2));
    assert_eq!(run(place.command(&["consume", "t"]), b"").text(), "line\nline\n");
}
