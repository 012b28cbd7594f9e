//! A partition as another process sees it that reads beside the writer.
//!
//! Its log ends where nothing validates yet; there it looks for a successor before it says so. It
//! reads with read-at only; what it publishes may then be mapped. Its durable offset is the
//! evidence it has read, in the log and in the catalogue. It writes nothing.
//!
//! Files may go while they are followed: retention drops them, repair replaces them. The catalogue says where the
//! log starts before any file goes, so a reader that misses a file looks there and begins anew.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::followed_files::FollowedFile;
use super::recovery::{Doubt, EndPlace, Recovered, recover};
use super::{NotedOf, Partition};
use crate::disk::{Access, File};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, FileKind, Mark};
use crate::lock::{Ordering, lock, write};
use crate::segment::{Found, Place, Scan, Segment, base_offset_of, log_name, read_header};

/// How often it is looked whether a name leads to another file by now: one that was repaired, or that an overlay file
/// system copied when it was first written.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

/// How often the catalogue is asked again while it says, each time, that the log starts later than before.
const LOOKS: u32 = 100;

/// How often damage is looked at again before it counts.
const TRIES: u32 = 5;

/// Where following goes on.
#[derive(Debug)]
pub(crate) struct Follower {
    end: Option<EndPlace>,
    /// That of the end, if it is open.
    file: Arc<FollowedFile>,
    /// The catalogue's.
    mark: Mark,
    /// How far it is noted to be durable.
    noted: u64,
    /// When to open the file's name again if it has nothing new.
    reopen_at: Duration,
    /// Damage was found, and the listener wasn't told yet.
    found_damage: bool,
    /// What stood in the directory when the damage was found; `None`: it is looked at anew.
    damaged: Option<Seen>,
    /// Why the last look failed, until a reader was told.
    unread: Option<Error>,
}

impl Follower {
    /// Goes on where recovery stopped; `mark` is the catalogue's.
    pub(crate) fn new(recovered: &Recovered, mark: Option<Mark>) -> Follower {
        Follower {
            end: recovered.end.clone(),
            file: Arc::default(),
            mark: mark.unwrap_or(only_start(recovered.log_start)),
            noted: 0,
            reopen_at: Duration::ZERO,
            found_damage: false,
            damaged: None,
            unread: None,
        }
    }

    /// Whether all that it has read lies below the log start.
    fn is_behind(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.place.next_offset < self.mark.log_start_offset)
    }

    /// Reads what the writer has added since. `Some`: a file is missing, unless the catalogue says by now that it was
    /// dropped.
    fn refresh(&mut self, partition: &Partition) -> Result<Option<Error>> {
        if partition.stopped().is_some() {
            return Ok(None);
        }
        if partition.damage().is_some() {
            if !self.is_repaired(partition) {
                return Ok(None);
            }
            self.end = None;
        }
        let mut begun = 0;
        loop {
            if self.end.is_none() || self.is_behind() {
                begun += 1;
                if begun > LOOKS {
                    // Files that never stay as they were found: the next look may find them at rest.
                    return Ok(None);
                }
                match self.begin(partition)? {
                    Begun::Yes => {}
                    Begun::NothingThere => return Ok(None),
                    Begun::Missing(error) => return Ok(Some(error)),
                }
            }
            if let Some(missing) = self.read_on(partition)? {
                return Ok(Some(missing));
            }
            if self.end.is_none() {
                // Another file stands there by now.
                continue;
            }
            if self.enter_successor(partition)? {
                continue;
            }
            if self.file.get().is_some() && self.is_time_to_reopen(partition) {
                self.file.close();
                continue;
            }
            self.apply_mark(partition);
            return Ok(None);
        }
    }

    /// Begins with what is there now, in place of what was read before.
    fn begin(&mut self, partition: &Partition) -> Result<Begun> {
        let (found, seen) = match self.find(partition) {
            Ok(found) => found,
            Err(error) if is_not_found(&error) => return Ok(Begun::Missing(error)),
            Err(error) => {
                // What was found when it was opened, and is told there, is no news.
                let Some(known) = partition.damage() else { return Err(error) };
                self.damaged = Some(Seen::now(partition, known.path().map(Path::to_owned)));
                return Ok(Begun::NothingThere);
            }
        };
        self.damaged = seen;
        let log_start = self.mark.log_start_offset;
        if let Some(damage) = &found.damage {
            // A first segment that isn't there may have been dropped: the catalogue will say so.
            let name = damage.path().and_then(|path| path.file_name()).and_then(|name| name.to_str());
            let is_there = name.and_then(base_offset_of).is_some_and(|base_offset| base_offset <= log_start);
            if found.end.is_none() && !is_there {
                return Ok(Begun::Missing(damage.clone()));
            }
        }
        let was_damaged = lock(&partition.damage).take().is_some();
        partition.end_is_lost.store(found.end_is_lost, Ordering::SeqCst);
        if let Some(damage) = &found.damage {
            partition.set_damage(damage.clone());
            self.found_damage = true;
        }
        let Some(end) = found.end.clone() else { return Ok(Begun::NothingThere) };
        if found.end_offset < log_start {
            return Ok(Begun::NothingThere);
        }
        let first = found.segments.first().map_or(0, |segment| segment.base_offset());
        // In this order a reader sees the old records, or that its place is out of range; never a gap.
        partition.progress.raise_log_start(log_start.max(first));
        *write(&partition.segments) =
            found.segments.iter().map(|segment| (segment.base_offset(), segment.clone())).collect();
        self.end = Some(end);
        self.file.close();
        self.publish(partition, found.end_offset, found.durable_offset);
        if was_damaged != found.damage.is_some() {
            // Without a new record too.
            partition.tell_subscribers();
        }
        Ok(Begun::Yes)
    }

    /// What is there by now. Evidence may be newer than the bytes before it that were read: damage counts only if
    /// it is found again and again. With damage comes what stood in the directory meanwhile.
    fn find(&self, partition: &Partition) -> Result<(Recovered, Option<Seen>)> {
        // All of it is read: nobody here has looked at it yet.
        let start = only_start(self.mark.log_start_offset);
        // What was durable is missed if it isn't found: then the log is damaged, and no shorter.
        let durable_offset = self.mark.durable_offset.max(partition.progress.durable());
        let noted = NotedOf { durable_offset, ..NotedOf::default() };
        let mut tries = 0;
        let mut seen = None;
        loop {
            let (dir, config) = (&partition.dir, partition.config());
            let found =
                recover(&*partition.env.disk, dir, &partition.log, &config, Some(&start), noted, Doubt::Nothing);
            match found {
                Ok(Recovered { damage: Some(damage), .. }) if tries < TRIES => {
                    seen = Some(Seen::now(partition, damage.path().map(Path::to_owned)));
                    tries += 1;
                }
                Err(error) if !is_not_found(&error) || tries == TRIES => return Err(error),
                Err(_) => tries += 1,
                // `seen` is older than what was found: if a repair came between, the next look shows it.
                Ok(found) => {
                    let seen = seen.filter(|_| found.damage.is_some());
                    return Ok((found, seen));
                }
            }
        }
    }

    /// Accepts batches behind the end, as far as they are whole. `Some` if the file is missing.
    fn read_on(&mut self, partition: &Partition) -> Result<Option<Error>> {
        let Some(end) = &mut self.end else { return Ok(None) };
        let segment = end.segment.clone();
        let at = |error: io::Error| Error::io(error).at_path(segment.path());
        let file = match self.file.get() {
            Some(file) => file,
            None => match partition.env.disk.open(segment.path(), Access::Read) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(at(error))),
                opened => {
                    let file = opened.map_err(at)?;
                    // A file that ends within its header's block has nothing that could have been read.
                    let read_to = Some(end.place.position).filter(|&position| position > BLOCK_BYTES);
                    let is_shorter = file.length().map_err(at)? < read_to.unwrap_or(0);
                    if is_shorter || is_another(&*file, &segment).map_err(at)? {
                        self.end = None;
                        return Ok(None);
                    }
                    file
                }
            },
        };
        partition.env.followed_files.keep(&self.file, file.clone());
        let length = file.length().map_err(at)?;
        let mut head = [0; BATCH_HEADER_BYTES];
        let position = end.place.position;
        let there = file.read_at(&mut head, position).map_err(at)? == head.len()
            && BatchHeader::decode(&head, segment.seed(), position, length.saturating_sub(position)).is_ok();
        if !there {
            return Ok(None);
        }
        let mut scan = Scan::new(&*file, length, segment.seed(), end.place);
        let mut durable = 0;
        while let Found::Batch { header, position } = scan.next().map_err(at)? {
            segment.note(&header, position);
            segment.publish(scan.place().position);
            durable = durable.max(header.durable_before);
        }
        end.place = scan.place();
        let written = end.place.next_offset;
        self.publish(partition, written, durable);
        Ok(None)
    }

    /// Goes on in the file that says it continues this one, if it is there.
    fn enter_successor(&mut self, partition: &Partition) -> Result<bool> {
        let Some(end) = &self.end else { return Ok(false) };
        let path = partition.dir.join(log_name(end.place.next_offset));
        if end.segment.base_offset() == end.place.next_offset {
            return Ok(false);
        }
        let file = match partition.env.disk.open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::io(error).at_path(&path)),
        };
        let header = match read_header(&*file).map_err(|error| Error::io(error).at_path(&path))? {
            Ok(header) => header,
            Err(_) => return Ok(false),
        };
        let previous = header.previous;
        let continues = header.expect(FileKind::Segment, &partition.log).is_ok()
            && previous.file_id == end.segment.header().file_id
            && previous.end_offset == end.place.next_offset
            && previous.length == end.place.position;
        if !continues {
            return Ok(false);
        }
        let length = file.length().map_err(|error| Error::io(error).at_path(&path))?;
        let place =
            Place { position: BLOCK_BYTES, next_offset: header.base_offset, epoch: header.epoch.max(end.place.epoch) };
        let durable = header.durable_before;
        let config = partition.config();
        let reserved_bytes = length.max(config.segment_bytes).next_multiple_of(BLOCK_BYTES);
        let next = Arc::new(Segment::empty(path, header, reserved_bytes, config.index_interval_bytes));
        end.segment.seal(place.next_offset);
        partition.add_segment(next.clone());
        self.end = Some(EndPlace { segment: next, place });
        partition.env.followed_files.keep(&self.file, file);
        self.publish(partition, place.next_offset, durable);
        Ok(true)
    }

    fn publish(&self, partition: &Partition, written: u64, durable: u64) {
        let progress = &partition.progress;
        if written > progress.written() {
            partition.publish_written(written);
        }
        let durable = durable.min(progress.written());
        if durable > progress.durable() {
            partition.publish_durable(durable);
        }
    }

    /// What the mark says of records that were read.
    fn apply_mark(&self, partition: &Partition) {
        let (log_start, written) = (self.mark.log_start_offset, partition.progress.written());
        if log_start <= written && log_start > partition.progress.log_start() {
            partition.progress.raise_log_start(log_start);
            partition.forget_segments_below(log_start);
        }
        self.publish(partition, written, self.mark.durable_offset.max(self.noted));
    }

    fn is_time_to_reopen(&mut self, partition: &Partition) -> bool {
        let now = partition.env.clock.monotonic();
        let due = now >= self.reopen_at;
        if due {
            self.reopen_at = now + REOPEN_EVERY;
        }
        due
    }

    /// Whether something else stands where damage was found by now.
    fn is_repaired(&mut self, partition: &Partition) -> bool {
        if !self.is_time_to_reopen(partition) {
            return false;
        }
        self.damaged.as_ref().is_none_or(|seen| Seen::now(partition, seen.path.clone()) != *seen)
    }

    /// What was read doesn't fit, or can't be read: the name may lead to another file than the one that was opened.
    fn reopen(&mut self, partition: &Partition, segment: Option<&Arc<Segment>>) {
        self.file.close();
        let Some(segment) = segment else { return };
        segment.release_view();
        if is_replaced(partition, segment) {
            self.end = None;
        }
    }
}

/// A mark that only says where the log starts.
fn only_start(log_start_offset: u64) -> Mark {
    Mark { epoch: 0, log_start_offset, durable_offset: log_start_offset, segment_base_offset: 0, position: 0 }
}

/// How a follower's beginning ended.
enum Begun {
    Yes,
    /// No record was written yet.
    NothingThere,
    /// A file that should be there is missing, or was dropped.
    Missing(Error),
}

fn is_not_found(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::NotFound)
}

/// Whether another file bears the segment's name by now.
fn is_replaced(partition: &Partition, segment: &Segment) -> bool {
    let file = partition.env.disk.open(segment.path(), Access::Read);
    file.and_then(|file| is_another(&*file, segment)).unwrap_or(false)
}

/// Whether the file under the segment's name is another one: repair keeps the id, and counts how often it rewrote it.
fn is_another(file: &dyn File, segment: &Segment) -> io::Result<bool> {
    Ok(identity(file)?.is_some_and(|identity| identity != (segment.header().file_id, segment.header().rewrite)))
}

/// Which file it is; `None` if its header doesn't say so.
fn identity(file: &dyn File) -> io::Result<Option<(u64, u32)>> {
    Ok(read_header(file)?.ok().map(|header| (header.file_id, header.rewrite)))
}

/// What repair changes in a partition's directory.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// That of the damage, and which file it is.
    path: Option<PathBuf>,
    file: Option<(u64, u32)>,
    /// The first offsets of the segments.
    base_offsets: Vec<u64>,
}

impl Seen {
    /// What can't be read is taken for what isn't there.
    fn now(partition: &Partition, path: Option<PathBuf>) -> Seen {
        let disk = &*partition.env.disk;
        let opened = path.as_deref().and_then(|path| disk.open(path, Access::Read).ok());
        let file = opened.and_then(|file| identity(&*file).ok().flatten());
        let entries = disk.list(&partition.dir).unwrap_or_default();
        let base_offsets = entries.iter().filter_map(|entry| base_offset_of(&entry.name)).collect();
        Seen { path, file, base_offsets }
    }
}

impl Partition {
    /// Makes this a follower of a log that another process writes.
    pub(crate) fn follow(&self, follower: Follower) {
        *lock(&self.follower) = Some(follower);
    }

    /// Looks for what the writing process has added. No-op for a partition written here.
    ///
    /// # Errors
    /// `Io` where a file can't be read or is missing; those of reading the catalogue.
    pub(crate) fn refresh(&self) -> Result<()> {
        self.env.opener.check()?;
        for _ in 0..LOOKS {
            let (refreshed, log_start, found_damage) = match &mut *lock(&self.follower) {
                Some(follower) => {
                    follower.unread = None;
                    let (refreshed, log_start) = (follower.refresh(self), follower.mark.log_start_offset);
                    (refreshed, log_start, std::mem::take(&mut follower.found_damage))
                }
                None => return Ok(()),
            };
            if found_damage {
                self.tell_damage();
            }
            let missing = refreshed?;
            self.look(missing.is_some())?;
            let (is_behind, dropped) = match &*lock(&self.follower) {
                Some(follower) => (follower.is_behind(), follower.mark.log_start_offset > log_start),
                None => return Ok(()),
            };
            match missing {
                // It is told why nothing more comes.
                _ if self.stopped().is_some() => return Ok(()),
                _ if dropped => {}
                Some(error) if matches!(error.kind(), ErrorKind::Corrupt { .. }) => {
                    if self.damage().is_none() {
                        self.set_damage(error);
                        self.tell_damage();
                    }
                    return Ok(());
                }
                Some(error) => return Err(error),
                None if !is_behind => return Ok(()),
                None => {}
            }
        }
        Ok(())
    }

    /// Has the catalogue read on, at once (`now`) or if that was not done for a while. No-op where it is written here.
    pub(crate) fn look(&self, now: bool) -> Result<()> {
        self.env.look.get().map_or(Ok(()), |look| look(now))
    }

    /// Takes in what the catalogue says of this partition by now. Whether its files must be read for that.
    pub(crate) fn follow_mark(&self, mark: &Mark) -> bool {
        if let Some(follower) = &mut *lock(&self.follower)
            && follower.mark != *mark
        {
            follower.mark = *mark;
            follower.apply_mark(self);
            return self.progress.written() < mark.durable_offset.max(mark.log_start_offset);
        }
        false
    }

    /// Whether records were read that aren't known to be durable.
    pub(crate) fn waits_for_durable(&self) -> bool {
        self.progress.durable() < self.progress.written()
    }

    /// The writing process has synced everything below this offset.
    pub(crate) fn follow_durable(&self, durable: u64) {
        if let Some(follower) = &mut *lock(&self.follower)
            && durable > follower.noted
        {
            follower.noted = durable;
            follower.apply_mark(self);
        }
    }

    /// Its files, or the catalogue, can't be read: the next reader that comes to the end is told.
    pub(crate) fn tell_unread(&self, error: Error) {
        if let Some(follower) = &mut *lock(&self.follower) {
            follower.unread = Some(error);
        }
        self.call_subscribers();
    }

    /// Why nothing new was read, if so; told once.
    pub(super) fn take_unread(&self) -> Option<Error> {
        self.env.look.get()?;
        lock(&self.follower).as_mut()?.unread.take()
    }

    /// Has its readers look.
    pub(crate) fn call_subscribers(&self) {
        self.tell_subscribers();
    }

    /// Nothing more will come: the topic is gone, or the engine is closed.
    pub(crate) fn end_following(&self, reason: Error) {
        lock(&self.intake).refuse_failed(reason.at_partition(&self.topic, self.number));
        self.set_closed();
    }

    /// A reader beside the writer came upon this error at `offset`. Whether what it saw may have been outdated, and it
    /// is to look again.
    pub(crate) fn look_again(&self, offset: u64, error: &Error) -> bool {
        let may_be_outdated =
            matches!(error.kind(), ErrorKind::OffsetOutOfRange { .. } | ErrorKind::Io | ErrorKind::Corrupt { .. });
        let (true, Some(look)) = (may_be_outdated, self.env.look.get()) else { return false };
        if look(true).is_err() {
            return false;
        }
        let segment = self.segment_for(offset).ok();
        match &mut *lock(&self.follower) {
            Some(follower) => follower.reopen(self, segment.as_ref()),
            None => return false,
        }
        self.refresh().is_ok()
    }
}
