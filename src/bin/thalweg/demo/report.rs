//! What is told about a run when it is over.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};
use thalweg::{PartitionDescription, TopicDescription};

use super::checks::{Checks, Stretch, Ticker};
use super::readers::{LIVES, Life, MORTAL};
use super::stage::{Played, list};
use super::{ANALYTICS, PARTITIONS, PRICES, SESSION_TIMEOUT, TOPIC, UPDATES};
use crate::directory::{Directory, shell_word};
use crate::output::{self, Style};
use crate::ticker::dollars;

pub(super) struct Report<'a> {
    pub(super) directory: &'a Directory,
    pub(super) seed: u64,
    pub(super) made_again: bool,
    pub(super) topic: TopicDescription,
    pub(super) played: Played,
    pub(super) checks: Checks,
}

impl Report<'_> {
    pub(super) fn text(&self) -> String {
        let style = Style::of_stdout();
        let mut text = String::new();
        let heading = ["group", "consumer", "", "processed>", "p0>", "p1>", "p2>"];
        let _ = writeln!(text, "\n{}\n", output::table(&heading, self.consumer_rows()));
        let heading = ["partition>", "records>", "tickers", "processed in turn by"];
        let _ = writeln!(text, "{}\n", output::table(&heading, self.partition_rows()));
        let heading = ["ticker", "updates>", "first>", "last>", "change>", "partition>"];
        let _ = writeln!(text, "{}\n", output::table(&heading, self.ticker_rows()));
        for (good, what) in self.verdicts() {
            let mark = if good { style.good("✓") } else { style.bad("✗") };
            let _ = writeln!(text, "{mark} {what}");
        }
        for problem in self.checks.problems.iter().take(10) {
            let _ = writeln!(text, "    {problem}");
        }
        text + &self.suggestions(style)
    }

    fn verdicts(&self) -> [(bool, String); 5] {
        let (checks, count) = (&self.checks, output::count(UPDATES as u64));
        let dead = LIVES[MORTAL].consumer;
        let took = self.played.takeover.map_or_else(|| "never".to_owned(), output::duration);
        [
            (
                checks.complete,
                format!("complete: each of the {count} updates was processed by exactly one consumer of {PRICES}, once, byte for byte"),
            ),
            (
                checks.in_order,
                "in order: each ticker is in one partition, its updates processed in the order of sending, across all hand-overs".to_owned(),
            ),
            (
                checks.handed_over,
                format!(
                    "handed over: {} of {dead} had a new reader {took} after its last sign of life (session time-out {}), and it got a share when it was back",
                    list(&self.played.orphans),
                    output::duration(SESSION_TIMEOUT)
                ),
            ),
            (checks.independent, format!("independent: {ANALYTICS} read each of the {count} updates too, at its own pace")),
            (checks.committed, "committed: both groups have committed all there is; lag 0".to_owned()),
        ]
    }

    fn consumer_rows(&self) -> Vec<Vec<String>> {
        let rows = LIVES.iter().zip(&self.played.processed).map(|(life, seen)| {
            let mut row = vec![
                life.group.to_owned(),
                life.consumer.to_owned(),
                life.which.to_owned(),
                output::count(seen.len() as u64),
            ];
            row.extend((0..PARTITIONS).map(|partition| {
                let count = seen.iter().filter(|record| record.partition == partition).count();
                if count == 0 { "-".to_owned() } else { output::count(count as u64) }
            }));
            row
        });
        let mut rows: Vec<_> = rows.collect();
        // The group that the play is about first.
        rows.sort_by(|a, b| b[0].cmp(&a[0]).then(a[1].cmp(&b[1])));
        rows
    }

    fn stretches(&self, partition: u32) -> &[Stretch] {
        self.checks.stretches.get(&partition).map_or(&[], Vec::as_slice)
    }

    fn partition_rows(&self) -> Vec<Vec<String>> {
        let row = |partition: &PartitionDescription| {
            let turn = |stretch: &Stretch| {
                let Stretch { life, from, end } = stretch;
                format!("{} {from} to {}", LIVES[*life].consumer, end - 1)
            };
            let turns: Vec<_> = self.stretches(partition.partition).iter().map(turn).collect();
            vec![
                partition.partition.to_string(),
                output::count(partition.end_offset - partition.log_start_offset),
                self.checks.tickers_of(partition.partition).join(" "),
                turns.join("\n"),
            ]
        };
        self.topic.partitions.iter().map(row).collect()
    }

    fn ticker_rows(&self) -> Vec<Vec<String>> {
        let row = |(name, ticker): (&&str, &Ticker)| {
            let change = (ticker.last as f64 / ticker.first.max(1) as f64 - 1.0) * 100.0;
            vec![
                (*name).to_owned(),
                output::count(ticker.updates),
                dollars(ticker.first),
                dollars(ticker.last),
                format!("{change:+.2}%"),
                ticker.partition.to_string(),
            ]
        };
        self.checks.tickers.iter().map(row).collect()
    }

    pub(super) fn json(&self) -> Value {
        let (played, checks) = (&self.played, &self.checks);
        let partitions = self.topic.partitions.iter().map(|partition| {
            let turns = self.stretches(partition.partition).iter().map(|stretch| {
                json!({ "consumer": LIVES[stretch.life].consumer, "first_offset": stretch.from, "last_offset": stretch.end - 1 })
            });
            json!({
                "partition": partition.partition,
                "records": partition.end_offset - partition.log_start_offset,
                "tickers": checks.tickers_of(partition.partition),
                "first_offset": partition.log_start_offset,
                "last_offset": partition.end_offset.checked_sub(1),
                "bytes": partition.bytes,
                "read_by": turns.collect::<Value>(),
            })
        });
        let tickers = checks.tickers.iter().map(|(name, ticker)| {
            json!({
                "ticker": name, "updates": ticker.updates, "first_price": dollars(ticker.first),
                "last_price": dollars(ticker.last), "partition": ticker.partition,
            })
        });
        let consumers = LIVES.iter().zip(&played.processed).map(|(Life { group, consumer, which, .. }, seen)| {
            json!({ "group": group, "consumer": consumer, "which": which, "records": seen.len() })
        });
        let events = played.events.iter().map(|(seconds, what)| json!({ "seconds": seconds, "what": what }));
        json!({
            "directory": self.directory.path().display().to_string(),
            "topic": TOPIC,
            "made_again": self.made_again,
            "seed": self.seed,
            "updates": UPDATES,
            "seconds": played.seconds,
            "session_timeout_seconds": SESSION_TIMEOUT.as_secs_f64(),
            "takeover_seconds": played.takeover.map(|time: Duration| time.as_secs_f64()),
            "events": events.collect::<Value>(),
            "consumers": consumers.collect::<Value>(),
            "partitions": partitions.collect::<Value>(),
            "tickers": tickers.collect::<Value>(),
            "complete": checks.complete,
            "in_order": checks.in_order,
            "handed_over": checks.handed_over,
            "independent": checks.independent,
            "committed": checks.committed,
            "problems": checks.problems,
        })
    }

    /// Commands to go on with.
    fn suggestions(&self, style: Style) -> String {
        let segment = self.directory.path().join("topics").join(TOPIC).join("0/00000000000000000000.log");
        let commands = [
            (format!("group describe {PRICES}"), "how far the group is in each partition"),
            (format!("group reset {PRICES} --topic {TOPIC} --to 100 --dry-run"), "what setting it back would do"),
            (format!("consume {TOPIC} --group mine --max 5"), "as a group of your own: run it twice, it goes on"),
            (format!("topic describe {TOPIC}"), "its settings, and how far each partition is"),
            (
                format!("consume {TOPIC} --partition 0 --from -3 --json"),
                "the last 3 prices, with offsets, keys and headers",
            ),
            ("verify".to_owned(), "every checksum of the directory"),
            (format!("dump {}", shell_word(&segment.display().to_string())), "what stands in a segment file"),
        ];
        let mut text = "\nThe data stays. Look at it:\n".to_owned();
        for (command, what) in commands {
            let _ = writeln!(text, "  {}\n      {}", self.directory.command(&command), style.faint(what));
        }
        text
    }
}
