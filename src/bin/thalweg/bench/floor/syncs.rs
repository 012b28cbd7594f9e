//! Syncs beside the writing: one `fdatasync` at a time, in a thread of its own.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// A thread that syncs what it is handed, in order.
#[derive(Debug)]
pub(super) struct Syncs {
    files: Option<Sender<Arc<File>>>,
    idle: Arc<AtomicBool>,
    error: Arc<Mutex<Option<io::Error>>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncs {
    pub(super) fn start() -> Syncs {
        let (files, to_sync) = mpsc::channel::<Arc<File>>();
        let (idle, error) = (Arc::new(AtomicBool::new(true)), Arc::<Mutex<Option<io::Error>>>::default());
        let (is_idle, first_error) = (idle.clone(), error.clone());
        let thread = thread::spawn(move || {
            for file in to_sync {
                if let Err(error) = file.sync_data() {
                    first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
                is_idle.store(true, Ordering::Release);
            }
        });
        Syncs { files: Some(files), idle, error, thread: Some(thread) }
    }

    /// Whether none is on; then one is to be started.
    pub(super) fn begins_if_idle(&self) -> bool {
        self.idle.swap(false, Ordering::AcqRel)
    }

    /// Syncs it when its turn comes.
    pub(super) fn start_one(&self, file: &Arc<File>) {
        if let Some(files) = &self.files {
            let _ = files.send(file.clone());
        }
    }

    /// Waits for all of them.
    pub(super) fn wait(&mut self) {
        self.files = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Waits for all of them; the first error.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.wait();
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}
