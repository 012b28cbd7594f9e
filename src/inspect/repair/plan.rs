//! What repair does, as shown to people and as done: one plan, made from the files alone.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub(super) use crate::inspect::check::list;

use crate::error::Error;
use crate::format::{BatchHeader, FileHeader};

/// What [`repair`](super::repair()) would do, or has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// What is done, in this order; empty if there is nothing to repair.
    pub steps: Vec<RepairStep>,
    /// The offsets that are lost. Those that come behind them keep theirs.
    pub lost: Vec<Loss>,
    /// The groups whose newest commit may be lost: they go on at an older one, or at the beginning.
    pub in_doubt: Vec<DoubtfulGroup>,
    /// Whether there are groups besides, of which not even the names are left.
    pub group_names_lost: bool,
    /// What is taken for granted where nothing tells any more.
    pub notes: Vec<String>,
    /// What can't be repaired, and why; nothing of it is changed.
    pub impossible: Vec<super::super::Damage>,
}

impl Repair {
    /// Whether there is nothing to do, and nothing that should be done and can't be.
    pub fn is_nothing(&self) -> bool {
        self.steps.is_empty() && self.impossible.is_empty()
    }
}

/// One thing that repair does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairStep {
    /// The file: what is damaged, or what is made.
    pub path: PathBuf,
    /// The topic it belongs to.
    pub topic: Option<String>,
    /// The partition it belongs to.
    pub partition: Option<u32>,
    /// What is done.
    pub action: RepairAction,
    /// Why.
    pub reason: String,
}

/// What is done to a file. What was under its name before goes to `set-aside/`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepairAction {
    /// Another segment takes its place, with every whole batch of it.
    Rewrite {
        /// The offsets it stands for.
        offsets: Range<u64>,
        /// The batches it keeps.
        batches: u64,
        /// The records in them.
        records: u64,
    },
    /// An empty segment stands for offsets that no file holds.
    Fill {
        /// The offsets.
        offsets: Range<u64>,
    },
    /// It is moved to `set-aside/`, and nothing takes its place.
    SetAside,
    /// A new catalogue is made of what is left of the old one, and of the segments' headers.
    RebuildCatalog {
        /// The topics it names.
        topics: u64,
        /// The epoch it begins: above every one found.
        epoch: u32,
    },
    /// A new offset log is made of every whole entry of the old one.
    RebuildOffsets {
        /// The groups it knows.
        groups: u64,
        /// Their commits.
        commits: u64,
    },
}

/// Offsets whose records are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// The topic; `id N` if its name is lost too.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offsets.
    pub offsets: Range<u64>,
}

/// A group of which newer commits may have been lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DoubtfulGroup {
    /// Its name.
    pub group: String,
    /// Topics (the id, if the topic has no name any more) and partitions of which an older commit is known;
    /// there may have been others.
    pub partitions: Vec<(String, u32)>,
}

impl fmt::Display for RepairStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.action {
            RepairAction::Rewrite { offsets, batches, records } => write!(
                f,
                "rewrite {path} for offsets {} to {}, of which {} in {} stay",
                offsets.start,
                offsets.end.saturating_sub(1),
                counted(*records, "record", "records"),
                counted(*batches, "batch", "batches")
            ),
            RepairAction::Fill { offsets } => {
                let (first, last) = (offsets.start, offsets.end.saturating_sub(1));
                write!(f, "make {path} as an empty segment for offsets {first} to {last}")
            }
            RepairAction::SetAside => write!(f, "set {path} aside"),
            RepairAction::RebuildCatalog { topics, epoch } => {
                write!(f, "make the catalogue {path} with {}, in epoch {epoch}", counted(*topics, "topic", "topics"))
            }
            RepairAction::RebuildOffsets { groups, commits } => {
                let groups = counted(*groups, "group", "groups");
                write!(f, "make the offset log {path} with {groups} and {}", counted(*commits, "commit", "commits"))
            }
        }?;
        write!(f, " ({})", self.reason)
    }
}

/// `1 record`, `2 records`.
fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.offsets;
        write!(f, "topic {}, partition {}, offsets {start} to {}", self.topic, self.partition, end.saturating_sub(1))
    }
}

/// A plan with all it takes to carry it out.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) shown: Repair,
    pub(super) works: Vec<Work>,
}

/// A piece of work that leaves the directory better than before, also by itself.
pub(super) enum Work {
    Keyed(NewKeyedFile),
    Partition(PartitionWork),
    /// Something that isn't a directory stands where a partition's should be.
    MoveAway {
        path: PathBuf,
        root: PathBuf,
        name: String,
    },
}

impl Work {
    /// The directory in which something is set aside for it; `root` is the data directory.
    pub(super) fn puts_aside_in<'a>(&'a self, root: &'a Path) -> Option<&'a Path> {
        match self {
            Work::Keyed(work) => (!work.aside.is_empty()).then_some(root),
            Work::Partition(work) => {
                let any = !work.aside.is_empty() || work.new.iter().any(|new| new.replaced.is_some());
                any.then_some(&work.dir)
            }
            Work::MoveAway { root, .. } => Some(root),
        }
    }
}

/// The catalogue or the offset log, made anew.
pub(super) struct NewKeyedFile {
    pub(super) path: PathBuf,
    pub(super) header: FileHeader,
    pub(super) bodies: Vec<(Vec<u8>, u32)>,
    /// Files that no longer count, with a name to set them aside under.
    pub(super) aside: Vec<Aside>,
    pub(super) now_ms: i64,
}

/// A file to be set aside.
pub(super) struct Aside {
    pub(super) path: PathBuf,
    /// Its name there.
    pub(super) name: String,
    /// Whether it may get a second name, so that the first is never missing.
    pub(super) is_file: bool,
}

/// What is done in a partition's directory.
pub(super) struct PartitionWork {
    pub(super) dir: PathBuf,
    pub(super) new: Vec<NewSegment>,
    /// Files that nothing takes the place of.
    pub(super) aside: Vec<Aside>,
    /// Derived files that no longer belong to their segments.
    pub(super) indexes: Vec<PathBuf>,
    /// What an interrupted repair left.
    pub(super) leftovers: Vec<PathBuf>,
}

/// A segment to be written.
pub(super) struct NewSegment {
    pub(super) path: PathBuf,
    pub(super) header: FileHeader,
    pub(super) source: Option<TakenFrom>,
    /// What stands under its name now.
    pub(super) replaced: Option<Aside>,
}

/// Where a segment's batches come from.
pub(super) struct TakenFrom {
    pub(super) path: PathBuf,
    /// With their positions there.
    pub(super) batches: Vec<(u64, BatchHeader)>,
}

/// An error of the disk at a path.
pub(super) fn at(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| Error::io(error).at_path(path)
}
