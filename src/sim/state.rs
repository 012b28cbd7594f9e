//! Everything a simulated disk knows, behind one lock; here: the operations on names, and room.
//!
//! Each operation begins in [`State::begin`], which counts it, adds it to the trace and lets it fail
//! if that was ordered. A failed operation changes nothing but what its kind says.

mod backdoor;
mod crash;
mod files;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::{Arc, Weak};

use rustix::io::Errno;

use super::contents::{Contents, Moment};
use super::crash::CrashPolicy;
use super::faults::{Failure, Faults, Operation};
use super::image::Image;
use super::images::CrashPoint;
use super::names::{At, Names, NodeId, ROOT, Slot, parts};
use super::random::Trace;
use super::watch::Told;
use crate::disk::{Entry, EntryKind};
use crate::sys::shared_buffer::SharedBuffer;

pub(super) use files::Ticket;

/// What room is given out in; a file without bytes and a directory take one.
const BLOCK_BYTES: u64 = 4096;

#[derive(Debug, Default)]
pub(super) struct State {
    names: Names,
    nodes: BTreeMap<NodeId, Node>,
    next_node: NodeId,
    moment: Moment,
    capacity_bytes: Option<u64>,
    /// It has no files without a name.
    pub(super) no_unnamed: bool,
    pub(super) faults: Faults,
    counts: BTreeMap<Operation, u64>,
    bytes_read: u64,
    /// Errors given to order.
    errors: u64,
    trace: Trace,
    violations: Vec<String>,
    watchers: Vec<Weak<Told>>,
    /// The moments before each change, while they are recorded.
    crash_points: Option<Vec<CrashPoint>>,
}

#[derive(Debug)]
struct Node {
    kind: NodeKind,
    /// Open files, views and locks on it.
    handles: usize,
    /// Of a directory: it is locked by whoever writes there.
    locked: bool,
}

#[derive(Debug)]
enum NodeKind {
    Directory,
    File(FileNode),
}

#[derive(Debug, Default)]
struct FileNode {
    contents: Contents,
    views: Vec<Weak<SharedBuffer>>,
}

impl State {
    pub(super) fn new() -> State {
        let mut state = State { next_node: ROOT, ..State::default() };
        state.add(NodeKind::Directory);
        state
    }

    /// Every operation goes through here first.
    fn begin(&mut self, operation: Operation, subject: impl Hash) -> Result<(), Failure> {
        if self.crash_points.is_some() && operation.changes() {
            let point = CrashPoint::new(self.count_all(), self.crash(CrashPolicy::Kill));
            self.crash_points.get_or_insert_default().push(point);
        }
        *self.counts.entry(operation).or_default() += 1;
        (operation, subject).hash(&mut self.trace);
        match self.faults.next(operation) {
            None => Ok(()),
            Some(failure) => {
                self.errors += u64::from(!self.faults.power_is_gone());
                (failure.errno, failure.half_done).hash(&mut self.trace);
                Err(failure)
            }
        }
    }

    pub(super) fn record_crash_points(&mut self, record: bool) {
        self.crash_points = record.then(|| self.crash_points.take().unwrap_or_default());
    }

    pub(super) fn take_crash_points(&mut self) -> Vec<CrashPoint> {
        self.crash_points.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn begin_at(&mut self, operation: Operation, at: &At) -> io::Result<()> {
        self.begin(operation, &at.parts).map_err(Failure::error)
    }

    pub(super) fn watch(&mut self, told: Weak<Told>) {
        self.watchers.retain(|told| told.strong_count() > 0);
        self.watchers.push(told);
    }

    /// The file of this name was changed, or is another.
    fn tell(&self, slot: &Slot) {
        self.watchers.iter().filter_map(Weak::upgrade).for_each(|told| told.tell(slot));
    }

    /// The same for a file that is open.
    fn tell_of(&self, node: NodeId) {
        if !self.watchers.is_empty() {
            self.names.slots_of(node).for_each(|slot| self.tell(slot));
        }
    }

    /// A number that depends on all that happened since the disk was made, over crashes too.
    pub(super) fn random(&mut self) -> u64 {
        let mut hash = self.trace.clone();
        (self.next_moment(), self.next_node).hash(&mut hash);
        hash.finish()
    }

    fn next_moment(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    pub(super) fn create_dir_all(&mut self, at: &At) -> io::Result<()> {
        self.begin_at(Operation::CreateDirectory, at)?;
        let last = at.names().len().saturating_sub(1);
        let mut dir = at.from;
        for (index, name) in at.names().iter().enumerate() {
            let slot = (dir, name.clone());
            dir = match self.names.get(&slot) {
                Some(node) if self.is_directory(node) => node,
                Some(_) if index == last => return Err(Errno::EXIST.into()),
                Some(_) => return Err(Errno::NOTDIR.into()),
                None => self.make(slot, NodeKind::Directory)?,
            };
        }
        Ok(())
    }

    pub(super) fn list(&mut self, at: &At) -> io::Result<Vec<Entry>> {
        self.begin_at(Operation::List, at)?;
        let dir = self.find(at)?;
        if !self.is_directory(dir) {
            return Err(Errno::NOTDIR.into());
        }
        let entry = |(name, node): (&str, NodeId)| {
            let kind = if self.is_directory(node) { EntryKind::Directory } else { EntryKind::File };
            Entry { name: name.to_owned(), kind }
        };
        Ok(self.names.entries(dir).map(entry).collect())
    }

    pub(super) fn kind(&self, at: &At) -> io::Result<EntryKind> {
        Ok(if self.is_directory(self.find(at)?) { EntryKind::Directory } else { EntryKind::File })
    }

    /// The length of this node's file, if that is what the path leads to.
    pub(super) fn length_at(&self, at: &At, node: NodeId) -> io::Result<Option<u64>> {
        match self.find(at) {
            Ok(found) if found == node => self.length(node).map(Some),
            _ => Ok(None),
        }
    }

    pub(super) fn create(&mut self, at: &At) -> io::Result<NodeId> {
        self.begin_at(Operation::Create, at)?;
        let slot = self.slot(at)?;
        if self.names.get(&slot).is_some() {
            return Err(Errno::EXIST.into());
        }
        let node = self.make(slot, NodeKind::File(FileNode::default()))?;
        Ok(self.held(node))
    }

    /// A file without a name: gone with its last handle, and in a crash.
    pub(super) fn create_unnamed(&mut self, at: &At) -> io::Result<NodeId> {
        if self.no_unnamed {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.begin_at(Operation::Create, at)?;
        let dir = self.find(at)?;
        if !self.is_directory(dir) {
            return Err(Errno::NOTDIR.into());
        }
        if self.free_bytes() < BLOCK_BYTES {
            return Err(Errno::NOSPC.into());
        }
        let node = self.add(NodeKind::File(FileNode::default()));
        Ok(self.held(node))
    }

    /// Counts, fails and crashes as a rename does.
    pub(super) fn name(&mut self, node: NodeId, at: &At) -> io::Result<()> {
        self.begin_at(Operation::Rename, at)?;
        let slot = self.slot(at)?;
        if self.names.get(&slot).is_some() {
            return Err(Errno::EXIST.into());
        }
        let moment = self.next_moment();
        self.names.set(moment, slot, node);
        Ok(())
    }

    pub(super) fn open(&mut self, at: &At) -> io::Result<NodeId> {
        self.begin_at(Operation::Open, at)?;
        let node = self.find(at)?;
        if self.is_directory(node) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(self.held(node))
    }

    /// A directory to look up names from; counted nowhere, as it only comes before what is.
    pub(super) fn enter(&mut self, at: &At) -> io::Result<NodeId> {
        let node = self.find(at)?;
        if self.is_directory(node) { Ok(self.held(node)) } else { Err(Errno::NOTDIR.into()) }
    }

    pub(super) fn open_dir(&mut self, at: &At) -> io::Result<NodeId> {
        self.begin_at(Operation::Open, at)?;
        let node = self.find(at)?;
        if self.is_directory(node) { Ok(self.held(node)) } else { Err(Errno::NOTDIR.into()) }
    }

    pub(super) fn rename(&mut self, from: &At, to: &At) -> io::Result<()> {
        self.begin(Operation::Rename, (&from.parts, &to.parts)).map_err(Failure::error)?;
        let (into_itself, over_itself) = (to.parts.starts_with(&from.parts), from.parts.starts_with(&to.parts));
        let (from, to) = (self.slot(from)?, self.slot(to)?);
        let node = self.names.get(&from).ok_or(Errno::NOENT)?;
        match (into_itself, over_itself) {
            (true, true) => return Ok(()),
            (true, false) => return Err(Errno::INVAL.into()),
            (false, true) => return Err(Errno::NOTEMPTY.into()),
            (false, false) => {}
        }
        if let Some(replaced) = self.names.get(&to) {
            match (self.is_directory(node), self.is_directory(replaced)) {
                (false, true) => return Err(Errno::ISDIR.into()),
                (true, false) => return Err(Errno::NOTDIR.into()),
                (true, true) if self.names.entries(replaced).next().is_some() => {
                    return Err(Errno::NOTEMPTY.into());
                }
                _ => {}
            }
        }
        let moment = self.next_moment();
        self.tell(&from);
        self.tell(&to);
        self.names.rename(moment, from, to, node);
        Ok(())
    }

    /// Counts, fails and crashes as a rename does.
    pub(super) fn link(&mut self, from: &At, to: &At) -> io::Result<()> {
        self.begin(Operation::Rename, (&from.parts, &to.parts)).map_err(Failure::error)?;
        let (from, to) = (self.slot(from)?, self.slot(to)?);
        let node = self.names.get(&from).ok_or(Errno::NOENT)?;
        if self.is_directory(node) {
            return Err(Errno::PERM.into());
        }
        if self.names.get(&to).is_some() {
            return Err(Errno::EXIST.into());
        }
        let moment = self.next_moment();
        self.tell(&to);
        self.names.link(moment, to, node);
        Ok(())
    }

    pub(super) fn unlink(&mut self, at: &At) -> io::Result<()> {
        self.begin_at(Operation::Unlink, at)?;
        let slot = self.slot(at)?;
        let node = self.names.get(&slot).ok_or(Errno::NOENT)?;
        if self.is_directory(node) {
            return Err(Errno::ISDIR.into());
        }
        let moment = self.next_moment();
        self.tell(&slot);
        self.names.clear(moment, slot);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, at: &At) -> io::Result<()> {
        self.begin_at(Operation::RemoveDirectory, at)?;
        let slot = self.slot(at)?;
        let node = self.names.get(&slot).ok_or(Errno::NOENT)?;
        if !self.is_directory(node) {
            return Err(Errno::NOTDIR.into());
        }
        if self.names.entries(node).next().is_some() {
            return Err(Errno::NOTEMPTY.into());
        }
        let moment = self.next_moment();
        self.names.clear(moment, slot);
        Ok(())
    }

    /// Locks the directory that this file lies in, making the file if need be; the text inside if it is locked.
    pub(super) fn lock(&mut self, at: &At, holder: &str) -> io::Result<Result<NodeId, String>> {
        self.begin_at(Operation::Lock, at)?;
        let slot = self.slot(at)?;
        let dir = slot.0;
        let node = match self.names.get(&slot) {
            Some(node) => node,
            None => self.make(slot, NodeKind::File(FileNode::default()))?,
        };
        if self.nodes.get(&dir).is_some_and(|dir| dir.locked) {
            return Ok(Err(self.text(node)?));
        }
        let moment = self.next_moment();
        let file = self.file_mut(node)?;
        file.contents.write(moment, 0, holder.as_bytes());
        file.contents.set_length(moment, holder.len() as u64);
        self.nodes.entry(dir).and_modify(|dir| dir.locked = true);
        Ok(Ok(self.held(dir)))
    }

    /// The text in this file if its directory is locked.
    pub(super) fn lock_holder(&self, at: &At) -> io::Result<Option<String>> {
        let Ok((dir, name)) = self.slot(at) else { return Ok(None) };
        if !self.nodes.get(&dir).is_some_and(|dir| dir.locked) {
            return Ok(None);
        }
        self.names.get(&(dir, name)).map_or(Ok(String::new()), |node| self.text(node)).map(Some)
    }

    fn text(&self, node: NodeId) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.file(node)?.contents.cache().bytes()).into_owned())
    }

    pub(super) fn unlock(&mut self, dir: NodeId) {
        self.nodes.entry(dir).and_modify(|dir| dir.locked = false);
    }

    /// Counts one more holder of the node, who calls [`closed`](State::closed) in the end.
    fn held(&mut self, node: NodeId) -> NodeId {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.handles += 1;
        }
        node
    }

    pub(super) fn closed(&mut self, node: NodeId) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.handles -= 1;
        }
    }

    /// A new node under a free name.
    fn make(&mut self, slot: Slot, kind: NodeKind) -> io::Result<NodeId> {
        if self.free_bytes() < BLOCK_BYTES {
            return Err(Errno::NOSPC.into());
        }
        let node = self.add(kind);
        let moment = self.next_moment();
        self.tell(&slot);
        self.names.set(moment, slot, node);
        Ok(node)
    }

    fn add(&mut self, kind: NodeKind) -> NodeId {
        let node = self.next_node;
        self.next_node += 1;
        self.nodes.insert(node, Node { kind, handles: 0, locked: false });
        node
    }

    /// Forgets nodes that nobody can reach again.
    fn collect(&mut self) {
        let possible = self.names.possible_nodes();
        self.nodes.retain(|id, node| node.handles > 0 || possible.contains(id));
    }

    pub(super) fn find(&self, at: &At) -> io::Result<NodeId> {
        self.walk(at.from, at.names())
    }

    fn walk(&self, from: NodeId, names: &[String]) -> io::Result<NodeId> {
        let mut node = from;
        for name in names {
            if !self.is_directory(node) {
                return Err(Errno::NOTDIR.into());
            }
            node = self.names.get(&(node, name.clone())).ok_or(Errno::NOENT)?;
        }
        Ok(node)
    }

    /// The directory and name that a path means; the root has neither.
    fn slot(&self, at: &At) -> io::Result<Slot> {
        let (name, parents) = at.names().split_last().ok_or(Errno::BUSY)?;
        let dir = self.walk(at.from, parents)?;
        if self.is_directory(dir) { Ok((dir, name.clone())) } else { Err(Errno::NOTDIR.into()) }
    }

    pub(super) fn is_directory(&self, node: NodeId) -> bool {
        matches!(self.nodes.get(&node), Some(Node { kind: NodeKind::Directory, .. }))
    }

    fn file(&self, node: NodeId) -> io::Result<&FileNode> {
        match self.nodes.get(&node) {
            Some(Node { kind: NodeKind::File(file), .. }) => Ok(file),
            _ => Err(Errno::ISDIR.into()),
        }
    }

    fn file_mut(&mut self, node: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&node) {
            Some(Node { kind: NodeKind::File(file), .. }) => Ok(file),
            _ => Err(Errno::ISDIR.into()),
        }
    }

    pub(super) fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity_bytes = bytes;
    }

    /// Room that files and directories with a name, and open ones without, take.
    pub(super) fn used_bytes(&self) -> u64 {
        let seen = self.names.seen_nodes();
        let counted = self.nodes.iter().filter(|(id, node)| **id != ROOT && (node.handles > 0 || seen.contains(id)));
        counted.map(|(_, node)| node.bytes()).sum()
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        let seen = self.names.seen_nodes();
        let stored = |node: &Node| match &node.kind {
            NodeKind::File(file) => file.contents.cache().stored_bytes(),
            NodeKind::Directory => 0,
        };
        self.nodes.iter().filter(|(id, _)| seen.contains(id)).map(|(_, node)| stored(node)).sum()
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used_bytes()))
    }

    pub(super) fn count(&self, operation: Operation) -> u64 {
        self.counts.get(&operation).copied().unwrap_or(0)
    }

    pub(super) fn errors_given(&self) -> u64 {
        self.errors
    }

    pub(super) fn count_all(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.violations.clone()
    }
}

impl Node {
    fn bytes(&self) -> u64 {
        match &self.kind {
            NodeKind::Directory => BLOCK_BYTES,
            NodeKind::File(file) => blocks(file.contents.length()),
        }
    }
}

/// Room for a file of this length.
fn blocks(length: u64) -> u64 {
    length.max(1).next_multiple_of(BLOCK_BYTES)
}

impl FileNode {
    fn live_views(&mut self) -> Vec<Arc<SharedBuffer>> {
        self.views.retain(|view| view.strong_count() > 0);
        self.views.iter().filter_map(Weak::upgrade).collect()
    }

    /// Brings the views in step with the cache, but for bytes that readers may hold.
    fn refresh_views(&mut self, range: &std::ops::Range<u64>) {
        for view in self.live_views() {
            let _ = fill_from(&view, self.contents.cache(), range.clone());
        }
    }
}

/// Copies a range of the image into a view; the first position where a byte that was handed out
/// would change.
fn fill_from(view: &SharedBuffer, image: &Image, range: std::ops::Range<u64>) -> Option<u64> {
    const STEP_BYTES: u64 = 64 << 10;
    let end = range.end.min(view.length());
    let mut conflict = None;
    let mut position = range.start;
    let mut step = Vec::new();
    while position < end {
        step.resize(STEP_BYTES.min(end - position) as usize, 0);
        image.read_or_zero(position, &mut step);
        conflict = conflict.or(view.fill(position, &step));
        position += step.len() as u64;
    }
    conflict
}

impl Failure {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}
