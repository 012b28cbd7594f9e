//! Files that somebody else shortens while an engine writes them: noticed by the next sync, before it acknowledges.

use std::fs::OpenOptions;

use thalweg::ErrorKind;

use crate::support::{engine, send};

/// D1: bytes that were cut off from outside are gone; the partition stops instead of going on over a hole.
#[test]
fn d1_a_segment_that_was_shortened_acknowledges_nothing_more() {
    for length in [0, 4_096, 6_000] {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _) = engine(dir.path());
        send(&engine, "t", 0..10).unwrap();
        let segment = dir.path().join("topics/t/0/00000000000000000000.log");
        OpenOptions::new().write(true).open(segment).unwrap().set_len(length).unwrap();
        let error = send(&engine, "t", 10..11).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Failed, "to {length}: {error}");
        assert!(error.to_string().contains("shortened"), "to {length}: {error}");
        let _ = engine.close();
    }
}

/// Also where the next write would reserve more, which makes the file long again.
#[test]
fn d1_a_segment_that_was_emptied_before_more_is_reserved_acknowledges_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = engine(dir.path());
    send(&engine, "t", 0..1).unwrap();
    let segment = dir.path().join("topics/t/0/00000000000000000000.log");
    OpenOptions::new().write(true).open(segment).unwrap().set_len(0).unwrap();
    let value = vec![7; 300 << 10];
    let sent = engine.producer_for("t").unwrap().send(thalweg::Record::new(&value)).unwrap().wait();
    assert_eq!(sent.unwrap_err().kind(), &ErrorKind::Failed);
    let _ = engine.close();
}
