//! What tests see and change past all counting, failing and syncing.

use std::hash::Hasher;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{At, Contents, FileNode, Image, NodeId, NodeKind, ROOT, Slot, State, parts};

impl State {
    /// The paths of all files, sorted.
    pub(in crate::sim) fn files(&self) -> Vec<PathBuf> {
        let seen = self.names.seen_nodes();
        let files = self.nodes.keys().filter(|node| seen.contains(node) && !self.is_directory(**node));
        let mut paths: Vec<_> = files.map(|node| self.names.path_of(*node)).collect();
        paths.sort();
        paths
    }

    /// A file's bytes, past all counting and failing.
    pub(in crate::sim) fn peek(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.file(self.find(&At::root(path))?)?.contents.cache().bytes())
    }

    /// Adds all names, lengths and bytes to a hash, in the order of the names.
    pub(in crate::sim) fn hash_into(&self, hash: &mut impl Hasher) {
        self.hash_directory(ROOT, hash);
    }

    fn hash_directory(&self, dir: NodeId, hash: &mut impl Hasher) {
        for (name, node) in self.names.entries(dir) {
            hash.write(name.as_bytes());
            match self.file(node) {
                Ok(file) => file.contents.cache().hash_into(hash),
                Err(_) => self.hash_directory(node, hash),
            }
        }
        hash.write_u64(dir);
    }

    /// Makes a file hold these bytes as if it always had, past all counting and failing.
    pub(in crate::sim) fn put(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut parts = parts(path);
        let name = parts.pop().ok_or(Errno::ISDIR)?;
        let mut dir = ROOT;
        for part in parts {
            dir = self.put_node((dir, part), || NodeKind::Directory);
            if !self.is_directory(dir) {
                return Err(Errno::NOTDIR.into());
            }
        }
        let node = self.put_node((dir, name), || NodeKind::File(FileNode::default()));
        let mut image = Image::default();
        image.set_length(bytes.len() as u64);
        image.write(0, bytes);
        let file = self.file_mut(node)?;
        let before = file.contents.length();
        file.contents = Contents::found(image);
        // As after an eviction: slices that readers hold stay.
        file.refresh_views(&(0..before.max(bytes.len() as u64)));
        Ok(())
    }

    /// Makes a file longer by a hole.
    pub(in crate::sim) fn lengthen(&mut self, path: &Path, length: u64) -> io::Result<()> {
        let slot = self.slot(&At::root(path))?;
        let node = self.names.get(&slot).ok_or(Errno::NOENT)?;
        let file = self.file_mut(node)?;
        let mut image = file.contents.cache().clone();
        image.set_length(length.max(image.length()));
        file.contents = Contents::found(image);
        Ok(())
    }

    /// Writes some bytes of a file.
    pub(in crate::sim) fn patch(&mut self, path: &Path, position: u64, bytes: &[u8]) -> io::Result<()> {
        let slot = self.slot(&At::root(path))?;
        let node = self.names.get(&slot).ok_or(Errno::NOENT)?;
        let file = self.file_mut(node)?;
        let mut image = file.contents.cache().clone();
        let end = position.saturating_add(bytes.len() as u64);
        if end > image.length() {
            return Err(Errno::INVAL.into());
        }
        image.write(position, bytes);
        file.contents = Contents::found(image);
        file.refresh_views(&(position..end));
        Ok(())
    }

    fn put_node(&mut self, slot: Slot, kind: impl FnOnce() -> NodeKind) -> NodeId {
        let node = self.names.get(&slot).unwrap_or_else(|| self.add(kind()));
        self.tell(&slot);
        self.names.set_durably(slot, Some(node));
        node
    }

    /// Takes a file away as if it had never been there.
    pub(in crate::sim) fn take(&mut self, path: &Path) -> io::Result<()> {
        let slot = self.slot(&At::root(path))?;
        let node = self.names.get(&slot).ok_or(Errno::NOENT)?;
        self.file(node)?;
        self.tell(&slot);
        self.names.set_durably(slot, None);
        self.collect();
        Ok(())
    }

    /// Gives a file or directory another name, as if it had always had it.
    pub(in crate::sim) fn move_to(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.slot(&At::root(from))?, self.slot(&At::root(to))?);
        let node = self.names.get(&from).ok_or(Errno::NOENT)?;
        if self.names.get(&to).is_some() {
            return Err(Errno::EXIST.into());
        }
        self.names.set_durably(from, None);
        self.names.set_durably(to, Some(node));
        Ok(())
    }
}
