//! The results as JSON: environment, settings, every percentile, what was done in each interval.

use serde_json::{Map, Value, json};

use super::Report;
use crate::bench::figures::{Figures, Latencies, Measure, PERCENTILES, Row, Scaling};

/// What says that a file is one of these.
pub(super) const FORMAT: &str = "thalweg bench";
pub(super) const VERSION: u64 = 1;

pub(super) fn render(report: &Report) -> Value {
    json!({
        "format": FORMAT,
        "version": VERSION,
        "partial": report.partial,
        "begun_ms": report.begun_ms,
        "seconds": report.time.as_secs_f64(),
        "environment": report.environment.json(),
        "peak_anonymous_bytes": report.peak_anonymous_bytes,
        "workloads": report.rows.iter().map(row).collect::<Vec<_>>(),
        "scaling": report.scaling.iter().map(scaling).collect::<Map<_, _>>(),
    })
}

fn row(row: &Row) -> Value {
    let floors = row.floors.iter().map(|floor| {
        let mut object = figures(&floor.figures);
        object.insert("name".to_owned(), floor.name.into());
        Value::from(object)
    });
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("workload", row.workload.into());
    put("variant", row.variant.as_str().into());
    put("unit", row.unit.into());
    put("partial", row.partial.into());
    put("settings", row.settings.clone().into());
    figures(&row.figures).into_iter().for_each(|(name, value)| put(&name, value));
    put("floors", floors.collect());
    put("ratio", row.ratio().into());
    let of = match row.measure {
        Measure::Rate => "rate",
        Measure::Median => "p50",
    };
    put("ratio_of", of.into());
    put("peak_anonymous_bytes", row.peak_anonymous_bytes.into());
    put("notes", row.notes.clone().into());
    object.into()
}

fn figures(figures: &Figures) -> Map<String, Value> {
    let series = figures.series.as_ref().map(|series| {
        let interval = series.interval.as_secs_f64();
        let per_s = |of: fn(&(u64, u64)) -> u64| {
            series.points.iter().map(|point| of(point) as f64 / interval).collect::<Vec<f64>>()
        };
        json!({
            "interval_seconds": interval,
            "per_s": per_s(|point| point.0),
            "bytes_per_s": per_s(|point| point.1),
        })
    });
    let Value::Object(object) = json!({
        "count": figures.count,
        "bytes": figures.bytes,
        "seconds": figures.time.as_secs_f64(),
        "per_s": figures.per_s,
        "bytes_per_s": figures.bytes_per_s,
        "rounds_per_s": figures.rounds,
        "latency_ns": latencies(&figures.latencies),
        "time_series": series,
    }) else {
        return Map::new();
    };
    object
}

fn latencies(latencies: &Latencies) -> Value {
    if latencies.is_empty() {
        return Value::Null;
    }
    let ns = |time: std::time::Duration| Value::from(time.as_nanos() as u64);
    let mut object = Map::new();
    object.insert("count".to_owned(), latencies.count().into());
    object.insert("mean".to_owned(), ns(latencies.mean()));
    object.insert("min".to_owned(), ns(latencies.min()));
    for percent in PERCENTILES {
        object.insert(format!("p{percent}"), ns(latencies.at(percent)));
    }
    object.insert("max".to_owned(), ns(latencies.max()));
    object.into()
}

fn scaling(scaling: &Scaling) -> (String, Value) {
    let points = scaling
        .points
        .iter()
        .map(|(number, per_s, bytes_per_s)| json!({ "number": number, "per_s": per_s, "bytes_per_s": bytes_per_s }));
    (scaling.of.to_owned(), points.collect())
}
