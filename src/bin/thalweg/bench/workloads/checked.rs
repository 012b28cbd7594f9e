//! Reads a topic back and compares each byte with what was sent.

use thalweg::Engine;

use super::TOPIC;
use crate::bench::context::Bench;
use crate::bench::payload::{Checker, Payloads, Spread};
use crate::failure::Failure;

/// All partitions; `sent` says how many values each producer sent.
pub(super) fn all(
    bench: &Bench,
    engine: &Engine,
    payloads: &Payloads,
    spread: Spread,
    sent: &[u64],
) -> Result<(), Failure> {
    for number in 0..spread.partitions {
        let mut checker = Checker::new(payloads, sent.len(), spread, number);
        for batch in engine.partition(TOPIC, number)?.read(..)? {
            for record in &batch? {
                checker.check(record.offset(), record.value()).map_err(Failure::new)?;
            }
            bench.tick();
            if bench.is_interrupted() {
                return Ok(());
            }
        }
        checker.finish(sent).map_err(Failure::new)?;
    }
    Ok(())
}
