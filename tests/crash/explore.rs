//! The seeded script: lives, each ended by a crash.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thalweg::inspect::verify_sim;
use thalweg::sim::{CrashPolicy, Operation, Repeat, SimClock, SimDisk};
use thalweg::{Acks, Engine, ErrorKind, Record, TopicConfig, Writers};

use crate::model::{Model, Payloads};

/// A small generator of its own, so that a seed means the same for ever.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

type Models = BTreeMap<(String, u32), Model>;

struct Script {
    random: Random,
    payloads: Payloads,
    models: Models,
    clock: SimClock,
    faults: bool,
}

const TOPIC: &str = "t";

fn open(disk: &SimDisk, clock: &SimClock) -> thalweg::Result<Engine> {
    let noisy = std::env::var("THALWEG_SEED").is_ok();
    Engine::builder("data")
        .writers(Writers::Inline)
        .sim(disk)
        .clock(Arc::new(clock.clone()))
        .seed(1)
        .on_event(move |event| {
            if noisy {
                eprintln!("{event:?}");
            }
        })
        .open()
}

/// What may fail once the power is gone; anything else is a bug.
fn is_power(error: &thalweg::Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Failed | ErrorKind::Closed)
}

/// D4's first class: what was tried may be tried again.
fn is_no_room(error: &thalweg::Error) -> bool {
    matches!(error.kind(), ErrorKind::NoRoom)
}

impl Script {
    /// Appends a few records; notes what was acknowledged. `false` once the power is gone.
    fn append(&mut self, engine: &Engine, number: u32) -> bool {
        let partition = match engine.partition(TOPIC, number) {
            Ok(partition) => partition,
            Err(error) => panic!("{error}"),
        };
        let count = 1 + self.random.below(4) as usize;
        let size = match self.random.below(8) {
            0 => 30_000,
            1 => 9_000,
            2..4 => 600,
            _ => 8 + self.random.below(90) as usize,
        };
        let acks = [Acks::None, Acks::Written, Acks::Synced][self.random.below(3) as usize];
        let payloads: Vec<_> = (0..count).map(|_| self.payloads.make(size)).collect();
        let records: Vec<_> = payloads.iter().map(|payload| Record::new(payload).acks(acks)).collect();
        let model = self.models.entry((TOPIC.into(), number)).or_default();
        model.fail_from(partition.next_offset() as usize);
        let receipt = match partition.append_batch(&records) {
            Ok(receipt) => receipt,
            Err(error) if is_power(&error) => return self.faults,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(receipt.offset() as usize, model.sent.len(), "I3: the next append gets exactly the end");
        model.sent.extend(payloads);
        if self.random.below(3) == 0 {
            return true; // nobody waits
        }
        match receipt.wait() {
            Ok(_) => {
                let end = receipt.offsets().end as usize;
                if acks >= Acks::Written {
                    model.acknowledged(end);
                }
                if acks == Acks::Synced {
                    model.durable = model.durable.max(end);
                }
                true
            }
            Err(error) if is_no_room(&error) || (self.faults && is_power(&error)) => {
                model.fail_from(partition.next_offset() as usize);
                true
            }
            Err(error) if is_power(&error) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn sync(&mut self, engine: &Engine) -> bool {
        match engine.sync() {
            Ok(()) => {
                for ((topic, number), model) in &mut self.models {
                    let end = engine.partition(topic, *number).unwrap().next_offset() as usize;
                    model.fail_from(end);
                    if end > model.written {
                        model.acknowledged(end);
                    }
                    model.durable = end;
                }
                true
            }
            Err(error) if is_no_room(&error) || (self.faults && is_power(&error)) => true,
            Err(error) if is_power(&error) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn delete_records(&mut self, engine: &Engine, number: u32) -> bool {
        let partition = engine.partition(TOPIC, number).unwrap();
        let model = self.models.entry((TOPIC.into(), number)).or_default();
        let (start, end) = (partition.log_start_offset(), partition.end_offset());
        let to = start + self.random.below(end - start + 1);
        model.start_asked = model.start_asked.max(to as usize);
        match partition.delete_records(to) {
            Ok(()) => {
                model.start = model.start.max(to as usize);
                true
            }
            Err(error) if is_no_room(&error) || (self.faults && is_power(&error)) => true,
            Err(error) if is_power(&error) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Orders an error, a full disk, or takes the last one back.
    fn disorder(&mut self, disk: &SimDisk) {
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        const EMFILE: i32 = 24;
        let operations = [
            Operation::Write,
            Operation::ShortWrite,
            Operation::Sync,
            Operation::SyncDirectory,
            Operation::Allocate,
            Operation::Create,
            Operation::Rename,
            Operation::Open,
        ];
        let operation = operations[self.random.below(operations.len() as u64) as usize];
        let errno = [EIO, ENOSPC, ENOSPC, ENOSPC, EMFILE][self.random.below(5) as usize];
        let repeat = if self.random.below(4) == 0 { Repeat::Forever } else { Repeat::Once };
        match self.random.below(4) {
            0 => {
                disk.clear_faults();
                disk.set_capacity(None);
            }
            1 => disk.set_capacity(disk.used_bytes() + self.random.below(100_000)),
            _ => disk.fail_after(self.random.below(6), operation, errno, repeat),
        }
    }

    /// One life on a disk: until the power goes, or as long as the script is.
    fn live(&mut self, disk: &SimDisk, steps: u64) {
        let engine = match open(disk, &self.clock) {
            Ok(engine) => engine,
            Err(error) if is_power(&error) || is_no_room(&error) => return,
            Err(error) => panic!("{error}"),
        };
        let made = match engine.create_topic(TOPIC, TopicConfig::default().partitions(2).segment_bytes(64 << 10)) {
            Ok(()) => true,
            Err(error) => match error.kind() {
                ErrorKind::TopicExists { .. } => true,
                _ if is_power(&error) || is_no_room(&error) => false,
                _ => panic!("{error}"),
            },
        };
        for _ in 0..steps {
            if !made {
                return;
            }
            let number = self.random.below(2) as u32;
            let goes_on = match self.random.below(16) {
                0 => self.sync(&engine),
                1 => self.delete_records(&engine, number),
                2 if self.faults => {
                    self.disorder(disk);
                    true
                }
                3 => {
                    self.clock.advance(Duration::from_millis(self.random.below(1_500)));
                    let mut consumer = engine.assign([(TOPIC, number)]).unwrap();
                    consumer.poll(Duration::ZERO).is_ok() || self.faults
                }
                _ => self.append(&engine, number),
            };
            if !goes_on {
                return;
            }
        }
        if self.random.below(3) == 0 {
            // So that what close acknowledges is known: nothing may fail for want of room any more.
            if self.faults {
                disk.clear_faults();
                disk.set_capacity(None);
            }
            let _ = engine.flush();
            let ends = [0, 1].map(|number| engine.partition(TOPIC, number).unwrap().end_offset() as usize);
            match engine.close() {
                Ok(()) => {
                    // What failed for want of room is known by now; the rest is durable.
                    for ((_, number), model) in &mut self.models {
                        let end = ends[*number as usize].min(model.sent.len());
                        model.fail_from(end);
                        (model.written, model.durable) = (end, end);
                    }
                }
                Err(error) => assert!(is_power(&error) || is_no_room(&error), "{error}"),
            }
        }
        // Not closing is dying: what the engine does when it is dropped must not be seen.
        disk.cut_power_after(0);
    }

    /// Opens what a crash left, compares, and closes without a trace.
    fn check(&mut self, disk: &SimDisk, killed: bool) {
        match verify_sim(disk, "data", &mut |_| {}) {
            Ok(found) => assert!(found.is_sound(), "I10: a crash alone is never damage: {:#?}", found.damage),
            // Before the catalogue was durable there was nothing.
            Err(error) => assert!(matches!(error.kind(), ErrorKind::NotThalweg { .. }), "{error}"),
        }
        let looked_at = disk.crash(CrashPolicy::Kill);
        let engine = open(&looked_at, &self.clock).unwrap_or_else(|error| panic!("after a crash: {error}"));
        for found in &engine.recovery().partitions {
            assert!(found.damage.is_none(), "I10: a crash alone is never damage: {found:?}");
        }
        let topics = engine.topics().unwrap();
        for ((topic, number), model) in &mut self.models {
            if !topics.contains(topic) {
                assert!(
                    model.durable == 0 && model.written == 0,
                    "the topic is gone: {topics:?}, files {:?}",
                    looked_at.list_files()
                );
                *model = Model::default();
                continue;
            }
            model.check_after_crash(&engine, topic, *number, killed);
        }
        looked_at.cut_power_after(0);
        drop(engine);
        assert_eq!(looked_at.violations(), Vec::<String>::new());
    }
}

fn run(seed: u64, faults: bool) {
    let mut script = Script {
        random: Random::new(seed),
        payloads: Payloads::new(),
        models: Models::new(),
        clock: SimClock::new(),
        faults,
    };
    let mut disk = SimDisk::new();
    let lives = 2 + script.random.below(4);
    for _ in 0..lives {
        let steps = 1 + script.random.below(25);
        if script.random.below(4) > 0 {
            disk.cut_power_after(1 + script.random.below(40 * steps));
        }
        script.live(&disk, steps);
        assert_eq!(disk.violations(), Vec::<String>::new(), "bytes under a guard never change");
        let killed = script.random.below(3) == 0;
        let policy = match script.random.below(6) {
            _ if killed => CrashPolicy::Kill,
            0 => CrashPolicy::PowerLoss,
            _ => CrashPolicy::Seeded(script.random.next()),
        };
        // What a failed sync left in the cache is gone with the next open.
        let killed = killed && !disk.has_lost();
        disk = disk.crash(policy);
        if std::env::var("THALWEG_SEED").is_ok() {
            eprintln!("-- crash {policy:?}");
            for path in disk.list_files() {
                eprintln!("   {} {}", path.display(), disk.read_file(&path).unwrap().len());
            }
        }
        script.check(&disk, killed);
        script.clock.advance(Duration::from_millis(1 + script.random.below(100)));
    }
}

fn run_all(faults: bool) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("THALWEG_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("THALWEG_SEEDS").unwrap_or(300),
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed, faults)) {
            eprintln!("failed with THALWEG_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn d1_d2_d3_no_crash_loses_invents_or_revives_a_record() {
    run_all(false);
}

#[test]
fn d4_no_error_loses_or_invents_a_record() {
    run_all(true);
}
