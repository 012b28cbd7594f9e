//! Single files: every byte flipped, every length cut.

use std::path::Path;

use crate::judge::{Depth, Judge};
use crate::sample::Sample;

/// Bytes from one that is tried to the next; a debug build takes a choice.
const STRIDE: usize = if cfg!(debug_assertions) { 13 } else { 1 };

fn exhaustive() -> bool {
    std::env::var_os("THALWEG_EXHAUSTIVE").is_some()
}

/// Which bytes of a file are tried: all that were ever written, and of those that never were some.
fn places(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let is_tried = |at: &usize| {
        let near = at.saturating_sub(40)..bytes.len().min(at + 8);
        let written = bytes[near].iter().any(|&byte| byte != 0);
        exhaustive() || at % 509 == 7 || (written && at.is_multiple_of(STRIDE))
    };
    (0..bytes.len()).filter(is_tried)
}

/// Everything is asked for at each place in turn, with less at those between.
fn depth(at: usize) -> Depth {
    match at / STRIDE % 6 {
        _ if exhaustive() => Depth::Write,
        0 => Depth::Write,
        2 | 4 => Depth::Verify,
        _ => Depth::Read,
    }
}

fn flip(judge: &mut Judge, path: &Path) {
    let bytes = judge.sample.read(path);
    for at in places(&bytes) {
        for bit in if exhaustive() { 0..8 } else { (at / STRIDE) as u32 % 8..(at / STRIDE) as u32 % 8 + 1 } {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            judge.patched(path, &flipped, &format!("bit {bit} of byte {at}"), depth(at));
        }
    }
}

fn cut(judge: &mut Judge, path: &Path) {
    let bytes = judge.sample.read(path);
    for to in places(&bytes) {
        judge.patched(path, &bytes[..to], &format!("cut to {to} bytes"), depth(to));
    }
}

/// Does this to each of the files.
fn each(sample: Sample, run: fn(&mut Judge, &Path), of: impl Fn(&Path) -> bool, what: &str) {
    let mut judge = Judge::new(sample);
    for path in judge.sample.files().into_iter().filter(|path| of(path)) {
        run(&mut judge, &path);
    }
    judge.report(what);
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

/// Whether the third life, which ended with a crash, wrote to a file.
fn is_newest() -> impl Fn(&Path) -> bool {
    let (before, crashed) = (Sample::closed().disk, Sample::crashed().disk);
    move |path| before.read_file(path).ok() != crashed.read_file(path).ok()
}

#[test]
fn t8_segments_flipped() {
    each(Sample::closed(), flip, is_segment, "segments flipped");
}

#[test]
fn t8_catalogue_offset_log_and_indexes_flipped() {
    each(Sample::closed(), flip, |path| !is_segment(path), "others flipped");
}

#[test]
fn t8_segments_cut() {
    each(Sample::closed(), cut, is_segment, "segments cut");
}

#[test]
fn t8_catalogue_offset_log_and_indexes_cut() {
    each(Sample::closed(), cut, |path| !is_segment(path), "others cut");
}

#[test]
fn t8_after_a_crash_flipped() {
    each(Sample::crashed(), flip, is_newest(), "after a crash, flipped");
}

#[test]
fn t8_after_a_crash_cut() {
    each(Sample::crashed(), cut, is_newest(), "after a crash, cut");
}
