//! One record by its offset: index, batch header, checksum of its batch, walk to the record. Offsets
//! at random in a million records, in several segments, in the page cache.

use criterion::{Criterion, Throughput};

use crate::Scratch;

const RECORDS: u64 = 1_000_000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let scratch = Scratch::open(|builder| builder).unwrap();
    let partition = scratch.filled("lookup", RECORDS, 100).unwrap();
    let mut group = criterion.benchmark_group("index_lookup");
    group.throughput(Throughput::Elements(1));
    let mut state = 1_u64;
    group.bench_function("100 B", |bencher| {
        bencher.iter(|| {
            // Knuth's linear congruential generator; its upper bits are good enough here.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let offset = (state >> 32) % RECORDS;
            let record = partition.get(offset).unwrap();
            assert_eq!(record.view().offset(), offset);
            record
        });
    });
}
