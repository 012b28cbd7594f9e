//! `group reset`: committed offsets set to another place, partition by partition.

use serde_json::json;
use thalweg::{Engine, OffsetReset, ResetTo};

use super::{age, member_ids, open_to_change};
use crate::args::ResetArgs;
use crate::directory::{self, Directory};
use crate::failure::Failure;
use crate::output::{self, tell};

pub(super) fn run(directory: &Directory, json: bool, args: &ResetArgs) -> Result<(), Failure> {
    let engine = if args.dry_run { directory.open_to_read()? } else { open_to_change(directory, &args.group)? };
    let resets = engine.reset_group(&args.group, &args.topic, args.to, args.dry_run);
    let resets = resets.map_err(|error| directory.explain(&engine, error))?;
    if args.dry_run {
        tell_of_members(&engine, &args.group);
    }
    directory::close(&engine)?;
    if json {
        let partitions = resets.iter().map(|reset| {
            let moved = is_moved(args.to, reset);
            json!({ "partition": reset.partition, "from": reset.from, "to": reset.to, "clamped": moved })
        });
        return output::print_json(&json!({
            "group": args.group, "topic": args.topic, "dry_run": args.dry_run,
            "partitions": partitions.collect::<serde_json::Value>(),
        }));
    }
    let rows = resets.iter().map(|reset| {
        let note = match (is_moved(args.to, reset), reset.from) {
            (true, _) => "moved to where the log has something",
            (_, Some(from)) if from == reset.to => "as it was",
            _ => "",
        };
        let from = reset.from.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        vec![reset.partition.to_string(), from, reset.to.to_string(), note.to_owned()]
    });
    let done = if args.dry_run { "would go on" } else { "goes on" };
    let table = output::table(&["partition>", "from>", "to>", ""], rows);
    output::print(&format!("{table}\ngroup {} {done} in topic {} from there\n", args.group, args.topic))
}

/// Whether the offset asked for lies outside the log.
fn is_moved(to: ResetTo, reset: &OffsetReset) -> bool {
    matches!(to, ResetTo::Offset(offset) if offset != reset.to)
}

/// Only a group without members can be reset.
fn tell_of_members(engine: &Engine, group: &str) {
    let Ok(described) = engine.describe_group(group) else { return };
    if let (Some(ms), false) = (described.as_of_ms, described.members.is_empty()) {
        let (members, age) = (member_ids(&described), age(ms));
        tell(format_args!("group {group} was alive {age} ago ({members}): the reset is refused until they are gone"));
    }
}
