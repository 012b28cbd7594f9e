//! `verify` beside a live writer, and `dump`.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use thalweg::inspect::{DumpOptions, Dumped, dump, verify};
use thalweg::{Acks, Engine, ErrorKind, Record, TopicConfig};

use crate::support::{BLOCK_BYTES, Patch, Sample, TOPIC, check, files, segment};

#[test]
fn verify_beside_a_live_writer_sees_no_damage() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let engine = Engine::builder(&dir).pin_writers(false).open().unwrap();
    let config = TopicConfig::default().partitions(2).segment_bytes(64 << 10).batch_bytes(1024);
    engine.create_topic(TOPIC, config.clone()).unwrap();
    let done = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let checking = scope.spawn(|| {
            let mut rounds = 0;
            let mut records = 0;
            while !done.load(Ordering::SeqCst) || rounds == 0 {
                let found = check(&dir);
                assert!(found.is_sound(), "round {rounds}: {:#?}", found.damage);
                assert!(found.live_writer.unwrap().starts_with("pid "));
                records = records.max(found.records);
                rounds += 1;
                let reader = Engine::builder(&dir).read_only().open().unwrap();
                let damaged = reader.recovery().partitions;
                assert!(damaged.is_empty(), "round {rounds}: {damaged:?}");
            }
            assert!(records > 0);
            rounds
        });
        let producer = engine.producer_for(TOPIC).unwrap();
        for round in 0..400_u64 {
            let value = vec![round as u8; 700];
            for number in 0..8 {
                let acks = if number == 7 { Acks::Synced } else { Acks::Written };
                let _ = producer.send(Record::new(&value).partition(round as u32 % 2).acks(acks)).unwrap();
            }
            if round % 10 == 9 {
                engine.sync().unwrap();
            }
            if round % 50 == 49 {
                let partition = engine.partition(TOPIC, 0).unwrap();
                partition.delete_records(partition.durable_offset() / 2).unwrap();
                engine.create_topic("brief", config.clone()).unwrap();
                engine.producer_for("brief").unwrap().send(Record::new("x")).unwrap().wait().unwrap();
                engine.delete_topic("brief").unwrap();
            }
        }
        done.store(true, Ordering::SeqCst);
        checking.join().unwrap()
    });
    assert!(rounds > 0);
    engine.close().unwrap();
    let found = check(&dir);
    assert!(found.is_sound() && found.unfinished.is_empty() && found.live_writer.is_none(), "{found:#?}");
}

#[test]
fn verify_changes_nothing_and_tells_how_far_it_is() {
    let sample = Sample::closed();
    let all = |dir: &Path| -> Vec<_> {
        let mut all = files(dir);
        all.push(dir.join("LOCK"));
        all.into_iter()
            .map(|path| (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap(), path))
            .collect()
    };
    let before = all(&sample.dir());
    let mut done = 0;
    let mut total = 0;
    let found = verify(sample.dir(), &mut |progress| {
        assert!(progress.bytes_done >= done && progress.bytes_done <= progress.bytes_total, "{progress:?}");
        done = progress.bytes_done;
        total = progress.bytes_total;
    });
    assert!(found.unwrap().is_sound());
    assert!(done > 0 && total >= done);
    assert!(all(&sample.dir()) == before);
}

#[test]
fn damage_says_which_offsets_are_lost_and_the_rest_is_still_counted() {
    let sample = Sample::closed();
    let file = segment(&sample.dir(), 0, 5);
    // A body, and the header of a batch further on.
    let batches = batches(&file);
    let (first, second) = (&batches[2], &batches[7]);
    let _body = Patch::flip(&file, first.0 + 200, 1);
    let _header = Patch::flip(&file, second.0 + 16, 1);
    let found = check(&sample.dir());
    let damage: Vec<_> =
        found.damage.iter().map(|damage| (damage.position.unwrap(), damage.offsets.clone().unwrap())).collect();
    assert_eq!(damage, [(first.0, 9..11), (second.0, 19..21)]);
    assert_eq!((found.batches, found.records), (16, 31));
    assert!(found.damage[0].reason.starts_with("batch checksum is "), "{}", found.damage[0]);
    assert!(found.damage[1].reason.starts_with("batch header checksum is "), "{}", found.damage[1]);
    let line = found.damage[0].to_string();
    assert!(line.contains("topic quotes, partition 0, offsets 9 to 10: batch checksum"), "{line}");
    // Every other record can be read.
    let engine = Engine::builder(sample.dir()).read_only().open().unwrap();
    let partition = engine.partition(TOPIC, 0).unwrap();
    for (offset, sent) in sample.contents[&0].iter().enumerate() {
        let lost = damage.iter().any(|(_, lost)| lost.contains(&(offset as u64)));
        match partition.get(offset as u64) {
            Ok(record) => assert!(!lost && record.view().value() == sent.value.as_deref(), "offset {offset}"),
            Err(error) => {
                assert!(lost && matches!(error.kind(), ErrorKind::Corrupt { .. }), "offset {offset}: {error:?}")
            }
        }
    }
}

/// Position and length of each batch in a file.
fn batches(file: &Path) -> Vec<(u64, u64)> {
    let mut batches = Vec::new();
    dump(file, DumpOptions::default(), &mut |dumped| {
        if let Dumped::Batch(batch) = dumped {
            assert_eq!(batch.problem, None);
            batches.push((batch.position, u64::from(batch.length)));
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    batches
}

/// What a dump shows, a word for each thing.
fn outline(file: &Path, contents: bool) -> String {
    let mut outline = Vec::new();
    dump(file, DumpOptions::default().contents(contents), &mut |dumped| {
        outline.push(match dumped {
            Dumped::File(file) if file.problem.is_some() => "file!".to_owned(),
            Dumped::File(file) => file.fields.unwrap().kind.to_owned(),
            Dumped::Batch(batch) if batch.problem.is_some() => format!("batch!{}", batch.base_offset),
            Dumped::Batch(batch) => format!("{}@{}", batch.kind, batch.base_offset),
            Dumped::Record(record) => format!("+{}", record.offset),
            Dumped::Entry(entry) => entry.kind.to_owned(),
            Dumped::IndexEntry(entry) if entry.fields.is_err() => "entry!".to_owned(),
            Dumped::IndexEntry(_) => "entry".to_owned(),
            Dumped::Gap(gap) => format!("{}{}", if gap.zero { "zeros" } else { "gap" }, gap.bytes),
            other => panic!("{other:?}"),
        });
        ControlFlow::Continue(())
    })
    .unwrap();
    outline.join(" ")
}

#[test]
fn dump_shows_what_is_there_in_its_order() {
    let sample = Sample::closed();
    let first = segment(&sample.dir(), 0, 0);
    assert_eq!(outline(&first, false), "segment records@0 records@2");
    assert_eq!(outline(&first, true), "segment records@0 +0 +1 records@2 +2 +3 +4");
    let index = segment(&sample.dir(), 0, 5).with_extension("index");
    assert_eq!(outline(&index, false), "index entry entry");
    let catalog = outline(&sample.dir().join("catalog-1"), true);
    assert!(catalog.starts_with("catalogue catalogue@0 engine epoch catalogue@2 epoch catalogue@3 topic"), "{catalog}");
    assert!(catalog.contains("clean zeros"), "{catalog}");
}

#[test]
fn dump_shows_the_very_records() {
    let sample = Sample::closed();
    let mut shown = 0;
    dump(segment(&sample.dir(), 0, 0), DumpOptions::default().contents(true), &mut |dumped| {
        if let Dumped::Record(record) = dumped {
            let sent = &sample.contents[&0][record.offset as usize];
            assert_eq!((record.key, record.value), (sent.key.as_deref(), sent.value.as_deref()));
            assert_eq!(record.timestamp, sent.timestamp);
            let headers: Vec<_> = sent.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            assert_eq!(record.headers, headers);
            shown += 1;
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(shown, 5);
}

#[test]
fn dump_goes_on_behind_damage() {
    let sample = Sample::closed();
    let file = segment(&sample.dir(), 0, 0);
    let batches = batches(&file);
    let ((first, first_length), (second, _)) = (batches[0], batches[1]);
    {
        let _patch = Patch::flip(&file, first + 100, 0);
        assert_eq!(outline(&file, true), "segment batch!0 records@2 +2 +3 +4");
    }
    {
        let _patch = Patch::flip(&file, first, 0);
        assert_eq!(outline(&file, false), format!("segment gap{first_length} records@2"));
    }
    {
        let _patch = Patch::flip(&file, second + 8, 3);
        let rest = fs::metadata(&file).unwrap().len() - second;
        assert_eq!(outline(&file, false), format!("segment records@0 gap{rest}"));
    }
    // Without its header the batches can be told all the same, if what seeds their checksums is whole.
    let _patch = Patch::flip(&file, 70, 0);
    assert_eq!(outline(&file, false), "file! records@0 records@2");
    let _patch = Patch::flip(&file, 50, 0);
    assert!(outline(&file, false).starts_with("file! gap"), "{}", outline(&file, false));
    let index = segment(&sample.dir(), 0, 5).with_extension("index");
    let _patch = Patch::flip(&index, BLOCK_BYTES, 0);
    assert_eq!(outline(&index, false), "index entry! entry");
}

#[test]
fn dump_ends_when_nobody_wants_more() {
    let sample = Sample::closed();
    for most in 1..6 {
        let mut shown = 0;
        dump(segment(&sample.dir(), 0, 0), DumpOptions::default().contents(true), &mut |_| {
            shown += 1;
            if shown == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        assert_eq!(shown, most);
    }
}

#[test]
fn dump_of_any_bytes_is_no_error_and_of_no_file_is() {
    let root = tempfile::tempdir().unwrap();
    for length in [0, 1, 511, 512, 4_095, 4_096, 5_000] {
        let file = root.path().join("bytes");
        let bytes: Vec<u8> = (0..length).map(|at| (at * 31) as u8).collect();
        fs::write(&file, bytes).unwrap();
        let shown = outline(&file, true);
        assert!(shown.starts_with("file!"), "{shown}");
    }
    let pipe = root.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [&pipe, root.path()] {
        let error = dump(path, DumpOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidArgument { .. }), "{error:?}");
    }
    let missing = dump(root.path().join("missing"), DumpOptions::default(), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(missing.unwrap_err().kind(), ErrorKind::Io));
}
