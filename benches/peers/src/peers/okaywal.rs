//! okaywal: each log a write-ahead log in a directory of its own, never checkpointed, because a
//! checkpoint drops what it covers. Its records are chunks of entries; a commit always syncs.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use okaywal::{Configuration, Entry, EntryId, LogManager, LogVoid, ReadChunkResult, SegmentReader, WriteAheadLog};

use crate::payload::{Span, Tally};
use crate::peer::{About, Can, Level, Outcome, Peer, Settings};

pub(crate) const ABOUT: About = About {
    name: "okaywal",
    each: Can::Yes(Level::Synced, "an entry of one chunk; commit() always ends with a sync"),
    batches: Can::Yes(Level::Synced, "an entry of chunks a batch; commit() always ends with a sync"),
    durable: Can::Yes(Level::Synced, "commit(): one fdatasync for all that wait"),
    replay: Can::Yes(Level::Written, "opened again: recovery hands out the chunks; CRC-32C of each chunk"),
    logs: Can::Yes(Level::Synced, "a directory, a WriteAheadLog and a thread each"),
    settings: "file filled with zeros ahead for all that comes, buffer of 256 KiB, no checkpoints",
};

const BATCH_BYTES: usize = 4 << 20;

struct Wals {
    wals: Vec<WriteAheadLog>,
    dirs: Vec<PathBuf>,
    configuration: Box<dyn Fn(&Path) -> Configuration + Send + Sync>,
    batch: u64,
}

pub(crate) fn open(dir: &Path, settings: &Settings) -> Outcome<Box<dyn Peer>> {
    let ahead = u32::try_from(settings.bytes_a_log())?;
    let configuration = move |dir: &Path| {
        Configuration::default_for(dir)
            .preallocate_bytes(ahead)
            .checkpoint_after_bytes(u64::MAX)
            .buffer_bytes(256 << 10)
    };
    let dirs: Vec<_> = (0..settings.logs).map(|log| dir.join(format!("wal-{log}"))).collect();
    let wals = dirs.iter().map(|dir| configuration(dir).open(LogVoid)).collect::<io::Result<_>>()?;
    let batch = settings.batch_of(BATCH_BYTES);
    Ok(Box::new(Wals { wals, dirs, configuration: Box::new(configuration), batch }))
}

impl Wals {
    fn commit(&self, log: u32, records: impl Iterator<Item = &'static [u8]>) -> Outcome {
        let mut entry = self.wals[log as usize].begin_entry()?;
        for record in records {
            entry.write_chunk(record)?;
        }
        entry.commit()?;
        Ok(())
    }
}

impl Peer for Wals {
    fn append_each(&self, log: u32, mut records: Span) -> Outcome {
        records.try_for_each(|record| self.commit(log, std::iter::once(record)))
    }

    fn append_batches(&self, log: u32, mut records: Span) -> Outcome {
        while records.len() > 0 {
            self.commit(log, records.take_span(self.batch))?;
        }
        Ok(())
    }

    fn append_durable(&self, record: &'static [u8]) -> Outcome {
        self.commit(0, std::iter::once(record))
    }

    /// Each commit has been synced.
    fn flush(&self) -> Outcome {
        Ok(())
    }

    fn sync(&self) -> Outcome {
        Ok(())
    }

    /// Recovery is how one reads the whole log; a second handle on the directory does it, which
    /// changes nothing on disk as long as nobody appends.
    fn replay(&self, log: u32, tally: &mut Tally) -> Outcome {
        let told = Arc::new(Mutex::new(Told { tally: tally.clone(), stopped: false }));
        let wal = (self.configuration)(&self.dirs[log as usize]).open(Replay(told.clone()))?;
        wal.shutdown()?;
        *tally = told.lock().map_err(|_| "the tally's lock is poisoned")?.tally.clone();
        Ok(())
    }
}

struct Told {
    tally: Tally,
    stopped: bool,
}

struct Replay(Arc<Mutex<Told>>);

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replay")
    }
}

impl LogManager for Replay {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        let mut told = self.0.lock().map_err(|_| io::Error::other("the tally's lock is poisoned"))?;
        let mut record = Vec::new();
        while !told.stopped {
            let ReadChunkResult::Chunk(mut chunk) = entry.read_chunk()? else { break };
            record.resize(chunk.bytes_remaining() as usize, 0);
            chunk.read_exact(&mut record)?;
            if !chunk.check_crc()? {
                return Err(io::Error::other("a chunk's checksum is wrong"));
            }
            told.stopped = !told.tally.add(&record);
        }
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
        Ok(())
    }
}
