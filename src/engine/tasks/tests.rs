//! Goal: no future blocks its executor's thread: none syncs, and the twins of calls touch no file at all there.
//!
//! Method: a disk that is asked by each step, and notes those taken on a thread that polls.

mod model;

use std::cell::Cell;
use std::future::IntoFuture;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::config::Writers;
use crate::disk::{Disk, Step, Watched};
use crate::engine::{OffsetCommit, Record};
use crate::lock::{Mutex, Parker, lock};
use crate::partition::UnparkWaker;
use crate::sim::SimDisk;

thread_local! {
    static POLLS: Cell<bool> = const { Cell::new(false) };
}

type Noted = Arc<Mutex<Vec<Step>>>;

/// An engine with threads, and the steps on its disk that polls took.
fn watched() -> (Engine, Noted) {
    let noted = Noted::default();
    let notes = noted.clone();
    let disk = Watched::<dyn Disk>::new(Arc::new(SimDisk::new()), move |step| {
        if POLLS.get() {
            lock(&notes).push(step);
        }
        Ok(())
    });
    let mut builder = Engine::builder("data").writers(Writers::Threads(1)).pin_writers(false);
    builder.disk = Some(Arc::new(disk));
    (builder.open().unwrap(), noted)
}

fn block_on<F: IntoFuture>(future: F) -> F::Output {
    let parker = Parker::new();
    let waker = Waker::from(Arc::new(UnparkWaker(parker.unparker().clone())));
    let mut future = pin!(future.into_future());
    loop {
        POLLS.set(true);
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        POLLS.set(false);
        match polled {
            Poll::Ready(output) => return output,
            Poll::Pending => parker.park(),
        }
    }
}

#[test]
fn twins_of_calls_touch_no_file_on_the_tasks_thread() {
    let (engine, noted) = watched();
    let config = TopicConfig::default().acks(Acks::Written);
    block_on(engine.create_topic_async("t", config.clone())).unwrap();
    assert!(!block_on(engine.ensure_topic_async("t", config.clone())).unwrap());
    block_on(engine.alter_topic_async("t", config.partitions(2))).unwrap();
    let producer = engine.producer_for("t").unwrap();
    let batch = [Record::new("a").partition(0), Record::new("b").partition(0)];
    let receipt = block_on(producer.send_batch_async(&batch)).unwrap();
    assert_eq!(block_on(receipt).unwrap().offset, 0);
    let partition = engine.partition("t", 0).unwrap();
    let receipts = [
        block_on(partition.append_async(&Record::new("c"))).unwrap(),
        block_on(partition.append_batch_async(&batch)).unwrap(),
        block_on(partition.append_if_async(5, &batch)).unwrap(),
    ];
    assert_eq!(receipts.map(|receipt| block_on(receipt).unwrap().offset), [2, 3, 5]);
    assert!(block_on(partition.append_if_async(5, &batch)).is_err());
    block_on(partition.written(7)).unwrap();
    block_on(engine.flush_async()).unwrap();
    block_on(engine.sync_async()).unwrap();
    assert_eq!(partition.durable_offset(), 7);
    block_on(partition.delete_records_async(2)).unwrap();
    assert_eq!(partition.log_start_offset(), 2);
    let mut consumer = block_on(engine.consumer("started").subscribe(["t"]).start_async()).unwrap();
    let polled = block_on(consumer.next_batches()).unwrap();
    assert_eq!(polled.batches().iter().map(|batch| batch.offsets().start).min(), Some(2));
    // What a poll writes is where the group is: that is no matter of a twin.
    drop(consumer);
    lock(&noted).clear();
    let reset = block_on(engine.reset_group_async("g", "t", ResetTo::Latest, false)).unwrap();
    assert_eq!(reset.iter().map(|reset| reset.to).collect::<Vec<_>>(), [7, 0]);
    assert_eq!(block_on(engine.copy_group_async("g", "copy")).unwrap(), 2);
    block_on(engine.delete_group_async("g")).unwrap();
    block_on(engine.delete_topic_async("t")).unwrap();
    assert!(engine.topics().unwrap().is_empty());
    block_on(engine.close_async()).unwrap();
    // Closed: nothing blocks, and no thread is needed to say so.
    assert!(block_on(engine.create_topic_async("t", TopicConfig::default())).is_err());
    block_on(engine.close_async()).unwrap();
    assert_eq!(*lock(&noted), []);
}

#[test]
fn no_commit_is_synced_on_the_tasks_thread() {
    let (engine, noted) = watched();
    engine.create_topic("t", TopicConfig::default().acks(Acks::Written)).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let send = || partition.append(&Record::new("value")).unwrap().wait().unwrap();
    let mut consumer = engine.consumer("g").subscribe(["t"]).start().unwrap();
    let durable = |offset| {
        assert!(engine.core.groups.offsets.durable_end() > 0);
        assert!(partition.durable_offset() >= offset, "the records come before the commit");
        engine.core.groups.offsets.has_unsynced()
    };
    send();
    block_on(consumer.next_batches()).unwrap();
    block_on(consumer.commit_async().unwrap()).unwrap();
    assert!(!durable(1));
    send();
    let receipt = consumer.commit_offsets_async([OffsetCommit::new("t", 0, 2)]).unwrap();
    block_on(receipt).unwrap();
    assert!(!durable(2));
    drop(consumer);
    // One that commits by itself, before each poll that follows records.
    let every = std::time::Duration::ZERO;
    let mut consumer = engine.consumer("g").subscribe(["t"]).auto_commit(every).start().unwrap();
    for offset in 3..6 {
        send();
        let polled = block_on(consumer.next_batches()).unwrap();
        assert_eq!(polled.batches()[0].offsets().end, offset);
    }
    send();
    block_on(consumer.next_batches()).unwrap();
    assert_eq!(consumer.committed("t", 0).unwrap().map(|committed| committed.offset), Some(5));
    assert!(!durable(5));
    drop(consumer);
    block_on(engine.close_async()).unwrap();
    assert!(lock(&noted).iter().all(|step| *step != Step::Sync), "{:?}", lock(&noted));
}

/// The last handle may be that of a call whose future was dropped: its thread closes the engine.
#[test]
fn a_call_that_has_the_last_handle_closes_the_engine() {
    let disk = SimDisk::new();
    let open = || Engine::builder("data").sim(&disk).writers(Writers::Threads(1)).pin_writers(false).open();
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    for number in 0..20 {
        let engine = loop {
            match open() {
                Ok(engine) => break engine,
                Err(error) => assert!(std::time::Instant::now() < give_up, "it is never closed: {error}"),
            }
            std::thread::yield_now();
        };
        let mut made = Box::pin(engine.create_topic_async(&number.to_string(), TopicConfig::default()));
        assert_eq!(engine.topics().unwrap().len(), number);
        drop(engine);
        let _ = made.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    // The last is carried out, too.
    let engine = loop {
        match open() {
            Ok(engine) => break engine,
            Err(error) => assert!(std::time::Instant::now() < give_up, "it is never closed: {error}"),
        }
    };
    assert_eq!(engine.topics().unwrap().len(), 20);
    engine.close().unwrap();
}

/// A call may wait for the lock that closing holds: closing waits for the calls only after it.
#[test]
fn closing_waits_for_calls_without_the_lock_that_they_wait_for() {
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..20 {
            let (engine, _) = watched();
            let admin = lock(&engine.core.admin);
            let mut context = Context::from_waker(Waker::noop());
            let mut made: Vec<_> =
                (0..8).map(|number| engine.create_topic_async(&number.to_string(), TopicConfig::default())).collect();
            for future in &mut made {
                assert!(std::pin::Pin::new(future).poll(&mut context).is_pending());
            }
            std::thread::scope(|scope| {
                let closing = scope.spawn(|| engine.close());
                drop(admin);
                closing.join().unwrap().unwrap();
            });
            for future in made {
                let made = block_on(future);
                assert!(made.is_ok() || *made.unwrap_err().kind() == crate::ErrorKind::Closed);
            }
        }
        ended.send(()).unwrap();
    });
    assert_eq!(end.recv_timeout(std::time::Duration::from_secs(60)), Ok(()));
}

/// Tasks that wait for many commits at once share the syncs.
#[test]
fn commits_that_wait_together_share_their_syncs_and_dropped_ones_are_durable_too() {
    let (engine, _) = watched();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    for _ in 0..100 {
        let _ = partition.append(&Record::new("value")).unwrap();
    }
    partition.wait_durable(100).unwrap();
    let mut consumer = engine.consumer("g").assign([("t", 0)]).start().unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut waiting = Vec::new();
    for offset in 1..=100 {
        let receipt = consumer.commit_offsets_async([OffsetCommit::new("t", 0, offset)]).unwrap();
        let mut future = receipt.into_future();
        let is_pending = future.as_mut().poll(&mut context).is_pending();
        if is_pending && offset < 90 {
            waiting.push(future);
        }
    }
    waiting.into_iter().for_each(|future| block_on(future).unwrap());
    block_on(consumer.commit_async().unwrap()).unwrap();
    assert!(!engine.core.groups.offsets.has_unsynced());
    drop(consumer);
    engine.close().unwrap();
}
