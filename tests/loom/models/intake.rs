//! Producers and a writer, over the partition's intake (`partition/intake.rs`, with `pool.rs` and
//! `progress.rs`): numbers, what one write carries, who tells the writer, up to where it syncs. The writer takes
//! the steps of `PartitionWriter::turn`.

use std::collections::VecDeque;
use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::explore;
use crate::intake::{Incoming, Intake, Push, Tickets};
use crate::lock::{Mutex, lock};
use crate::pool::Pool;
use crate::progress::Progress;

struct Log {
    intake: Mutex<Intake>,
    pool: Pool,
    progress: Progress,
    /// The writer was told that there is work.
    news: AtomicBool,
}

/// One at work for a log, and the values in its file: one byte a record.
#[derive(Default)]
struct Writer {
    file: Vec<u8>,
    groups: VecDeque<crate::intake::Group>,
}

impl Log {
    /// With room for `buffers` groups at a time in this partition.
    fn new(buffers: usize) -> Arc<Log> {
        Arc::new(Log {
            intake: Mutex::new(Intake::new(0, 1 << 10, 1)),
            pool: Pool::new(2 * buffers * (1 << 10), 1 << 10),
            progress: Progress::new(0, 0, 0),
            news: AtomicBool::new(false),
        })
    }

    /// The record's offset; `None` if there is no buffer.
    fn send(&self, value: u8, sync: bool) -> Option<u64> {
        let value = [value];
        let record = Incoming { timestamp: 0, key: None, value: Some(&value), headers: &[] };
        let pushed = lock(&self.intake).push(
            &[record],
            record.stored_bytes(),
            sync,
            &self.pool,
            &self.progress,
            Tickets::default(),
            None,
        );
        match pushed {
            Push::Taken { offset, run: 0, notify } => {
                self.tell(notify);
                Some(offset)
            }
            Push::Full { .. } => None,
            other => panic!("{other:?}"),
        }
    }

    fn want_sync(&self, end_offset: u64) {
        if self.progress.durable() < end_offset {
            let notify = lock(&self.intake).want_sync(end_offset);
            self.tell(notify);
        }
    }

    fn tell(&self, notify: bool) {
        if notify {
            // Not a store: the checker takes one for unordered with a swap that came too early.
            self.news.swap(true, Ordering::AcqRel);
        }
    }
}

impl Writer {
    /// One step; whether to come again at once.
    fn turn(&mut self, log: &Log) -> bool {
        lock(&log.intake).take(&mut self.groups);
        let wrote = !self.groups.is_empty();
        for group in self.groups.drain(..) {
            self.file.extend(batches_of(&group.bytes, self.file.len() as u64));
            assert_eq!(group.end_offset, self.file.len() as u64, "a group ends where its last record does");
            log.progress.set_written(group.end_offset);
            let _ = lock(&log.intake).give_back(group, &log.pool);
        }
        let (written, durable) = (log.progress.written(), log.progress.durable());
        let wanted = lock(&log.intake).sync_wanted().min(written);
        if wanted > durable {
            log.progress.set_durable(written);
        }
        wrote
    }

    /// Until there is nothing to do.
    fn run(&mut self, log: &Log) {
        while log.news.swap(false, Ordering::AcqRel) {
            while self.turn(log) {}
        }
    }
}

/// The values in a group whose first record has the offset `next`.
fn batches_of(mut bytes: &[u8], mut next: u64) -> Vec<u8> {
    let mut values = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(crate::format::BATCH_HEADER_BYTES) {
        let head = u128::from_le_bytes(head.try_into().unwrap());
        let (length, count, base_offset) = (head as u32 as usize, (head >> 32) as u32 as usize, (head >> 64) as u64);
        assert_eq!(base_offset, next, "a batch begins where the one before it ends");
        assert_eq!(length, crate::format::BATCH_HEADER_BYTES + count);
        values.extend_from_slice(&rest[..count]);
        next += count as u64;
        bytes = &rest[count..];
    }
    values
}

#[test]
fn each_record_is_written_under_its_number_and_none_is_left_lying() {
    explore(|| {
        let log = Log::new(2);
        let senders = [1, 2].map(|value| {
            let log = log.clone();
            thread::spawn(move || log.send(value, false).map(|offset| (offset, value)))
        });
        let mut writer = Writer::default();
        writer.run(&log);
        let sent = senders.map(|sender| sender.join().unwrap().expect("there is room for two groups"));
        writer.run(&log);
        let mut numbered: Vec<_> = (0..).zip(writer.file).collect();
        numbered.sort_by_key(|(_, value)| *value);
        assert_eq!(numbered, sent, "offsets and values");
        assert_eq!((log.progress.written(), log.progress.durable()), (2, 0));
    });
}

#[test]
fn a_sync_that_is_wanted_is_done_whoever_wants_it_and_when() {
    explore(|| {
        let log = Log::new(2);
        let sender = log.clone();
        let sender = thread::spawn(move || {
            let offset = sender.send(1, false).unwrap();
            sender.want_sync(offset + 1);
        });
        let other = log.clone();
        let other = thread::spawn(move || other.send(2, true).unwrap());
        let mut writer = Writer::default();
        writer.run(&log);
        sender.join().unwrap();
        other.join().unwrap();
        writer.run(&log);
        assert_eq!((log.progress.written(), log.progress.durable()), (2, 2));
    });
}

#[test]
fn a_failure_takes_back_the_numbers_that_were_not_written_and_no_others() {
    explore(|| {
        let log = Log::new(2);
        let sender = log.clone();
        let sender = thread::spawn(move || {
            let value = [9];
            let record = Incoming { timestamp: 0, key: None, value: Some(&value), headers: &[] };
            let pushed =
                lock(&sender.intake).push(&[record], 1, true, &sender.pool, &sender.progress, Tickets::default(), None);
            let Push::Taken { offset, run, notify } = pushed else { panic!("{pushed:?}") };
            sender.tell(notify);
            (offset, run)
        });
        let mut writer = Writer::default();
        writer.run(&log);
        let error = crate::error::Error::new(crate::error::ErrorKind::NoRoom);
        let woken = lock(&log.intake).fail(error.clone(), &log.pool, &log.progress);
        assert!(woken.is_empty(), "nobody waits for a buffer");
        let (offset, run) = sender.join().unwrap();
        assert_eq!(offset, 0);
        // It was written before the failure, failed with it, or came after it.
        writer.run(&log);
        let expected = if run == 0 && log.progress.written() == 0 { Err(error) } else { Ok(()) };
        assert_eq!(log.progress.outcome(crate::config::Acks::Written, 1, run, None), Some(expected));
        assert_eq!(lock(&log.intake).next_offset(), log.progress.written());
    });
}

#[test]
fn a_buffer_that_comes_back_is_lent_to_who_waited_for_it() {
    explore(|| {
        let log = Log::new(1);
        let sender = log.clone();
        let sender = thread::spawn(move || [1, 2].map(|value| sender.send(value, false)));
        let mut writer = Writer::default();
        writer.run(&log);
        let taken = sender.join().unwrap().into_iter().flatten().count();
        writer.run(&log);
        assert_eq!(writer.file.len(), taken, "what was taken is written");
        assert!(log.send(3, false).is_some(), "all buffers are back");
    });
}
