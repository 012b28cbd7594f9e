//! The content of a disk, by pages that are shared between copies: a copy costs pointers only.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// Absent pages are zeros.
#[derive(Clone)]
pub(crate) struct Image {
    pages: Vec<Option<Arc<Page>>>,
}

struct Page {
    hash: u64,
    bytes: [u8; PAGE],
}

impl Image {
    pub(crate) fn zeros(bytes: usize) -> Image {
        Image { pages: vec![None; bytes / PAGE] }
    }

    pub(crate) fn bytes(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }

    /// So many bytes from `position`, fewer at the end of the disk.
    pub(crate) fn read(&self, position: u64, bytes: usize) -> Vec<u8> {
        let end = (position + bytes as u64).min(self.bytes());
        let mut read = Vec::with_capacity(bytes);
        let mut at = position;
        while at < end {
            let (page, from) = (at as usize / PAGE, at as usize % PAGE);
            let to = PAGE.min(from + (end - at) as usize);
            match &self.pages[page] {
                Some(page) => read.extend_from_slice(&page.bytes[from..to]),
                None => read.resize(read.len() + to - from, 0),
            }
            at += (to - from) as u64;
        }
        read
    }

    /// What lies beyond the end of the disk is dropped.
    pub(crate) fn write(&mut self, position: u64, bytes: &[u8]) {
        let mut at = position as usize;
        let mut rest = bytes;
        while !rest.is_empty() && at / PAGE < self.pages.len() {
            let (page, from) = (&mut self.pages[at / PAGE], at % PAGE);
            let count = rest.len().min(PAGE - from);
            let mut content = page.as_ref().map_or([0; PAGE], |page| page.bytes);
            content[from..from + count].copy_from_slice(&rest[..count]);
            *page = Page::new(content);
            at += count;
            rest = &rest[count..];
        }
    }

    /// Equal for equal contents.
    pub(crate) fn content_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (number, page) in self.pages.iter().enumerate() {
            if let Some(page) = page {
                (number, page.hash).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// Stores it as a sparse file, to be mounted with `mount -o loop`.
    pub(crate) fn store(&self, path: &Path) -> io::Result<()> {
        let mut file = std::fs::File::create(path)?;
        file.set_len(self.bytes())?;
        for (number, page) in self.pages.iter().enumerate() {
            if let Some(page) = page {
                file.seek(SeekFrom::Start((number * PAGE) as u64))?;
                file.write_all(&page.bytes)?;
            }
        }
        Ok(())
    }
}

impl Page {
    /// `None` for zeros.
    fn new(bytes: [u8; PAGE]) -> Option<Arc<Page>> {
        if bytes == [0; PAGE] {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Some(Arc::new(Page { hash: hasher.finish(), bytes }))
    }
}
