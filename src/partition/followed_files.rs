//! Which followers keep the file open in which their log ends: as many as the process may have. One that wasn't read
//! since it was looked at last is closed first, and opened again when it is read.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::disk::File;
use crate::lock::{Mutex, lock};

/// The files that are open, in the order in which they are looked at.
#[derive(Debug)]
pub(crate) struct FollowedFiles {
    most: usize,
    open: Mutex<VecDeque<Weak<FollowedFile>>>,
}

/// A follower's file, while it is open.
#[derive(Debug, Default)]
pub(super) struct FollowedFile(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<dyn File>>,
    /// Since it was looked at last.
    read: bool,
    listed: bool,
}

impl FollowedFiles {
    /// So many may be open.
    pub(crate) fn new(most: usize) -> FollowedFiles {
        FollowedFiles { most: most.max(1), open: Mutex::default() }
    }

    /// Keeps a follower's file open, and closes another's if there are too many.
    pub(super) fn keep(&self, followed: &Arc<FollowedFile>, file: Arc<dyn File>) {
        let mut open = lock(&self.open);
        let mut state = lock(&followed.0);
        state.file = Some(file);
        if std::mem::replace(&mut state.listed, true) {
            return;
        }
        drop(state);
        // Each is looked at twice at most.
        for _ in 0..2 * open.len() {
            if open.len() < self.most {
                break;
            }
            let Some(first) = open.pop_front() else { break };
            let Some(oldest) = first.upgrade() else { continue };
            let mut state = lock(&oldest.0);
            if std::mem::take(&mut state.read) {
                open.push_back(first);
            } else {
                *state = State::default();
            }
        }
        open.push_back(Arc::downgrade(followed));
    }
}

impl FollowedFile {
    pub(super) fn get(&self) -> Option<Arc<dyn File>> {
        let mut state = lock(&self.0);
        state.read = true;
        state.file.clone()
    }

    pub(super) fn close(&self) {
        lock(&self.0).file = None;
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    //! Goal: no more files are open than may be, and the one that was read least recently goes first.
    //!
    //! Method: files of the simulated disk, kept one after the other.

    use super::*;
    use crate::disk::Disk;
    use crate::sim::SimDisk;

    fn is_open(followed: &FollowedFile) -> bool {
        lock(&followed.0).file.is_some()
    }

    #[test]
    fn what_was_not_read_is_closed_first_and_may_come_again() {
        let disk = SimDisk::new();
        let file = Disk::create(&disk, "file".as_ref()).unwrap();
        let files = FollowedFiles::new(2);
        let followed: Vec<Arc<FollowedFile>> = (0..5).map(|_| Arc::default()).collect();
        let open = || followed.iter().map(|followed| is_open(followed)).collect::<Vec<_>>();
        files.keep(&followed[0], file.clone());
        files.keep(&followed[1], file.clone());
        assert!(followed[0].get().is_some());
        files.keep(&followed[2], file.clone());
        assert_eq!(open(), [true, false, true, false, false]);
        assert!(followed[1].get().is_none());
        // Read all of them: the one that is looked at first goes.
        followed.iter().for_each(|followed| drop(followed.get()));
        files.keep(&followed[3], file.clone());
        assert_eq!(open().into_iter().filter(|open| *open).count(), 2);
        files.keep(&followed[1], file.clone());
        assert!(is_open(&followed[1]));
        // Closed and kept again, it counts once; one that is gone counts no more.
        followed[1].close();
        files.keep(&followed[1], file.clone());
        assert!(lock(&files.open).len() <= 2);
        let gone = Arc::new(FollowedFile::default());
        files.keep(&gone, file.clone());
        drop(gone);
        files.keep(&followed[4], file);
        assert!(is_open(&followed[4]));
        assert!(lock(&files.open).len() <= 2);
    }
}
