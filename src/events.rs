//! What the engine tells a listener: things worth a log line that no call returns.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Error;
use crate::lock::{AtomicBool, Mutex, Ordering, lock};
use crate::panics::caught;

/// Something that happened inside the engine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Syncs go through `driver` (`"io_uring"` or `"threads"`); `reason` says why not the ring.
    SyncDriver {
        /// The driver in use.
        driver: &'static str,
        /// Why io_uring isn't used, if it was wanted.
        reason: Option<String>,
    },
    /// A writer thread could not be pinned to its core; it runs free.
    PinningRefused {
        /// What the system said.
        reason: String,
    },
    /// Recovery found an unfinished tail and no longer counts it.
    TornTailCut {
        /// The topic; empty for the catalogue.
        topic: String,
        /// The partition.
        partition: u32,
        /// The file whose tail was cut.
        path: PathBuf,
        /// Where in the file the part that counts ends.
        position: u64,
        /// Bytes from there on that were written and no longer count.
        bytes: u64,
        /// The partition's end offset after the cut.
        end_offset: u64,
    },
    /// A file was put into `set-aside/` because nothing of it counts any more.
    SetAside {
        /// Its new place.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file that isn't ours was left alone.
    Ignored {
        /// Where it lies.
        path: PathBuf,
    },
    /// A partition takes no more records until the engine is opened again.
    PartitionFailed {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// What went wrong.
        error: Error,
    },
    /// A partition is damaged below what was durable: what is intact stays readable, appends are refused.
    PartitionCorrupt {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// What is wrong, and where.
        error: Error,
    },
    /// A consumer that is set to [`OnDamage::Skip`](crate::OnDamage::Skip) left out records that can't be read.
    DamageSkipped {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The first offset that was left out.
        from: u64,
        /// Where it goes on.
        to: u64,
        /// What is wrong, and where.
        error: Error,
    },
    /// A group gave its partitions out anew.
    GroupRebalanced {
        /// The group.
        group: String,
        /// Counts its assignments.
        generation: u32,
        /// How many members there are.
        members: usize,
    },
    /// A member of a group is gone; its partitions go to the others.
    MemberGone {
        /// The group.
        group: String,
        /// The member's id.
        member: String,
        /// Why.
        reason: &'static str,
    },
    /// A member of a group has nothing to read: there are more members than partitions.
    MemberIdle {
        /// The group.
        group: String,
        /// The member's id.
        member: String,
    },
    /// A group's assignor panicked, or gave an assignment that can't be used. See
    /// [`GroupDescription::assignor_failure`](crate::GroupDescription::assignor_failure), which holds until the
    /// assignor works again.
    AssignorFailed {
        /// The group.
        group: String,
        /// What went wrong, and what the group does meanwhile.
        reason: String,
    },
    /// A topic got more partitions, and a group must first come to the end of the old ones.
    GroupHeld {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// An old partition in which it must come further.
        waits_for: u32,
        /// How far it must commit there (exclusive).
        until_offset: u64,
        /// How far it has come there.
        reached_offset: u64,
    },
    /// A group goes on elsewhere than at its committed offset.
    OffsetReset {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// What was committed.
        committed: Option<u64>,
        /// Where it goes on.
        to: u64,
        /// Why.
        reason: &'static str,
    },
    /// A group's committed offsets for a topic that is gone were forgotten.
    OffsetsForgotten {
        /// The group.
        group: String,
        /// The life of the topic that they were for.
        topic_id: crate::TopicId,
    },
    /// A group was at rest for longer than [`offsets_retention_ms`](crate::EngineConfig::offsets_retention_ms)
    /// and was forgotten.
    GroupExpired {
        /// The group.
        group: String,
    },
    /// The offset log is damaged: what is whole still counts, commits are refused.
    OffsetLogCorrupt {
        /// What is wrong, and where.
        error: Error,
        /// The groups that have commits which may be lost: all that were named before the damage.
        groups: Vec<String>,
        /// Whether groups may be lost whose names aren't known any more.
        names_lost: bool,
    },
    /// Work in the background did not succeed; it is tried again or done without.
    Background {
        /// What was tried.
        what: &'static str,
        /// What went wrong.
        error: Error,
    },
}

/// Called for each [`Event`], from whichever thread it happens on, with no lock held. A panic in it goes no
/// further: it is told by [`Engine::failures`](crate::Engine::failures).
pub type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

/// Something that failed behind the calls: see [`Engine::failures`](crate::Engine::failures).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Failure {
    /// What failed: `"a partition"`, `"the catalogue"`, `"the offset log"`, `"the event listener"`,
    /// `"a group's assignor"`, or the work that an [`Event::Background`] names.
    pub what: &'static str,
    /// Why, and where. The first cause if it has stopped, else the latest.
    pub error: Error,
    /// How many times it failed.
    pub count: u64,
    /// Whether it takes nothing more until the engine is opened again. Otherwise it is tried again, or done
    /// without.
    pub stopped: bool,
}

/// The listener, if there is one, and what failed so far. Cheap to clone; clones share both.
#[derive(Clone, Default)]
pub(crate) struct Events {
    listener: Option<Listener>,
    failures: Arc<Failures>,
}

#[derive(Default)]
struct Failures {
    noted: Mutex<Noted>,
    has_untold: AtomicBool,
}

#[derive(Default)]
struct Noted {
    /// The latest of each kind.
    latest: Vec<Failure>,
    /// What was noted where a lock may be held.
    untold: Vec<Event>,
    /// The first panic of the engine's own code.
    own_panic: Option<Error>,
}

impl Events {
    pub(crate) fn new(listener: Option<Listener>) -> Events {
        Events { listener, failures: Arc::default() }
    }

    /// Notes what failed, then tells the listener.
    pub(crate) fn emit(&self, event: Event) {
        if let Event::Background { what, error } = &event {
            self.note(what, error);
        }
        if let Event::AssignorFailed { group, reason } = &event {
            self.note("a group's assignor", &Error::invalid(format!("group {group:?}: {reason}")));
        }
        if let Some(listener) = &self.listener
            && let Err(error) = caught(|| listener(&event))
        {
            self.note("the event listener", &error);
        }
    }

    /// [`emit`](Events::emit) where a lock may be held: tells the listener at the next
    /// [`emit_untold`](Events::emit_untold).
    pub(crate) fn emit_later(&self, what: &'static str, error: Error) {
        lock(&self.failures.noted).untold.push(Event::Background { what, error });
        self.failures.has_untold.store(true, Ordering::SeqCst);
    }

    /// Tells what [`emit_later`](Events::emit_later) kept, and of a waker that panicked on this thread. Called with
    /// no lock held, after each step of a thread.
    pub(crate) fn emit_untold(&self) {
        if let Some(error) = crate::panics::contained() {
            self.emit(Event::Background { what: "waking a task", error });
        }
        if self.failures.has_untold.swap(false, Ordering::SeqCst) {
            let untold = std::mem::take(&mut lock(&self.failures.noted).untold);
            untold.into_iter().for_each(|event| self.emit(event));
        }
    }

    /// Tells of a panic of the engine's own code: closing fails then.
    pub(crate) fn panicked(&self, what: &'static str, error: Error) {
        lock(&self.failures.noted).own_panic.get_or_insert_with(|| error.clone());
        self.emit(Event::Background { what, error });
    }

    /// The first panic of the engine's own code.
    pub(crate) fn own_panic(&self) -> Option<Error> {
        lock(&self.failures.noted).own_panic.clone()
    }

    /// What failed so far and was tried again or done without: the latest of each kind.
    pub(crate) fn failures(&self) -> Vec<Failure> {
        lock(&self.failures.noted).latest.clone()
    }

    fn note(&self, what: &'static str, error: &Error) {
        let latest = &mut lock(&self.failures.noted).latest;
        match latest.iter_mut().find(|failure| failure.what == what) {
            Some(failure) => {
                failure.error = error.clone();
                failure.count += 1;
            }
            None => latest.push(Failure { what, error: error.clone(), count: 1, stopped: false }),
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Events").field(&self.listener.is_some()).finish()
    }
}
