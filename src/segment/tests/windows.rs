//! What is read of a file for a scan, and how often: no byte is looked for twice, and none is missed.

use std::sync::Mutex;

use super::*;
use crate::disk::{Step, Watched};

/// A file that notes what is read of it.
pub(super) struct Read {
    pub(super) file: Watched<dyn File>,
    reads: Arc<Mutex<Vec<(u64, usize)>>>,
}

impl Read {
    pub(super) fn of(file: Arc<dyn File>) -> Read {
        let reads = Arc::new(Mutex::new(Vec::new()));
        let noted = reads.clone();
        let file = Watched::new(file, move |step| {
            if let Step::Read { position, bytes } = step {
                noted.lock().unwrap().push((position, bytes));
            }
            Ok(())
        });
        Read { file, reads }
    }

    /// Where it was read and how much was asked for, since this was asked last.
    pub(super) fn taken(&self) -> Vec<(u64, usize)> {
        std::mem::take(&mut self.reads.lock().unwrap())
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
    let mut window = Window::new(&file.file, LENGTH);
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
    let mut window = Window::new(&file.file, 2 * LENGTH);
    let end = LENGTH as usize;
    assert_eq!(window.at(LENGTH - 10, 96).unwrap(), &bytes[end - 10..]);
    assert_eq!(window.at(LENGTH - 4, 96).unwrap(), &bytes[end - 4..]);
    assert_eq!(window.at(LENGTH + 4, 96).unwrap(), b"");
    assert_eq!(window.at(0, 4).unwrap(), &bytes[..4]);
}
