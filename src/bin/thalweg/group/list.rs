//! `group list`: every group that has members or committed offsets.

use serde_json::json;
use thalweg::ErrorKind;

use super::{age, lag};
use crate::directory::Directory;
use crate::failure::Failure;
use crate::output;

pub(super) fn run(directory: &Directory, json: bool) -> Result<(), Failure> {
    let engine = directory.open_to_read()?;
    let mut groups = Vec::new();
    for name in engine.groups()? {
        match engine.describe_group(&name) {
            Ok(group) => groups.push(group),
            // Deleted by the writing process since.
            Err(error) if matches!(error.kind(), ErrorKind::UnknownGroup { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if json {
        let rows = groups.iter().map(|group| {
            json!({
                "name": group.name, "state": group.state.to_string(), "generation": group.generation,
                "members": group.members.len(), "partitions": group.offsets.len(), "lag": lag(group),
                "as_of_ms": group.as_of_ms,
            })
        });
        return output::print_json(&rows.collect());
    }
    if groups.is_empty() {
        let make = directory.command("consume TOPIC --group NAME");
        return output::print(&format!("no groups in {}; `{make}` makes one\n", directory.path().display()));
    }
    let rows = groups.iter().map(|group| {
        vec![
            group.name.clone(),
            group.state.to_string(),
            group.generation.to_string(),
            output::count(group.members.len() as u64),
            output::count(group.offsets.len() as u64),
            output::count(lag(group)),
            group.as_of_ms.map_or_else(|| "now".to_owned(), |ms| format!("{} ago", age(ms))),
        ]
    });
    let heading = ["group", "state", "generation>", "members>", "partitions>", "lag>", "as of>"];
    output::print(&format!("{}\n", output::table(&heading, rows)))
}
