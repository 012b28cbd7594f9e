//! A run of everything: which parts, and how much of the time each gets.

use std::time::Duration;

use thalweg::Acks;

use super::args::AllArgs;
use super::context::Bench;
use super::figures::{Row, Scaling};
use super::settings::Settings;
use super::values::RecordSize;
use super::workloads;
use crate::failure::Failure;

/// How long it takes, about, unless told otherwise.
const TIME: Duration = Duration::from_secs(60);
/// Bytes of values in a workload at most, unless told otherwise.
const TOTAL_BYTES: u64 = 6 << 30;

/// How much of a minute each kind of append is measured.
const APPEND_SECONDS: f64 = 2.0;

/// Something to be measured.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) settings: Settings,
    /// About how long it takes.
    pub(super) time: Duration,
    pub(super) kind: Kind,
}

/// What a part gave.
pub(super) enum Outcome {
    Rows(Vec<Row>),
    Scaling(Vec<Scaling>),
}

/// A workload: what it does, and how much of the disk it takes at most.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// How many take turns, the engine and its floors: each is measured for as long.
    pub(super) contestants: u32,
    pub(super) run: fn(&Bench, &Settings) -> Result<Outcome, Failure>,
    pub(super) needs: fn(&Settings) -> u64,
}

pub(super) const APPEND: Kind = Kind {
    name: "append",
    contestants: 4,
    run: |bench, settings| workloads::append::run(bench, settings).map(Outcome::Rows),
    needs: Settings::round_disk_bytes,
};
pub(super) const DURABLE: Kind = Kind {
    name: "durable",
    contestants: 3,
    run: |bench, settings| workloads::durable::one_by_one(bench, settings).map(Outcome::Rows),
    needs: workloads::durable::needs,
};
pub(super) const GROUP_COMMIT: Kind = Kind {
    name: "group-commit",
    contestants: 3,
    run: |bench, settings| workloads::durable::group_commit(bench, settings).map(Outcome::Rows),
    needs: workloads::durable::needs,
};
pub(super) const REPLAY: Kind = Kind {
    name: "replay",
    contestants: 2,
    run: |bench, settings| workloads::replay::run(bench, settings).map(Outcome::Rows),
    needs: workloads::replay::needs,
};
pub(super) const TAIL: Kind = Kind {
    name: "tail",
    contestants: 4,
    run: |bench, settings| workloads::tail::run(bench, settings).map(Outcome::Rows),
    needs: workloads::tail::needs,
};
pub(super) const PARTITIONS: Kind = Kind {
    name: "partitions",
    contestants: 2,
    run: |bench, settings| workloads::partitions::run(bench, settings).map(Outcome::Rows),
    needs: workloads::partitions::needs,
};
pub(super) const RECOVER: Kind = Kind {
    name: "recover",
    contestants: 2,
    run: |bench, settings| workloads::recover::run(bench, settings).map(Outcome::Rows),
    needs: workloads::recover::needs,
};
pub(super) const GROUPS: Kind = Kind {
    name: "groups",
    contestants: 2,
    run: |bench, settings| workloads::groups::run(bench, settings).map(Outcome::Rows),
    needs: workloads::groups::needs,
};
pub(super) const DEVICE: Kind = Kind {
    name: "device",
    contestants: 2,
    run: |bench, settings| workloads::device::run(bench, settings).map(Outcome::Rows),
    needs: workloads::device::needs,
};
const SCALING: Kind = Kind {
    name: "scaling",
    contestants: 2,
    run: |bench, settings| workloads::scaling::run(bench, settings).map(Outcome::Scaling),
    needs: workloads::scaling::needs,
};

/// Every workload, with shares of the time as of a minute.
pub(super) fn parts(args: &AllArgs) -> Vec<Part> {
    let scale = args.seconds.unwrap_or(TIME).as_secs_f64() / TIME.as_secs_f64();
    let total = args.total.unwrap_or(TOTAL_BYTES);
    let sizes = args.record_size.map_or_else(|| vec![RecordSize::of(100), RecordSize::of(1024)], |size| vec![size]);
    let part = |name: String, seconds: f64, settings: Settings, kind: Kind| {
        let wanted = Settings {
            time: Duration::from_secs_f64(seconds * scale),
            total_bytes: settings.total_bytes.or(Some(total)),
            record: settings.record,
            seed: args.seed,
            ..settings
        };
        let time = Duration::from_secs_f64(seconds * scale) * kind.contestants;
        Part { name, settings: args.engine.apply(wanted), time, kind }
    };
    let first = Settings { record: sizes[0], ..Settings::default() };
    let file = Settings { total_bytes: Some((256 << 20).min(total)), ..first.clone() };
    let synced = Settings { acks: Acks::Synced, ..first.clone() };
    // What counts microseconds comes first: a drive is slow while it is told of the blocks that were freed.
    let mut parts = Vec::new();
    parts.push(part("durable".to_owned(), 1.2, synced.clone(), DURABLE));
    let threads = Settings { producers: 32, ..synced };
    parts.push(part("group-commit, 32 threads".to_owned(), 1.5, threads, GROUP_COMMIT));
    let steady = Settings { rate: Some(100_000), ..first.clone() };
    parts.push(part("tail, 100 k/s".to_owned(), 1.5, steady, TAIL));
    parts.push(part("device".to_owned(), 3.0, file, DEVICE));
    // A round takes a second if there are several.
    let rounds = (APPEND_SECONDS * scale).clamp(1.0, 8.0) as u32;
    let mut appends: Vec<_> = sizes.iter().map(|&record| Settings { record, ..first.clone() }).collect();
    appends.extend(sizes.last().map(|&record| Settings { record, ready_bytes: Some(256 << 10), ..first.clone() }));
    for settings in appends {
        let name = format!("append {}", settings.record_name());
        let settings = Settings { rounds, total_bytes: Some((u64::from(rounds) << 30).min(total)), ..settings };
        parts.push(part(name, APPEND_SECONDS, settings, APPEND));
    }
    let log = Settings { total_bytes: Some((256 << 20).min(total)), ..first.clone() };
    parts.push(part("replay".to_owned(), 1.5, log, REPLAY));
    let warm_up = Duration::from_secs_f64((0.3 * scale).min(1.0));
    let many = Settings { producers: 2, warm_up, total_bytes: Some((1 << 30).min(total)), ..first.clone() };
    let mut many = part("partitions, 600".to_owned(), 2.4, many, PARTITIONS);
    many.settings = many.settings.partitioned(600);
    parts.push(many);
    let log_bytes = (scale.min(1.0) * (512u64 << 20) as f64) as u64;
    let log = Settings { total_bytes: Some(log_bytes.clamp(1 << 20, total.max(1 << 20))), ..first.clone() };
    parts.push(part("recover".to_owned(), 2.0, log, RECOVER));
    let group = Settings { partitions: 600, members: 100, ..first.clone() };
    parts.push(part("groups, 100 members".to_owned(), 3.0, group, GROUPS));
    parts.push(part("scaling".to_owned(), 4.0, first, SCALING));
    parts
}
