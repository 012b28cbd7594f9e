//! commitlog: each log a directory; one writer, so a lock around it.

use std::path::Path;
use std::sync::Mutex;

use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, ReadLimit};

use crate::payload::{Span, Tally};
use crate::peer::{About, Can, Level, Outcome, Peer, Settings};

pub(crate) const ABOUT: About = About {
    name: "commitlog",
    each: Can::Yes(Level::Written, "append_msg: one write a record"),
    batches: Can::Yes(Level::Written, "append of a MessageBuf: one write, an index entry a record"),
    durable: Can::No("no call reaches fsync: flush() of the records is File::flush, which does nothing"),
    replay: Can::Yes(Level::Written, "read of 256 KiB at a time, copied; CRC-32C of each record"),
    logs: Can::Yes(Level::Written, "a directory and a CommitLog each"),
    settings: "index of 1 M entries at first, messages up to 4 MiB",
};

const BATCH_BYTES: usize = 256 << 10;

struct Logs {
    logs: Vec<Mutex<CommitLog>>,
    batch: u64,
}

pub(crate) fn open(dir: &Path, settings: &Settings) -> Outcome<Box<dyn Peer>> {
    let entries = (1 << 20) / settings.logs as usize;
    let open = |log| {
        let mut options = LogOptions::new(dir.join(format!("log-{log}")));
        options.index_max_items(entries.max(1024)).message_max_bytes(4 << 20);
        Ok(Mutex::new(CommitLog::new(options)?))
    };
    let logs = (0..settings.logs).map(open).collect::<std::io::Result<_>>()?;
    Ok(Box::new(Logs { logs, batch: settings.batch_of(BATCH_BYTES) }))
}

impl Logs {
    fn with<T>(&self, log: u32, act: impl FnOnce(&mut CommitLog) -> Outcome<T>) -> Outcome<T> {
        act(&mut *self.logs[log as usize].lock().map_err(|_| "the log's lock is poisoned")?)
    }
}

impl Peer for Logs {
    fn append_each(&self, log: u32, records: Span) -> Outcome {
        self.with(log, |log| {
            for record in records {
                log.append_msg(record)?;
            }
            Ok(())
        })
    }

    fn append_batches(&self, log: u32, mut records: Span) -> Outcome {
        let mut batch = MessageBuf::default();
        self.with(log, |log| {
            while records.len() > 0 {
                batch.clear();
                for record in records.take_span(self.batch) {
                    batch.push(record).map_err(|error| format!("{error:?}"))?;
                }
                log.append(&mut batch)?;
            }
            Ok(())
        })
    }

    fn append_durable(&self, _record: &'static [u8]) -> Outcome {
        Err("not offered".into())
    }

    fn flush(&self) -> Outcome {
        Ok(())
    }

    fn sync(&self) -> Outcome {
        (0..self.logs.len() as u32).try_for_each(|log| self.with(log, |log| Ok(log.flush()?)))
    }

    fn replay(&self, log: u32, tally: &mut Tally) -> Outcome {
        self.with(log, |log| {
            let mut next = 0;
            loop {
                let messages = log.read(next, ReadLimit::max_bytes(BATCH_BYTES))?;
                if messages.is_empty() {
                    return Ok(());
                }
                for message in messages.iter() {
                    if !tally.add(message.payload()) {
                        return Ok(());
                    }
                    next = message.offset() + 1;
                }
            }
        })
    }
}
