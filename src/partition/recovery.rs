//! What of a partition's files counts, after whatever happened.
//!
//! *Evidence decides, never shape* (D3): what doesn't fit is a torn tail unless a mark, a file
//! header or a batch says that something at or above it was durable; then it is damage. Recovery
//! reads on from the newest mark or evidence (D6); it changes nothing by itself: [`Recovered`]
//! says what there is to do, [`apply`] does it.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::aside::{SET_ASIDE, set_aside};
use super::writer::{NEXT_NAME, PREPARED_NAME, Start, TailPart, previous_of};
use crate::config::TopicConfig;
use crate::disk::{Access, Disk, EntryKind, File};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK_BYTES, FileHeader, FileKind, FormatError, Mark, Previous};
use crate::ids::LogId;
use crate::segment::{
    Beyond, Found, Place, Scan, Segment, SegmentIndex, SegmentParts, base_offset_of, index_path, next_batch,
    read_header, search,
};
use crate::teeth::bites;

/// What the name of a segment that repair is writing contains, before a random number.
pub(crate) const REPAIR_INFIX: &str = ".log.repair-";

/// A tail that no longer counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TailCut {
    pub(crate) path: PathBuf,
    pub(crate) position: u64,
    /// Bytes that were written there, in this file and later ones.
    pub(crate) bytes: u64,
}

/// A partition as its files and the catalogue's mark give it.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) log_start: u64,
    pub(crate) durable_offset: u64,
    pub(crate) end_offset: u64,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) cut: Option<TailCut>,
    /// Damage at or below durable evidence: appends are refused, what is intact stays readable.
    pub(crate) damage: Option<Error>,
    /// Files that aren't ours.
    pub(crate) ignored: Vec<PathBuf>,
    /// Where a follower goes on reading.
    pub(crate) end: Option<EndPlace>,
    set_aside: Vec<(PathBuf, u64)>,
    unlink: Vec<PathBuf>,
    tail: Vec<TailPart>,
    active: Option<(Arc<Segment>, u64)>,
    previous: Previous,
}

/// Where the last segment ends, and what must come next.
#[derive(Clone, Debug)]
pub(crate) struct EndPlace {
    pub(crate) segment: Arc<Segment>,
    pub(crate) place: Place,
}

impl Recovered {
    /// A partition whose files can't be taken for its own: nothing is read or written.
    pub(crate) fn unusable(error: Error) -> Recovered {
        Recovered { damage: Some(error), ..Recovered::empty() }
    }

    fn empty() -> Recovered {
        Recovered {
            log_start: 0,
            durable_offset: 0,
            end_offset: 0,
            segments: Vec::new(),
            cut: None,
            damage: None,
            ignored: Vec::new(),
            end: None,
            set_aside: Vec::new(),
            unlink: Vec::new(),
            tail: Vec::new(),
            active: None,
            previous: Previous::default(),
        }
    }

    /// The epoch of the last batch that counts.
    pub(crate) fn epoch(&self) -> u32 {
        self.end.as_ref().map_or(0, |end| end.place.epoch)
    }

    /// Nothing can be of an epoch that has not begun: if it is, the catalogue has lost entries that
    /// were durable, and what were appended now would not fit to what is there.
    pub(crate) fn check_epoch(&mut self, new_epoch: u32) {
        if let Some(end) = &self.end
            && end.place.epoch >= new_epoch
            && self.damage.is_none()
        {
            let reason = format!(
                "it holds epoch {}, and the catalogue knew epochs below {new_epoch} only: entries that were durable \
                 are missing from the catalogue",
                end.place.epoch
            );
            self.damage = Some(Error::corrupt(reason).at_path(end.segment.path()));
        }
    }

    /// The place everything is durable up to, if that is the end.
    pub(crate) fn mark(&self) -> Option<Mark> {
        let end = self.end.as_ref()?;
        (self.durable_offset == self.end_offset && self.damage.is_none()).then(|| Mark {
            epoch: end.place.epoch,
            log_start_offset: self.log_start,
            durable_offset: self.end_offset,
            segment_base_offset: end.segment.base_offset(),
            position: end.place.position,
        })
    }

    /// Nothing is written here any more, so there is nothing to wait for. What is left may end below
    /// the log start.
    fn end_at_once(&mut self) {
        self.end_offset = self.end_offset.max(self.log_start);
        self.durable_offset = self.end_offset;
    }

    /// Where the writer begins.
    pub(crate) fn into_start(self, epoch: u32) -> Start {
        Start { epoch, active: self.active, previous: self.previous, tail: self.tail }
    }

    /// Does what recovery found to do: files of which nothing counts are set aside (and the
    /// directory synced, before anything is appended), leftovers removed.
    pub(crate) fn apply(&self, disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| Error::io(error).at_path(&path)
        };
        for path in &self.unlink {
            match disk.unlink(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(path)(error)),
                _ => {}
            }
        }
        let mut moved = Vec::new();
        // From the last to the first: what is left in between is a shorter torn tail.
        for (path, file_id) in self.set_aside.iter().rev() {
            moved.push(set_aside(disk, dir, path, *file_id)?);
        }
        if !moved.is_empty() && !bites("set-aside-not-synced") {
            disk.sync_dir(dir).map_err(at(dir))?;
        }
        Ok(moved)
    }
}

/// A segment file found in the directory.
struct Candidate {
    path: PathBuf,
    base_offset: u64,
    file: Arc<dyn File>,
    length: u64,
    /// `Err`: no header of ours, and why.
    header: std::result::Result<FileHeader, FormatError>,
}

impl Candidate {
    /// Whether `next` says that it continues this file; then where this one ends.
    fn continued_by(&self, next: &Candidate) -> Option<Previous> {
        let (Ok(header), Ok(next_header)) = (&self.header, &next.header) else { return None };
        let previous = next_header.previous;
        if header.rewrite > 0 {
            // It says itself where it ends; what it was when its successor was made no longer matters.
            let fits = header.rewritten_end_offset == next.base_offset
                && header.rewritten_length <= self.length
                && next_header.epoch >= header.epoch;
            let (end_offset, length) = (header.rewritten_end_offset, header.rewritten_length);
            return fits.then_some(Previous { end_offset, length, ..previous });
        }
        let fits = previous.file_id == header.file_id
            && previous.base_offset == header.base_offset
            && previous.end_offset == next.base_offset
            && previous.length >= BLOCK_BYTES
            && previous.length <= self.length
            && next_header.epoch >= header.epoch;
        (fits || (bites("predecessor-not-checked") && previous.length <= self.length)).then_some(previous)
    }
}

/// Finds out what counts. Changes nothing.
///
/// `mark` is the catalogue's newest for this partition.
///
/// # Errors
/// Where the partition can't be opened at all: files of another log, of a newer format, that aren't
/// regular, or that the system doesn't let us read. Damage is not an error here but reported.
pub(crate) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    log: &LogId,
    config: &TopicConfig,
    mark: Option<&Mark>,
) -> Result<Recovered> {
    let mut recovered = Recovered::empty();
    let mut files = list(disk, dir, log, &mut recovered)?;
    let mut log_start = mark.map_or(0, |mark| mark.log_start_offset);
    if bites("log-start-of-catalogue-ignored") {
        log_start = 0;
    }
    recovered.log_start = log_start;
    recovered.end_offset = log_start;
    // What retention was about to drop.
    while let [first, second, ..] = files.as_slice()
        && second.base_offset <= log_start
        && second.header.is_ok()
    {
        recovered.unlink.push(index_path(&first.path));
        recovered.unlink.push(first.path.clone());
        files.remove(0);
    }
    let mut evidence = mark.map_or(0, |mark| mark.durable_offset.max(log_start));
    for file in &files {
        if file.length == 0 && bites("empty-segment-refused") {
            return Err(Error::corrupt("a segment is empty").at_path(&file.path));
        }
        if let Ok(header) = &file.header {
            evidence = evidence.max(header.durable_before);
        }
    }
    Walk { config, mark, files, recovered, evidence }.run()
}

/// The segment files in order, with their headers. Notes leftovers and foreign files.
fn list(disk: &dyn Disk, dir: &Path, log: &LogId, recovered: &mut Recovered) -> Result<Vec<Candidate>> {
    let entries = match disk.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io(error).at_path(dir)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = dir.join(&entry.name);
        let Some(base_offset) = base_offset_of(&entry.name) else {
            match entry.name.as_str() {
                NEXT_NAME | PREPARED_NAME => recovered.unlink.push(path),
                name if name.starts_with(SET_ASIDE) => {}
                name if name.ends_with(".index.tmp") && entry.kind == EntryKind::File => recovered.unlink.push(path),
                // What an interrupted repair left: it is needed no more if nothing is damaged.
                name if name.contains(REPAIR_INFIX) && entry.kind == EntryKind::File => recovered.unlink.push(path),
                name if name.ends_with(".index") => {}
                _ => recovered.ignored.push(path),
            }
            continue;
        };
        if entry.kind != EntryKind::File {
            return Err(
                Error::new(ErrorKind::Foreign { reason: "a segment must be a regular file".into() }).at_path(&path)
            );
        }
        let open = || {
            let file = disk.open(&path, Access::Read)?;
            let length = file.length()?;
            let header = read_header(&*file)?;
            Ok((file, length, header))
        };
        let (file, length, header) = open().map_err(|error: io::Error| Error::io(error).at_path(&path))?;
        let checked =
            header.and_then(|header| header.expect(FileKind::Segment, log).map(|()| header)).and_then(|header| {
                if header.base_offset == base_offset {
                    Ok(header)
                } else {
                    Err(FormatError::Foreign(format!("its header says base offset {}", header.base_offset)))
                }
            });
        match &checked {
            Err(FormatError::Newer(found)) => {
                return Err(Error::new(ErrorKind::NewerFormat { found: found.clone() }).at_path(&path));
            }
            Err(FormatError::Foreign(reason)) => {
                return Err(Error::new(ErrorKind::Foreign { reason: reason.clone() }).at_path(&path));
            }
            _ => {}
        }
        files.push(Candidate { path, base_offset, file, length, header: checked });
    }
    Ok(files)
}

/// The walk over the files, in order.
struct Walk<'a> {
    config: &'a TopicConfig,
    mark: Option<&'a Mark>,
    files: Vec<Candidate>,
    recovered: Recovered,
    /// Everything below this offset was durable once.
    evidence: u64,
}

/// A batch that no evidence covers: where it begins, in which of the recovered segments.
struct Above {
    end_offset: u64,
    segment: usize,
    place: Place,
}

impl Walk<'_> {
    fn run(mut self) -> Result<Recovered> {
        let log_start = self.recovered.log_start;
        let unusable = match self.files.first() {
            None => Some("no segment file is there".to_owned()),
            Some(Candidate { header: Err(error), .. }) => {
                Some(format!("the first segment's header doesn't fit: {error}"))
            }
            Some(first) if first.base_offset > log_start => {
                Some(format!("the first segment begins at {}, the log at {log_start}", first.base_offset))
            }
            Some(_) => None,
        };
        if let Some(reason) = unusable {
            return Ok(self.nothing_counts(&reason));
        }
        let mut at = 0;
        // Whole segments below the evidence: their successors say where they end.
        while let Ok(header) = self.files[at].header.clone()
            && let Some(next) = self.files.get(at + 1)
            && next.base_offset <= self.evidence
            && let Some(previous) = self.files[at].continued_by(next)
        {
            self.add(at, header, previous.length, Some(previous), None);
            at += 1;
        }
        match self.files[at].header.clone() {
            Ok(header)
                if header.rewrite > 0
                    && at + 1 == self.files.len()
                    && header.rewritten_length <= self.files[at].length =>
            {
                Ok(self.ends_rewritten(at, header))
            }
            _ => self.scan_from(at),
        }
    }

    /// The last file was rewritten: it is whole, and the log goes on behind it in a new one.
    fn ends_rewritten(mut self, at: usize, header: FileHeader) -> Recovered {
        let (end_offset, length) = (header.rewritten_end_offset, header.rewritten_length);
        let mark_epoch = self.mark.map_or(0, |mark| mark.epoch);
        let place = Place { position: length, next_offset: end_offset, epoch: header.epoch.max(mark_epoch) };
        let sealed = Previous {
            file_id: header.file_id,
            base_offset: header.base_offset,
            end_offset,
            length,
            appended_ms: header.created_ms,
            max_timestamp: i64::MIN,
        };
        let index = SegmentIndex::new(self.config.index_interval_bytes);
        let segment = self.add(at, header, length, Some(sealed), Some((index, length)));
        self.recovered.end_offset = end_offset;
        if self.evidence > end_offset && self.evidence <= self.recovered.log_start {
            return self.all_below_start();
        }
        if self.evidence > end_offset {
            let reason =
                format!("offsets below {} were durable, but no file holds those from {end_offset} on", self.evidence);
            let error = Error::corrupt(reason).at_path(segment.path()).at_position(length).at_offset(end_offset);
            self.recovered.damage = Some(error);
            self.recovered.end_at_once();
            return self.recovered;
        }
        self.recovered.durable_offset = end_offset;
        self.recovered.end = Some(EndPlace { segment: segment.clone(), place });
        self.recovered.previous = previous_of(&segment, end_offset, length);
        self.recovered
    }

    /// Scans from a segment on, to the end of what counts.
    fn scan_from(mut self, first: usize) -> Result<Recovered> {
        let mut at = first;
        let mut epoch = 0;
        let mut above = VecDeque::new();
        while let Ok(header) = self.files[at].header.clone() {
            // Where the successor says that this one ends: nothing beyond counts.
            let end = self.files.get(at + 1).and_then(|next| self.files[at].continued_by(next));
            let file = self.files[at].file.clone();
            let rewritten = (header.rewrite > 0).then_some((header.rewritten_length, header.rewritten_end_offset));
            let length = match (end, rewritten) {
                (Some(end), _) => end.length,
                (None, Some((length, _))) => length.min(self.files[at].length),
                (None, None) => self.files[at].length,
            };
            let start = self.start_in(&header, at == first, length, epoch);
            let index = SegmentIndex::new(self.config.index_interval_bytes);
            let segment = self.add(at, header, start.position, None, Some((index, start.position)));
            let mut scan = Scan::new(&*file, length, segment.seed(), start).sparse(rewritten.is_some());
            let misfit = loop {
                let before = scan.place();
                match scan
                    .next()
                    .map_err(|error| Error::io(error).at_path(segment.path()).at_position(before.position))?
                {
                    Found::Batch { header, position } => {
                        self.evidence = self.evidence.max(header.durable_before);
                        let number = self.recovered.segments.len() - 1;
                        above.push_back(Above { end_offset: header.end_offset(), segment: number, place: before });
                        while above.front().is_some_and(|batch: &Above| batch.end_offset <= self.evidence) {
                            above.pop_front();
                        }
                        segment.note(&header, position);
                        segment.publish(scan.place().position);
                    }
                    Found::End(misfit) => {
                        if bites("read-on-after-a-hole")
                            && let Ok(Some(place)) = next_batch(&*file, length, segment.seed(), scan.place())
                        {
                            scan = Scan::new(&*file, length, segment.seed(), place);
                            continue;
                        }
                        break misfit;
                    }
                }
            };
            let mut stopped = scan.place();
            if let Some((_, end_offset)) = rewritten.filter(|&(length, _)| length == stopped.position) {
                stopped.next_offset = stopped.next_offset.max(end_offset);
            }
            epoch = stopped.epoch;
            self.recovered.end_offset = stopped.next_offset;
            self.recovered.end = Some(EndPlace { segment: segment.clone(), place: stopped });
            let next_epoch =
                self.files.get(at + 1).and_then(|next| next.header.as_ref().ok()).map(|header| header.epoch);
            if let Some(end) = end
                && stopped.position == end.length
                && stopped.next_offset >= end.end_offset
                && next_epoch.is_some_and(|next| next >= epoch)
            {
                segment.seal(end.end_offset);
                self.recovered.end_offset = end.end_offset;
                at += 1;
                continue;
            }
            return self.finish(at, &segment, stopped, &misfit, &above);
        }
        // Only files with a valid header are entered.
        Ok(self.recovered)
    }

    /// Where to begin in a file: at the newest mark if it lies there, else at its first batch.
    fn start_in(&self, header: &FileHeader, is_first: bool, length: u64, epoch: u32) -> Place {
        let base_offset = header.base_offset;
        let epoch = epoch.max(header.epoch);
        match self.mark {
            Some(mark)
                if is_first
                    && header.rewrite == 0
                    && mark.segment_base_offset == base_offset
                    && mark.durable_offset >= base_offset
                    && (BLOCK_BYTES..=length).contains(&mark.position)
                    && mark.position.is_multiple_of(8) =>
            {
                Place { position: mark.position, next_offset: mark.durable_offset, epoch: epoch.max(mark.epoch) }
            }
            _ => Place { position: BLOCK_BYTES, next_offset: base_offset, epoch },
        }
    }

    /// Nothing fits at `stopped` in file `at`: a torn tail, or damage.
    fn finish(
        mut self,
        at: usize,
        segment: &Arc<Segment>,
        stopped: Place,
        misfit: &FormatError,
        above: &VecDeque<Above>,
    ) -> Result<Recovered> {
        if let FormatError::Newer(found) = misfit {
            return Err(Error::new(ErrorKind::NewerFormat { found: found.clone() })
                .at_path(segment.path())
                .at_position(stopped.position));
        }
        let here = |reason: String| Error::corrupt(reason).at_path(segment.path()).at_position(stopped.position);
        if let Some(next) = self.files.get(at + 1)
            && let Ok(next_header) = &next.header
            && next.base_offset < stopped.next_offset
            && next_header.epoch >= stopped.epoch
        {
            let next_path = next.path.display();
            self.recovered.damage = Some(here(format!(
                "it holds offsets below {}, and {next_path} begins at {}: two files for the same offsets",
                stopped.next_offset, next.base_offset
            )));
            self.recovered.end_at_once();
            return Ok(self.recovered);
        }
        let (beyond, written_bytes) = self.look_beyond(at, stopped)?;
        let evidence = self.evidence.max(beyond.durable_before);
        let below_start = evidence <= self.recovered.log_start && !bites("retained-rest-is-damage");
        if stopped.next_offset < evidence && below_start {
            return Ok(self.all_below_start());
        }
        if evidence > stopped.next_offset && !bites("cut-below-the-evidence") {
            let reason = format!(
                "offsets below {evidence} were durable, but where offset {} should stand nothing fits: {misfit}",
                stopped.next_offset
            );
            self.recovered.damage = Some(here(reason).at_offset(stopped.next_offset));
            self.salvage(at, segment, stopped)?;
            self.recovered.end_at_once();
            return Ok(self.recovered);
        }
        self.recovered.durable_offset = evidence.max(self.recovered.log_start).min(stopped.next_offset);
        if written_bytes > 0 || at + 1 < self.files.len() {
            let path = segment.path().to_owned();
            self.recovered.cut = Some(TailCut { path, position: stopped.position, bytes: written_bytes });
            if bites("report-says-nothing-of-a-cut") {
                self.recovered.cut = None;
            }
        }
        for file in &self.files[at + 1..] {
            let file_id = file.header.as_ref().map_or(0, |header| header.file_id);
            self.recovered.set_aside.push((file.path.clone(), file_id));
            self.recovered.unlink.push(index_path(&file.path));
        }
        let unproven = !above.is_empty() || self.recovered.cut.is_some();
        self.recovered.tail = tail_parts(above, &self.recovered.segments, stopped);
        if unproven {
            // An index written in the life that was cut may speak of batches that are gone.
            self.recovered.unlink.push(index_path(segment.path()));
        }
        let rewritten = segment.header().rewrite > 0;
        self.recovered.tail.retain(|part| part.segment.header().rewrite == 0);
        if (!beyond.any_valid || bites("valid-bytes-written-over")) && !rewritten {
            self.recovered.active = Some((segment.clone(), self.files[at].length));
        } else if stopped.position == BLOCK_BYTES && !rewritten {
            // Nothing of it counts and its place is taken: its successor bears the same name.
            self.recovered.previous = segment.header().previous;
            self.recovered.set_aside.insert(0, (segment.path().to_owned(), segment.header().file_id));
            self.recovered.segments.pop();
            self.recovered.tail.retain(|part| !Arc::ptr_eq(&part.segment, segment));
        } else {
            segment.seal(stopped.next_offset);
            self.recovered.previous = previous_of(segment, stopped.next_offset, stopped.position);
        }
        Ok(self.recovered)
    }

    /// Searches the rest of file `at` and all later ones. What is said of valid headers holds for
    /// file `at`; the evidence for all; also how many bytes were written there.
    fn look_beyond(&self, at: usize, stopped: Place) -> Result<(Beyond, u64)> {
        let mut result = Beyond::default();
        let mut written_bytes = 0;
        for (number, file) in self.files.iter().enumerate().skip(at) {
            let Ok(header) = &file.header else {
                // Without its header nothing in a file can be told.
                written_bytes += file.length;
                continue;
            };
            let from = if number == at { stopped.position } else { BLOCK_BYTES };
            let beyond = search(&*file.file, file.length, header.seed(), from, stopped.epoch)
                .map_err(|error| Error::io(error).at_path(&file.path))?;
            written_bytes += beyond.written_end - from;
            result.durable_before = result.durable_before.max(beyond.durable_before);
            if number == at {
                result.any_valid = beyond.any_valid;
            }
        }
        Ok((result, written_bytes))
    }

    /// After damage: what is intact behind it stays readable, and the log ends behind the last
    /// whole batch.
    fn salvage(&mut self, at: usize, segment: &Arc<Segment>, stopped: Place) -> Result<()> {
        // The index gathered so far ends at the damage.
        segment.forget_index();
        segment.forget_times();
        let mut last = (segment.clone(), at, stopped);
        for number in at + 1..self.files.len() {
            let Ok(header) = self.files[number].header.clone() else { continue };
            match self.files[last.1].continued_by(&self.files[number]) {
                Some(previous) => last.0.publish(previous.length),
                // Its successor is missing.
                None => self.publish_whole(&last.0, last.1, last.2)?,
            }
            last.0.seal(header.base_offset);
            let place = Place { position: BLOCK_BYTES, next_offset: header.base_offset, epoch: header.epoch };
            last = (self.add(number, header, BLOCK_BYTES, None, None), number, place);
            last.0.forget_times();
        }
        self.publish_whole(&last.0, last.1, last.2)
    }

    /// Publishes file `number`, of which nothing says where it ends, up to its last whole batch.
    fn publish_whole(&mut self, segment: &Segment, number: usize, mut from: Place) -> Result<()> {
        let file = &self.files[number];
        let io = |error| Error::io(error).at_path(&file.path);
        loop {
            let rewritten = segment.header().rewrite > 0;
            let mut scan = Scan::new(&*file.file, file.length, segment.seed(), from).sparse(rewritten);
            while let Found::Batch { .. } = scan.next().map_err(io)? {
                segment.publish(scan.place().position);
                self.recovered.end_offset = self.recovered.end_offset.max(scan.place().next_offset);
            }
            match next_batch(&*file.file, file.length, segment.seed(), scan.place()).map_err(io)? {
                Some(place) => from = place,
                None => return Ok(()),
            }
        }
    }

    /// Everything that was durable lies below the log start, and what is left ends there: retention
    /// was about to drop these files, and what came behind them was never durable.
    fn all_below_start(mut self) -> Recovered {
        let log_start = self.recovered.log_start;
        for file in &self.files {
            self.recovered.unlink.push(index_path(&file.path));
            if file.base_offset < log_start {
                self.recovered.unlink.push(file.path.clone());
            } else {
                let file_id = file.header.as_ref().map_or(0, |header| header.file_id);
                self.recovered.set_aside.push((file.path.clone(), file_id));
                let cut = TailCut { path: file.path.clone(), position: 0, bytes: 0 };
                self.recovered.cut.get_or_insert(cut).bytes += file.length;
            }
        }
        self.recovered.segments.clear();
        self.recovered.end = None;
        self.recovered.end_offset = log_start;
        self.recovered.durable_offset = log_start;
        self.recovered
    }

    /// No segment can be used: damage if something was durable, else a torn beginning.
    fn nothing_counts(mut self, reason: &str) -> Recovered {
        let log_start = self.recovered.log_start;
        let path = self.files.first().map(|file| file.path.clone());
        self.recovered.durable_offset = log_start;
        if self.evidence > log_start {
            let reason = format!("offsets below {} were durable, but {reason}", self.evidence);
            let error = Error::corrupt(reason).at_offset(log_start);
            self.recovered.damage = Some(match path {
                Some(path) => error.at_path(&path),
                None => error,
            });
            return self.recovered;
        }
        if let Some(path) = path {
            let bytes = self.files.iter().map(|file| file.length).sum();
            self.recovered.cut = Some(TailCut { path, position: 0, bytes });
        }
        for file in &self.files {
            let file_id = file.header.as_ref().map_or(0, |header| header.file_id);
            self.recovered.set_aside.push((file.path.clone(), file_id));
            self.recovered.unlink.push(index_path(&file.path));
        }
        self.recovered
    }

    /// Adds the segment of file `at`, whose header is `header`.
    fn add(
        &mut self,
        at: usize,
        header: FileHeader,
        published: u64,
        sealed: Option<Previous>,
        index: Option<(SegmentIndex, u64)>,
    ) -> Arc<Segment> {
        let file = &self.files[at];
        let reserved_bytes = match sealed {
            Some(_) => file.length,
            None => file.length.max(self.config.segment_bytes).next_multiple_of(BLOCK_BYTES),
        };
        let segment = Arc::new(Segment::new(SegmentParts {
            path: file.path.clone(),
            header,
            reserved_bytes,
            index_interval_bytes: self.config.index_interval_bytes,
            published,
            end_offset: sealed.map(|previous| previous.end_offset),
            max_timestamp: sealed.map_or(i64::MIN, |previous| previous.max_timestamp),
            appended_ms: sealed.map_or(i64::MIN, |previous| previous.appended_ms),
            index,
        }));
        self.recovered.segments.push(segment.clone());
        segment
    }
}

/// The stretches from the first batch above the evidence to the end; a segment that no evidence
/// reaches into is there with its header, even if it has no batch.
fn tail_parts(above: &VecDeque<Above>, segments: &[Arc<Segment>], stopped: Place) -> Vec<TailPart> {
    let last = segments.len().saturating_sub(1);
    let (first, place) = above.front().map_or((last, stopped), |batch| (batch.segment, batch.place));
    let mut parts = Vec::new();
    for (number, segment) in segments.iter().enumerate().skip(first) {
        let from = if number == first {
            place
        } else {
            Place { position: BLOCK_BYTES, next_offset: segment.base_offset(), epoch: segment.header().epoch }
        };
        let to = if number == last { stopped.position } else { segment.published() };
        if to > from.position || from.position == BLOCK_BYTES {
            parts.push(TailPart { segment: segment.clone(), from, to });
        }
    }
    parts
}
