//! A child that was forked from a process with an open engine: every call is a clear error, at once; dropping does
//! nothing; the parent goes on as if the child weren't there. With writer threads and without.

#![expect(unsafe_code, reason = "nothing safe forks")]

use std::io::{Read, Write};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use thalweg::{Acks, Engine, ErrorKind, Record, Result, TopicConfig, Writers};

use crate::support::{numbers, send};

unsafe extern "C" {
    fn fork() -> i32;
    fn _exit(code: i32) -> !;
}

/// Runs `child` in a forked child; what it says, or that it hung.
fn in_child(child: impl FnOnce() -> String) -> String {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    // SAFETY: the child runs `child` and ends; it calls nothing of this test's threads, and glibc's allocator works in
    // a child of a process with threads.
    let pid = unsafe { fork() };
    if pid == 0 {
        let said = std::panic::catch_unwind(AssertUnwindSafe(child)).unwrap_or_else(|_| "it panicked".to_owned());
        let _ = writer.write_all(said.as_bytes());
        // SAFETY: it ends the process, without what the parent has registered for its end.
        unsafe { _exit(0) }
    }
    drop(writer);
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut said = String::new();
        let _ = reader.read_to_string(&mut said);
        let _ = send.send(said);
    });
    let said = receive.recv_timeout(Duration::from_secs(60));
    let pid = Pid::from_raw(pid).unwrap();
    if said.is_err() {
        let _ = kill_process(pid, Signal::KILL);
    }
    waitpid(Some(pid), WaitOptions::empty()).unwrap();
    said.unwrap_or_else(|_| "it hangs".to_owned())
}

/// The calls whose answer isn't that this is a child.
fn all_say_so(calls: Vec<(&str, Result<()>)>) -> String {
    let others = calls.into_iter().filter_map(|(call, answer)| match answer {
        Err(error) if matches!(error.kind(), ErrorKind::Forked { .. }) => None,
        other => Some(format!("{call}: {other:?}")),
    });
    others.collect::<Vec<_>>().join("; ")
}

fn open(dir: &Path, writers: Writers) -> Engine {
    Engine::builder(dir).writers(writers).open().unwrap()
}

/// D7: a child neither writes nor gives the lock up.
#[test]
fn d7_a_forked_child_can_do_nothing_and_harms_nothing() {
    for writers in [Writers::Threads(2), Writers::Inline] {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path(), writers);
        engine.create_topic("t", TopicConfig::default().segment_bytes(64 << 10)).unwrap();
        send(&engine, "t", 0..10).unwrap();
        let producer = engine.producer_for("t").unwrap();
        let partition = engine.partition("t", 0).unwrap();
        let mut consumer = engine.consumer("g").subscribe(["t"]).start().unwrap();
        while consumer.poll(Duration::from_secs(10)).unwrap().is_empty() {}
        let mut by_hand = engine.assign([("t", 0)]).unwrap();
        let value = format!("{:0>500}", 10);
        let receipt = producer.send(Record::new(&value)).unwrap();

        let said = in_child(|| {
            let record = || Record::new("from the child").acks(Acks::Synced);
            let said = all_say_so(vec![
                ("send", producer.send(record()).map(drop)),
                ("try_send", producer.try_send(record()).map(drop)),
                ("send_batch", producer.send_batch(&[record(), record()]).map(drop)),
                ("wait", receipt.wait().map(drop)),
                ("wait_for", receipt.wait_for(Duration::from_secs(5)).map(drop)),
                ("is_acknowledged", receipt.is_acknowledged().map(drop)),
                ("append", partition.append(&record()).map(drop)),
                ("append_batch", partition.append_batch(&[record()]).map(drop)),
                ("append_if", partition.append_if(11, &[record()]).map(drop)),
                ("wait_durable", partition.wait_durable(5)),
                ("get", partition.get(0).map(drop)),
                ("read", partition.read(..).map(drop)),
                ("delete_records", partition.delete_records(5)),
                ("poll", consumer.poll(Duration::from_secs(5)).map(drop)),
                ("poll by hand", by_hand.poll(Duration::from_secs(5)).map(drop)),
                ("commit", consumer.commit()),
                ("commit_async", consumer.commit_async().map(drop)),
                ("keep_alive", consumer.keep_alive()),
                ("create_topic", engine.create_topic("u", TopicConfig::default())),
                ("alter_topic", engine.alter_topic("t", TopicConfig::default().partitions(2))),
                ("delete_topic", engine.delete_topic("t")),
                ("topics", engine.topics().map(drop)),
                ("describe_topic", engine.describe_topic("t").map(drop)),
                ("producer_for", engine.producer_for("t").map(drop)),
                ("partition", engine.partition("t", 0).map(drop)),
                ("consumer", engine.consumer("h").subscribe(["t"]).start().map(drop)),
                ("assign", engine.assign([("t", 0)]).map(drop)),
                ("groups", engine.groups().map(drop)),
                ("describe_group", engine.describe_group("g").map(drop)),
                ("delete_group", engine.delete_group("g")),
                ("flush", engine.flush()),
                ("sync", engine.sync()),
                ("close", engine.close()),
            ]);
            drop((producer, partition, consumer, by_hand, receipt));
            drop(engine);
            match Engine::open(dir.path()) {
                Err(error) if matches!(error.kind(), ErrorKind::Locked { .. }) => said,
                other => format!("{said}; opening: {other:?}"),
            }
        });
        assert_eq!(said, "", "{writers:?}");
    }
}

/// What the parent had goes on after a child came and went.
#[test]
fn d1_the_parent_goes_on_beside_a_child_that_drops_its_copy() {
    for writers in [Writers::Threads(2), Writers::Inline] {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path(), writers);
        engine.create_topic("t", TopicConfig::default().segment_bytes(64 << 10)).unwrap();
        send(&engine, "t", 0..10).unwrap();
        let consumer = engine.consumer("g").subscribe(["t"]).start().unwrap();
        let copies = (engine.clone(), consumer);
        let said = in_child(|| {
            drop(copies);
            "dropped".to_owned()
        });
        assert_eq!(said, "dropped", "{writers:?}");
        assert!(matches!(Engine::open(dir.path()).unwrap_err().kind(), ErrorKind::Locked { .. }), "{writers:?}");
        send(&engine, "t", 10..400).unwrap();
        engine.close().unwrap();
        assert!(thalweg::inspect::verify(dir.path(), &mut |_| {}).unwrap().is_sound(), "{writers:?}");
        let again = open(dir.path(), writers);
        assert_eq!(numbers(&again, "t"), (0..400).collect::<Vec<_>>(), "{writers:?}");
    }
}

/// A child that outlives the process which opened the directory: the message says why it is locked.
#[test]
fn the_lock_that_a_child_of_an_ended_process_holds_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    // SAFETY: as in `in_child`.
    let owner = unsafe { fork() };
    if owner == 0 {
        drop(writer);
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| open(dir.path(), Writers::Inline)));
        // SAFETY: as above.
        if opened.is_ok() && unsafe { fork() } == 0 {
            // Until the test has looked.
            let _ = reader.read(&mut [0]);
        }
        // SAFETY: as in `in_child`; the engine isn't closed.
        unsafe { _exit(i32::from(opened.is_err())) }
    }
    drop(reader);
    let (_, status) = waitpid(Some(Pid::from_raw(owner).unwrap()), WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0));
    let error = Engine::open(dir.path()).unwrap_err();
    let says = format!("process {owner} has ended, and a process that it forked still holds the lock");
    assert_eq!(error.kind(), &ErrorKind::Locked { holder: says });
    drop(writer);
}

/// A child may open directories of its own, and the parent's once that closed it.
#[test]
fn a_child_may_open_an_engine_of_its_own() {
    let (dir, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = open(dir.path(), Writers::Auto);
    engine.create_topic("t", TopicConfig::default()).unwrap();
    engine.close().unwrap();
    let said = in_child(|| {
        for dir in [dir.path(), own.path()] {
            let (engine, _) = crate::support::engine(dir);
            send(&engine, "t", 0..3).unwrap();
            engine.close().unwrap();
        }
        "sent".to_owned()
    });
    assert_eq!(said, "sent");
    for dir in [dir.path(), own.path()] {
        assert_eq!(numbers(&open(dir, Writers::Auto), "t"), [0, 1, 2]);
    }
}
