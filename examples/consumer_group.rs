//! Three members of one group share a topic; one of them goes, and the others take over its partitions.
//! Each commits when it is asked to give a partition back, so nothing is processed twice.
//!
//! `cargo run --release --example consumer_group [DIR]`; without DIR, in a temporary directory.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use thalweg::{Consumer, Engine, RebalanceListener, Record, TopicConfig};

const RECORDS: usize = 30_000;

/// Commits what was processed before somebody else goes on with it.
struct CommitFirst(&'static str);

impl RebalanceListener for CommitFirst {
    fn on_assigned(&mut self, _: &mut Consumer, partitions: &[(String, u32)]) {
        println!("{} reads {:?} too", self.0, partitions.iter().map(|(_, number)| number).collect::<Vec<_>>());
    }

    fn on_revoked(&mut self, consumer: &mut Consumer, partitions: &[(String, u32)]) {
        println!("{} gives {:?} back", self.0, partitions.iter().map(|(_, number)| number).collect::<Vec<_>>());
        if let Err(error) = consumer.commit() {
            println!("{} could not commit: {error}", self.0);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let dir = std::env::args_os().nth(1).map_or(scratch.path().join("data"), PathBuf::from);
    let engine = Engine::open(&dir)?;
    engine.ensure_topic("orders", TopicConfig::default().partitions(6))?;
    let processed = AtomicUsize::new(0);
    let shares = Mutex::new(BTreeMap::<&str, usize>::new());
    let work = |name: &'static str, at_most: usize| -> thalweg::Result<()> {
        let settings = engine.consumer("billing").subscribe(["orders"]).max_poll_records(100);
        let mut consumer = settings.client_id(name).listener(CommitFirst(name)).start()?;
        let mut own = 0;
        while own < at_most && processed.load(Ordering::SeqCst) < RECORDS {
            let polled = consumer.poll(Duration::from_millis(50))?;
            let count: usize = polled.batches().iter().map(|batch| batch.iter().count()).sum();
            own += count;
            processed.fetch_add(count, Ordering::SeqCst);
            consumer.commit()?;
        }
        if let Ok(mut shares) = shares.lock() {
            shares.insert(name, own);
        }
        // The handle is dropped: the others take over at once.
        Ok(())
    };
    let results = std::thread::scope(|scope| {
        let members = [("alice", usize::MAX), ("bob", 2_000), ("carol", usize::MAX)];
        let members = members.map(|(name, at_most)| scope.spawn(move || work(name, at_most)));
        let producer = engine.producer_for("orders")?;
        for number in 0..RECORDS {
            let value = format!("order {number}");
            // Whether it arrived shows in the end.
            let _ = producer.send(Record::new(&value).key(&format!("customer {}", number % 97)))?;
        }
        members
            .map(|member| member.join())
            .into_iter()
            .collect::<Result<thalweg::Result<Vec<()>>, _>>()
            .map_err(|_| "a member panicked".into())
            .and_then(|done| done.map_err(Box::<dyn Error>::from))
    });
    results?;
    let shares = shares.into_inner()?;
    println!("{shares:?}");
    assert_eq!(shares.values().sum::<usize>(), RECORDS, "each record processed by exactly one member");
    let group = engine.describe_group("billing")?;
    println!("lag: {}", group.offsets.iter().map(|row| row.lag()).sum::<u64>());
    engine.close()?;
    Ok(())
}
