//! Watched directories of a simulated disk: who is told of which changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::disk::SimDisk;
use super::names::{NodeId, Slot};
use crate::disk::Watch;
use crate::lock::{Mutex, Parker, Unparker, lock};

/// So many news are kept; if there are more, it is not told which.
const NEWS_MAX: usize = 256;

/// One that watches, as the disk knows it.
#[derive(Debug)]
pub(super) struct Told {
    watched: Mutex<Watched>,
    unparker: Unparker,
}

#[derive(Debug, Default)]
struct Watched {
    dirs: BTreeMap<NodeId, Vec<&'static str>>,
    changed: BTreeSet<(NodeId, &'static str)>,
}

impl Told {
    /// A file of this name, in this directory, was changed.
    pub(super) fn tell(&self, (dir, name): &Slot) {
        let mut watched = lock(&self.watched);
        let Watched { dirs, changed } = &mut *watched;
        for prefix in dirs.get(dir).into_iter().flatten().filter(|prefix| name.starts_with(**prefix)) {
            changed.insert((*dir, prefix));
            self.unparker.unpark();
        }
    }
}

/// What an engine holds.
#[derive(Debug)]
pub(super) struct SimWatch {
    disk: SimDisk,
    told: Arc<Told>,
    parker: Mutex<Parker>,
}

impl SimWatch {
    pub(super) fn new(disk: &SimDisk) -> (SimWatch, Weak<Told>) {
        let parker = Parker::new();
        let told = Arc::new(Told { watched: Mutex::default(), unparker: parker.unparker().clone() });
        let weak = Arc::downgrade(&told);
        (SimWatch { disk: disk.clone(), told, parker: Mutex::new(parker) }, weak)
    }
}

impl Watch for SimWatch {
    fn add(&self, dir: &Path, prefix: &'static str) -> io::Result<u64> {
        let node = self.disk.directory(dir)?;
        lock(&self.told.watched).dirs.entry(node).or_default().push(prefix);
        Ok(node)
    }

    fn remove(&self, number: u64) {
        lock(&self.told.watched).dirs.retain(|node, _| *node != number);
    }

    fn changed(&self, into: &mut BTreeSet<(u64, &'static str)>) -> bool {
        let mut changed = std::mem::take(&mut lock(&self.told.watched).changed);
        let all_told = changed.len() <= NEWS_MAX;
        if all_told {
            into.append(&mut changed);
        }
        all_told
    }

    fn sleep(&self, timeout: Duration) {
        lock(&self.parker).park_timeout(timeout);
    }

    fn wake(&self) {
        self.told.unparker.unpark();
    }
}
