//! Goal: a consumer that polls without waiting does not depend on when the writer thread runs.
//!
//! Method: an engine with a writer thread over a disk that counts the writes of the thread that polls. Nothing else that
//! this thread calls writes: it sends records without waiting for them.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Acks, TopicConfig, Writers};
use crate::disk::{Disk, Step, Watched};
use crate::engine::{Engine, Record};
use crate::lock::{AtomicUsize, Ordering, thread};
use crate::sim::SimDisk;

/// Without the poll's own write it never happens, however often it is tried.
const TRIES: u32 = 100_000;

#[test]
fn a_poll_that_would_return_empty_writes_what_was_sent() {
    let writes = Arc::new(AtomicUsize::new(0));
    let (counted, polling) = (writes.clone(), thread::current().id());
    let disk = Watched::<dyn Disk>::new(Arc::new(SimDisk::new()), move |step| {
        if step == Step::Write && thread::current().id() == polling {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let mut builder = Engine::builder("data").writers(Writers::Threads(1)).pin_writers(false);
    builder.disk = Some(Arc::new(disk));
    let engine = builder.open().unwrap();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let mut consumer = engine.assign([("t", 0)]).unwrap();
    let before = writes.load(Ordering::SeqCst);
    let mut seen: usize = 0;
    for sent in 1..=TRIES {
        let _ = partition.append(&Record::new("x").acks(Acks::None)).unwrap();
        seen +=
            consumer.poll(Duration::ZERO).unwrap().batches().iter().map(|batch| batch.iter().count()).sum::<usize>();
        if writes.load(Ordering::SeqCst) > before {
            // It returns them at once.
            assert_eq!(seen, sent as usize);
            return;
        }
    }
    panic!("the writer thread wrote all of {TRIES} records");
}
