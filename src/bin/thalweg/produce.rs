//! `produce`: the lines of stdin into a topic.
//!
//! Sending never waits for an acknowledgement. As text, all is waited for at the end; with
//! `--json`, a thread of its own waits for each record in turn and prints it. If stdout is closed, reading
//! stops; what was sent is waited for.

use std::io::{self, IsTerminal, Read};
use std::time::Instant;

use thalweg::{Acks, Clock, Engine, ErrorKind, Producer, Receipt, Record, SystemClock, TopicDescription};

use crate::acknowledgements::{Acknowledgements, Receipts};
use crate::args::ProduceArgs;
use crate::directory::{self, Directory};
use crate::failure::Failure;
use crate::lines::{self, Block, Lines, Separator, WatchedStdin};
use crate::output::{self, tell};
use crate::progress::Progress;

pub(crate) fn run(directory: &Directory, json: bool, args: &ProduceArgs) -> Result<(), Failure> {
    let engine = directory.open_to_produce(&args.topic)?;
    let producer = engine.producer_for(&args.topic).map_err(|error| directory.explain(&engine, error))?;
    if let Some(partition) = args.partition {
        engine.partition(&args.topic, partition)?;
    }
    let before = engine.describe_topic(&args.topic)?;
    let acks = args.acks.unwrap_or(before.config.acks);
    let stdin = lines::stdin().map_err(stdin_failed)?;
    if io::stdin().is_terminal() {
        tell(format_args!("each line you type is a record; Ctrl-D ends"));
    }
    let progress = Progress::of_input(&stdin, json);
    let lines = Lines::new(
        WatchedStdin::new(stdin, json),
        usize::try_from(before.config.max_message_bytes).unwrap_or(usize::MAX),
    );
    let begun = Instant::now();
    let mut sender = Sender {
        producer,
        // What waits only at the end asks for the sync only there.
        acks: if json { acks } else { acks.min(Acks::Written) },
        partition: args.partition,
        separator: args.key_separator.as_ref().map(|separator| Separator::new(&separator.0)),
        max_record_bytes: before.config.max_message_bytes,
        records: 0,
        bytes: 0,
    };
    let mut settled = if json {
        let mut acknowledgements = Acknowledgements::start()?;
        let stopped = sender.send_all(lines, &mut acknowledgements, &progress).err();
        let (acknowledged, failure) = acknowledgements.finish();
        Settled { acknowledged, failure: failure.or(stopped) }
    } else {
        let mut latest = Latest(vec![None; before.partitions.len()]);
        let stopped = sender.send_all(lines, &mut latest, &progress).err();
        settle(&engine, &before, acks, stopped)?
    };
    let elapsed = begun.elapsed();
    progress.done();
    let (sent, bytes) = (sender.records, sender.bytes);
    drop(sender);
    if settled.failure.is_none() && !json {
        let (records, size, time) = (output::counted(sent, "record"), output::bytes(bytes), output::duration(elapsed));
        let rates = (output::bytes_rate(bytes, elapsed), output::count_rate(sent, elapsed));
        tell(format_args!("{records}, {size}, {acks} in {time}: {}, {} records/s", rates.0, rates.1));
    }
    let closed = directory::close(&engine).err();
    settled.failure = match settled.failure {
        // An error says more than that nobody reads.
        Some(Failure::StdoutClosed) => closed.or(Some(Failure::StdoutClosed)),
        failure => failure.or(closed),
    };
    settled.into_result(sent)
}

/// How it ended.
struct Settled {
    acknowledged: u64,
    failure: Option<Failure>,
}

impl Settled {
    fn into_result(self, sent: u64) -> Result<(), Failure> {
        let (lost, acknowledged) = (sent.saturating_sub(self.acknowledged), output::count(self.acknowledged));
        match self.failure {
            None => Ok(()),
            Some(Failure::Error { message, next, code, no_room }) => {
                let message = match (lost, sent) {
                    (0, 0) => message,
                    (0, _) => format!("{message}; what was sent before is acknowledged, {acknowledged} in all"),
                    _ => format!(
                        "{} of {} were not acknowledged: {message}",
                        output::count(lost),
                        output::counted(sent, "record")
                    ),
                };
                Err(Failure::Error { message, next, code, no_room })
            }
            Some(other) => Err(other),
        }
    }
}

/// Waits for everything that was sent, and counts from the offsets reached how much of it is there:
/// nobody else writes to these partitions.
fn settle(
    engine: &Engine,
    before: &TopicDescription,
    acks: Acks,
    stopped: Option<Failure>,
) -> Result<Settled, Failure> {
    let waited = if acks == Acks::Synced { engine.sync() } else { engine.flush() };
    let after = engine.describe_topic(&before.name)?;
    let both = before.partitions.iter().zip(&after.partitions);
    let reached = both.map(|(before, after)| {
        let end = if acks == Acks::Synced { after.durable_offset } else { after.end_offset };
        end.saturating_sub(before.end_offset)
    });
    Ok(Settled { acknowledged: reached.sum(), failure: stopped.or(waited.err().map(Failure::from)) })
}

/// Of each partition, the receipt of its latest record: a record that doesn't get the offset behind
/// it shows that it failed.
struct Latest(Vec<Option<Receipt>>);

impl Receipts for Latest {
    #[inline]
    fn take(&mut self, receipt: Receipt) -> Result<(), Failure> {
        let Some(slot) = self.0.get_mut(receipt.partition() as usize) else { return Ok(()) };
        if let Some(before) = slot
            && receipt.offset() != before.offset() + 1
        {
            before.wait()?;
        }
        *slot = Some(receipt);
        Ok(())
    }

    fn pause(&mut self) {}
}

struct Sender<'a> {
    producer: Producer,
    acks: Acks,
    partition: Option<u32>,
    separator: Option<Separator<'a>>,
    max_record_bytes: u64,
    /// Records that were sent.
    records: u64,
    /// Bytes of their lines.
    bytes: u64,
}

impl Sender<'_> {
    fn send_all(
        &mut self,
        mut lines: Lines<impl Read>,
        receipts: &mut impl Receipts,
        progress: &Progress,
    ) -> Result<(), Failure> {
        loop {
            let block = match lines.next_block().map_err(stdin_failed)? {
                Block::Lines(block) => block,
                Block::TooLong => return Err(self.too_long()),
                Block::End => return Ok(()),
            };
            // Once a block is as exact as the clock that the engine asks for each record.
            let now_ms = SystemClock.wall_ms();
            for line in lines::split(block) {
                match self.producer.send(self.record(line).timestamp(now_ms)) {
                    Ok(receipt) => {
                        self.records += 1;
                        receipts.take(receipt)?;
                    }
                    Err(error) => return Err(self.refused(&error)),
                }
            }
            self.bytes += block.len() as u64;
            progress.moved(block.len());
            receipts.pause();
        }
    }

    #[inline]
    fn record<'l>(&self, line: &'l [u8]) -> Record<'l> {
        let (key, value) = match &self.separator {
            Some(separator) => separator.split(line),
            None => (None, line),
        };
        let mut record = Record::new(value).acks(self.acks);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        record
    }

    #[cold]
    fn refused(&self, error: &thalweg::Error) -> Failure {
        let line = self.records + 1;
        let failure = Failure::new(format!("line {line}: {error}"));
        match error.kind() {
            ErrorKind::RecordTooLarge { .. } => failure.next(LARGER_RECORDS),
            _ => failure,
        }
    }

    fn too_long(&self) -> Failure {
        let (line, limit) = (self.records + 1, self.max_record_bytes);
        Failure::new(format!(
            "line {line} is longer than the largest record of this topic (max.message.bytes = {limit})"
        ))
        .next(LARGER_RECORDS)
    }
}

const LARGER_RECORDS: &str = "make the topic with --config max.message.bytes=BYTES, or send shorter lines";

fn stdin_failed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::StdoutClosed;
    }
    Failure::new(format!("could not read stdin: {error}"))
}
