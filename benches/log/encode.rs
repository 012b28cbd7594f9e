//! What a producer's thread does for a record: encode it into the open group and give it an offset.
//!
//! With inline writers nobody writes while records are sent, and deleting the topic drops them: so
//! the disk has no part in it.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use thalweg::{Producer, Record, Writers};

use crate::{Scratch, VALUES};

/// Less than one partition may buffer.
const BYTES: usize = 4 << 20;

pub(crate) fn bench(criterion: &mut Criterion) {
    let scratch = Scratch::open(|builder| builder.writers(Writers::Inline)).unwrap();
    let mut group = criterion.benchmark_group("encode");
    group.sample_size(20);
    for (name, bytes) in VALUES {
        let count = BYTES / bytes;
        let value = vec![b'v'; bytes];
        let empty = || {
            scratch.fresh_topic("encode").unwrap();
            scratch.engine.producer_for("encode").unwrap()
        };
        let encode = |producer: Producer| {
            for _ in 0..count {
                let _ = producer.try_send(Record::new(&value)).unwrap();
            }
        };
        group.throughput(Throughput::ElementsAndBytes { elements: count as u64, bytes: (count * bytes) as u64 });
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_batched(empty, encode, BatchSize::PerIteration);
        });
    }
}
