//! The names of a disk: what is seen, what is durable, and the changes between.
//!
//! A change becomes durable when its directory is synced (a move: either directory), together with
//! older changes of the same names. Of the others any subset may survive a crash; a move survives
//! whole or not at all, and a node has two names only if it was linked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::contents::Moment;
use super::crash::Choices;

/// A file or directory, whatever its name.
pub(super) type NodeId = u64;

/// The directory that everything is in.
pub(super) const ROOT: NodeId = 0;

/// A name in a directory.
pub(super) type Slot = (NodeId, String);

#[derive(Debug, Clone)]
struct Change {
    moment: Moment,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Set(Slot, NodeId),
    Clear(Slot),
    Move {
        from: Slot,
        to: Slot,
        node: NodeId,
    },
    /// A second name for a file.
    Link(Slot, NodeId),
}

/// Which node each name means.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    seen: BTreeMap<Slot, NodeId>,
    durable: BTreeMap<Slot, NodeId>,
    /// Changes that aren't durable, oldest first.
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn get(&self, slot: &Slot) -> Option<NodeId> {
        self.seen.get(slot).copied()
    }

    /// The names in a directory, in order.
    pub(super) fn entries(&self, dir: NodeId) -> impl Iterator<Item = (&str, NodeId)> {
        let from = (dir, String::new());
        let of_dir = self.seen.range(from..).take_while(move |((parent, _), _)| *parent == dir);
        of_dir.map(|((_, name), node)| (name.as_str(), *node))
    }

    pub(super) fn set(&mut self, moment: Moment, slot: Slot, node: NodeId) {
        self.change(moment, Kind::Set(slot, node));
    }

    pub(super) fn clear(&mut self, moment: Moment, slot: Slot) {
        self.change(moment, Kind::Clear(slot));
    }

    pub(super) fn rename(&mut self, moment: Moment, from: Slot, to: Slot, node: NodeId) {
        self.change(moment, Kind::Move { from, to, node });
    }

    pub(super) fn link(&mut self, moment: Moment, slot: Slot, node: NodeId) {
        self.change(moment, Kind::Link(slot, node));
    }

    fn change(&mut self, moment: Moment, kind: Kind) {
        kind.apply(&mut self.seen);
        self.pending.push(Change { moment, kind });
    }

    /// Sets or clears a name as if it had always been so.
    pub(super) fn set_durably(&mut self, slot: Slot, node: Option<NodeId>) {
        self.settle(|change| change.kind.slots().contains(&&slot));
        for names in [&mut self.seen, &mut self.durable] {
            match node {
                Some(node) => names.insert(slot.clone(), node),
                None => names.remove(&slot),
            };
        }
    }

    /// A sync of `dir` that started at `until` succeeded.
    pub(super) fn synced(&mut self, dir: NodeId, until: Moment) {
        self.settle(|change| change.moment <= until && change.kind.is_in(dir));
    }

    /// Makes these changes durable, and the older ones of the same names.
    fn settle(&mut self, asked: impl Fn(&Change) -> bool) {
        let mut slots: BTreeSet<&Slot> = BTreeSet::new();
        let mut settles: Vec<bool> = Vec::with_capacity(self.pending.len());
        // From the newest down, so that the names of a change are known before the older ones come.
        for change in self.pending.iter().rev() {
            let touched = change.kind.slots();
            let now = asked(change) || touched.iter().any(|slot| slots.contains(slot));
            if now {
                slots.extend(touched);
            }
            settles.push(now);
        }
        let mut settles = settles.into_iter().rev();
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let now = settles.next().unwrap_or(false);
            if now {
                change.kind.apply(durable);
            }
            !now
        });
    }

    /// The names that the disk holds after the power failed; asks once for each pending change, 0 for
    /// lost. Names in directories that have no name themselves are left out.
    pub(super) fn after_power_loss(&self, choices: &mut dyn Choices) -> Names {
        let mut found = self.durable.clone();
        for change in &self.pending {
            if choices.choose(2) == 1 {
                if let Kind::Set(_, node) | Kind::Move { node, .. } = change.kind {
                    found.retain(|_, other| *other != node);
                }
                change.kind.apply(&mut found);
            }
        }
        let reachable = reachable(&found);
        found.retain(|(dir, _), _| reachable.contains(dir));
        Names { seen: found.clone(), durable: found, pending: Vec::new() }
    }

    /// All nodes that have a name now.
    pub(super) fn seen_nodes(&self) -> BTreeSet<NodeId> {
        reachable(&self.seen)
    }

    /// All nodes that have a name, or may have one after a crash.
    pub(super) fn possible_nodes(&self) -> BTreeSet<NodeId> {
        let named = self.seen.values().chain(self.durable.values()).copied();
        let pending = self.pending.iter().filter_map(|change| change.kind.node());
        named.chain(pending).chain([ROOT]).collect()
    }

    /// The path of a node, for messages.
    /// The names that lead to a file.
    pub(super) fn slots_of(&self, node: NodeId) -> impl Iterator<Item = &Slot> {
        self.seen.iter().filter(move |(_, other)| **other == node).map(|(slot, _)| slot)
    }

    pub(super) fn path_of(&self, node: NodeId) -> PathBuf {
        let mut names = Vec::new();
        let mut at = node;
        while let Some(((dir, name), _)) = self.seen.iter().find(|(_, other)| **other == at) {
            names.push(name.as_str());
            at = *dir;
        }
        names.iter().rev().collect()
    }
}

impl Kind {
    fn apply(&self, names: &mut BTreeMap<Slot, NodeId>) {
        match self {
            Kind::Set(slot, node) | Kind::Link(slot, node) => {
                names.insert(slot.clone(), *node);
            }
            Kind::Clear(slot) => {
                names.remove(slot);
            }
            Kind::Move { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }

    /// Whether a sync of this directory makes it durable.
    fn is_in(&self, dir: NodeId) -> bool {
        self.slots().iter().any(|slot| slot.0 == dir)
    }

    fn node(&self) -> Option<NodeId> {
        match self {
            Kind::Set(_, node) | Kind::Link(_, node) | Kind::Move { node, .. } => Some(*node),
            Kind::Clear(_) => None,
        }
    }

    fn slots(&self) -> Vec<&Slot> {
        match self {
            Kind::Set(slot, _) | Kind::Link(slot, _) | Kind::Clear(slot) => vec![slot],
            Kind::Move { from, to, .. } => vec![from, to],
        }
    }
}

/// The nodes that can be reached from the root.
fn reachable(names: &BTreeMap<Slot, NodeId>) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::from([ROOT]);
    let mut todo = vec![ROOT];
    while let Some(dir) = todo.pop() {
        let of_dir = names.range((dir, String::new())..).take_while(|((parent, _), _)| *parent == dir);
        todo.extend(of_dir.map(|(_, node)| *node).filter(|node| found.insert(*node)));
    }
    found
}

/// Where a path leads: from a directory that was entered, or from the root.
#[derive(Debug, Clone)]
pub(super) struct At {
    /// The whole path, for the trace.
    pub(super) parts: Vec<String>,
    /// What of it led to `from` when that was entered.
    skip: usize,
    pub(super) from: NodeId,
}

impl At {
    pub(super) fn root(path: &Path) -> At {
        At { parts: parts(path), skip: 0, from: ROOT }
    }

    /// From the directory `from`, which was entered under the name `root`, if the path lies in it.
    pub(super) fn below(root: &[String], from: NodeId, path: &Path) -> At {
        let parts = parts(path);
        if parts.starts_with(root) { At { parts, skip: root.len(), from } } else { At { parts, skip: 0, from: ROOT } }
    }

    /// The names from `from` on.
    pub(super) fn names(&self) -> &[String] {
        &self.parts[self.skip..]
    }
}

/// The parts of a path, without what means nothing: all paths begin at the root.
pub(super) fn parts(path: &Path) -> Vec<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    //! Directories 0 and 1, nodes from 10 on; which subsets of changes survive.

    use super::*;

    struct Keep(u32);

    impl Choices for Keep {
        fn choose(&mut self, _: usize) -> usize {
            let kept = self.0 & 1;
            self.0 >>= 1;
            kept as usize
        }
    }

    fn slot(dir: NodeId, name: &str) -> Slot {
        (dir, name.to_owned())
    }

    fn with_directory() -> Names {
        let mut names = Names::default();
        names.set_durably(slot(ROOT, "dir"), Some(1));
        names
    }

    /// The names after a crash that keeps the pending changes whose bits are set.
    fn after(names: &Names, kept: u32) -> Vec<(NodeId, String, NodeId)> {
        let found = names.after_power_loss(&mut Keep(kept));
        found
            .seen
            .iter()
            .map(|((dir, name), node)| (*dir, name.clone(), *node))
            .filter(|(_, _, node)| *node > 1)
            .collect()
    }

    #[test]
    fn any_subset_of_changes_survives() {
        let mut names = with_directory();
        names.set(1, slot(ROOT, "a"), 10);
        names.set(2, slot(1, "b"), 11);
        assert_eq!(after(&names, 0b00), []);
        assert_eq!(after(&names, 0b01), [(ROOT, "a".to_owned(), 10)]);
        assert_eq!(after(&names, 0b10), [(1, "b".to_owned(), 11)]);
        assert_eq!(names.get(&slot(ROOT, "a")), Some(10));
    }

    #[test]
    fn a_directory_that_is_lost_takes_its_names_along() {
        let mut names = Names::default();
        names.set(1, slot(ROOT, "dir"), 1);
        names.set(2, slot(1, "a"), 10);
        names.synced(1, 2);
        assert_eq!(after(&names, 0b0), []);
        assert_eq!(after(&names, 0b1), [(1, "a".to_owned(), 10)]);
    }

    #[test]
    fn a_sync_covers_its_directory_and_what_came_before_it() {
        let mut names = with_directory();
        names.set(1, slot(ROOT, "a"), 10);
        names.set(2, slot(1, "b"), 11);
        names.set(3, slot(1, "c"), 12);
        names.synced(1, 2);
        assert_eq!(after(&names, 0), [(1, "b".to_owned(), 11)]);
        assert_eq!(names.pending.len(), 2);
    }

    #[test]
    fn a_move_is_whole_or_not_there_and_durable_with_either_directory() {
        let mut names = with_directory();
        names.set(1, slot(ROOT, "tmp"), 10);
        names.rename(2, slot(ROOT, "tmp"), slot(1, "final"), 10);
        let moved = [(1, "final".to_owned(), 10)];
        assert_eq!(after(&names, 0b01), [(ROOT, "tmp".to_owned(), 10)]);
        assert_eq!(after(&names, 0b10), moved);
        assert_eq!(after(&names, 0b11), moved);

        for dir in [ROOT, 1] {
            let mut names = names.clone();
            names.synced(dir, 2);
            assert_eq!(after(&names, 0), moved);
            assert_eq!(names.pending.len(), 0);
        }
    }

    #[test]
    fn a_move_that_replaces_loses_neither_the_old_nor_the_new() {
        let mut names = with_directory();
        names.set_durably(slot(ROOT, "file"), Some(10));
        names.set_durably(slot(ROOT, "tmp"), Some(11));
        names.rename(1, slot(ROOT, "tmp"), slot(ROOT, "file"), 11);
        assert_eq!(after(&names, 0), [(ROOT, "file".to_owned(), 10), (ROOT, "tmp".to_owned(), 11)]);
        assert_eq!(after(&names, 1), [(ROOT, "file".to_owned(), 11)]);
        assert_eq!(names.possible_nodes(), BTreeSet::from([ROOT, 1, 10, 11]));
        assert_eq!(names.seen_nodes(), BTreeSet::from([ROOT, 1, 11]));
    }

    #[test]
    fn a_node_keeps_one_name_even_if_a_move_between_was_lost() {
        let mut names = with_directory();
        names.set(1, slot(ROOT, "a"), 10);
        names.rename(2, slot(ROOT, "a"), slot(ROOT, "b"), 10);
        names.rename(3, slot(ROOT, "b"), slot(ROOT, "c"), 10);
        assert_eq!(after(&names, 0b101), [(ROOT, "c".to_owned(), 10)]);
    }

    #[test]
    fn an_unlink_is_pending_too() {
        let mut names = with_directory();
        names.set_durably(slot(1, "a"), Some(10));
        names.clear(1, slot(1, "a"));
        assert_eq!(names.entries(1).count(), 0);
        assert_eq!(after(&names, 0), [(1, "a".to_owned(), 10)]);
        assert_eq!(after(&names, 1), []);
        names.synced(1, 1);
        assert_eq!(after(&names, 0), []);
    }

    #[test]
    fn what_is_set_durably_settles_what_was_pending_under_the_name() {
        let mut names = with_directory();
        names.set_durably(slot(ROOT, "tmp"), Some(10));
        names.rename(1, slot(ROOT, "tmp"), slot(ROOT, "a"), 10);
        names.set(2, slot(ROOT, "b"), 11);
        names.set_durably(slot(ROOT, "a"), Some(10));
        assert_eq!(after(&names, 0), [(ROOT, "a".to_owned(), 10)]);
        names.set_durably(slot(ROOT, "b"), None);
        assert_eq!(after(&names, u32::MAX), [(ROOT, "a".to_owned(), 10)]);
    }

    #[test]
    fn paths_are_read_as_names_below_the_root() {
        assert_eq!(parts(Path::new("/a//b/./../c")), ["a", "c"]);
        assert_eq!(parts(Path::new("./a/c")), ["a", "c"]);
        assert_eq!(parts(Path::new("../..")), [""; 0]);
        let names = with_directory();
        assert_eq!(names.path_of(1), PathBuf::from("dir"));
    }
}
