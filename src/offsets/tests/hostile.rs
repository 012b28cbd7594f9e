//! D8 at the log: bytes with right checksums and wrong contents. Opening ends, doesn't panic, takes no
//! more memory than a small multiple of the file, and says what is wrong.

use proptest::prelude::*;

use super::*;
use crate::format::{BLOCK_BYTES, BatchHeader, BatchKind, FileHeader, OffsetEntry, OffsetEntryKind};
use crate::offsets::state::blank;

/// A file of these bodies, each with its count of entries.
fn file(bodies: &[(Vec<u8>, u32)]) -> Vec<u8> {
    let disk = new_disk();
    open(&disk, 1).commit("a", 1, &[new(0, 1)], 1).unwrap();
    let mut bytes = disk.read_file("data/offsets-1").unwrap();
    bytes.truncate(BLOCK_BYTES as usize);
    let header = FileHeader::decode(&bytes).unwrap();
    let mut base_offset = 0;
    for (body, count) in bodies {
        let position = bytes.len() as u64;
        let batch = BatchHeader {
            base_offset,
            durable_before: base_offset,
            offset_count: *count,
            record_count: *count,
            appended_ms: 5,
            epoch: 1,
            ..BatchHeader::of(BatchKind::Offsets, body)
        };
        bytes.extend_from_slice(&batch.encode(header.seed(), position));
        bytes.extend_from_slice(body);
        base_offset += u64::from(*count);
    }
    bytes
}

fn body(entries: &[OffsetEntry<'_>]) -> (Vec<u8>, u32) {
    let mut body = Vec::new();
    let count = entries.iter().map(|entry| entry.encode(&mut body)).sum();
    (body, count)
}

fn name(number: u32, name: &'static str) -> OffsetEntry<'static> {
    OffsetEntry { payload: name.as_bytes(), ..blank(OffsetEntryKind::Group, number) }
}

fn commit(number: u32, partition: u32) -> OffsetEntry<'static> {
    OffsetEntry { topic_id: TopicId(1), partition, offset: 3, ..blank(OffsetEntryKind::Commit, number) }
}

fn open_bytes(bytes: &[u8]) -> Result<Offsets> {
    let disk = new_disk();
    disk.write_file("data/offsets-1", bytes).unwrap();
    open_as(&disk, 9, Access::Write).map(|(offsets, _)| offsets)
}

#[test]
fn entries_that_contradict_each_other_are_damage_and_the_others_count() {
    let state = |more, payload| OffsetEntry { more, payload, ..blank(OffsetEntryKind::GroupState, 1) };
    let bad: Vec<Vec<OffsetEntry<'_>>> = vec![
        vec![commit(2, 0)],
        vec![OffsetEntry { offset: 1 << 63, ..commit(1, 0) }],
        vec![OffsetEntry { topic_id: TopicId(0), ..commit(1, 0) }],
        vec![name(1, "again")],
        vec![name(0, "zero")],
        vec![name(2, "")],
        vec![OffsetEntry { payload: &[0xff], ..name(2, "") }],
        vec![OffsetEntry { payload: &[b'x'; 250], ..name(2, "") }],
        vec![state(false, &[1, 0, 0, 0, 9, 0, 0, 0])],
        vec![state(true, &[1, 0, 9, 0, 1, 0, 0, 0]), state(false, b"assign")],
        vec![OffsetEntry { more: true, ..commit(1, 0) }, commit(1, 1)],
        vec![OffsetEntry { offset: u64::MAX, ..blank(OffsetEntryKind::GroupEmpty, 1) }],
        vec![blank(OffsetEntryKind::Delete, 7)],
    ];
    for entries in bad {
        let (good, end) = (body(&[name(1, "a"), commit(1, 4)]), body(&[commit(1, 5)]));
        let bytes = file(&[good.clone(), body(&entries), end.clone(), end.clone()]);
        let offsets = open_bytes(&bytes).unwrap();
        let damage = offsets.damage().unwrap_or_else(|| panic!("{entries:?} went unseen"));
        assert_eq!(damage.error.position(), Some(BLOCK_BYTES + 96 + good.0.len() as u64), "{entries:?}");
        assert!(matches!(damage.error.kind(), ErrorKind::Corrupt { .. }));
        let view = view(&offsets);
        assert!(view["a"].commit(TopicId(1), 4).is_some() && view["a"].commit(TopicId(1), 5).is_some(), "{entries:?}");
        assert_eq!(damage.groups, ["a"]);
        // Checksums that fit and another count of entries.
        let (bytes, count) = good;
        let offsets = open_bytes(&file(&[(bytes, count + 1), end.clone(), end.clone()])).unwrap();
        assert!(offsets.damage().is_some());
    }
    // Two groups of one name: the first keeps it.
    let twice = body(&[name(1, "a"), commit(1, 0), name(2, "a")]);
    let offsets = open_bytes(&file(&[twice, body(&[commit(1, 1)])])).unwrap();
    assert_eq!(offsets.damage().unwrap().error.position(), Some(BLOCK_BYTES));
    assert_eq!(view(&offsets)["a"].commits.len(), 2);
}

/// What can't be, alone in its batch: from there on the file is damaged.
fn bad() -> OffsetEntry<'static> {
    OffsetEntry { offset: 1 << 63, ..commit(1, 0) }
}

/// Opens a file of a group "a" with a commit for partition 4, these batches, and a last commit for partition 5.
fn open_between(batches: &[&[OffsetEntry<'_>]]) -> Offsets {
    let between = batches.iter().map(|entries| body(entries));
    let bodies: Vec<_> =
        [body(&[name(1, "a"), commit(1, 4)])].into_iter().chain(between).chain([body(&[commit(1, 5)])]).collect();
    let offsets = open_bytes(&file(&bodies)).unwrap();
    let view = view(&offsets);
    assert!(view["a"].commit(TopicId(1), 4).is_some() && view["a"].commit(TopicId(1), 5).is_some());
    offsets
}

#[test]
fn names_may_be_lost_where_a_bad_batch_has_room_for_one() {
    let names_lost = |batches: &[&[OffsetEntry<'_>]]| open_between(batches).damage().unwrap().names_lost;
    // A name never stands alone.
    assert!(!names_lost(&[&[bad()]]));
    assert!(names_lost(&[&[bad(), commit(1, 1)]]));
    // Where the next name is the next number's, none was lost.
    assert!(!names_lost(&[&[bad(), commit(1, 1)], &[name(2, "b"), commit(2, 0)]]));
    assert!(names_lost(&[&[bad(), commit(1, 1)], &[name(3, "c"), commit(3, 0)]]));
    // What is said of a group that isn't known is said of one whose name is lost, until it is deleted.
    for entry in [blank(OffsetEntryKind::GroupEmpty, 2), commit(2, 0)] {
        assert!(names_lost(&[&[bad()], &[entry]]), "{entry:?}");
        assert!(!names_lost(&[&[bad()], &[entry], &[blank(OffsetEntryKind::Delete, 2)]]), "{entry:?}");
    }
}

#[test]
fn a_name_that_a_group_has_already_takes_nothing_from_it() {
    // A new number's is another group; see `groups_are_named_if_their_newest_commit_may_be_lost`.
    let offsets = open_between(&[&[bad()], &[name(1, "a"), commit(1, 6)]]);
    assert!(view(&offsets)["a"].commit(TopicId(1), 6).is_some());
}

#[test]
fn a_payload_that_breaks_off_is_not_gone_on_with_in_the_next_batch() {
    let state = |more, payload| OffsetEntry { more, payload, ..blank(OffsetEntryKind::GroupState, 1) };
    let mut whole = Vec::new();
    snapshot(2).encode(&mut whole).unwrap();
    let offsets = open_between(&[&[state(true, b"a piece."), commit(1, 1)], &[state(false, &whole)]]);
    assert_eq!(view(&offsets)["a"].state.as_ref().unwrap().snapshot, snapshot(2));
}

#[test]
fn what_a_later_version_writes_is_no_damage() {
    let decision = blank(OffsetEntryKind::TransactionDecision, 1);
    let layout = OffsetEntry { payload: &[2, 0, 0, 0, 0, 0, 0, 0], ..blank(OffsetEntryKind::GroupState, 1) };
    for entry in [decision, layout] {
        let good = body(&[name(1, "a"), commit(1, 4)]);
        for bodies in [vec![good.clone(), body(&[entry])], vec![good.clone(), body(&[commit(5, 5)]), body(&[entry])]] {
            let error = open_bytes(&file(&bodies)).map(|_| ()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NewerFormat { .. }), "{error}");
        }
    }
}

/// Entries of any kind about few groups, with any payload.
fn entries() -> impl Strategy<Value = Vec<(u8, u8, u32, u64, u32, Vec<u8>)>> {
    let payload = prop_oneof![
        Just(b"a".to_vec()),
        Just(b"b".to_vec()),
        Just(vec![1, 0, 0, 0, 0, 0, 0, 0]),
        proptest::collection::vec(any::<u8>(), 0..50)
    ];
    let offset = prop_oneof![0..9_u64, any::<u64>()];
    proptest::collection::vec(
        (1..8_u8, prop_oneof![8 => Just(0_u8), 1 => 0..8_u8], 0..5_u32, offset, 0..4_u32, payload),
        0..12,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: more(200, 20_000) as u32, ..ProptestConfig::default() })]

    #[test]
    fn any_entries_are_opened_without_panic_and_twice_the_same(
        batches in proptest::collection::vec((entries(), 0..3_u32), 1..5),
        cut in proptest::option::of(any::<u16>()),
    ) {
        let bodies: Vec<_> = batches.iter().map(|(entries, off)| {
            let mut body = Vec::new();
            for (kind, flags, group, offset, topic, payload) in entries {
                body.extend_from_slice(&offset.to_le_bytes());
                for number in [*topic, 1, *group, 1, 1] {
                    body.extend_from_slice(&number.to_le_bytes());
                }
                body.extend_from_slice(&(payload.len() as u16).to_le_bytes());
                body.extend_from_slice(&[*kind, *flags]);
                body.extend_from_slice(payload);
                body.resize(body.len().next_multiple_of(8), 0);
            }
            (body, (entries.len() as u32).max(1) + off / 2)
        }).collect();
        let mut bytes = file(&bodies);
        if let Some(cut) = cut {
            let at = usize::from(cut) % bytes.len();
            bytes[at] ^= 1;
        }
        let (one, two) = (open_bytes(&bytes), open_bytes(&bytes));
        prop_assert_eq!(one.is_ok(), two.is_ok());
        if let (Ok(one), Ok(two)) = (one, two) {
            prop_assert_eq!(view(&one), view(&two));
            prop_assert_eq!(one.damage().map(|damage| damage.groups), two.damage().map(|damage| damage.groups));
            if one.damage().is_none() {
                let ticket = one.commit("a", 1, &[new(0, 1)], 1).unwrap();
                one.sync_to(ticket).unwrap();
                prop_assert_eq!(one.with(|state| state.live_bytes()), one.with(encoded_bytes));
            }
        }
    }
}

#[test]
fn headers_at_every_step_do_not_make_it_slow() {
    // Each claims a batch that reaches to the file's end, which doesn't fit its checksum.
    let mut bytes = file(&[body(&[name(1, "a"), commit(1, 4)])]);
    let header = FileHeader::decode(&bytes).unwrap();
    let length = 2 << 20;
    while bytes.len() < length {
        let position = bytes.len() as u64;
        let batch = BatchHeader {
            length: (length as u64 - position).max(96) as u32 & !7,
            body_crc: 1,
            base_offset: 9,
            durable_before: 9,
            offset_count: 1,
            record_count: 1,
            appended_ms: 5,
            epoch: 1,
            ..BatchHeader::of(BatchKind::Offsets, &[])
        };
        bytes.extend_from_slice(&batch.encode(header.seed(), position));
    }
    let offsets = open_bytes(&bytes).unwrap();
    assert!(offsets.damage().is_some() && view(&offsets).contains_key("a"));
}
