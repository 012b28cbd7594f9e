//! One thread tails a topic while another appends to it. A poll wakes when a record arrives; it
//! doesn't look every so often.
//!
//! `cargo run --release --example tail [DIR]`; without DIR, in a temporary directory.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use thalweg::{Acks, Engine, Record, TopicConfig};

const RECORDS: usize = 2_000;
const PAUSE: Duration = Duration::from_micros(200);

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let dir = std::env::args_os().nth(1).map_or(scratch.path().join("data"), PathBuf::from);
    let engine = Engine::open(&dir)?;
    engine.ensure_topic("events", TopicConfig::default())?;

    // It begins at the end: what is there already is not its business.
    let mut consumer = engine.assign([("events", 0)])?;
    consumer.seek_to_end("events", 0)?;
    let started = Instant::now();
    let tail = std::thread::spawn(move || -> thalweg::Result<Vec<Duration>> {
        let mut delays = Vec::new();
        while delays.len() < RECORDS {
            // Long enough never to pass; the thread sleeps until there is something.
            for batch in consumer.poll(Duration::from_secs(60))? {
                for record in &batch {
                    let sent = record.value().and_then(|value| value.try_into().ok()).map(u64::from_le_bytes);
                    let sent = Duration::from_nanos(sent.unwrap_or_default());
                    delays.push(started.elapsed().saturating_sub(sent));
                }
            }
        }
        Ok(delays)
    });

    // Each record says when it was sent.
    let producer = engine.producer_for("events")?;
    let mut last = None;
    for _ in 0..RECORDS {
        let now = started.elapsed().as_nanos() as u64;
        last = Some(producer.send(Record::new(&now.to_le_bytes()).acks(Acks::Written))?);
        std::thread::sleep(PAUSE);
    }
    if let Some(last) = last {
        println!("sent {RECORDS} records, the last one has offset {}", last.wait()?.offset);
    }

    let mut delays = tail.join().map_err(|_| "the tailing thread panicked")??;
    delays.sort_unstable();
    println!(
        "seen {} records; from send to poll: half within {:?}, 99 of 100 within {:?}",
        delays.len(),
        delays[delays.len() / 2],
        delays[delays.len() * 99 / 100]
    );
    engine.close()?;
    Ok(())
}
