//! What of a partition's files counts, after whatever happened.
//!
//! *Evidence decides, never shape* (D3): what doesn't fit is a torn tail unless a mark, a file
//! header or a batch says that something at or above it was durable; then it is damage. Recovery
//! reads on from the newest mark or evidence (D6); it changes nothing by itself: [`Recovered`]
//! says what there is to do, [`Recovered::apply`] does it.

mod candidates;
mod recovered;
#[cfg(all(test, feature = "sim"))]
mod tests;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::evidence::NotedOf;
use super::writer::{TailPart, previous_of};
use crate::config::TopicConfig;
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK_BYTES, FileHeader, FormatError, Mark, Previous};
use crate::ids::LogId;
use crate::segment::{
    Beyond, Found, MAX_SEGMENT_BYTES, Place, Scan, Segment, SegmentIndex, SegmentParts, index_path, is_batch_end,
    next_batch, search,
};
use crate::teeth::bites;

use candidates::{Candidate, list};
pub(crate) use recovered::{EndPlace, Recovered, TailCut};

/// What the name of a segment that repair is writing contains, before a random number.
pub(crate) const REPAIR_INFIX: &str = ".log.repair-";

/// Of what lies above the mark, what the drive may lack though memory has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doubt {
    /// The log was closed, or is only read.
    Nothing,
    /// It wasn't closed: what is found is for the writer's first sync to prove.
    Tail,
    /// A sync failed: memory is to forget, before it is asked, what it takes the drive to have. (Asking the drive
    /// alone would do, and make every open after a kill wait until it has what the dead one wrote.)
    Memory,
}

/// Finds out what counts. Changes nothing.
///
/// `mark` is the catalogue's newest for this partition; `noted` is what the file `evidence` says of it.
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
    noted: NotedOf,
    doubt: Doubt,
) -> Result<Recovered> {
    let mut recovered = Recovered::empty();
    let forget_from = (doubt == Doubt::Memory).then(|| mark.map_or(0, |mark| mark.segment_base_offset));
    let mut files = list(disk, dir, log, forget_from, &mut recovered)?;
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
    let mut evidence = mark.map_or(0, |mark| mark.durable_offset.max(log_start)).max(noted.durable_offset);
    for file in &files {
        if file.length == 0 && bites("empty-segment-refused") {
            return Err(Error::corrupt("a segment is empty").at_path(&file.path));
        }
        if let Ok(header) = &file.header {
            evidence = evidence.max(header.durable_before);
        }
    }
    let too_long = files.iter().find(|file| file.length > MAX_SEGMENT_BYTES).map(|file| {
        let reason = format!("it is {} bytes long, and a segment has at most {MAX_SEGMENT_BYTES}", file.length);
        Error::corrupt(reason).at_path(&file.path)
    });
    let mut recovered = Walk { config, mark, files, recovered, evidence, damaged_at: noted.damaged_at, doubt }.run()?;
    recovered.damage = recovered.damage.or(too_long);
    Ok(recovered)
}

/// The walk over the files, in order.
struct Walk<'a> {
    config: &'a TopicConfig,
    mark: Option<&'a Mark>,
    files: Vec<Candidate>,
    recovered: Recovered,
    /// Everything below this offset was durable once.
    evidence: u64,
    /// Where a reader met damage: that segment is read whole.
    damaged_at: Option<u64>,
    doubt: Doubt,
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
            if self.is_doubtful(at) && !self.is_whole(at, &header, &previous)? {
                break;
            }
            self.add(at, header, previous.length, Some(previous), None);
            at += 1;
        }
        self.scan_from(at)
    }

    /// Whether a reader met damage in the segment of file `at`.
    fn is_doubtful(&self, at: usize) -> bool {
        let next = self.files.get(at + 1).map_or(u64::MAX, |next| next.base_offset);
        self.damaged_at.is_some_and(|offset| (self.files[at].base_offset..next).contains(&offset))
    }

    /// Whether everything fits in file `at`, which ends as its successor says.
    fn is_whole(&self, at: usize, header: &FileHeader, previous: &Previous) -> Result<bool> {
        let place = Place { position: BLOCK_BYTES, next_offset: header.base_offset, epoch: header.epoch };
        let file = &self.files[at];
        let scan = Scan::new(&*file.file, previous.length, header.seed(), place);
        let mut scan = scan.sparse(header.rewrite > 0);
        while let Found::Batch { .. } = scan.next().map_err(|error| Error::io(error).at_path(&file.path))? {}
        Ok(scan.place().position == previous.length)
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
            let start = self.start_in(at, &header, at == first, length, epoch)?;
            let index = SegmentIndex::new(self.config.index_interval_bytes);
            let segment = self.add(at, header, start.position, None, Some((index, start.position)));
            // Where nobody writes meanwhile.
            let written = match (self.doubt, end) {
                (Doubt::Tail | Doubt::Memory, None) => file.stored_end(start.position),
                _ => Ok(self.files[at].length),
            };
            let written = written.map_err(|error| Error::io(error).at_path(segment.path()))?;
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
            return self.finish(at, &segment, stopped, written, &misfit, &above);
        }
        // Only files with a valid header are entered.
        Ok(self.recovered)
    }

    /// Where to begin in a file: at the newest mark if it lies there and a batch ends where it says (a file from an
    /// older copy has none there), at the end of one that was rewritten, which is as durable; else at its first batch.
    fn start_in(&self, at: usize, header: &FileHeader, is_first: bool, length: u64, epoch: u32) -> Result<Place> {
        let base_offset = header.base_offset;
        let epoch = epoch.max(header.epoch);
        let begin = Place { position: BLOCK_BYTES, next_offset: base_offset, epoch };
        if self.is_doubtful(at) {
            return Ok(begin);
        }
        let place = match self.mark {
            Some(mark)
                if is_first
                    && header.rewrite == 0
                    && mark.segment_base_offset == base_offset
                    && mark.durable_offset >= base_offset
                    && (BLOCK_BYTES..=length).contains(&mark.position)
                    && mark.position.is_multiple_of(8)
                    && self.is_there(at, header, mark)? =>
            {
                Place { position: mark.position, next_offset: mark.durable_offset, epoch: epoch.max(mark.epoch) }
            }
            mark if header.rewrite > 0
                && header.rewritten_length == length
                && header.rewritten_end_offset <= self.evidence =>
            {
                let epoch = epoch.max(mark.map_or(0, |mark| mark.epoch));
                Place { position: length, next_offset: header.rewritten_end_offset, epoch }
            }
            _ => begin,
        };
        Ok(place)
    }

    /// Whether file `at` has the batch directly below the mark.
    fn is_there(&self, at: usize, header: &FileHeader, mark: &Mark) -> Result<bool> {
        if mark.position == BLOCK_BYTES {
            return Ok(mark.durable_offset == header.base_offset);
        }
        let Candidate { file, path, .. } = &self.files[at];
        let found = is_batch_end(&**file, header.seed(), mark.position, mark.durable_offset);
        Ok(found.map_err(|error| Error::io(error).at_path(path))? || bites("mark-believed"))
    }

    /// Nothing fits at `stopped` in file `at`: a torn tail, or damage.
    fn finish(
        mut self,
        at: usize,
        segment: &Arc<Segment>,
        stopped: Place,
        written: u64,
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
        let (beyond, written_bytes) = self.look_beyond(at, stopped, written)?;
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
            self.recovered.end_is_lost = self.recovered.end_offset < evidence;
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
        self.recovered.tail = self.tail(above, stopped);
        if unproven {
            // An index written in the life that was cut may speak of batches that are gone.
            self.recovered.unlink.push(index_path(segment.path()));
        }
        let rewritten = segment.header().rewrite > 0;
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
    /// file `at`, from whose byte `written` on there are only zeros; the evidence for all; also how many bytes were
    /// written there.
    fn look_beyond(&self, at: usize, stopped: Place, written: u64) -> Result<(Beyond, u64)> {
        let mut result = Beyond::default();
        let mut written_bytes = 0;
        for (number, file) in self.files.iter().enumerate().skip(at) {
            let Ok(header) = &file.header else {
                // Without its header nothing in a file can be told.
                written_bytes += file.length;
                continue;
            };
            let places = if number == at { stopped.position..written } else { BLOCK_BYTES..file.length };
            let from = places.start;
            let beyond = search(&*file.file, file.length, header.seed(), places, stopped.epoch)
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
                Some(previous) => {
                    last.0.publish(previous.length);
                    self.recovered.end_offset = self.recovered.end_offset.max(previous.end_offset);
                }
                // Its successor is missing.
                None => self.publish_whole(&last.0, last.1, last.2)?,
            }
            if header.base_offset <= self.evidence {
                // The last segment may have no batch yet.
                self.recovered.end_offset = self.recovered.end_offset.max(header.base_offset);
            }
            last.0.seal(header.base_offset);
            let place = Place { position: BLOCK_BYTES, next_offset: header.base_offset, epoch: header.epoch };
            last = (self.add(number, header, BLOCK_BYTES, None, None), number, place);
            last.0.forget_times();
        }
        self.publish_whole(&last.0, last.1, last.2)
    }

    /// Publishes file `number`, of which nothing says where it ends, up to its last whole batch, whatever is left out
    /// before it.
    fn publish_whole(&mut self, segment: &Segment, number: usize, mut from: Place) -> Result<()> {
        let file = &self.files[number];
        let io = |error| Error::io(error).at_path(&file.path);
        loop {
            let mut scan = Scan::new(&*file.file, file.length, segment.seed(), from).sparse(true);
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

    /// The stretches from the first batch above the evidence to the end; a segment that no evidence
    /// reaches into is there with its header, even if it has no batch; in doubt the last one always.
    fn tail(&self, above: &VecDeque<Above>, stopped: Place) -> Vec<TailPart> {
        let segments = &self.recovered.segments;
        let last = segments.len().saturating_sub(1);
        let (first, place) = above.front().map_or((last, stopped), |batch| (batch.segment, batch.place));
        let mut parts = Vec::new();
        for (number, segment) in segments.iter().enumerate().skip(first) {
            let from = if number == first {
                place
            } else {
                Place { position: BLOCK_BYTES, next_offset: segment.base_offset(), epoch: segment.header().epoch }
            };
            let to = segment.published();
            let counts = to > from.position || from.position == BLOCK_BYTES || self.doubt != Doubt::Nothing;
            if counts && segment.header().rewrite == 0 {
                parts.push(TailPart { segment: segment.clone(), from, to });
            }
        }
        parts
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
