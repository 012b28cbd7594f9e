//! Batch headers in a view: which are found, and that no page is touched that wasn't brought into memory.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::*;
use crate::disk::View;
use crate::error::ErrorKind;
use crate::segment::{base_offset_of, log_name};
use crate::sim::{Operation, Repeat};

/// A view that notes what is populated, and gives out nothing else.
#[derive(Debug)]
struct Populated {
    view: Arc<dyn View>,
    ranges: Mutex<Vec<Range<u64>>>,
}

impl Populated {
    fn of(file: &dyn File) -> Populated {
        Populated { view: file.view(1 << 20).unwrap(), ranges: Mutex::default() }
    }

    /// What was populated since it was asked last.
    fn taken(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.ranges.lock().unwrap())
    }
}

impl View for Populated {
    fn bytes(&self, range: Range<u64>) -> io::Result<&[u8]> {
        let ranges = self.ranges.lock().unwrap();
        let is_there = |at| ranges.iter().any(|populated| populated.contains(&at));
        assert!(range.clone().step_by(8).all(is_there), "{range:?} of {ranges:?}");
        self.view.bytes(range)
    }

    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        self.ranges.lock().unwrap().push(range.clone());
        self.view.populate(range)
    }
}

#[test]
fn an_index_is_gathered_window_by_window() {
    const BATCHES: u64 = 2_000;
    let disk = SimDisk::new();
    let view = Populated::of(&*write(&disk, (0..BATCHES).map(|number| batch(number, 1_000))));
    let end = position_of(BATCHES);
    // One batch ends where the first window does; another lies across the end of the second.
    assert_eq!(position_of(640), 65_536);
    let across = position_of(1_322);
    Segment::new(parts(end)).rebuild(&view).unwrap();
    assert_eq!(view.taken(), [4_096..65_536, 65_536..131_072, across..end]);
}

/// What lies beyond was perhaps written, and perhaps it is being written now.
#[test]
fn a_header_is_found_below_the_published_end_only() {
    let disk = SimDisk::new();
    let long = BatchHeader { length: 2 * BATCH_BYTES as u32, ..batch(6, 1_000) };
    let view =
        Populated::of(&*write(&disk, (0..10).map(|number| if number == 6 { long } else { batch(number, 1_000) })));
    let segment = Segment::new(parts(position_of(6)));
    for number in 0..6 {
        let at = position_of(number);
        assert_eq!(segment.header_at(&view, at).unwrap(), batch(number, 1_000));
        assert_eq!(view.taken(), std::slice::from_ref(&(at..at + BATCH_BYTES)));
    }
    view.populate(0..position_of(10)).unwrap();
    for at in [position_of(6) - 8, position_of(6), position_of(6) + 8, position_of(7)] {
        segment.header_at(&view, at).unwrap_err();
    }
    // Nor does a batch end beyond.
    segment.publish(position_of(7));
    segment.header_at(&view, position_of(6)).unwrap_err();
    segment.publish(position_of(8));
    assert_eq!(segment.header_at(&view, position_of(6)).unwrap(), long);
}

/// How many of these are mapped.
fn mapped(segments: &[&Arc<Segment>]) -> usize {
    segments.iter().filter(|segment| segment.view.lock().unwrap().is_some()).count()
}

#[test]
fn mappings_are_given_up_for_one_more_when_there_is_no_room_and_for_no_other_reason() {
    const EIO: i32 = 5;
    const ENOMEM: i32 = 12;
    let disk = SimDisk::new();
    write(&disk, [batch(0, 1_000)]);
    let views = views_of(8);
    let [one, two, three] = std::array::from_fn(|_| Arc::new(Segment::new(parts(position_of(1)))));
    one.view(&disk, &views).unwrap();
    two.view(&disk, &views).unwrap();
    disk.fail_next(Operation::View, EIO);
    assert_eq!(three.view(&disk, &views).unwrap_err().kind(), &ErrorKind::Io);
    assert_eq!(mapped(&[&one, &two]), 2);
    disk.fail_next(Operation::View, ENOMEM);
    three.view(&disk, &views).unwrap();
    assert_eq!((mapped(&[&one, &two]), mapped(&[&three])), (0, 1));
    disk.fail_after(0, Operation::View, ENOMEM, Repeat::Forever);
    assert_eq!(one.view(&disk, &views).unwrap_err().kind(), &ErrorKind::NoRoom);
}

#[test]
fn so_many_segments_stay_mapped_and_those_that_were_mapped_last() {
    let disk = SimDisk::new();
    write(&disk, [batch(0, 1_000)]);
    let views = views_of(2);
    let segments: [_; 4] = std::array::from_fn(|_| Arc::new(Segment::new(parts(position_of(1)))));
    for (number, expected) in [(0, [1, 0, 0, 0]), (1, [1, 1, 0, 0]), (2, [0, 1, 1, 0]), (3, [0, 0, 1, 1])] {
        // Asked twice: what is mapped isn't mapped anew.
        for _ in 0..2 {
            segments[number].view(&disk, &views).unwrap();
        }
        assert_eq!(segments.each_ref().map(|segment| mapped(&[segment])), expected);
    }
}

#[test]
fn a_segment_s_name_is_twenty_digits() {
    for base_offset in [0, 7, 1_000, u64::MAX] {
        assert_eq!(base_offset_of(&log_name(base_offset)), Some(base_offset));
    }
    for name in ["7.log", "000000000000000000007.log", "+0000000000000000007.log", "00000000000000000007.index"] {
        assert_eq!(base_offset_of(name), None, "{name}");
    }
    assert_eq!(base_offset_of("99999999999999999999.log"), None, "no offset is as large");
}
