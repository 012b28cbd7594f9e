//! A partition's log as it should be: which files stay, which are rewritten, where something is missing.
//!
//! Evidence decides here as in recovery: a gap that begins below it is damage, and what is whole behind
//! it stays; at the first gap that begins at or above it the log ends. The end is never below the evidence.

use std::ops::Range;
use std::path::PathBuf;

use super::super::Damage;
use super::super::partition::PartitionFiles;
use super::candidates::{Candidate, Gathered, gather};
use super::part::{Part, part_of};
use super::plan::{Aside, Loss, NewSegment, PartitionWork, RepairAction, RepairStep, TakenFrom};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, FileHeader, FileKind, Previous};
use crate::keyed::fresh_file_id;
use crate::segment::{index_path, log_name};

/// What is planned for one partition.
#[derive(Default)]
pub(super) struct PartitionPlan {
    pub(super) work: Option<PartitionWork>,
    pub(super) steps: Vec<RepairStep>,
    pub(super) lost: Vec<Loss>,
    pub(super) impossible: Vec<Damage>,
}

/// Plans a partition. `wrong_indexes`: index files known to be damaged. `committed`: the catalogue was damaged,
/// and with it may be gone what it said of how far the log was durable: then everything that is whole counts, and
/// what a header speaks of was there, and what is below this offset, the highest that a group has committed.
///
/// # Errors
/// Of the disk, where they say nothing about the files.
pub(super) fn plan(
    disk: &dyn Disk,
    files: &PartitionFiles<'_>,
    wrong_indexes: &[PathBuf],
    committed: Option<u64>,
    now_ms: i64,
) -> Result<PartitionPlan> {
    let mut gathered = gather(disk, &files.dir, &files.log)?;
    let chain = std::mem::take(&mut gathered.chain);
    let mut plan = PartitionPlan::default();
    if !gathered.newer.is_empty() {
        plan.impossible = gathered.newer.drain(..).map(|(path, found)| newer(files, path, &found)).collect();
        return Ok(plan);
    }
    let mut build = Build::new(disk, files, gathered, chain, now_ms);
    if let Some(committed) = committed {
        build.evidence = build.evidence.max(committed);
        let ends = build.chain.iter().map(|file| file.end_below(u64::MAX));
        let told = build.chain.last().map(|file| file.source.told_end);
        build.evidence = ends.chain(told).fold(build.evidence, u64::max);
    }
    build.run()?;
    build.finish(wrong_indexes, &mut plan);
    Ok(plan)
}

fn newer(files: &PartitionFiles<'_>, path: PathBuf, found: &str) -> Damage {
    Damage {
        topic: Some(files.topic.to_owned()),
        partition: Some(files.number),
        ..Damage::of_path(&path, format!("a later version wrote it ({found}): that one can repair it"))
    }
}

/// The file before, as its successor's header has to name it.
#[derive(Clone, Copy)]
struct Before {
    previous: Previous,
    epoch: u32,
    /// Position in `new` if it is written by this repair.
    new: Option<usize>,
}

struct Build<'a> {
    disk: &'a dyn Disk,
    files: &'a PartitionFiles<'a>,
    gathered: Gathered,
    chain: Vec<Candidate>,
    now_ms: i64,
    log_start: u64,
    evidence: u64,
    new: Vec<(NewSegment, RepairStep)>,
    lost: Vec<Range<u64>>,
}

impl<'a> Build<'a> {
    fn new(
        disk: &'a dyn Disk,
        files: &'a PartitionFiles<'a>,
        gathered: Gathered,
        mut chain: Vec<Candidate>,
        now_ms: i64,
    ) -> Build<'a> {
        let log_start = files.mark.map_or(0, |mark| mark.log_start_offset);
        // What retention was about to drop is nobody's concern.
        while chain.get(1).is_some_and(|second| second.base_offset <= log_start) {
            chain.remove(0);
        }
        let mut evidence =
            files.mark.map_or(0, |mark| mark.durable_offset).max(log_start).max(files.noted.durable_offset);
        for file in &chain {
            let header = file.header.as_ref().map_or(0, |header| header.durable_before);
            evidence = evidence.max(file.source.evidence).max(header);
        }
        Build { disk, files, gathered, chain, now_ms, log_start, evidence, new: Vec::new(), lost: Vec::new() }
    }

    fn run(&mut self) -> Result<()> {
        let mut before: Option<Before> = None;
        let mut expected = self.log_start;
        let chain = std::mem::take(&mut self.chain);
        let mut files = chain.into_iter().peekable();
        let mut is_first = true;
        while let Some(file) = files.next() {
            if file.base_offset > expected && expected >= self.evidence && !is_first {
                self.ends_before(file, expected);
                files.by_ref().for_each(|file| self.ends_before(file, expected));
                break;
            }
            if file.base_offset > expected {
                self.missing(&mut before, expected, file.base_offset)?;
            }
            is_first = false;
            let next = files.peek();
            let (mut part, ended) = part_of(&file, next, self.evidence);
            part.lost.drain(..).for_each(|lost| self.lose(lost));
            part.end = part.end.min(next.map_or(u64::MAX, |next| next.base_offset));
            expected = part.end.max(expected);
            // Recovery goes by identity from a file as it was written to its successor.
            let goes_on = next.is_none_or(|next| {
                expected < next.base_offset
                    || file.rewrite() > 0
                    || file.is_continued_by(next)
                    || !next.is_sound_header()
            });
            let wrong_times = before.is_some_and(|before| {
                file.header.as_ref().is_some_and(|header| header.previous.max_timestamp < before.previous.max_timestamp)
            });
            let reason = part
                .damage
                .clone()
                .or_else(|| (!file.is_named).then(|| "it bears another segment's name".to_owned()))
                .or_else(|| wrong_times.then(|| "its header is wrong about the times before it".to_owned()))
                .or_else(|| (!goes_on).then(|| "the file behind it names another one as the one before".to_owned()));
            // What stands in for the rest would bear its name.
            let is_empty = part.end == file.base_offset
                && (self.evidence > expected || next.is_some_and(|next| next.base_offset > expected));
            let reason = reason.or_else(|| is_empty.then(|| "nothing of it is left".to_owned()));
            // Nothing is appended to a rewritten segment: the next one would bear the name of one that is empty.
            let is_end = next.is_none() && part.end == file.base_offset && self.evidence <= expected;
            if let Some(reason) = &reason
                && is_end
                && (before.is_some() || file.base_offset == 0)
            {
                self.gathered.drop_candidate(file, format!("it holds nothing, and {reason}"));
                break;
            }
            before = Some(match reason {
                Some(reason) => self.rewrite(file, part, before, reason)?,
                None => Before {
                    previous: Previous {
                        file_id: file.file_id(),
                        base_offset: file.base_offset,
                        end_offset: expected,
                        length: part.length,
                        appended_ms: part.appended_ms,
                        max_timestamp: part.max_timestamp,
                    },
                    epoch: part.epoch,
                    new: None,
                },
            });
            if ended {
                files.by_ref().for_each(|file| self.ends_before(file, expected));
                break;
            }
        }
        if self.evidence > expected {
            self.missing(&mut before, expected, self.evidence)?;
        }
        Ok(())
    }

    /// A file behind the end: nothing proves that it was durable.
    fn ends_before(&mut self, file: Candidate, end: u64) {
        let reason = format!("the log ends at offset {end}, and nothing proves that more was durable");
        self.gathered.drop_candidate(file, reason);
    }

    fn lose(&mut self, offsets: Range<u64>) {
        let offsets = offsets.start.max(self.log_start)..offsets.end;
        if offsets.is_empty() {
            return;
        }
        match self.lost.last_mut() {
            Some(last) if last.end >= offsets.start => last.end = last.end.max(offsets.end),
            _ => self.lost.push(offsets),
        }
    }

    /// Nothing holds the offsets from `from` to `to`.
    fn missing(&mut self, before: &mut Option<Before>, from: u64, to: u64) -> Result<()> {
        self.lose(from..to);
        if let Some(Before { new: Some(at), previous, .. }) = before {
            // The file before is written anew: it stands for them too.
            let (new, step) = &mut self.new[*at];
            new.header.rewritten_end_offset = to;
            new.header.durable_before = new.header.durable_before.max(to);
            previous.end_offset = to;
            match &mut step.action {
                RepairAction::Rewrite { offsets, .. } | RepairAction::Fill { offsets } => offsets.end = to,
                _ => {}
            }
            return Ok(());
        }
        let path = self.files.dir.join(log_name(from));
        let header = self.header(from, to, 0, None, *before)?;
        let reason = "no file holds them".to_owned();
        let step = self.step(path.clone(), RepairAction::Fill { offsets: from..to }, reason);
        let filled = Previous {
            file_id: header.file_id,
            base_offset: from,
            end_offset: to,
            length: BLOCK_BYTES,
            appended_ms: i64::MIN,
            max_timestamp: i64::MIN,
        };
        let epoch = header.epoch;
        self.new.push((NewSegment { path, header, source: None, replaced: None }, step));
        *before = Some(Before { previous: filled, epoch, new: Some(self.new.len() - 1) });
        Ok(())
    }

    /// Another file takes a segment's place.
    fn rewrite(&mut self, file: Candidate, part: Part, before: Option<Before>, reason: String) -> Result<Before> {
        let Part { batches, end, max_timestamp, appended_ms, epoch, .. } = part;
        let bytes: u64 = batches.iter().map(|(_, header)| u64::from(header.length)).sum();
        let records = batches.iter().map(|(_, header)| u64::from(header.record_count)).sum();
        let mut header = self.header(file.base_offset, end, bytes, file.header.as_ref(), before)?;
        if file.header.is_none()
            && let Some((_, first)) = batches.first()
        {
            header.epoch = header.epoch.max(first.epoch);
            header.created_ms = first.appended_ms;
        }
        let action = RepairAction::Rewrite { offsets: file.base_offset..end, batches: batches.len() as u64, records };
        let path = self.files.dir.join(log_name(file.base_offset));
        let step = self.step(path.clone(), action, reason);
        let file_name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{file_name}.{:016x}", file.file_id());
        let aside = Aside { path: file.path.clone(), name, is_file: true };
        let replaced = if file.is_named {
            Some(aside)
        } else {
            if !self.gathered.leftovers.contains(&file.path) {
                let reason = format!("its header says base offset {}: it is copied to its place", file.base_offset);
                self.gathered.aside.insert(file.path.clone(), (aside, reason));
            }
            None
        };
        let previous = Previous {
            file_id: header.file_id,
            base_offset: file.base_offset,
            end_offset: end,
            length: header.rewritten_length,
            appended_ms,
            max_timestamp,
        };
        let source = Some(TakenFrom { path: file.path, batches });
        let new_epoch = header.epoch;
        self.new.push((NewSegment { path, header, source, replaced }, step));
        let epoch = epoch.max(new_epoch);
        Ok(Before { previous, epoch, new: Some(self.new.len() - 1) })
    }

    /// The header of a segment that repair writes.
    fn header(
        &self,
        base_offset: u64,
        end: u64,
        bytes: u64,
        old: Option<&FileHeader>,
        before: Option<Before>,
    ) -> Result<FileHeader> {
        let file_id = match old {
            Some(old) => old.file_id,
            None => fresh_file_id(self.disk)?,
        };
        let rewrite = old.map_or(0, |old| old.rewrite).checked_add(1);
        Ok(FileHeader {
            kind: FileKind::Segment,
            log: self.files.log,
            epoch: old.map_or(0, |old| old.epoch).max(before.map_or(0, |before| before.epoch)),
            file_id,
            base_offset,
            created_ms: old.map_or(self.now_ms, |old| old.created_ms),
            term: old.map_or(0, |old| old.term),
            log_start_offset: self.log_start,
            durable_before: self.evidence.max(end),
            previous: before.map_or(Previous::default(), |before| before.previous),
            rewrite: rewrite.ok_or_else(|| Error::corrupt("rewrites are used up").at_path(&self.files.dir))?,
            rewritten_end_offset: end,
            rewritten_length: BLOCK_BYTES + bytes,
            name: self.files.topic.to_owned(),
        })
    }

    fn step(&self, path: PathBuf, action: RepairAction, reason: String) -> RepairStep {
        let (topic, partition) = (Some(self.files.topic.to_owned()), Some(self.files.number));
        RepairStep { path, topic, partition, action, reason }
    }

    fn finish(mut self, wrong_indexes: &[PathBuf], plan: &mut PartitionPlan) {
        let indexes = std::mem::take(&mut self.gathered.indexes);
        let new = self.new.iter().map(|(new, _)| &new.path);
        let gone: Vec<PathBuf> = self.gathered.aside.keys().chain(new).map(|log| index_path(log)).collect();
        let logs: Vec<PathBuf> = self.gathered.logs.iter().map(|log| index_path(log)).collect();
        let mut stale = Vec::new();
        for (path, is_file) in indexes {
            if is_file && (gone.contains(&path) || !logs.contains(&path)) {
                stale.push(path);
            } else if wrong_indexes.contains(&path) {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let aside = Aside { path: path.clone(), name: format!("{name}.{:016x}", 0), is_file: false };
                let reason = "it is wrong; it is rebuilt when it is used".to_owned();
                self.gathered.aside.insert(path, (aside, reason));
            }
        }
        for (new, _) in &mut self.new {
            if let Some((aside, _)) = self.gathered.aside.remove(&new.path) {
                new.replaced.get_or_insert(aside);
            }
        }
        for (path, (_, reason)) in &self.gathered.aside {
            plan.steps.push(self.step(path.clone(), RepairAction::SetAside, reason.clone()));
        }
        let (topic, partition) = (self.files.topic.to_owned(), self.files.number);
        plan.lost.extend(self.lost.drain(..).map(|offsets| Loss { topic: topic.clone(), partition, offsets }));
        let (segments, steps): (Vec<_>, Vec<_>) = self.new.into_iter().unzip();
        plan.steps.extend(steps);
        plan.steps.sort_by(|a, b| a.path.cmp(&b.path));
        if plan.steps.is_empty() {
            return;
        }
        plan.work = Some(PartitionWork {
            dir: self.files.dir.clone(),
            new: segments,
            aside: self.gathered.aside.into_values().map(|(aside, _)| aside).collect(),
            indexes: stale,
            leftovers: self.gathered.leftovers,
        });
    }
}

impl Candidate {
    /// Whether it stays what it is, as far as its header and name go.
    fn is_sound_header(&self) -> bool {
        self.header_damage.is_none() && self.header.is_some() && self.is_named
    }
}
