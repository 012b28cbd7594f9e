//! What is done to open files: bytes, lengths, syncs, views.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use rustix::io::Errno;

use super::{Failure, FileNode, Moment, NodeId, Operation, State, blocks, fill_from};
use crate::sys::shared_buffer::SharedBuffer;

/// Longer files would make an index of their chunks that is too large for a simulation.
const LENGTH_MAX: u64 = 1 << 36;

/// A sync that has started.
#[derive(Debug)]
pub(in crate::sim) struct Ticket {
    node: NodeId,
    /// What happened up to here becomes durable.
    until: Moment,
    fails: Option<Failure>,
}

impl State {
    pub(in crate::sim) fn write(&mut self, node: NodeId, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let begun = self.begin(Operation::Write, (node, position, &bytes));
        let end = position.checked_add(bytes.len() as u64).filter(|end| *end <= LENGTH_MAX);
        let end = end.ok_or(Errno::FBIG)?;
        match begun {
            Ok(()) => {
                let fitting = self.room_end(node, end)?.saturating_sub(position).min(bytes.len() as u64);
                self.store(node, position, &bytes[..fitting as usize])?;
                if fitting == bytes.len() as u64 { Ok(()) } else { Err(Errno::NOSPC.into()) }
            }
            Err(failure) => {
                let done = if failure.half_done { bytes.len() / 2 } else { 0 };
                self.store(node, position, &bytes[..done])?;
                Err(failure.error())
            }
        }
    }

    fn store(&mut self, node: NodeId, position: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let moment = self.next_moment();
        let file = self.file_mut(node)?;
        file.contents.write(moment, position, bytes);
        let conflict = file.live_views().iter().filter_map(|view| view.fill(position, bytes)).min();
        self.note_conflict(node, conflict);
        self.tell_of(node);
        Ok(())
    }

    /// How far the file may grow, up to `end`.
    fn room_end(&self, node: NodeId, end: u64) -> io::Result<u64> {
        let length = self.file(node)?.contents.length();
        if end <= length || self.capacity_bytes.is_none() {
            return Ok(end);
        }
        Ok(end.min(blocks(length).saturating_add(self.free_bytes())))
    }

    /// With `past_memory` what the drive has, when memory has given it what it has for it.
    pub(in crate::sim) fn read(
        &mut self,
        node: NodeId,
        buffer: &mut [u8],
        position: u64,
        past_memory: bool,
    ) -> io::Result<usize> {
        self.begin(Operation::Read, (node, position, buffer.len())).map_err(Failure::error)?;
        let contents = &self.file(node)?.contents;
        let read = contents.cache().read(position, buffer);
        if past_memory {
            contents.lose(position, &mut buffer[..read]);
        }
        self.bytes_read += read as u64;
        Ok(read)
    }

    /// As a view's pages are brought into memory.
    pub(in crate::sim) fn populate(&mut self, node: NodeId, range: &Range<u64>) -> io::Result<()> {
        self.begin(Operation::Read, (node, range.start, range.end)).map_err(Failure::error)
    }

    pub(in crate::sim) fn allocate(&mut self, node: NodeId, range: Range<u64>) -> io::Result<()> {
        self.begin(Operation::Allocate, (node, range.start, range.end)).map_err(Failure::error)?;
        if range.is_empty() || range.end <= self.length(node)? {
            return Ok(());
        }
        if range.end > LENGTH_MAX {
            return Err(Errno::FBIG.into());
        }
        // As ext4 does: what room there is has been taken when it turns out not to be enough.
        let end = self.room_end(node, range.end)?;
        let moment = self.next_moment();
        self.file_mut(node)?.contents.set_length(moment, end);
        if end < range.end { Err(Errno::NOSPC.into()) } else { Ok(()) }
    }

    pub(in crate::sim) fn give_back(&mut self, node: NodeId, length: u64) -> io::Result<()> {
        self.begin(Operation::GiveBack, (node, length)).map_err(Failure::error)?;
        let before = self.length(node)?;
        if before <= length {
            return Ok(());
        }
        let moment = self.next_moment();
        let file = self.file_mut(node)?;
        // Beyond what was ever stored, views hold zeros as it is.
        let stored = length..before.min(file.contents.cache().stored_end());
        file.contents.set_length(moment, length);
        let conflict = cleared(file, stored);
        self.note_conflict(node, conflict);
        Ok(())
    }

    pub(in crate::sim) fn length(&self, node: NodeId) -> io::Result<u64> {
        Ok(self.file(node)?.contents.length())
    }

    pub(in crate::sim) fn stored_end(&self, node: NodeId) -> io::Result<u64> {
        let cache = self.file(node)?.contents.cache();
        Ok(cache.stored_end().min(cache.length()))
    }

    pub(in crate::sim) fn stored_from(&self, node: NodeId, from: u64) -> io::Result<u64> {
        Ok(self.file(node)?.contents.cache().stored_from(from))
    }

    pub(in crate::sim) fn start_sync(&mut self, node: NodeId) -> Ticket {
        let directory = self.is_directory(node);
        let operation = if directory { Operation::SyncDirectory } else { Operation::Sync };
        let fails = self.begin(operation, node).err();
        Ticket { node, until: self.moment, fails }
    }

    /// The sync ends, and with it what it does happens.
    pub(in crate::sim) fn end_sync(&mut self, ticket: Ticket) -> io::Result<()> {
        let Ticket { node, until, fails } = ticket;
        if self.faults.power_is_gone() {
            return Err(Errno::IO.into());
        }
        if self.is_directory(node) {
            if fails.is_none() {
                self.names.synced(node, until);
                self.collect();
            }
        } else if let Ok(file) = self.file_mut(node) {
            match fails {
                None => file.contents.synced(until),
                Some(_) => file.contents.sync_failed(until),
            }
        }
        fails.map_or(Ok(()), |failure| Err(failure.error()))
    }

    pub(in crate::sim) fn view(&mut self, node: NodeId, reserved_bytes: u64) -> io::Result<Arc<SharedBuffer>> {
        self.begin(Operation::View, (node, reserved_bytes)).map_err(Failure::error)?;
        let file = self.file_mut(node)?;
        let view = Arc::new(SharedBuffer::new(reserved_bytes)?);
        let cache = file.contents.cache();
        // Nothing was handed out yet, so nothing conflicts.
        let _ = fill_from(&view, cache, 0..cache.length().min(cache.stored_end()));
        file.views.push(Arc::downgrade(&view));
        Ok(view)
    }

    /// Drops from all files what failed syncs left in the cache.
    pub(in crate::sim) fn evict(&mut self) {
        for node in self.nodes.values_mut() {
            if let super::NodeKind::File(file) = &mut node.kind {
                file.evict();
            }
        }
    }

    /// Drops it from one file, unless it is mapped.
    pub(in crate::sim) fn forget(&mut self, node: NodeId) {
        if let Ok(file) = self.file_mut(node)
            && file.live_views().is_empty()
        {
            file.evict();
        }
    }

    pub(in crate::sim) fn has_lost(&self) -> bool {
        let lost = |node: &super::Node| matches!(&node.kind, super::NodeKind::File(file) if file.contents.has_lost());
        self.nodes.values().any(lost)
    }

    fn note_conflict(&mut self, node: NodeId, conflict: Option<u64>) {
        if let Some(position) = conflict {
            let path = self.names.path_of(node);
            let text = format!("{}: the byte at {position} was changed after readers got it", path.display());
            self.violations.push(text);
        }
    }
}

impl FileNode {
    fn evict(&mut self) {
        for range in self.contents.evict() {
            self.refresh_views(&range);
        }
    }
}

/// Zeroes a range of the views, as it lies beyond the file's end now.
fn cleared(file: &mut FileNode, range: Range<u64>) -> Option<u64> {
    let views = file.live_views();
    views.iter().filter_map(|view| fill_from(view, file.contents.cache(), range.clone())).min()
}
