//! How fast a log is, one thing at a time: `cargo bench`, or `cargo bench -- append` for one.
//!
//! The data lies in a temporary directory within the target directory, so on the same drive.
//! `cargo bench -- --test` runs each once, to see that it works.

mod append;
mod assign;
mod encode;
mod floor;
mod groups;
mod index_lookup;
mod read;

use std::error::Error;

use criterion::{criterion_group, criterion_main};
use thalweg::{Acks, Builder, Engine, Partition, Record, TopicConfig};

/// The sizes of values that are measured, with their names.
const VALUES: [(&str, usize); 2] = [("100 B", 100), ("1 KiB", 1024)];

/// Knuth's linear congruential generator; its upper bits are good enough here.
#[derive(Default)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) % end
    }
}

/// An engine in a directory of its own, which goes when this is dropped.
struct Scratch {
    engine: Engine,
    _dir: tempfile::TempDir,
}

impl Scratch {
    fn open(settings: impl FnOnce(Builder) -> Builder) -> Result<Scratch, Box<dyn Error>> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let engine = settings(Engine::builder(dir.path().join("data"))).open()?;
        Ok(Scratch { engine, _dir: dir })
    }

    /// The topic `name`, empty, with one partition, acknowledged when written.
    fn fresh_topic(&self, name: &str) -> thalweg::Result<()> {
        if self.engine.topics()?.iter().any(|topic| topic == name) {
            self.engine.delete_topic(name)?;
        }
        self.engine.create_topic(name, TopicConfig::default().acks(Acks::Written))
    }

    /// A topic with `count` values of `bytes` bytes, in segments of 32 MiB, written and synced.
    fn filled(&self, name: &str, count: u64, bytes: usize) -> thalweg::Result<Partition> {
        self.engine.create_topic(name, TopicConfig::default().acks(Acks::Written).segment_bytes(32 << 20))?;
        let producer = self.engine.producer_for(name)?;
        let value = vec![b'v'; bytes];
        for _ in 0..count {
            let _ = producer.send(Record::new(&value))?;
        }
        self.engine.sync()?;
        self.engine.partition(name, 0)
    }
}

criterion_group!(
    benches,
    floor::bench,
    append::bench,
    encode::bench,
    read::bench,
    index_lookup::bench,
    assign::bench,
    groups::bench
);
criterion_main!(benches);
