//! Replaying: a walk over framed batches in a mapping, each checksum checked, each value looked at.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;

use thalweg::floors::MappedFile;

use super::failed;
use super::frame::{self, Framer};
use crate::bench::context::Bench;
use crate::bench::figures::Run;
use crate::bench::lanes::{self, Lane, Plan};
use crate::bench::payload::Payloads;
use crate::bench::scratch::Piece;
use crate::bench::settings::Settings;
use crate::failure::Failure;

/// A file with framed values.
pub(crate) struct Log {
    mapped: MappedFile,
    _piece: Piece,
}

impl Log {
    /// As many values as there are in `total_bytes`.
    pub(crate) fn make(
        bench: &Bench,
        settings: &Settings,
        payloads: &Payloads,
        total_bytes: u64,
    ) -> Result<Log, Failure> {
        let piece = bench.scratch.fresh("floor")?;
        let path = piece.path().join("log");
        let made = || {
            let mut file = File::create(&path)?;
            let (mut n, mut bytes, mut buffer) = (0, 0, Vec::new());
            while bytes < total_bytes && !bench.is_interrupted() {
                let mut framer = Framer::new(settings.batch_bytes);
                while buffer.len() < 1 << 20 && bytes < total_bytes {
                    let value = payloads.value(0, n);
                    framer.push(&mut buffer, value);
                    (n, bytes) = (n + 1, bytes + value.len() as u64);
                }
                framer.close(&mut buffer);
                file.write_all(&buffer)?;
                buffer.clear();
                bench.tick();
            }
            MappedFile::open(&path)
        };
        let mapped = made().map_err(|error| failed(&path, &error))?;
        Ok(Log { mapped, _piece: piece })
    }

    /// One run of so many threads, each through all of it, over and over.
    pub(crate) fn run(&self, bench: &Bench, consumers: usize, plan: Plan) -> Result<Run, Failure> {
        let log = self.mapped.bytes().map_err(|error| Failure::new(format!("the floor's log: {error}")))?;
        let work = |lane: &mut Lane<'_>| {
            loop {
                // In pieces, to look at the clock between them; batches don't cross a piece's end.
                let mut goes_on = true;
                for piece in pieces(log) {
                    let (count, bytes) = frame::walk(piece, |value| {
                        black_box(value.first());
                    });
                    goes_on = lane.did(count, bytes);
                    if !goes_on {
                        break;
                    }
                }
                if !goes_on || log.is_empty() {
                    return Ok(());
                }
            }
        };
        lanes::run(bench, plan, consumers, work, || Ok(())).map(|(run, _)| run)
    }
}

/// Stretches of whole batches, of about a mebibyte.
fn pieces(log: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = log;
    std::iter::from_fn(move || {
        let length = frame::whole_batches(rest, 1 << 20);
        let (piece, behind) = rest.split_at(length);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}
