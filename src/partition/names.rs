//! Which names in a partition's directory are ours: what has another name was put there by somebody else, and is
//! never removed.

use super::aside::SET_ASIDE;
use super::recovery::REPAIR_INFIX;
use super::writer::{NEXT_NAME, PREPARED_NAME};
use crate::disk::{Entry, EntryKind};
use crate::segment::base_offset_of;

/// Whether the engine or a repair makes files of this name in a partition's directory.
pub(crate) fn is_own_file(name: &str) -> bool {
    let of_segment = |stem: &str| base_offset_of(&format!("{stem}.log")).is_some();
    base_offset_of(name).is_some()
        || [".index", ".index.tmp"].iter().any(|end| name.strip_suffix(end).is_some_and(of_segment))
        || [NEXT_NAME, PREPARED_NAME].contains(&name)
        || name.split_once(REPAIR_INFIX).is_some_and(|(stem, random)| of_segment(stem) && is_hex(random))
        || is_aside_name(name)
}

/// Whether it was set aside where there was no room for the directory.
pub(super) fn is_own_aside(entry: &Entry) -> bool {
    entry.kind == EntryKind::File && is_aside_name(&entry.name)
}

fn is_aside_name(name: &str) -> bool {
    name.strip_prefix(SET_ASIDE).and_then(|rest| rest.strip_prefix('-')).is_some_and(is_set_aside)
}

/// Whether files that were set aside have such names: another one's, and the file's id.
pub(crate) fn is_set_aside(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(before, id)| !before.is_empty() && is_hex(id))
}

fn is_hex(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours() {
        for name in [
            "00000000000000000007.log",
            "00000000000000000007.index",
            "00000000000000000007.index.tmp",
            "next.tmp",
            "prepared.tmp",
            "00000000000000000007.log.repair-0123456789abcdef",
            "set-aside-00000000000000000007.log.0123456789abcdef",
        ] {
            assert!(is_own_file(name), "{name}");
        }
        for name in [
            "7.log",
            "letter.txt",
            "letter.log",
            "letter.index",
            "letter.index.tmp",
            "other.tmp",
            "letter.log.repair-0123456789abcdef",
            "00000000000000000007.log.repair-mine",
            "set-aside",
            "set-aside-letter",
            "00000000000000000007.log.bak",
        ] {
            assert!(!is_own_file(name), "{name}");
        }
        assert!(is_set_aside("00000000000000000007.log.0123456789abcdef"));
        assert!(!is_set_aside("letter.txt") && !is_set_aside(".0123456789abcdef"));
    }
}
