//! The charts of the page: what stands on which axis.

use super::svg::{self, Axis, Bar, Line};
use super::text;
use crate::bench::figures::{Latencies, Measure, PERCENTILES, Row, Scaling};

/// Longer bars are cut.
const RATIO_LIMIT: f64 = 1.5;

/// Of fewer times there is no curve.
const CURVE_COUNT: u64 = 50;

/// A chart and its words.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) below: String,
    pub(super) svg: String,
}

/// How each workload stands to its floor: 1 is as fast as it.
pub(super) fn ratios(rows: &[Row]) -> Option<String> {
    let bars: Vec<Bar> = rows
        .iter()
        .filter_map(|row| {
            let ratio = row.ratio()?;
            let (value, text) = match row.measure {
                Measure::Rate => (ratio, format!("its rate {} ×", text::digits(ratio))),
                Measure::Median => (1.0 / ratio, format!("its time {} ×", text::digits(ratio))),
            };
            Some(Bar { name: row.name(), value, text })
        })
        .collect();
    (!bars.is_empty()).then(|| svg::bars("speed of each workload relative to its floor", &bars, RATIO_LIMIT))
}

/// What was done in each interval.
pub(super) fn over_time(row: &Row) -> Option<Chart> {
    let series = row.figures.series.as_ref()?;
    let interval = series.interval.as_secs_f64();
    let per_s: Vec<f64> = series.points.iter().map(|point| point.0 as f64 / interval).collect();
    let most = per_s.iter().copied().fold(0.0, f64::max);
    let points = per_s.iter().enumerate().map(|(at, per_s)| {
        let seconds = (at + 1) as f64 * interval;
        (seconds, *per_s, format!("{} at {seconds:.1} s", text::rate(*per_s)))
    });
    let line = Line { class: "ours", points: points.collect(), marked: false };
    let x = Axis::to_end(per_s.len() as f64 * interval, "seconds measured", short);
    let y = Axis::from_zero(most, "", |value| tick(&text::rate(value)));
    Some(Chart {
        title: row.name(),
        below: text::rate(row.figures.per_s).replace(" /s", "/s").replace("/s", &format!(" {}/s", row.unit)),
        svg: svg::lines(&format!("{}: rate over time", row.name()), &x, &y, &[line]),
    })
}

/// How long which share took at most; its floor beside it, if its ratio is of times.
pub(super) fn latencies(row: &Row) -> Option<Chart> {
    let ours = &row.figures.latencies;
    if ours.count() < CURVE_COUNT {
        return None;
    }
    let floor = row.floors.first().map(|floor| &floor.figures.latencies).filter(|latencies| !latencies.is_empty());
    let mut lines = Vec::new();
    lines.extend(floor.map(|floor| curve("floor", floor)));
    lines.push(curve("ours", ours));
    let all = || lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    let (min, max) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
    let nines = [(0.0, "0"), (50.0, "50"), (90.0, "90"), (99.0, "99"), (99.9, "99.9"), (99.99, "99.99")];
    let ticks = nines.map(|(percent, text)| (place(percent), text.to_owned())).to_vec();
    let x = Axis { from: 0.0, to: place(99.99), ticks, label: "percentile" };
    let y = Axis::powers(10f64.powf(min), 10f64.powf(max), "", |ns| {
        tick(&text::time(std::time::Duration::from_nanos(ns as u64)))
    });
    let [p50, p99, p999, _] = text::row_latencies(row);
    Some(Chart {
        title: row.name(),
        below: format!("p50 {p50}, p99 {p99}, p99.9 {p999}"),
        svg: svg::lines(&format!("{}: time by percentile", row.name()), &x, &y, &lines),
    })
}

fn curve(class: &'static str, latencies: &Latencies) -> Line {
    // Beyond what so many can tell, a percentile is the largest of them.
    let known = latencies.count() as f64;
    let percents = PERCENTILES.iter().filter(|&&percent| known * (1.0 - percent / 100.0) >= 0.5);
    let points = percents.map(|&percent| {
        let time = latencies.at(percent);
        let ns = (time.as_nanos() as f64).max(1.0);
        (place(percent), ns.log10(), format!("p{percent}: {}", text::time(time)))
    });
    Line { class, points: points.collect(), marked: false }
}

/// Each further nine is a step.
fn place(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).log10()
}

/// How a rate changes with a number.
pub(super) fn scaling(scaling: &Scaling) -> Chart {
    let most = scaling.points.iter().map(|point| point.1).fold(0.0, f64::max);
    let points = scaling.points.iter().enumerate().map(|(at, (number, per_s, bytes_per_s))| {
        let text = format!("{number} {}: {}, {}", scaling.of, text::rate(*per_s), text::bytes_rate(*bytes_per_s));
        (at as f64, *per_s, text)
    });
    let ticks = scaling.points.iter().enumerate().map(|(at, (number, ..))| (at as f64, number.to_string()));
    let last = (scaling.points.len() as f64 - 1.0).max(1.0);
    let x = Axis { from: -0.2, to: last + 0.2, ticks: ticks.collect(), label: scaling.of };
    let y = Axis::from_zero(most, "", |value| tick(&text::rate(value)));
    let line = Line { class: "ours", points: points.collect(), marked: true };
    let said = scaling.points.iter().map(|(number, per_s, _)| format!("{number}: {}", text::rate(*per_s)));
    Chart {
        title: format!("append by number of {}", scaling.of),
        below: said.collect::<Vec<_>>().join(", "),
        svg: svg::lines(&format!("rate by number of {}", scaling.of), &x, &y, &[line]),
    }
}

/// A number and its unit, without digits that say nothing.
fn tick(text: &str) -> String {
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text.to_owned(),
    }
}

/// Without digits that say nothing.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
