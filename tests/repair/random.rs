//! Directories as a kill leaves them, damaged at random in several places at once: whatever it is, repair
//! ends in something sound that invents nothing, and names all that is missing.

use std::path::PathBuf;

use thalweg::inspect::{repair_sim, verify_sim};
use thalweg::sim::{CrashPolicy, SimDisk};

use crate::support::{DATA, Sample, TOPIC, change, open, read, repair};

/// A small generator of its own, so that a seed means the same for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % limit.max(1)
    }
}

/// Goes on with the sample for a while, and ends without closing.
fn killed(random: &mut Random) -> (Sample, SimDisk) {
    let mut sample = Sample::new();
    for _ in 0..random.below(3) {
        let engine = sample.open();
        for _ in 0..random.below(8) {
            let partition = random.below(2) as u32;
            let sizes: Vec<usize> = (0..1 + random.below(3)).map(|_| random.below(900)).collect();
            sample.append(&engine, partition, &sizes);
            if random.below(3) == 0 {
                sample.roll();
            }
            if random.below(8) == 0 {
                let start = random.below(sample.sent[&partition].len());
                engine.partition(TOPIC, partition).unwrap().delete_records(start as u64).unwrap();
            }
        }
        if random.below(2) == 0 {
            let disk = sample.disk.crash(CrashPolicy::Kill);
            sample.disk = disk.clone();
        } else {
            engine.close().unwrap();
        }
    }
    let disk = sample.copy();
    (sample, disk)
}

/// One piece of damage; what it is.
fn damage(random: &mut Random, disk: &SimDisk) -> String {
    let files: Vec<PathBuf> = disk.list_files().into_iter().filter(|path| !path.ends_with("LOCK")).collect();
    let path = &files[random.below(files.len())];
    let other = &files[random.below(files.len())];
    let bytes = disk.read_file(path).unwrap();
    let at = random.below(bytes.len());
    let what = random.below(7);
    match what {
        0 | 1 if !bytes.is_empty() => change(disk, path, |bytes| bytes[at] ^= 1 << (at % 8)),
        2 => change(disk, path, |bytes| bytes.truncate(at)),
        3 => disk.remove_file(path).unwrap(),
        4 => change(disk, path, |bytes| {
            let end = bytes.len().min(at / 512 * 512 + 512);
            bytes[at / 512 * 512..end].fill(0);
        }),
        5 => {
            disk.write_file(path, disk.read_file(other).unwrap()).unwrap();
            disk.write_file(other, bytes).unwrap();
        }
        _ => disk.write_file(path, disk.read_file(other).unwrap()).unwrap(),
    }
    format!("{what} at {at} of {} ({})", path.display(), other.display())
}

#[test]
fn d3_random_damage_ends_sound() {
    let seeds = std::env::var("THALWEG_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(120);
    let only: Option<u64> = std::env::var("THALWEG_SEED").ok().and_then(|text| text.parse().ok());
    let mut repaired = 0;
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        let mut random = Random(seed.wrapping_mul(0x1234_5678_9abc_def1));
        let (sample, disk) = killed(&mut random);
        let damages: Vec<String> = (0..1 + random.below(3)).map(|_| damage(&mut random, &disk)).collect();
        let what = format!("seed {seed}: {damages:#?}");
        let Ok(found) = verify_sim(&disk, DATA, &mut |_| {}) else { continue };
        if found.is_sound() {
            continue;
        }
        let planned = repair_sim(&disk, DATA, true, &mut |_| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
        let done = repair(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        repaired += 1;
        assert!(done.impossible.is_empty(), "{what}: {done:#?}");
        assert_eq!(planned.steps.len(), done.steps.len(), "{what}: {planned:#?} {done:#?}");
        let found = verify_sim(&disk, DATA, &mut |_| {}).unwrap();
        assert!(found.is_sound(), "{what}: {:#?} {done:#?}", found.damage);
        assert!(repair(&disk).unwrap().is_nothing(), "{what}");
        let engine = open(&disk, &sample.clock).unwrap_or_else(|error| panic!("{what}: {error}"));
        for (&number, sent) in &sample.sent {
            let Ok(partition) = engine.partition(TOPIC, number) else { continue };
            let there = read(&engine, number, &what);
            for (offset, value) in &there {
                assert_eq!(Some(value), sent.get(*offset as usize), "{what}: partition {number}, offset {offset}");
            }
            let (start, end) = (partition.log_start_offset(), partition.next_offset());
            assert!(end as usize <= sent.len(), "{what}: partition {number} ends at {end}");
            for offset in start..end {
                let is_lost = done.lost.iter().any(|lost| lost.partition == number && lost.offsets.contains(&offset));
                assert!(
                    there.contains_key(&offset) != is_lost,
                    "{what}: partition {number}, offset {offset} {done:#?}"
                );
            }
            let receipt = partition.append(&thalweg::Record::new("on")).unwrap();
            assert_eq!(receipt.wait().unwrap().offset, end, "{what}");
        }
        engine.close().unwrap();
        let found = verify_sim(&disk, DATA, &mut |_| {}).unwrap();
        assert!(found.is_sound(), "{what}, after going on: {:#?}", found.damage);
    }
    assert!(only.is_some() || repaired > seeds / 2, "{repaired} of {seeds} were damaged");
}
