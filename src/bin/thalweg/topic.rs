//! `topic create`, `list`, `describe` and `delete`; `alter` stands apart.

use std::fmt::Write;

use serde_json::{Map, Value, json};
use thalweg::{ErrorKind, PartitionDescription, TopicConfig, TopicDescription};

use crate::args::TopicCommand;
use crate::directory::{self, Directory};
use crate::failure::Failure;
use crate::output::{self, Style};
use crate::topic_alter;

pub(crate) fn run(directory: &Directory, json: bool, command: TopicCommand) -> Result<(), Failure> {
    match command {
        TopicCommand::Create { name, partitions, config } => create(directory, json, &name, partitions, &config),
        TopicCommand::List => list(directory, json),
        TopicCommand::Describe { name } => describe(directory, json, &name),
        TopicCommand::Alter(args) => topic_alter::run(directory, json, &args),
        TopicCommand::Delete { name } => delete(directory, json, &name),
    }
}

fn create(
    directory: &Directory,
    json: bool,
    name: &str,
    partitions: u32,
    settings: &[(String, String)],
) -> Result<(), Failure> {
    let mut config = TopicConfig::default().partitions(partitions);
    for (key, value) in settings {
        config.set(key, value)?;
    }
    let engine = directory.open_or_make()?;
    engine.create_topic(name, config)?;
    let topic = engine.describe_topic(name)?;
    directory::close(&engine)?;
    if json {
        return output::print_json(&head_json(&topic));
    }
    let partitions = output::counted(partitions.into(), "partition");
    output::print(&format!("made topic {name} with {partitions} in {}\n", directory.path().display()))
}

fn delete(directory: &Directory, json: bool, name: &str) -> Result<(), Failure> {
    let engine = directory.open_to_write()?;
    let topic = engine.describe_topic(name).map_err(|error| directory.explain(&engine, error))?;
    engine.delete_topic(name)?;
    directory::close(&engine)?;
    let (records, bytes) = totals(&topic);
    if json {
        return output::print_json(&json!({ "name": name, "id": topic.id.0, "records": records, "bytes": bytes }));
    }
    let records = output::counted(records, "record");
    output::print(&format!("deleted topic {name} with {records} ({})\n", output::bytes(bytes)))
}

fn list(directory: &Directory, json: bool) -> Result<(), Failure> {
    let engine = directory.open_to_read()?;
    let mut topics = Vec::new();
    for name in engine.topics()? {
        match engine.describe_topic(&name) {
            Ok(topic) => topics.push(topic),
            // Deleted by the writing process since.
            Err(error) if matches!(error.kind(), ErrorKind::UnknownTopic { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if json {
        let rows = topics.iter().map(|topic| {
            let (records, bytes) = totals(topic);
            json!({
                "name": topic.name, "id": topic.id.0, "partitions": topic.partitions.len(),
                "records": records, "bytes": bytes, "created_ms": topic.created_ms,
            })
        });
        return output::print_json(&rows.collect());
    }
    if topics.is_empty() {
        let create = directory.command("topic create NAME --partitions N");
        return output::print(&format!("no topics in {}; make one with `{create}`\n", directory.path().display()));
    }
    let rows = topics.iter().map(|topic| {
        let (records, bytes) = totals(topic);
        vec![
            topic.name.clone(),
            output::count(topic.partitions.len() as u64),
            output::count(records),
            output::bytes(bytes),
            output::date(topic.created_ms),
        ]
    });
    output::print(&format!("{}\n", output::table(&["topic", "partitions>", "records>", "size>", "created"], rows)))
}

fn describe(directory: &Directory, json: bool, name: &str) -> Result<(), Failure> {
    let engine = directory.open_to_read()?;
    let topic = engine.describe_topic(name).map_err(|error| directory.explain(&engine, error))?;
    if json {
        let mut document = head_json(&topic);
        document["partitions"] = topic.partitions.iter().map(partition_json).collect();
        return output::print_json(&document);
    }
    let style = Style::of_stdout();
    let mut text = format!("{}  id {}, made {}\n\n", style.bold(&topic.name), topic.id, output::date(topic.created_ms));
    let settings = settings(&topic.config).map(|(key, value)| {
        let meaning = meaning(key, &value);
        vec![key.to_owned(), value, meaning]
    });
    let _ = writeln!(text, "{}\n", output::table(&["setting", "value>", ""], settings));
    let heading = ["partition>", "log start>", "durable>", "end>", "segments>", "size>", "state"];
    let rows = topic.partitions.iter().map(|partition| {
        vec![
            partition.partition.to_string(),
            partition.log_start_offset.to_string(),
            partition.durable_offset.to_string(),
            partition.end_offset.to_string(),
            output::count(partition.segments as u64),
            output::bytes(partition.bytes),
            state(partition).to_owned(),
        ]
    });
    let _ = writeln!(text, "{}", output::table(&heading, rows));
    for error in topic.partitions.iter().filter_map(|partition| partition.failure.as_ref()) {
        let _ = writeln!(text, "{} {error}", style.bad("✗"));
    }
    output::print(&text)
}

/// What a setting's exact value comes to, where the number doesn't say it.
fn meaning(key: &str, value: &str) -> String {
    match value.parse::<u64>() {
        Ok(number) if key.ends_with("bytes") => output::bytes(number),
        _ if value == "-1" => "no limit".to_owned(),
        _ => String::new(),
    }
}

fn state(partition: &PartitionDescription) -> &'static str {
    match partition.failure.as_ref().map(thalweg::Error::kind) {
        None => "ok",
        Some(ErrorKind::Corrupt { .. } | ErrorKind::NewerFormat { .. } | ErrorKind::Foreign { .. }) => "damaged",
        Some(_) => "failed",
    }
}

fn totals(topic: &TopicDescription) -> (u64, u64) {
    let records = topic.partitions.iter().map(|partition| partition.end_offset - partition.log_start_offset).sum();
    (records, topic.partitions.iter().map(|partition| partition.bytes).sum())
}

/// Each setting's key and value.
pub(crate) fn settings(config: &TopicConfig) -> impl Iterator<Item = (&'static str, String)> {
    TopicConfig::KEYS.into_iter().filter_map(|key| config.get(key).map(|value| (key, value)))
}

/// Name, id and settings; of the partitions, the number.
fn head_json(topic: &TopicDescription) -> Value {
    json!({
        "name": topic.name, "id": topic.id.0, "created_ms": topic.created_ms,
        "config": config_json(&topic.config), "partitions": topic.partitions.len(),
    })
}

/// Numbers as numbers, so that nobody has to read them out of text.
pub(crate) fn config_json(config: &TopicConfig) -> Value {
    let settings = settings(config).map(|(key, value)| {
        let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
        (key.to_owned(), value)
    });
    Value::Object(settings.collect::<Map<_, _>>())
}

fn partition_json(partition: &PartitionDescription) -> Value {
    json!({
        "partition": partition.partition,
        "log_start_offset": partition.log_start_offset,
        "durable_offset": partition.durable_offset,
        "end_offset": partition.end_offset,
        "segments": partition.segments,
        "bytes": partition.bytes,
        "state": state(partition),
        "error": partition.failure.as_ref().map(ToString::to_string),
    })
}
