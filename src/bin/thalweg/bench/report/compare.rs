//! `bench compare A B`: for each line that both results have, B's figures divided by A's.

use std::path::Path;

use serde_json::{Value, json};

use super::json::{FORMAT, VERSION};
use super::text;
use crate::failure::Failure;
use crate::output::{self, Style};

/// What is compared: the figure's place, its heading.
const FIGURES: [(&str, &str); 6] = [
    ("/per_s", "rate"),
    ("/latency_ns/p50", "p50"),
    ("/latency_ns/p99", "p99"),
    ("/latency_ns/p99.9", "p99.9"),
    ("/floors/0/per_s", "floor"),
    ("/ratio", "ratio"),
];

/// A line of both.
struct Pair {
    name: String,
    /// B's by A's, where both have one.
    ratios: [Option<f64>; FIGURES.len()],
}

pub(crate) fn run(before: &Path, after: &Path, json: bool) -> Result<(), Failure> {
    let (a, b) = (read(before)?, read(after)?);
    let (pairs, only_a, only_b) = pair(&a, &b);
    if pairs.is_empty() {
        let message = format!("{} and {} have no workload in common", before.display(), after.display());
        return Err(Failure::new(message));
    }
    let rows = pairs.iter().map(|pair| {
        let ratios = FIGURES.iter().zip(&pair.ratios).map(|((_, name), ratio)| ((*name).to_owned(), (*ratio).into()));
        let name = ("workload".to_owned(), Value::from(pair.name.as_str()));
        [name].into_iter().chain(ratios).collect::<Value>()
    });
    let document = json!({
        "a": before.display().to_string(),
        "b": after.display().to_string(),
        "ratios": rows.collect::<Vec<_>>(),
        "only_in_a": only_a,
        "only_in_b": only_b,
    });
    if json {
        return output::print_json(&document);
    }
    let elsewhere = a["environment"] != b["environment"];
    output::print(&render(before, after, &pairs, &[(&only_a, before), (&only_b, after)], elsewhere))
}

/// The file, if `bench --json` wrote it.
fn read(path: &Path) -> Result<Value, Failure> {
    let failed = |why: String| {
        let message = format!("{} is no result of bench: {why}", path.display());
        Failure::new(message).next("`bench --json FILE` writes one")
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("could not read {}: {error}", path.display())))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| failed(format!("it isn't JSON ({error})")))?;
    if value["format"] != FORMAT || !value["workloads"].is_array() {
        return Err(failed("it is some other JSON".to_owned()));
    }
    match value["version"].as_u64() {
        Some(VERSION) => Ok(value),
        version => Err(failed(format!("its version is {version:?}, and this program knows {VERSION}"))),
    }
}

fn lines(result: &Value) -> Vec<(String, &Value)> {
    let lines = result["workloads"].as_array().into_iter().flatten();
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    lines.map(|line| (format!("{} {}", text(line, "workload"), text(line, "variant")), line)).collect()
}

fn pair(a: &Value, b: &Value) -> (Vec<Pair>, Vec<String>, Vec<String>) {
    let (a, b) = (lines(a), lines(b));
    let (mut pairs, mut only_a) = (Vec::new(), Vec::new());
    for (name, line) in &a {
        let Some((_, other)) = b.iter().find(|(other, _)| other == name) else {
            only_a.push(name.clone());
            continue;
        };
        let ratios = FIGURES.map(|(place, _)| {
            let figure = |line: &Value| line.pointer(place).and_then(Value::as_f64).filter(|&figure| figure > 0.0);
            Some(figure(other)? / figure(line)?)
        });
        pairs.push(Pair { name: name.clone(), ratios });
    }
    let only_b = b.iter().map(|(name, _)| name.clone()).filter(|name| !a.iter().any(|(other, _)| other == name));
    (pairs, only_a, only_b.collect())
}

fn render(before: &Path, after: &Path, pairs: &[Pair], only: &[(&Vec<String>, &Path); 2], elsewhere: bool) -> String {
    let style = Style::of_stdout();
    let headings: Vec<String> = FIGURES.iter().map(|(_, name)| format!("{name}>")).collect();
    let heading: Vec<&str> = ["workload"].into_iter().chain(headings.iter().map(String::as_str)).collect();
    let rows = pairs.iter().map(|pair| {
        let ratios = pair.ratios.iter().map(|ratio| ratio.map_or_else(|| "-".to_owned(), text::digits));
        [pair.name.clone()].into_iter().chain(ratios).collect::<Vec<_>>()
    });
    let mut out = format!("{}\n", output::table(&heading, rows));
    out.push_str(&format!(
        "{} divided by {}; of rates more is better, of times less\n",
        after.display(),
        before.display()
    ));
    for (names, path) in only {
        if !names.is_empty() {
            out.push_str(&format!("only in {}: {}\n", path.display(), names.join(", ")));
        }
    }
    if elsewhere {
        out.push_str(
            &style.bad("they were measured on different machines or places: compare their ratios to the floor"),
        );
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_divided_where_both_have_them() {
        let line = |per_s: f64, p50: Option<u64>| json!({"workload": "w", "variant": "v", "per_s": per_s, "latency_ns": {"p50": p50}});
        let a = json!({"workloads": [line(2.0, Some(100)), {"workload": "x"}]});
        let b = json!({"workloads": [line(3.0, None), {"workload": "y"}]});
        let (pairs, only_a, only_b) = pair(&a, &b);
        assert_eq!((pairs[0].name.as_str(), pairs[0].ratios), ("w v", [Some(1.5), None, None, None, None, None]));
        assert_eq!((only_a, only_b), (vec!["x ".to_owned()], vec!["y ".to_owned()]));
    }
}
