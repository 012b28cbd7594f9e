//! Topics made, listed, described, deleted; as text and as JSON.

use serde_json::json;

use crate::support::{Place, run, thalweg};

#[test]
fn a_topic_lives_from_create_to_delete() {
    let place = Place::new();
    let made = place.run(&["topic", "create", "lines", "--partitions", "3"]).succeeded();
    assert!(made.text().starts_with("made topic lines with 3 partitions"), "{made:?}");
    place.run_with(&["produce", "lines", "--partition", "1"], b"a\nb\n").succeeded();
    let list = place.run(&["topic", "list"]).succeeded();
    assert!(list.text().contains("lines"), "{list:?}");
    let described = place.run(&["topic", "describe", "lines"]).succeeded();
    for part in ["lines", "segment.bytes", "268435456", "256.0 MiB", "log start", "durable"] {
        assert!(described.text().contains(part), "no {part:?} in {described:?}");
    }
    let deleted = place.run(&["topic", "delete", "lines"]).succeeded();
    assert!(deleted.text().starts_with("deleted topic lines with 2 records"), "{deleted:?}");
    assert!(place.run(&["topic", "list"]).succeeded().text().starts_with("no topics"));
    place.run(&["topic", "describe", "lines"]).failed(1, &["does not exist", "there are none yet"]);
}

#[test]
fn topics_as_json() {
    let place = Place::new();
    let args = ["topic", "create", "b", "--partitions", "2", "--config", "segment.bytes=65536", "--json"];
    let made = place.run(&args).succeeded().json();
    assert_eq!((&made["name"], &made["partitions"], &made["id"]), (&json!("b"), &json!(2), &json!(1)));
    assert_eq!(made["config"]["segment.bytes"], 65536);
    assert_eq!(made["config"]["retention.ms"], -1);
    assert_eq!(made["config"]["acks"], "synced");
    assert_eq!(made["config"]["read.durable"], false);
    place.run(&["topic", "create", "a", "--partitions", "1"]).succeeded();
    place.run_with(&["produce", "b", "--partition", "1"], b"one\ntwo\n").succeeded();

    let list = place.run(&["--json", "topic", "list"]).succeeded().json();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|topic| topic["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!((&list[1]["records"], &list[1]["partitions"]), (&json!(2), &json!(2)));

    let described = place.run(&["topic", "--json", "describe", "b"]).succeeded().json();
    let partition = &described["partitions"][1];
    let offsets = ["partition", "log_start_offset", "durable_offset", "end_offset", "segments"];
    assert_eq!(offsets.map(|field| partition[field].as_u64().unwrap()), [1, 0, 2, 2, 1]);
    assert_eq!((&partition["state"], &partition["error"]), (&json!("ok"), &json!(null)));

    let deleted = place.run(&["topic", "delete", "b", "--json"]).succeeded().json();
    assert_eq!((&deleted["name"], &deleted["records"]), (&json!("b"), &json!(2)));
    assert_eq!(place.run(&["topic", "delete", "a", "--json"]).succeeded().json()["id"], 2);
    assert_eq!(place.run(&["topic", "list", "--json"]).succeeded().json(), json!([]));
}

/// A file that isn't the topic's lies in its directory.
#[test]
fn what_a_deletion_leaves_over_is_named_by_every_command_that_finds_it() {
    let place = Place::with_topic("t", 1);
    place.run(&["topic", "create", "u", "--partitions", "1"]).succeeded();
    place.run_with(&["produce", "t"], b"one\n").succeeded();
    std::fs::write(place.segment("t", 0).with_file_name("README"), "note").unwrap();
    let left = place.path().join("topics/.deleted-1/0/README");
    let says = format!("not removed: {} is not a file of the deleted topic, and stays there\n", left.display());
    let deleted = place.run(&["topic", "delete", "t"]).succeeded();
    assert!(deleted.stderr.contains(&says), "{deleted:?}");
    let produced = place.run_with(&["produce", "u"], b"one\n").succeeded();
    assert!(produced.stderr.contains(&says), "{produced:?}");
    let verified = place.run(&["verify", "--json"]).succeeded().json();
    assert_eq!((&verified["sound"], &verified["ignored"]), (&json!(true), &json!([left.to_str().unwrap()])));
    // Once it is gone nothing is left to say.
    std::fs::remove_file(&left).unwrap();
    assert_eq!(place.run(&["verify", "--json"]).succeeded().json()["ignored"], json!([]));
    assert!(!place.run_with(&["produce", "u"], b"two\n").succeeded().stderr.contains("not removed"));
    assert!(!place.path().join("topics/.deleted-1").exists());
}

#[test]
fn the_directory_comes_from_option_environment_or_default() {
    let place = Place::new();
    let home = tempfile::tempdir().unwrap();
    let create = |name: &str| {
        let mut command = thalweg();
        command.current_dir(home.path()).args(["topic", "create", name, "--partitions", "1"]);
        command
    };
    run(create("default"), b"").succeeded();
    assert!(home.path().join("thalweg-data/topics/default").is_dir());
    let mut named = create("named");
    named.env("THALWEG_DIR", place.path());
    run(named, b"").succeeded();
    assert!(place.path().join("topics/named").is_dir());
    let mut both = create("both");
    both.env("THALWEG_DIR", home.path().join("unused")).arg("--dir").arg(place.path());
    run(both, b"").succeeded();
    assert!(place.path().join("topics/both").is_dir());
    assert!(!home.path().join("unused").exists());
}
