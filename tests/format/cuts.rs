//! Files that end too early: the tail of a log that a crash left, and catalogues and indexes cut
//! anywhere.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use thalweg::inspect::{DumpOptions, Dumped, DumpedBatch, dump};
use thalweg::{Acks, ErrorKind, Record};

use crate::support::{
    BLOCK_BYTES, HEADER_BYTES, Sample, Sent, TOPIC, check, copy_tree, open_noting_cuts, read_all, read_engine, segment,
    topic_config,
};

/// A crash's directory: a sealed segment, and one with batches of which the last were never synced.
struct Crashed {
    sample: Sample,
    image: PathBuf,
    batches: Vec<DumpedBatch>,
    /// What the catalogue's mark says was durable.
    marked: u64,
    header_evidence: u64,
}

impl Crashed {
    fn new() -> Crashed {
        let mut sample = Sample::new();
        let engine = sample.open();
        engine.create_topic(TOPIC, topic_config().partitions(1)).unwrap();
        sample.append(&engine, 0, 3, 50);
        sample.roll();
        sample.append(&engine, 0, 2, 40);
        sample.append(&engine, 0, 1, 30);
        // From here on nothing is synced.
        let partition = engine.partition(TOPIC, 0).unwrap();
        for bytes in [10, 60, 0, 33] {
            let first = sample.contents[&0].len() as u64;
            let new: Vec<Sent> = (first..first + 2).map(|number| Sent::number(number, bytes)).collect();
            let records: Vec<Record<'_>> = new.iter().map(|sent| sent.record().acks(Acks::Written)).collect();
            partition.append_batch(&records).unwrap().wait().unwrap();
            sample.contents.get_mut(&0).unwrap().extend(new);
        }
        engine.flush().unwrap();
        let image = sample.copy_to("image");
        drop(engine);
        let mut crashed = Crashed { batches: Vec::new(), marked: 0, header_evidence: 0, sample, image };
        crashed.learn();
        crashed
    }

    /// What the files say of durability, by the dump.
    fn learn(&mut self) {
        dump(self.segment(&self.image), DumpOptions::default(), &mut |dumped| {
            match dumped {
                Dumped::File(file) => self.header_evidence = file.fields.unwrap().durable_before,
                Dumped::Batch(batch) => self.batches.push(batch),
                _ => {}
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(self.batches.len(), 6);
        dump(self.image.join("catalog-1"), DumpOptions::default().contents(true), &mut |dumped| {
            if let Dumped::Entry(entry) = dumped
                && entry.kind == "mark"
            {
                let durable = entry.fields.iter().find(|(name, _)| *name == "durable_offset").unwrap();
                self.marked = self.marked.max(durable.1.parse().unwrap());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    }

    /// The last segment.
    fn segment(&self, dir: &Path) -> PathBuf {
        segment(dir, 0, 3)
    }

    fn written_end(&self) -> u64 {
        let last = self.batches.last().unwrap();
        last.position + u64::from(last.length)
    }

    /// What must be left, if the segment's first `length` bytes are whole: the records, and the
    /// offset below which they are known to have been durable.
    fn expected(&self, length: u64) -> (u64, u64) {
        let whole = self.batches.iter().filter(|batch| batch.position + u64::from(batch.length) <= length);
        let (mut end, mut evidence) = (3, self.marked);
        if length >= HEADER_BYTES {
            evidence = evidence.max(self.header_evidence);
        }
        for batch in whole.filter(|_| length >= BLOCK_BYTES) {
            end = batch.base_offset + u64::from(batch.offset_count);
            evidence = evidence.max(batch.durable_before);
        }
        (end, evidence)
    }

    /// A segment that is whole up to `length` holds a prefix, or is called damaged where more was durable.
    fn assert_cut(&self, dir: &Path, length: u64, what: &str) {
        let (end, evidence) = self.expected(length);
        let back = read_all(dir);
        back.assert_nothing_wrong(&self.sample.contents, what);
        let found = check(dir);
        let damaged = back.errors.iter().find(|error| error.partition() == Some(0) || error.topic().is_some());
        if end < evidence {
            let error = damaged.unwrap_or_else(|| panic!("{what}: {evidence} were durable, {end} are left"));
            assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{what}: {error:?}");
            assert!(!found.is_sound(), "{what}");
            let lost = found.damage.iter().filter_map(|damage| damage.offsets.clone()).next_back();
            assert_eq!(lost.map(|lost| lost.start), Some(end), "{what}: {:#?}", found.damage);
        } else {
            assert!(damaged.is_none(), "{what}: {damaged:?}");
            assert_eq!(back.prefix(0), end, "{what}");
            assert!(found.is_sound(), "{what}: {:#?}", found.damage);
        }
    }
}

#[test]
fn the_image_of_a_crash_is_sound() {
    let crashed = Crashed::new();
    let found = check(&crashed.image);
    assert!(found.is_sound(), "{:#?}", found.damage);
    assert_eq!(found.records, 14);
    assert_eq!(crashed.expected(u64::MAX).0, 14);
    assert!(crashed.marked < 14, "the last batches are not durable");
    let back = read_all(&crashed.image);
    assert!(crashed.expected(u64::MAX).1 < 14);
    back.assert_true_or_refused(&crashed.sample.contents, "image");
}

#[test]
fn the_last_segment_cut_at_any_byte() {
    let crashed = Crashed::new();
    let dir = crashed.sample.copy_to("unused").with_file_name("cut");
    copy_tree(&crashed.image, &dir);
    let file = crashed.segment(&dir);
    let whole = fs::read(&file).unwrap();
    let cuts = (0..HEADER_BYTES).step_by(37).chain((HEADER_BYTES..BLOCK_BYTES).step_by(511));
    for cut in cuts.chain(BLOCK_BYTES..=crashed.written_end()) {
        fs::write(&file, &whole[..cut as usize]).unwrap();
        crashed.assert_cut(&dir, cut, &format!("cut to {cut} bytes"));
    }
}

#[test]
fn a_tail_of_zeros_or_garbage_is_cut_and_the_log_goes_on() {
    let crashed = Crashed::new();
    let whole = fs::read(crashed.segment(&crashed.image)).unwrap();
    let garbage: Vec<u8> = (0..whole.len()).map(|at| (at * 167 + at / 13) as u8).collect();
    let zeros = vec![0; whole.len()];
    let end = crashed.written_end();
    let mut number = 0;
    for cut in (crashed.batches[3].position..=end).step_by(29) {
        for tail in [&garbage, &zeros] {
            number += 1;
            let dir = crashed.image.with_file_name(format!("tail-{number}"));
            copy_tree(&crashed.image, &dir);
            let file = crashed.segment(&dir);
            let bytes = [&whole[..cut as usize], &tail[cut as usize..]].concat();
            fs::write(&file, &bytes).unwrap();
            let what = format!("from {cut} on {}", if tail[9] == 0 { "zeros" } else { "garbage" });
            // A batch may end with zeros.
            let differs = bytes.iter().zip(&whole).position(|(now, then)| now != then);
            let same = differs.map_or(whole.len() as u64, |at| at as u64);
            crashed.assert_cut(&dir, same, &what);
            let (expected, _) = crashed.expected(same);
            let is_whole = same >= end || crashed.batches.iter().any(|batch| batch.position == cut);
            let (engine, cuts) = open_noting_cuts(&dir);
            let engine = engine.unwrap();
            let torn: Vec<_> = cuts.iter().filter(|(path, ..)| *path == file).collect();
            assert_eq!(torn.is_empty(), is_whole && tail[9] == 0, "{what}: {cuts:?}");
            // The log goes on at the cut, and what was cut never comes back.
            let partition = engine.partition(TOPIC, 0).unwrap();
            let receipt = partition.append(&Record::new("after the crash")).unwrap();
            assert_eq!(receipt.wait().unwrap().offset, expected, "{what}");
            engine.close().unwrap();
            let found = check(&dir);
            assert!(found.is_sound(), "{what}: {:#?}", found.damage);
            let mut back = read_all(&dir);
            assert_eq!(back.prefix(0), expected + 1, "{what}");
            let last = back.records.get_mut(&0).unwrap().remove(&expected).unwrap();
            assert_eq!(last.value.as_deref(), Some(&b"after the crash"[..]), "{what}");
            back.assert_nothing_wrong(&crashed.sample.contents, &what);
            fs::remove_dir_all(&dir).unwrap();
        }
    }
}

#[test]
fn a_bit_flipped_in_the_unsynced_tail_cuts_there() {
    let crashed = Crashed::new();
    let dir = crashed.image.with_file_name("flipped");
    copy_tree(&crashed.image, &dir);
    let file = crashed.segment(&dir);
    let whole = fs::read(&file).unwrap();
    for at in (BLOCK_BYTES..crashed.written_end()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at as usize] ^= 1 << (at % 8);
        fs::write(&file, &bytes).unwrap();
        let batch = crashed.batches.iter().rev().find(|batch| batch.position <= at).unwrap();
        let what = format!("bit {} of byte {at}", at % 8);
        let back = read_all(&dir);
        back.assert_nothing_wrong(&crashed.sample.contents, &what);
        // Later batches speak of what was durable before them.
        let evidence = crashed.batches.iter().map(|batch| batch.durable_before).max().unwrap().max(crashed.marked);
        let is_damage = batch.base_offset < evidence;
        assert_eq!(check(&dir).is_sound(), !is_damage, "{what}");
        if !is_damage {
            assert_eq!(back.prefix(0), batch.base_offset, "{what}");
            assert_eq!(check(&dir).unfinished.len(), 1, "{what}");
        }
    }
}

#[test]
fn a_closed_segment_cut_at_any_byte_is_damage() {
    let sample = Sample::closed();
    for (partition, base_offset, step) in [(0, 0, 11), (0, 5, 701), (0, 29, 7)] {
        let file = segment(&sample.dir(), partition, base_offset);
        let whole = fs::read(&file).unwrap();
        for cut in (0..whole.len()).step_by(step) {
            if cut > HEADER_BYTES as usize && cut < BLOCK_BYTES as usize && cut % 97 != 0 {
                continue;
            }
            let what = format!("{} cut to {cut}", file.display());
            fs::write(&file, &whole[..cut]).unwrap();
            let found = check(&sample.dir());
            assert!(found.damage.iter().any(|damage| damage.path == file), "{what}: {:#?}", found.damage);
            let back = read_all(&sample.dir());
            back.assert_true_or_refused(&sample.contents, &what);
            assert!(!back.errors.is_empty(), "{what}");
            for error in &back.errors {
                assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{what}: {error:?}");
            }
        }
        fs::write(&file, &whole).unwrap();
    }
}

#[test]
fn a_catalogue_cut_at_any_byte_is_refused_or_says_the_same() {
    let sample = Sample::closed();
    let file = sample.dir().join("catalog-1");
    let whole = fs::read(&file).unwrap();
    let mut positions = Vec::new();
    dump(&file, DumpOptions::default(), &mut |dumped| {
        if let Dumped::Batch(batch) = dumped {
            positions.extend([batch.position, batch.position + 100]);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    for cut in [0, 100, 511, 512, 4095].into_iter().chain(positions) {
        let what = format!("catalogue cut to {cut}");
        fs::write(&file, &whole[..cut as usize]).unwrap();
        let found = check(&sample.dir());
        assert!(!found.is_sound(), "{what}");
        let back = read_all(&sample.dir());
        back.assert_true_or_refused(&sample.contents, &what);
        for error in &back.errors {
            assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{what}: {error:?}");
            assert!(error.path().is_some(), "{what}: {error:?}");
        }
    }
    // The same without the note of where it ended.
    fs::write(sample.dir().join("LOCK"), "").unwrap();
    fs::write(&file, &whole).unwrap();
    assert!(check(&sample.dir()).is_sound());
}

#[test]
fn a_cut_in_the_catalogue_is_told_once() {
    let sample = Sample::closed();
    let file = sample.dir().join("catalog-1");
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    bytes[end.next_multiple_of(8)..][..300].fill(0xa5);
    fs::write(&file, &bytes).unwrap();
    let (engine, cuts) = open_noting_cuts(&sample.dir());
    assert_eq!(cuts, [(file.clone(), end.next_multiple_of(8) as u64, 300)]);
    engine.unwrap().close().unwrap();
    let (engine, cuts) = open_noting_cuts(&sample.dir());
    assert_eq!(cuts, []);
    let engine = engine.unwrap();
    read_engine(&engine).assert_true_or_refused(&sample.contents, "after the cut");
    engine.close().unwrap();
    assert!(check(&sample.dir()).is_sound());
}
