//! Goal: the engine behaves the same over every driver: io_uring, sync threads, and the simulated
//! disk with inline writers.
//!
//! Method: one suite of scenarios, run over each. Where the system refuses io_uring, that is printed.

mod describing;
mod futures;
mod scenarios;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;

use thalweg::sim::{SimClock, SimDisk};
use thalweg::{Builder, Engine, SyncMode, Writers};

/// All scenarios.
mod all {
    pub(crate) use super::describing::*;
    pub(crate) use super::futures::*;
    pub(crate) use super::scenarios::*;
    pub(crate) use super::waiting::*;
}

/// A place to open engines in, again and again.
pub(crate) enum Backend {
    Real { dir: tempfile::TempDir, mode: SyncMode, writers: Writers },
    Sim { disk: SimDisk, clock: SimClock },
}

impl Backend {
    pub(crate) fn builder(&self) -> Builder {
        match self {
            Backend::Real { dir, mode, writers } => {
                Engine::builder(dir.path().join("data")).sync_mode(*mode).writers(*writers).pin_writers(false)
            }
            Backend::Sim { disk, clock } => {
                Engine::builder("data").sim(disk).clock(Arc::new(clock.clone())).writers(Writers::Inline)
            }
        }
    }

    pub(crate) fn open(&self) -> Engine {
        self.builder().open().unwrap()
    }

    /// The segment files of a partition, sorted.
    pub(crate) fn segment_files(&self, topic: &str, partition: u32) -> Vec<PathBuf> {
        let inner = format!("topics/{topic}/{partition}");
        let mut files: Vec<PathBuf> = match self {
            Backend::Real { dir, .. } => std::fs::read_dir(dir.path().join("data").join(inner))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect(),
            Backend::Sim { disk, .. } => {
                let all = disk.list_files();
                all.into_iter().filter(|path| path.to_string_lossy().contains(&inner)).collect()
            }
        };
        files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        files.sort();
        files
    }
}

fn real(mode: SyncMode, writers: Writers) -> Option<Backend> {
    let backend = Backend::Real { dir: tempfile::tempdir().unwrap(), mode, writers };
    match backend.builder().open() {
        Ok(engine) => {
            engine.close().unwrap();
            Some(backend)
        }
        Err(error) => {
            println!("SKIPPED {mode:?}: {error}");
            None
        }
    }
}

macro_rules! suite {
    ($($scenario:ident),* $(,)?) => {
        mod io_uring {
            $(#[test] fn $scenario() {
                if let Some(backend) = super::real(super::SyncMode::IoUring, super::Writers::Threads(2)) {
                    super::all::$scenario(&backend);
                }
            })*
        }
        mod threads {
            $(#[test] fn $scenario() {
                let backend = super::real(super::SyncMode::Threads, super::Writers::Auto).unwrap();
                super::all::$scenario(&backend);
            })*
        }
        mod real_inline {
            $(#[test] fn $scenario() {
                let backend = super::real(super::SyncMode::Auto, super::Writers::Inline).unwrap();
                super::all::$scenario(&backend);
            })*
        }
        mod threads_inline {
            $(#[test] fn $scenario() {
                let backend = super::real(super::SyncMode::Threads, super::Writers::Inline).unwrap();
                super::all::$scenario(&backend);
            })*
        }
        mod sim_inline {
            $(#[test] fn $scenario() {
                let backend = super::Backend::Sim { disk: super::SimDisk::new(), clock: super::SimClock::new() };
                super::all::$scenario(&backend);
            })*
        }
    };
}

suite![
    everything_sent_comes_back_in_order,
    c1_records_of_one_key_stay_in_order_in_one_partition,
    d1_synced_means_durable,
    a_batch_is_all_or_nothing,
    append_if_compares_the_end,
    segments_roll_and_reading_crosses_them,
    lookups_by_offset_and_timestamp,
    views_outlive_rolling_retention_and_deletion,
    reading_out_of_range,
    records_of_every_shape,
    size_limits,
    try_send_says_full,
    a_consumer_sees_what_comes,
    several_who_wait_at_once_all_go_on,
    who_waits_alone_and_who_comes_meanwhile_lose_nothing,
    who_waits_alone_is_told_of_the_end,
    every_future_ends,
    a_task_that_waits_sees_what_nobody_waits_for,
    a_task_that_reads_what_is_durable_is_not_forgotten,
    nobody_waits_for_a_future_that_is_not_polled,
    what_was_never_sent_is_not_waited_for,
    topics_come_and_go,
    reopening_goes_on,
    d7_a_second_writer_is_refused,
    read_only_beside_the_writer,
    closed_handles_say_so,
    typed_values_lie_aligned,
    retention_drops_the_oldest,
    a_clock_that_went_ahead_keeps_nothing_for_ever,
    a_segment_rolls_by_age,
    log_start_survives_reopening,
    a_batch_tells_where_when_and_in_which_epoch_it_was_written,
    a_description_counts_segments_and_bytes,
];

/// Two hand-overs between threads are spared where one thread alone waits for what it sends.
#[cfg(target_os = "linux")]
#[test]
fn who_waits_alone_writes_himself() {
    let writes = || {
        let io = std::fs::read_to_string("/proc/thread-self/io").ok()?;
        io.lines().find_map(|line| line.strip_prefix("syscw: "))?.parse::<u64>().ok()
    };
    let Some(before) = writes() else {
        println!("SKIPPED: /proc/thread-self/io can't be read");
        return;
    };
    let backend = real(SyncMode::Auto, Writers::Threads(1)).unwrap();
    let engine = backend.open();
    engine.create_topic("t", thalweg::TopicConfig::default().partitions(1)).unwrap();
    let producer = engine.producer_for("t").unwrap();
    let opened = writes().unwrap();
    assert!(opened >= before);
    for _ in 0..200 {
        producer.send(thalweg::Record::new("value")).unwrap().wait().unwrap();
    }
    let written = writes().unwrap() - opened;
    assert!(written > 10, "{written} of 200");
    engine.close().unwrap();
}
