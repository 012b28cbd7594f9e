//! `repair` and its dry run on the real disk: what they say, what they leave, and what stands where
//! a file should.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{Place, Ran, flip_bit};

/// A topic with several segments, each of several batches.
fn several_segments() -> Place {
    let place = Place::new();
    place.run(&["topic", "create", "t", "--partitions", "1", "--config", "segment.bytes=65536"]).succeeded();
    for part in 0..3 {
        let lines: String = (0..40).map(|line| format!("{part} {line} {}\n", "x".repeat(1_000))).collect();
        place.run_with(&["produce", "t"], lines.as_bytes()).succeeded();
    }
    assert!(segments(&place).len() > 2);
    place
}

fn segments(place: &Place) -> Vec<PathBuf> {
    let dir = place.segment("t", 0);
    let mut found: Vec<_> = fs::read_dir(dir.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    found.sort();
    found
}

/// Names, lengths, bytes and times of all that is there.
fn state(dir: &Path) -> Vec<(PathBuf, i64, i64, Vec<u8>)> {
    let mut all = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                dirs.push(path.clone());
            }
            let bytes = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            all.push((path, meta.mtime(), meta.mtime_nsec(), bytes));
        }
    }
    all.sort();
    all
}

fn offsets(place: &Place) -> Vec<u64> {
    place.records("t", 0).iter().map(|record| record["offset"].as_u64().unwrap()).collect()
}

/// Repaired, sound, and nothing is left to do.
fn repaired(place: &Place) -> Ran {
    let ran = place.run(&["repair"]).succeeded();
    place.run(&["verify"]).succeeded();
    let again = place.run(&["repair"]).succeeded();
    assert_eq!(again.text(), "sound: nothing to repair\n");
    ran
}

#[test]
fn a_sound_directory_is_left_as_it_is() {
    let place = several_segments();
    let before = state(&place.path());
    assert_eq!(place.run(&["repair"]).succeeded().text(), "sound: nothing to repair\n");
    let found = place.run(&["repair", "--json"]).succeeded().json();
    assert_eq!((&found["repaired"], &found["steps"], &found["lost"]), (&json!(true), &json!([]), &json!([])));
    place.run(&["repair", "--dry-run"]).succeeded();
    assert!(state(&place.path()) == before, "something changed");
    place.run(&["repair", "--sideways"]).failed(2, &[]);
}

#[test]
fn what_is_lost_is_said_and_the_rest_is_kept() {
    let place = several_segments();
    let all = offsets(&place);
    let damaged = segments(&place)[1].clone();
    flip_bit(&damaged, 30_000);
    let before = state(&place.path());
    let planned = place.run(&["repair", "--dry-run", "--json"]).succeeded().json();
    let shown = place.run(&["verify", "--json"]).failed(1, &["thalweg", "repair"]).json();
    assert_eq!(shown["repair"]["steps"], planned["steps"]);
    assert_eq!(shown["repair"]["lost"], planned["lost"]);
    assert!(state(&place.path()) == before, "a dry run changed something");
    let done = place.run(&["repair", "--json"]).succeeded().json();
    assert_eq!((&done["steps"], &done["lost"]), (&planned["steps"], &planned["lost"]));
    assert_eq!(done["steps"][0]["action"], "rewrite");
    assert_eq!(done["steps"][0]["path"], damaged.to_str().unwrap());
    let lost = &done["lost"][0];
    assert_eq!((&lost["topic"], &lost["partition"]), (&json!("t"), &json!(0)));
    let lost = lost["first_offset"].as_u64().unwrap()..lost["end_offset"].as_u64().unwrap();
    let kept: Vec<u64> = all.iter().copied().filter(|offset| !lost.contains(offset)).collect();
    assert!(!kept.is_empty() && kept.len() < all.len());
    assert_eq!(offsets(&place), kept);
    place.run(&["verify"]).succeeded();
    let aside = damaged.parent().unwrap().join("set-aside");
    assert_eq!(fs::read_dir(aside).unwrap().count(), 1);
    place.run_with(&["produce", "t"], b"on\n").succeeded();
    assert_eq!(offsets(&place).last(), Some(&(all.len() as u64)));
    // From an offset within the gap, reading goes on behind it.
    let from = lost.start.to_string();
    let next = place.run(&["consume", "t", "--from", &from, "--max", "1", "--json"]).succeeded().json_lines();
    assert_eq!(next[0]["offset"].as_u64(), Some(lost.end));
}

#[test]
fn text_says_what_would_be_done_and_what_was() {
    let place = several_segments();
    flip_bit(&segments(&place)[1], 30_000);
    let ran = place.run(&["repair", "--dry-run"]).succeeded();
    assert!(ran.text().starts_with("would rewrite "), "{ran:?}");
    assert!(ran.text().contains("lost: topic t, partition 0, offsets "), "{ran:?}");
    assert!(ran.text().ends_with("1 step to do; nothing was changed\n"), "{ran:?}");
    let ran = place.run(&["verify"]).failed(1, &[]);
    assert!(ran.text().contains("repair would rewrite "), "{ran:?}");
    let ran = repaired(&place);
    assert!(ran.text().starts_with("done: rewrite "), "{ran:?}");
    assert!(ran.text().ends_with("repaired: 1 step done; what was replaced stands under set-aside/\n"), "{ran:?}");
}

#[test]
fn a_damaged_catalogue_and_offset_log_are_rebuilt() {
    let place = several_segments();
    let all = offsets(&place);
    place.run(&["consume", "t", "--group", "g", "--max", "10"]).succeeded();
    let of = |prefix: &str| {
        let names = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path());
        names.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).unwrap()
    };
    fs::remove_file(of("catalog-")).unwrap();
    flip_bit(&of("offsets-"), 4_300);
    place.run(&["topic", "list"]).failed(1, &[]);
    let done = place.run(&["repair", "--json"]).succeeded().json();
    assert_eq!(done["lost"], json!([]));
    assert!(done["notes"].to_string().contains("default settings"), "{done}");
    assert!(done["group_names_lost"] == json!(true) || done["in_doubt"] != json!([]), "{done}");
    place.run(&["verify"]).succeeded();
    assert_eq!(offsets(&place), all);
}

#[test]
fn nothing_but_a_file_is_taken_for_one() {
    for kind in ["pipe", "link", "directory"] {
        let place = several_segments();
        let path = segments(&place)[1].clone();
        let target = place.path().join("elsewhere");
        fs::rename(&path, &target).unwrap();
        match kind {
            "pipe" => assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success()),
            "link" => std::os::unix::fs::symlink(&target, &path).unwrap(),
            _ => {
                fs::create_dir(&path).unwrap();
                fs::write(path.join("kept"), "x").unwrap();
            }
        }
        let before = fs::read(&target).unwrap();
        let ran = repaired(&place);
        assert!(ran.text().contains("lost: "), "{kind}: {ran:?}");
        assert_eq!(fs::read(&target).unwrap(), before, "{kind}");
        let aside = fs::read_dir(path.parent().unwrap().join("set-aside")).unwrap();
        let aside: Vec<_> = aside.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(aside.len(), 1, "{kind}: {aside:?}");
        if kind == "directory" {
            assert!(aside[0].join("kept").is_file());
        }
    }
    // Of the partition's directory, and of the catalogue.
    let place = several_segments();
    let dir = place.segment("t", 0).parent().unwrap().to_owned();
    fs::remove_dir_all(&dir).unwrap();
    fs::write(&dir, "text").unwrap();
    repaired(&place);
    let place = several_segments();
    fs::create_dir(place.path().join("catalog-7")).unwrap();
    let all = offsets_after_repair(&place);
    assert_eq!(all, 120);
}

fn offsets_after_repair(place: &Place) -> usize {
    repaired(place);
    offsets(place).len()
}

#[test]
fn a_directory_in_use_is_refused() {
    let place = several_segments();
    place.run(&["topic", "create", "u", "--partitions", "1"]).succeeded();
    flip_bit(&segments(&place)[1], 30_000);
    let mut writer = place.start(&["produce", "u", "--json"]);
    writer.write(b"one\n");
    writer.line();
    let before = segments(&place);
    place.run(&["repair"]).failed(1, &["open for writing by another process", &format!("pid {}", writer.pid())]);
    place.run(&["repair", "--dry-run"]).failed(1, &["open for writing by another process"]);
    assert_eq!(segments(&place), before);
    writer.kill();
    writer.finish();
    repaired(&place);
}

#[test]
fn what_is_no_data_directory_is_refused() {
    let place = Place::new();
    place.run(&["repair"]).failed(1, &["there is no thalweg data in"]);
    fs::create_dir(place.path()).unwrap();
    fs::write(place.path().join("notes.txt"), "x").unwrap();
    place.run(&["repair"]).failed(1, &[]);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn a_later_version_is_left_alone() {
    let place = several_segments();
    let path = segments(&place)[1].clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..512]);
    bytes[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let before = segments(&place);
    let ran = place.run(&["repair"]).failed(1, &["can't be repaired"]);
    assert!(ran.text().contains("a later version wrote it"), "{ran:?}");
    assert_eq!(segments(&place), before);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
