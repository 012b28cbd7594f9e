//! The walk-through: it says what it checked, and what it claims agrees with what the other commands
//! show of the directory it leaves.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::Place;

#[test]
fn demo_checks_itself_and_names_the_next_commands() {
    let place = Place::new();
    let ran = place.run(&["demo", "--seed", "7"]).succeeded();
    let text = ran.text();
    for part in ["✓ complete", "✓ in order", "--seed 7", "AAPL", "topic describe stock-ticker"] {
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
    assert_eq!((&report["complete"], &report["in_order"]), (&Value::Bool(true), &Value::Bool(true)));
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
    assert!((8..=12).contains(&last_numbers.len()));
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
    assert!(place.run(&["demo"]).succeeded().text().contains("made again"));
}
