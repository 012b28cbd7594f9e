//! One producer, one call a record, acknowledged when written: 64 MiB of values into an empty
//! topic, then a flush.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use thalweg::{Producer, Record};

use crate::{Scratch, VALUES};

const BYTES: usize = 64 << 20;

pub(crate) fn bench(criterion: &mut Criterion) {
    let scratch = Scratch::open(|builder| builder).unwrap();
    let mut group = criterion.benchmark_group("append");
    group.sample_size(10);
    for (name, bytes) in VALUES {
        let count = BYTES / bytes;
        let value = vec![b'v'; bytes];
        let empty = || {
            scratch.fresh_topic("append").unwrap();
            scratch.engine.producer_for("append").unwrap()
        };
        let append = |producer: Producer| {
            for _ in 0..count {
                let _ = producer.send(Record::new(&value)).unwrap();
            }
            scratch.engine.flush().unwrap();
        };
        group.throughput(Throughput::ElementsAndBytes { elements: count as u64, bytes: (count * bytes) as u64 });
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_batched(empty, append, BatchSize::PerIteration);
        });
    }
}
