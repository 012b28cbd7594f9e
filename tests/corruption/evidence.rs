//! What the files themselves say was durable, found with `dump`, not with the code that recovers: by
//! it a shorter log is a torn tail or damage.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;

use thalweg::inspect::{DumpOptions, Dumped, dump};
use thalweg::sim::SimDisk;

use crate::sample::{DATA, Place, Sample};

/// That offsets below `durable_before` of a partition were durable, in these bytes of a file.
struct Witness {
    place: Place,
    durable_before: u64,
    path: PathBuf,
    /// What must stand there unchanged for it to count.
    bytes: Vec<(Range<usize>, Vec<u8>)>,
}

/// All that the files of an undamaged sample say.
pub(crate) struct Evidence {
    witnesses: Vec<Witness>,
    /// Where the batches of each log end.
    ends: BTreeMap<PathBuf, Vec<usize>>,
}

impl Evidence {
    pub(crate) fn of(sample: &Sample) -> Evidence {
        let scratch = tempfile::tempdir().unwrap();
        let mut witnesses = Vec::new();
        let mut ends = BTreeMap::new();
        let mut ids = BTreeMap::new();
        for path in sample.files() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name == "LOCK" || name == "evidence" || name.ends_with(".index") {
                continue;
            }
            let bytes = sample.read(&path);
            let ends: &mut Vec<usize> = ends.entry(path.clone()).or_insert_with(|| vec![4096]);
            let copy = scratch.path().join("00000000000000000000.log");
            std::fs::write(&copy, &bytes).unwrap();
            let of = |ranges: &[Range<usize>]| -> Vec<(Range<usize>, Vec<u8>)> {
                ranges.iter().map(|range| (range.clone(), bytes[range.clone()].to_vec())).collect()
            };
            let place = partition_of(&path);
            dump(&copy, DumpOptions::default(), &mut |dumped| {
                if let Dumped::Batch(batch) = &dumped {
                    ends.push(batch.position as usize + batch.length as usize);
                }
                let Some(place) = &place else { return ControlFlow::Continue(()) };
                let (durable_before, parts) = match dumped {
                    Dumped::File(file) => {
                        let fields = file.fields.unwrap();
                        ids.insert((fields.topic_id, fields.partition), place.clone());
                        (fields.durable_before, of(std::slice::from_ref(&(0..512))))
                    }
                    Dumped::Batch(batch) => {
                        let at = batch.position as usize;
                        (batch.durable_before, of(&[0..512, at..at + 96]))
                    }
                    _ => return ControlFlow::Continue(()),
                };
                let (place, path) = (place.clone(), path.clone());
                witnesses.push(Witness { place, durable_before, path, bytes: parts });
                ControlFlow::Continue(())
            })
            .unwrap();
        }
        witnesses.extend(notes(sample, &ids));
        Evidence { witnesses, ends }
    }

    /// Whether a file ends where one of its batches did, and nothing is left of those that followed: nobody
    /// can tell that there were any, unless something proves them.
    pub(crate) fn ends_with_a_batch(&self, disk: &SimDisk, before: &SimDisk) -> bool {
        self.ends.iter().any(|(path, ends)| {
            let (Ok(now), Ok(then)) = (disk.read_file(path), before.read_file(path)) else { return false };
            let end = ends.iter().rev().find(|&&end| end <= now.len());
            now.len() < then.len()
                && then.starts_with(&now)
                && end.is_some_and(|&end| now[end..].iter().all(|&byte| byte == 0))
        })
    }

    /// Below which offset each partition is known to have been durable, by what is left on a disk.
    /// The catalogue's marks are left out; see `Case::proven`.
    pub(crate) fn left(&self, disk: &SimDisk) -> BTreeMap<Place, u64> {
        let mut left = BTreeMap::new();
        let mut files = BTreeMap::new();
        for witness in &self.witnesses {
            let file: &mut Option<Vec<u8>> =
                files.entry(&witness.path).or_insert_with(|| disk.read_file(&witness.path).ok());
            let stands = witness.bytes.iter().all(|(range, bytes)| {
                file.as_ref().and_then(|file| file.get(range.clone())).is_some_and(|found| found == bytes)
            });
            if stands {
                let evidence = left.entry(witness.place.clone()).or_insert(0);
                *evidence = witness.durable_before.max(*evidence);
            }
        }
        left
    }
}

/// What the file `evidence` says. `ids`: which partition is which.
fn notes(sample: &Sample, ids: &BTreeMap<(u32, u32), Place>) -> Vec<Witness> {
    let path = PathBuf::from(DATA).join("evidence");
    let file = sample.disk.read_file(&path).unwrap_or_default();
    let word = |note: &[u8], at: usize| u32::from_le_bytes(note[at..at + 4].try_into().unwrap());
    let witness = |(number, note): (usize, &[u8])| {
        // One is about the offset log.
        let place = ids.get(&(word(note, 8), word(note, 4)))?.clone();
        Some(Witness {
            place,
            durable_before: u64::from_le_bytes(note[16..24].try_into().unwrap()),
            path: path.clone(),
            bytes: vec![(number * 32..number * 32 + 32, note.to_vec())],
        })
    };
    file.chunks_exact(32).enumerate().filter_map(witness).collect()
}

/// The partition whose segment this is.
pub(crate) fn partition_of(path: &std::path::Path) -> Option<Place> {
    let mut parts = path.strip_prefix(DATA).ok()?.strip_prefix("topics").ok()?.iter();
    let (topic, number) = (parts.next()?.to_str()?, parts.next()?.to_str()?);
    let is_segment = path.extension().is_some_and(|extension| extension == "log") && parts.count() == 1;
    is_segment.then(|| Some((topic.to_owned(), number.parse().ok()?))).flatten()
}
