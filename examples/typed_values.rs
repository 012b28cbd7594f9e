//! Values of your own type, read in place: keys and values begin at multiples of 8, so a plain old
//! data type is a cast away, and nothing is copied between the file's mapping and your code.
//!
//! `cargo run --release --example typed_values [DIR]`; without DIR, in a temporary directory.

use std::error::Error;
use std::path::PathBuf;

use bytemuck::{Pod, Zeroable};
use thalweg::{Acks, Engine, Record, TopicConfig};

/// A trade, as it stands in memory and in the file.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Tick {
    time_ns: u64,
    price: f64,
    size: u64,
}

const TICKS: u64 = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let dir = std::env::args_os().nth(1).map_or(scratch.path().join("data"), PathBuf::from);
    let engine = Engine::open(&dir)?;
    engine.ensure_topic("ticks", TopicConfig::default().acks(Acks::Written))?;

    // One copy on the way in: from the tick into the log's buffer.
    let ticks = engine.partition("ticks", 0)?;
    for number in 0..TICKS {
        let tick = Tick { time_ns: number * 1_000, price: 189.0 + (number % 100) as f64 / 100.0, size: number % 7 + 1 };
        let _ = ticks.append(&Record::new(bytemuck::bytes_of(&tick)))?;
    }
    ticks.wait_written(TICKS)?;
    println!("appended {TICKS} ticks of {} bytes", size_of::<Tick>());

    // None on the way out: each `&Tick` points into the mapped file.
    let batches: Vec<_> = ticks.read(..)?.collect::<thalweg::Result<_>>()?;
    let (mut volume, mut turnover) = (0, 0.0);
    for batch in &batches {
        for record in batch {
            let tick = in_place(record.value())?;
            volume += tick.size;
            turnover += tick.size as f64 * tick.price;
        }
    }
    println!("read {} batches in place: volume {volume}, average price {:.4}", batches.len(), turnover / volume as f64);

    let first = batches.first().and_then(|batch| batch.iter().next()).and_then(|record| record.value());
    let first = in_place(first)?;
    match mapped_file(&raw const *first as usize) {
        Some(path) => println!("the first tick stands at {first:p}, in the mapping of {path}"),
        None => println!("the first tick stands at {first:p} (this system doesn't say what is mapped there)"),
    }

    // The batches hold their mapping: what was read stays readable, whatever happens to the topic.
    engine.delete_topic("ticks")?;
    println!("the topic is deleted, the first tick is still there: {first:?}");
    engine.close()?;
    Ok(())
}

/// The value as what it is: an error if its length doesn't fit, never a copy.
fn in_place(value: Option<&[u8]>) -> Result<&Tick, Box<dyn Error>> {
    bytemuck::try_from_bytes(value.unwrap_or_default()).map_err(|error| error.to_string().into())
}

/// Which file is mapped at this address, where the system lists it.
fn mapped_file(address: usize) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| {
        let bounds = line.split_whitespace().next().and_then(|range| range.split_once('-'));
        let bounds = bounds.map(|(from, to)| (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16)));
        matches!(bounds, Some((Ok(from), Ok(to))) if (from..to).contains(&address))
    })?;
    line.split_whitespace().nth(5).map(str::to_owned)
}
