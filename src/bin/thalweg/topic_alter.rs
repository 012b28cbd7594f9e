//! `topic alter`: more partitions or other settings for a topic.
//!
//! What more partitions mean is said before anything is done: keys move, and groups get nothing new
//! before they have committed what is there. Anything else is said when it is done. Which groups that are is known from their commits.

use std::fmt::Write;

use serde_json::{Value, json};
use thalweg::{Engine, ErrorKind, TopicConfig, TopicDescription};

use crate::args::AlterArgs;
use crate::directory::{self, Directory};
use crate::failure::Failure;
use crate::output::{self, Style};
use crate::topic::{config_json, settings};

pub(crate) fn run(directory: &Directory, json: bool, args: &AlterArgs) -> Result<(), Failure> {
    let engine = directory.open_to_write()?;
    let topic = engine.describe_topic(&args.name).map_err(|error| directory.explain(&engine, error))?;
    let mut config = topic.config.clone();
    if let Some(partitions) = args.partitions {
        config.partitions = partitions;
    }
    for (key, value) in &args.config {
        config.set(key, value)?;
    }
    let plan = Plan { changed: changed(&topic.config, &config), groups: groups_of(&engine, &topic)?, topic, config };
    let first = plan.is_expansion() && !json;
    if first {
        plan.config.check()?;
        output::print(&plan.text(directory))?;
    }
    engine.alter_topic(&args.name, plan.config.clone())?;
    directory::close(&engine)?;
    match (json, first) {
        (true, _) => output::print_json(&plan.document()),
        (false, true) => output::print(&plan.done()),
        (false, false) => output::print(&(plan.text(directory) + &plan.done())),
    }
}

/// What will be done.
struct Plan {
    topic: TopicDescription,
    config: TopicConfig,
    /// Settings with their value before and after.
    changed: Vec<(&'static str, String, String)>,
    groups: Vec<Behind>,
}

/// A group that reads the topic.
struct Behind {
    name: String,
    /// Of each partition in which it hasn't committed everything: its number, the end, and where the
    /// group is.
    partitions: Vec<(u32, u64, u64)>,
}

impl Behind {
    fn records(&self) -> u64 {
        self.partitions.iter().map(|(_, end, at)| end - at).sum()
    }
}

fn changed(before: &TopicConfig, after: &TopicConfig) -> Vec<(&'static str, String, String)> {
    let both = settings(before).zip(settings(after));
    both.filter(|(before, after)| before != after).map(|((key, before), (_, after))| (key, before, after)).collect()
}

/// The groups with commits in this topic.
fn groups_of(engine: &Engine, topic: &TopicDescription) -> Result<Vec<Behind>, Failure> {
    let mut groups = Vec::new();
    for name in engine.groups()? {
        let described = match engine.describe_group(&name) {
            Err(error) if matches!(error.kind(), ErrorKind::UnknownGroup { .. }) => continue,
            described => described?,
        };
        let committed: Vec<_> = described.offsets.iter().filter(|row| row.topic == topic.name).collect();
        if committed.is_empty() {
            continue;
        }
        let behind = topic.partitions.iter().filter_map(|partition| {
            let row = committed.iter().find(|row| row.partition == partition.partition);
            let at = row.and_then(|row| row.committed).unwrap_or(0).max(partition.log_start_offset);
            (at < partition.end_offset).then_some((partition.partition, partition.end_offset, at))
        });
        groups.push(Behind { name, partitions: behind.collect() });
    }
    Ok(groups)
}

impl Plan {
    fn before(&self) -> u32 {
        self.topic.config.partitions
    }

    fn is_expansion(&self) -> bool {
        self.config.partitions > self.before()
    }

    fn text(&self, directory: &Directory) -> String {
        let style = Style::of_stdout();
        let mut text = format!("{}\n", style.bold(&format!("topic {}", self.topic.name)));
        for (key, before, after) in &self.changed {
            let _ = writeln!(text, "  {key}: {before} -> {after}");
        }
        if !self.is_expansion() {
            if self.changed.is_empty() {
                text.push_str("  nothing to change: all settings have these values already\n");
            }
            return text;
        }
        let (before, after) = (self.before(), self.config.partitions);
        let _ = writeln!(text, "  partitions: {before} -> {after}");
        let _ = writeln!(
            text,
            "\nKeys move: a key's partition is its hash by the number of partitions, so about {}% of the keys go to\n\
             another partition from now on. What is there stays where it is.",
            percent_moving(before, after)
        );
        if !self.config.fence {
            text.push_str(
                "\nfence is false: groups read the new partitions at once. Records with equal keys from before and after\n\
                 may reach them in the wrong order.\n",
            );
            return text;
        }
        text.push_str(
            "\nSo that every group still gets each key's records in order, it gets nothing that is written from now on\n\
             before it has committed, in every old partition, what is there now.\n",
        );
        text.push_str(&self.groups_text());
        let skip = directory.command(&format!("topic alter {} --config fence=false", self.topic.name));
        let _ = writeln!(text, "To let groups read on at once, without that order: `{skip}`.");
        text
    }

    fn groups_text(&self) -> String {
        if self.groups.is_empty() {
            return "No group has committed anything in this topic; one that begins later reads the old partitions first.\n".to_owned();
        }
        let rows = self.groups.iter().map(|group| {
            let places = group.partitions.iter().map(|(partition, end, at)| format!("{partition}: {at} of {end}"));
            let state = if group.partitions.is_empty() { "not held" } else { "held" };
            let places = places.collect::<Vec<_>>().join(", ");
            vec![group.name.clone(), state.to_owned(), output::count(group.records()), places]
        });
        format!("{}\n", output::table(&["group", "", "records behind>", "partition: committed of end"], rows))
    }

    fn done(&self) -> String {
        let name = &self.topic.name;
        if !self.is_expansion() {
            return if self.changed.is_empty() { String::new() } else { format!("\naltered topic {name}\n") };
        }
        let (before, last) = (self.before(), self.config.partitions - 1);
        let added = match last - before {
            0 => format!("partition {before}"),
            1 => format!("partitions {before} and {last}"),
            _ => format!("partitions {before} to {last}"),
        };
        format!("\naltered topic {name}: added {added}\n")
    }

    fn document(&self) -> Value {
        let groups = self.groups.iter().map(|group| {
            let partitions = group.partitions.iter().map(|(partition, until, reached)| {
                json!({ "partition": partition, "until_offset": until, "reached_offset": reached })
            });
            json!({
                "group": group.name,
                "held": self.is_expansion() && self.config.fence && !group.partitions.is_empty(),
                "records_behind": group.records(),
                "waits_for": partitions.collect::<Value>(),
            })
        });
        let changed = self.changed.iter().map(|(key, ..)| *key);
        json!({
            "name": self.topic.name,
            "partitions_before": self.before(),
            "partitions": self.config.partitions,
            "changed": changed.collect::<Value>(),
            "config": config_json(&self.config),
            "groups": groups.collect::<Value>(),
        })
    }
}

/// How many keys in 100 get another partition: a hash keeps its own if it leaves the same by both numbers.
fn percent_moving(before: u32, after: u32) -> u64 {
    let (before, after) = (u64::from(before), u64::from(after));
    let greatest = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let period = before / greatest(before, after) * after;
    100 - 100 * before.min(after) / period
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_move_are_those_counted_one_by_one() {
        for (before, after) in [(1, 2), (3, 5), (3, 6), (4, 6), (6, 20), (7, 8)] {
            let period = u64::from(before * after);
            let staying = (0..period).filter(|hash| hash % u64::from(before) == hash % u64::from(after)).count() as u64;
            assert_eq!(percent_moving(before, after), 100 - 100 * staying / period, "{before} to {after}");
        }
        assert_eq!(percent_moving(100_000, 99_999), 100);
    }
}
