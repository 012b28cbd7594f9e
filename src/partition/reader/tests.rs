//! A place in a segment, over bytes that stand in memory: what is a batch there, how damage is stepped over, and
//! what is brought into memory first.

use std::io;
use std::ops::Range;

use super::*;
use crate::clock::SystemClock;
use crate::format::{RawRecord, encode_record, example_header};
use crate::lock::{Mutex, lock};
use crate::segment::Resident;

const HEADER: u64 = BATCH_HEADER_BYTES as u64;

/// Bytes, and what was asked of them.
#[derive(Debug, Default)]
struct Bytes {
    bytes: Vec<u8>,
    populated: Mutex<Vec<Range<u64>>>,
    /// A byte that can't be read.
    unreadable: Option<u64>,
}

impl View for Bytes {
    fn bytes(&self, range: Range<u64>) -> io::Result<&[u8]> {
        self.bytes.get(range.start as usize..range.end as usize).ok_or(io::ErrorKind::UnexpectedEof.into())
    }

    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        lock(&self.populated).push(range.clone());
        match self.unreadable {
            Some(at) if range.contains(&at) => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        }
    }
}

/// A segment's batches, one behind the other.
struct Batches {
    bytes: Vec<u8>,
    /// Where each begins.
    positions: Vec<u64>,
}

impl Batches {
    fn new() -> Batches {
        Batches { bytes: vec![0; BLOCK_BYTES as usize], positions: Vec::new() }
    }

    /// One that takes one offset, or none if it is a filler.
    fn add(&mut self, kind: BatchKind, body: &[u8]) {
        let (number, position) = (self.positions.len() as u64, self.end());
        let count = u32::from(kind != BatchKind::Filler);
        let header = BatchHeader {
            base_offset: 1_000 + number,
            offset_count: count,
            record_count: count,
            ..BatchHeader::of(kind, body)
        };
        self.positions.push(position);
        self.bytes.extend_from_slice(&header.encode(example_header().seed(), position));
        self.bytes.extend_from_slice(body);
    }

    fn end(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// At the beginning of this batch.
    fn at(&self, number: usize) -> At {
        at(Arc::new(Bytes { bytes: self.bytes.clone(), ..Bytes::default() }), self.positions[number])
    }
}

fn at(view: Arc<dyn View>, position: u64) -> At {
    let segment = Arc::new(Segment::empty("data/x.log".into(), example_header(), 1 << 30, 4096));
    let view = Mapped::new(view, 1 << 30, Arc::new(Resident::new(1 << 30, Arc::new(SystemClock))));
    At { segment, view, position, populated: 0, window: FIRST_BYTES }
}

#[test]
fn only_what_is_written_as_a_whole_is_a_batch() {
    let mut batches = Batches::new();
    batches.add(BatchKind::Records, &[0; 16]);
    batches.add(BatchKind::Filler, &[]);
    let end = batches.end();
    let is_batch = |number, published| batches.at(number).header(published).is_ok();
    assert!(is_batch(0, end) && is_batch(0, end - HEADER));
    assert!(!is_batch(0, end - HEADER - 8), "its body isn't published");
    assert!(is_batch(1, end), "a header may be the last there is");
    let error = batches.at(1).header(end - 1).unwrap_err();
    assert!(error.to_string().contains("the file ends within a batch header"), "{error}");
}

#[test]
fn records_are_walked_over_before_they_are_handed_out() {
    let mut batches = Batches::new();
    batches.add(BatchKind::Records, &[0; 16]);
    batches.add(BatchKind::Records, &[0xff; 16]);
    batches.add(BatchKind::Filler, &[0xff; 16]);
    let end = batches.end();
    let checked = |number: usize| {
        let mut at = batches.at(number);
        let header = at.header(end).unwrap();
        at.check_body(&header, end)
    };
    checked(0).unwrap();
    assert!(matches!(checked(1).unwrap_err().kind(), ErrorKind::Corrupt { .. }));
    checked(2).unwrap();
    batches.bytes[end as usize - 1] ^= 1;
    let mut at = batches.at(2);
    let header = at.header(end).unwrap();
    assert!(at.check_body(&header, end).is_err(), "another byte than was written");
}

#[test]
fn damage_before_an_offset_is_stepped_over_and_no_further() {
    let mut batches = Batches::new();
    for _ in 0..5 {
        batches.add(BatchKind::Records, &[0; 16]);
    }
    let (end, damaged) = (batches.end(), batches.positions[1] as usize);
    // What begins like a batch need not be one.
    let magic: [u8; 4] = batches.bytes[damaged..][..4].try_into().unwrap();
    for place in [16, 72] {
        batches.bytes[damaged + place..][..4].copy_from_slice(&magic);
    }
    let mut at = batches.at(1);
    assert!(at.header(end).is_err());
    assert!(!at.skip_damage(1_001, end).unwrap(), "it is the damage that was asked for");
    assert_eq!(at.position, batches.positions[1]);
    assert!(at.skip_damage(1_002, end).unwrap());
    assert_eq!(at.position, batches.positions[2]);
    let mut at = batches.at(1);
    assert!(at.skip_damage(1_004, end).unwrap());
    assert_eq!(at.position, batches.positions[2], "nothing whole is left out");
    let mut last = batches.at(4);
    assert!(!last.skip_damage(1_009, end).unwrap(), "nothing follows");
}

#[test]
fn damage_is_not_stepped_over_to_a_batch_that_is_not_written_as_a_whole() {
    let mut batches = Batches::new();
    for _ in 0..3 {
        batches.add(BatchKind::Records, &[0; 16]);
    }
    let end = batches.end();
    batches.bytes[batches.positions[1] as usize] ^= 1;
    for published in [end, end - 8, end - 16, end - 24] {
        let mut at = batches.at(1);
        let (goes_on, position) = (published == end, batches.positions[1 + usize::from(published == end)]);
        assert_eq!((at.skip_damage(1_009, published).unwrap(), at.position), (goes_on, position), "{published}");
    }
}

#[test]
fn looking_on_behind_damage_fills_no_more_than_the_window_it_looks_at() {
    let mut batches = Batches::new();
    for body in [&[][..], &[], &vec![0; 3 * WINDOW_BYTES as usize]] {
        batches.add(BatchKind::Filler, body);
    }
    let (damaged, end) = (batches.positions[0], batches.end());
    let view = Arc::new(Bytes { bytes: batches.bytes.clone(), ..Bytes::default() });
    assert!(at(view.clone(), damaged).skip_damage(1_009, end).unwrap());
    let filled: Vec<_> = lock(&view.populated).clone();
    assert_eq!(filled, std::slice::from_ref(&(0..damaged + 8 + WINDOW_BYTES)));
}

#[test]
fn the_batch_behind_long_damage_is_found_wherever_it_begins() {
    let body = vec![0; (WINDOW_BYTES + 8 - HEADER) as usize];
    // How much of its header the first look sees.
    for seen in [0, 8, 48, HEADER - 8, HEADER] {
        let mut batches = Batches::new();
        batches.add(BatchKind::Filler, &[]);
        batches.add(BatchKind::Filler, &body[seen as usize..]);
        batches.add(BatchKind::Filler, &[]);
        let (position, end) = (batches.positions[1], batches.end());
        batches.bytes[position as usize] ^= 1;
        let mut at = batches.at(1);
        assert!(at.skip_damage(1_002, end).unwrap(), "{seen}");
        assert_eq!(at.position, batches.positions[2]);
        assert_eq!(at.position, position + 8 + WINDOW_BYTES - seen);
    }
}

fn one(range: Range<u64>) -> Vec<Range<u64>> {
    vec![range]
}

#[test]
fn memory_is_filled_a_window_at_a_time_and_little_at_first() {
    let view = Arc::new(Bytes::default());
    let mut at = at(view.clone(), 10_000);
    let mut asked = |position, to| {
        at.position = position;
        at.populate(to, 64 << 20).unwrap();
        std::mem::take(&mut *lock(&view.populated))
    };
    // With the beginning of what is noted as one.
    let end = 8_192 + FIRST_BYTES;
    assert_eq!(asked(10_000, 10_096), one(0..end));
    assert_eq!(asked(end - 96, end), [], "it is there");
    let mut from = end;
    for window in [2 * FIRST_BYTES, 4 * FIRST_BYTES, 8 * FIRST_BYTES, 16 * FIRST_BYTES, WINDOW_BYTES, WINDOW_BYTES] {
        assert_eq!(asked(from - 88, from + 8), one(from..from + window));
        from += window;
    }
    // A batch that is longer than a window, with the page it ends in.
    assert_eq!(asked(8 << 20, (11 << 20) + 8), one(8 << 20..(11 << 20) + 8));
    assert_eq!(asked((11 << 20) + 8, (11 << 20) + 4_096), []);
    assert_eq!(asked((11 << 20) + 8, (11 << 20) + 4_104), one((11 << 20) + 4_096..(13 << 20) + 4_096));
    // No further than is written, and not at all where another reader was lately.
    let end = 64 << 20;
    assert_eq!(asked(end - 800, end - 704), one(end - 65_536..end));
    assert_eq!(asked(8 << 20, (8 << 20) + 8), []);
}

#[test]
fn a_page_that_cannot_be_read_keeps_nobody_from_what_lies_before_it() {
    let view = Arc::new(Bytes { unreadable: Some(16_384), ..Bytes::default() });
    let mut place = at(view.clone(), 4_096);
    place.populate(16_384, 64 << 20).unwrap();
    assert_eq!(place.populated, 16_384);
    let error = place.populate(16_385, 64 << 20).unwrap_err();
    assert_eq!((error.kind(), error.position()), (&ErrorKind::Io, Some(4_096)));
}

/// A batch of 4 KiB and more that was looked up isn't checked again within the second, by lookups; readers check each.
#[test]
fn a_lookup_relies_on_the_check_of_another_and_a_reader_does_not() {
    let body = |bytes| {
        let mut body = Vec::new();
        let value = Some(&[7; 8_192][..bytes]);
        encode_record(&mut body, &RawRecord { timestamp_delta: 0, offset_delta: 0, key: None, value, headers: &[] });
        body
    };
    for (bytes, is_remembered) in [(8_000, true), (4_096 - 96 - 16, true), (4_096 - 96 - 24, false)] {
        let mut batches = Batches::new();
        batches.add(BatchKind::Records, &body(bytes));
        let end = batches.end();
        let good = Arc::new(Bytes { bytes: batches.bytes.clone(), ..Bytes::default() });
        let mut place = at(good, batches.positions[0]);
        let header = place.header(end).unwrap();
        place.check_once(&header, end).unwrap();
        assert_eq!(place.view.checked(place.position).is_some(), is_remembered, "{bytes}");

        batches.bytes[end as usize - 1] ^= 1;
        let mut place = batches.at(0);
        assert!(place.check_once(&header, end).is_err(), "what is damaged isn't remembered");
        assert!(place.check_once(&header, end).is_err());
        place.view.note_checked(place.position, Places::default());
        place.check_once(&header, end).unwrap();
        assert!(place.check_body(&header, end).is_err());
    }
}
