//! What is done behind the writers' backs: queues of it, for the background threads.

use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;

use crossbeam::queue::SegQueue;

use super::Partition;
use crate::disk::File;
use crate::ids::LogId;
use crate::lock::OnceLock;
use crate::segment::Segment;

/// Work for the background threads, and how to wake them.
#[derive(Default)]
pub(crate) struct Chores {
    files: SegQueue<FileChore>,
    /// Deleted topics, each with the directory that its files are in now, whose name nothing gets again. Apart, as
    /// removing many files takes long.
    removals: SegQueue<(PathBuf, LogId)>,
    marks: SegQueue<Arc<Partition>>,
    far: SegQueue<Arc<Partition>>,
    wakers: OnceLock<[Waker; 2]>,
}

/// Work on files that no record waits for.
#[derive(Debug)]
pub(crate) enum FileChore {
    /// Write a sealed segment's index, and give back what was allocated beyond its end.
    Sealed { partition: Arc<Partition>, segment: Arc<Segment>, file: Option<Arc<dyn File>> },
    /// Make the next segment's file.
    Prepare { partition: Arc<Partition>, bytes: u64 },
    /// Unlink the files of segments that lie below the log start.
    Dropped { partition: Arc<Partition>, segments: Vec<Arc<Segment>> },
}

impl Chores {
    /// Says whom to wake: the files thread and the upkeep thread.
    pub(crate) fn set_wakers(&self, files: Waker, upkeep: Waker) {
        let _ = self.wakers.set([files, upkeep]);
    }

    pub(crate) fn add(&self, chore: FileChore) {
        self.files.push(chore);
        if let Some([files, _]) = self.wakers.get() {
            files.wake_by_ref();
        }
    }

    /// Has what is a deleted topic's removed from this directory.
    pub(crate) fn add_removal(&self, dir: PathBuf, log: LogId) {
        self.removals.push((dir, log));
        if let Some([files, _]) = self.wakers.get() {
            files.wake_by_ref();
        }
    }

    pub(crate) fn next_removal(&self) -> Option<(PathBuf, LogId)> {
        self.removals.pop()
    }

    pub(crate) fn next_file_chore(&self) -> Option<FileChore> {
        self.files.pop()
    }

    pub(super) fn add_mark(&self, partition: Arc<Partition>) {
        self.marks.push(partition);
        if let Some([_, upkeep]) = self.wakers.get() {
            upkeep.wake_by_ref();
        }
    }

    /// Its mark had better be stored now: much has become durable since the last.
    pub(crate) fn add_far(&self, partition: Arc<Partition>) {
        self.far.push(partition);
        self.wake_upkeep();
    }

    pub(crate) fn next_far(&self) -> Option<Arc<Partition>> {
        self.far.pop()
    }

    pub(crate) fn wake_upkeep(&self) {
        if let Some([_, upkeep]) = self.wakers.get() {
            upkeep.wake_by_ref();
        }
    }

    pub(crate) fn has_marks(&self) -> bool {
        !self.marks.is_empty()
    }

    pub(crate) fn next_mark(&self) -> Option<Arc<Partition>> {
        self.marks.pop()
    }
}
