//! A reader whose writer puts another file in place between any two looks at it.

use std::sync::Mutex;

use super::*;
use crate::disk::{Step, Watched};
use crate::format::BATCH_HEADER_BYTES;

const FILE: &str = "data/offsets-1";

/// Two files, of which the first is damaged and the second whole.
fn two_files() -> (SimDisk, [Vec<u8>; 2], View) {
    let disk = new_disk();
    let offsets = open(&disk, 1);
    offsets.commit("a", 1, &[new(0, 5)], 1).unwrap();
    let second = length(&offsets) as usize;
    for partition in 0..2 {
        offsets.commit("a", 1, &[new(partition, 6)], 1).unwrap();
        offsets.sync_all().unwrap();
    }
    let whole = disk.read_file(FILE).unwrap();
    let mut damaged = whole.clone();
    damaged[second + BATCH_HEADER_BYTES] ^= 1;
    (disk, [damaged, whole], view(&offsets))
}

/// Opened by a reader; what the writer does before the reader opens the file for the `n`-th time.
fn open_beside(disk: &SimDisk, meanwhile: impl FnMut(u64) + Send + 'static) -> Result<Offsets> {
    let writer = Mutex::new((0, meanwhile));
    let watched = Watched::<dyn Disk>::new(Arc::new(disk.clone()), move |step| {
        assert!(matches!(step, Step::Open | Step::Read { .. }), "a reader only reads");
        if step == Step::Open {
            let (opens, meanwhile) = &mut *writer.lock().unwrap();
            *opens += 1;
            meanwhile(*opens);
        }
        Ok(())
    });
    Offsets::open(Arc::new(watched), dir(), ENGINE, 9, Access::Read, 0).map(|(offsets, _)| offsets)
}

#[test]
fn what_was_damaged_at_one_look_and_not_at_the_next_is_read_again() {
    let (disk, files, expected) = two_files();
    let writers = disk.clone();
    // The second time it is opened to see what is left of it: all of it.
    let offsets = open_beside(&disk, move |opens| {
        writers.write_file(FILE, &files[usize::from(opens >= 2)]).unwrap();
    });
    let offsets = offsets.unwrap();
    assert!(offsets.damage().is_none());
    assert_eq!(view(&offsets), expected);
}

#[test]
fn it_is_not_looked_at_for_ever() {
    let (disk, files, _) = two_files();
    let (writers, opens_so_far) = (disk.clone(), Arc::new(Mutex::new(0)));
    let last = opens_so_far.clone();
    // Damaged whenever it is read, and whole whenever it is opened to see what is left.
    let error = open_beside(&disk, move |opens| {
        assert!(opens <= 1_000, "it goes on and on");
        *last.lock().unwrap() = opens;
        writers.write_file(FILE, &files[usize::from(opens % 2 == 0)]).unwrap();
    });
    let error = error.map(|_| ()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
    assert_eq!(*opens_so_far.lock().unwrap(), 200, "a hundred looks, each of two");
}
