//! What a mapping knows of its bytes, and for how long: over a view that notes what is asked of it, with a clock that is
//! set by hand.

use std::io;
use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::disk::View;
use crate::format::Places;
use crate::segment::Mapped;

const GRAIN: u64 = 64 << 10;
const PAGE: u64 = 4096;

/// A file of any length whose bytes nobody looks at.
#[derive(Debug, Default)]
struct Asked {
    populated: Mutex<Vec<Range<u64>>>,
    left: Mutex<Vec<Range<u64>>>,
    /// A page that can't be read begins here.
    unreadable: Option<u64>,
}

impl View for Asked {
    fn bytes(&self, _range: Range<u64>) -> io::Result<&[u8]> {
        Ok(&[])
    }

    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        self.populated.lock().unwrap().push(range.clone());
        match self.unreadable {
            Some(at) if range.start < at + PAGE && at < range.end => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        }
    }

    fn leave(&self, range: Range<u64>) {
        self.left.lock().unwrap().push(range);
    }
}

struct Setting {
    view: Arc<Asked>,
    clock: SimClock,
    resident: Arc<Resident>,
    mapped: Arc<Mapped>,
}

/// A mapping of an engine that keeps so many bytes in memory.
fn setting(most_bytes: u64, unreadable: Option<u64>) -> Setting {
    let view = Arc::new(Asked { unreadable, ..Asked::default() });
    let clock = SimClock::new();
    let resident = Arc::new(Resident::new(most_bytes, Arc::new(clock.clone())));
    let mapped = Mapped::new(view.clone(), 1 << 30, resident.clone());
    Setting { view, clock, resident, mapped }
}

impl Setting {
    /// What is asked of the file when these bytes are populated.
    fn asked(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.mapped.populate(range).unwrap();
        std::mem::take(&mut *self.view.populated.lock().unwrap())
    }
}

fn one(range: Range<u64>) -> Vec<Range<u64>> {
    vec![range]
}

#[test]
fn what_was_populated_is_not_asked_for_again_within_a_second() {
    let setting = setting(1 << 30, None);
    assert_eq!(setting.asked(5_000..6_000), one(0..6_000), "from the grain's beginning");
    assert_eq!(setting.asked(100..8_192), [], "the page that it ends in is there as a whole");
    assert_eq!(setting.asked(100..8_193), one(8_192..8_193), "the file grew");
    assert_eq!(setting.asked(GRAIN + 1..2 * GRAIN + 1), one(GRAIN..2 * GRAIN + 1));
    assert_eq!(setting.asked(0..2 * GRAIN + PAGE), one(12_288..2 * GRAIN + PAGE));
    assert_eq!(setting.asked(0..2 * GRAIN + PAGE), []);

    setting.clock.advance(Duration::from_secs(1));
    assert_eq!(setting.asked(0..2 * GRAIN), []);
    setting.clock.advance(Duration::from_secs(1));
    assert_eq!(setting.asked(0..2 * GRAIN), one(0..2 * GRAIN));
    // Another mapping of the same file knows nothing.
    let other = Mapped::new(setting.view.clone(), 1 << 30, setting.resident.clone());
    other.populate(0..100).unwrap();
    assert_eq!(*setting.view.populated.lock().unwrap(), one(0..100));
}

/// Else a log that grows by a page each second would be taken for present from its first page on.
#[test]
fn what_is_populated_behind_makes_the_beginning_no_younger() {
    let setting = setting(1 << 30, None);
    assert_eq!(setting.asked(0..PAGE), one(0..PAGE));
    setting.clock.advance(Duration::from_secs(1));
    assert_eq!(setting.asked(PAGE..2 * PAGE), one(PAGE..2 * PAGE));
    setting.clock.advance(Duration::from_secs(1));
    assert_eq!(setting.asked(2 * PAGE..3 * PAGE), one(0..3 * PAGE));
}

#[test]
fn a_page_that_cannot_be_read_takes_nothing_behind_it_along() {
    let setting = setting(1 << 30, Some(PAGE));
    assert_eq!(setting.asked(3 * PAGE..4 * PAGE), [0..4 * PAGE, 3 * PAGE..4 * PAGE]);
    assert_eq!(setting.asked(3 * PAGE..4 * PAGE), [0..4 * PAGE, 3 * PAGE..4 * PAGE], "its grain isn't known");
    assert_eq!(setting.mapped.populate(PAGE..4 * PAGE).unwrap_err().raw_os_error(), Some(5));
    assert_eq!(setting.mapped.populate(0..4 * PAGE).unwrap_err().raw_os_error(), Some(5));
}

#[test]
fn no_more_than_so_many_bytes_of_all_mappings_stay() {
    let setting = setting(4 * GRAIN, None);
    let other = Mapped::new(setting.view.clone(), 1 << 30, setting.resident.clone());
    let left = || -> Vec<_> { std::mem::take(&mut *setting.view.left.lock().unwrap()) };
    setting.mapped.populate(0..2 * GRAIN).unwrap();
    other.populate(0..2 * GRAIN).unwrap();
    setting.clock.advance(Duration::from_secs(2));
    other.populate(0..2 * GRAIN).unwrap();
    assert_eq!(left(), [], "what is populated again counts once");
    for number in 2..100 {
        let range = number * GRAIN..(number + 1) * GRAIN;
        setting.mapped.populate(range.clone()).unwrap();
        let given: u64 = left().iter().map(|range| range.end - range.start).sum();
        assert!(given == GRAIN || given == 2 * GRAIN || given == 0, "{given} bytes left");
    }
    // What was left is populated when it is asked for.
    setting.view.populated.lock().unwrap().clear();
    let again: usize = (0..100).map(|number| setting.asked(number * GRAIN..(number + 1) * GRAIN).len()).sum();
    assert!((96..=100).contains(&again), "{again} of 100 weren't there");
}

/// The drive may give other bytes, once the kernel has dropped a page that was checked.
#[test]
fn a_checked_batch_is_known_for_a_second_and_to_this_mapping_only() {
    let setting = setting(1 << 30, None);
    let places = Places::default();
    assert_eq!(setting.mapped.checked(PAGE), None);
    setting.mapped.note_checked(PAGE, places);
    setting.clock.advance(Duration::from_secs(1));
    assert_eq!((setting.mapped.checked(PAGE), setting.mapped.checked(PAGE + 8)), (Some(places), None));
    let other = Mapped::new(setting.view.clone(), 1 << 30, setting.resident.clone());
    assert_eq!(other.checked(PAGE), None);
    setting.clock.advance(Duration::from_secs(1));
    assert_eq!(setting.mapped.checked(PAGE), None);
}

#[test]
fn a_mapping_remembers_a_bounded_number_of_batches() {
    let resident = setting(1 << 30, None).resident;
    // Notes are made for 2 MiB together: 32 grains, twice as many batches.
    let mapped = Mapped::new(Arc::new(Asked::default()), 2 * GRAIN, resident);
    for number in 0..64 {
        mapped.note_checked(number * 8, Places::default());
    }
    let known = || (0..65).filter(|&number| mapped.checked(number * 8).is_some()).count();
    assert_eq!(known(), 64);
    mapped.note_checked(64 * 8, Places::default());
    assert_eq!(known(), 1);
}
