//! `dump`: what stands in one file, damaged or not, in the order of the file.
//!
//! Printed as it is read, so that a large file needs no memory and `| head` ends it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Map, Value, json};
use thalweg::inspect::{
    self, DumpOptions, Dumped, DumpedBatch, DumpedEntry, DumpedFile, DumpedGap, DumpedIndexEntry, DumpedOffset,
    DumpedRecord, FileFields,
};

use crate::args::DumpArgs;
use crate::failure::Failure;
use crate::json_record::JsonRecords;
use crate::output;

/// Bytes of a key or value shown as text.
const SHOWN_BYTES: usize = 160;

pub(crate) fn run(json: bool, args: &DumpArgs) -> Result<(), Failure> {
    args.files.iter().try_for_each(|file| dump(json, file, args.records))
}

fn dump(json: bool, file: &Path, records: bool) -> Result<(), Failure> {
    let segment = file.extension().is_some_and(|extension| extension == "log");
    let options = DumpOptions::default().contents(records || !segment);
    let mut out = output::stdout()?;
    let mut text = Text { heading: None };
    let mut lines = Json { records: JsonRecords::default() };
    let mut result = Ok(());
    let dumped = inspect::dump(file, options, &mut |dumped| {
        let shown = if json { lines.show(&mut out, &dumped) } else { text.print(&mut out, &dumped) };
        match shown {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                result = Err(Failure::stdout(error));
                ControlFlow::Break(())
            }
        }
    });
    // What came before an error is printed before it.
    let flushed = out.flush().map_err(Failure::stdout);
    result.and(flushed).and(dumped.map_err(|error| match error.io_error() {
        Some(cause) if cause.kind() == io::ErrorKind::NotFound => {
            Failure::new(format!("there is no file {}", file.display()))
        }
        _ => error.into(),
    }))
}

/// Lines for people.
struct Text {
    /// The columns that were named last.
    heading: Option<&'static str>,
}

const BATCHES: &str = "    position      length  kind       base offset  records   epoch  durable before  appended";
const INDEX: &str = "          at      offset     position  largest timestamp before";

impl Text {
    /// What a file holds is foreign text: its control characters are escaped.
    fn print(&mut self, out: &mut BufWriter<File>, dumped: &Dumped<'_>) -> io::Result<()> {
        let mut lines = Vec::new();
        self.show(&mut lines, dumped)?;
        out.write_all(thalweg::text::plain(&String::from_utf8_lossy(&lines)).as_bytes())
    }

    fn show(&mut self, out: &mut Vec<u8>, dumped: &Dumped<'_>) -> io::Result<()> {
        match dumped {
            Dumped::File(file) => show_file(out, file),
            Dumped::Batch(batch) => {
                self.columns(out, BATCHES)?;
                show_batch(out, batch)
            }
            Dumped::Record(record) => show_record(out, record),
            Dumped::Entry(entry) => show_entry(out, entry),
            Dumped::Offset(offset) => show_offset(out, offset),
            Dumped::IndexEntry(entry) => {
                self.columns(out, INDEX)?;
                show_index_entry(out, entry)
            }
            Dumped::Gap(gap) if gap.zero => {
                writeln!(out, "{:>12} {:>11}  zeros to the end: {}", gap.position, gap.bytes, gap.reason)
            }
            Dumped::Gap(gap) => {
                writeln!(out, "{:>12} {:>11}  ✗ nothing fits here: {}", gap.position, gap.bytes, gap.reason)
            }
            _ => Ok(()),
        }
    }

    /// Names the columns of the lines that follow, once.
    fn columns(&mut self, out: &mut Vec<u8>, heading: &'static str) -> io::Result<()> {
        if self.heading.replace(heading) == Some(heading) { Ok(()) } else { writeln!(out, "\n{heading}") }
    }
}

fn show_file(out: &mut Vec<u8>, file: &DumpedFile) -> io::Result<()> {
    writeln!(out, "{}, {} bytes", file.path.display(), file.length_bytes)?;
    if let Some(problem) = &file.problem {
        writeln!(out, "  ✗ {problem}")?;
    }
    let Some(fields) = &file.fields else { return Ok(()) };
    let of = match (fields.kind, fields.topic.is_empty()) {
        ("segment" | "index", false) => {
            format!(" of topic {} (id {}), partition {}", fields.topic, fields.topic_id, fields.partition)
        }
        ("segment" | "index", true) => format!(" of topic id {}, partition {}", fields.topic_id, fields.partition),
        _ => String::new(),
    };
    writeln!(out, "  {}{of}, format version {}", fields.kind, fields.version)?;
    writeln!(
        out,
        "  engine {}, file id {}, epoch {}, term {}",
        fields.engine_id, fields.file_id, fields.epoch, fields.term
    )?;
    writeln!(out, "  made {} ({} ms)", output::date(fields.created_ms), fields.created_ms)?;
    writeln!(
        out,
        "  base offset {}, log start offset {}, durable before {}",
        fields.base_offset, fields.log_start_offset, fields.durable_before
    )?;
    if fields.rewrite != 0 {
        writeln!(
            out,
            "  rewritten: {} times, up to offset {}, {} bytes",
            fields.rewrite, fields.rewritten_end_offset, fields.rewritten_length
        )?;
    }
    match &fields.previous {
        None => writeln!(out, "  no file before it"),
        Some(before) => writeln!(
            out,
            "  the file before it: id {}, offsets {} to {} (exclusive), {} bytes that count, last append {}",
            before.file_id,
            before.base_offset,
            before.end_offset,
            before.length,
            output::date(before.appended_ms)
        ),
    }
}

fn show_batch(out: &mut Vec<u8>, batch: &DumpedBatch) -> io::Result<()> {
    write!(
        out,
        "{:>12} {:>11}  {:<9} {:>12} {:>8} {:>7} {:>15}  {}",
        batch.position,
        batch.length,
        batch.kind,
        batch.base_offset,
        batch.record_count,
        batch.epoch,
        batch.durable_before,
        output::date(batch.appended_ms)
    )?;
    if batch.codec != "none" {
        write!(out, "  {}, {} bytes uncompressed", batch.codec, batch.uncompressed_length)?;
    }
    if batch.producer_id != 0 {
        write!(
            out,
            "  producer {} epoch {} sequence {}",
            batch.producer_id, batch.producer_epoch, batch.base_sequence
        )?;
    }
    if batch.term != 0 {
        write!(out, "  term {}", batch.term)?;
    }
    if batch.transactional {
        write!(out, "  transactional")?;
    }
    if let Some(problem) = &batch.problem {
        write!(out, "\n             ✗ {problem}")?;
    }
    writeln!(out)
}

fn show_record(out: &mut Vec<u8>, record: &DumpedRecord<'_>) -> io::Result<()> {
    write!(out, "{:>16}  @{}  {} = {}", record.offset, record.timestamp, shown(record.key), shown(record.value))?;
    for (name, value) in &record.headers {
        write!(out, "  {name}: {}", shown(*value))?;
    }
    writeln!(out)
}

fn show_entry(out: &mut Vec<u8>, entry: &DumpedEntry) -> io::Result<()> {
    write!(out, "             {:<9}", entry.kind)?;
    for (name, value) in &entry.fields {
        write!(out, " {name}={value}")?;
    }
    writeln!(out)
}

fn show_offset(out: &mut Vec<u8>, entry: &DumpedOffset) -> io::Result<()> {
    write!(
        out,
        "             {:<9} group={} topic_id={} partition={} offset={} epoch={} generation={}",
        entry.kind, entry.group, entry.topic_id, entry.partition, entry.offset, entry.epoch, entry.generation
    )?;
    if let Some(committed_ms) = entry.committed_ms {
        write!(out, " committed_ms={committed_ms}")?;
    }
    match &entry.meaning {
        Some(meaning) => write!(out, "  {meaning}")?,
        None if entry.payload.is_empty() => {}
        None => write!(out, " payload={}", shown(Some(&entry.payload)))?,
    }
    writeln!(out, "{}", if entry.more { " more" } else { "" })
}

fn show_index_entry(out: &mut Vec<u8>, entry: &DumpedIndexEntry) -> io::Result<()> {
    match &entry.fields {
        Ok(fields) => {
            let largest = fields
                .max_timestamp_before
                .map_or_else(|| "-".to_owned(), |ms| format!("{} ({ms} ms)", output::date(ms)));
            writeln!(out, "{:>12} {:>11} {:>12}  {largest}", entry.at, fields.offset, fields.position)
        }
        Err(problem) => writeln!(out, "{:>12}  ✗ {problem}", entry.at),
    }
}

/// The beginning of a key or value, quoted; `null` if there is none.
fn shown(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    let (start, cut) = (&bytes[..bytes.len().min(SHOWN_BYTES)], bytes.len() > SHOWN_BYTES);
    let text = match std::str::from_utf8(start) {
        Ok(text) => format!("{text:?}"),
        Err(error) if cut && error.error_len().is_none() => {
            format!("{:?}", String::from_utf8_lossy(&start[..error.valid_up_to()]))
        }
        Err(_) => format!("\"{}\"", start.escape_ascii()),
    };
    if cut { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}

/// One JSON object a line; `type` says what it is.
struct Json {
    records: JsonRecords,
}

impl Json {
    fn show(&mut self, out: &mut BufWriter<File>, dumped: &Dumped<'_>) -> io::Result<()> {
        let line = match dumped {
            Dumped::File(file) => file_json(file),
            Dumped::Batch(batch) => batch_json(batch),
            Dumped::Record(record) => {
                let place =
                    format_args!(r#""type":"record","offset":{},"timestamp":{}"#, record.offset, record.timestamp);
                return self.records.write_fields(out, place, record.key, record.value, record.headers.iter().copied());
            }
            Dumped::Entry(entry) => {
                let fields: Map<_, _> =
                    entry.fields.iter().map(|(name, value)| ((*name).to_owned(), number_or_text(value))).collect();
                json!({ "type": "entry", "kind": entry.kind, "fields": fields })
            }
            Dumped::Offset(entry) => json!({
                "type": "offset", "kind": entry.kind, "group": entry.group, "topic_id": entry.topic_id,
                "partition": entry.partition, "offset": entry.offset, "epoch": entry.epoch,
                "generation": entry.generation, "committed_ms": entry.committed_ms, "more": entry.more,
                "payload": entry.payload, "meaning": entry.meaning,
            }),
            Dumped::IndexEntry(entry) => index_entry_json(entry),
            Dumped::Gap(gap) => gap_json(gap),
            _ => return Ok(()),
        };
        writeln!(out, "{line}")
    }
}

/// Fields come as text; what is a number is printed as one.
fn number_or_text(value: &str) -> Value {
    value.parse::<i64>().map_or_else(|_| value.into(), Value::from)
}

fn file_json(file: &DumpedFile) -> Value {
    json!({
        "type": "file",
        "path": file.path.display().to_string(),
        "bytes": file.length_bytes,
        "problem": file.problem,
        "header": file.fields.as_ref().map(header_json),
    })
}

fn header_json(fields: &FileFields) -> Value {
    let previous = fields.previous.map(|before| {
        json!({
            "file_id": before.file_id, "base_offset": before.base_offset, "end_offset": before.end_offset,
            "length": before.length, "appended_ms": before.appended_ms, "max_timestamp": before.max_timestamp,
        })
    });
    json!({
        "version": fields.version,
        "kind": fields.kind,
        "engine_id": fields.engine_id,
        "topic_id": fields.topic_id,
        "topic": fields.topic,
        "partition": fields.partition,
        "epoch": fields.epoch,
        "file_id": fields.file_id,
        "base_offset": fields.base_offset,
        "created_ms": fields.created_ms,
        "term": fields.term,
        "log_start_offset": fields.log_start_offset,
        "durable_before": fields.durable_before,
        "previous": previous,
        "rewrite": fields.rewrite,
        "rewritten_end_offset": fields.rewritten_end_offset,
        "rewritten_length": fields.rewritten_length,
    })
}

fn batch_json(batch: &DumpedBatch) -> Value {
    json!({
        "type": "batch",
        "position": batch.position,
        "length": batch.length,
        "kind": batch.kind,
        "codec": batch.codec,
        "transactional": batch.transactional,
        "append_time": batch.append_time,
        "base_offset": batch.base_offset,
        "offset_count": batch.offset_count,
        "record_count": batch.record_count,
        "durable_before": batch.durable_before,
        "base_timestamp": batch.base_timestamp,
        "max_timestamp": batch.max_timestamp,
        "appended_ms": batch.appended_ms,
        "producer_id": batch.producer_id,
        "producer_epoch": batch.producer_epoch,
        "base_sequence": batch.base_sequence,
        "term": batch.term,
        "epoch": batch.epoch,
        "uncompressed_length": batch.uncompressed_length,
        "header_crc": batch.header_crc,
        "body_crc": batch.body_crc,
        "problem": batch.problem,
    })
}

fn index_entry_json(entry: &DumpedIndexEntry) -> Value {
    match &entry.fields {
        Ok(fields) => json!({
            "type": "index entry", "at": entry.at, "offset": fields.offset, "position": fields.position,
            "max_timestamp_before": fields.max_timestamp_before, "problem": null,
        }),
        Err(problem) => json!({ "type": "index entry", "at": entry.at, "problem": problem }),
    }
}

fn gap_json(gap: &DumpedGap) -> Value {
    json!({ "type": "gap", "position": gap.position, "bytes": gap.bytes, "zero": gap.zero, "reason": gap.reason })
}
