//! `verify`: every byte of the data directory checked; changes nothing.

use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use thalweg::inspect::{self, Verification};

use crate::directory::Directory;
use crate::failure::Failure;
use crate::output::{self, Style, tell};
use crate::progress::Progress;

/// Exit code if nothing could be checked.
const NOT_CHECKED: u8 = 3;

pub(crate) fn run(directory: &Directory, json: bool) -> Result<(), Failure> {
    let progress = Progress::of_files();
    let begun = Instant::now();
    let found = inspect::verify(directory.path(), &mut |at| progress.is_at(at.bytes_done, at.bytes_total));
    let elapsed = begun.elapsed();
    progress.done();
    let found = directory.checked(found).map_err(|failure| failure.code(NOT_CHECKED))?;
    let printed = if json { output::print_json(&document(&found)) } else { output::print(&text(&found, elapsed)) };
    if !found.is_sound() {
        // Said by the exit code too if nobody reads stdout.
        let places = output::counted(found.damage.len() as u64, "place");
        return Err(Failure::new(format!("damage in {places}")).next(format!(
            "restore those files from a copy, or let `{}` do what is shown; consume still reads what is intact",
            directory.command("repair")
        )));
    }
    printed
}

fn text(found: &Verification, elapsed: Duration) -> String {
    let style = Style::of_stdout();
    let mut text = String::new();
    for damage in &found.damage {
        let _ = writeln!(text, "{} {damage}", style.bad("damaged:"));
    }
    for tail in &found.unfinished {
        let what = if found.live_writer.is_some() { "being written:" } else { "unfinished:" };
        let _ = writeln!(text, "{what} {tail}");
    }
    if !found.ignored.is_empty() {
        tell(format_args!("not looked at, as they are no part of the log:"));
        for path in &found.ignored {
            tell(format_args!("  {}", path.display()));
        }
    }
    if let Some(holder) = &found.live_writer {
        tell(format_args!("open for writing meanwhile: {holder}"));
    }
    if let Some(repair) = &found.repair {
        text.push_str(&crate::repair::plan(repair, style, "repair would"));
    }
    let verdict = if found.is_sound() { style.good("sound:") } else { style.bad("damaged:") };
    let counts = [
        output::counted(found.topics, "topic"),
        output::counted(found.partitions, "partition"),
        output::counted(found.segments, "segment"),
        output::counted(found.records, "record"),
        format!("{} checked in {}", output::bytes(found.bytes), output::duration(elapsed)),
    ];
    let _ = writeln!(text, "{verdict} {}", counts.join(", "));
    text
}

fn document(found: &Verification) -> Value {
    let damage = found.damage.iter().map(|damage| {
        json!({
            "path": damage.path.display().to_string(),
            "position": damage.position,
            "topic": damage.topic,
            "partition": damage.partition,
            "first_offset": damage.offsets.as_ref().map(|offsets| offsets.start),
            "end_offset": damage.offsets.as_ref().map(|offsets| offsets.end),
            "reason": damage.reason,
        })
    });
    let unfinished = found.unfinished.iter().map(|tail| {
        json!({
            "path": tail.path.display().to_string(),
            "position": tail.position,
            "bytes": tail.bytes,
            "topic": tail.topic,
            "partition": tail.partition,
        })
    });
    json!({
        "sound": found.is_sound(),
        "topics": found.topics,
        "partitions": found.partitions,
        "segments": found.segments,
        "batches": found.batches,
        "records": found.records,
        "bytes": found.bytes,
        "damage": damage.collect::<Value>(),
        "unfinished": unfinished.collect::<Value>(),
        "ignored": found.ignored.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "live_writer": found.live_writer,
        "repair": found.repair.as_ref().map(crate::repair::plan_document),
    })
}
