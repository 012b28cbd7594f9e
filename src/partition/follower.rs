//! A partition as another process sees it that reads beside the writer.
//!
//! Its log ends where nothing validates yet; there it looks for a successor before it says so. It
//! reads with read-at only; what it publishes may then be mapped. Its durable offset is the
//! evidence it has read. It writes nothing.

use std::io;
use std::sync::Arc;

use super::Partition;
use super::recovery::{Doubt, EndPlace, Recovered, recover};
use crate::disk::{Access, File};
use crate::error::{Error, Result};
use crate::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, FileKind, Mark};
use crate::segment::{Found, Place, Scan, Segment, base_offset_of, log_name, read_header};

/// Where following goes on.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    end: Option<EndPlace>,
    file: Option<Arc<dyn File>>,
}

impl Follower {
    /// Goes on where recovery stopped.
    pub(crate) fn new(recovered: &Recovered) -> Follower {
        Follower { end: recovered.end.clone(), file: None }
    }

    /// Reads what the writer has added since.
    pub(crate) fn refresh(&mut self, partition: &Partition) -> Result<()> {
        if partition.damage().is_some() {
            return Ok(());
        }
        loop {
            if self.end.is_none() && !self.begin(partition)? {
                return Ok(());
            }
            self.read_on(partition)?;
            if !self.enter_successor(partition)? {
                return Ok(());
            }
        }
    }

    /// Looks for the first segment of a partition that had none.
    fn begin(&mut self, partition: &Partition) -> Result<bool> {
        let found = Follower::find(partition)?;
        if let Some(damage) = found.damage {
            // A first segment that isn't there may have been dropped: the catalogue will say so.
            let log_start = partition.progress.log_start();
            let name = damage.path().and_then(|path| path.file_name()).and_then(|name| name.to_str());
            let is_there = name.and_then(base_offset_of).is_some_and(|base_offset| base_offset <= log_start);
            if found.end.is_none() && !is_there {
                return Ok(false);
            }
            partition.set_damage(damage);
        }
        let Some(end) = found.end else { return Ok(false) };
        partition.progress.raise_log_start(found.segments.first().map_or(0, |segment| segment.base_offset()));
        for segment in found.segments {
            partition.add_segment(segment);
        }
        self.publish(partition, found.end_offset, found.durable_offset);
        self.end = Some(end);
        Ok(true)
    }

    /// What is there by now. Evidence may be newer than the bytes before it that were read: damage counts only if
    /// it is found again and again.
    fn find(partition: &Partition) -> Result<Recovered> {
        let log_start = partition.progress.log_start();
        let start = Mark {
            epoch: 0,
            log_start_offset: log_start,
            durable_offset: log_start,
            segment_base_offset: 0,
            position: 0,
        };
        let mut tries = 0;
        loop {
            let (dir, config) = (&partition.dir, partition.config());
            let found = recover(&*partition.env.disk, dir, &partition.log, &config, Some(&start), Doubt::Nothing)?;
            if found.damage.is_none() || tries == 5 {
                return Ok(found);
            }
            tries += 1;
        }
    }

    /// Accepts batches behind the end, as far as they are whole.
    fn read_on(&mut self, partition: &Partition) -> Result<()> {
        let Some(end) = &mut self.end else { return Ok(()) };
        let segment = end.segment.clone();
        let at = |error: io::Error| Error::io(error).at_path(segment.path());
        let file = match &self.file {
            Some(file) => file.clone(),
            None => partition.env.disk.open(segment.path(), Access::Read).map_err(at)?,
        };
        self.file = Some(file.clone());
        let length = file.length().map_err(at)?;
        let mut head = [0; BATCH_HEADER_BYTES];
        let position = end.place.position;
        let there = file.read_at(&mut head, position).map_err(at)? == head.len()
            && BatchHeader::decode(&head, segment.seed(), position, length.saturating_sub(position)).is_ok();
        if !there {
            return Ok(());
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
        Ok(())
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
        self.file = Some(file);
        self.publish(partition, place.next_offset, durable);
        Ok(true)
    }

    fn publish(&self, partition: &Partition, written: u64, durable: u64) {
        let progress = &partition.progress;
        if written > progress.written() {
            partition.publish_written(written);
        }
        if durable > progress.durable() {
            partition.publish_durable(durable.min(progress.written()));
        }
    }
}
