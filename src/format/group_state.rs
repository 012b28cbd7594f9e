//! What an entry of kind *group state* holds: a group's members, what each of them reads, and which
//! assignor decided it.
//!
//! Plain data of the moment of writing; generation, epoch and time stand in the entry itself. The
//! state's name (empty, preparing, stable) isn't stored: it follows from what is.

use super::{FormatError, bytes_at, invalid, newer, u32_at};
use crate::ids::TopicId;

/// The only layout there is so far.
const LAYOUT: u16 = 1;
/// Layout, length of the assignor's name, count of members.
const HEAD_BYTES: usize = 8;
/// Lengths and counts before a member's contents.
const MEMBER_BYTES: usize = 16;
/// The length that says that a member has no instance id.
const NONE: u16 = u16::MAX;
/// The longest name or id.
const NAME_BYTES_MAX: usize = 249;

/// A group that has members.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct GroupSnapshot {
    /// The name of the assignor that they agree on.
    pub(crate) assignor: String,
    pub(crate) members: Vec<MemberSnapshot>,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct MemberSnapshot {
    pub(crate) id: String,
    /// Of a member that keeps its place over a restart.
    pub(crate) instance_id: Option<String>,
    /// Subscribed topics.
    pub(crate) topics: Vec<TopicId>,
    /// Partitions that it holds.
    pub(crate) partitions: Vec<(TopicId, u32)>,
    /// Partitions that are to be its own and are still in another's hands.
    pub(crate) awaited: Vec<(TopicId, u32)>,
}

impl GroupSnapshot {
    /// Appends the snapshot's bytes.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] for an empty id, and for a name or id of more than 249 bytes; what was
    /// appended until then means nothing.
    pub(crate) fn encode(&self, into: &mut Vec<u8>) -> Result<(), FormatError> {
        if self.assignor.len() > NAME_BYTES_MAX {
            return Err(invalid(format!("an assignor's name of {} bytes", self.assignor.len())));
        }
        into.extend_from_slice(&LAYOUT.to_le_bytes());
        into.extend_from_slice(&(self.assignor.len() as u16).to_le_bytes());
        into.extend_from_slice(&(self.members.len() as u32).to_le_bytes());
        into.extend_from_slice(self.assignor.as_bytes());
        self.members.iter().try_for_each(|member| member.encode(into))
    }

    /// Reads what [`encode`](GroupSnapshot::encode) wrote.
    ///
    /// # Errors
    /// [`FormatError::Newer`] for a layout that this version doesn't know, else [`FormatError::Invalid`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<GroupSnapshot, FormatError> {
        let Some(&[layout_0, layout_1, length_0, length_1, ..]) = bytes.first_chunk::<HEAD_BYTES>() else {
            return Err(invalid(format!("a group's state in {} bytes", bytes.len())));
        };
        let layout = u16::from_le_bytes([layout_0, layout_1]);
        if layout != LAYOUT {
            return Err(newer(format!("group state of layout {layout}")));
        }
        let count = u32_at(bytes, 4).unwrap_or(0) as usize;
        let mut rest = &bytes[HEAD_BYTES..];
        let assignor = take_text(&mut rest, usize::from(u16::from_le_bytes([length_0, length_1])))?;
        // Each member has an id of a byte at least.
        if count > rest.len() / (MEMBER_BYTES + 1) {
            return Err(invalid(format!("{count} members of a group in {} bytes", rest.len())));
        }
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            members.push(MemberSnapshot::decode(&mut rest)?);
        }
        if !rest.is_empty() {
            return Err(invalid(format!("{} bytes behind a group's state", rest.len())));
        }
        Ok(GroupSnapshot { assignor, members })
    }
}

impl MemberSnapshot {
    fn encode(&self, into: &mut Vec<u8>) -> Result<(), FormatError> {
        let instance_id = self.instance_id.as_deref();
        for id in [Some(self.id.as_str()), instance_id].into_iter().flatten() {
            if id.is_empty() || id.len() > NAME_BYTES_MAX {
                return Err(invalid(format!("a member's id of {} bytes", id.len())));
            }
        }
        let instance_length = instance_id.map_or(NONE, |id| id.len() as u16);
        into.extend_from_slice(&(self.id.len() as u16).to_le_bytes());
        into.extend_from_slice(&instance_length.to_le_bytes());
        for count in [self.topics.len(), self.partitions.len(), self.awaited.len()] {
            into.extend_from_slice(&(count as u32).to_le_bytes());
        }
        into.extend_from_slice(self.id.as_bytes());
        into.extend_from_slice(instance_id.unwrap_or_default().as_bytes());
        self.topics.iter().for_each(|topic| into.extend_from_slice(&topic.0.to_le_bytes()));
        for (topic, partition) in self.partitions.iter().chain(&self.awaited) {
            into.extend_from_slice(&topic.0.to_le_bytes());
            into.extend_from_slice(&partition.to_le_bytes());
        }
        Ok(())
    }

    /// Takes one member off `rest`.
    fn decode(rest: &mut &[u8]) -> Result<MemberSnapshot, FormatError> {
        let head = take(rest, MEMBER_BYTES)?;
        let length = |at: usize| bytes_at(head, at).map_or(0, u16::from_le_bytes);
        let count = |at: usize| u32_at(head, at).unwrap_or(0) as usize;
        let (id_length, instance_length) = (length(0), length(2));
        if id_length == 0 || instance_length == 0 {
            return Err(invalid("a member's id is empty"));
        }
        let id = take_text(rest, usize::from(id_length))?;
        let instance_id = match instance_length {
            NONE => None,
            length => Some(take_text(rest, usize::from(length))?),
        };
        let topics = take_each(rest, count(4), |bytes: [u8; 4]| TopicId(u32::from_le_bytes(bytes)))?;
        let partitions = take_each(rest, count(8), topic_partition)?;
        let awaited = take_each(rest, count(12), topic_partition)?;
        Ok(MemberSnapshot { id, instance_id, topics, partitions, awaited })
    }
}

fn topic_partition([a, b, c, d, e, f, g, h]: [u8; 8]) -> (TopicId, u32) {
    (TopicId(u32::from_le_bytes([a, b, c, d])), u32::from_le_bytes([e, f, g, h]))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], FormatError> {
    let Some((taken, after)) = rest.split_at_checked(length) else {
        return Err(invalid(format!("{length} bytes of a group's state, {} are left", rest.len())));
    };
    *rest = after;
    Ok(taken)
}

fn take_text(rest: &mut &[u8], length: usize) -> Result<String, FormatError> {
    if length > NAME_BYTES_MAX {
        return Err(invalid(format!("a name of {length} bytes in a group's state")));
    }
    let text = std::str::from_utf8(take(rest, length)?);
    text.map(str::to_owned).map_err(|_| invalid("a name in a group's state isn't UTF-8"))
}

/// `count` things of `N` bytes each; memory is asked for once the bytes are known to be there.
fn take_each<T, const N: usize>(
    rest: &mut &[u8],
    count: usize,
    each: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, FormatError> {
    let bytes = take(rest, count.saturating_mul(N))?;
    Ok(bytes.as_chunks().0.iter().map(|&chunk| each(chunk)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::unhex;

    fn snapshot() -> GroupSnapshot {
        let a = MemberSnapshot {
            id: "a".into(),
            instance_id: Some("i1".into()),
            topics: vec![TopicId(1)],
            partitions: vec![(TopicId(1), 0)],
            awaited: vec![(TopicId(1), 2)],
        };
        let b = MemberSnapshot { id: "b".into(), ..MemberSnapshot::default() };
        GroupSnapshot { assignor: "range".into(), members: vec![a, b] }
    }

    fn encoded(snapshot: &GroupSnapshot) -> Vec<u8> {
        let mut bytes = Vec::new();
        snapshot.encode(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn layout() {
        let expected = unhex(
            "0100 0500 02000000 72616e6765
             0100 0200 01000000 01000000 01000000 61 6931 01000000 0100000000000000 0100000002000000
             0100 ffff 00000000 00000000 00000000 62",
        );
        assert_eq!(encoded(&snapshot()), expected);
        assert_eq!(GroupSnapshot::decode(&expected), Ok(snapshot()));
        assert_eq!(encoded(&GroupSnapshot::default()), unhex("0100 0000 00000000"));
    }

    #[test]
    fn cut_or_longer_it_is_refused() {
        let bytes = encoded(&snapshot());
        for cut in 0..bytes.len() {
            assert!(matches!(GroupSnapshot::decode(&bytes[..cut]), Err(FormatError::Invalid(_))), "cut at {cut}");
        }
        assert!(GroupSnapshot::decode(&[&bytes[..], &[0]].concat()).is_err());
        let mut bytes = bytes;
        bytes[0] = 2;
        assert!(matches!(GroupSnapshot::decode(&bytes), Err(FormatError::Newer(_))));
    }

    #[test]
    fn names_have_bounds_both_ways() {
        for (id, fits) in [("".to_owned(), false), ("x".repeat(249), true), ("x".repeat(250), false)] {
            for instance in [false, true] {
                let mut snapshot = snapshot();
                let member = &mut snapshot.members[0];
                if instance {
                    member.instance_id = Some(id.clone())
                } else {
                    member.id.clone_from(&id)
                }
                let mut bytes = Vec::new();
                assert_eq!(snapshot.encode(&mut bytes).is_ok(), fits, "{id:?}");
                assert!(!fits || GroupSnapshot::decode(&bytes) == Ok(snapshot));
            }
        }
        let mut bytes = encoded(&snapshot());
        bytes[13] = 0;
        assert_eq!(GroupSnapshot::decode(&bytes), Err(invalid("a member's id is empty")));
        let mut bytes = encoded(&snapshot());
        bytes[29] = 0xff;
        assert_eq!(GroupSnapshot::decode(&bytes), Err(invalid("a name in a group's state isn't UTF-8")));
        let long = GroupSnapshot { assignor: "x".repeat(250), members: Vec::new() };
        assert!(long.encode(&mut Vec::new()).is_err());
    }

    #[test]
    fn counts_that_the_bytes_can_not_hold_are_refused_before_memory_is_asked_for() {
        for at in [4, 17, 21, 25] {
            let mut bytes = encoded(&snapshot());
            bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            assert!(matches!(GroupSnapshot::decode(&bytes), Err(FormatError::Invalid(_))), "count at {at}");
        }
    }

    fn members() -> impl Strategy<Value = Vec<MemberSnapshot>> {
        let partitions = || proptest::collection::vec((any::<u32>().prop_map(TopicId), any::<u32>()), 0..9);
        let topics = proptest::collection::vec(any::<u32>().prop_map(TopicId), 0..9);
        let member = (".{1,30}", proptest::option::of(".{1,30}"), topics, partitions(), partitions());
        let member = member.prop_map(|(id, instance_id, topics, partitions, awaited)| MemberSnapshot {
            id,
            instance_id,
            topics,
            partitions,
            awaited,
        });
        proptest::collection::vec(member, 0..6)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(assignor in ".{0,30}", members in members()) {
            let snapshot = GroupSnapshot { assignor, members };
            prop_assert_eq!(GroupSnapshot::decode(&encoded(&snapshot)), Ok(snapshot));
        }

        #[test]
        fn any_bytes_are_decoded_without_panic(
            members in members(), flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4),
        ) {
            let mut bytes = encoded(&GroupSnapshot { assignor: "sticky".into(), members });
            for (at, byte) in flips {
                let at = usize::from(at) % bytes.len();
                bytes[at] = byte;
            }
            if let Ok(snapshot) = GroupSnapshot::decode(&bytes) {
                prop_assert_eq!(encoded(&snapshot), bytes);
            }
        }
    }
}
