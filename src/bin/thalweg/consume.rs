//! `consume`: a topic's records to stdout.
//!
//! Reads beside a live writer; as a member of a group ([`consume_group`]) it writes too. Without
//! `--follow` it stops at the end that each partition had when it began.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use thalweg::{Batch, Engine, ErrorKind, Partition, TopicId};

use crate::args::{ConsumeArgs, Start};
use crate::consume_group;
use crate::directory::Directory;
use crate::failure::Failure;
use crate::json_record::JsonRecords;
use crate::output;
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
    let mut places = Vec::with_capacity(numbers.len());
    for number in numbers {
        let partition = engine.partition(&args.topic, number)?;
        let from = start_offset(&partition, args.from, topic.config.read_durable)?;
        places.push((partition, from));
    }
    let mut sink = Sink::new(json, args)?;
    let result = if args.follow { follow(&engine, topic.id, &places, &mut sink) } else { read(&places, &mut sink) };
    sink.done();
    // What came before an error is printed before it.
    let flushed = sink.flush();
    result.and(flushed)
}

/// The offset that reading begins with. One out of range is for the library to refuse.
pub(crate) fn start_offset(partition: &Partition, from: Start, durable_only: bool) -> Result<u64, Failure> {
    let end = || if durable_only { partition.durable_offset() } else { partition.end_offset() };
    Ok(match from {
        Start::Earliest => partition.log_start_offset(),
        Start::Latest => end(),
        Start::Offset(offset) => offset,
        Start::Last(count) => end().saturating_sub(count).max(partition.log_start_offset()),
        Start::Timestamp(ms) => partition.offset_for_timestamp(ms)?.unwrap_or_else(end),
    })
}

/// Partition by partition, up to the end that each has now.
fn read(places: &[(Partition, u64)], sink: &mut Sink) -> Result<(), Failure> {
    // All starts are checked before anything is printed.
    let readings = places.iter().map(|(partition, from)| partition.read(*from..)).collect::<Result<Vec<_>, _>>();
    for reading in readings.map_err(explain_range)? {
        for batch in reading {
            if sink.write(&batch?)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// All partitions as records come, until interrupted.
fn follow(engine: &Engine, id: TopicId, places: &[(Partition, u64)], sink: &mut Sink) -> Result<(), Failure> {
    let mut consumer = engine.assign(places.iter().map(|(partition, _)| (partition.topic(), partition.number())))?;
    for (partition, from) in places {
        consumer.seek(partition.topic(), partition.number(), *from)?;
    }
    while sink.left > 0 {
        let mut polled = consumer.poll(Duration::ZERO).map_err(explain_range)?;
        if polled.is_empty() {
            sink.flush()?;
            polled = consumer.poll(LOOK_EVERY).map_err(explain_range)?;
        }
        if polled.is_empty() {
            check_topic(engine, id, places)?;
        }
        for batch in &polled {
            if sink.write(batch)?.is_break() {
                break;
            }
        }
    }
    Ok(())
}

/// Fails if the topic was deleted, or made again, while it was read.
fn check_topic(engine: &Engine, id: TopicId, places: &[(Partition, u64)]) -> Result<(), Failure> {
    let Some((partition, _)) = places.first() else { return Ok(()) };
    let name = partition.topic();
    match engine.describe_topic(name) {
        Ok(topic) if topic.id == id => Ok(()),
        Err(error) if !matches!(error.kind(), ErrorKind::UnknownTopic { .. }) => Err(error.into()),
        _ => Err(Failure::new(format!("topic {name:?} was deleted while it was read"))),
    }
}

pub(crate) fn explain_range(error: thalweg::Error) -> Failure {
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

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(Failure::stdout)
    }

    /// Takes the progress bar off the screen.
    pub(crate) fn done(&self) {
        self.progress.done();
    }
}
