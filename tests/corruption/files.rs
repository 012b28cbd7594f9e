//! Sectors zeroed and swapped, in one file and between two; files swapped, deleted, doubled, with garbage
//! behind their end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::judge::{Depth, Judge};
use crate::sample::Sample;

const SECTOR_BYTES: usize = 512;

/// Cases from one that is tried to the next, where there are many of a kind; a debug build takes a choice.
const STRIDE: usize = if cfg!(debug_assertions) { 5 } else { 1 };

/// The files with other contents; `None`: deleted.
type Changes = BTreeMap<PathBuf, Option<Vec<u8>>>;

fn judge(judge: &mut Judge, changes: Changes, what: &str) {
    let disk = judge.sample.disk.crash(thalweg::sim::CrashPolicy::Kill);
    for (path, bytes) in changes {
        match bytes {
            Some(bytes) => disk.write_file(&path, bytes).unwrap(),
            None if disk.read_file(&path).is_ok() => disk.remove_file(&path).unwrap(),
            None => {}
        }
    }
    judge.judge(&disk, what, Depth::Write);
}

/// Sectors in which something was ever written.
fn sectors(bytes: &[u8]) -> Vec<usize> {
    let starts = (0..bytes.len()).step_by(SECTOR_BYTES);
    starts.filter(|&at| bytes[at..bytes.len().min(at + SECTOR_BYTES)].iter().any(|&byte| byte != 0)).collect()
}

fn sector(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut sector = bytes[at..bytes.len().min(at + SECTOR_BYTES)].to_vec();
    sector.resize(SECTOR_BYTES, 0);
    sector
}

/// With this sector there, as long as it was.
fn with(bytes: &[u8], at: usize, sector: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let length = SECTOR_BYTES.min(bytes.len() - at);
    bytes[at..at + length].copy_from_slice(&sector[..length]);
    bytes
}

fn samples() -> [Judge; 2] {
    [Judge::new(Sample::closed()), Judge::new(Sample::crashed())]
}

#[test]
fn t8_sectors_zeroed() {
    for mut judge_of in samples() {
        for path in judge_of.sample.files() {
            let bytes = judge_of.sample.read(&path);
            for at in sectors(&bytes) {
                let zeroed = with(&bytes, at, &[0; SECTOR_BYTES]);
                let changes = [(path.clone(), Some(zeroed))].into();
                judge(&mut judge_of, changes, &format!("{}: zeros from {at}", path.display()));
            }
        }
        judge_of.report("sectors zeroed");
    }
}

#[test]
fn t8_sectors_swapped() {
    for mut judge_of in samples() {
        let mut all = Vec::new();
        for path in judge_of.sample.files() {
            let bytes = judge_of.sample.read(&path);
            all.extend(sectors(&bytes).into_iter().map(|at| (path.clone(), at)));
        }
        // Each with the next, and with one far away.
        for (number, (path, at)) in all.iter().enumerate() {
            for step in [1, 5 + number % 11] {
                let Some((other, there)) = all.get(number + step) else { continue };
                let mut changes = Changes::new();
                let (one, two) = (judge_of.sample.read(path), judge_of.sample.read(other));
                let (first, second) = (sector(&one, *at), sector(&two, *there));
                changes.insert(path.clone(), Some(with(&one, *at, &second)));
                let two = if path == other { with(&one, *at, &second) } else { two };
                changes.insert(other.clone(), Some(with(&two, *there, &first)));
                let what = format!("{} from {at} and {} from {there} swapped", path.display(), other.display());
                judge(&mut judge_of, changes, &what);
            }
        }
        judge_of.report("sectors swapped");
    }
}

#[test]
fn t8_files_swapped_or_copied_over_another() {
    for mut judge_of in samples() {
        let files = judge_of.sample.files();
        for (number, path) in files.iter().enumerate() {
            for other in files[number + 1..].iter().skip(number % STRIDE).step_by(STRIDE) {
                let (one, two) = (judge_of.sample.read(path), judge_of.sample.read(other));
                let names = format!("{} and {}", path.display(), other.display());
                let swap = [(path.clone(), Some(two.clone())), (other.clone(), Some(one.clone()))].into();
                judge(&mut judge_of, swap, &format!("{names} swapped"));
                let over = [(path.clone(), Some(two))].into();
                judge(&mut judge_of, over, &format!("{names}: the second over the first"));
                let over = [(other.clone(), Some(one))].into();
                judge(&mut judge_of, over, &format!("{names}: the first over the second"));
            }
        }
        judge_of.report("files swapped or copied");
    }
}

#[test]
fn t8_files_deleted_emptied_or_longer() {
    for mut judge_of in samples() {
        for path in judge_of.sample.files() {
            let bytes = judge_of.sample.read(&path);
            let name = path.display();
            judge(&mut judge_of, [(path.clone(), None)].into(), &format!("{name} deleted"));
            judge(&mut judge_of, [(path.clone(), Some(Vec::new()))].into(), &format!("{name} emptied"));
            for length in [1, 8, 511, 5_000] {
                let garbage = (0..length).map(|at| (at * 131 + at / 7) as u8 | 1).collect();
                for tail in [garbage, vec![0; length], bytes[..length.min(bytes.len())].to_vec()] {
                    let longer = [&bytes[..], &tail].concat();
                    let what = format!("{name} with {length} bytes behind its end, the first {}", tail[0]);
                    judge(&mut judge_of, [(path.clone(), Some(longer))].into(), &what);
                }
            }
        }
        judge_of.report("files deleted, emptied, longer");
    }
}

#[test]
fn t8_files_doubled_under_names_that_are_free() {
    let mut number = 0_usize;
    for mut judge_of in samples() {
        for path in judge_of.sample.files() {
            let bytes = judge_of.sample.read(&path);
            let own = path.file_name().unwrap().to_string_lossy().into_owned();
            let mut names: Vec<String> = ["copy", ".tmp", "next.tmp", "prepared.tmp"].map(str::to_owned).to_vec();
            names.extend([1, 4, 99].map(|number| format!("{number:020}.log")));
            names.extend([format!("{own}.bak"), format!("{:020}.index", 3), "catalog-9".into(), "offsets-9".into()]);
            let dirs = ["data", "data/topics", "data/topics/quotes/0", "data/topics/orders/1", "data/topics/new/0"];
            for dir in dirs {
                for name in &names {
                    let to = Path::new(dir).join(name);
                    number += 1;
                    if judge_of.sample.disk.read_file(&to).is_ok() || !number.is_multiple_of(2 * STRIDE - 1) {
                        continue;
                    }
                    let what = format!("{} also as {}", path.display(), to.display());
                    judge(&mut judge_of, [(to, Some(bytes.clone()))].into(), &what);
                }
            }
        }
        judge_of.report("files doubled");
    }
}
