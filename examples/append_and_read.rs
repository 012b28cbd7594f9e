//! Appends records and reads them back: by polling, by offset, from the end, by time, and after
//! closing and opening again.
//!
//! `cargo run --example append_and_read [DIR]`; without DIR, in a temporary directory.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use thalweg::{Engine, Record, RecordView, TopicConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let dir = std::env::args_os().nth(1).map_or(scratch.path().join("data"), PathBuf::from);

    let engine = Engine::open(&dir)?;
    println!("opened {}", dir.display());
    if engine.ensure_topic("orders", TopicConfig::default().partitions(2))? {
        println!("made topic orders with 2 partitions");
    }

    // Sending returns at once; a receipt is there to wait on, or to drop.
    let producer = engine.producer_for("orders")?;
    let mut receipts = Vec::new();
    for (ticker, price) in [("AAPL", "189.45"), ("MSFT", "411.22"), ("AAPL", "189.47"), ("NVDA", "875.28")] {
        receipts.push(producer.send(Record::new(price).key(ticker).header("source", "feed-7"))?);
    }
    for receipt in receipts {
        let at = receipt.wait()?;
        println!("durable: partition {}, offset {}", at.partition, at.offset);
    }

    // Several records that are there together or not at all, after any crash.
    let legs = [Record::new("buy 100").key("AAPL"), Record::new("sell 100").key("AAPL")];
    let together = producer.send_batch(&legs)?;
    println!("as one: partition {}, offsets {:?}", together.wait()?.partition, together.offsets());

    // A consumer of both partitions, from their beginning. Its records are views into the files.
    let mut consumer = engine.assign([("orders", 0), ("orders", 1)])?;
    let mut records = 0;
    loop {
        let polled = consumer.poll(Duration::ZERO)?;
        if polled.is_empty() {
            break;
        }
        for batch in &polled {
            for record in batch {
                println!("read: partition {}, offset {}, {}", batch.partition(), record.offset(), text(&record));
                records += 1;
            }
        }
    }
    println!("{records} records in all");

    // A partition by itself: what was sent last, and where that hour began.
    let partition = engine.partition("orders", together.partition())?;
    let last = partition.get(together.offset())?;
    println!("by offset: {}", text(&last.view()));
    for batch in partition.last(2)? {
        for record in &batch? {
            println!("of the last two: {}", text(&record));
        }
    }
    let hour_ago = last.view().timestamp() - 3_600_000;
    println!("first record of the last hour: {:?}", partition.offset_for_timestamp(hour_ago)?);

    // Close, open again: it is all there, and recovery has nothing to say.
    engine.close()?;
    let engine = Engine::builder(&dir).read_only().open()?;
    let ends: Vec<_> = engine.describe_topic("orders")?.partitions.iter().map(|part| part.end_offset).collect();
    println!("opened again: clean {}, end offsets {ends:?}", engine.recovery().clean);
    Ok(())
}

fn text(record: &RecordView<'_>) -> String {
    let text = |bytes: Option<&[u8]>| bytes.map_or("none".into(), |bytes| bytes.escape_ascii().to_string());
    format!("{}: {}", text(record.key()), text(record.value()))
}
