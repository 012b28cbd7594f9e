//! Many threads: each commit is in the log and in the state, one sync serves all who wait, and
//! appends go on while the disk syncs.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

use super::*;
use crate::disk::{Disk, Step, Watched};

/// Where syncs of files wait while it is shut, and are counted.
#[derive(Debug, Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
    /// Syncs that have begun.
    begun: AtomicU64,
    /// Errno of the syncs that end from now on.
    errno: AtomicU64,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }

    fn pass(&self) -> io::Result<()> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let mut shut = self.shut.lock().unwrap();
        self.opened.notify_all();
        while *shut {
            shut = self.opened.wait(shut).unwrap();
        }
        match self.errno.load(Ordering::SeqCst) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno as i32)),
        }
    }

    /// Returns when so many syncs have begun.
    fn wait_for(&self, begun: u64) {
        let mut shut = self.shut.lock().unwrap();
        while self.begun.load(Ordering::SeqCst) < begun {
            shut = self.opened.wait(shut).unwrap();
        }
    }
}

/// With a group "a" in it, durable.
fn gated() -> (Arc<Gate>, SimDisk, Offsets) {
    let (disk, gate) = (new_disk(), Arc::new(Gate::default()));
    let passes = gate.clone();
    let gated = Watched::<dyn Disk>::new(Arc::new(disk.clone()), move |step| match step {
        Step::Sync => passes.pass(),
        _ => Ok(()),
    });
    let (offsets, _) = Offsets::open(Arc::new(gated), dir(), ENGINE, 1, Access::Write, 0).unwrap();
    offsets.commit("a", 1, &[new(0, 1)], 1).unwrap();
    gate.begun.store(0, Ordering::SeqCst);
    (gate, disk, offsets)
}

#[test]
fn others_append_while_the_disk_syncs_and_one_sync_serves_them_all() {
    let (gate, _, offsets) = gated();
    gate.set(true);
    let first = offsets.commit("a", 1, &[new(0, 2)], 1).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| offsets.sync_to(first).unwrap());
        gate.wait_for(1);
        // The first sync is under way, and doesn't cover these.
        let later: Vec<_> = (0..20)
            .map(|number| {
                let ticket = offsets.commit("a", 1, &[new(number, 3)], 1).unwrap();
                assert_eq!(offsets.with(|state| state.group("a").unwrap().commits[&(TopicId(1), number)].offset), 3);
                ticket
            })
            .collect();
        let offsets = &offsets;
        for ticket in later {
            scope.spawn(move || offsets.sync_to(ticket).unwrap());
        }
        assert!(offsets.has_unsynced());
        gate.set(false);
    });
    assert!(!offsets.has_unsynced());
    assert_eq!(gate.begun.load(Ordering::SeqCst), 2);
    assert_eq!(offsets.sync_to(first), Ok(()));
    assert_eq!(gate.begun.load(Ordering::SeqCst), 2);
}

#[test]
fn a_failed_sync_fails_all_who_waited_and_none_who_had_been_answered() {
    let (gate, disk, offsets) = gated();
    let answered = offsets.commit("a", 1, &[new(0, 2)], 1).unwrap();
    offsets.sync_to(answered).unwrap();
    gate.set(true);
    let first = offsets.commit("a", 1, &[new(0, 3)], 1).unwrap();
    std::thread::scope(|scope| {
        let failing = scope.spawn(|| offsets.sync_to(first));
        gate.wait_for(2);
        let second = offsets.commit("a", 1, &[new(0, 4)], 1).unwrap();
        let waiting = scope.spawn({
            let offsets = &offsets;
            move || offsets.sync_to(second)
        });
        gate.errno.store(5, Ordering::SeqCst);
        gate.set(false);
        for waiter in [failing, waiting] {
            assert_eq!(waiter.join().unwrap().unwrap_err().kind(), &ErrorKind::Failed);
        }
    });
    assert_eq!(offsets.sync_to(answered), Ok(()));
    assert_eq!(gate.begun.load(Ordering::SeqCst), 2, "a failed sync is not tried again");
    assert!(found(&disk)["a"].commit(TopicId(1), 0).unwrap().offset >= 2);
}

#[test]
fn a_compaction_during_a_sync_answers_for_it() {
    for errno in [0, 5] {
        let (gate, disk, offsets) = gated();
        let first = offsets.commit("a", 1, &[new(0, 2)], 1).unwrap();
        gate.set(true);
        let file = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| offsets.sync_to(first));
            gate.wait_for(1);
            // A compaction syncs its own file: it needs the gate open, while the first sync hasn't ended.
            let started = lock(&offsets.log).start_sync(Ticket(u64::MAX)).unwrap().unwrap();
            gate.set(false);
            waiting.join().unwrap().unwrap();
            offsets.commit("a", 1, &[new(0, 3)], 1).unwrap();
            let started_again = lock(&offsets.log).start_sync(Ticket(u64::MAX)).unwrap().unwrap();
            lock(&offsets.log).compact_from = 0;
            for offset in 0..400 {
                offsets.commit("a", 1, &[new(0, offset)], 1).unwrap();
            }
            assert_ne!(names(&disk), ["offsets-1"]);
            drop(started);
            started_again
        });
        // Whatever became of the old file: its entries are durable in the new one.
        let result = if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) };
        let unsynced = offsets.has_unsynced();
        assert_eq!(lock(&offsets.log).finish_sync(&file, result, Ticket(u64::MAX)), Ok(()));
        assert_eq!(offsets.has_unsynced(), unsynced, "a sync of the old file says nothing of the new one");
        offsets.commit("a", 1, &[new(0, 7)], 1).unwrap();
        offsets.sync_all().unwrap();
        assert_eq!(found(&disk.crash(crate::sim::CrashPolicy::PowerLoss)), view(&offsets));
    }
}

#[test]
fn threads_commit_and_sync_at_once() {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    lock(&offsets.log).compact_from = 16 << 10;
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (offsets, disk) = (&offsets, &disk);
            scope.spawn(move || {
                let name = format!("group {thread}");
                for offset in 0..more(60, 1_000) {
                    let ticket = offsets.commit(&name, 1, &[new(0, offset), new(1, offset)], 1).unwrap();
                    if offset % 3 == 0 {
                        offsets.sync_to(ticket).unwrap();
                        let survived = found(&disk.crash(crate::sim::CrashPolicy::PowerLoss));
                        assert!(survived[&name].commit(TopicId(1), 1).unwrap().offset >= offset);
                    }
                }
            });
        }
    });
    assert_eq!((found(&disk), view(&offsets).len()), (view(&offsets), 4));
}
