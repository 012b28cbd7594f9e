//! What is measured: latencies, counts over time, and what one workload gave beside its floor.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value};

/// How long things took, in nanoseconds, to three digits. Its size doesn't grow.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(
    /// There is one: the bounds below are such as it takes.
    Option<Histogram<u64>>,
);

/// The longest that is told apart.
const LONGEST_NS: u64 = 3_600_000_000_000;

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(Histogram::new_with_bounds(1, LONGEST_NS, 3).ok())
    }
}

impl Latencies {
    #[inline]
    pub(crate) fn record(&mut self, time: Duration) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(LONGEST_NS));
        }
    }

    pub(crate) fn add(&mut self, other: &Latencies) {
        if let (Some(histogram), Some(other)) = (&mut self.0, &other.0) {
            // Both have the same bounds.
            let _ = histogram.add(other);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The time that `percent` of a hundred took at most.
    pub(crate) fn at(&self, percent: f64) -> Duration {
        // The histogram rounds up within a step of its scale.
        self.ask(|histogram| histogram.value_at_percentile(percent).min(histogram.max()))
    }

    pub(crate) fn max(&self) -> Duration {
        self.ask(Histogram::max)
    }

    pub(crate) fn min(&self) -> Duration {
        self.ask(Histogram::min)
    }

    pub(crate) fn mean(&self) -> Duration {
        self.ask(|histogram| histogram.mean() as u64)
    }

    fn ask(&self, what: impl FnOnce(&Histogram<u64>) -> u64) -> Duration {
        Duration::from_nanos(self.0.as_ref().map_or(0, what))
    }
}

/// How late records were seen: counted from when each was due, and from when it was sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lateness {
    pub(crate) from_due: Latencies,
    pub(crate) from_sent: Latencies,
}

impl Lateness {
    #[inline]
    pub(crate) fn record(&mut self, from_due: Duration, from_sent: Duration) {
        self.from_due.record(from_due);
        self.from_sent.record(from_sent);
    }

    pub(crate) fn add(&mut self, other: &Lateness) {
        self.from_due.add(&other.from_due);
        self.from_sent.add(&other.from_sent);
    }
}

/// The percentiles that are written down.
pub(crate) const PERCENTILES: [f64; 14] =
    [1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 99.95, 99.99];

/// Points of a series; when they are full, two become one.
const POINTS_MAX: usize = 600;

/// What was done in each interval, of a run of any length.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) interval: Duration,
    /// Counts and bytes of each interval.
    pub(crate) points: Vec<(u64, u64)>,
    /// Of the interval that isn't full yet: how many steps, counts, bytes.
    open: (u32, u64, u64),
    steps: u32,
}

impl Series {
    pub(crate) fn new(step: Duration) -> Series {
        Series { interval: step, points: Vec::new(), open: (0, 0, 0), steps: 1 }
    }

    /// What was done in one more step.
    pub(crate) fn push(&mut self, count: u64, bytes: u64) {
        self.open = (self.open.0 + 1, self.open.1 + count, self.open.2 + bytes);
        if self.open.0 < self.steps {
            return;
        }
        self.points.push((self.open.1, self.open.2));
        self.open = (0, 0, 0);
        if self.points.len() == POINTS_MAX {
            self.points =
                self.points.chunks(2).map(|two| two.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))).collect();
            self.steps *= 2;
            self.interval *= 2;
        }
    }

    /// Goes on with another of the same step.
    pub(crate) fn append(&mut self, other: &Series) {
        // A point of a coarser one counts as so many equal ones.
        let parts = u64::from(other.steps);
        for &(count, bytes) in &other.points {
            (0..parts).for_each(|_| self.push(count / parts, bytes / parts));
        }
    }
}

/// What was done in a stretch of time.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
    pub(crate) latencies: Latencies,
    pub(crate) series: Option<Series>,
}

impl Run {
    pub(crate) fn new(count: u64, bytes: u64, time: Duration) -> Run {
        Run { count, bytes, time, latencies: Latencies::default(), series: None }
    }

    pub(crate) fn per_s(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64().max(1e-9)
    }

    fn bytes_per_s(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

/// Several runs of the same: the middle rate, and all latencies together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
    pub(crate) per_s: f64,
    pub(crate) bytes_per_s: f64,
    /// Of each run, in order.
    pub(crate) rounds: Vec<f64>,
    bytes_rounds: Vec<f64>,
    pub(crate) latencies: Latencies,
    pub(crate) series: Option<Series>,
}

impl Figures {
    pub(crate) fn add(&mut self, run: &Run) {
        if run.count == 0 {
            return;
        }
        self.count += run.count;
        self.bytes += run.bytes;
        self.time += run.time;
        self.rounds.push(run.per_s());
        self.bytes_rounds.push(run.bytes_per_s());
        self.per_s = middle(&self.rounds);
        self.bytes_per_s = middle(&self.bytes_rounds);
        self.latencies.add(&run.latencies);
        match (&mut self.series, &run.series) {
            (Some(all), Some(series)) => all.append(series),
            (None, Some(series)) => self.series = Some(series.clone()),
            (_, None) => {}
        }
    }

    /// The same runs with times that were counted otherwise.
    pub(crate) fn with(&self, latencies: &Latencies) -> Figures {
        Figures { latencies: latencies.clone(), ..self.clone() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

fn middle(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (count, half) if count % 2 == 1 => sorted[half],
        (_, half) => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

/// What a workload is held against.
#[derive(Clone, Debug)]
pub(crate) struct Floor {
    pub(crate) name: &'static str,
    pub(crate) figures: Figures,
}

/// What is divided by the floor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// How many a second: more is better.
    Rate,
    /// The median time of one: less is better.
    Median,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The workload, as on the command line.
    pub(crate) workload: &'static str,
    /// Which of its lines.
    pub(crate) variant: String,
    /// What is counted, in the plural.
    pub(crate) unit: &'static str,
    pub(crate) settings: Map<String, Value>,
    pub(crate) figures: Figures,
    pub(crate) measure: Measure,
    /// The first is the one that counts.
    pub(crate) floors: Vec<Floor>,
    pub(crate) peak_anonymous_bytes: Option<u64>,
    /// It was cut short.
    pub(crate) partial: bool,
    pub(crate) notes: Vec<String>,
}

impl Row {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.workload, self.variant).trim_end().to_owned()
    }

    /// What it is of its floor: rates divided, or median times.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let floor = &self.floors.first()?.figures;
        let (ours, floors) = match self.measure {
            Measure::Rate => (self.figures.per_s, floor.per_s),
            Measure::Median => (self.figures.latencies.at(50.0).as_secs_f64(), floor.latencies.at(50.0).as_secs_f64()),
        };
        (ours > 0.0 && floors > 0.0).then(|| ours / floors)
    }
}

/// How a rate changes with the number of something.
#[derive(Clone, Debug)]
pub(crate) struct Scaling {
    /// In the plural.
    pub(crate) of: &'static str,
    /// How many, and records and bytes a second.
    pub(crate) points: Vec<(u32, f64, f64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_of_any_length_has_few_points_and_loses_nothing() {
        let mut series = Series::new(Duration::from_millis(100));
        for _ in 0..100_000 {
            series.push(3, 7);
        }
        let unfinished = series.open;
        assert!(series.points.len() < POINTS_MAX);
        assert_eq!(series.points.iter().map(|point| point.0).sum::<u64>() + unfinished.1, 300_000);
        assert_eq!(series.points[0].1, 7 * u64::from(series.steps));
        assert_eq!(series.interval, Duration::from_millis(100) * series.steps);
    }

    #[test]
    fn the_middle_of_several_runs_counts() {
        let mut figures = Figures::default();
        for count in [10, 1_000, 30, 0] {
            figures.add(&Run::new(count, count * 2, Duration::from_secs(1)));
        }
        assert_eq!((figures.per_s, figures.bytes_per_s, figures.count), (30.0, 60.0, 1_040));
        assert_eq!(middle(&[1.0, 3.0]), 2.0);
    }

    #[test]
    fn latencies_keep_three_digits() {
        let mut latencies = Latencies::default();
        for ns in 1..=100_000 {
            latencies.record(Duration::from_nanos(ns));
        }
        assert_eq!(latencies.max().as_nanos() / 100, 1_000);
        let middle = latencies.at(50.0).as_nanos();
        assert!((50_000..=50_100).contains(&middle), "{middle}");
        latencies.record(Duration::MAX);
        assert!(latencies.max() >= Duration::from_secs(3_599));
    }
}
