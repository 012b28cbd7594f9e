//! The walk-through: it says what it checked, and what it claims agrees with what the other commands
//! show of the directory it leaves.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::Place;

#[test]
fn demo_checks_itself_and_names_the_next_commands() {
    let place = Place::new();
    let ran = place.run(&["demo", "--seed", "7"]).succeeded();
    let text = ran.text();
    let checks = ["✓ complete", "✓ in order", "✓ handed over", "✓ independent", "✓ committed"];
    let told = ["consumer-2 dies without a word", "consumer-2 is back", "--seed 7", "AAPL", "group describe prices"];
    for part in checks.iter().chain(&told) {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(!text.contains('✗'), "{text}");
    assert!(!text.contains('\x1b'), "colors without a terminal: {text}");
    assert_eq!(ran.stderr, "");
}

#[test]
fn demo_leaves_what_it_reports() {
    let place = Place::new();
    let report = place.run(&["demo", "--json"]).succeeded().json();
    for check in ["complete", "in_order", "handed_over", "independent", "committed"] {
        assert_eq!(report[check], true, "{check}: {}", report["problems"]);
    }
    let mut total = 0;
    let mut last_numbers = BTreeMap::new();
    for partition in report["partitions"].as_array().unwrap() {
        let records = place.records("stock-ticker", partition["partition"].as_u64().unwrap() as u32);
        assert_eq!(records.len() as u64, partition["records"].as_u64().unwrap());
        total += records.len();
        for (offset, record) in records.iter().enumerate() {
            assert_eq!(record["offset"], offset);
            let ticker = record["key"].as_str().unwrap();
            assert!(partition["tickers"].as_array().unwrap().contains(&record["key"]), "{record}");
            assert!(record["value"].as_str().unwrap().starts_with(&format!("{ticker}: ")), "{record}");
            let number: u64 = record["headers"][0][1].as_str().unwrap().parse().unwrap();
            let before = last_numbers.insert(ticker.to_owned(), number);
            assert!(before.is_none_or(|before| before < number), "{record}");
        }
    }
    assert_eq!(total, 10_000);
    // The stretches that the consumers read lie end to end, and the dead one's partition changed hands.
    for partition in report["partitions"].as_array().unwrap() {
        let turns = partition["read_by"].as_array().unwrap();
        let next = turns.iter().fold(0, |next, turn| {
            assert_eq!(turn["first_offset"], next, "{partition}");
            turn["last_offset"].as_u64().unwrap() + 1
        });
        assert_eq!(next, partition["records"]);
    }
    for group in ["prices", "analytics"] {
        let described = place.run(&["group", "describe", group, "--json"]).succeeded().json();
        assert_eq!((&described["state"], &described["lag"]), (&json!("empty"), &json!(0)));
        assert_eq!(described["offsets"].as_array().unwrap().len(), 3);
    }
    assert!((8..=12).contains(&last_numbers.len()));
}

#[test]
fn a_demo_of_groups_hands_over_and_back() {
    let place = Place::new();
    let report = place.run(&["demo", "--json"]).succeeded().json();
    let events: Vec<_> =
        report["events"].as_array().unwrap().iter().map(|event| event["what"].as_str().unwrap()).collect();
    let place_of = |what: &str| events.iter().position(|event| event.contains(what)).unwrap();
    assert!(place_of("dies without a word") < place_of("is back"), "{events:?}");
    assert!(report["takeover_seconds"].as_f64() >= report["session_timeout_seconds"].as_f64(), "{report}");
    let records = |group: &str| -> u64 {
        let consumers = report["consumers"].as_array().unwrap().iter();
        consumers
            .filter(|consumer| consumer["group"] == group)
            .map(|consumer| consumer["records"].as_u64().unwrap())
            .sum()
    };
    assert_eq!((records("prices"), records("analytics")), (10_000, 10_000));
}

/// A topic and groups that only have the demo's names: whatever they hold, they are as before.
#[test]
fn demo_leaves_alone_what_is_not_its_own() {
    let described = |place: &Place| {
        let topic = place.run(&["topic", "describe", "stock-ticker", "--json"]).stdout;
        let groups = place.run(&["group", "list", "--json"]).succeeded().json();
        let offsets: Vec<_> = groups.as_array().unwrap().iter().map(|group| group["partitions"].clone()).collect();
        (topic, place.run(&["consume", "stock-ticker"]).stdout, offsets)
    };
    // Lines of a user's own; of the demo's own kind, but without its header; none at all.
    for lines in ["IBM=my own price\n", "AAPL=AAPL: 189.45\n", ""] {
        let place = Place::with_topic("stock-ticker", 3);
        place.run_with(&["produce", "stock-ticker", "--key-separator", "="], lines.as_bytes()).succeeded();
        let before = described(&place);
        place.run(&["demo"]).failed(1, &["topic stock-ticker of ", "not the demo's", "--dir thalweg-demo"]);
        assert_eq!(described(&place), before, "{lines:?}");
    }
    // What the demo left and somebody wrote to.
    let place = Place::new();
    place.run(&["demo"]).succeeded();
    place.run_with(&["produce", "stock-ticker"], b"a note\n").succeeded();
    let before = described(&place);
    place.run(&["demo"]).failed(1, &["topic stock-ticker of "]);
    assert_eq!(described(&place), before);
    // A group that reads something else.
    let place = Place::with_topic("orders", 1);
    place.run_with(&["produce", "orders"], b"order\n").succeeded();
    place.run(&["consume", "orders", "--group", "prices"]).succeeded();
    let before = described(&place);
    place.run(&["demo"]).failed(1, &["group prices of ", "not the demo's"]);
    assert_eq!(described(&place), before);
}

/// Stopped before its first record, a demo leaves its topic empty.
#[test]
fn demo_runs_again_after_it_was_stopped() {
    let place = Place::new();
    let stopped = place.start(&["demo"]);
    while !place.path().join("topics/stock-ticker").exists() {
        std::thread::yield_now();
    }
    interrupt(stopped.pid());
    stopped.finish();
    place.run(&["demo"]).succeeded();
    // Without a record for sure: made again as the demo had made it.
    let described = || place.run(&["topic", "describe", "stock-ticker", "--json"]).succeeded().json();
    let settings = described()["config"].as_object().unwrap().clone();
    let settings = settings.iter().map(|(name, value)| format!("{name}={}", value.to_string().trim_matches('"')));
    let settings: Vec<_> = settings.flat_map(|setting| ["--config".to_owned(), setting]).collect();
    place.run(&["topic", "delete", "stock-ticker"]).succeeded();
    let create = ["topic", "create", "stock-ticker", "--partitions", "3"].map(str::to_owned);
    let create: Vec<_> = create.iter().chain(&settings).map(|arg| &**arg).collect();
    place.run(&create).succeeded();
    let id = described()["id"].clone();
    let report = place.run(&["demo", "--json"]).succeeded().json();
    assert_eq!((&report["made_again"], &report["complete"]), (&json!(false), &json!(true)));
    assert_eq!(described()["id"], id, "the topic was used as it was");
}

fn interrupt(pid: u32) {
    assert!(std::process::Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn demo_runs_again_and_a_seed_gives_the_same_prices() {
    let place = Place::new();
    let first = place.run(&["demo", "--seed", "42", "--json"]).succeeded().json();
    assert_eq!(first["made_again"], false);
    let values = |place: &Place| -> Vec<Value> {
        (0..3).flat_map(|p| place.records("stock-ticker", p)).map(|record| record["value"].clone()).collect()
    };
    let before = values(&place);
    let again = place.run(&["demo", "--seed", "42", "--json"]).succeeded().json();
    assert_eq!((&again["made_again"], &again["tickers"]), (&Value::Bool(true), &first["tickers"]));
    assert_eq!(values(&place), before);
}
