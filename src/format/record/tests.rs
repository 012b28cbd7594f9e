//! Records encoded, checked and walked: what was written comes back, and no other bytes pass the check.

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
    let deltas: Vec<_> = RecordWalk::new(&body, 3).map(|parts| (parts.timestamp_delta, parts.offset_delta)).collect();
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
        encode_record(&mut body, &RawRecord { timestamp_delta: 0, offset_delta, key: None, value: None, headers: &[] });
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
