//! What counts of one file of a partition, and what of it is lost.
//!
//! A gap that begins below the evidence is damage; at the first one that begins at or above it the log
//! ends: what is whole behind it was never proven durable.

use std::ops::Range;

use super::candidates::Candidate;
use crate::format::{BLOCK_BYTES, BatchHeader};

/// What counts of a file.
pub(super) struct Part {
    pub(super) batches: Vec<(u64, BatchHeader)>,
    /// Offsets that were there and are not any more.
    pub(super) lost: Vec<Range<u64>>,
    /// End of the offsets it stands for by itself.
    pub(super) end: u64,
    pub(super) length: u64,
    pub(super) damage: Option<String>,
    pub(super) max_timestamp: i64,
    pub(super) appended_ms: i64,
    pub(super) epoch: u32,
}

/// What counts of a file. Whether the log ends in it.
pub(super) fn part_of(file: &Candidate, next: Option<&Candidate>, evidence: u64) -> (Part, bool) {
    let limit = next.map_or(u64::MAX, |next| next.base_offset);
    let counted = file.counted(next);
    let header = file.header.as_ref();
    let mut part = Part {
        batches: Vec::new(),
        lost: Vec::new(),
        end: file.base_offset,
        length: BLOCK_BYTES,
        damage: file.header_damage.clone(),
        max_timestamp: i64::MIN,
        appended_ms: i64::MIN,
        epoch: header.map_or(0, |header| header.epoch),
    };
    let mut ended = false;
    for batch in &file.source.batches {
        let fits = batch.header.base_offset >= part.end
            && batch.header.base_offset < limit
            && counted.is_none_or(|counted| batch.end_position() <= counted);
        if !fits {
            continue;
        }
        let gap = part.end..batch.header.base_offset;
        let known_gap = file.rewrite() > 0 && !batch.behind_damage;
        if !gap.is_empty() && !known_gap {
            if gap.start >= evidence {
                ended = true;
                break;
            }
            part.lost.push(gap);
        }
        part.end = batch.header.end_offset();
        part.length = batch.end_position();
        part.max_timestamp = part.max_timestamp.max(batch.header.max_timestamp);
        part.appended_ms = part.appended_ms.max(batch.header.appended_ms);
        part.epoch = part.epoch.max(batch.header.epoch);
        part.batches.push((batch.position, batch.header));
    }
    let torn = |position: u64| counted.is_none() && position >= part.length && part.end.min(limit) >= evidence;
    let in_extent = file
        .source
        .damage
        .iter()
        .find(|(position, _)| counted.is_none_or(|counted| *position < counted) && !torn(*position));
    if let Some((position, reason)) = in_extent {
        part.damage.get_or_insert_with(|| format!("at position {position}: {reason}"));
    }
    if let Some(header) = header.filter(|header| header.rewrite > 0) {
        let end = header.rewritten_end_offset.min(limit);
        let is_cut = file.source.length < header.rewritten_length;
        if is_cut {
            part.damage.get_or_insert_with(|| "it is cut".to_owned());
        }
        // What is missing at its end may have been left out, or be lost now.
        let is_lost = is_cut || file.source.damage.iter().any(|(position, _)| *position >= part.length);
        if part.end < end && is_lost {
            part.lost.push(part.end..end);
        }
        part.end = part.end.max(end);
        part.length = header.rewritten_length;
    } else if let Some(counted) = counted {
        if part.end < limit || counted > file.source.length {
            part.damage.get_or_insert_with(|| format!("it is cut: offset {} should follow", part.end));
        }
        part.length = counted;
    }
    (part, ended)
}
