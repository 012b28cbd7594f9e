//! A reader beside a writer: it sees whole batches, takes nothing unfinished for damage, and finds
//! the file that the writer put in place of its own.

use std::sync::Mutex;

use super::*;
use crate::disk::{Step, Watched};

struct Follower {
    log: KeyedLog,
    map: Map,
}

impl Follower {
    fn new(disk: &SimDisk) -> Follower {
        Follower::on(Arc::new(disk.clone()))
    }

    fn on(disk: Arc<dyn Disk>) -> Follower {
        let mut map = Map::new();
        let opened = KeyedLog::open(disk, dir(), PREFIX, FileKind::Catalog, None, Access::Read, &mut into(&mut map));
        Follower { log: opened.unwrap().unwrap().log, map }
    }

    fn refresh(&mut self) -> Result<bool> {
        let map = std::cell::RefCell::new(std::mem::take(&mut self.map));
        let mut replay = |header: &BatchHeader, bytes: &[u8]| into(&mut map.borrow_mut())(header, bytes);
        let result = self.log.refresh(&mut || map.borrow_mut().clear(), &mut replay);
        self.map = map.into_inner();
        result
    }
}

#[test]
fn appends_and_rewrites_are_seen() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    let mut follower = Follower::new(&disk);
    assert_eq!(follower.refresh(), Ok(false));
    for number in 2..=40 {
        append(&mut log, number).unwrap();
        if number % 13 == 0 {
            rewrite(&mut log, &after(number)).unwrap();
        }
        if number % 4 != 0 {
            assert_eq!(follower.refresh(), Ok(true));
            assert_eq!(follower.refresh(), Ok(false));
            assert_eq!(follower.map, after(number));
        }
    }
    assert_eq!(append(&mut follower.log, 41).unwrap_err().kind(), &ErrorKind::ReadOnly);
    assert_eq!(log.refresh(&mut || panic!("reset"), &mut |_, _| panic!("replay")), Ok(false));
}

#[test]
fn an_unfinished_tail_is_not_there_yet() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    let start = log.bytes() as usize;
    append(&mut log, 2).unwrap();
    let end = log.bytes() as usize;
    let bytes = disk.read_file("data/catalog-1").unwrap();
    let unfinished = |at: usize| {
        let mut unfinished = bytes.clone();
        unfinished[at..].fill(0);
        disk.write_file("data/catalog-1", unfinished).unwrap();
    };
    unfinished(start);
    let mut follower = Follower::new(&disk);
    for at in start..end {
        unfinished(at);
        assert_eq!((follower.refresh(), &follower.map), (Ok(false), &after(1)));
        assert_eq!(map_of(&disk), after(1));
    }
    disk.write_file("data/catalog-1", &bytes).unwrap();
    assert_eq!((follower.refresh(), &follower.map), (Ok(true), &after(2)));
}

#[test]
fn an_append_that_was_undone_is_forgotten() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    append(&mut log, 2).unwrap();
    let without = disk.read_file("data/catalog-1").unwrap();
    append(&mut log, 4).unwrap();
    let mut follower = Follower::new(&disk);
    assert_eq!(follower.map, Map::from([(1, 4), (2, 2)]));
    // The writer found no room after all, and then wrote something else there.
    disk.write_file("data/catalog-1", without).unwrap();
    let (mut opened, _) = open(&disk, Access::Write).unwrap().unwrap();
    append(&mut opened.log, 3).unwrap();
    opened.log.sync().unwrap();
    append(&mut opened.log, 5).unwrap();
    assert_eq!((follower.refresh(), &follower.map), (Ok(true), &Map::from([(0, 3), (1, 1), (2, 5)])));
}

#[test]
fn damage_is_damage_for_a_follower_too_and_goes_when_repaired() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    let mut follower = Follower::new(&disk);
    let at = log.bytes();
    append(&mut log, 2).unwrap();
    log.sync().unwrap();
    append(&mut log, 3).unwrap();
    let good = disk.read_file("data/catalog-1").unwrap();
    let mut damaged = good.clone();
    damaged[at as usize + 100] ^= 4;
    disk.write_file("data/catalog-1", &damaged).unwrap();
    assert_corrupt(&follower.refresh().unwrap_err(), 1, at);
    disk.write_file("data/catalog-1", &good).unwrap();
    assert_eq!((follower.refresh(), &follower.map), (Ok(true), &after(3)));
}

#[test]
fn a_directory_that_vanished_is_an_error() {
    let disk = new_disk();
    create(&disk).unwrap();
    let mut follower = Follower::new(&disk);
    disk.remove_file("data/catalog-1").unwrap();
    let error = follower.refresh().unwrap_err();
    assert_eq!((error.kind(), error.path()), (&ErrorKind::Io, Some(Path::new("data/catalog-1"))));
}

#[test]
fn a_writer_that_compacts_all_the_time_does_not_lose_its_readers() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut follower = Follower::new(&disk);
            let mut newest = 0;
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                follower.refresh().unwrap();
                let last = follower.map.values().copied().max().unwrap();
                assert!(last >= newest);
                assert_eq!(follower.map, after(last));
                newest = last;
                let (_, map) = open(&disk, Access::Read).unwrap().unwrap();
                assert_eq!(map, after(map.values().copied().max().unwrap()));
            }
        });
        for number in 2..=600 {
            append(&mut log, number).unwrap();
            match number % 5 {
                0 => rewrite(&mut log, &after(number)).unwrap(),
                3 => log.sync().unwrap(),
                _ => {}
            }
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        reader.join().unwrap();
    });
}

#[test]
fn after_an_error_of_the_replay_everything_is_replayed_again() {
    let disk = new_disk();
    let mut log = create(&disk).unwrap();
    let mut follower = Follower::new(&disk);
    append(&mut log, 2).unwrap();
    append(&mut log, 3).unwrap();
    let mut resets = 0;
    let error = follower.log.refresh(&mut || resets += 1, &mut |_, _| Err(Error::corrupt("nonsense"))).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }));
    assert_eq!(resets, 0);
    follower.map.insert(7, 7);
    assert_eq!((follower.refresh(), &follower.map), (Ok(true), &after(3)));
    assert_eq!(follower.refresh(), Ok(false));
}

/// A reader's disk on which a writer is at work between any two operations: what it does just before the reader's
/// `n`-th opening or reading of a file.
pub(super) fn beside(disk: &SimDisk, meanwhile: impl FnMut(u64) + Send + 'static) -> Arc<dyn Disk> {
    let writer = Mutex::new((0, meanwhile));
    Arc::new(Watched::<dyn Disk>::new(Arc::new(disk.clone()), move |step| {
        assert!(matches!(step, Step::Open | Step::Read { .. }), "a reader only reads");
        let (step, meanwhile) = &mut *writer.lock().unwrap();
        meanwhile(*step);
        *step += 1;
        Ok(())
    }))
}

#[test]
fn what_the_writer_does_between_two_reads_is_no_damage() {
    // The writer appends and syncs, or compacts, before each of the reader's operations.
    for rewriting in [false, true] {
        let disk = new_disk();
        let mut log = create(&disk).unwrap();
        let mut number = 1;
        let shared = beside(&disk, move |step| {
            if step > 40 {
                return;
            }
            for _ in 0..2 {
                number += 1;
                append(&mut log, number).unwrap();
                log.sync().unwrap();
            }
            if rewriting && step % 3 == 0 {
                rewrite(&mut log, &after(number)).unwrap();
            }
        });
        let mut follower = Follower::on(shared);
        let mut newest = 0;
        for _ in 0..30 {
            follower.refresh().unwrap();
            let last = follower.map.values().copied().max().unwrap();
            assert_eq!(follower.map, after(last));
            assert!(last >= newest);
            newest = last;
        }
        assert_eq!(newest, 83);
    }
}
