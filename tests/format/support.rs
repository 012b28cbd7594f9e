//! Small directories with several segments, made through the public interface, and what reading
//! them back must give.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use thalweg::inspect::{Verification, verify};
use thalweg::{Builder, Clock, Engine, Error, Event, Record, TopicConfig, Writers};

pub(crate) const HEADER_BYTES: u64 = 512;
pub(crate) const BLOCK_BYTES: u64 = 4096;
pub(crate) const TOPIC: &str = "quotes";

/// A clock that goes on only when it is told to.
#[derive(Debug, Default)]
pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    pub(crate) fn new() -> Arc<ManualClock> {
        Arc::new(ManualClock(AtomicI64::new(1_700_000_000_000)))
    }

    pub(crate) fn advance_ms(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.wall_ms() as u64)
    }
}

/// A record as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Sent {
    /// Record `number` with a value of `bytes` bytes; keys, headers and null values come in turn.
    pub(crate) fn number(number: u64, bytes: usize) -> Sent {
        let value = (0..bytes).map(|at| (number as usize * 31 + at * 7) as u8).collect();
        Sent {
            timestamp: 1_700_000_000_000 + number as i64 * 10,
            key: (!number.is_multiple_of(3)).then(|| format!("key {number}").into_bytes()),
            value: (number % 5 != 4).then_some(value),
            headers: match number % 4 {
                1 => vec![("trace".to_owned(), Some(number.to_string().into_bytes())), ("none".to_owned(), None)],
                _ => Vec::new(),
            },
        }
    }

    pub(crate) fn record(&self) -> Record<'_> {
        let mut record = match &self.value {
            Some(value) => Record::new(value),
            None => Record::tombstone(),
        };
        if let Some(key) = &self.key {
            record = record.key(key);
        }
        for (name, value) in &self.headers {
            record = match value {
                Some(value) => record.header(name, value),
                None => record.null_header(name),
            };
        }
        record.timestamp(self.timestamp)
    }
}

/// What each partition holds, by offset.
pub(crate) type Contents = BTreeMap<u32, Vec<Sent>>;

/// A data directory and what was sent to it.
pub(crate) struct Sample {
    pub(crate) root: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) contents: Contents,
}

impl Sample {
    pub(crate) fn new() -> Sample {
        let root = tempfile::tempdir().unwrap();
        Sample { root, clock: ManualClock::new(), contents: Contents::new() }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub(crate) fn open(&self) -> Engine {
        builder(&self.dir()).clock(self.clock.clone()).open().unwrap()
    }

    /// Appends one batch of `count` records.
    pub(crate) fn append(&mut self, engine: &Engine, partition: u32, count: u64, bytes: usize) {
        let sent = self.contents.entry(partition).or_default();
        let first = sent.len() as u64;
        let new: Vec<Sent> = (first..first + count).map(|number| Sent::number(number, bytes)).collect();
        let records: Vec<Record<'_>> = new.iter().map(Sent::record).collect();
        let receipt = engine.partition(TOPIC, partition).unwrap().append_batch(&records).unwrap();
        assert_eq!(receipt.wait().unwrap().offset, first);
        sent.extend(new);
    }

    /// The next batch begins a new segment.
    pub(crate) fn roll(&self) {
        self.clock.advance_ms(1_000);
    }

    /// Three segments in partition 0, the middle one long enough for an index with entries; one
    /// segment in partition 1, nothing in partition 2. Two lives, both closed.
    pub(crate) fn closed() -> Sample {
        let mut sample = Sample::new();
        let engine = sample.open();
        engine.create_topic(TOPIC, topic_config().partitions(3)).unwrap();
        sample.append(&engine, 0, 2, 40);
        sample.append(&engine, 0, 3, 20);
        sample.append(&engine, 1, 2, 10);
        sample.roll();
        for _ in 0..12 {
            sample.append(&engine, 0, 2, 500);
        }
        sample.roll();
        sample.append(&engine, 0, 1, 30);
        engine.close().unwrap();
        let engine = sample.open();
        sample.append(&engine, 0, 2, 25);
        sample.append(&engine, 1, 1, 15);
        engine.close().unwrap();
        sample
    }

    /// A copy of the directory as it stands, beside it.
    pub(crate) fn copy_to(&self, name: &str) -> PathBuf {
        let to = self.root.path().join(name);
        copy_tree(&self.dir(), &to);
        to
    }
}

/// Segments are rolled by the clock.
pub(crate) fn topic_config() -> TopicConfig {
    TopicConfig::default().segment_ms(Some(1_000)).index_interval_bytes(4096).batch_bytes(1024)
}

/// No threads: every step is taken by the caller.
pub(crate) fn builder(dir: &Path) -> Builder {
    Engine::builder(dir).writers(Writers::Inline).seed(1)
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

pub(crate) fn partition_dir(dir: &Path, partition: u32) -> PathBuf {
    dir.join("topics").join(TOPIC).join(partition.to_string())
}

pub(crate) fn segment(dir: &Path, partition: u32, base_offset: u64) -> PathBuf {
    partition_dir(dir, partition).join(format!("{base_offset:020}.log"))
}

/// All regular files but `LOCK`, in order.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() && entry.file_name() != "LOCK" {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

pub(crate) fn check(dir: &Path) -> Verification {
    verify(dir, &mut |_| {}).unwrap()
}

/// Changes bytes of a file; dropped, it puts them back.
pub(crate) struct Patch {
    file: fs::File,
    position: u64,
    before: Vec<u8>,
}

impl Patch {
    pub(crate) fn new(path: &Path, position: u64, change: impl FnOnce(&mut [u8]), length: usize) -> Patch {
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut before = vec![0; length];
        file.read_exact_at(&mut before, position).unwrap();
        let mut after = before.clone();
        change(&mut after);
        file.write_all_at(&after, position).unwrap();
        Patch { file, position, before }
    }

    pub(crate) fn flip(path: &Path, position: u64, bit: u32) -> Patch {
        Patch::new(path, position, |bytes| bytes[0] ^= 1 << bit, 1)
    }
}

impl Drop for Patch {
    fn drop(&mut self) {
        self.file.write_all_at(&self.before, self.position).unwrap();
    }
}

/// What reading a directory gave.
#[derive(Debug, Default)]
pub(crate) struct ReadBack {
    /// What opening or reading refused.
    pub(crate) errors: Vec<Error>,
    /// What was read, by partition and offset.
    pub(crate) records: BTreeMap<u32, BTreeMap<u64, Sent>>,
}

impl ReadBack {
    /// Every record of `contents`, or an error: never anything else.
    #[track_caller]
    pub(crate) fn assert_true_or_refused(&self, contents: &Contents, what: &str) {
        self.assert_nothing_wrong(contents, what);
        if self.errors.is_empty() {
            let whole = contents
                .iter()
                .all(|(partition, sent)| self.records.get(partition).map_or(0, BTreeMap::len) == sent.len());
            assert!(whole, "{what}: records are missing and nothing says so");
        }
    }

    #[track_caller]
    pub(crate) fn assert_nothing_wrong(&self, contents: &Contents, what: &str) {
        for (partition, records) in &self.records {
            for (offset, record) in records {
                let sent = contents.get(partition).and_then(|sent| sent.get(*offset as usize));
                assert_eq!(Some(record), sent, "{what}: partition {partition}, offset {offset}");
            }
        }
    }

    /// How many records of a partition there are, all of them a prefix.
    #[track_caller]
    pub(crate) fn prefix(&self, partition: u32) -> u64 {
        let Some(records) = self.records.get(&partition) else { return 0 };
        let count = records.len() as u64;
        assert!(records.keys().copied().eq(0..count), "offsets {:?}", records.keys());
        count
    }
}

/// Opens for reading and reads all there is, as far as it goes.
pub(crate) fn read_all(dir: &Path) -> ReadBack {
    match builder(dir).read_only().open() {
        Ok(engine) => read_engine(&engine),
        Err(error) => ReadBack { errors: vec![error], ..ReadBack::default() },
    }
}

pub(crate) fn read_engine(engine: &Engine) -> ReadBack {
    let mut back = ReadBack::default();
    let partitions = match engine.describe_topic(TOPIC) {
        Ok(topic) => topic.partitions.len() as u32,
        Err(error) => return ReadBack { errors: vec![error], ..ReadBack::default() },
    };
    for number in 0..partitions {
        let partition = match engine.partition(TOPIC, number) {
            Ok(partition) => partition,
            Err(error) => {
                back.errors.push(error);
                continue;
            }
        };
        let records = back.records.entry(number).or_default();
        let reading = match partition.read(..) {
            Ok(reading) => reading,
            Err(error) => {
                back.errors.push(error);
                continue;
            }
        };
        for batch in reading {
            match batch {
                Err(error) => {
                    back.errors.push(error);
                    break;
                }
                Ok(batch) => {
                    for record in &batch {
                        let headers = record.headers();
                        let headers = headers.map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
                        let sent = Sent {
                            timestamp: record.timestamp(),
                            key: record.key().map(<[u8]>::to_vec),
                            value: record.value().map(<[u8]>::to_vec),
                            headers: headers.collect(),
                        };
                        records.insert(record.offset(), sent);
                    }
                }
            }
        }
        let known = engine.recovery().partitions.into_iter().find(|found| found.partition == number);
        back.errors.extend(known.and_then(|found| found.damage));
    }
    back
}

/// Opens for writing, and tells what was cut.
pub(crate) fn open_noting_cuts(dir: &Path) -> (thalweg::Result<Engine>, Vec<(PathBuf, u64, u64)>) {
    let cuts = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = cuts.clone();
    let engine = builder(dir)
        .on_event(move |event| {
            if let Event::TornTailCut { path, position, bytes, .. } = event {
                noted.lock().unwrap().push((path.clone(), *position, *bytes));
            }
        })
        .open();
    let cuts = cuts.lock().unwrap().clone();
    (engine, cuts)
}
