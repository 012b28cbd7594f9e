//! Where `consume` begins and ends, and how it prints records as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::Place;

/// Two partitions with `p0-0`, `p0-1`, … and `p1-0`, ….
fn two_partitions(counts: [usize; 2]) -> Place {
    let place = Place::with_topic("t", 2);
    for (partition, count) in counts.into_iter().enumerate() {
        let lines: String = (0..count).map(|n| format!("p{partition}-{n}\n")).collect();
        place.run_with(&["produce", "t", "--partition", &partition.to_string()], lines.as_bytes()).succeeded();
    }
    place
}

fn consume(place: &Place, args: &[&str]) -> String {
    let ran = place.run(&[&["consume", "t"], args].concat()).succeeded();
    ran.text().lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn begins_where_it_is_told() {
    let place = two_partitions([4, 2]);
    assert_eq!(consume(&place, &[]), "p0-0 p0-1 p0-2 p0-3 p1-0 p1-1");
    assert_eq!(consume(&place, &["--from", "earliest"]), "p0-0 p0-1 p0-2 p0-3 p1-0 p1-1");
    assert_eq!(consume(&place, &["--from", "latest"]), "");
    assert_eq!(consume(&place, &["--from", "-3"]), "p0-1 p0-2 p0-3 p1-0 p1-1");
    assert_eq!(consume(&place, &["--from=-1"]), "p0-3 p1-1");
    assert_eq!(consume(&place, &["--from", "-0"]), "");
    assert_eq!(consume(&place, &["--from", "1"]), "p0-1 p0-2 p0-3 p1-1");
    assert_eq!(consume(&place, &["--from", "2"]), "p0-2 p0-3");
    assert_eq!(consume(&place, &["--from", "4", "--partition", "0"]), "");
    assert_eq!(consume(&place, &["--from", "@0"]), "p0-0 p0-1 p0-2 p0-3 p1-0 p1-1");
    assert_eq!(consume(&place, &["--from", "@9999999999999"]), "");
}

#[test]
fn begins_at_a_timestamp() {
    let place = two_partitions([3, 0]);
    let ms = place.records("t", 0)[0]["timestamp"].as_i64().unwrap();
    assert_eq!(consume(&place, &["--from", &format!("@{ms}")]), "p0-0 p0-1 p0-2");
}

#[test]
fn ends_after_so_many() {
    let place = two_partitions([4, 2]);
    assert_eq!(consume(&place, &["--max", "0"]), "");
    assert_eq!(consume(&place, &["--max", "3"]), "p0-0 p0-1 p0-2");
    assert_eq!(consume(&place, &["--max", "5"]), "p0-0 p0-1 p0-2 p0-3 p1-0");
    assert_eq!(consume(&place, &["--max", "9"]), "p0-0 p0-1 p0-2 p0-3 p1-0 p1-1");
    assert_eq!(consume(&place, &["--max", "2", "--follow", "--from", "-2", "--partition", "0"]), "p0-2 p0-3");
}

#[test]
fn an_offset_out_of_range_names_the_range() {
    let place = two_partitions([4, 2]);
    let error = place.run(&["consume", "t", "--from", "3", "--partition", "1"]);
    let error = error.failed(1, &["partition 1", "offset 3", "starts at 0", "ends before 2", "--from earliest"]);
    assert!(error.stdout.is_empty(), "{error:?}");
    // One partition is shorter: the others are read all the same.
    for args in [&["--from", "3"][..], &["--from", "3", "--follow", "--max", "1"]] {
        let ran = place.run(&[&["consume", "t"], args].concat()).succeeded();
        assert_eq!(ran.text(), "p0-3\n", "{args:?}");
        let says = "topic t, partition 1: offset 3 is out of range: the log starts at 0 and ends before 2";
        assert_eq!(ran.stderr, format!("{says}; reading begins at 2 there\n"));
    }
    place.run(&["consume", "t", "--from", "5", "--partition", "0"]).failed(1, &["offset 5", "ends before 4"]);
    place.run(&["consume", "t", "--from", "5", "--follow"]).failed(1, &["offset 5", "ends before 4"]);
    let help = place.run(&["consume", "--help"]).succeeded();
    let help: Vec<_> = help.text().split_whitespace().collect();
    assert!(help.join(" ").contains("and stderr says so; if none of them has it, that is an error"));
}

#[test]
fn records_as_json() {
    let place = Place::with_topic("t", 1);
    place
        .run_with(&["produce", "t", "--key-separator", ":"], b"k\"\xc3\xa9:v\\\x01\nno key\n:\n\xff:\xfe\xfd\n")
        .succeeded();
    let records = place.records("t", 0);
    let fields: Vec<_> = records[0].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["partition", "offset", "timestamp", "key", "value", "headers"]);
    assert_eq!((&records[0]["key"], &records[0]["value"]), (&json!("k\"é"), &json!("v\\\u{1}")));
    assert_eq!((&records[0]["partition"], &records[0]["headers"]), (&json!(0), &json!([])));
    assert_eq!((&records[1]["key"], &records[1]["value"]), (&json!(null), &json!("no key")));
    assert_eq!((&records[2]["key"], &records[2]["value"]), (&json!(""), &json!("")));
    assert_eq!(records[3]["base64"], json!(["key", "value"]));
    let decoded = ["key", "value"].map(|field| STANDARD.decode(records[3][field].as_str().unwrap()).unwrap());
    assert_eq!(decoded, [b"\xff".to_vec(), b"\xfe\xfd".to_vec()]);
    assert!(records.iter().all(|record| record["timestamp"].as_i64().unwrap() > 1_700_000_000_000));
}

#[test]
fn headers_and_nulls_as_json() {
    let place = Place::new();
    let engine = thalweg::Engine::open(place.path()).unwrap();
    engine.create_topic("t", thalweg::TopicConfig::default()).unwrap();
    let log = engine.partition("t", 0).unwrap();
    let record = thalweg::Record::tombstone().key("gone").timestamp(5);
    let record = record.header("a", "1").header("a", b"\xff").null_header("b");
    log.append(&record).unwrap().wait().unwrap();
    engine.close().unwrap();
    let record = place.records("t", 0).remove(0);
    assert_eq!(record["headers"], json!([["a", "1"], ["a", "/w=="], ["b", null]]));
    assert_eq!(record["base64"], json!(["headers[1]"]));
    assert_eq!((&record["value"], &record["timestamp"]), (&json!(null), &json!(5)));
    assert_eq!(place.run(&["consume", "t"]).succeeded().stdout, b"\n");
}
