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
mod tests;
