//! `torture`: short runs, what they print, their exit codes; and that what is broken is noticed.

use serde_json::Value;

use crate::support::{Place, Ran};

const FIELDS: [&str; 8] =
    ["seed", "states", "distinct_states", "crash_points", "violations", "seconds", "cycles", "mode"];

/// The summary, which is the last line.
#[track_caller]
fn summary(ran: &Ran) -> Value {
    let summary = ran.json_lines().pop().unwrap();
    for field in FIELDS {
        assert!(!summary[field].is_null(), "no {field} in {summary}");
    }
    summary
}

/// What is left of its directories below the one that it was given.
fn left(place: &Place) -> usize {
    std::fs::read_dir(place.path()).map_or(0, Iterator::count)
}

#[test]
fn kill_finds_nothing_wrong_and_leaves_nothing_behind() {
    let place = Place::new();
    let ran = place.run(&["torture", "kill", "--cycles", "12", "--seed", "42", "--threads", "2", "--json"]).succeeded();
    let summary = summary(&ran);
    assert_eq!((&summary["mode"], &summary["seed"]), (&"kill".into(), &42.into()));
    assert_eq!((&summary["cycles"], &summary["violations"]), (&12.into(), &0.into()));
    assert!(summary["kills"].as_u64().unwrap() > 0, "{summary}");
    assert!(summary["states"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(left(&place), 0);
}

#[test]
fn a_run_ends_with_a_table_and_names_its_seed_first() {
    let place = Place::new();
    let ran = place.run(&["torture", "kill", "--cycles", "2", "--threads", "1"]).succeeded();
    let first = ran.stderr.lines().next().unwrap();
    let seed = first.strip_prefix("torture kill: seed ").unwrap();
    assert!(seed.parse::<u64>().is_ok(), "{first}");
    assert!(ran.text().contains(seed) && ran.text().contains("directories checked"), "{ran:?}");
    assert!(ran.text().ends_with("no violation\n"), "{ran:?}");
    // No progress line where there is no terminal.
    assert_eq!(ran.stderr.lines().count(), 2, "{ran:?}");
}

#[test]
fn what_is_missing_or_wrong_is_noticed() {
    for (what, says) in [
        ("missing", "was acknowledged in life"),
        ("changed", "D2: offset"),
        ("doubled", "D2: offset"),
        ("commit", "D5: the group's committed offset is 1"),
        ("evidence", "D3: acknowledged as synced up to"),
        ("start", "the log starts at"),
    ] {
        let place = Place::new();
        let args = ["torture", "kill", "--cycles", "400", "--seed", "7", "--threads", "1", "--falsify", what, "--json"];
        let ran = place.run(&args).failed(1, &["a promise was broken", says, "torture kill --seed"]);
        let summary = summary(&ran);
        assert_eq!(summary["violations"], 1, "{what}: {summary}");
        assert_eq!(summary["first_seed"], 7);
        let found = &summary["found"][0];
        assert!(found["what"].as_str().unwrap().contains(says), "{what}: {found}");
        assert!(!found["history"].as_array().unwrap().is_empty());
        // The files are kept, and named.
        assert_eq!(summary["seed"], found["seed"]);
        let kept = std::path::Path::new(found["directory"].as_str().unwrap());
        assert!(kept.join("data").is_dir() && kept.join("history.txt").is_file(), "{}", kept.display());
    }
}

#[test]
fn sim_and_io_end_with_a_summary() {
    for mode in ["sim", "io"] {
        let place = Place::new();
        let ran = place.run(&["torture", mode, "--cycles", "1", "--seed", "3", "--threads", "1", "--json"]).succeeded();
        let summary = summary(&ran);
        assert_eq!((&summary["mode"], &summary["seed"]), (&mode.into(), &3.into()));
        assert_eq!((&summary["violations"], &summary["cycles"]), (&0.into(), &1.into()));
        place.run(&["torture", mode, "--cycles", "1", "--falsify", "missing"]).failed(2, &["for kill"]);
    }
    let replayed = Place::new().run(&["torture", "replay", "3", "--json"]).succeeded();
    assert_eq!(summary(&replayed)["mode"], "replay");
}

#[test]
fn command_lines_that_make_no_sense_are_refused() {
    let place = Place::new();
    for wrong in [
        &["kill", "--cycles", "0"][..],
        &["sim", "--cycles", "-1"],
        &["sim", "--seconds", "0"],
        &["io", "--seed", "x"],
        &["kill", "--seed", "18446744073709551616"],
        &["kill", "--threads", "0"],
        &["replay"],
        &["replay", "x"],
        &["replay", "1", "--cycles", "2"],
        &["drown"],
        &[],
    ] {
        let ran = place.run(&[&["torture"], wrong].concat());
        assert_eq!(ran.code, Some(2), "{wrong:?}: {ran:?}");
        assert!(ran.stdout.is_empty());
    }
    let help = place.run(&["torture", "--help"]).succeeded();
    assert!(help.text().contains("kill") && !help.text().contains("victim"), "{help:?}");
}

#[test]
fn places_that_will_not_do_are_named() {
    let place = Place::with_topic("t", 1);
    place.run(&["torture", "kill", "--cycles", "1"]).failed(1, &["holds thalweg data", "--dir"]);
    let file = Place::new();
    std::fs::write(file.path(), "a file").unwrap();
    file.run(&["torture", "kill", "--cycles", "1"]).failed(1, &["could not make the directory"]);
}

#[test]
fn an_interrupted_run_tells_what_it_found_so_far() {
    let place = Place::new();
    let mut running = place.start(&["torture", "kill", "--seconds", "600", "--threads", "1", "--json"]);
    // It is at work when it says how far it is.
    let first: Value = serde_json::from_str(&running.line()).unwrap();
    assert_eq!(first["running"], true);
    let pid = running.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ran = running.finish().succeeded();
    let summary = summary(&ran);
    assert_eq!((&summary["interrupted"], &summary["violations"]), (&true.into(), &0.into()));
    assert_eq!(left(&place), 0);
}
