//! What is read of a file for a scan, and how often: no byte is looked for twice, and none is missed.

use std::io;
use std::ops::Range;
use std::sync::Mutex;

use super::*;
use crate::disk::View;

/// A file that notes what is read of it.
#[derive(Debug)]
pub(super) struct Read {
    file: Arc<dyn File>,
    reads: Mutex<Vec<(u64, usize)>>,
}

impl Read {
    pub(super) fn of(file: Arc<dyn File>) -> Read {
        Read { file, reads: Mutex::default() }
    }

    /// Where it was read and how much was asked for, since this was asked last.
    pub(super) fn taken(&self) -> Vec<(u64, usize)> {
        std::mem::take(&mut self.reads.lock().unwrap())
    }
}

impl File for Read {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.file.write_at(parts, position)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.reads.lock().unwrap().push((position, buffer.len()));
        self.file.read_at(buffer, position)
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        self.file.allocate(range)
    }

    fn give_back(&self, length: u64) -> io::Result<()> {
        self.file.give_back(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn forget(&self) -> io::Result<()> {
        self.file.forget()
    }

    fn view(&self, reserved: u64) -> io::Result<Arc<dyn View>> {
        self.file.view(reserved)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

const LENGTH: u64 = 3 << 20;

/// A file in which each place has bytes of its own.
fn numbered() -> (Read, Vec<u8>) {
    let disk = SimDisk::new();
    let bytes: Vec<u8> = (0..LENGTH as u32 / 4).flat_map(|number| number.to_le_bytes()).collect();
    disk.write_file("file", &bytes).unwrap();
    (Read::of(disk.open(Path::new("file"), crate::disk::Access::Read).unwrap()), bytes)
}

#[test]
fn a_window_reads_more_each_time_and_nothing_that_it_holds() {
    const KIB: usize = 1 << 10;
    let (file, bytes) = numbered();
    let mut window = Window::new(&file, LENGTH);
    let end = LENGTH as usize;
    for (position, wanted, read) in [
        (0, 96, Some(16 * KIB)),
        (0, 96, None),
        (200, 5_000, None),
        (16 * KIB - 96, 96, None),
        (16 * KIB - 95, 96, Some(64 * KIB)),
        // Back before it.
        (8, 96, Some(256 * KIB)),
        (256 * KIB + 8, 8, Some(1_024 * KIB)),
        (3_000, 2_000, Some(1_024 * KIB)),
        (0, 2_048 * KIB, Some(2_048 * KIB)),
        (2_048 * KIB - 96, 96, None),
        // No more than there is.
        (end - 10, 96, Some(10)),
        (end - 4, 96, None),
        (end, 96, None),
    ] {
        let found = window.at(position as u64, wanted).unwrap();
        assert!(found == &bytes[position..(position + wanted).min(end)], "{wanted} at {position}");
        let reads: Vec<_> = read.map(|read| (position as u64, read)).into_iter().collect();
        assert_eq!(file.taken(), reads, "{wanted} at {position}");
    }
    assert_eq!(window.at(LENGTH + 5, 96).unwrap(), b"");
}

/// Its writer gave back what lay beyond.
#[test]
fn a_window_of_a_file_that_became_shorter_ends_with_it() {
    let (file, bytes) = numbered();
    let mut window = Window::new(&file, 2 * LENGTH);
    let end = LENGTH as usize;
    assert_eq!(window.at(LENGTH - 10, 96).unwrap(), &bytes[end - 10..]);
    assert_eq!(window.at(LENGTH - 4, 96).unwrap(), &bytes[end - 4..]);
    assert_eq!(window.at(LENGTH + 4, 96).unwrap(), b"");
    assert_eq!(window.at(0, 4).unwrap(), &bytes[..4]);
}
