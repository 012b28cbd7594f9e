//! Groups beside a process that has the directory open: who looks sees them as they were stored
//! there, who would change them is told who is alive.

use std::time::Duration;

use serde_json::{Value, json};
use thalweg::{Consumer, Engine, GroupState, Record};

use crate::support::Place;

/// A follower of group `g` that has printed its first line, `one`.
fn with_follower() -> (Place, crate::support::Running) {
    let place = Place::with_topic("t", 2);
    place.run_with(&["produce", "t", "--partition", "0"], b"one\n").succeeded();
    let mut follower = place.start(&["consume", "t", "--group", "g", "--follow"]);
    assert_eq!(follower.line(), "one");
    (place, follower)
}

fn describe(place: &Place, group: &str) -> Value {
    place.run(&["group", "describe", group, "--json"]).succeeded().json()
}

#[test]
fn a_live_group_is_not_changed() {
    let (place, follower) = with_follower();
    let pid = format!("pid {}", follower.pid());
    let data = place.path();
    let says =
        ["open for writing", &pid, data.to_str().unwrap(), "group \"g\" is alive there: thalweg-consume-", "next: "];
    place.run(&["group", "reset", "g", "--topic", "t", "--to", "earliest"]).failed(1, &says);
    place.run(&["group", "delete", "g"]).failed(1, &says);
    place.run(&["group", "copy", "other", "g"]).failed(1, &says);
    for args in [&["consume", "t", "--group", "g"][..], &["group", "delete", "nobody"]] {
        let ran = place.run(args).failed(1, &says[..3]);
        assert!(!ran.stderr.contains("is alive"), "{ran:?}");
    }
    let dry = place.run(&["group", "reset", "g", "--topic", "t", "--to", "earliest", "--dry-run"]).succeeded();
    assert!(dry.stderr.contains("group g was alive") && dry.stderr.contains("thalweg-consume-"), "{dry:?}");
}

#[test]
fn describe_shows_the_members_of_another_process_until_it_dies() {
    let (place, mut follower) = with_follower();
    let described = describe(&place, "g");
    assert_eq!((&described["state"], &described["assignor"]), (&json!("stable"), &json!("sticky")));
    assert!(described["as_of_ms"].as_i64().unwrap() > 1_700_000_000_000);
    let member = &described["members"][0];
    assert_eq!(member["partitions"], json!([["t", 0], ["t", 1]]));
    assert_eq!((&member["idle"], &member["awaited"]), (&json!(false), &json!([])));
    assert!(described["offsets"].as_array().unwrap().iter().all(|row| row["member"] == member["id"]), "{described}");
    let text = place.run(&["group", "describe", "g"]).succeeded();
    for part in [&format!("pid {}", follower.pid()), "as another process", "ago", "t 0 1"] {
        assert!(text.text().contains(part), "no {part:?} in {text:?}");
    }
    let list = place.run(&["group", "list", "--json"]).succeeded().json();
    assert_eq!((&list[0]["state"], &list[0]["members"]), (&json!("stable"), &json!(1)));
    follower.kill();
    follower.finish();
    // Nobody could write down that it died.
    let described = describe(&place, "g");
    assert_eq!(
        (&described["state"], &described["members"], &described["as_of_ms"]),
        (&json!("empty"), &json!([]), &json!(null))
    );
    place.run(&["group", "delete", "g"]).succeeded();
}

/// Members of a group in this process, each with what is its own.
fn members(engine: &Engine, count: usize) -> Vec<Consumer> {
    let start = |_| engine.consumer("g").client_id("member").subscribe(["t"]).start().unwrap();
    let mut members: Vec<_> = (0..count).map(start).collect();
    loop {
        for member in &mut members {
            member.poll(Duration::ZERO).unwrap();
        }
        let described = engine.describe_group("g").unwrap();
        if described.state == GroupState::Stable && described.members.len() == count {
            return members;
        }
    }
}

#[test]
fn g6_idle_members_are_said_to_be_idle() {
    let place = Place::with_topic("t", 3);
    let engine = Engine::open(place.path()).unwrap();
    let mut members = members(&engine, 4);
    let described = describe(&place, "g");
    let idle: Vec<_> =
        described["members"].as_array().unwrap().iter().filter(|member| member["idle"] == true).collect();
    assert_eq!(idle.len(), 1, "{described}");
    assert_eq!(idle[0]["partitions"], json!([]));
    let text = place.run(&["group", "describe", "g"]).succeeded();
    assert!(text.text().contains("idle, there are more members than partitions"), "{text:?}");
    assert_eq!(place.run(&["group", "list", "--json"]).succeeded().json()[0]["members"], 4);

    // A member that goes makes room.
    let generation = described["generation"].as_u64().unwrap();
    drop(members.swap_remove(0));
    for member in &mut members {
        member.poll(Duration::ZERO).unwrap();
    }
    let described = describe(&place, "g");
    assert!(described["generation"].as_u64().unwrap() > generation, "{described}");
    assert!(described["members"].as_array().unwrap().iter().all(|member| member["idle"] == false), "{described}");
}

#[test]
fn commits_and_lag_of_another_process_are_seen() {
    let place = Place::with_topic("t", 3);
    let engine = Engine::open(place.path()).unwrap();
    let mut members = members(&engine, 1);
    for number in 0..30 {
        let text = number.to_string();
        let record = Record::new(&text).partition(number % 3);
        engine.producer_for("t").unwrap().send(record).unwrap().wait().unwrap();
    }
    assert_eq!(describe(&place, "g")["lag"], 30);
    let mut read = 0;
    while read < 30 {
        let polled = members[0].poll(Duration::from_secs(1)).unwrap();
        read += polled.batches().iter().map(|batch| batch.iter().count()).sum::<usize>();
    }
    members[0].commit().unwrap();
    let described = describe(&place, "g");
    assert_eq!(described["lag"], 0);
    assert!(described["offsets"].as_array().unwrap().iter().all(|row| row["committed"] == 10), "{described}");
    // A member that leaves, leaves the commits.
    members.clear();
    let described = describe(&place, "g");
    assert_eq!(
        (&described["state"], &described["members"], &described["lag"]),
        (&json!("empty"), &json!([]), &json!(0))
    );
    assert!(described["empty_since_ms"].as_i64().unwrap() > 1_700_000_000_000);
}

#[test]
fn metadata_is_shown_as_it_was_committed() {
    let place = Place::with_topic("t", 2);
    let engine = Engine::open(place.path()).unwrap();
    let mut members = members(&engine, 1);
    let commits = [
        thalweg::OffsetCommit::new("t", 0, 0).metadata("host 7"),
        thalweg::OffsetCommit::new("t", 1, 0).metadata(*b"\xff\xfe"),
    ];
    members[0].commit_offsets(commits, thalweg::Acks::Written).unwrap();
    let rows = describe(&place, "g")["offsets"].clone();
    assert_eq!((&rows[0]["metadata"], &rows[0]["base64"]), (&json!("host 7"), &json!(null)));
    assert_eq!((&rows[1]["metadata"], &rows[1]["base64"]), (&json!("//4="), &json!(["metadata"])));
}

#[test]
fn a_hand_over_that_is_not_done_is_seen() {
    let place = Place::with_topic("t", 2);
    let engine = Engine::open(place.path()).unwrap();
    let mut first = members(&engine, 1);
    // It gets one of the two when the first gives it back, in its next poll.
    let mut second = engine.consumer("g").client_id("second").subscribe(["t"]).start().unwrap();
    second.poll(Duration::ZERO).unwrap();
    let described = describe(&place, "g");
    assert_eq!(described["state"], "preparing", "{described}");
    let waiting = described["members"]
        .as_array()
        .unwrap()
        .iter()
        .find(|member| member["id"] == second.member_id().unwrap())
        .unwrap();
    assert_eq!((&waiting["partitions"], waiting["awaited"].as_array().unwrap().len()), (&json!([]), 1));
    assert_eq!(waiting["idle"], false);
    let text = place.run(&["group", "describe", "g"]).succeeded();
    assert!(text.text().contains("preparing") && text.text().contains("will get t "), "{text:?}");
    first[0].poll(Duration::ZERO).unwrap();
    second.poll(Duration::ZERO).unwrap();
    assert_eq!(describe(&place, "g")["state"], "stable");
}

#[test]
fn g7_a_live_group_is_seen_to_wait_after_an_expansion() {
    let place = Place::with_topic("t", 1);
    let engine = Engine::open(place.path()).unwrap();
    let partition = |number| engine.partition("t", number).unwrap();
    partition(0).append(&Record::new("old")).unwrap().wait().unwrap();
    let mut members = members(&engine, 1);
    engine.alter_topic("t", thalweg::TopicConfig::default().partitions(2)).unwrap();
    partition(1).append(&Record::new("new")).unwrap().wait().unwrap();
    let polled = members[0].poll(Duration::ZERO).unwrap();
    // It has read the old record when it joined, but not committed it.
    assert_eq!((polled.batches().len(), polled.held().len()), (0, 1));
    let rows = describe(&place, "g")["offsets"].clone();
    assert_eq!(rows[0]["waits_for"], json!(null));
    assert_eq!(rows[1]["waits_for"], json!({"partition": 0, "until_offset": 1, "reached_offset": 0}), "{rows}");
    members[0].commit().unwrap();
    assert_eq!(describe(&place, "g")["offsets"][1]["waits_for"], json!(null));
    assert_eq!(members[0].poll(Duration::from_secs(60)).unwrap().batches().len(), 1);
}
