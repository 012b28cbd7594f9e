//! Records in a batch's body: 16 bytes of header, then key, value and headers, each at a multiple of 8.
//!
//! A record has no total length: the walk must land exactly on the end of the body after the right
//! number of records, which checks the lengths for free.

use super::batch::BatchHeader;
use super::{FormatError, align8, bytes_at, invalid, newer, u32_at};

/// A record's header, before its key.
const RECORD_HEADER_BYTES: usize = 16;
/// The longest key: its length has 24 bits.
pub(crate) const MAX_KEY_BYTES: u64 = (1 << 24) - 1;

/// Flags in the word of the key's length; a part that is absent has length 0.
const KEY_PRESENT: u32 = 1 << 24;
const VALUE_PRESENT: u32 = 1 << 25;
const HEADERS_PRESENT: u32 = 1 << 26;
/// Set by no version so far.
const RESERVED: u32 = !((1 << 27) - 1);
/// The length of a header's value that is null.
const NULL_LENGTH: u32 = u32::MAX;
/// Bytes of a headers section before its first header: its length and the count.
const SECTION_HEAD_BYTES: usize = 8;

/// A record as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawRecord<'a> {
    /// To the batch's base timestamp.
    pub(crate) timestamp_delta: i32,
    /// To the batch's base offset.
    pub(crate) offset_delta: u32,
    /// `None` is null, which is not the same as empty.
    pub(crate) key: Option<&'a [u8]>,
    /// `None` is null, which is not the same as empty.
    pub(crate) value: Option<&'a [u8]>,
    /// Name and value of each, in order.
    pub(crate) headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Bytes a record takes in a batch: a multiple of 8.
#[inline]
pub(crate) fn record_bytes(key: Option<usize>, value: Option<usize>, headers: &[(&str, Option<&[u8]>)]) -> u64 {
    let length = |part: Option<usize>| align8(part.unwrap_or(0) as u64);
    let section = if headers.is_empty() { 0 } else { section_bytes(headers) };
    RECORD_HEADER_BYTES as u64 + length(key) + length(value) + section
}

#[cold]
fn section_bytes(headers: &[(&str, Option<&[u8]>)]) -> u64 {
    let one = |(name, value): &(&str, Option<&[u8]>)| 8 + name.len() as u64 + value.map_or(0, <[u8]>::len) as u64;
    align8(SECTION_HEAD_BYTES as u64 + headers.iter().map(one).sum::<u64>())
}

/// Appends a record to a body. The caller has compared the lengths with the limits: a key has at
/// most [`MAX_KEY_BYTES`], and the batch with it at most 2^30 bytes.
///
/// If `into` has room for [`record_bytes`] more, nothing is allocated.
#[inline]
pub(crate) fn encode_record(into: &mut Vec<u8>, record: &RawRecord<'_>) {
    let mut flags = 0;
    if let Some(key) = record.key {
        flags |= KEY_PRESENT | key.len() as u32;
    }
    if record.value.is_some() {
        flags |= VALUE_PRESENT;
    }
    if !record.headers.is_empty() {
        flags |= HEADERS_PRESENT;
    }
    let value = record.value.unwrap_or(&[]);
    let mut head = [0; RECORD_HEADER_BYTES];
    head[0..4].copy_from_slice(&record.timestamp_delta.to_le_bytes());
    head[4..8].copy_from_slice(&record.offset_delta.to_le_bytes());
    head[8..12].copy_from_slice(&(value.len() as u32).to_le_bytes());
    head[12..16].copy_from_slice(&flags.to_le_bytes());
    into.extend_from_slice(&head);
    if let Some(key) = record.key {
        put_padded(into, key);
    }
    put_padded(into, value);
    if !record.headers.is_empty() {
        encode_headers(into, record.headers);
    }
}

#[inline]
fn put_padded(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend_from_slice(bytes);
    let end = into.len() + (bytes.len().wrapping_neg() & 7);
    // One store of fixed size is quicker than a copy of 0 to 7 bytes, but must not make a full buffer grow.
    if into.capacity() - into.len() >= 8 {
        into.extend_from_slice(&[0; 8]);
        into.truncate(end);
    } else {
        into.resize(end, 0);
    }
}

#[cold]
fn encode_headers(into: &mut Vec<u8>, headers: &[(&str, Option<&[u8]>)]) {
    let end = into.len() + section_bytes(headers) as usize;
    into.extend_from_slice(&(section_bytes(headers) as u32).to_le_bytes());
    into.extend_from_slice(&(headers.len() as u32).to_le_bytes());
    for (name, value) in headers {
        into.extend_from_slice(&(name.len() as u32).to_le_bytes());
        into.extend_from_slice(&value.map_or(NULL_LENGTH, |value| value.len() as u32).to_le_bytes());
        into.extend_from_slice(name.as_bytes());
        into.extend_from_slice(value.unwrap_or(&[]));
    }
    into.resize(end, 0);
}

/// A record as it is read. Key and value begin at a multiple of 8 of the body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordParts<'a> {
    /// To the batch's base timestamp.
    pub(crate) timestamp_delta: i32,
    /// To the batch's base offset.
    pub(crate) offset_delta: u32,
    /// `None` is null, which is not the same as empty.
    pub(crate) key: Option<&'a [u8]>,
    /// `None` is null, which is not the same as empty.
    pub(crate) value: Option<&'a [u8]>,
    /// Empty if there are none.
    pub(crate) headers: HeaderSection<'a>,
}

/// A record's headers: the bytes behind the section's head, and how many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeaderSection<'a> {
    bytes: &'a [u8],
    count: u32,
}

impl<'a> HeaderSection<'a> {
    /// Name and value of each, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let mut rest = self.bytes;
        let mut left = self.count;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let (header, after) = next_header(rest)?;
            rest = after;
            Some(header)
        })
    }

    /// Every header is there, and nothing but padding behind the last.
    fn check(&self) -> Result<(), FormatError> {
        let mut rest = self.bytes;
        for _ in 0..self.count {
            let Some((_, after)) = next_header(rest) else { return Err(invalid("a record's headers don't fit")) };
            rest = after;
        }
        if rest.len() < 8 { Ok(()) } else { Err(invalid("a record's headers end early")) }
    }
}

/// Name and value of a header.
type Header<'a> = (&'a str, Option<&'a [u8]>);

/// The first header of a section's bytes, and what follows it.
fn next_header(bytes: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let name_length = u32_at(bytes, 0)? as usize;
    let value_length = u32_at(bytes, 4)?;
    let (name, rest) = bytes.get(8..)?.split_at_checked(name_length)?;
    let name = std::str::from_utf8(name).ok()?;
    if value_length == NULL_LENGTH {
        return Some(((name, None), rest));
    }
    let (value, rest) = rest.split_at_checked(value_length as usize)?;
    Some(((name, Some(value)), rest))
}

/// Where the parts of a record lie, as its two lengths and its flags say.
///
/// Neighbouring records mostly have the same lengths and flags. A walk compares that one word and keeps the shape: then
/// the next record's place does not depend on what was just read, so the processor reads several headers at once.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// The length of the value, and behind it the length of the key with the flags.
    word: u64,
    key_end: usize,
    value_at: usize,
    value_end: usize,
    /// The end of the padding behind the value.
    end: usize,
}

impl Shape {
    #[inline]
    fn new(word: u64) -> Shape {
        let key_length = word >> 32 & MAX_KEY_BYTES;
        let value_at = RECORD_HEADER_BYTES as u64 + align8(key_length);
        let value_length = word & u64::from(u32::MAX);
        Shape {
            word,
            key_end: RECORD_HEADER_BYTES + key_length as usize,
            value_at: value_at as usize,
            value_end: (value_at + value_length) as usize,
            end: (value_at + align8(value_length)) as usize,
        }
    }

    /// Flags, with the key's length.
    #[inline]
    fn flags(&self) -> u32 {
        (self.word >> 32) as u32
    }

    #[inline]
    fn key<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        let key = record.get(RECORD_HEADER_BYTES..self.key_end)?;
        (self.flags() & KEY_PRESENT != 0).then_some(key)
    }

    #[inline]
    fn value<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        let value = record.get(self.value_at..self.value_end)?;
        (self.flags() & VALUE_PRESENT != 0).then_some(value)
    }

    /// Absent parts have no length, and no reserved flag is set.
    fn check(&self) -> Result<(), FormatError> {
        let flags = self.flags();
        if flags & RESERVED != 0 {
            return Err(newer(format!("record flags {flags:#010x}")));
        }
        let key_absent = flags & KEY_PRESENT == 0 && self.key_end != RECORD_HEADER_BYTES;
        let value_absent = flags & VALUE_PRESENT == 0 && self.value_end != self.value_at;
        if key_absent || value_absent { Err(invalid("a record's header doesn't fit its batch")) } else { Ok(()) }
    }
}

/// A record's header: the two deltas, and the word of its [`Shape`].
#[inline]
fn split_head(bytes: &[u8]) -> Option<(i32, u32, u64)> {
    let [timestamp, offset, value_length, flags] = bytemuck::must_cast::<_, [u32; 4]>(bytes_at::<16>(bytes, 0)?);
    Some((timestamp as i32, offset, u64::from(flags) << 32 | u64::from(value_length)))
}

/// Walks the records of a plain body.
#[derive(Clone, Debug)]
pub(crate) struct RecordWalk<'a> {
    rest: &'a [u8],
    left: u32,
    /// Of the last record.
    shape: Shape,
}

impl<'a> RecordWalk<'a> {
    /// The caller has checked the body ([`check_records`]); on others the walk ends early.
    pub(crate) fn new(body: &'a [u8], record_count: u32) -> RecordWalk<'a> {
        RecordWalk { rest: body, left: record_count, shape: Shape::new(0) }
    }
}

impl<'a> Iterator for RecordWalk<'a> {
    type Item = RecordParts<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordParts<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (timestamp_delta, offset_delta, word) = split_head(self.rest)?;
        if word != self.shape.word {
            self.shape = Shape::new(word);
        }
        let shape = self.shape;
        let (record, mut rest) = self.rest.split_at_checked(shape.end)?;
        let mut headers = HeaderSection::default();
        if shape.flags() & HEADERS_PRESENT != 0 {
            let section;
            (section, rest) = rest.split_at_checked(u32_at(rest, 0)? as usize)?;
            headers = HeaderSection { bytes: section.get(SECTION_HEAD_BYTES..)?, count: u32_at(section, 4)? };
        }
        self.rest = rest;
        let (key, value) = (shape.key(record), shape.value(record));
        Some(RecordParts { timestamp_delta, offset_delta, key, value, headers })
    }
}

/// Where some records of a batch begin in its body, evenly spread: a lookup begins at the nearest before its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// Records from one place to the next; 0 if there are no places.
    step: u32,
    at: [u32; PLACES],
}

/// Enough that a lookup in a batch of 64 KiB walks over 2 KiB on average.
const PLACES: usize = 16;

impl Places {
    /// Of a checked body. Where offsets were left out, a record's number doesn't follow from its offset: no places.
    pub(crate) fn of(header: &BatchHeader, body: &[u8]) -> Places {
        let mut places = Places::default();
        if header.record_count != header.offset_count {
            return places;
        }
        places.step = header.record_count.div_ceil(PLACES as u32);
        let mut walk = RecordWalk::new(body, header.record_count);
        for place in &mut places.at {
            *place = (body.len() - walk.rest.len()) as u32;
            walk.by_ref().take(places.step as usize).for_each(drop);
        }
        places
    }

    /// A place at or before the record with this delta.
    fn before(&self, offset_delta: u32) -> usize {
        let number = offset_delta.checked_div(self.step).unwrap_or(0) as usize;
        self.at[number.min(PLACES - 1)] as usize
    }
}

/// Where the record with this delta begins in a checked body, if it is there.
pub(crate) fn find_record(body: &[u8], offset_delta: u32, places: &Places) -> Option<usize> {
    let mut walk = RecordWalk::new(body.get(places.before(offset_delta)..)?, u32::MAX);
    loop {
        let at = body.len() - walk.rest.len();
        let found = walk.next()?.offset_delta;
        if found >= offset_delta {
            return (found == offset_delta).then_some(at);
        }
    }
}

/// Walks a whole plain body once: after this, [`RecordWalk`] yields every record.
///
/// Lengths must land exactly on the end after `record_count` records, whose `offset_delta` rises
/// strictly below `offset_count`; header sections must parse. Padding is not looked at.
///
/// # Errors
/// [`FormatError::Newer`] for a reserved flag or a compressed body, else [`FormatError::Invalid`].
pub(crate) fn check_records(header: &BatchHeader, body: &[u8]) -> Result<(), FormatError> {
    if header.attributes.codec() != 0 {
        return Err(newer(format!("a batch compressed with codec {}", header.attributes.codec())));
    }
    let short = || invalid("the batch ends within a record");
    let mut rest = body;
    let mut next_delta = 0;
    let mut shape = Shape::new(0);
    for _ in 0..header.record_count {
        let (_, delta, word) = split_head(rest).ok_or_else(short)?;
        if word != shape.word {
            shape = Shape::new(word);
            if rest.len() < shape.end {
                return Err(short());
            }
            shape.check()?;
        }
        (_, rest) = rest.split_at_checked(shape.end).ok_or_else(short)?;
        if (delta < next_delta) | (delta >= header.offset_count) {
            return Err(invalid("a record's header doesn't fit its batch"));
        }
        next_delta = delta + 1;
        if shape.flags() & HEADERS_PRESENT != 0 {
            rest = check_section(rest)?;
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(invalid("the batch goes on behind its last record")) }
}

/// Checks the headers section that `bytes` begin with; returns what is behind it.
#[cold]
fn check_section(bytes: &[u8]) -> Result<&[u8], FormatError> {
    let short = || invalid("the batch ends within a record's headers");
    let length = u32_at(bytes, 0).ok_or_else(short)? as usize;
    let count = u32_at(bytes, 4).ok_or_else(short)?;
    if length < SECTION_HEAD_BYTES || !length.is_multiple_of(8) {
        return Err(invalid(format!("a headers section of {length} bytes can't be")));
    }
    let (section, rest) = bytes.split_at_checked(length).ok_or_else(short)?;
    HeaderSection { bytes: &section[SECTION_HEAD_BYTES..], count }.check()?;
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::{Attributes, BatchKind};

    type Owned = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

    fn header(count: u32, body: &[u8]) -> BatchHeader {
        BatchHeader { offset_count: count, record_count: count, ..BatchHeader::of(BatchKind::Records, body) }
    }

    fn encode(records: &[Owned]) -> Vec<u8> {
        let mut body = Vec::new();
        for (delta, (key, value, headers)) in records.iter().enumerate() {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            let before = body.len() as u64;
            let bytes = record_bytes(key.as_ref().map(Vec::len), value.as_ref().map(Vec::len), &headers);
            let (key, value) = (key.as_deref(), value.as_deref());
            encode_record(
                &mut body,
                &RawRecord { timestamp_delta: -3, offset_delta: delta as u32, key, value, headers: &headers },
            );
            assert_eq!(body.len() as u64 - before, bytes);
        }
        body
    }

    fn decode(body: &[u8], count: u32) -> Vec<Owned> {
        RecordWalk::new(body, count)
            .map(|parts| {
                let headers = parts.headers.iter().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
                (parts.key.map(<[u8]>::to_vec), parts.value.map(<[u8]>::to_vec), headers.collect())
            })
            .collect()
    }

    #[test]
    fn null_and_empty_are_four_different_things() {
        let parts = [None, Some(vec![])];
        let records: Vec<Owned> =
            parts.iter().flat_map(|key| parts.iter().map(|value| (key.clone(), value.clone(), vec![]))).collect();
        let body = encode(&records);
        assert_eq!(body.len(), 4 * 16);
        assert_eq!(decode(&body, 4), records);
    }

    #[test]
    fn layout() {
        let body = encode(&[(Some(b"AAPL!".to_vec()), Some(b"189.45".to_vec()), vec![("h".into(), None)])]);
        let expected: Vec<u8> = [
            &[0xfd, 0xff, 0xff, 0xff, 0, 0, 0, 0, 6, 0, 0, 0, 5, 0, 0, 7][..],
            b"AAPL!\0\0\0",
            b"189.45\0\0",
            &[24, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, b'h', 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(body, expected);
        let hundred = encode(&[(None, Some(vec![1; 100]), vec![])]);
        assert_eq!(hundred.len(), 120);
    }

    #[test]
    fn wrong_bodies_are_refused() {
        let body = encode(&[(Some(vec![1; 9]), Some(vec![2; 9]), vec![]), (None, Some(vec![3; 9]), vec![])]);
        let good = header(2, &body);
        assert_eq!(check_records(&good, &body), Ok(()));
        for cut in 0..body.len() {
            assert!(check_records(&good, &body[..cut]).is_err(), "cut at {cut}");
        }
        assert!(check_records(&header(1, &body), &body).is_err(), "one record too many");
        assert!(check_records(&header(3, &body), &body).is_err(), "one record too few");
        let change = |at: usize, byte: u8| {
            let mut body = body.clone();
            body[at] = byte;
            check_records(&good, &body)
        };
        assert!(change(4, 1).is_err(), "deltas don't rise");
        assert!(change(8, 200).is_err(), "value too long");
        let mut wild = body.clone();
        wild[8..16].fill(0xff);
        assert!(matches!(check_records(&good, &wild), Err(FormatError::Invalid(_))), "lengths come before flags");
        assert!(change(15, 2).is_err(), "key length without a key");
        assert!(change(15, 1).is_err(), "value length without a value");
        assert!(matches!(change(15, 0x0b), Err(FormatError::Newer(_))), "reserved flag");
        let compressed = BatchHeader { attributes: Attributes(1), ..good };
        assert!(matches!(check_records(&compressed, &body), Err(FormatError::Newer(_))));
    }

    /// How many records the walk yields, headers and all.
    fn walked(body: &[u8], count: u32) -> u32 {
        let mut records = 0;
        for parts in RecordWalk::new(body, count) {
            records += 1;
            assert!(parts.headers.iter().count() <= body.len());
        }
        records
    }

    fn part() -> impl Strategy<Value = Option<Vec<u8>>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40))
    }

    fn record() -> impl Strategy<Value = Owned> {
        (part(), part(), proptest::collection::vec((".{0,5}", part()), 0..4))
    }

    proptest! {
        #[test]
        fn records_round_trip(records in proptest::collection::vec(record(), 1..20)) {
            let body = encode(&records);
            let count = records.len() as u32;
            prop_assert_eq!(check_records(&header(count, &body), &body), Ok(()));
            prop_assert_eq!(decode(&body, count), records);
            for parts in RecordWalk::new(&body, count) {
                let section = (!parts.headers.bytes.is_empty()).then_some(parts.headers.bytes);
                for bytes in [parts.key, parts.value, section].into_iter().flatten() {
                    let at = bytes.as_ptr() as usize - body.as_ptr() as usize;
                    prop_assert_eq!(at % 8, 0);
                }
            }
        }

        #[test]
        fn any_lengths_are_walked_without_panic(
            words in proptest::collection::vec((0_u32..40, 0_u8..8, 0_u8..20), 0..12),
            tail in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut body = Vec::new();
            for (at, &(value_length, flags, key_length)) in words.iter().enumerate() {
                body.extend_from_slice(&[0; 4]);
                body.extend_from_slice(&(at as u32).to_le_bytes());
                body.extend_from_slice(&value_length.to_le_bytes());
                body.extend_from_slice(&[key_length, 0, 0, flags]);
                body.resize(body.len() + align8(value_length.into()) as usize, 8);
            }
            body.extend_from_slice(&tail);
            let count = words.len() as u32;
            let checked = check_records(&header(count, &body), &body);
            let walked = walked(&body, count);
            if checked.is_ok() {
                prop_assert_eq!(walked, count);
            }
        }

        #[test]
        fn any_bytes_are_walked_without_panic(body in proptest::collection::vec(any::<u8>(), 0..200), count in 0u32..9) {
            let checked = check_records(&header(count, &body), &body);
            let walked = walked(&body, count);
            if checked.is_ok() {
                prop_assert_eq!(walked, count);
            }
        }
    }

    #[test]
    fn nothing_is_allocated_where_there_is_room() {
        let parts = |length: usize| (0..length).map(|at| at as u8 | 1).collect::<Vec<u8>>();
        for (key, value) in (0..24).flat_map(|key| (0..24).map(move |value| (key, value))) {
            let (key, value) = (parts(key), parts(value));
            let bytes = record_bytes(Some(key.len()), Some(value.len()), &[]) as usize;
            for room in [0, 1, 7, 8, 9, 64] {
                let mut body = Vec::with_capacity(bytes + room);
                let before = (body.capacity(), body.as_ptr());
                let (key, value) = (Some(&key[..]), Some(&value[..]));
                encode_record(&mut body, &RawRecord { timestamp_delta: 0, offset_delta: 0, key, value, headers: &[] });
                assert_eq!((body.capacity(), body.as_ptr()), before);
                assert_eq!(body.len(), bytes);
                assert_eq!(decode(&body, 1), [(key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec), vec![])]);
            }
        }
    }

    #[test]
    fn gaps_that_compaction_leaves_are_walked() {
        let mut body = Vec::new();
        for offset_delta in [2, 3, 9] {
            let record = RawRecord { timestamp_delta: i32::MIN, offset_delta, key: None, value: None, headers: &[] };
            encode_record(&mut body, &record);
        }
        let compacted = BatchHeader { offset_count: 10, ..header(3, &body) };
        assert_eq!(check_records(&compacted, &body), Ok(()));
        let deltas: Vec<_> =
            RecordWalk::new(&body, 3).map(|parts| (parts.timestamp_delta, parts.offset_delta)).collect();
        assert_eq!(deltas, [(i32::MIN, 2), (i32::MIN, 3), (i32::MIN, 9)]);
        let too_few = BatchHeader { offset_count: 9, ..compacted };
        assert!(matches!(check_records(&too_few, &body), Err(FormatError::Invalid(_))));
        assert_eq!(check_records(&BatchHeader { record_count: 0, ..compacted }, &[]), Ok(()));
    }

    /// Batches of 1 to 100 records, each looked for from the batch's places, and what isn't there.
    #[test]
    fn a_record_is_found_by_its_offset_from_the_nearest_place() {
        for count in 1..100_u32 {
            let records: Vec<Owned> =
                (0..count).map(|number| (None, Some(vec![1; number as usize * 7 % 40]), vec![])).collect();
            let body = encode(&records);
            let header = header(count, &body);
            let places = Places::of(&header, &body);
            let begins = |number: u32| encode(&records[..number as usize]).len();
            for number in 0..count {
                assert_eq!(find_record(&body, number, &places), Some(begins(number)), "{number} of {count}");
                let before = places.before(number);
                let walked = (0..=number).rev().position(|earlier| begins(earlier) == before).unwrap();
                assert!(walked < count.div_ceil(16) as usize, "{walked} records on the way to {number} of {count}");
            }
            assert_eq!(find_record(&body, count, &places), None);
        }
    }

    #[test]
    fn a_record_is_found_where_offsets_were_left_out() {
        let mut body = Vec::new();
        for offset_delta in [2, 3, 9] {
            encode_record(
                &mut body,
                &RawRecord { timestamp_delta: 0, offset_delta, key: None, value: None, headers: &[] },
            );
        }
        let compacted = BatchHeader { offset_count: 10, ..header(3, &body) };
        let places = Places::of(&compacted, &body);
        assert_eq!(places, Places::default());
        let found: Vec<_> = (0..11).map(|delta| find_record(&body, delta, &places)).collect();
        let mut expected = [None; 11];
        (expected[2], expected[3], expected[9]) = (Some(0), Some(16), Some(32));
        assert_eq!(found, expected);
    }

    #[test]
    fn wrong_headers_are_refused() {
        let headers = vec![("name".to_owned(), Some(b"value".to_vec())), ("n".to_owned(), None)];
        let body = encode(&[(None, Some(vec![1; 8]), headers)]);
        let good = header(1, &body);
        assert_eq!(check_records(&good, &body), Ok(()));
        for cut in 0..body.len() {
            assert!(check_records(&good, &body[..cut]).is_err(), "cut at {cut}");
        }
        // The section begins at 24: its length, its count, then the first header's two lengths and its name.
        for (at, number) in
            [(24, 0), (24, 4), (24, 12), (24, 4_096), (28, 1), (28, 3), (28, u32::MAX), (32, 4_096), (36, 4_096)]
        {
            let mut body = body.clone();
            body[at..at + 4].copy_from_slice(&u32::to_le_bytes(number));
            assert!(matches!(check_records(&good, &body), Err(FormatError::Invalid(_))), "{number} at {at}");
        }
        // Whole headers in a section that doesn't end at a multiple of 8.
        let mut odd = vec![0; 16];
        odd[15] = 4;
        odd.extend_from_slice(&[20, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, b'h', 0, 0, 0]);
        assert!(matches!(check_records(&header(1, &odd), &odd), Err(FormatError::Invalid(_))));
        let mut not_text = body.clone();
        not_text[40] = 0xff;
        assert!(matches!(check_records(&good, &not_text), Err(FormatError::Invalid(_))));
        for bit in 27..32 {
            let mut body = body.clone();
            body[12 + bit / 8] |= 1 << (bit % 8);
            assert!(matches!(check_records(&good, &body), Err(FormatError::Newer(_))), "flag {bit}");
        }
    }

    #[test]
    fn the_longest_key_has_16_mib_less_1() {
        let key = vec![5; MAX_KEY_BYTES as usize];
        let mut body = Vec::new();
        encode_record(
            &mut body,
            &RawRecord { timestamp_delta: 0, offset_delta: 0, key: Some(&key), value: Some(b"v"), headers: &[] },
        );
        assert_eq!(body.len() as u64, 16 + (1 << 24) + 8);
        assert_eq!(check_records(&header(1, &body), &body), Ok(()));
        let parts = RecordWalk::new(&body, 1).next().unwrap();
        assert_eq!((parts.key, parts.value), (Some(&key[..]), Some(&b"v"[..])));
    }
}
