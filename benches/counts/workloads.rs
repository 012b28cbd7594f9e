//! What is counted: each does what it takes before, and then an operation so many times.

use std::error::Error;
use std::time::Duration;

use thalweg::assignor::{Assignor, MemberSubscription, Sticky, Subscriptions, TopicPartitions};
use thalweg::{Acks, Engine, Record, TopicConfig, Writers};

type Done = Result<(), Box<dyn Error>>;

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Enough for rare work (a roll, a compaction) to have its share.
    pub(crate) count: u64,
    pub(crate) run: fn(u64) -> Done,
}

pub(crate) const WORKLOADS: [Workload; 10] = [
    Workload { name: "append 100 B", count: 200_000, run: |count| append(count, 100) },
    Workload { name: "append 1 KiB", count: 100_000, run: |count| append(count, 1 << 10) },
    Workload { name: "append 100 B and wait, written", count: 20_000, run: |count| wait(count, Acks::Written) },
    Workload { name: "append 100 B and wait, synced", count: 2_000, run: |count| wait(count, Acks::Synced) },
    Workload { name: "replay, a record of 100 B", count: 1_000_000, run: replay },
    Workload { name: "lookup by offset among 100,000", count: 20_000, run: lookup },
    Workload { name: "poll of 600 partitions, one ready", count: 1_000, run: poll },
    Workload { name: "append to 600 partitions and read them", count: 20, run: |count| round(count, false) },
    Workload { name: "the same, and commit", count: 20, run: |count| round(count, true) },
    Workload { name: "assign 600 partitions to 100, one more joins", count: 100, run: assign },
];

const PARTITIONS: u32 = 600;
const RECORDS: u64 = 100_000;

/// Each has little address space: valgrind gives all segments together less than 128 GiB.
fn many_partitions() -> TopicConfig {
    TopicConfig::default().partitions(PARTITIONS).acks(Acks::Written).segment_bytes(1 << 20)
}

/// An engine in a directory of its own, which goes when this is dropped, with a topic `t`.
struct Scratch {
    engine: Engine,
    _dir: tempfile::TempDir,
}

impl Scratch {
    fn open(config: TopicConfig) -> Result<Scratch, Box<dyn Error>> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let engine = Engine::builder(dir.path().join("data")).writers(Writers::Inline).open()?;
        engine.create_topic("t", config)?;
        Ok(Scratch { engine, _dir: dir })
    }
}

fn append(count: u64, bytes: usize) -> Done {
    let scratch = Scratch::open(TopicConfig::default().acks(Acks::Written))?;
    let producer = scratch.engine.producer_for("t")?;
    let value = vec![b'v'; bytes];
    for _ in 0..count {
        let _ = producer.send(Record::new(&value))?;
    }
    Ok(scratch.engine.flush()?)
}

fn wait(count: u64, acks: Acks) -> Done {
    let scratch = Scratch::open(TopicConfig::default().acks(acks))?;
    let producer = scratch.engine.producer_for("t")?;
    let value = [b'v'; 100];
    for _ in 0..count {
        producer.send(Record::new(&value))?.wait()?;
    }
    Ok(())
}

fn filled() -> Result<Scratch, Box<dyn Error>> {
    let scratch = Scratch::open(TopicConfig::default().acks(Acks::Written).segment_bytes(4 << 20))?;
    let producer = scratch.engine.producer_for("t")?;
    let value = [b'v'; 100];
    for _ in 0..RECORDS {
        let _ = producer.send(Record::new(&value))?;
    }
    scratch.engine.sync()?;
    Ok(scratch)
}

fn replay(count: u64) -> Done {
    let scratch = filled()?;
    let partition = scratch.engine.partition("t", 0)?;
    for _ in 0..count.div_ceil(RECORDS) {
        let mut bytes = 0;
        for batch in partition.read(..)? {
            for record in &batch? {
                bytes += record.value().unwrap_or_default().len() as u64;
            }
        }
        assert_eq!(bytes, RECORDS * 100);
    }
    Ok(())
}

fn lookup(count: u64) -> Done {
    let scratch = filled()?;
    let partition = scratch.engine.partition("t", 0)?;
    for number in 0..count {
        let offset = number * 7_919 % RECORDS;
        assert_eq!(partition.get(offset)?.view().offset(), offset);
    }
    Ok(())
}

fn poll(count: u64) -> Done {
    let scratch = Scratch::open(many_partitions())?;
    let mut consumer = scratch.engine.consumer("g").subscribe(["t"]).start()?;
    consumer.poll(Duration::ZERO)?;
    for number in 0..count {
        let partition = scratch.engine.partition("t", number as u32 * 251 % PARTITIONS)?;
        partition.append(&Record::new("value"))?.wait()?;
        assert_eq!(consumer.poll(Duration::from_secs(1))?.batches().len(), 1);
    }
    Ok(())
}

/// A record into each partition, which a consumer reads and perhaps commits.
fn round(count: u64, commits: bool) -> Done {
    let scratch = Scratch::open(many_partitions())?;
    let mut consumer = scratch.engine.consumer("g").subscribe(["t"]).commit_acks(Acks::Written).start()?;
    for _ in 0..count {
        for number in 0..PARTITIONS {
            scratch.engine.partition("t", number)?.append(&Record::new("value"))?.wait()?;
        }
        let mut read = 0;
        while read < PARTITIONS as usize {
            read += consumer.poll(Duration::from_secs(1))?.batches().len();
        }
        if commits {
            consumer.commit()?;
        }
    }
    Ok(())
}

fn assign(count: u64) -> Done {
    let members = |count: usize| {
        let member = |number| MemberSubscription {
            id: format!("member-{number:04}"),
            topics: vec![0],
            ..MemberSubscription::default()
        };
        (0..count).map(member).collect::<Vec<_>>()
    };
    let topics = vec![TopicPartitions { name: "t".into(), partitions: PARTITIONS }];
    let settled = Sticky.assign(&Subscriptions::new(topics.clone(), members(100)));
    let mut joined = members(101);
    for (member, owned) in joined.iter_mut().zip(settled) {
        (member.owned, member.generation) = (owned, Some(1));
    }
    let input = Subscriptions::new(topics, joined);
    for _ in 0..count {
        assert_eq!(Sticky.assign(&input).len(), 101);
    }
    Ok(())
}
