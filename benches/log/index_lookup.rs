//! One record by its offset: index, batch header, walk to the record; of its batch the checksum, if no lookup took that
//! within the last two seconds. A million records in several segments, in the page cache. *In order*: one offset after
//! the other; else at random. Its floor is `floor/index_lookup`.

use criterion::{Criterion, Throughput};

use crate::{Chance, Scratch};

const RECORDS: u64 = 1_000_000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let scratch = Scratch::open(|builder| builder).unwrap();
    let partition = scratch.filled("lookup", RECORDS, 100).unwrap();
    let mut group = criterion.benchmark_group("index_lookup");
    group.throughput(Throughput::Elements(1));
    let get = |offset| {
        let record = partition.get(offset).unwrap();
        assert_eq!(record.view().offset(), offset);
        record
    };
    let mut chance = Chance::default();
    group.bench_function("100 B", |bencher| bencher.iter(|| get(chance.below(RECORDS))));
    let mut offset = 0;
    group.bench_function("100 B, in order", |bencher| {
        bencher.iter(|| {
            offset = (offset + 1) % RECORDS;
            get(offset)
        });
    });
}
