//! Groups without members: listed, described, reset, copied, deleted; as text and as JSON.

use serde_json::{Value, json};
use thalweg::{Acks, Engine, OffsetCommit};

use crate::support::{Place, flip_bit};

/// A topic `t` with `[4, 2]` records in its partitions.
fn two_partitions() -> Place {
    let place = Place::with_topic("t", 2);
    place.run_with(&["produce", "t", "--partition", "0"], b"a\nb\nc\nd\n").succeeded();
    place.run_with(&["produce", "t", "--partition", "1"], b"e\nf\n").succeeded();
    place
}

fn describe(place: &Place, group: &str) -> Value {
    place.run(&["group", "describe", group, "--json"]).succeeded().json()
}

/// Committed offsets and lags, by partition.
fn offsets(place: &Place, group: &str) -> Vec<(Option<u64>, u64)> {
    let described = describe(place, group);
    let rows = described["offsets"].as_array().unwrap().iter();
    rows.map(|row| (row["committed"].as_u64(), row["lag"].as_u64().unwrap())).collect()
}

#[test]
fn a_group_lives_from_its_first_commit_to_delete() {
    let place = two_partitions();
    let none = place.run(&["group", "list"]).succeeded();
    assert!(none.text().starts_with("no groups in"), "{none:?}");
    assert_eq!(place.run(&["group", "list", "--json"]).succeeded().json(), json!([]));
    place.run(&["consume", "t", "--group", "billing", "--max", "3"]).succeeded();
    let list = place.run(&["group", "list"]).succeeded();
    assert!(list.text().contains("billing") && list.text().contains("empty"), "{list:?}");
    let described = place.run(&["group", "describe", "billing"]).succeeded();
    for part in ["billing  empty", "without members since", "committed", "lag 3"] {
        assert!(described.text().contains(part), "no {part:?} in {described:?}");
    }
    let deleted = place.run(&["group", "delete", "billing"]).succeeded();
    assert_eq!(deleted.text(), "deleted group billing with 2 committed offsets\n");
    place.run(&["group", "describe", "billing"]).failed(1, &["does not exist"]);
    // What is deleted begins anew.
    assert_eq!(place.run(&["consume", "t", "--group", "billing"]).succeeded().text().lines().count(), 6);
}

#[test]
fn groups_as_json() {
    let place = two_partitions();
    place.run(&["consume", "t", "--group", "b"]).succeeded();
    place.run(&["consume", "t", "--group", "a", "--partition", "0", "--max", "1"]).succeeded();
    let list = place.run(&["group", "list", "--json"]).succeeded().json();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    let b = &list[1];
    assert_eq!(
        (&b["state"], &b["members"], &b["partitions"], &b["lag"]),
        (&json!("empty"), &json!(0), &json!(2), &json!(0))
    );
    assert_eq!(b["as_of_ms"], json!(null));

    let a = describe(&place, "a");
    assert_eq!((&a["name"], &a["members"], &a["lag"]), (&json!("a"), &json!([]), &json!(3)));
    let row = &a["offsets"][0];
    let fields: Vec<_> = row.as_object().unwrap().keys().collect();
    let expected = [
        "topic",
        "partition",
        "committed",
        "starts_at",
        "metadata",
        "committed_ms",
        "log_start_offset",
        "end_offset",
        "lag",
        "member",
        "waits_for",
        "in_doubt",
        "goes_on_at",
    ];
    assert_eq!(fields, expected);
    assert_eq!(
        (&row["topic"], &row["partition"], &row["committed"], &row["lag"]),
        (&json!("t"), &json!(0), &json!(1), &json!(3))
    );
    assert!(row["committed_ms"].as_i64().unwrap() > 1_700_000_000_000);

    assert_eq!(
        place.run(&["group", "copy", "a", "c", "--json"]).succeeded().json(),
        json!({"from": "a", "to": "c", "partitions": 1})
    );
    assert_eq!(
        place.run(&["group", "delete", "c", "--json"]).succeeded().json(),
        json!({"name": "c", "partitions": 1})
    );
}

#[test]
fn reset_goes_where_it_is_told() {
    let place = two_partitions();
    let reset = |to: &str| {
        place.run(&["group", "reset", "g", "--topic", "t", "--to", to]).succeeded();
        let rows = offsets(&place, "g");
        rows.into_iter().map(|(committed, _)| committed.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(reset("latest"), [4, 2]);
    assert_eq!(reset("earliest"), [0, 0]);
    assert_eq!(reset("1"), [1, 1]);
    assert_eq!(reset("@0"), [0, 0]);
    assert_eq!(reset("@9999999999999"), [4, 2]);
    let ms = place.records("t", 1)[0]["timestamp"].as_i64().unwrap();
    assert_eq!(reset(&format!("@{ms}"))[1], 0);
    reset("1");
    assert_eq!(place.run(&["consume", "t", "--group", "g"]).succeeded().text().lines().count(), 4);
}

#[test]
fn an_offset_outside_the_log_is_moved_and_that_is_shown() {
    let place = two_partitions();
    let reset =
        |args: &[&str]| place.run(&[&["group", "reset", "g", "--topic", "t", "--to", "3"], args].concat()).succeeded();
    let expected = |from: Value, dry_run: bool| {
        json!({
            "group": "g", "topic": "t", "dry_run": dry_run,
            "partitions": [
                {"partition": 0, "from": from, "to": 3, "clamped": false},
                {"partition": 1, "from": if from.is_null() { json!(null) } else { json!(2) }, "to": 2, "clamped": true},
            ],
        })
    };
    assert_eq!(reset(&["--json"]).json(), expected(json!(null), false));
    assert_eq!(reset(&["--json", "--dry-run"]).json(), expected(json!(3), true));
    let text = reset(&[]);
    assert!(text.text().contains("moved to where the log has something"), "{text:?}");
    assert!(text.text().contains("as it was") && text.text().contains("group g goes on in topic t"), "{text:?}");
}

#[test]
fn a_dry_run_changes_nothing() {
    let place = two_partitions();
    place.run(&["group", "reset", "g", "--topic", "t", "--to", "latest", "--dry-run"]).succeeded();
    place.run(&["group", "describe", "g"]).failed(1, &["does not exist"]);
    place.run(&["consume", "t", "--group", "g"]).succeeded();
    let dry = place.run(&["group", "reset", "g", "--topic", "t", "--to", "earliest", "--dry-run"]).succeeded();
    assert!(dry.text().contains("would go on") && dry.stderr.is_empty(), "{dry:?}");
    assert_eq!(offsets(&place, "g"), [(Some(4), 0), (Some(2), 0)]);
}

#[test]
fn a_copy_goes_on_where_the_first_was() {
    let place = two_partitions();
    let first = place.run(&["consume", "t", "--group", "active", "--max", "3"]).succeeded();
    let copied = place.run(&["group", "copy", "active", "standby"]).succeeded();
    assert!(copied.text().contains("2 committed offsets of group active"), "{copied:?}");
    assert_eq!(offsets(&place, "standby"), offsets(&place, "active"));
    let rest = place.run(&["consume", "t", "--group", "standby"]).succeeded();
    let mut all: Vec<_> = first.text().lines().chain(rest.text().lines()).collect();
    all.sort_unstable();
    assert_eq!(all, ["a", "b", "c", "d", "e", "f"]);
    // Each goes its own way from there.
    assert_eq!(place.run(&["consume", "t", "--group", "active"]).succeeded().text(), rest.text());
}

#[test]
fn a_topic_that_is_deleted_takes_its_commits_along() {
    let place = two_partitions();
    place.run(&["consume", "t", "--group", "g"]).succeeded();
    place.run(&["topic", "delete", "t"]).succeeded();
    assert_eq!(describe(&place, "g")["offsets"], json!([]));
    place.run(&["topic", "create", "t", "--partitions", "2"]).succeeded();
    place.run_with(&["produce", "t", "--partition", "0"], b"new\n").succeeded();
    assert_eq!(place.run(&["consume", "t", "--group", "g"]).succeeded().text(), "new\n");
}

/// Where each batch of the offset log begins.
fn batches(place: &Place) -> Vec<u64> {
    let log = place.path().join("offsets-1");
    let dumped = place.run(&["dump", log.to_str().unwrap(), "--json"]).succeeded().json_lines();
    let batches = dumped.iter().filter(|line| line["type"] == "batch");
    batches.filter_map(|line| line["position"].as_u64()).collect()
}

#[test]
fn a_damaged_offset_log_names_whom_it_puts_in_doubt() {
    let place = two_partitions();
    let engine = Engine::open(place.path()).unwrap();
    let mut consumer = engine.consumer("g").assign([("t", 0), ("t", 1)]).start().unwrap();
    for (partition, offset) in [(0, 1), (0, 2), (1, 1)] {
        consumer.commit_offsets([OffsetCommit::new("t", partition, offset)], Acks::Synced).unwrap();
    }
    drop(consumer);
    engine.close().unwrap();
    drop(engine);
    // In the second commit: the third says that it was durable.
    // (The first batch says where the group begins.)
    flip_bit(&place.path().join("offsets-1"), batches(&place)[2] + 100);
    let described = place.run(&["group", "describe", "g"]).succeeded();
    assert!(described.stderr.contains("warning: ") && described.stderr.contains("group g"), "{described:?}");
    assert!(described.text().contains("in doubt: the offset log is damaged"), "{described:?}");
    let rows = describe(&place, "g")["offsets"].clone();
    assert_eq!((&rows[0]["committed"], &rows[0]["in_doubt"]), (&json!(1), &json!(true)));
    assert_eq!((&rows[1]["committed"], &rows[1]["in_doubt"]), (&json!(1), &json!(false)));
    place.run(&["consume", "t", "--group", "g"]).failed(1, &["damaged", "offsets-1"]);
    place.run(&["group", "reset", "g", "--topic", "t", "--to", "earliest"]).failed(1, &["damaged", "offsets-1"]);
    // The topics are sound.
    assert_eq!(place.run(&["consume", "t"]).succeeded().text().lines().count(), 6);
    place.run(&["verify"]).failed(1, &["damage"]);
}

#[test]
fn commits_of_processes_that_ended_well_are_never_taken_for_a_torn_tail() {
    let place = two_partitions();
    for _ in 0..3 {
        place.run(&["consume", "t", "--group", "g", "--max", "1"]).succeeded();
    }
    let log = place.path().join("offsets-1");
    let sound = std::fs::read(&log).unwrap();
    // Whichever batch it is, also of the last process.
    for position in batches(&place) {
        flip_bit(&log, position + 100);
        place.run(&["verify"]).failed(1, &["damage"]);
        place.run(&["consume", "t", "--group", "g"]).failed(1, &["damaged", "offsets-1"]);
        std::fs::write(&log, &sound).unwrap();
    }
    assert_eq!(place.run(&["consume", "t", "--group", "g"]).succeeded().text().lines().count(), 3);
}
