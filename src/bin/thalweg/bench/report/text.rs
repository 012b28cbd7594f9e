//! Figures as people read them: three digits and a unit.

use std::time::Duration;

use crate::bench::figures::{Floor, Measure, Row};

/// `850 ns`, `5.21 µs`, `12.3 ms`, `4.56 s`.
pub(super) fn time(time: Duration) -> String {
    let ns = time.as_nanos() as f64;
    let (number, unit) = match ns {
        _ if ns < 1e3 => return format!("{ns:.0} ns"),
        _ if ns < 1e6 => (ns / 1e3, "µs"),
        _ if ns < 1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{} {unit}", digits(number))
}

/// `10.4 M/s`, `912 k/s`, `35.1 /s`.
pub(super) fn rate(per_s: f64) -> String {
    let (number, unit) = scaled(per_s, &[" ", " k", " M", " G"]);
    format!("{}{unit}/s", digits(number))
}

/// `1.04 GB/s`, `88.0 MB/s`.
pub(super) fn bytes_rate(per_s: f64) -> String {
    let (number, unit) = scaled(per_s, &["B/s", "kB/s", "MB/s", "GB/s", "TB/s"]);
    format!("{} {unit}", digits(number))
}

fn scaled<'a>(mut number: f64, units: &[&'a str]) -> (f64, &'a str) {
    let mut at = 0;
    while number >= 999.5 && at + 1 < units.len() {
        number /= 1e3;
        at += 1;
    }
    (number, units.get(at).copied().unwrap_or_default())
}

/// Three of them.
pub(super) fn digits(number: f64) -> String {
    match number {
        _ if number < 9.995 => format!("{number:.2}"),
        _ if number < 99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// What of the floor is compared.
pub(super) fn floor(measure: Measure, floor: &Floor) -> String {
    match measure {
        Measure::Rate => rate(floor.figures.per_s),
        Measure::Median => format!("p50 {}", time(floor.figures.latencies.at(50.0))),
    }
}

/// The rate, or why there is none.
pub(super) fn row_rate(row: &Row) -> String {
    if row.figures.is_empty() { "refused".to_owned() } else { rate(row.figures.per_s) }
}

/// `-` if it isn't about bytes.
pub(super) fn row_bytes(row: &Row) -> String {
    if row.figures.bytes == 0 { "-".to_owned() } else { bytes_rate(row.figures.bytes_per_s) }
}

/// p50, p99, p99.9 and the largest; `-` if none was measured.
pub(super) fn row_latencies(row: &Row) -> [String; 4] {
    let latencies = &row.figures.latencies;
    if latencies.is_empty() {
        return ["-"; 4].map(str::to_owned);
    }
    [latencies.at(50.0), latencies.at(99.0), latencies.at(99.9), latencies.max()].map(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        let ns = Duration::from_nanos;
        assert_eq!(
            [850, 5_214, 83_000, 999_999, 12_340_000].map(|count| time(ns(count))),
            ["850 ns", "5.21 µs", "83.0 µs", "1000 µs", "12.3 ms"]
        );
        assert_eq!([35.06, 912_400.0, 10_400_000.0].map(rate), ["35.1 /s", "912 k/s", "10.4 M/s"]);
        assert_eq!(bytes_rate(1_041_000_000.0), "1.04 GB/s");
    }
}
