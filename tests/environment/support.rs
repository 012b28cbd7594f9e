//! Engines on real directories, and what they hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use thalweg::{Acks, Engine, Event, Record, TopicConfig};

/// An engine with the topic `t` (small segments), and what its listener was told.
pub(crate) fn engine(dir: &Path) -> (Engine, Arc<Mutex<Vec<Event>>>) {
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let told = events.clone();
    let engine = Engine::builder(dir).on_event(move |event| told.lock().unwrap().push(event.clone())).open().unwrap();
    let _ = engine.create_topic("t", TopicConfig::default().segment_bytes(64 << 10));
    (engine, events)
}

/// Sends records of 500 bytes that begin with their numbers, each waited for as *synced*.
pub(crate) fn send(engine: &Engine, topic: &str, numbers: std::ops::Range<u32>) -> thalweg::Result<()> {
    let producer = engine.producer_for(topic)?;
    for number in numbers {
        let value = format!("{number:0>500}");
        producer.send(Record::new(&value).acks(Acks::Synced))?.wait()?;
    }
    Ok(())
}

/// The numbers of the records in a topic's first partition.
pub(crate) fn numbers(engine: &Engine, topic: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for batch in engine.partition(topic, 0).unwrap().read(..).unwrap() {
        for record in &batch.unwrap() {
            numbers.push(std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap());
        }
    }
    numbers
}

pub(crate) fn ignored(events: &Mutex<Vec<Event>>) -> Vec<PathBuf> {
    let events = events.lock().unwrap();
    let path = |event: &Event| if let Event::Ignored { path } = event { Some(path.clone()) } else { None };
    events.iter().filter_map(path).collect()
}

/// All files, links and directories below `dir`, with what they hold or lead to.
pub(crate) fn below(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_symlink() {
            let to = std::fs::read_link(&path).unwrap();
            found.insert(path, to.into_os_string().into_encoded_bytes());
        } else if kind.is_dir() {
            found.extend(below(&path));
            found.insert(path, Vec::new());
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// Waits until something holds: work that is done behind the caller's back.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never: {what}");
}
