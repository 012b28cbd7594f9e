//! What records hold: a salt and the offset decide length and bytes, so nothing of them is stored.
//!
//! Each 64 bytes carry a mark, by which a page that holds records is known on the disk.

/// Stands at a multiple of eight bytes in each page with records: the engine puts values there.
const MARK: [u8; 8] = *b"\xf3thalweg";

/// The value at `offset` of the log with this salt.
pub(crate) fn make(salt: u64, offset: u64) -> Vec<u8> {
    let bytes = length(salt, offset);
    let mut value: Vec<u8> = words(salt, offset).take(bytes.div_ceil(8)).flatten().collect();
    value.truncate(bytes);
    value
}

/// Whether a record's value is the one of this offset.
pub(crate) fn is(value: Option<&[u8]>, salt: u64, offset: u64) -> bool {
    value.is_some_and(|value| {
        value.len() == length(salt, offset)
            && value.chunks(8).zip(words(salt, offset)).all(|(found, word)| *found == word[..found.len()])
    })
}

/// Whether this page of the disk holds a part of some record.
pub(crate) fn is_marked(page: &[u8]) -> bool {
    page.chunks_exact(8).any(|word| word == MARK)
}

/// Mostly small, some of several pages.
fn length(salt: u64, offset: u64) -> usize {
    let drawn = mix(salt ^ mix(offset));
    let length = match drawn % 16 {
        0 => 4_000 + (drawn >> 8) % 9_000,
        1..=5 => 600 + (drawn >> 8) % 2_000,
        _ => 16 + (drawn >> 8) % 300,
    };
    length as usize
}

fn words(salt: u64, offset: u64) -> impl Iterator<Item = [u8; 8]> {
    let start = mix(salt.wrapping_add(mix(offset)));
    (0u64..).map(move |at| if at % 8 == 1 { MARK } else { mix(start ^ at).to_le_bytes() })
}

fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    word ^ (word >> 32)
}
