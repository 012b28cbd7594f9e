//! Replay from the page cache: a million records of 100 bytes, each batch checked and each value
//! looked at.

use criterion::{Criterion, Throughput};

use crate::Scratch;

const RECORDS: u64 = 1_000_000;
const BYTES: usize = 100;

pub(crate) fn bench(criterion: &mut Criterion) {
    let scratch = Scratch::open(|builder| builder).unwrap();
    let partition = scratch.filled("read", RECORDS, BYTES).unwrap();
    let mut group = criterion.benchmark_group("read");
    group.sample_size(20);
    group.throughput(Throughput::ElementsAndBytes { elements: RECORDS, bytes: RECORDS * BYTES as u64 });
    group.bench_function("100 B", |bencher| {
        bencher.iter(|| {
            let mut bytes = 0;
            for batch in partition.read(..).unwrap() {
                for record in &batch.unwrap() {
                    bytes += record.value().unwrap_or_default().len();
                }
            }
            assert_eq!(bytes, RECORDS as usize * BYTES);
        });
    });
}
