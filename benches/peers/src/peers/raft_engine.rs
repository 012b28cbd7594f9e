//! raft-engine: one engine, each log a Raft group in its shared log.
//!
//! Its entries are protobuf messages of the caller's; [`Entry`] is the least that is one.

use std::any::Any;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use protobuf::reflect::MessageDescriptor;
use protobuf::{Clear, CodedInputStream, CodedOutputStream, Message, ProtobufResult, UnknownFields};
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use crate::payload::{Span, Tally};
use crate::peer::{About, Can, Level, Outcome, Peer, Settings};

pub(crate) const ABOUT: About = About {
    name: "raft-engine",
    each: Can::Yes(Level::Written, "Engine::write of a batch of one: one write a record"),
    batches: Can::Yes(Level::Written, "Engine::write of a batch: one write"),
    durable: Can::Yes(Level::Synced, "Engine::write with sync: one fdatasync for all that wait (leader and followers)"),
    replay: Can::Yes(Level::Written, "fetch_entries_to of 1,024, parsed and copied; CRC-32 of each batch"),
    logs: Can::Yes(Level::Written, "Raft groups; all share one log file"),
    settings: "no compression; durable: files filled ahead (prefill_for_recycle)",
};

const BATCH_BYTES: usize = 128 << 10;

/// Index and payload: fields 1 and 2.
#[derive(Clone, PartialEq, Debug, Default)]
struct Entry {
    index: u64,
    data: Vec<u8>,
    unknown: UnknownFields,
}

const INDEX: u32 = 1;
const DATA: u32 = 2;

impl Clear for Entry {
    fn clear(&mut self) {
        *self = Entry::default();
    }
}

impl Message for Entry {
    fn descriptor(&self) -> &'static MessageDescriptor {
        Entry::descriptor_static()
    }

    fn is_initialized(&self) -> bool {
        true
    }

    fn merge_from(&mut self, is: &mut CodedInputStream<'_>) -> ProtobufResult<()> {
        while !is.eof()? {
            let (field, wire_type) = is.read_tag_unpack()?;
            match field {
                INDEX => self.index = is.read_uint64()?,
                DATA => self.data = is.read_bytes()?,
                _ => is.skip_field(wire_type)?,
            }
        }
        Ok(())
    }

    fn write_to_with_cached_sizes(&self, os: &mut CodedOutputStream<'_>) -> ProtobufResult<()> {
        os.write_uint64(INDEX, self.index)?;
        os.write_bytes(DATA, &self.data)
    }

    fn compute_size(&self) -> u32 {
        let index = protobuf::rt::value_size(INDEX, self.index, protobuf::wire_format::WireTypeVarint);
        index + protobuf::rt::bytes_size(DATA, &self.data)
    }

    fn get_cached_size(&self) -> u32 {
        self.compute_size()
    }

    fn get_unknown_fields(&self) -> &UnknownFields {
        &self.unknown
    }

    fn mut_unknown_fields(&mut self) -> &mut UnknownFields {
        &mut self.unknown
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn new() -> Entry {
        Entry::default()
    }

    fn default_instance() -> &'static Entry {
        static EMPTY: std::sync::OnceLock<Entry> = std::sync::OnceLock::new();
        EMPTY.get_or_init(Entry::default)
    }
}

struct Indexed;

impl MessageExt for Indexed {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

struct Groups {
    engine: Engine,
    /// The next index of each group; locked while one is written, because they must be dense.
    next: Vec<Mutex<u64>>,
    batch: u64,
    durable: bool,
}

/// Groups in the durable workload: one for each of so many threads, because a group has one writer.
const DURABLE_GROUPS: u32 = 64;

pub(crate) fn open(dir: &Path, settings: &Settings) -> Outcome<Box<dyn Peer>> {
    let mut config = Config {
        dir: dir.to_str().ok_or("the path isn't UTF-8")?.to_owned(),
        batch_compression_threshold: ReadableSize(0),
        ..Config::default()
    };
    if settings.durable {
        config.target_file_size = ReadableSize::mb(32);
        config.prefill_for_recycle = true;
        config.prefill_limit = Some(ReadableSize::mb(64));
    }
    let groups = if settings.durable { DURABLE_GROUPS } else { settings.logs };
    let next = (0..groups).map(|_| Mutex::new(1)).collect();
    let batch = settings.batch_of(BATCH_BYTES);
    Ok(Box::new(Groups { engine: Engine::open(config)?, next, batch, durable: settings.durable }))
}

impl Groups {
    fn write(
        &self,
        group: u32,
        records: impl Iterator<Item = &'static [u8]>,
        batch: &mut LogBatch,
        sync: bool,
    ) -> Outcome {
        let mut next = self.next(group)?;
        let entry = |(index, record): (u64, &[u8])| Entry { index, data: record.to_vec(), ..Entry::default() };
        let entries: Vec<_> = (*next..).zip(records).map(entry).collect();
        batch.add_entries::<Indexed>(u64::from(group) + 1, &entries)?;
        self.engine.write(batch, sync)?;
        *next += entries.len() as u64;
        Ok(())
    }

    fn next(&self, group: u32) -> Outcome<MutexGuard<'_, u64>> {
        Ok(self.next[group as usize].lock().map_err(|_| "the group's lock is poisoned")?)
    }

    fn replay_group(&self, group: u32, tally: &mut Tally) -> Outcome<bool> {
        let end = *self.next(group)?;
        let mut entries = Vec::new();
        for begin in (1..end).step_by(1024) {
            entries.clear();
            let to = (begin + 1024).min(end);
            self.engine.fetch_entries_to::<Indexed>(u64::from(group) + 1, begin, to, None, &mut entries)?;
            for entry in &entries {
                if !tally.add(&entry.data) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

impl Peer for Groups {
    fn append_each(&self, log: u32, records: Span) -> Outcome {
        let mut batch = LogBatch::default();
        for record in records {
            self.write(log, std::iter::once(record), &mut batch, false)?;
        }
        Ok(())
    }

    fn append_batches(&self, log: u32, mut records: Span) -> Outcome {
        let mut batch = LogBatch::default();
        while records.len() > 0 {
            self.write(log, records.take_span(self.batch), &mut batch, false)?;
        }
        Ok(())
    }

    fn append_durable(&self, record: &'static [u8]) -> Outcome {
        static THREADS: AtomicU32 = AtomicU32::new(0);
        thread_local!(static GROUP: u32 = THREADS.fetch_add(1, Ordering::Relaxed) % DURABLE_GROUPS);
        self.write(GROUP.with(|group| *group), std::iter::once(record), &mut LogBatch::with_capacity(1), true)
    }

    /// Each write has already been handed over.
    fn flush(&self) -> Outcome {
        Ok(())
    }

    fn sync(&self) -> Outcome {
        Ok(self.engine.sync()?)
    }

    fn replay(&self, log: u32, tally: &mut Tally) -> Outcome {
        if self.durable {
            for group in 0..DURABLE_GROUPS {
                if !self.replay_group(group, tally)? {
                    break;
                }
            }
            return Ok(());
        }
        self.replay_group(log, tally).map(drop)
    }
}
