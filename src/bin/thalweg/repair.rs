//! `repair`: makes a damaged data directory whole again; `--dry-run` only shows how.

use std::fmt::Write;

use serde_json::{Value, json};
use thalweg::inspect::{self, Damage, DoubtfulGroup, Loss, Repair, RepairAction, RepairStep};

use crate::args::RepairArgs;
use crate::directory::Directory;
use crate::failure::Failure;
use crate::output::{self, Style};
use crate::progress::Progress;

pub(crate) fn run(directory: &Directory, json: bool, args: &RepairArgs) -> Result<(), Failure> {
    let progress = Progress::of_files();
    let outcome =
        inspect::repair(directory.path(), args.dry_run, &mut |at| progress.is_at(at.bytes_done, at.bytes_total));
    progress.done();
    let repair = directory.checked(outcome)?;
    if json {
        output::print_json(&document(&repair, args.dry_run))?;
    } else {
        output::print(&text(&repair, args.dry_run))?;
    }
    if repair.impossible.is_empty() {
        return Ok(());
    }
    let places = output::counted(repair.impossible.len() as u64, "place");
    Err(Failure::new(format!("damage in {places} can't be repaired"))
        .next("restore those files from a copy, or move them away"))
}

fn text(repair: &Repair, dry_run: bool) -> String {
    let style = Style::of_stdout();
    let mut text = String::new();
    if repair.is_nothing() {
        let _ = writeln!(text, "{} nothing to repair", style.good("sound:"));
        return text;
    }
    text.push_str(&plan(repair, style, if dry_run { "would" } else { "done:" }));
    let steps = output::counted(repair.steps.len() as u64, "step");
    let _ = match (dry_run, repair.impossible.is_empty()) {
        (true, _) => writeln!(text, "{steps} to do; nothing was changed"),
        (false, true) => {
            writeln!(text, "{} {steps} done; what was replaced stands under set-aside/", style.good("repaired:"))
        }
        (false, false) => writeln!(text, "{} {steps} done", style.bad("repaired in part:")),
    };
    text
}

/// What is done, or would be, and what is lost: a line each.
pub(crate) fn plan(repair: &Repair, style: Style, verb: &str) -> String {
    let mut text = String::new();
    for step in &repair.steps {
        let _ = writeln!(text, "{verb} {step}");
    }
    for loss in &repair.lost {
        let _ = writeln!(text, "{} {loss}", style.bad("lost:"));
    }
    for doubt in &repair.in_doubt {
        let _ = writeln!(text, "{} {}", style.bad("in doubt:"), doubtful(doubt));
    }
    if repair.group_names_lost {
        let _ = writeln!(text, "{} groups whose names are lost", style.bad("in doubt:"));
    }
    for note in &repair.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for damage in &repair.impossible {
        let _ = writeln!(text, "{} {damage}", style.bad("can't be repaired:"));
    }
    text
}

fn doubtful(doubt: &DoubtfulGroup) -> String {
    let places: Vec<_> =
        doubt.partitions.iter().map(|(topic, partition)| format!("{topic} partition {partition}")).collect();
    let of = if places.is_empty() { String::new() } else { format!(" of {}", places.join(", ")) };
    format!("group {}: a newer commit{of} may be lost", doubt.group)
}

fn document(repair: &Repair, dry_run: bool) -> Value {
    let mut document = json!({
        "repaired": !dry_run && repair.impossible.is_empty(),
        "dry_run": dry_run,
    });
    if let (Value::Object(document), Value::Object(plan)) = (&mut document, plan_document(repair)) {
        document.extend(plan);
    }
    document
}

/// The plan as JSON.
pub(crate) fn plan_document(repair: &Repair) -> Value {
    json!({
        "steps": repair.steps.iter().map(step).collect::<Value>(),
        "lost": repair.lost.iter().map(loss).collect::<Value>(),
        "in_doubt": repair.in_doubt.iter().map(doubt).collect::<Value>(),
        "group_names_lost": repair.group_names_lost,
        "notes": repair.notes,
        "impossible": repair.impossible.iter().map(impossible).collect::<Value>(),
    })
}

fn step(step: &RepairStep) -> Value {
    let action = match &step.action {
        RepairAction::Rewrite { .. } => "rewrite",
        RepairAction::Fill { .. } => "fill",
        RepairAction::SetAside => "set_aside",
        RepairAction::RebuildCatalog { .. } => "rebuild_catalog",
        RepairAction::RebuildOffsets { .. } => "rebuild_offsets",
        _ => "other",
    };
    let mut value = json!({
        "action": action,
        "path": step.path.display().to_string(),
        "topic": step.topic,
        "partition": step.partition,
        "reason": step.reason,
    });
    match &step.action {
        RepairAction::Rewrite { offsets, batches, records } => {
            value["first_offset"] = json!(offsets.start);
            value["end_offset"] = json!(offsets.end);
            value["batches"] = json!(batches);
            value["records"] = json!(records);
        }
        RepairAction::Fill { offsets } => {
            value["first_offset"] = json!(offsets.start);
            value["end_offset"] = json!(offsets.end);
        }
        RepairAction::RebuildCatalog { topics, epoch } => {
            value["topics"] = json!(topics);
            value["epoch"] = json!(epoch);
        }
        RepairAction::RebuildOffsets { groups, commits } => {
            value["groups"] = json!(groups);
            value["commits"] = json!(commits);
        }
        _ => {}
    }
    value
}

fn loss(loss: &Loss) -> Value {
    json!({
        "topic": loss.topic,
        "partition": loss.partition,
        "first_offset": loss.offsets.start,
        "end_offset": loss.offsets.end,
    })
}

fn doubt(doubt: &DoubtfulGroup) -> Value {
    let partitions = doubt.partitions.iter().map(|(topic, partition)| json!([topic, partition]));
    json!({ "group": doubt.group, "partitions": partitions.collect::<Value>() })
}

fn impossible(damage: &Damage) -> Value {
    json!({
        "path": damage.path.display().to_string(),
        "position": damage.position,
        "topic": damage.topic,
        "partition": damage.partition,
        "reason": damage.reason,
    })
}
