//! How the rate of `append` changes with the number of producers and of partitions.

use std::time::Duration;

use super::send;
use crate::bench::context::Bench;
use crate::bench::figures::Scaling;
use crate::bench::payload::Payloads;
use crate::bench::settings::Settings;
use crate::failure::Failure;

const PRODUCERS: [u32; 3] = [1, 2, 4];
const PARTITIONS: [u32; 4] = [1, 8, 64, 600];

/// One short round each; `settings.time` is for all of them.
pub(crate) fn run(bench: &Bench, settings: &Settings) -> Result<Vec<Scaling>, Failure> {
    let settings = short(settings);
    let payloads = Payloads::new(settings.record, settings.seed);
    let measure = |numbers: &[u32], set: &dyn Fn(u32) -> Settings| {
        let mut points = Vec::new();
        for &number in numbers {
            if bench.is_interrupted() {
                break;
            }
            let run = send::round(bench, &set(number), &payloads)?;
            let time = run.time.as_secs_f64().max(1e-9);
            points.push((number, run.count as f64 / time, run.bytes as f64 / time));
        }
        Ok::<_, Failure>(points)
    };
    let producers = |number: u32| Settings { producers: number as usize, ..settings.clone() };
    let partitions = |number: u32| Settings { producers: 2, ..settings.clone() }.partitioned(number);
    let series = vec![
        Scaling { of: "producers", points: measure(&PRODUCERS, &producers)? },
        Scaling { of: "partitions", points: measure(&PARTITIONS, &partitions)? },
    ];
    Ok(series.into_iter().filter(|scaling| !scaling.points.is_empty()).collect())
}

/// The largest is that of most partitions.
pub(crate) fn needs(settings: &Settings) -> u64 {
    short(settings).partitioned(600).round_disk_bytes()
}

fn short(settings: &Settings) -> Settings {
    let time = settings.time / (PRODUCERS.len() + PARTITIONS.len()) as u32;
    Settings { time, rounds: 1, warm_up: (time / 4).min(Duration::from_millis(200)), ..settings.clone() }
}
