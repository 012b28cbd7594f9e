//! seglog: each log one segment of fixed size; one writer, so a lock around it.
//!
//! What isn't followed by a commit marker is cut when the segment is opened again, and the only
//! public way to write one syncs: so nothing between "in memory" and "synced" is promised.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use seglog::read::Reader;
use seglog::write::Writer;

use crate::payload::{Span, Tally};
use crate::peer::{About, Can, Level, Outcome, Peer, Settings};

pub(crate) const ABOUT: About = About {
    name: "seglog",
    each: Can::Yes(
        Level::None,
        "append_data through a buffer of 16 KiB; without a commit it is cut at the next opening",
    ),
    batches: Can::Yes(Level::Synced, "append_data of a batch, then commit(), which syncs"),
    durable: Can::Yes(Level::Synced, "append_data and commit() under a lock: an fdatasync a record"),
    replay: Can::Yes(Level::Written, "Reader::iter through a buffer of 64 KiB; CRC-32C of each record"),
    logs: Can::Yes(Level::None, "a segment file each"),
    settings: "segments as large as what comes",
};

const BATCH_BYTES: usize = 4 << 20;

struct Segments {
    segments: Vec<Mutex<(Writer<0>, u64)>>,
    paths: Vec<PathBuf>,
    batch: u64,
}

pub(crate) fn open(dir: &Path, settings: &Settings) -> Outcome<Box<dyn Peer>> {
    let bytes = usize::try_from(settings.bytes_a_log())?;
    let paths: Vec<_> = (0..settings.logs).map(|log| dir.join(format!("{log}.seg"))).collect();
    let mut segments = Vec::with_capacity(paths.len());
    for path in &paths {
        segments.push(Mutex::new((Writer::create(path, bytes, 0)?, 0)));
    }
    Ok(Box::new(Segments { segments, paths, batch: settings.batch_of(BATCH_BYTES) }))
}

impl Segments {
    fn with<T>(&self, log: u32, act: impl FnOnce(&mut Writer<0>, &mut u64) -> Outcome<T>) -> Outcome<T> {
        let mut segment = self.segments[log as usize].lock().map_err(|_| "the segment's lock is poisoned")?;
        let (writer, next) = &mut *segment;
        act(writer, next)
    }

    fn each_log(&self, mut act: impl FnMut(&mut Writer<0>, u64) -> Outcome) -> Outcome {
        (0..self.segments.len() as u32).try_for_each(|log| self.with(log, |writer, next| act(writer, *next)))
    }
}

impl Peer for Segments {
    fn append_each(&self, log: u32, records: Span) -> Outcome {
        self.with(log, |writer, next| {
            for record in records {
                writer.append_data(record)?;
                *next += 1;
            }
            Ok(())
        })
    }

    fn append_batches(&self, log: u32, mut records: Span) -> Outcome {
        self.with(log, |writer, next| {
            while records.len() > 0 {
                for record in records.take_span(self.batch) {
                    writer.append_data(record)?;
                    *next += 1;
                }
                writer.commit(*next)?;
            }
            Ok(())
        })
    }

    fn append_durable(&self, record: &'static [u8]) -> Outcome {
        self.with(0, |writer, next| {
            writer.append_data(record)?;
            *next += 1;
            writer.commit(*next)?;
            Ok(())
        })
    }

    fn flush(&self) -> Outcome {
        self.each_log(|writer, _| Ok(writer.flush_writer()?))
    }

    fn sync(&self) -> Outcome {
        self.each_log(|writer, next| writer.commit(next).map(drop).map_err(Into::into))
    }

    fn replay(&self, log: u32, tally: &mut Tally) -> Outcome {
        let flushed = self.with(log, |writer, _| Ok(writer.flushed_offset()))?;
        let mut reader = Reader::<0>::open(&self.paths[log as usize], Some(flushed))?;
        let mut records = reader.iter(0);
        while let Some(record) = records.next_record()? {
            if !tally.add(&record.data) {
                break;
            }
        }
        Ok(())
    }
}
