//! Text that somebody else wrote (the lock file, names of files) reaches no terminal as it is.
//!
//! Terminal escapes are put where the commands show what they find; none may come out again, in what is printed and
//! in what is told, and what stands there is shown.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::support::{Place, Ran, run, thalweg};

/// Clears the screen, sets the window's title, answers as if the user had typed; the last one is one character.
const ESCAPES: &str = "\u{1b}[2J\u{1b}]0;title\u{7}\r\u{9b}6n";

#[track_caller]
fn is_plain(ran: &Ran, shows: &str) {
    for text in [ran.text(), &ran.stderr] {
        let active: Vec<_> = text.chars().filter(|c| c.is_control() && *c != '\n').collect();
        assert!(active.is_empty(), "{active:?} in {ran:?}");
    }
    assert!(format!("{}{}", ran.text(), ran.stderr).contains(shows), "no {shows:?} in {ran:?}");
}

#[test]
fn what_the_lock_file_says() {
    let place = Place::with_topic("t", 1);
    let mut writer = place.start(&["produce", "t", "--json"]);
    writer.write(b"one\n");
    writer.line();
    let holder = format!("pid 7, host {ESCAPES}, since 2026-11-30T09:46:25.818Z");
    fs::write(place.path().join("LOCK"), &holder).unwrap();
    let shows = r"pid 7, host \u{1b}[2J";
    is_plain(&place.run(&["produce", "t"]), shows);
    is_plain(&place.run(&["topic", "delete", "t"]), shows);
    is_plain(&place.run(&["repair"]), shows);
    is_plain(&place.run(&["verify"]), shows);
    is_plain(&place.run(&["group", "delete", "g"]), shows);
    // JSON has escapes of its own.
    let verified = place.run(&["verify", "--json"]).succeeded();
    assert_eq!(verified.json()["live_writer"], holder);
    is_plain(&verified, r"\u009b6n");
}

#[test]
fn names_of_files_and_directories() {
    let place = Place::with_topic("t", 1);
    place.run_with(&["produce", "t"], b"one\n").succeeded();
    let name = std::ffi::OsStr::from_bytes(b"\x1b[2Jstranger.log");
    fs::write(place.path().join(name), "text").unwrap();
    fs::write(place.path().join("topics/t/0").join(name), "text").unwrap();
    let shows = r"\u{1b}[2Jstranger.log";
    is_plain(&place.run(&["verify"]), shows);
    let file = place.path().join(name);
    is_plain(&place.run(&["dump", file.to_str().unwrap()]), shows);
    let mut other = thalweg();
    other.arg("--dir").arg(&file).args(["topic", "list"]);
    is_plain(&run(other, b""), shows);
    is_plain(&place.run(&["topic", "describe", "t\u{1b}[2J"]), r"t\u{1b}[2J");
    is_plain(&place.run(&["group", "describe", "g\u{1b}[2J"]), r"g\u{1b}[2J");
}
