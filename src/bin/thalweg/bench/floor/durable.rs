//! One record at a time: `pwrite` of the bytes that the engine writes for it, then `fdatasync`; into blocks
//! that were written before, or that were only reserved.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use super::{failed, reserve, single_record_bytes};
use crate::bench::context::Bench;
use crate::bench::figures::Run;
use crate::bench::lanes::{self, Lane, Plan};
use crate::bench::payload::Payloads;
use crate::failure::Failure;

/// Of the file, which is gone through over and over.
const FILE_BYTES: u64 = 16 << 20;

/// What the blocks are before they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocks {
    Written,
    Reserved,
}

/// One run.
pub(crate) fn run(bench: &Bench, blocks: Blocks, payloads: &Payloads, plan: Plan) -> Result<Run, Failure> {
    let piece = bench.scratch.fresh("floor")?;
    let path = piece.path().join("durable");
    let made = File::create(&path).and_then(|file| {
        match blocks {
            Blocks::Reserved => reserve(&file, 0, FILE_BYTES)?,
            Blocks::Written => {
                let zeros = vec![0; 1 << 20];
                (0..FILE_BYTES >> 20).try_for_each(|at| file.write_all_at(&zeros, at << 20))?;
            }
        }
        file.sync_all()?;
        Ok(file)
    });
    let file = made.map_err(|error| failed(&path, &error))?;
    let work = |lane: &mut Lane<'_>| {
        let (mut n, mut position) = (0, 4096);
        let mut record = Vec::new();
        loop {
            let value = payloads.value(lane.number, n);
            let begun = Instant::now();
            record.clear();
            record.resize(single_record_bytes(value.len()) - value.len(), 0);
            record.extend_from_slice(value);
            let checksum = crc32fast::hash(&record[4..]);
            record[..4].copy_from_slice(&checksum.to_le_bytes());
            file.write_all_at(&record, position)
                .and_then(|()| file.sync_data())
                .map_err(|error| failed(&path, &error))?;
            lane.took(begun.elapsed());
            position += record.len() as u64;
            if position + record.len() as u64 * 2 > FILE_BYTES {
                position = 4096;
            }
            n += 1;
            if !lane.did(1, value.len() as u64) {
                return Ok(());
            }
        }
    };
    lanes::run(bench, plan, 1, work, || Ok(())).map(|(run, _)| run)
}
