//! Records in a batch's body: 16 bytes of header, then key, value and headers, each at a multiple of 8.
//!
//! A record has no total length: the walk must land exactly on the end of the body after the right
//! number of records, which checks the lengths for free.

use super::batch::BatchHeader;
use super::{FormatError, align8, bytes_at, invalid, newer, u32_at};

pub(crate) const RECORD_HEADER_BYTES: usize = 16;
pub(crate) const MAX_KEY_BYTES: u64 = (1 << 24) - 1;

const KEY_PRESENT: u32 = 1 << 24;
const VALUE_PRESENT: u32 = 1 << 25;
const HEADERS_PRESENT: u32 = 1 << 26;
const RESERVED: u32 = !((1 << 27) - 1);
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
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
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

/// Appends a record. The lengths are within the format's limits.
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
    let padding = bytes.len().wrapping_neg() & 7;
    into.extend_from_slice(&[0; 8][..padding]);
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

/// A record as it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordParts<'a> {
    pub(crate) timestamp_delta: i32,
    pub(crate) offset_delta: u32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
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
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.bytes;
        let mut left = self.count;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let (header, after) = next_header(rest)?;
            rest = after;
            Some(header)
        })
    }

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

/// Walks the records of a body.
#[derive(Clone, Debug)]
pub(crate) struct RecordWalk<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> RecordWalk<'a> {
    /// The caller has checked the body ([`check_records`]); on others the walk ends early.
    pub(crate) fn new(body: &'a [u8], record_count: u32) -> RecordWalk<'a> {
        RecordWalk { rest: body, left: record_count }
    }
}

impl<'a> Iterator for RecordWalk<'a> {
    type Item = RecordParts<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordParts<'a>> {
        self.left = self.left.checked_sub(1)?;
        let head: [u8; RECORD_HEADER_BYTES] = bytes_at(self.rest, 0)?;
        let [timestamp, offset, value_length, flags] = bytemuck::must_cast::<_, [u32; 4]>(head);
        let key_length = (flags & MAX_KEY_BYTES as u32) as usize;
        let value_length = value_length as usize;
        let value_at = RECORD_HEADER_BYTES + align8(key_length as u64) as usize;
        let end = value_at + align8(value_length as u64) as usize;
        let (record, mut rest) = self.rest.split_at_checked(end)?;
        let mut headers = HeaderSection::default();
        if flags & HEADERS_PRESENT != 0 {
            let section;
            (section, rest) = rest.split_at_checked(u32_at(rest, 0)? as usize)?;
            headers = HeaderSection { bytes: section.get(SECTION_HEAD_BYTES..)?, count: u32_at(section, 4)? };
        }
        self.rest = rest;
        Some(RecordParts {
            timestamp_delta: timestamp as i32,
            offset_delta: offset,
            key: (flags & KEY_PRESENT != 0).then(|| &record[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + key_length]),
            value: (flags & VALUE_PRESENT != 0).then(|| &record[value_at..value_at + value_length]),
            headers,
        })
    }
}

/// Walks a whole plain body once: after this, iterating it can't fail.
pub(crate) fn check_records(header: &BatchHeader, body: &[u8]) -> Result<(), FormatError> {
    if header.attributes.codec() != 0 {
        return Err(newer(format!("a batch compressed with codec {}", header.attributes.codec())));
    }
    let mut rest = body;
    let mut next_delta = 0;
    for _ in 0..header.record_count {
        let Some(head) = bytes_at::<RECORD_HEADER_BYTES>(rest, 0) else {
            return Err(invalid("the batch ends within a record"));
        };
        let [_, delta, value_length, flags] = bytemuck::must_cast::<_, [u32; 4]>(head);
        if flags & RESERVED != 0 {
            return Err(newer(format!("record flags {flags:#010x}")));
        }
        let key_length = flags & MAX_KEY_BYTES as u32;
        let absent = (flags & KEY_PRESENT == 0 && key_length != 0) || (flags & VALUE_PRESENT == 0 && value_length != 0);
        if absent || delta < next_delta || delta >= header.offset_count {
            return Err(invalid("a record's header doesn't fit its batch"));
        }
        next_delta = delta + 1;
        let length = RECORD_HEADER_BYTES as u64 + align8(u64::from(key_length)) + align8(u64::from(value_length));
        rest = rest.get(length as usize..).ok_or_else(|| invalid("the batch ends within a record"))?;
        if flags & HEADERS_PRESENT != 0 {
            rest = check_section(rest)?;
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(invalid("the batch goes on behind its last record")) }
}

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
    use crate::format::{Attributes, BATCH_HEADER_BYTES, BatchKind};

    type Owned = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

    fn header(count: u32, body: &[u8]) -> BatchHeader {
        BatchHeader {
            length: (BATCH_HEADER_BYTES + body.len()) as u32,
            body_crc: 0,
            base_offset: 0,
            durable_before: 0,
            offset_count: count,
            record_count: count,
            base_timestamp: 0,
            max_timestamp: 0,
            appended_ms: 0,
            producer_id: 0,
            base_sequence: 0,
            producer_epoch: 0,
            attributes: Attributes::new(BatchKind::Records),
            term: 0,
            epoch: 0,
            uncompressed_length: 0,
        }
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
        assert!(change(15, 2).is_err(), "key length without a key");
        assert!(matches!(change(15, 0x0b), Err(FormatError::Newer(_))), "reserved flag");
        let compressed = BatchHeader { attributes: Attributes(1), ..good };
        assert!(matches!(check_records(&compressed, &body), Err(FormatError::Newer(_))));
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
                for bytes in [parts.key, parts.value].into_iter().flatten() {
                    let at = bytes.as_ptr() as usize - body.as_ptr() as usize;
                    prop_assert_eq!(at % 8, 0);
                }
            }
        }

        #[test]
        fn any_bytes_are_walked_without_panic(body in proptest::collection::vec(any::<u8>(), 0..200), count in 0u32..9) {
            let checked = check_records(&header(count, &body), &body);
            let walked = RecordWalk::new(&body, count).fold(0, |count, parts| {
                let _ = parts.headers.iter().count();
                count + 1
            });
            if checked.is_ok() {
                prop_assert_eq!(walked, count);
            }
        }
    }
}
