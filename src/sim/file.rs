//! Open files and views of a simulated disk: a node number and the way back to the disk.

use std::any::Any;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use rustix::io::Errno;

use super::disk::SimDisk;
use super::names::NodeId;
use crate::disk::{Access, File, View};
use crate::sys::shared_buffer::SharedBuffer;

/// Keeps a node alive, with or without a name.
#[derive(Debug)]
pub(super) struct Handle {
    disk: SimDisk,
    node: NodeId,
}

impl Handle {
    /// For a node that the state counted as held when it was opened.
    pub(super) fn new(disk: &SimDisk, node: NodeId) -> Arc<Handle> {
        Arc::new(Handle { disk: disk.clone(), node })
    }

    pub(super) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    pub(super) fn node(&self) -> NodeId {
        self.node
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.disk.state().closed(self.node);
    }
}

#[derive(Debug)]
pub(super) struct SimFile {
    handle: Arc<Handle>,
    access: Access,
}

impl SimFile {
    pub(super) fn new(handle: Arc<Handle>, access: Access) -> SimFile {
        SimFile { handle, access }
    }

    pub(super) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    fn for_writing(&self) -> io::Result<(NodeId, crate::lock::MutexGuard<'_, super::state::State>)> {
        if self.access != Access::Write {
            return Err(Errno::BADF.into());
        }
        Ok((self.handle.node, self.handle.disk.state()))
    }
}

impl File for SimFile {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let (node, mut state) = self.for_writing()?;
        state.write(node, parts, position)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.handle.disk.state().read(self.handle.node, buffer, position, self.access == Access::Drive)
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        let (node, mut state) = self.for_writing()?;
        state.allocate(node, range)
    }

    fn room(&self) -> io::Result<u64> {
        Ok(self.handle.disk.state().free_bytes())
    }

    fn give_back(&self, length: u64) -> io::Result<()> {
        let (node, mut state) = self.for_writing()?;
        state.give_back(node, length)
    }

    fn identity(&self) -> io::Result<u64> {
        Ok(self.handle.node)
    }

    fn length(&self) -> io::Result<u64> {
        self.handle.disk.state().length(self.handle.node)
    }

    fn stored_end(&self, from: u64) -> io::Result<u64> {
        self.handle.disk.state().stored_end(self.handle.node).map(|end| end.max(from))
    }

    fn stored_from(&self, from: u64) -> io::Result<u64> {
        self.handle.disk.state().stored_from(self.handle.node, from)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.handle.disk.state();
        let ticket = state.start_sync(self.handle.node);
        state.end_sync(ticket)
    }

    fn forget(&self) -> io::Result<()> {
        self.handle.disk.state().forget(self.handle.node);
        Ok(())
    }

    fn view(&self, reserved: u64) -> io::Result<Arc<dyn View>> {
        let buffer = self.handle.disk.state().view(self.handle.node, reserved)?;
        Ok(Arc::new(SimView { handle: Arc::clone(&self.handle), buffer }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A copy of the file's bytes that writes keep in step.
#[derive(Debug)]
struct SimView {
    handle: Arc<Handle>,
    buffer: Arc<SharedBuffer>,
}

impl SimView {
    fn check_end(&self, end: u64) -> io::Result<()> {
        let length = self.handle.disk.state().length(self.handle.node)?;
        if end > length && end <= self.buffer.length() {
            let reason = format!("the file ends at {length}, before {end}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        Ok(())
    }

    fn not_within(&self, range: &Range<u64>) -> io::Error {
        let reason = format!("bytes {range:?} are not within the {} reserved ones", self.buffer.length());
        io::Error::new(io::ErrorKind::InvalidInput, reason)
    }
}

impl View for SimView {
    fn bytes(&self, range: Range<u64>) -> io::Result<&[u8]> {
        self.check_end(range.end)?;
        self.buffer.bytes(range.clone()).ok_or_else(|| self.not_within(&range))
    }

    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        self.check_end(range.end)?;
        if range.start > range.end || range.end > self.buffer.length() {
            return Err(self.not_within(&range));
        }
        self.handle.disk.state().populate(self.handle.node, &range)
    }
}
