//! The partition's parts, each by itself or with an engine on a simulated disk around it.

mod aside;
pub(super) mod bare;
mod buffers;
mod following;
mod helping;
mod intake;
mod marks;
mod outdated;
mod pool;
mod progress;
mod reading;
mod retention;
mod shared;
mod telling;
mod watched;

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use super::Partition;
use crate::config::Writers;
use crate::disk::{File, Finished, Queue};
use crate::engine::{Builder, Engine, Record, RecordMetadata};
use crate::lock::{AtomicUsize, Mutex, Ordering, lock};
use crate::sim::SimDisk;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// How often it was woken.
#[derive(Default)]
pub(super) struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    pub(super) fn new() -> (Arc<Bell>, Waker) {
        let bell = Arc::new(Bell::default());
        (bell.clone(), Waker::from(bell))
    }

    pub(super) fn rung(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A queue without syncs that only notes for how long it was to sleep.
pub(super) struct Sleeps {
    pub(super) noted: Arc<Mutex<Vec<Option<Duration>>>>,
    pub(super) waker: Waker,
}

impl Queue for Sleeps {
    fn start(&mut self, _token: u64, _file: &Arc<dyn File>) {}

    fn finished(&mut self, _into: &mut Vec<Finished>) {}

    fn sleep(&mut self, timeout: Option<Duration>) {
        lock(&self.noted).push(timeout);
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

fn builder(disk: &SimDisk) -> Builder {
    let builder = Engine::builder("data").writers(Writers::Inline).buffer_bytes(4 << 20).max_batch_bytes(2 << 20);
    builder.sim(disk)
}

fn send(engine: &Engine, value: impl AsRef<[u8]>) -> crate::Result<RecordMetadata> {
    engine.partition("t", 0)?.append(&Record::new(value.as_ref()))?.wait()
}

/// The first letter of each value.
fn values(engine: &Engine) -> String {
    let mut values = String::new();
    for batch in engine.partition("t", 0).unwrap().read(..).unwrap() {
        values.extend(batch.unwrap().iter().map(|record| char::from(record.value().unwrap()[0])));
    }
    values
}

fn inner(engine: &Engine) -> Arc<Partition> {
    engine.core.topic("t").unwrap().partitions[0].clone()
}
