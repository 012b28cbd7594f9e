//! Lines in, lines out: every byte back, in order; keys where Kafka's partitioner puts them;
//! acknowledgements in order of sending.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::Place;

/// Odd bytes, empty lines, CRLF, NUL; the last line has no end.
const ODD: &[u8] = b"first\n\n\r\ncrlf\r\n\xff\xfe not UTF-8 \x80\n\0\n\ttab \xc3\xa9\n\n\nlast without end";

#[test]
fn bytes_come_back_as_they_are() {
    let place = Place::with_topic("t", 1);
    let ran = place.run_with(&["produce", "t"], ODD).succeeded();
    assert!(ran.stdout.is_empty());
    assert!(ran.stderr.starts_with("10 records, "), "{ran:?}");
    assert_eq!(place.run(&["consume", "t"]).succeeded().stdout, [ODD, b"\n"].concat());
}

#[test]
fn no_input_is_no_record() {
    let place = Place::with_topic("t", 1);
    place.run_with(&["produce", "t"], b"").succeeded();
    assert!(place.run(&["consume", "t"]).succeeded().stdout.is_empty());
    place.run_with(&["produce", "t"], b"\n").succeeded();
    assert_eq!(place.run(&["consume", "t"]).succeeded().stdout, b"\n");
}

/// 60 bytes and more a line, enough for many batches and several reads.
fn numbered(count: usize) -> Vec<u8> {
    let lines = (0..count).map(|n| format!("{n:08} {}\n", "x".repeat(50 + n % 97)));
    lines.collect::<String>().into_bytes()
}

#[test]
fn lines_without_keys_spread_and_keep_their_order() {
    let place = Place::with_topic("t", 3);
    let input = numbered(30_000);
    place.run_with(&["produce", "t"], &input).succeeded();
    let mut all = Vec::new();
    for partition in ["0", "1", "2"] {
        let ran = place.run(&["consume", "t", "--partition", partition]).succeeded();
        let lines: Vec<_> = ran.text().lines().map(str::to_owned).collect();
        assert!(lines.len() > 1_000, "partition {partition} got {} lines", lines.len());
        assert!(lines.is_sorted());
        all.extend(lines);
    }
    assert_eq!(place.run(&["consume", "t"]).succeeded().text().lines().map(str::to_owned).collect::<Vec<_>>(), all);
    all.sort();
    assert_eq!(all.join("\n") + "\n", String::from_utf8(input).unwrap());
}

#[test]
fn equal_keys_share_the_partition_that_kafka_gives_them() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/partitioner.json")).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    let vectors = vectors["partition_choice_keyed"].as_array().unwrap();
    let bytes = |vector: &Value| -> Vec<u8> {
        let hex = vector["key_hex"].as_str().unwrap();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let input: Vec<u8> =
        vectors.iter().flat_map(|vector| [&bytes(vector)[..], b"::value:: of it\n"].concat()).collect();
    let place = Place::new();
    for partitions in ["1", "3", "7", "50"] {
        let topic = format!("t{partitions}");
        place.run(&["topic", "create", &topic, "--partitions", partitions]).succeeded();
        let acks = place.run_with(&["produce", &topic, "--key-separator", "::", "--json"], &input).succeeded();
        let got: Vec<_> = acks.json_lines().iter().map(|ack| ack["partition"].clone()).collect();
        let expected: Vec<_> = vectors.iter().map(|vector| vector["partition_by_count"][partitions].clone()).collect();
        assert_eq!(got, expected, "{partitions} partitions");
        for vector in vectors {
            let partition = vector["partition_by_count"][partitions].as_u64().unwrap() as u32;
            let records = place.records(&topic, partition);
            let key = String::from_utf8(bytes(vector)).unwrap();
            let found = records.iter().find(|record| record["key"] == key).unwrap();
            assert_eq!(found["value"], "value:: of it");
        }
    }
}

#[test]
fn a_line_without_the_separator_has_no_key() {
    let place = Place::with_topic("t", 1);
    // A tab as it is, and as people write it.
    for separator in ["\t", r"\t"] {
        let lines = b"plain\nk\tv\n\tempty key\nk\t\n";
        let before = place.records("t", 0).len();
        place.run_with(&["produce", "t", "--key-separator", separator], lines).succeeded();
        let records = place.records("t", 0).split_off(before);
        let pairs: Vec<_> =
            records.into_iter().map(|record| (record["key"].clone(), record["value"].clone())).collect();
        let expected = [(json!(null), "plain"), (json!("k"), "v"), (json!(""), "empty key"), (json!("k"), "")];
        assert_eq!(pairs, expected.map(|(key, value)| (key, json!(value))), "{separator:?}");
    }
}

#[test]
fn acknowledgements_are_printed_in_order_of_sending() {
    let place = Place::with_topic("t", 3);
    let input = numbered(20_000);
    for acks in ["none", "written", "synced"] {
        let before: Vec<u64> = (0..3).map(|partition| place.records("t", partition).len() as u64).collect();
        let acks = place.run_with(&["produce", "t", "--json", "--acks", acks], &input).succeeded();
        let acks = acks.json_lines();
        assert_eq!(acks.len(), 20_000);
        let mut next = before;
        let mut stored: BTreeMap<_, _> = BTreeMap::new();
        for partition in 0..3 {
            for record in place.records("t", partition) {
                stored.insert((u64::from(partition), record["offset"].as_u64().unwrap()), record["value"].clone());
            }
        }
        let numbers: Vec<_> = acks.iter().map(|ack| ack["line"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=20_000).collect::<Vec<_>>());
        for (ack, line) in acks.iter().zip(std::str::from_utf8(&input).unwrap().lines()) {
            let (partition, offset) = (ack["partition"].as_u64().unwrap(), ack["offset"].as_u64().unwrap());
            assert_eq!(offset, next[partition as usize]);
            next[partition as usize] += 1;
            assert_eq!(stored[&(partition, offset)], line);
        }
    }
}

#[test]
fn a_named_partition_takes_all() {
    let place = Place::with_topic("t", 3);
    place.run_with(&["produce", "t", "--partition", "2", "--key-separator", ":"], b"a:1\nb:2\nc:3\n").succeeded();
    assert_eq!(place.records("t", 2).len(), 3);
    assert_eq!(place.records("t", 0).len() + place.records("t", 1).len(), 0);
}

#[test]
fn a_line_may_be_as_long_as_the_largest_record() {
    let place = Place::new();
    // Larger than a batch may be unless the engine is told otherwise.
    let args = ["topic", "create", "t", "--partitions", "1", "--config", "max.message.bytes=536870912"];
    place.run(&args).succeeded();
    let mut input = vec![b'x'; 40_000_000];
    input.extend_from_slice(b"\nshort\n");
    place.run_with(&["produce", "t"], &input).succeeded();
    assert_eq!(place.run(&["consume", "t"]).succeeded().stdout, input);
}
