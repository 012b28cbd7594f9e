//! Goal: parts of a directory that come from different backups lose nothing silently. Whatever is put together
//! is refused, or keeps every acknowledged record that its files hold; what is written afterwards is never
//! skipped by a group; no offset or epoch that any part knows of is given again (D3, D5).
//!
//! Method: one history with a copy of the directory after each life, closed or killed. Every subset of {topics,
//! one partition, catalogue, offset log, LOCK, evidence} of the newest copy is replaced by that of each earlier one, and
//! lives on: opened, or repaired and then opened; records appended, committed, opened again, read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thalweg::inspect::{Loss, verify_sim};
use thalweg::sim::{CrashPolicy, SimClock, SimDisk};
use thalweg::{Acks, ConsumerBuilder, Engine, Record, ResetTo, StartPolicy, TopicConfig};

use crate::support::{DATA, open, repair};

type Place = (String, u32);

/// The directory after a life.
struct Age {
    files: BTreeMap<PathBuf, Vec<u8>>,
    closed: bool,
    /// How many records each partition had.
    ends: BTreeMap<Place, u64>,
    /// What the group had committed.
    commits: BTreeMap<Place, u64>,
}

struct History {
    clock: SimClock,
    ages: Vec<Age>,
    /// The values of each partition, by offset.
    sent: BTreeMap<Place, Vec<String>>,
}

const GROUP: &str = "g";

fn place(topic: &str, partition: u32) -> Place {
    (topic.to_owned(), partition)
}

impl History {
    fn new() -> History {
        let (disk, clock) = (SimDisk::new(), SimClock::new());
        let mut history = History { clock, ages: Vec::new(), sent: BTreeMap::new() };
        let mut commits = BTreeMap::new();
        let mut life = |history: &mut History, closed: bool, steps: &mut dyn FnMut(&mut Life<'_>)| {
            let engine = open(&disk, &history.clock).unwrap();
            steps(&mut Life { engine: &engine, sent: &mut history.sent, commits: &mut commits });
            engine.sync().unwrap();
            let copy = if closed {
                engine.close().unwrap();
                disk.clone()
            } else {
                let copy = disk.crash(CrashPolicy::Kill);
                engine.close().unwrap();
                copy
            };
            let files = copy.list_files().into_iter().map(|path| (path.clone(), copy.read_file(&path).unwrap()));
            let ends = history.sent.iter().map(|(place, sent)| (place.clone(), sent.len() as u64)).collect();
            history.ages.push(Age { files: files.collect(), closed, ends, commits: commits.clone() });
        };
        life(&mut history, true, &mut |life| {
            life.engine.create_topic("t", TopicConfig::default().partitions(2)).unwrap();
            life.append("t", 0, 4);
            life.append("t", 1, 2);
            life.commit("t", 2);
        });
        life(&mut history, true, &mut |life| {
            life.append("t", 0, 3);
            life.commit("t", 6);
        });
        life(&mut history, false, &mut |life| {
            life.append("t", 1, 3);
            life.engine.create_topic("u", TopicConfig::default()).unwrap();
            life.append("u", 0, 2);
        });
        life(&mut history, true, &mut |life| {
            life.engine.alter_topic("t", TopicConfig::default().partitions(3)).unwrap();
            life.append("t", 2, 2);
            life.append("t", 0, 1);
            life.commit("t", 5);
        });
        life(&mut history, true, &mut |life| life.commit("u", 2));
        life(&mut history, true, &mut |life| {
            life.append("t", 0, 5);
            life.append("u", 0, 1);
            life.commit("t", 13);
        });
        history
    }
}

struct Life<'a> {
    engine: &'a Engine,
    sent: &'a mut BTreeMap<Place, Vec<String>>,
    commits: &'a mut BTreeMap<Place, u64>,
}

impl Life<'_> {
    fn append(&mut self, topic: &str, partition: u32, count: usize) {
        let sent = self.sent.entry(place(topic, partition)).or_default();
        for _ in 0..count {
            let value = format!("{topic} {partition} {}", sent.len());
            let at = append(self.engine, &place(topic, partition), &value);
            assert_eq!(at, sent.len() as u64);
            sent.push(value);
        }
    }

    fn commit(&mut self, topic: &str, offset: u64) {
        // Of every partition of the topic, as far as it goes.
        self.engine.reset_group(GROUP, topic, ResetTo::Offset(offset), false).unwrap();
        let ends: Vec<_> = self.sent.keys().filter(|(of, _)| of == topic).map(|(_, number)| *number).collect();
        for number in ends {
            let offset = offset.min(self.sent[&place(topic, number)].len() as u64);
            self.commits.insert(place(topic, number), offset);
        }
    }
}

fn append(engine: &Engine, (topic, number): &Place, value: &str) -> u64 {
    let partition = engine.partition(topic, *number).unwrap();
    partition.append(&Record::new(value).acks(Acks::Synced)).and_then(|receipt| receipt.wait()).unwrap().offset
}

/// Which part of a directory a file belongs to.
fn part_of(path: &Path) -> u32 {
    let below = path.strip_prefix(DATA).unwrap().to_str().unwrap();
    match below {
        "LOCK" => 1 << 4,
        _ if below.starts_with("topics/t/0") => 1 << 1,
        _ if below.starts_with("topics") => 1 << 0,
        _ if below.starts_with("catalog") => 1 << 2,
        _ if below.starts_with("offsets") => 1 << 3,
        "evidence" => 1 << 5,
        _ => panic!("{below}"),
    }
}

/// The newest directory with some parts of an earlier one.
fn put_together(newest: &Age, earlier: &Age, parts: u32) -> SimDisk {
    let disk = SimDisk::new();
    // The topics are all of them.
    let parts = if parts & 1 == 1 { parts | 2 } else { parts };
    let of = |age: &Age, wanted: bool| {
        for (path, bytes) in age.files.iter().filter(|(path, _)| (part_of(path) & parts != 0) == wanted) {
            disk.write_file(path, bytes).unwrap();
        }
    };
    of(earlier, true);
    of(newest, false);
    disk
}

/// The epoch of each batch in each file, by where it stands; batches are found by their magic.
fn epochs(disk: &SimDisk) -> BTreeMap<(PathBuf, usize), u32> {
    let mut found = BTreeMap::new();
    for path in disk.list_files().into_iter().filter(|path| !path.to_str().unwrap().contains("set-aside")) {
        let bytes = disk.read_file(&path).unwrap();
        for at in (4096..bytes.len().saturating_sub(95)).step_by(8) {
            if bytes[at..at + 4] == [0x8d, 0x5e, 0x7c, 0xb4] {
                found.insert((path.clone(), at), u32::from_le_bytes(bytes[at + 88..at + 92].try_into().unwrap()));
            }
        }
    }
    found
}

fn places(engine: &Engine) -> Vec<Place> {
    let count = |topic: &String| engine.describe_topic(topic).unwrap().config.partitions;
    let topics = engine.topics().unwrap();
    topics.iter().flat_map(|topic| (0..count(topic)).map(|number| place(topic, number))).collect()
}

fn records(engine: &Engine, (topic, number): &Place) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    for batch in engine.partition(topic, *number).unwrap().read(..).unwrap() {
        for record in &batch.unwrap() {
            found.insert(record.offset(), String::from_utf8(record.value().unwrap().to_vec()).unwrap());
        }
    }
    found
}

/// What the group gets from where it is.
fn drain(engine: &Engine, places: &[Place]) -> BTreeSet<String> {
    let assigned: Vec<(&str, u32)> = places.iter().map(|(topic, number)| (topic.as_str(), *number)).collect();
    read_all(engine.consumer(GROUP).assign(assigned))
}

fn read_all(consumer: ConsumerBuilder) -> BTreeSet<String> {
    let mut got = BTreeSet::new();
    let mut consumer = consumer.start_from(StartPolicy::Earliest).start().unwrap();
    loop {
        let polled = consumer.poll(Duration::ZERO).unwrap();
        let before = got.len();
        for batch in polled.batches() {
            got.extend(batch.iter().map(|record| String::from_utf8(record.value().unwrap().to_vec()).unwrap()));
        }
        if got.len() == before {
            break;
        }
    }
    consumer.commit().unwrap();
    got
}

struct Case<'a> {
    history: &'a History,
    earlier: &'a Age,
    parts: u32,
    what: String,
}

impl Case<'_> {
    fn age_of(&self, part: u32) -> &Age {
        if self.parts & part != 0 { self.earlier } else { self.history.ages.last().unwrap() }
    }

    fn files_of(&self, place: &Place) -> &Age {
        let is_first = place.0 == "t" && place.1 == 0;
        self.age_of(if is_first { 3 } else { 1 })
    }

    /// The end that some part of the directory proves.
    fn known_end(&self, place: &Place) -> u64 {
        let catalog = self.age_of(1 << 2);
        let marked = if catalog.closed { catalog.ends.get(place).copied().unwrap_or(0) } else { 0 };
        let files = self.files_of(place).ends.get(place).copied().unwrap_or(0);
        let committed = self.age_of(1 << 3).commits.get(place).copied().unwrap_or(0);
        marked.max(files).max(committed)
    }

    /// Whether it was refused or repaired at some point.
    fn run(&self, disk: &SimDisk) -> bool {
        let what = &self.what;
        let sound = verify_sim(disk, DATA, &mut |_| {}).unwrap().is_sound();
        let before = epochs(disk);
        let mut lost: Vec<Loss> = Vec::new();
        let copy = disk.crash(CrashPolicy::Kill);
        let opened = open(&copy, &self.history.clock);
        let is_whole = opened.as_ref().is_ok_and(|engine| {
            let damaged = engine.recovery().partitions.iter().any(|found| found.damage.is_some());
            let names_commits = engine.describe_group(GROUP).is_ok();
            !damaged && (names_commits || sound)
        });
        if let (Ok(engine), false) = (opened, sound) {
            // Without a repair: what opening didn't refuse and a second one finds whole loses nothing either.
            drop(engine.close());
            if verify_sim(&copy, DATA, &mut |_| {}).unwrap().is_sound() {
                self.live_on(&copy, &[]);
                self.check_epochs(&copy, &before);
            }
        }
        assert!(is_whole || !sound, "{what}: opening complains of what verify calls sound");
        if !sound {
            let done = repair(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(done.impossible.is_empty(), "{what}: {done:#?}");
            lost = done.lost;
        }
        let found = verify_sim(disk, DATA, &mut |_| {}).unwrap();
        assert!(found.is_sound(), "{what}: {:#?}", found.damage);
        let before = epochs(disk);
        self.live_on(disk, &lost);
        self.check_epochs(disk, &before);
        !sound
    }

    /// What was written since is of epochs above all that were given.
    fn check_epochs(&self, disk: &SimDisk, before: &BTreeMap<(PathBuf, usize), u32>) {
        let highest = before.values().copied().max().unwrap();
        for (at, epoch) in epochs(disk).into_iter().filter(|(at, _)| !before.contains_key(at)) {
            assert!(epoch > highest, "{}: epoch {epoch} at {at:?}, and {highest} was given", self.what);
        }
    }

    /// The group comes to the end of what there is, also where the last records are lost; `at_once`: before more comes.
    fn reaches_the_end(&self, disk: &SimDisk, at_once: bool) {
        let engine = open(disk, &self.history.clock).unwrap();
        let lags = |engine: &Engine| -> BTreeSet<u64> {
            engine.describe_group(GROUP).unwrap().offsets.iter().map(|row| row.lag()).collect()
        };
        // By subscription: partitions that were added, up to twice in the history and once here, wait until those that
        // were there are committed.
        let subscribed = || engine.consumer(GROUP).subscribe(engine.topics().unwrap());
        let drain = || (0..4).flat_map(|_| read_all(subscribed())).collect::<BTreeSet<_>>();
        if at_once {
            drain();
            assert!(lags(&engine).iter().all(|&lag| lag == 0), "{}: {:?}", self.what, engine.describe_group(GROUP));
        }
        // What comes then is all that it gets, also where a topic gets more partitions before.
        let config = engine.describe_topic("t").unwrap().config;
        let count = config.partitions;
        engine.alter_topic("t", config.partitions(count + 1)).unwrap();
        let new: BTreeSet<String> = (0..=count).map(|number| format!("then {number}")).collect();
        for (number, value) in (0..=count).zip(&new) {
            append(&engine, &place("t", number), value);
        }
        let got = drain();
        assert!(got.is_superset(&new) && (got == new || !at_once), "{}: {got:?}", self.what);
        assert!(lags(&engine).iter().all(|&lag| lag == 0), "{}: {:?}", self.what, engine.describe_group(GROUP));
    }

    fn live_on(&self, disk: &SimDisk, lost: &[Loss]) {
        self.reaches_the_end(&disk.crash(CrashPolicy::Kill), true);
        self.reaches_the_end(&disk.crash(CrashPolicy::Kill), false);
        let what = &self.what;
        let engine = open(disk, &self.history.clock).unwrap_or_else(|error| panic!("{what}: {error}"));
        let places = places(&engine);
        for (place, sent) in &self.history.sent {
            let held = self.files_of(place).ends.get(place).copied().unwrap_or(0);
            // A partition that has files is there.
            assert!(held == 0 || places.contains(place), "{what}: {place:?} is gone");
            if !places.contains(place) {
                continue;
            }
            let found = records(&engine, place);
            for offset in 0..held {
                let value = found.get(&offset);
                assert_eq!(value, sent.get(offset as usize), "{what}: {place:?}, offset {offset}");
            }
            // What is proven to have been there, and isn't, is named.
            let known = self.known_end(place);
            let is_lost = |offset| {
                lost.iter()
                    .any(|lost| (&lost.topic, lost.partition) == (&place.0, place.1) && lost.offsets.contains(&offset))
            };
            for offset in held..known {
                assert!(
                    is_lost(offset),
                    "{what}: {place:?}, offset {offset} is missing, and nothing says so: {lost:?}"
                );
            }
            let end = engine.partition(&place.0, place.1).unwrap().next_offset();
            assert!(end >= known, "{what}: {place:?} goes on at {end}, and {known} were there");
        }
        let mut new = BTreeSet::new();
        for place in &places {
            for number in 0..8 {
                let value = format!("new {place:?} {number}");
                append(&engine, place, &value);
                new.insert(value);
            }
        }
        let got = drain(&engine, &places);
        let missed: Vec<_> = new.difference(&got).collect();
        assert!(missed.is_empty(), "{what}: the group never gets {missed:?}");
        engine.close().unwrap();
        let engine = open(disk, &self.history.clock).unwrap();
        for place in &places {
            let found = records(&engine, place);
            let there = found.values().filter(|value| new.contains(*value)).count();
            assert_eq!(there, 8, "{what}: {place:?}");
        }
        let again = drain(&engine, &places);
        assert!(again.is_empty(), "{what}: read twice after a commit: {again:?}");
        engine.close().unwrap();
        let found = verify_sim(disk, DATA, &mut |_| {}).unwrap();
        assert!(found.is_sound(), "{what}, afterwards: {:#?}", found.damage);
    }
}

#[test]
fn d5_parts_of_different_ages_are_refused_or_lose_nothing() {
    let history = History::new();
    let newest = history.ages.last().unwrap();
    let (mut cases, mut refused) = (0, 0);
    for (number, earlier) in history.ages.iter().enumerate() {
        for parts in 0..64_u32 {
            let disk = put_together(newest, earlier, parts);
            let what = format!("parts {parts:06b} of age {number}");
            let case = Case { history: &history, earlier, parts, what };
            refused += u32::from(case.run(&disk));
            cases += 1;
        }
    }
    println!("{cases} cases, {refused} of them refused and repaired");
    assert_eq!(cases, 6 * 64);
}
