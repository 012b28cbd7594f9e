//! `demo`: a stock ticker's prices into three partitions and out again, checked.
//!
//! One reader a partition, assigned by hand, each in its own thread and there before the first
//! price is sent. What was read is compared with what was sent, record by record.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use comfy_table::{Cell, Color};
use serde_json::{Value, json};
use thalweg::{Batch, Consumer, Engine, ErrorKind, Record, TopicConfig, TopicDescription};

use crate::args::DemoArgs;
use crate::directory::{Directory, shell_word};
use crate::failure::Failure;
use crate::output::{self, Style};
use crate::ticker::{self, Update, dollars};

const TOPIC: &str = "stock-ticker";
const PARTITIONS: u32 = 3;
const UPDATES: usize = 10_000;
/// The header with an update's number in the order of sending.
const NUMBER: &str = "number";
/// How long a reader waits before it looks whether there can be more.
const READER_WAIT: Duration = Duration::from_millis(20);

pub(crate) fn run(directory: &Directory, json: bool, args: &DemoArgs) -> Result<(), Failure> {
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(TOPIC) % 1_000_000);
    let updates = ticker::updates(seed, UPDATES);
    let engine = directory.open_or_make()?;
    let made_again = make_topic(&engine)?;
    let passed = pass(&engine, &updates)?;
    let topic = engine.describe_topic(TOPIC)?;
    let report = Report { seed, made_again, updates: &updates, checks: check(&updates, &passed.read), passed, topic };
    engine.close()?;
    if json {
        output::print_json(&report.json(directory))?
    } else {
        output::print(&report.text(directory))?
    }
    if report.checks.problems.is_empty() { Ok(()) } else { Err(Failure::new("what was read isn't what was sent")) }
}

/// Makes the topic; whether there was one, which is deleted.
fn make_topic(engine: &Engine) -> Result<bool, Failure> {
    let existed = match engine.delete_topic(TOPIC) {
        Ok(()) => true,
        Err(error) if matches!(error.kind(), ErrorKind::UnknownTopic { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    engine.create_topic(TOPIC, TopicConfig::default().partitions(PARTITIONS))?;
    Ok(existed)
}

/// The updates' way through the log.
struct Passed {
    /// What each partition's reader got.
    read: Vec<Vec<Batch>>,
    /// From the first send to the return of the last.
    sending: Duration,
    /// From the first send until all were durable.
    durable: Duration,
    /// From the first send until the last reader had its last record.
    reading: Duration,
}

/// Sends the updates while one thread a partition reads them.
fn pass(engine: &Engine, updates: &[Update]) -> Result<Passed, Failure> {
    let consumers = (0..PARTITIONS).map(|partition| engine.assign([(TOPIC, partition)]));
    let consumers = consumers.collect::<Result<Vec<_>, _>>()?;
    let all_sent = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let spawn = |consumer| scope.spawn(|| read(consumer, &all_sent));
        let readers: Vec<_> = consumers.into_iter().map(spawn).collect();
        let begun = Instant::now();
        let sent = send(engine, updates);
        all_sent.store(true, Ordering::Release);
        let mut passed =
            Passed { read: Vec::new(), sending: Duration::ZERO, durable: Duration::ZERO, reading: Duration::ZERO };
        for reader in readers {
            let (batches, last) = reader.join().map_err(|_| Failure::new("a reader's thread died"))??;
            passed.reading = passed.reading.max(last.map_or(Duration::ZERO, |last| last.duration_since(begun)));
            passed.read.push(batches);
        }
        let (sent, durable) = sent?;
        (passed.sending, passed.durable) = (sent.duration_since(begun), durable.duration_since(begun));
        Ok(passed)
    })
}

/// Sends all, then waits until all are durable: when each was done.
fn send(engine: &Engine, updates: &[Update]) -> Result<(Instant, Instant), Failure> {
    let producer = engine.producer_for(TOPIC)?;
    for (number, update) in updates.iter().enumerate() {
        let record = Record::new(&update.text).key(update.ticker);
        let _receipt = producer.send(record.header(NUMBER, &number.to_string()))?;
    }
    let sent = Instant::now();
    engine.sync()?;
    Ok((sent, Instant::now()))
}

/// Everything of one partition until all was sent and no more comes; when the last came.
fn read(mut consumer: Consumer, all_sent: &AtomicBool) -> thalweg::Result<(Vec<Batch>, Option<Instant>)> {
    let (mut batches, mut last) = (Vec::new(), None);
    loop {
        // Asked before the poll: what was sent before is then seen by it.
        let nothing_follows = all_sent.load(Ordering::Acquire);
        let polled = consumer.poll(READER_WAIT)?;
        if !polled.is_empty() {
            last = Some(Instant::now());
            batches.extend(polled);
        } else if nothing_follows {
            return Ok((batches, last));
        }
    }
}

/// What became of one ticker.
#[derive(Default)]
struct Ticker {
    updates: u64,
    first: u64,
    last: u64,
    partition: u32,
}

/// What was read, compared with what was sent.
struct Checks {
    tickers: BTreeMap<&'static str, Ticker>,
    complete: bool,
    in_order: bool,
    problems: Vec<String>,
}

fn check(updates: &[Update], read: &[Vec<Batch>]) -> Checks {
    let mut checks = Checks { tickers: BTreeMap::new(), complete: true, in_order: true, problems: Vec::new() };
    let mut times_read = vec![0u64; updates.len()];
    // Of each ticker, the update that was read last.
    let mut before = BTreeMap::new();
    for batch in read.iter().flatten() {
        for record in batch {
            let at = format!("partition {} offset {}", batch.partition(), record.offset());
            let number = record.headers().find(|(name, _)| *name == NUMBER).and_then(|(_, value)| value);
            let number =
                number.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse::<usize>().ok());
            let Some((number, update)) = number.and_then(|number| Some((number, updates.get(number)?))) else {
                checks.incomplete(format!("{at}: a record that wasn't sent"));
                continue;
            };
            times_read[number] += 1;
            if record.value() != Some(update.text.as_bytes()) || record.key() != Some(update.ticker.as_bytes()) {
                checks.incomplete(format!("{at}: update {number} was sent as {:?}", update.text));
            }
            if before.insert(update.ticker, number).is_some_and(|before| before >= number) {
                checks.out_of_order(format!("{at}: {} update {number} stands behind a later one", update.ticker));
            }
            let ticker = checks.tickers.entry(update.ticker).or_insert_with(|| Ticker {
                first: update.price,
                partition: batch.partition(),
                ..Ticker::default()
            });
            (ticker.updates, ticker.last) = (ticker.updates + 1, update.price);
            if ticker.partition != batch.partition() {
                let home = ticker.partition;
                checks.out_of_order(format!("{at}: {} is in partition {home} too", update.ticker));
            }
        }
    }
    for (number, &times) in times_read.iter().enumerate() {
        if times != 1 {
            checks.incomplete(format!("update {number} ({}) was read {times} times", updates[number].text));
        }
    }
    checks
}

impl Checks {
    fn incomplete(&mut self, problem: String) {
        self.complete = false;
        self.problems.push(problem);
    }

    fn out_of_order(&mut self, problem: String) {
        self.in_order = false;
        self.problems.push(problem);
    }

    fn tickers_of(&self, partition: u32) -> Vec<&'static str> {
        self.tickers.iter().filter(|(_, ticker)| ticker.partition == partition).map(|(name, _)| *name).collect()
    }
}

/// What is told about a run.
struct Report<'a> {
    seed: u64,
    made_again: bool,
    updates: &'a [Update],
    passed: Passed,
    topic: TopicDescription,
    checks: Checks,
}

impl Report<'_> {
    fn text(&self, directory: &Directory) -> String {
        let style = Style::of_stdout();
        let (sent, passed) = (self.updates.len() as u64, &self.passed);
        let mut text = format!(
            "{}\n\n",
            style.bold(&format!(
                "A stock ticker: {} prices into {PARTITIONS} partitions and out again",
                output::count(sent)
            ))
        );
        let mut fact = |name: &str, fact: String| {
            let _ = writeln!(text, "  {}  {fact}", style.faint(&format!("{name:<9}")));
        };
        let again = if self.made_again { " (made again: the one that was there is deleted)" } else { "" };
        fact("directory", directory.path().display().to_string());
        fact("topic", format!("{TOPIC}{again}"));
        fact("seed", format!("{0} (--seed {0} gives the same prices)", self.seed));
        fact("readers", format!("{PARTITIONS} threads, one a partition, waiting before the first price was sent"));
        let rate = output::count_rate(sent, passed.sending);
        fact("sent", format!("all in {}: {rate} updates/s", output::duration(passed.sending)));
        fact("read", format!("all by {} after the first was sent, none copied", output::duration(passed.reading)));
        fact("durable", format!("all by {} after the first was sent", output::duration(passed.durable)));
        let heading = ["partition>", "records>", "tickers", "first offset>", "last offset>", "size>"];
        let _ = writeln!(text, "\n{}\n", output::table(&heading, self.partition_rows()));
        let heading = ["ticker", "updates>", "first>", "last>", "change>", "partition>"];
        let _ = writeln!(text, "{}\n", output::table(&heading, self.ticker_rows()));
        let mark = |good: bool| if good { style.good("✓") } else { style.bad("✗") };
        let checks = &self.checks;
        let count = output::count(sent);
        let _ = writeln!(
            text,
            "{} complete: each of the {count} updates was read exactly once, byte for byte",
            mark(checks.complete)
        );
        let _ = writeln!(
            text,
            "{} in order: each ticker is in one partition, its updates in the order of sending",
            mark(checks.in_order)
        );
        for problem in checks.problems.iter().take(10) {
            let _ = writeln!(text, "    {problem}");
        }
        text + &suggestions(directory, style)
    }

    fn partition_rows(&self) -> Vec<Vec<String>> {
        let row = |partition: &thalweg::PartitionDescription| {
            vec![
                partition.partition.to_string(),
                output::count(partition.end_offset - partition.log_start_offset),
                self.checks.tickers_of(partition.partition).join(" "),
                partition.log_start_offset.to_string(),
                partition.end_offset.checked_sub(1).map_or_else(|| "-".to_owned(), |last| last.to_string()),
                output::bytes(partition.bytes),
            ]
        };
        self.topic.partitions.iter().map(row).collect()
    }

    fn ticker_rows(&self) -> Vec<Vec<Cell>> {
        let row = |(name, ticker): (&&str, &Ticker)| {
            let change = (ticker.last as f64 / ticker.first.max(1) as f64 - 1.0) * 100.0;
            let color = if change < 0.0 { Color::Red } else { Color::Green };
            vec![
                Cell::new(name),
                Cell::new(output::count(ticker.updates)),
                Cell::new(dollars(ticker.first)),
                Cell::new(dollars(ticker.last)),
                Cell::new(format!("{change:+.2}%")).fg(color),
                Cell::new(ticker.partition),
            ]
        };
        self.checks.tickers.iter().map(row).collect()
    }

    fn json(&self, directory: &Directory) -> Value {
        let (sent, passed, checks) = (self.updates.len() as u64, &self.passed, &self.checks);
        let partitions = self.topic.partitions.iter().map(|partition| {
            json!({
                "partition": partition.partition,
                "records": partition.end_offset - partition.log_start_offset,
                "tickers": checks.tickers_of(partition.partition),
                "first_offset": partition.log_start_offset,
                "last_offset": partition.end_offset.checked_sub(1),
                "bytes": partition.bytes,
            })
        });
        let tickers = checks.tickers.iter().map(|(name, ticker)| {
            json!({
                "ticker": name, "updates": ticker.updates, "first_price": dollars(ticker.first),
                "last_price": dollars(ticker.last), "partition": ticker.partition,
            })
        });
        json!({
            "directory": directory.path().display().to_string(),
            "topic": TOPIC,
            "made_again": self.made_again,
            "seed": self.seed,
            "updates": sent,
            "sending_seconds": passed.sending.as_secs_f64(),
            "reading_seconds": passed.reading.as_secs_f64(),
            "durable_seconds": passed.durable.as_secs_f64(),
            "sent_per_second": output::rate(sent, passed.sending).round(),
            "partitions": partitions.collect::<Value>(),
            "tickers": tickers.collect::<Value>(),
            "complete": checks.complete,
            "in_order": checks.in_order,
            "problems": checks.problems,
        })
    }
}

/// Commands to go on with.
fn suggestions(directory: &Directory, style: Style) -> String {
    let segment = directory.path().join("topics").join(TOPIC).join("0/00000000000000000000.log");
    let commands = [
        (format!("topic describe {TOPIC}"), "its settings, and how far each partition is"),
        (format!("consume {TOPIC} --from -3"), "the last 3 prices of each partition"),
        (format!("consume {TOPIC} --partition 0 --max 3 --json"), "with offsets, keys and headers"),
        ("verify".to_owned(), "every checksum of the directory"),
        (format!("dump {}", shell_word(&segment.display().to_string())), "what stands in a segment file"),
    ];
    let mut text = "\nThe data stays. Look at it:\n".to_owned();
    for (command, what) in commands {
        let _ = writeln!(text, "  {}\n      {}", directory.command(&command), style.faint(what));
    }
    text
}
