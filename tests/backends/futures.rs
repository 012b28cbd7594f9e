//! Scenarios of tasks: futures that are awaited, dropped, or kept and not polled. A task here is polled only when it
//! was woken, as an executor does, so that a wake-up that is lost shows.

use std::future::IntoFuture;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures_core::Stream;
use thalweg::{Acks, Consumer, ErrorKind, Polled, Record};

use super::Backend;
use super::scenarios::small;

/// Longer than any of these takes.
const FOREVER: Duration = Duration::from_secs(60);

struct Woken {
    woken: AtomicBool,
    thread: Thread,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// An executor of one task.
fn block_on<F: IntoFuture>(future: F) -> F::Output {
    let mut future = pin!(future.into_future());
    let woken = Arc::new(Woken { woken: AtomicBool::new(true), thread: thread::current() });
    let waker = Waker::from(woken.clone());
    let began = Instant::now();
    loop {
        if woken.woken.swap(false, Ordering::SeqCst) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
        } else {
            assert!(began.elapsed() < FOREVER, "a task that is never woken");
            thread::park_timeout(FOREVER);
        }
    }
}

fn poll_once<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

fn values(polled: &Polled) -> Vec<Vec<u8>> {
    let records = polled.batches().iter().flat_map(|batch| batch.iter());
    records.map(|record| record.value().unwrap().to_vec()).collect()
}

/// Awaits until `count` records have come.
async fn read(consumer: &mut Consumer, count: usize) -> Vec<Vec<u8>> {
    let mut read = Vec::new();
    while read.len() < count {
        read.extend(values(&consumer.next_batches().await.unwrap()));
    }
    read
}

pub(crate) fn every_future_ends(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small()).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let producer = engine.producer_for("t").unwrap();
    let mut consumer = engine.consumer("g").subscribe(["t"]).start().unwrap();
    block_on(async {
        let mut sent = Vec::new();
        for round in 0..20u64 {
            for acks in [Acks::None, Acks::Written, Acks::Synced] {
                let value = format!("{round} {acks}");
                let receipt = producer.send_async(Record::new(&value).acks(acks)).await.unwrap();
                assert_eq!(receipt.await.unwrap().offset, sent.len() as u64);
                sent.push(value.into_bytes());
            }
            let end = sent.len() as u64;
            partition.written(end).await.unwrap();
            partition.durable(end).await.unwrap();
            assert_eq!((partition.end_offset(), partition.durable_offset()), (end, end));
            let read = read(&mut consumer, 3).await;
            assert_eq!(read, sent[sent.len() - 3..]);
            consumer.commit_async().unwrap().await.unwrap();
            assert_eq!(consumer.committed("t", 0).unwrap().unwrap().offset, end);
        }
        producer.send(Record::new("for the stream")).unwrap().await.unwrap();
        let mut stream = consumer.stream();
        let next = std::future::poll_fn(|context| Pin::new(&mut stream).poll_next(context));
        assert_eq!(values(&next.await.unwrap().unwrap()), [b"for the stream"]);
    });
    drop(consumer);
    engine.close().unwrap();
}

/// A task that waits for records is told of those that a thread sends and nobody waits for.
pub(crate) fn a_task_that_waits_sees_what_nobody_waits_for(backend: &Backend) {
    const COUNT: usize = 200;
    let engine = backend.open();
    engine.create_topic("t", small()).unwrap();
    let producer = engine.producer_for("t").unwrap();
    let mut consumers: Vec<_> = (0..3).map(|_| engine.assign([("t", 0)]).unwrap()).collect();
    let seen = AtomicUsize::new(0);
    thread::scope(|scope| {
        for consumer in &mut consumers {
            let seen = &seen;
            scope.spawn(move || {
                block_on(async {
                    for _ in 0..COUNT {
                        assert_eq!(read(consumer, 1).await.len(), 1);
                        seen.fetch_add(1, Ordering::SeqCst);
                    }
                })
            });
        }
        for sent in 1..=COUNT {
            let _ = producer.send(Record::new("value")).unwrap();
            let began = Instant::now();
            while seen.load(Ordering::SeqCst) < 3 * sent {
                assert!(began.elapsed() < FOREVER, "record {sent} was never seen");
                thread::yield_now();
            }
        }
    });
    drop(consumers);
    engine.close().unwrap();
}

/// A reader of durable records needs no traffic: what it waits for is synced for it.
pub(crate) fn a_task_that_reads_what_is_durable_is_not_forgotten(backend: &Backend) {
    let engine = backend.builder().sync_ms(10).open().unwrap();
    engine.create_topic("t", small().read_durable(true)).unwrap();
    let mut consumer = engine.assign([("t", 0)]).unwrap();
    let receipt = engine.partition("t", 0).unwrap().append(&Record::new("value").acks(Acks::Written)).unwrap();
    block_on(receipt).unwrap();
    assert_eq!(values(&block_on(consumer.next_batches()).unwrap()), [b"value"]);
    drop(consumer);
    engine.close().unwrap();
}

/// Futures that are kept and not polled, and such that are dropped after a poll, hold nobody up.
pub(crate) fn nobody_waits_for_a_future_that_is_not_polled(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small()).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let mut idle = engine.assign([("t", 0)]).unwrap();
    let mut polling = idle.next_batches();
    assert!(poll_once(&mut polling, Waker::noop()).is_pending());
    let mut kept = Vec::new();
    for number in 0..100u64 {
        let acks = if number % 3 == 0 { Acks::Synced } else { Acks::Written };
        let receipt = partition.append(&Record::new("value").acks(acks)).unwrap();
        let mut future = receipt.clone().into_future();
        let is_pending = poll_once(&mut future, Waker::noop()).is_pending();
        match number % 4 {
            0 => kept.extend(is_pending.then_some(future)),
            1 => drop(future),
            2 => assert_eq!(block_on(receipt).unwrap().offset, number),
            _ => assert_eq!(receipt.wait().unwrap().offset, number),
        }
    }
    // A thread and a task beside them.
    thread::scope(|scope| {
        let threads = scope.spawn(|| partition.append(&Record::new("x").acks(Acks::Synced)).unwrap().wait().unwrap());
        let task = partition.append(&Record::new("y").acks(Acks::Synced)).unwrap();
        let offsets = [block_on(task).unwrap().offset, threads.join().unwrap().offset];
        assert!(offsets == [100, 101] || offsets == [101, 100]);
    });
    let mut seen = Vec::new();
    seen.extend(values(&block_on(polling).unwrap()));
    seen.extend(block_on(read(&mut idle, 102 - seen.len())));
    assert_eq!(seen.len(), 102);
    for future in kept {
        block_on(future).unwrap();
    }
    drop(idle);
    engine.close().unwrap();
}

/// An answer is for the records that were sent before the question.
pub(crate) fn what_was_never_sent_is_not_waited_for(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small()).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let _ = partition.append_batch(&[Record::new("a"), Record::new("b")]).unwrap();
    let expected = ErrorKind::OffsetOutOfRange { requested: 3, start: 0, end: 2 };
    assert_eq!(partition.wait_written(3).unwrap_err().kind(), &expected);
    assert_eq!(partition.wait_durable(3).unwrap_err().kind(), &expected);
    // The question counts, not the first look at its answer.
    let (written, durable, both) = (partition.written(3), partition.durable(3), partition.durable(2));
    let _ = partition.append(&Record::new("c")).unwrap();
    assert_eq!(block_on(written).unwrap_err().kind(), &expected);
    assert_eq!(block_on(durable).unwrap_err().kind(), &expected);
    block_on(both).unwrap();
    partition.wait_durable(3).unwrap();
    if let Backend::Real { .. } = backend {
        let reader = backend.builder().read_only().open().unwrap();
        let partition = reader.partition("t", 0).unwrap();
        partition.wait_written(3).unwrap();
        let expected = ErrorKind::OffsetOutOfRange { requested: 4, start: 0, end: 3 };
        assert_eq!(partition.wait_written(4).unwrap_err().kind(), &expected);
        assert_eq!(block_on(partition.durable(4)).unwrap_err().kind(), &expected);
    }
    engine.close().unwrap();
    assert_eq!(partition.wait_written(9).unwrap_err().kind(), &ErrorKind::Closed);
}
