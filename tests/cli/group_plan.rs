//! `group plan`: groups described on stdin, Kafka's outcomes among them, and descriptions that make
//! no sense.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::support::{Place, Ran, run, thalweg};

fn plan(assignor: &str, document: &Value) -> Ran {
    plan_text(assignor, &document.to_string())
}

fn plan_text(assignor: &str, text: &str) -> Ran {
    let mut command = thalweg();
    command.args(["group", "plan", "--assignor", assignor]);
    run(command, text.as_bytes())
}

fn sorted(assignment: &Value) -> Vec<(&str, BTreeSet<String>)> {
    let members = assignment.as_object().unwrap().iter();
    let mut members: Vec<_> = members
        .map(|(member, list)| (member.as_str(), list.as_array().unwrap().iter().map(Value::to_string).collect()))
        .collect();
    members.sort();
    members
}

#[test]
fn the_line_that_is_printed() {
    let group = json!({
        "topics": {"orders": 3, "a \"b\"": 1, "unused": 9},
        "members": [
            {"id": "b", "subscriptions": ["orders", "a \"b\"", "gone"]},
            {"id": "a", "subscriptions": ["orders", "a \"b\"", "gone"], "owned": [["orders", 2], ["orders", 3], ["x", 0]]},
        ],
    });
    let range = r#"{"assignment":{"b":[["orders",2]],"a":[["a \"b\"",0],["orders",0],["orders",1]]}}"#;
    let round_robin = r#"{"assignment":{"b":[["orders",0],["orders",2]],"a":[["a \"b\"",0],["orders",1]]}}"#;
    let sticky = r#"{"assignment":{"b":[["orders",0],["orders",1]],"a":[["a \"b\"",0],["orders",2]]}}"#;
    for (assignor, expected) in [("range", range), ("round-robin", round_robin), ("sticky", sticky)] {
        assert_eq!(plan(assignor, &group).succeeded().text(), format!("{expected}\n"), "{assignor}");
    }
    // Sticky without being told; the same with --json; no data directory is made.
    let place = Place::new();
    for args in [&["group", "plan"][..], &["--json", "group", "plan"], &["group", "plan", "--json"]] {
        let ran = place.run_with(args, group.to_string().as_bytes()).succeeded();
        assert_eq!(ran.text(), format!("{sticky}\n"));
    }
    assert!(!place.path().exists());
    let empty = plan_text("range", r#" {"topics": {}, "members": [], "more": [1, 2]} "#);
    assert_eq!(empty.succeeded().text(), "{\"assignment\":{}}\n");
}

/// The command takes Kafka's vectors as they are, and gives what Kafka gives.
#[test]
fn vectors_go_through_the_command() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/assignors.json");
    let file: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut ran = 0;
    for vector in file["vectors"].as_array().unwrap() {
        let assignor = match vector["assignor"].as_str().unwrap() {
            "roundrobin" => "round-robin",
            // What it withholds is in the plan.
            "cooperative-sticky" => continue,
            assignor => assignor,
        };
        if vector["expect"]["kind"] == "exact" {
            let planned = plan(assignor, vector).succeeded().json();
            assert_eq!(sorted(&planned["assignment"]), sorted(&vector["expect"]["assignment"]), "{}", vector["name"]);
            ran += 1;
        }
    }
    assert_eq!(ran, 35 + 28 + 51);
}

#[test]
fn descriptions_that_make_no_sense() {
    let says = |text: &str, part: &str| {
        let ran = plan_text("sticky", text).failed(1, &["stdin does not describe a group", part, "group plan --help"]);
        assert!(ran.stdout.is_empty(), "{ran:?}");
    };
    says("", "not valid JSON");
    says("{", "not valid JSON");
    says("\u{0}", "not valid JSON");
    says(&"[".repeat(100_000), "not valid JSON");
    says("[]", "it is not a JSON object");
    says("{}", "\"topics\" is missing");
    says(r#"{"topics":{}}"#, "\"members\" is missing");
    says(r#"{"topics":[],"members":[]}"#, "\"topics\" is not an object");
    says(r#"{"topics":{},"members":{}}"#, "\"members\" is not an array");
    let topics = |topics: &str, part: &str| says(&format!(r#"{{"topics":{topics},"members":[]}}"#), part);
    for partitions in ["-1", "1.5", "\"3\"", "null", "100001", "4294967295", "18446744073709551616"] {
        topics(&format!(r#"{{"t":{partitions}}}"#), "it is a number from 0 to 100,000");
    }
    let many: Vec<String> = (0..101).map(|nth| format!("\"t{nth}\":100000")).collect();
    topics(&format!("{{{}}}", many.join(",")), "more than 10,000,000 partitions together");
    let member = |member: &str, part: &str| {
        says(&format!(r#"{{"topics":{{"t":2}},"members":[{{"id":"m","subscriptions":[]}},{member}]}}"#), part);
    };
    member("1", "members[1]: it is not an object");
    member("{}", "members[1]: \"id\" is missing");
    member(r#"{"id":1}"#, "\"id\" is 1, not a string");
    member(r#"{"id":"n"}"#, "\"subscriptions\" is missing");
    member(r#"{"id":"n","subscriptions":"t"}"#, "\"subscriptions\" is \"t\", not an array");
    member(r#"{"id":"n","subscriptions":[0]}"#, "a subscription is 0, not the name of a topic");
    member(r#"{"id":"n","subscriptions":[],"instance_id":1}"#, "\"instance_id\" is 1, not a string");
    member(r#"{"id":"n","subscriptions":[],"owned":{}}"#, "\"owned\" is {}, not an array");
    for owned in [r#"["t"]"#, r#"["t",-1]"#, r#"["t","0"]"#, r#"[0,"t"]"#, r#"["t",0,1]"#, "\"t\""] {
        let wrong = format!(r#"{{"id":"n","subscriptions":[],"owned":[{owned}]}}"#);
        member(&wrong, &format!("members[1]: {owned} in \"owned\" is not [topic, partition]"));
    }
    for generation in ["\"1\"", "1.5", "4294967296"] {
        let wrong = format!(r#"{{"id":"n","subscriptions":[],"generation":{generation}}}"#);
        member(&wrong, &format!("\"generation\" is {generation}, not a number"));
    }
    member(r#"{"id":"m","subscriptions":["t"]}"#, "members[1]: the id \"m\" is taken");
    let not_utf8 = run(
        {
            let mut command = thalweg();
            command.args(["group", "plan"]);
            command
        },
        b"{\"\xff\":1}",
    );
    not_utf8.failed(1, &["not valid JSON"]);
}

#[test]
fn claims_of_what_is_not_there_count_for_nothing() {
    let group = json!({
        "topics": {"t": 2},
        "members": [
            {"id": "a", "subscriptions": ["t"], "generation": -1, "instance_id": null,
             "owned": [["t", 2], ["t", 4294967295_u64], ["t", 4294967296_u64], ["t", u64::MAX], ["gone", 0]]},
            {"id": "b", "subscriptions": ["t"], "owned": [["t", 0], ["t", 0]], "generation": 4294967295_u64},
        ],
    });
    let planned = plan("sticky", &group).succeeded().json();
    assert_eq!(planned, json!({"assignment": {"a": [["t", 1]], "b": [["t", 0]]}}));
    let none = json!({"topics": {"t": 2}, "members": []});
    assert_eq!(plan("sticky", &none).succeeded().json(), json!({"assignment": {}}));
    let nothing = json!({"topics": {"t": 0}, "members": [{"id": "a", "subscriptions": ["t"], "owned": null}]});
    assert_eq!(plan("range", &nothing).succeeded().json(), json!({"assignment": {"a": []}}));
}

#[test]
fn command_lines_of_a_plan() {
    for args in [
        &["group"][..],
        &["group", "plan", "--assignor"],
        &["group", "plan", "--assignor", "uniform"],
        &["group", "plan", "file"],
    ] {
        let mut command = thalweg();
        command.args(args);
        assert_eq!(run(command, b"").code, Some(2), "{args:?}");
    }
    plan_text("roundrobin", "{}").failed(2, &["range", "round-robin", "sticky"]);
    let mut help = thalweg();
    help.args(["group", "plan", "--help"]);
    let help = run(help, b"").succeeded();
    assert!(help.text().contains("[default: sticky]") && help.text().contains("{\"assignment\":"), "{help:?}");
}
