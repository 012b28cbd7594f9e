//! Goal: nobody who waits sleeps on when what he waits for has come: a consumer, one who waits for an
//! acknowledgement, a writer's thread. Nobody sees what isn't there yet: bytes that aren't written, an
//! acknowledgement of what isn't durable, the record of another run of numbers. (C2, D1, D4, G3)
//!
//! Method: loom runs the orders of the threads' steps, and for each load every value that the memory model
//! allows, over the engine's own files: `partition/` ready, shared, progress, intake with pool, and
//! `segment/` extent with views. They are compiled here with loom's locks and atomics in place of std's
//! (`lock.rs`); what the bytes mean is left out (`format.rs`).

mod format;
mod lock;
mod models;
mod segment;
#[path = "../../src/teeth.rs"]
mod teeth;

#[path = "../../src/panics.rs"]
#[allow(dead_code)]
mod panics;

#[path = "../../src/partition/intake.rs"]
#[allow(dead_code)]
mod intake;

#[path = "../../src/partition/pool.rs"]
#[allow(dead_code)]
mod pool;

#[path = "../../src/partition/progress.rs"]
#[allow(dead_code)]
mod progress;

#[path = "../../src/partition/ready.rs"]
#[allow(dead_code)]
mod ready;

#[path = "../../src/partition/shared.rs"]
#[allow(dead_code)]
mod shared;

#[path = "../../src/error.rs"]
#[allow(dead_code, unreachable_pub)]
mod error;

#[path = "../../src/text.rs"]
#[allow(dead_code, unreachable_pub)]
mod text;

#[path = "../../src/sys/prefetch.rs"]
mod prefetch;

mod sys {
    pub(crate) use crate::prefetch;
}

mod config {
    pub(crate) use thalweg::Acks;
}

/// Every order of steps with up to three switches that no thread asked for.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    explore_up_to(3, model);
}

fn explore_up_to(switches: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut explorer = loom::model::Builder::new();
    explorer.preemption_bound = Some(switches);
    explorer.check(model);
}
