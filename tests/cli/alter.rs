//! `topic alter`: what it says before, what it does, and that keys stay in order across it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::Place;

/// A topic `t` with 200 keyed records, and a group `slow` that has committed 50 of them, `fast` all.
fn behind() -> Place {
    let place = Place::with_topic("t", 3);
    produce(&place, 0..200);
    place.run(&["consume", "t", "--group", "slow", "--max", "50"]).succeeded();
    place.run(&["consume", "t", "--group", "fast"]).succeeded();
    place
}

/// Records `key:number` with 20 keys in turn.
fn produce(place: &Place, numbers: std::ops::Range<usize>) {
    let lines: String = numbers.map(|number| format!("key{}:{number}\n", number % 20)).collect();
    place.run_with(&["produce", "t", "--key-separator", ":"], lines.as_bytes()).succeeded();
}

fn describe(place: &Place, group: &str) -> Value {
    place.run(&["group", "describe", group, "--json"]).succeeded().json()
}

#[test]
fn says_what_will_happen_before_and_what_it_did_after() {
    let place = behind();
    let altered = place.run(&["topic", "alter", "t", "--partitions", "5"]).succeeded();
    let text = altered.text();
    let told = [
        "partitions: 3 -> 5",
        "Keys move",
        "80% of the keys",
        "slow    held",
        "fast    not held",
        "150",
        "--config fence=false",
        "altered topic t: added partitions 3 and 4",
    ];
    let mut from = 0;
    for part in ["partitions: 3 -> 5", "Keys move", "gets nothing that is written from now on", "altered topic t"] {
        from += text[from..].find(part).unwrap_or_else(|| panic!("no {part:?} in {text}"));
    }
    for part in told {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let topic = place.run(&["topic", "describe", "t", "--json"]).succeeded().json();
    assert_eq!(topic["partitions"].as_array().unwrap().len(), 5);
}

#[test]
fn shows_who_waits_for_what() {
    let place = behind();
    let altered = place.run(&["topic", "alter", "t", "--partitions", "5", "--json"]).succeeded().json();
    assert_eq!((&altered["partitions_before"], &altered["partitions"]), (&json!(3), &json!(5)));
    let groups = altered["groups"].as_array().unwrap();
    assert_eq!(
        (&groups[0]["group"], &groups[0]["held"], &groups[0]["records_behind"]),
        (&json!("fast"), &json!(false), &json!(0))
    );
    assert_eq!(
        (&groups[1]["group"], &groups[1]["held"], &groups[1]["records_behind"]),
        (&json!("slow"), &json!(true), &json!(150))
    );
    assert_eq!(groups[0]["waits_for"], json!([]));
    let first = &groups[1]["waits_for"][0];

    produce(&place, 200..400);
    let slow = describe(&place, "slow");
    let rows = slow["offsets"].as_array().unwrap();
    assert_eq!(rows.len(), 5, "{slow}");
    for row in rows.iter().filter(|row| row["partition"].as_u64().unwrap() >= 3) {
        assert_eq!((&row["committed"], &row["waits_for"]), (&json!(null), first), "{row}");
        assert!(row["lag"].as_u64().unwrap() > 0, "{row}");
    }
    let text = place.run(&["group", "describe", "slow"]).succeeded();
    let waits = format!(
        "waits for partition {} to be committed up to {}, is at {}",
        first["partition"], first["until_offset"], first["reached_offset"]
    );
    assert!(text.text().contains(&waits), "no {waits:?} in {text:?}");
    assert!(describe(&place, "fast")["offsets"].as_array().unwrap().iter().all(|row| row["waits_for"].is_null()));
}

/// The numbers that were read, by key, in order.
fn by_key(text: &str) -> BTreeMap<usize, Vec<usize>> {
    let mut keys = BTreeMap::<_, Vec<_>>::new();
    for number in text.lines().map(|line| line.parse::<usize>().unwrap()) {
        keys.entry(number % 20).or_default().push(number);
    }
    keys
}

#[test]
fn g7_a_group_reads_each_key_in_order_across_it() {
    let place = Place::with_topic("t", 2);
    let mut read = String::new();
    let mut sent = 0;
    for (partitions, records, max) in
        [("5", 1_000, "100"), ("6", 1_000, "700"), ("20", 1_000, "1"), ("21", 500, "1200")]
    {
        produce(&place, sent..sent + records);
        sent += records;
        place.run(&["topic", "alter", "t", "--partitions", partitions]).succeeded();
        read += place.run(&["consume", "t", "--group", "g", "--max", max]).succeeded().text();
    }
    produce(&place, sent..sent + 500);
    sent += 500;
    read += place.run(&["consume", "t", "--group", "g"]).succeeded().text();
    let keys = by_key(&read);
    assert_eq!(keys.len(), 20);
    for (key, numbers) in keys {
        assert_eq!(numbers, (key..sent).step_by(20).collect::<Vec<_>>(), "key{key}");
    }
}

#[test]
fn without_the_fence_nobody_waits() {
    let place = behind();
    let args = ["topic", "alter", "t", "--partitions", "6", "--config", "fence=false"];
    let altered = place.run(&args).succeeded();
    for part in ["fence: true -> false", "wrong order", "50% of the keys", "altered topic t"] {
        assert!(altered.text().contains(part), "no {part:?} in {altered:?}");
    }
    produce(&place, 200..300);
    assert!(describe(&place, "slow")["offsets"].as_array().unwrap().iter().all(|row| row["waits_for"].is_null()));
    assert_eq!(place.run(&["consume", "t", "--group", "slow"]).succeeded().text().lines().count(), 250);
}

#[test]
fn other_settings() {
    let place = Place::with_topic("t", 1);
    let args = ["topic", "alter", "t", "--config", "retention.ms=60000", "--config", "acks=written"];
    let altered = place.run(&args).succeeded();
    for part in ["acks: synced -> written", "retention.ms: -1 -> 60000", "altered topic t"] {
        assert!(altered.text().contains(part), "no {part:?} in {altered:?}");
    }
    assert!(!altered.text().contains("Keys move"), "{altered:?}");
    let described = place.run(&["topic", "describe", "t", "--json"]).succeeded().json();
    assert_eq!(
        (&described["config"]["retention.ms"], &described["config"]["acks"]),
        (&json!(60_000), &json!("written"))
    );
    let again = place.run(&[&args[..], &["--json"]].concat()).succeeded().json();
    assert_eq!(
        (&again["changed"], &again["partitions_before"], &again["partitions"]),
        (&json!([]), &json!(1), &json!(1))
    );
    let described = place.run(&["topic", "describe", "t"]).succeeded();
    assert!(described.text().contains("fence"), "{described:?}");
}

#[test]
fn what_can_not_be() {
    let place = Place::with_topic("t", 3);
    let alter = |args: &[&str]| place.run(&[&["topic", "alter", "t"], args].concat());
    alter(&["--partitions", "2"]).failed(1, &["partitions can be added, not removed", "there are 3"]);
    alter(&["--partitions", "0"]).failed(1, &["partitions = 0"]);
    alter(&["--partitions", "100001"]).failed(1, &["partitions = 100001", "1 to 100000"]);
    alter(&["--config", "fence=maybe"]).failed(1, &["fence = maybe", "true or false"]);
    alter(&["--config", "segment.byte=1"]).failed(1, &["segment.byte", "segment.bytes"]);
    alter(&["--partitions", "4", "--config", "segment.bytes=1"]).failed(1, &["segment.bytes = 1", "65536"]);
    let topic = place.run(&["topic", "describe", "t", "--json"]).succeeded().json();
    assert_eq!(topic["partitions"].as_array().unwrap().len(), 3);
    let mut writer = place.start(&["produce", "t", "--json"]);
    writer.write(b"one\n");
    writer.line();
    alter(&["--partitions", "4"]).failed(1, &["open for writing", &format!("pid {}", writer.pid())]);
}

#[test]
fn who_follows_a_topic_reads_its_new_partitions_too() {
    let place = Place::with_topic("t", 1);
    place.run_with(&["produce", "t"], b"one\n").succeeded();
    let mut follower = place.start(&["consume", "t", "--follow"]);
    let mut first = place.start(&["consume", "t", "--follow", "--partition", "0"]);
    assert_eq!((follower.line(), first.line()), ("one".to_owned(), "one".to_owned()));
    place.run(&["topic", "alter", "t", "--partitions", "3"]).succeeded();
    place.run_with(&["produce", "t", "--partition", "2"], b"two\n").succeeded();
    assert_eq!(follower.line(), "two");
    place.run_with(&["produce", "t", "--partition", "0"], b"three\n").succeeded();
    assert_eq!((follower.line(), first.line()), ("three".to_owned(), "three".to_owned()));
}

/// What is refused says only why; no plan comes before it.
#[test]
fn what_is_refused_is_not_announced() {
    let place = Place::with_topic("t", 3);
    for (args, says) in [
        (&["--partitions", "2"][..], "partitions can be added, not removed"),
        (&["--partitions", "100001"], "partitions = 100001"),
        (&["--partitions", "4", "--config", "segment.bytes=1"], "segment.bytes = 1"),
        (&["--config", "segment.bytes=1"], "segment"),
    ] {
        let ran = place.run(&[&["topic", "alter", "t"], args].concat()).failed(1, &[says]);
        assert_eq!(ran.text(), "", "{args:?}");
    }
    let same = place.run(&["topic", "alter", "t", "--partitions", "3"]).succeeded();
    assert_eq!(same.text(), "topic t\n  nothing to change: all settings have these values already\n");
}
