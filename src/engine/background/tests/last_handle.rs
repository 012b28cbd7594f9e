//! Goal: the last handle on an engine may be dropped, and the engine be closed, in the middle of a writer's work, which
//! then doesn't wait for itself.
//!
//! Method: the waker of a receipt has the last handle. It is called in the work, on the writer's thread or on that of
//! one who waits, and goes on there once no other handle is left. The directory can be opened again when the engine is
//! closed, and holds what was sent.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Wake};

use super::*;

/// Drops a handle on the engine when it is called, or closes the engine first.
struct Last {
    engine: Mutex<Option<Engine>>,
    closes: bool,
    /// On which thread it was called, and what closing said.
    called: Mutex<Option<(String, Option<ErrorKind>)>>,
}

impl Wake for Last {
    fn wake(self: Arc<Last>) {
        let Some(engine) = lock(&self.engine).take() else { return };
        // Two are of this handle.
        while Arc::strong_count(&engine.core) > 2 {
            thread::yield_now();
        }
        let thread = thread::current().name().unwrap_or_default().to_owned();
        let error = self.closes.then(|| engine.close().unwrap_err().kind().clone());
        drop(engine);
        *lock(&self.called) = Some((thread, error));
    }
}

fn last_handle_in_a_waker(writers: Writers, closes: bool) {
    let disk = SimDisk::new();
    let open = || Engine::builder("data").writers(writers).sim(&disk).open();
    let engine = open().unwrap();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let inner = partition.inner.clone();
    let last = Arc::new(Last { engine: Mutex::new(Some(engine.clone())), closes, called: Mutex::default() });
    let waker = Waker::from(last.clone());
    let mut written = pin!(inner.acknowledged(Acks::Written, inner.next_offset() + 1, 0));
    assert!(written.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let receipt = partition.append(&Record::new("x")).unwrap();
    drop((partition, engine));
    if writers == Writers::Inline {
        receipt.wait().unwrap();
    }
    let give_up = Instant::now() + Duration::from_secs(60);
    let again = loop {
        match open() {
            Ok(again) => break again,
            Err(error) => assert!(Instant::now() < give_up, "it was not closed: {error}"),
        }
        thread::yield_now();
    };
    let (thread, error) = loop {
        if let Some(called) = lock(&last.called).take() {
            break called;
        }
        assert!(Instant::now() < give_up, "the waker hangs");
        thread::yield_now();
    };
    assert_eq!(thread.starts_with("thalweg-write-"), writers != Writers::Inline, "{thread}");
    assert_eq!(matches!(error, Some(ErrorKind::InvalidArgument { .. })), closes, "{error:?}");
    assert!(again.recovery().clean, "closed, and not just ended");
    assert_eq!(again.partition("t", 0).unwrap().get(0).unwrap().view().value(), Some(&b"x"[..]));
}

#[test]
fn a_waker_may_drop_the_last_handle_in_the_middle_of_the_work() {
    for writers in [Writers::Threads(1), Writers::Inline] {
        last_handle_in_a_waker(writers, false);
    }
}

#[test]
fn a_waker_that_closes_the_engine_is_told_that_another_thread_does() {
    for writers in [Writers::Threads(1), Writers::Inline] {
        last_handle_in_a_waker(writers, true);
    }
}

/// The files thread is none that closing waits for, but for its end.
#[test]
fn a_listener_may_drop_the_last_handle_on_the_files_thread() {
    const EIO: i32 = 5;
    let disk = SimDisk::new();
    let last = Arc::new(Mutex::new(None::<Engine>));
    let called = Arc::new(Mutex::new(None));
    let (drops, notes) = (last.clone(), called.clone());
    let listener = move |event: &Event| {
        if let Event::Background { what: "removing a file", .. } = event {
            let engine = lock(&drops).take();
            while engine.as_ref().is_some_and(|engine| Arc::strong_count(&engine.core) > 2) {
                thread::yield_now();
            }
            drop(engine);
            *lock(&notes) = thread::current().name().map(str::to_owned);
        }
    };
    let builder = Engine::builder("data").writers(Writers::Threads(1)).on_event(listener);
    let engine = builder.sim(&disk).open().unwrap();
    let partition = of_three_segments(&engine, &TopicConfig::default());
    // They may remove files, too: the fault is for what is dropped.
    let is_index = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "index");
    wait_until(&engine, "the indexes", || {
        disk.list_files().iter().filter(|path| is_index(path)).count() == partition.inner.segment_count() - 1
    });
    *lock(&last) = Some(engine.clone());
    disk.fail_next(Operation::Unlink, EIO);
    partition.delete_records(6).unwrap();
    drop((partition, engine));
    let give_up = Instant::now() + Duration::from_secs(60);
    let thread = loop {
        if let Some(called) = lock(&called).take() {
            break called;
        }
        assert!(Instant::now() < give_up, "the listener hangs, or was not called");
        thread::yield_now();
    };
    assert_eq!(thread, "thalweg-files");
    assert!(Engine::builder("data").writers(Writers::Inline).sim(&disk).open().unwrap().recovery().clean);
}
