//! `group describe`: who reads what, how far the group is, what holds it back.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use thalweg::{GroupDescription, GroupOffset, MemberDescription, inspect};

use super::{age, lag};
use crate::directory::Directory;
use crate::failure::Failure;
use crate::output::{self, Style};

pub(super) fn run(directory: &Directory, json: bool, name: &str) -> Result<(), Failure> {
    let engine = directory.open_to_read()?;
    let group = engine.describe_group(name).map_err(|error| directory.explain(&engine, error))?;
    if json { output::print_json(&document(&group)) } else { output::print(&text(directory, &group)) }
}

fn text(directory: &Directory, group: &GroupDescription) -> String {
    let style = Style::of_stdout();
    let mut text = format!("{}  {}, generation {}", style.bold(&group.name), group.state, group.generation);
    if !group.assignor.is_empty() {
        let _ = write!(text, ", assignor {}", group.assignor);
    }
    if let Some(since) = group.empty_since_ms.filter(|_| group.members.is_empty()) {
        let _ = write!(text, ", without members since {}", output::date(since));
    }
    text.push('\n');
    if let Some(ms) = group.as_of_ms {
        let holder = inspect::live_writer(directory.path()).map_or_else(String::new, |holder| format!(" ({holder})"));
        let _ = writeln!(text, "as another process{holder} stored it {} ago", age(ms));
    }
    if !group.members.is_empty() {
        let rows = group.members.iter().map(|member| {
            let instance = member.instance_id.clone().unwrap_or_else(|| "-".to_owned());
            vec![member.id.clone(), instance, reads(member)]
        });
        let _ = writeln!(text, "\n{}", output::table(&["member", "instance", "reads"], rows));
    }
    if !group.offsets.is_empty() {
        let heading = ["topic", "partition>", "committed>", "log start>", "end>", "lag>", "member", ""];
        let rows = group.offsets.iter().map(row);
        let _ = writeln!(text, "\n{}", output::table(&heading, rows));
        let _ = writeln!(text, "lag {}", output::count(lag(group)));
    }
    if group.offsets.iter().any(|row| row.waits_for.is_some()) {
        text.push_str(
            "Partitions that wait got their records after the topic got more partitions. The group reads them when it\n\
             has committed what the old partitions held then, so that records with equal keys stay in order.\n",
        );
    }
    if group.offsets.iter().any(|row| row.in_doubt) {
        let verify = directory.command("verify");
        let _ = writeln!(
            text,
            "{} the offset log is damaged, and newer commits may be lost there; `{verify}` shows where",
            style.bad("in doubt:")
        );
    }
    text
}

/// What a member reads: `orders 0 1, trades 2`; what it waits for.
fn reads(member: &MemberDescription) -> String {
    if member.is_idle() {
        return "nothing: idle, there are more members than partitions".to_owned();
    }
    let mut text = by_topic(&member.partitions);
    if !member.awaited.is_empty() {
        let separator = if text.is_empty() { "" } else { "; " };
        let _ = write!(text, "{separator}will get {}", by_topic(&member.awaited));
    }
    text
}

fn by_topic(partitions: &[(String, u32)]) -> String {
    let mut text = String::new();
    let mut before = None;
    for (topic, partition) in partitions {
        if before != Some(topic) {
            let separator = if before.is_some() { ", " } else { "" };
            let _ = write!(text, "{separator}{topic}");
            before = Some(topic);
        }
        let _ = write!(text, " {partition}");
    }
    text
}

fn row(row: &GroupOffset) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some((partition, until, reached)) = row.waits_for {
        notes.push(format!("waits for partition {partition} to be committed up to {until}, is at {reached}"));
    }
    if let (Some(committed), Some(goes_on_at)) = (row.committed, row.goes_on_at) {
        let before = committed.saturating_sub(1);
        notes.push(format!("record {before} was lost: the group goes on at {goes_on_at}"));
    }
    if let Some(offset) = row.starts_at.filter(|&offset| offset > row.log_start_offset) {
        notes.push(format!("begins at {offset}"));
    }
    if row.in_doubt {
        notes.push("in doubt".to_owned());
    }
    vec![
        row.topic.clone(),
        row.partition.to_string(),
        row.committed.map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
        row.log_start_offset.to_string(),
        row.end_offset.to_string(),
        output::count(row.lag()),
        row.member.clone().unwrap_or_else(|| "-".to_owned()),
        notes.join("; "),
    ]
}

fn document(group: &GroupDescription) -> Value {
    let members = group.members.iter().map(|member| {
        json!({
            "id": member.id, "instance_id": member.instance_id, "idle": member.is_idle(),
            "partitions": member.partitions, "awaited": member.awaited,
        })
    });
    json!({
        "name": group.name,
        "state": group.state.to_string(),
        "generation": group.generation,
        "assignor": group.assignor,
        "as_of_ms": group.as_of_ms,
        "empty_since_ms": group.empty_since_ms,
        "lag": lag(group),
        "members": members.collect::<Value>(),
        "offsets": group.offsets.iter().map(offset_json).collect::<Value>(),
    })
}

fn offset_json(row: &GroupOffset) -> Value {
    let waits_for = row.waits_for.map(|(partition, until, reached)| {
        json!({ "partition": partition, "until_offset": until, "reached_offset": reached })
    });
    let mut document = json!({
        "topic": row.topic, "partition": row.partition,
        "committed": row.committed, "starts_at": row.starts_at, "metadata": null, "committed_ms": row.committed_ms,
        "log_start_offset": row.log_start_offset, "end_offset": row.end_offset, "lag": row.lag(),
        "member": row.member, "waits_for": waits_for, "in_doubt": row.in_doubt,
        "goes_on_at": row.goes_on_at,
    });
    if row.committed.is_some() {
        // As in records: what isn't UTF-8 is base64, and named.
        document["metadata"] = match std::str::from_utf8(&row.metadata) {
            Ok(text) => json!(text),
            Err(_) => {
                document["base64"] = json!(["metadata"]);
                json!(STANDARD.encode(&row.metadata))
            }
        };
    }
    document
}
