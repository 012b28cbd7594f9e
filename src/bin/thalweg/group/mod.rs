//! `group list`, `describe`, `reset`, `delete` and `copy`; `plan` stands apart.
//!
//! What only looks works beside a process that has the directory open, and then shows its groups as
//! it stored them last. What changes something says who has it open, and who the members are.

mod describe;
mod list;
mod reset;

use serde_json::json;
use thalweg::{Engine, GroupDescription, inspect};

use crate::args::GroupCommand;
use crate::directory::{self, Directory};
use crate::failure::Failure;
use crate::group_plan;
use crate::output;

pub(crate) fn run(directory: &Directory, json: bool, command: GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::List => list::run(directory, json),
        GroupCommand::Describe { group } => describe::run(directory, json, &group),
        GroupCommand::Reset(args) => reset::run(directory, json, &args),
        GroupCommand::Delete { group } => delete(directory, json, &group),
        GroupCommand::Plan(args) => group_plan::run(&args),
        GroupCommand::Copy { from, to } => copy(directory, json, &from, &to),
    }
}

fn delete(directory: &Directory, json: bool, group: &str) -> Result<(), Failure> {
    let engine = open_to_change(directory, group)?;
    let described = engine.describe_group(group).map_err(|error| directory.explain(&engine, error))?;
    engine.delete_group(group)?;
    directory::close(&engine)?;
    let offsets = described.offsets.iter().filter(|row| row.committed.is_some()).count();
    if json {
        return output::print_json(&json!({ "name": group, "partitions": offsets }));
    }
    let offsets = output::counted(offsets as u64, "committed offset");
    output::print(&format!("deleted group {group} with {offsets}\n"))
}

fn copy(directory: &Directory, json: bool, from: &str, to: &str) -> Result<(), Failure> {
    let engine = open_to_change(directory, to)?;
    let copied = engine.copy_group(from, to).map_err(|error| directory.explain(&engine, error))?;
    directory::close(&engine)?;
    if json {
        return output::print_json(&json!({ "from": from, "to": to, "partitions": copied }));
    }
    let offsets = output::counted(copied as u64, "committed offset");
    output::print(&format!("group {to} has {offsets} of group {from}, and goes on where that one is\n"))
}

/// Opens the directory to change a group. If another process has it open, says who, and which
/// members the group has there.
fn open_to_change(directory: &Directory, group: &str) -> Result<Engine, Failure> {
    directory.open_to_write().map_err(|failure| {
        if inspect::live_writer(directory.path()).is_none() {
            return failure;
        }
        let looking = directory.open_to_read().ok();
        let described = looking.and_then(|engine| engine.describe_group(group).ok());
        match described.filter(|described| !described.members.is_empty()) {
            Some(described) => failure.and(format!("group {group:?} is alive there: {}", member_ids(&described))),
            None => failure,
        }
    })
}

/// The members by name, at most so many that they fit on a line.
fn member_ids(group: &GroupDescription) -> String {
    const SHOWN: usize = 5;
    let ids: Vec<_> = group.members.iter().take(SHOWN).map(|member| &*member.id).collect();
    match group.members.len().checked_sub(SHOWN) {
        None | Some(0) => ids.join(", "),
        Some(more) => format!("{} and {more} more", ids.join(", ")),
    }
}

/// Records that are kept and that the group hasn't committed, in all partitions.
fn lag(group: &GroupDescription) -> u64 {
    group.offsets.iter().map(thalweg::GroupOffset::lag).sum()
}

/// How long ago a group's state was stored, by our clock.
fn age(as_of_ms: i64) -> String {
    let now_ms = thalweg::Clock::wall_ms(&thalweg::SystemClock);
    let ms = u64::try_from(now_ms.saturating_sub(as_of_ms)).unwrap_or(0);
    output::duration(std::time::Duration::from_millis(ms))
}
