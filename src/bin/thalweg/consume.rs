//! `consume`: a topic's records to stdout.
//!
//! Reads beside a live writer; as a member of a group ([`consume_group`]) it writes too. Without
//! `--follow` it stops at the end that each partition had when it began.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use thalweg::{Batch, Consumer, Engine, Error, ErrorKind, OnDamage, Partition, TopicId};

use crate::args::{ConsumeArgs, Start};
use crate::consume_damage::Damaged;
use crate::consume_group;
use crate::directory::Directory;
use crate::failure::Failure;
use crate::json_record::JsonRecords;
use crate::output::{self, tell};
use crate::progress::Progress;

/// How often, while nothing comes, it is looked whether the topic still exists.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) fn run(directory: &Directory, json: bool, args: &ConsumeArgs) -> Result<(), Failure> {
    if let Some(group) = &args.group {
        return consume_group::run(directory, json, args, group);
    }
    let engine = directory.open_to_read()?;
    let topic = engine.describe_topic(&args.topic).map_err(|error| directory.explain(&engine, error))?;
    let numbers = match args.partition {
        Some(number) => vec![number],
        None => (0..topic.partitions.len() as u32).collect(),
    };
    let partitions = numbers.into_iter().map(|number| engine.partition(&args.topic, number));
    let partitions = partitions.collect::<Result<Vec<_>, _>>()?;
    let (skip, durable_only) = (args.skip_damaged, topic.config.read_durable);
    let mut damaged = Damaged::default();
    let places = starts(partitions, args.from, durable_only, skip, &mut damaged)?;
    let mut sink = Sink::new(json, args)?;
    let result = if args.follow {
        let all = args.partition.is_none();
        Following { engine: &engine, topic: &topic.name, id: topic.id, all, skip, places }.run(&mut sink, &mut damaged)
    } else {
        read(&places, durable_only, &mut sink, skip, &mut damaged)
    };
    sink.done();
    // What came before an error is printed before it.
    let flushed = sink.flush();
    result.and(flushed).and(damaged.result(&args.topic))
}

/// Where reading begins in each of these partitions. An offset that lies outside of some of them becomes their
/// start or end, which is said; one that lies outside of all is refused, before anything is printed. Where damage
/// hides the beginning, the partition is noted as damaged and begins at its log start.
pub(crate) fn starts(
    partitions: Vec<Partition>,
    from: Start,
    durable_only: bool,
    skip: bool,
    damaged: &mut Damaged,
) -> Result<Vec<(Partition, u64)>, Failure> {
    let (mut places, mut outside) = (Vec::with_capacity(partitions.len()), Vec::new());
    for partition in partitions {
        let mut offset = match start_offset(&partition, from, durable_only, skip) {
            Ok(offset) => offset,
            Err(error) => {
                damaged.note(error)?;
                partition.log_start_offset()
            }
        };
        if let Err(error) = partition.read(offset..) {
            let &ErrorKind::OffsetOutOfRange { start, end, .. } = error.kind() else { return Err(error.into()) };
            offset = offset.clamp(start, end.max(start));
            outside.push((offset, error));
        }
        places.push((partition, offset));
    }
    // A place that was looked up can only have been dropped since then.
    let is_refused = matches!(from, Start::Offset(_)) && outside.len() == places.len();
    for (offset, error) in outside {
        if is_refused {
            return Err(explain_range(error));
        }
        tell(format_args!("{error}; reading begins at {offset} there"));
    }
    Ok(places)
}

/// The offset that reading begins with; it may lie outside of the log.
fn start_offset(partition: &Partition, from: Start, durable_only: bool, skip: bool) -> Result<u64, Error> {
    let end = || end_offset(partition, durable_only);
    Ok(match from {
        Start::Earliest => partition.log_start_offset(),
        Start::Latest => end(),
        Start::Offset(offset) => offset,
        Start::Last(count) => end().saturating_sub(count).max(partition.log_start_offset()),
        Start::Timestamp(ms) => offset_of_time(partition, ms, skip)?.unwrap_or_else(end),
    })
}

/// The end of what may be read now.
fn end_offset(partition: &Partition, durable_only: bool) -> u64 {
    if durable_only { partition.durable_offset() } else { partition.end_offset() }
}

/// The first record that is at least so young; with `skip`, the first of those that are intact.
fn offset_of_time(partition: &Partition, ms: i64, skip: bool) -> Result<Option<u64>, Error> {
    let mut error = match partition.offset_for_timestamp(ms) {
        Err(error) if skip && matches!(error.kind(), ErrorKind::Corrupt { .. }) => error,
        found => return found,
    };
    // All that lies before the damage is older.
    'behind: while let Some(offset) = error.next_intact() {
        tell(format_args!("skipped: {error}"));
        for batch in partition.read(offset..)? {
            match batch {
                Ok(batch) => {
                    if let Some(record) = batch.iter().find(|record| record.timestamp() >= ms) {
                        return Ok(Some(record.offset()));
                    }
                }
                Err(behind) => {
                    error = behind;
                    continue 'behind;
                }
            }
        }
        break;
    }
    Ok(None)
}

/// Partition by partition, up to the end that each has now, or its first damage.
fn read(
    places: &[(Partition, u64)],
    durable_only: bool,
    sink: &mut Sink,
    skip: bool,
    damaged: &mut Damaged,
) -> Result<(), Failure> {
    let ends: Vec<_> = places.iter().map(|(partition, _)| end_offset(partition, durable_only)).collect();
    for ((partition, from), end) in places.iter().zip(ends) {
        let mut next = (!damaged.has(partition.number())).then_some(*from);
        while let Some(offset) = next.take() {
            let failed = match partition.read(offset..) {
                Ok(mut reading) => loop {
                    match reading.next() {
                        Some(Ok(batch)) if batch.offsets().start >= end => break None,
                        Some(Ok(batch)) if sink.write(&batch)?.is_break() => return Ok(()),
                        Some(Ok(_)) => {}
                        Some(Err(error)) => break Some(error),
                        None => break None,
                    }
                },
                Err(error) => Some(error),
            };
            let Some(error) = failed else { break };
            next = match error.kind() {
                ErrorKind::OffsetOutOfRange { .. } => Some(skip_dropped(error)?.1),
                ErrorKind::Corrupt { .. } if skip => {
                    tell(format_args!("skipped: {error}"));
                    error.next_intact()
                }
                _ => {
                    damaged.note(error)?;
                    None
                }
            };
        }
    }
    Ok(())
}

/// After the records that come next were dropped: says so. The partition, and the log start, where reading goes on.
fn skip_dropped(error: Error) -> Result<(u32, u64), Failure> {
    let (&ErrorKind::OffsetOutOfRange { requested, start, .. }, Some(topic), Some(number)) =
        (error.kind(), error.topic(), error.partition())
    else {
        return Err(error.into());
    };
    if requested >= start {
        return Err(explain_range(error));
    }
    let last = start - 1;
    tell(format_args!(
        "skipped: topic {topic} partition {number}: offsets {requested} to {last} were dropped before they were read"
    ));
    Ok((number, start))
}

/// Partitions whose records are printed as they come, until interrupted.
struct Following<'a> {
    engine: &'a Engine,
    topic: &'a str,
    id: TopicId,
    /// Whether those that the topic gets meanwhile are read too.
    all: bool,
    /// Whether damaged records are left out.
    skip: bool,
    places: Vec<(Partition, u64)>,
}

impl Following<'_> {
    fn run(mut self, sink: &mut Sink, damaged: &mut Damaged) -> Result<(), Failure> {
        let mut consumer = self.consumer(damaged)?;
        let mut looked = Instant::now();
        while !sink.is_full() && damaged.len() < self.places.len() {
            let mut polled = consumer.poll(Duration::ZERO);
            if polled.as_ref().is_ok_and(thalweg::Polled::is_empty) {
                sink.flush_unless_closed()?;
                polled = consumer.poll(LOOK_EVERY);
            }
            match polled {
                Ok(polled) => {
                    for batch in &polled {
                        if sink.write(batch)?.is_break() {
                            return Ok(());
                        }
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::UnknownTopic { .. }) => return Err(self.deleted()),
                Err(error) if matches!(error.kind(), ErrorKind::OffsetOutOfRange { .. }) => {
                    let (number, start) = skip_dropped(error)?;
                    consumer.seek(self.topic, number, start)?;
                }
                Err(error) => {
                    let number = damaged.note(error)?;
                    consumer.pause(self.topic, number)?;
                }
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                if self.all && self.add_partitions(&consumer)? {
                    consumer = self.consumer(damaged)?;
                }
            }
        }
        Ok(())
    }

    fn consumer(&self, damaged: &Damaged) -> Result<Consumer, Failure> {
        let numbers = self.places.iter().map(|(partition, _)| (self.topic, partition.number()));
        let mut consumer = self.engine.assign(numbers)?;
        for (partition, from) in &self.places {
            consumer.seek(self.topic, partition.number(), *from)?;
            if damaged.has(partition.number()) {
                consumer.pause(self.topic, partition.number())?;
            }
        }
        if self.skip {
            consumer.on_damage(OnDamage::Skip);
        }
        Ok(consumer)
    }

    fn deleted(&self) -> Failure {
        Failure::new(format!("topic {:?} was deleted while it was read", self.topic))
    }

    /// Adds the partitions that the topic got meanwhile: the old ones go on where they are, and of the new ones everything
    /// came later. Whether there are any. Asks for the next one only: it costs the same with many partitions.
    fn add_partitions(&mut self, consumer: &Consumer) -> Result<bool, Failure> {
        let before = self.places.len();
        loop {
            match self.engine.partition(self.topic, self.places.len() as u32) {
                Ok(partition) => {
                    let from = partition.log_start_offset();
                    self.places.push((partition, from));
                }
                Err(error) => match error.kind() {
                    ErrorKind::UnknownPartition { .. } => break,
                    ErrorKind::UnknownTopic { .. } => return Err(self.deleted()),
                    _ => return Err(error.into()),
                },
            }
        }
        if self.places.len() == before {
            return Ok(false);
        }
        if self.engine.describe_topic(self.topic)?.id != self.id {
            return Err(self.deleted());
        }
        for (partition, from) in &mut self.places[..before] {
            *from = consumer.position(self.topic, partition.number())?;
        }
        Ok(true)
    }
}

fn explain_range(error: Error) -> Failure {
    let out_of_range = matches!(error.kind(), ErrorKind::OffsetOutOfRange { .. });
    let failure = Failure::from(error);
    if out_of_range {
        failure.next("--from earliest, --from -N for the last N records, or an offset in the range")
    } else {
        failure
    }
}

/// Where the records go.
pub(crate) struct Sink {
    stdout: BufWriter<File>,
    json: Option<JsonRecords>,
    /// How many more records are wanted.
    left: u64,
    progress: Progress,
}

impl Sink {
    pub(crate) fn new(json: bool, args: &ConsumeArgs) -> Result<Sink, Failure> {
        Ok(Sink {
            stdout: output::stdout()?,
            json: json.then(JsonRecords::default),
            left: args.max.unwrap_or(u64::MAX),
            progress: Progress::of_output(),
        })
    }

    /// Whether there were enough.
    pub(crate) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Writes a batch's records, as many as are wanted; the offset behind the last one written.
    pub(crate) fn write_up_to(&mut self, batch: &Batch) -> Result<u64, Failure> {
        let mut next = batch.offsets().end;
        for record in batch {
            if self.left == 0 {
                next = record.offset();
                break;
            }
            self.left -= 1;
            let stdout = &mut self.stdout;
            match &mut self.json {
                Some(json) => json.write(stdout, batch.partition(), &record),
                None => stdout.write_all(record.value().unwrap_or_default()).and_then(|()| stdout.write_all(b"\n")),
            }
            .map_err(Failure::stdout)?;
        }
        self.progress.moved(batch.stored_bytes() as usize);
        Ok(next)
    }

    /// The same; breaks when there were enough.
    fn write(&mut self, batch: &Batch) -> Result<ControlFlow<()>, Failure> {
        self.write_up_to(batch)?;
        Ok(if self.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Bytes that the next flush writes.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.stdout.buffer().len()
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(Failure::stdout)
    }

    /// Flushes before a wait; fails if stdout was closed, which a flush of nothing would not find out.
    pub(crate) fn flush_unless_closed(&mut self) -> Result<(), Failure> {
        self.flush()?;
        if output::is_closed() { Err(Failure::StdoutClosed) } else { Ok(()) }
    }

    /// Takes the progress bar off the screen.
    pub(crate) fn done(&self) {
        self.progress.done();
    }
}
