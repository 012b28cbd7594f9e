//! From one segment to the next.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Active, FIRST_STEP_BYTES, LAST_STEP_BYTES, Now, PartitionWriter, ROOM_PART, check_active};
use crate::disk::{File, Unnamed};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::format::{BLOCK_BYTES, FileHeader, FileKind, Previous};
use crate::lock::{Ordering, lock};
use crate::partition::aside::set_aside;
use crate::partition::{FileChore, Partition, Prepared};
use crate::segment::{Segment, log_name};
use crate::teeth::bites;

/// The name of a segment's file until its header is written, where a file has to have one.
pub(crate) const NEXT_NAME: &str = "next.tmp";
/// The same for one made ahead of need.
pub(crate) const PREPARED_NAME: &str = "prepared.tmp";

impl PartitionWriter {
    /// Seals the last segment if the upkeep found it too old, and it still is. While there is no room
    /// for the next one it is tried again.
    pub(super) fn seal_if_asked(&mut self, now: Now) {
        // Each turn asks this: a load, of what hardly ever changes.
        if !self.partition.seal_asked.load(Ordering::SeqCst) {
            return;
        }
        let partition = self.partition.clone();
        partition.seal_asked.store(false, Ordering::SeqCst);
        if partition.progress.is_failed()
            // By the time that is now: the turn may have begun before the upkeep looked.
            || !partition.is_last_too_old(partition.env.clock.wall_ms())
        {
            return;
        }
        let term = self.active.as_ref().map_or(0, |active| active.segment.header().term);
        let rolled = self.renew_epoch().and_then(|()| self.roll(partition.progress.written(), term, 0, now));
        match rolled {
            // It may be old enough to be dropped already.
            Ok(()) => partition.env.chores.add_far(partition.clone()),
            Err(error) if error.kind() != &ErrorKind::NoRoom => partition.fail(&error),
            Err(error) => {
                let error = error.at_partition(&partition.topic, partition.number);
                partition.env.events.emit(Event::Background { what: "sealing an old segment", error });
            }
        }
    }

    /// Seals the active segment, if there is one, and begins the next, whose first batch has these.
    pub(super) fn roll(&mut self, base_offset: u64, term: u64, batch_bytes: u64, now: Now) -> Result<()> {
        let partition = self.partition.clone();
        if let Some(active) = &self.active {
            check_active(&partition, active)?;
        }
        let previous = self.previous_of_next(base_offset);
        if self.directory.is_none() {
            let opened = partition.env.disk.open_dir(&partition.dir);
            self.directory = Some(opened.map_err(|error| Error::io(error).at_path(&partition.dir))?);
        }
        let replaced = self.active.as_ref().filter(|active| active.segment.base_offset() == base_offset);
        if let Some(empty) = replaced {
            // Nothing of it counts, and its successor bears the same name.
            let file_id = empty.segment.header().file_id;
            set_aside(&*partition.env.disk, &partition.dir, empty.segment.path(), file_id)?;
            let _ = partition.env.disk.unlink(&crate::segment::index_path(empty.segment.path()));
            let path = empty.segment.path();
            self.tail.retain(|part| part.segment.path() != path);
            self.previous = previous;
            self.active = None;
        }
        let file_id = partition.env.disk.random().map_err(Error::io)?;
        let header = FileHeader {
            kind: FileKind::Segment,
            log: partition.log,
            epoch: self.epoch,
            file_id: file_id.max(1),
            base_offset,
            created_ms: now.wall_ms,
            term,
            log_start_offset: partition.progress.log_start(),
            durable_before: partition.progress.durable(),
            previous,
            rewrite: 0,
            rewritten_end_offset: 0,
            rewritten_length: 0,
            name: partition.topic.to_string(),
        };
        let length = BLOCK_BYTES + batch_bytes;
        let reserved_bytes = partition.config().sealed_at_bytes().max(length).next_multiple_of(BLOCK_BYTES);
        let ahead = lock(&partition.prepared).take();
        let prepared = match ahead {
            Some(prepared) => prepared,
            None => make_next(&partition, NEXT_NAME, |_| FIRST_STEP_BYTES.min(reserved_bytes))?,
        };
        let path = partition.dir.join(log_name(base_offset));
        self.make_way(&path)?;
        let header_written = prepared.unnamed.file.write_at(&[IoSlice::new(&header.encode())], 0);
        if let Err(error) = header_written.and_then(|()| prepared.unnamed.name(&*partition.env.disk, &path)) {
            prepared.unnamed.abandon(&*partition.env.disk);
            return Err(Error::io(error).at_path(&path));
        }
        let interval_bytes = partition.config().index_interval_bytes;
        let segment = Arc::new(Segment::empty(path, header, reserved_bytes, interval_bytes));
        partition.add_segment(segment.clone());
        let step_bytes = prepared.allocated.clamp(FIRST_STEP_BYTES, LAST_STEP_BYTES / 2) * 2;
        let next = Active {
            segment,
            file: Some(prepared.unnamed.file),
            position: BLOCK_BYTES,
            allocated: prepared.allocated,
            zeroed: 0,
            step_bytes,
            began: now.monotonic,
            prepare_asked: false,
            rested: false,
        };
        if let Some(old) = self.active.replace(next) {
            old.segment.seal(base_offset);
            self.sealed.extend(old.file.clone());
            partition.env.chores.add(FileChore::Sealed {
                partition: partition.clone(),
                segment: old.segment,
                file: old.file,
            });
        }
        self.directory_dirty = !bites("no-directory-sync-after-roll");
        self.must_renew = false;
        Ok(())
    }

    /// Moves aside whatever has the name of the next segment: the engine did not make it.
    fn make_way(&self, path: &Path) -> Result<()> {
        let env = &self.partition.env;
        match env.disk.kind(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io(error).at_path(path)),
            Ok(_) if bites("strangers-replaced") => Ok(()),
            Ok(_) => {
                let path = set_aside(&*env.disk, &self.partition.dir, path, 0)?;
                let reason = "it had the name of a segment that was about to be made".to_owned();
                env.events.emit(Event::SetAside { path, reason });
                Ok(())
            }
        }
    }

    /// What the next segment's header says of its predecessor.
    pub(super) fn previous_of_next(&self, base_offset: u64) -> Previous {
        match &self.active {
            Some(active) if active.segment.base_offset() == base_offset => active.segment.header().previous,
            Some(active) => {
                let env = &self.partition.env;
                active.segment.complete_times(&*env.disk, &env.views);
                previous_of(&active.segment, base_offset, active.position)
            }
            None => {
                // An earlier life's last segment, which recovery closed without reading all of it. What it made of
                // that then is too little, also if a reader or the upkeep has learned the rest since.
                let last = self.partition.segments().pop();
                let is_previous = |last: &Arc<Segment>| last.header().file_id == self.previous.file_id;
                let Some(last) = last.filter(is_previous) else { return self.previous };
                let env = &self.partition.env;
                last.complete_times(&*env.disk, &env.views);
                previous_of(&last, self.previous.end_offset, self.previous.length)
            }
        }
    }

    /// Has the next segment's file made if, at this rate, it is needed within seconds: few are made at a time, however
    /// many partitions there are.
    pub(super) fn prepare_if_soon(&mut self, now: Now) {
        const SOON: Duration = Duration::from_secs(3);
        let Some(active) = &mut self.active else { return };
        let size = active.segment.reserved_bytes();
        if active.prepare_asked || active.position < size / 8 {
            return;
        }
        let left = size.saturating_sub(active.position);
        let elapsed = now.monotonic.saturating_sub(active.began);
        if elapsed.as_secs_f64() * left as f64 <= SOON.as_secs_f64() * active.position as f64 {
            active.prepare_asked = true;
            let partition = self.partition.clone();
            self.partition.env.chores.add(FileChore::Prepare { partition, bytes: size });
        }
    }
}

/// What a successor's header says of `segment`, of which `length` bytes count. Times that aren't
/// known ([`Segment::complete_times`]) are the greatest: a lookup has to look inside.
pub(crate) fn previous_of(segment: &Segment, end_offset: u64, length: u64) -> Previous {
    let known = segment.knows_times();
    Previous {
        file_id: segment.header().file_id,
        base_offset: segment.base_offset(),
        end_offset,
        length,
        appended_ms: if known { segment.appended_ms() } else { i64::MAX },
        max_timestamp: if known { segment.max_timestamp() } else { i64::MAX },
    }
}

/// Makes the file of the next segment and reserves `bytes` of it; `name` is its temporary name on a file system that has
/// no files without one.
fn make_next(partition: &Partition, name: &str, bytes: impl Fn(&dyn File) -> u64) -> Result<Prepared> {
    let path = partition.dir.join(name);
    let disk = &*partition.env.disk;
    let made = match Unnamed::create(disk, &path) {
        // Left by a roll that failed. A prepared one is never a leftover: the writer may just be giving
        // it its name.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && name == NEXT_NAME => {
            disk.unlink(&path).and_then(|()| Unnamed::create(disk, &path))
        }
        made => made,
    };
    let unnamed = made.map_err(|error| Error::io(error).at_path(&path))?;
    let allocated = bytes(&*unnamed.file);
    if let Err(error) = unnamed.file.allocate(0..allocated) {
        unnamed.abandon(disk);
        return Err(Error::io(error).at_path(&path));
    }
    Ok(Prepared { unnamed, allocated })
}

/// Makes the next segment's file ahead of need (a chore of the files thread): all `bytes` of it where there is plenty
/// of room, as a step less may wait behind the write-back of what was written. The writer waits for none of it.
pub(crate) fn prepare_next(partition: &Partition, bytes: u64) {
    let is_wanted = |slot: &Option<Prepared>| slot.is_none() && !partition.closed.load(Ordering::SeqCst);
    if !is_wanted(&lock(&partition.prepared)) {
        return;
    }
    let reserved = |file: &dyn File| match file.room() {
        Ok(room) if bytes <= room / ROOM_PART => bytes,
        _ => LAST_STEP_BYTES.min(bytes),
    };
    // Without it the writer makes the file itself, and tells of an error that matters.
    let Ok(prepared) = make_next(partition, PREPARED_NAME, reserved) else { return };
    let mut slot = lock(&partition.prepared);
    match is_wanted(&slot) {
        true => *slot = Some(prepared),
        false => prepared.unnamed.abandon(&*partition.env.disk),
    }
}
