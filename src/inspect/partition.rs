//! Checks one partition: recovery's verdict, and every byte of its files.
//!
//! Below the end that recovery finds everything must fit; what doesn't is damage, and the walk goes
//! on behind it. Where recovery finds damage itself, what is left is judged by the chain of headers
//! and by the evidence in the files.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::index::{IndexFile, IndexRead};
use super::meter::Meter;
use super::report::{Damage, Unfinished, Verification, prevents};
use super::walk::{Step, Walk, header_block, last_written};
use crate::aside::is_aside_dir;
use crate::config::TopicConfig;
use crate::disk::{Access, Disk, Entry, EntryKind};
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, BatchHeader, BatchKind, FileHeader, FileKind, FormatError, Mark, RecordWalk};
use crate::ids::LogId;
use crate::partition::{Doubt, NotedOf, Recovered, SET_ASIDE, is_own_file, recover};
use crate::segment::{Place, base_offset_of, index_path, read_header};

/// More damage in one file than this is not listed one by one.
const DAMAGE_MAX: usize = 1_000;

/// A partition as the catalogue gives it.
pub(super) struct PartitionFiles<'a> {
    pub(super) dir: PathBuf,
    pub(super) log: LogId,
    pub(super) topic: &'a str,
    pub(super) number: u32,
    pub(super) config: &'a TopicConfig,
    pub(super) mark: Option<Mark>,
    /// What the file `evidence` says of it.
    pub(super) noted: NotedOf,
    /// The newest epoch the catalogue knows: nothing can be of a newer one.
    pub(super) epoch: u32,
}

/// What was found in a partition.
#[derive(Default)]
pub(super) struct Found {
    pub(super) segments: u64,
    pub(super) batches: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) damage: Vec<Damage>,
    pub(super) unfinished: Vec<Unfinished>,
    pub(super) ignored: Vec<PathBuf>,
    /// The newest that stands in it.
    pub(super) epoch: u32,
}

impl Found {
    /// Adds it to what was found in the whole directory.
    pub(super) fn add_to(self, all: &mut Verification) {
        all.epoch = all.epoch.max(self.epoch);
        all.segments += self.segments;
        all.batches += self.batches;
        all.records += self.records;
        all.bytes += self.bytes;
        all.damage.extend(self.damage);
        all.unfinished.extend(self.unfinished);
        all.ignored.extend(self.ignored);
    }
}

/// Checks a partition.
///
/// # Errors
/// What keeps it from being checked.
pub(super) fn check(disk: &dyn Disk, files: &PartitionFiles<'_>, meter: &mut Meter<'_>) -> Result<Found> {
    let mut check = Check { disk, files, meter, found: Found::default(), evidence: 0 };
    check.run()?;
    let mut found = check.found;
    for damage in &mut found.damage {
        damage.topic = Some(files.topic.to_owned());
        damage.partition = Some(files.number);
    }
    Ok(found)
}

struct Check<'a, 'm> {
    disk: &'a dyn Disk,
    files: &'a PartitionFiles<'a>,
    meter: &'a mut Meter<'m>,
    found: Found,
    /// Everything below this offset was durable once, as far as was seen.
    evidence: u64,
}

/// A file that is called like a segment.
struct Candidate {
    path: PathBuf,
    base_offset: u64,
    length: u64,
    /// `Err`: no header of ours, and why.
    header: std::result::Result<FileHeader, FormatError>,
}

/// A segment that may count.
#[derive(Clone, Copy)]
struct SegmentFile<'a> {
    path: &'a Path,
    length: u64,
    header: &'a FileHeader,
}

impl Candidate {
    fn segment(&self) -> std::result::Result<SegmentFile<'_>, &FormatError> {
        self.header.as_ref().map(|header| SegmentFile { path: &self.path, length: self.length, header })
    }
}

/// How much of a segment counts, and which offset must come next behind it.
#[derive(Clone, Copy)]
enum Extent {
    Known {
        length: u64,
        end_offset: u64,
    },
    /// As far as batches fit; up to this offset they should, if that is known.
    Open {
        end_offset: Option<u64>,
    },
}

impl Check<'_, '_> {
    fn run(&mut self) -> Result<()> {
        let entries = match self.disk.list(&self.files.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let error = Error::io(error).at_path(&self.files.dir);
                return self.refused(error);
            }
        };
        let candidates = self.candidates(&entries)?;
        self.evidence = self
            .files
            .mark
            .map_or(0, |mark| mark.durable_offset.max(mark.log_start_offset))
            .max(self.files.noted.durable_offset);
        for header in candidates.iter().filter_map(|file| file.header.as_ref().ok()) {
            self.evidence = self.evidence.max(header.durable_before);
        }
        let PartitionFiles { dir, log, config, mark, noted, .. } = self.files;
        match recover(self.disk, dir, log, config, mark.as_ref(), *noted, Doubt::Nothing) {
            Ok(recovered) if recovered.damage.is_none() => self.sound(&candidates, &recovered)?,
            Ok(Recovered { damage, .. }) => self.damaged(&candidates, damage)?,
            Err(error) if prevents(&error) => return Err(error),
            Err(error) => self.damaged(&candidates, Some(error))?,
        }
        self.found.damage.sort_by(|a, b| (&a.path, a.position).cmp(&(&b.path, b.position)));
        Ok(())
    }

    /// Every file that is called like a segment, in order; notes names that nothing counts of.
    fn candidates(&mut self, entries: &[Entry]) -> Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        for entry in entries {
            let path = self.files.dir.join(&entry.name);
            let Some(base_offset) = base_offset_of(&entry.name) else {
                let log = entry.name.strip_suffix(".index").map(|stem| format!("{stem}.log"));
                let has_segment = log.is_some_and(|log| entries.iter().any(|entry| entry.name == log));
                let is_aside = entry.name.starts_with(SET_ASIDE) && is_own_file(&entry.name);
                if !has_segment && !is_aside && !is_aside_dir(entry) {
                    self.found.ignored.push(path);
                }
                continue;
            };
            let read = if entry.kind == EntryKind::File {
                self.open_header(&path)
            } else {
                Ok((0, Err(FormatError::Foreign("a segment must be a regular file".into()))))
            };
            match read {
                Err(error) => self.refused(Error::io(error).at_path(&path))?,
                Ok((length, header)) => {
                    let header = header.and_then(|header| {
                        header.expect(FileKind::Segment, &self.files.log)?;
                        if header.base_offset == base_offset {
                            return Ok(header);
                        }
                        Err(FormatError::Foreign(format!("its header says base offset {}", header.base_offset)))
                    });
                    candidates.push(Candidate { path, base_offset, length, header });
                }
            }
        }
        Ok(candidates)
    }

    fn open_header(&self, path: &Path) -> io::Result<(u64, std::result::Result<FileHeader, FormatError>)> {
        let file = self.disk.open(path, Access::Read)?;
        Ok((file.length()?, read_header(&*file)?))
    }

    /// Recovery found no damage: below the end it found, everything must fit.
    fn sound(&mut self, candidates: &[Candidate], recovered: &Recovered) -> Result<()> {
        if let Some(cut) = &recovered.cut {
            self.unfinished(&cut.path, cut.position, cut.bytes);
        }
        let counting = &recovered.segments;
        let mut max_timestamp = None;
        for (at, segment) in counting.iter().enumerate() {
            let candidate = candidates.binary_search_by_key(&segment.base_offset(), |file| file.base_offset);
            let Some(Ok(file)) = candidate.ok().map(|at| candidates[at].segment()) else { continue };
            self.check_previous(file, max_timestamp);
            let end_offset = counting.get(at + 1).map_or(recovered.end_offset, |next| next.base_offset());
            let extent = Extent::Known { length: segment.published(), end_offset };
            max_timestamp = self.segment(file, extent)?;
            if recovered.cut.as_ref().is_none_or(|cut| cut.path != file.path) {
                self.leftover(file, segment.published())?;
            }
        }
        // What retention was about to drop.
        let kept = counting.first().map_or(recovered.log_start, |first| first.base_offset());
        let dropped = candidates.iter().filter(|file| file.base_offset < kept);
        self.found.ignored.extend(dropped.map(|file| file.path.clone()));
        Ok(())
    }

    /// Recovery found damage: looks for all of it.
    fn damaged(&mut self, candidates: &[Candidate], error: Option<Error>) -> Result<()> {
        let start = self.log_start();
        for (at, candidate) in candidates.iter().enumerate() {
            let next = candidates.get(at + 1);
            if next.is_some_and(|next| next.base_offset <= start) {
                continue;
            }
            let end_offset = next.map(|next| next.base_offset);
            match candidate.segment() {
                Ok(file) => {
                    let extent = extent_of(file, end_offset, next.and_then(|next| next.header.as_ref().ok()));
                    self.segment(file, extent)?;
                }
                Err(error) => {
                    let lost = candidate.base_offset..end_offset.unwrap_or(self.evidence);
                    self.found.damage.push(Damage {
                        position: Some(0),
                        offsets: Some(lost).filter(|lost| !lost.is_empty()),
                        ..Damage::of_path(&candidate.path, error.to_string())
                    });
                }
            }
        }
        let Some(error) = error else { return Ok(()) };
        let damage = Damage::of_error(&error, &self.files.dir);
        let is_known = |known: &Damage| {
            let same = known.path == damage.path && (known.position == damage.position || damage.position.is_none());
            let lost = known.offsets.as_ref().zip(error.offset()).is_some_and(|(lost, offset)| lost.contains(&offset));
            same || lost
        };
        if !self.found.damage.iter().any(is_known) {
            let missing = error.offset().map(|from| {
                let next = candidates.iter().map(|file| file.base_offset).find(|&base| base > from);
                from..next.unwrap_or(self.evidence).max(from)
            });
            self.found.damage.push(Damage { offsets: missing.filter(|missing| !missing.is_empty()), ..damage });
        }
        Ok(())
    }

    /// What a header says of its predecessor's times may not be too low: a lookup by time goes by it.
    fn check_previous(&mut self, file: SegmentFile<'_>, max_timestamp: Option<i64>) {
        let said = file.header.previous.max_timestamp;
        if let Some(found) = max_timestamp.filter(|&found| found > said) {
            let reason = format!("its header says that no timestamp before it is above {said}, but {found} is");
            self.damage(file.path, Some(0), reason);
        }
    }

    /// Reads all of a segment that counts. The largest timestamp in it.
    fn segment(&mut self, file: SegmentFile<'_>, extent: Extent) -> Result<Option<i64>> {
        match self.read_segment(file, extent) {
            Ok(max_timestamp) => Ok(max_timestamp),
            Err(error) => self.refused(Error::io(error).at_path(file.path)).map(|()| None),
        }
    }

    fn read_segment(&mut self, file: SegmentFile<'_>, extent: Extent) -> io::Result<Option<i64>> {
        let index = self.index(file)?;
        let opened = self.disk.open(file.path, Access::Read)?;
        let (length, end_offset) = match extent {
            Extent::Known { length, end_offset } => (length, Some(end_offset)),
            Extent::Open { end_offset } => (file.length, end_offset),
        };
        if let (_, Some(position)) = header_block(&*opened)? {
            self.damage(file.path, Some(position), "bytes of the header block that are never written are set");
        }
        let place = Place { position: BLOCK_BYTES, next_offset: file.header.base_offset, epoch: file.header.epoch };
        let walk = Walk::new(&*opened, length, FileKind::Segment, file.header.seed(), place);
        let walk = walk.sparse(file.header.rewrite > 0);
        let is_open = matches!(extent, Extent::Open { .. });
        let mut read = Read { file, index, max_timestamp: None, gap: None, damage: Vec::new(), is_open };
        let newest = self.batches(walk, &mut read, end_offset)?;
        self.found.epoch = self.found.epoch.max(newest).max(file.header.epoch);
        self.check_epoch(file.path, newest.max(file.header.epoch));
        let max_timestamp = read.max_timestamp;
        self.found.segments += 1;
        self.found.bytes += file.length;
        self.meter.add(file.path, file.length - length.min(file.length));
        let mut damage = read.damage;
        if let Some(index) = read.index {
            damage.extend(index.finish());
        }
        let more = damage.len() > DAMAGE_MAX;
        damage.truncate(DAMAGE_MAX);
        self.found.damage.extend(damage);
        if more {
            self.damage(file.path, None, "there is more damage in this file, which isn't listed");
        }
        Ok(max_timestamp)
    }

    /// Walks a segment's batches. The newest epoch among them.
    fn batches(&mut self, mut walk: Walk<'_>, read: &mut Read<'_>, end_offset: Option<u64>) -> io::Result<u32> {
        let mut newest = 0;
        loop {
            let before = walk.place();
            let Some(step) = walk.next()? else { break };
            match step {
                Step::Gap { from, written_end, reason, .. } => {
                    read.gap = Some(Gap { from, next_offset: before.next_offset, written_end, reason });
                }
                Step::Batch { header, position, problem, .. } => {
                    read.end_gap(header.base_offset);
                    newest = newest.max(header.epoch);
                    match problem {
                        Some(problem) => read.damage(position, header.base_offset..header.end_offset(), &problem),
                        None => {
                            self.evidence = self.evidence.max(header.durable_before);
                            self.found.batches += 1;
                            self.found.records += u64::from(header.record_count);
                            read.batch(&header, position, walk.body()?);
                        }
                    }
                }
            }
            let position = walk.place().position;
            self.meter.add(read.file.path, position - before.position);
        }
        let (mut end, header) = (walk.place(), read.file.header);
        if header.rewrite > 0 && read.gap.is_none() && end.position >= header.rewritten_length {
            end.next_offset = end.next_offset.max(header.rewritten_end_offset);
        }
        self.end(end, read, end_offset);
        Ok(newest)
    }

    /// Behind the last batch of a segment.
    fn end(&mut self, end: Place, read: &mut Read<'_>, end_offset: Option<u64>) {
        let path = read.file.path;
        // The last segment of a damaged log goes as far as evidence says. Below the log start
        // nothing needs to be there.
        let should = end_offset.unwrap_or(self.evidence);
        let missing = end.next_offset.max(self.log_start())..should;
        let gap = read.gap.take();
        let position = gap.as_ref().map_or(end.position, |gap| gap.from);
        if !missing.is_empty() {
            let reason = match &gap {
                Some(gap) if gap.written_end > gap.from => gap.reason.to_string(),
                _ => format!("offset {} should follow, nothing does", end.next_offset),
            };
            read.damage.push(Damage {
                position: Some(position),
                offsets: Some(missing),
                ..Damage::of_path(path, reason)
            });
        } else if let Some(gap) = gap {
            let bytes = gap.written_end - gap.from;
            if !read.is_open {
                read.damage(gap.from, end.next_offset..end.next_offset, &gap.reason);
            } else if bytes > 0 {
                self.unfinished(path, gap.from, bytes);
            }
        }
    }

    fn log_start(&self) -> u64 {
        self.files.mark.map_or(0, |mark| mark.log_start_offset)
    }

    /// Bytes behind what counts of a segment: a crash may have left them.
    fn leftover(&mut self, file: SegmentFile<'_>, from: u64) -> Result<()> {
        let read = || -> io::Result<u64> {
            let opened = self.disk.open(file.path, Access::Read)?;
            last_written(&*opened, from, file.length)
        };
        match read() {
            Ok(end) if end > from => self.unfinished(file.path, from, end - from),
            Ok(_) => {}
            Err(error) => return self.refused(Error::io(error).at_path(file.path)),
        }
        Ok(())
    }

    /// A segment's index file, if one is there that belongs to it.
    fn index(&mut self, file: SegmentFile<'_>) -> io::Result<Option<IndexFile>> {
        let path = index_path(file.path);
        let (length, index) = match IndexFile::read(self.disk, &path, file.header) {
            Ok(IndexRead::Index(index)) => (index.length(), Some(index)),
            Ok(IndexRead::Unfinished { position, length }) => {
                self.unfinished(&path, position, length - position);
                (length, None)
            }
            Ok(IndexRead::Stale { length }) => {
                self.found.ignored.push(path.clone());
                (length, None)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (0, None),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.damage(&path, None, "an index must be a regular file; it is not used");
                (0, None)
            }
            Err(error) => return Err(error),
        };
        self.found.bytes += length;
        self.meter.add(&path, length);
        Ok(index)
    }

    /// Nothing can be of an epoch that the catalogue doesn't know.
    fn check_epoch(&mut self, path: &Path, newest: u32) {
        if newest > self.files.epoch {
            let reason = format!(
                "it holds epoch {newest}, the catalogue knows epochs up to {}: entries that were durable are missing \
                 from the catalogue",
                self.files.epoch
            );
            self.damage(path, None, reason);
        }
    }

    fn unfinished(&mut self, path: &Path, position: u64, bytes: u64) {
        let (topic, partition) = (Some(self.files.topic.to_owned()), Some(self.files.number));
        self.found.unfinished.push(Unfinished { path: path.to_owned(), position, bytes, topic, partition });
    }

    fn damage(&mut self, path: &Path, position: Option<u64>, reason: impl Into<String>) {
        self.found.damage.push(Damage { position, ..Damage::of_path(path, reason.into()) });
    }

    /// A file or directory that can't be read: damage, unless that keeps it from being checked.
    fn refused(&mut self, error: Error) -> Result<()> {
        if prevents(&error) {
            return Err(error);
        }
        self.found.damage.push(Damage::of_error(&error, &self.files.dir));
        Ok(())
    }
}

/// How much of a segment counts, as far as the next file's header says.
fn extent_of(file: SegmentFile<'_>, end_offset: Option<u64>, next: Option<&FileHeader>) -> Extent {
    if file.header.rewrite > 0 && file.header.rewritten_length <= file.length {
        let (length, end) = (file.header.rewritten_length, file.header.rewritten_end_offset);
        return Extent::Known { length, end_offset: end_offset.map_or(end, |next| next.max(end)) };
    }
    let previous = next.map(|next| next.previous).filter(|previous| {
        previous.file_id == file.header.file_id && (BLOCK_BYTES..=file.length).contains(&previous.length)
    });
    match previous {
        Some(previous) => Extent::Known { length: previous.length, end_offset: previous.end_offset },
        None => Extent::Open { end_offset },
    }
}

/// A stretch where nothing fits, until it shows what comes behind it.
struct Gap {
    from: u64,
    next_offset: u64,
    written_end: u64,
    reason: FormatError,
}

/// A segment while it is read.
struct Read<'a> {
    file: SegmentFile<'a>,
    index: Option<IndexFile>,
    max_timestamp: Option<i64>,
    gap: Option<Gap>,
    damage: Vec<Damage>,
    /// Whether the segment goes as far as batches fit.
    is_open: bool,
}

impl Read<'_> {
    /// A batch with this base offset stands behind a gap.
    fn end_gap(&mut self, base_offset: u64) {
        if let Some(gap) = self.gap.take() {
            self.damage(gap.from, gap.next_offset..base_offset.max(gap.next_offset), &gap.reason);
        }
    }

    /// A whole batch.
    fn batch(&mut self, header: &BatchHeader, position: u64, body: &[u8]) {
        if header.attributes.kind().ok() == Some(BatchKind::Records) {
            let time = |delta: i32| header.base_timestamp.saturating_add(i64::from(delta));
            let max = RecordWalk::new(body, header.record_count).map(|record| time(record.timestamp_delta)).max();
            if let Some(max) = max.filter(|&max| max > header.max_timestamp) {
                let reason = format!("a record's timestamp is {max}, its batch says {} at most", header.max_timestamp);
                self.damage(position, header.base_offset..header.base_offset, &FormatError::Invalid(reason));
            }
        }
        if let Some(index) = &mut self.index {
            index.batch(header, position, self.max_timestamp.unwrap_or(i64::MIN));
        }
        self.max_timestamp = self.max_timestamp.max(Some(header.max_timestamp));
    }

    fn damage(&mut self, position: u64, offsets: Range<u64>, reason: &FormatError) {
        self.damage.push(Damage {
            position: Some(position),
            offsets: Some(offsets).filter(|offsets| !offsets.is_empty()),
            ..Damage::of_path(self.file.path, reason.to_string())
        });
    }
}
