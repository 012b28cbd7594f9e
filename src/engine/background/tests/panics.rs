//! Goal: no panic of the embedder's code ends a thread of the engine or reaches a caller who didn't make it; what
//! failed can be asked for, and closing doesn't hide a panic of the engine's own.
//!
//! Method: listeners, wakers and clocks that panic, over threads and without; then the same work is asked for again.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake};

use super::*;
use crate::clock::Clock;
use crate::events::Failure;

const EIO: i32 = 5;
const WAYS: [Writers; 2] = [Writers::Threads(1), Writers::Inline];

fn failure(engine: &Engine, what: &str) -> Option<Failure> {
    engine.failures().into_iter().find(|failure| failure.what == what)
}

#[test]
fn a_listener_that_panics_ends_no_thread_and_is_told() {
    for writers in WAYS {
        let disk = SimDisk::new();
        let listener = |_: &Event| panic!("of the listener");
        let engine = Engine::builder("data").writers(writers).on_event(listener).sim(&disk).open().unwrap();
        let old = of_three_segments(&engine, &TopicConfig::default());
        assert!(engine.failures().is_empty(), "{:?}", engine.failures());
        let is_index = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "index");
        let indexes = || disk.list_files().iter().filter(|path| is_index(path)).count();
        wait_until(&engine, "the indexes", || indexes() == old.inner.segment_count() - 1);
        // Its files stay, which the files thread tells of; the next ones go all the same.
        disk.fail_next(Operation::Unlink, EIO);
        old.delete_records(6).unwrap();
        wait_until(&engine, "the first files", || failure(&engine, "the event listener").is_some());
        let (file, listener) = (failure(&engine, "removing a file").unwrap(), failure(&engine, "the event listener"));
        assert_eq!((file.count, file.error.kind(), file.stopped), (1, &ErrorKind::Io, false));
        assert_eq!(listener.unwrap().error.to_string(), "panicked: of the listener");
        let files = disk.list_files().len();
        old.delete_records(12).unwrap();
        wait_until(&engine, "the next files", || disk.list_files().len() < files);
        // And on the writer's thread.
        disk.fail_next(Operation::Write, EIO);
        let failed = old.append(&Record::new("x")).unwrap().wait().unwrap_err();
        assert_eq!(failed.kind(), &ErrorKind::Failed);
        let partition = failure(&engine, "a partition").unwrap();
        assert!(partition.stopped && partition.error.partition() == Some(0), "{partition:?}");
        engine.create_topic("u", TopicConfig::default()).unwrap();
        engine.partition("u", 0).unwrap().append(&Record::new("x")).unwrap().wait().unwrap();
        assert_eq!(engine.close().unwrap_err().kind(), &ErrorKind::Failed, "the partition's failure, as ever");
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Panics>) {
        panic!("of a waker");
    }
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_waiting() {
    for writers in WAYS {
        let engine = Engine::builder("data").writers(writers).sim(&SimDisk::new()).open().unwrap();
        engine.create_topic("t", TopicConfig::default()).unwrap();
        let partition = engine.partition("t", 0).unwrap();
        let end = partition.inner.next_offset() + 1;
        let waker = Waker::from(Arc::new(Panics));
        // Before the record is sent, so that it waits for sure.
        let mut first = pin!(partition.inner.acknowledged(Acks::Written, end, 0));
        assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        partition.append(&Record::new("x")).unwrap().wait().unwrap();
        assert_eq!(first.poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(())));
        partition.append(&Record::new("x")).unwrap().wait().unwrap();
        wait_until(&engine, "the waker", || failure(&engine, "waking a task").is_some());
        assert_eq!(failure(&engine, "waking a task").unwrap().error.to_string(), "panicked: of a waker");
        assert!(failure(&engine, "a partition").is_none());
        engine.close().unwrap();
    }
}

/// A clock that panics while it is told to.
#[derive(Debug, Default)]
struct Breaks(SimClock, AtomicBool);

impl Breaks {
    fn look(&self) {
        assert!(!self.1.load(Ordering::SeqCst), "of the clock");
    }
}

impl Clock for Breaks {
    fn wall_ms(&self) -> i64 {
        self.look();
        self.0.wall_ms()
    }

    fn monotonic(&self) -> Duration {
        self.look();
        self.0.monotonic()
    }
}

#[test]
fn a_clock_that_panics_stands_still() {
    for writers in WAYS {
        let clock = Arc::new(Breaks::default());
        let builder = Engine::builder("data").writers(writers).clock(clock.clone());
        let engine = builder.sim(&SimDisk::new()).open().unwrap();
        engine.create_topic("t", TopicConfig::default()).unwrap();
        let partition = engine.partition("t", 0).unwrap();
        clock.0.advance(Duration::from_secs(5));
        let now_ms = clock.wall_ms();
        let append = || partition.append(&Record::new("x")).unwrap().wait().unwrap().offset;
        append();
        clock.1.store(true, Ordering::SeqCst);
        clock.0.advance(Duration::from_secs(5));
        let meanwhile = append();
        assert_eq!(partition.get(meanwhile).unwrap().view().timestamp(), now_ms);
        assert_eq!(failure(&engine, "asking the clock").unwrap().error.to_string(), "panicked: of the clock");
        clock.1.store(false, Ordering::SeqCst);
        assert_eq!(partition.get(append()).unwrap().view().timestamp(), now_ms + 5_000);
        engine.close().unwrap();
    }
}

#[test]
fn a_panic_of_the_engines_own_ends_no_thread_and_closing_tells_of_it() {
    let engine = Engine::builder("data").sim(&SimDisk::new()).open().unwrap();
    let core = &engine.core;
    let parker = Parker::new();
    let (again, turns) = (parker.unparker().clone(), Arc::new(AtomicU64::new(0)));
    let counts = turns.clone();
    let turn = move |_: &Background, parker: &Parker| {
        assert!(counts.fetch_add(1, Ordering::SeqCst) > 0, "of our own");
        parker.park();
    };
    lock(&core.threads).as_mut().unwrap().spawn("test", "a test's thread", parker, &core.background, turn).unwrap();
    wait_until(&engine, "the next turn", || {
        again.unpark();
        turns.load(Ordering::SeqCst) > 1
    });
    let panicked = ErrorKind::Panicked { message: "of our own".into() };
    assert_eq!(failure(&engine, "a test's thread").unwrap().error.kind(), &panicked);
    assert_eq!(engine.close().unwrap_err().kind(), &panicked);
}

#[test]
fn closing_tells_of_a_thread_that_has_ended_by_a_panic() {
    let engine = Engine::builder("data").sim(&SimDisk::new()).open().unwrap();
    let ended = thread::Builder::new().spawn(|| panic!("it ended")).unwrap();
    lock(&engine.core.threads).as_mut().unwrap().background.push((Parker::new().unparker().clone(), ended));
    assert_eq!(engine.close().unwrap_err().kind(), &ErrorKind::Panicked { message: "it ended".into() });
}
