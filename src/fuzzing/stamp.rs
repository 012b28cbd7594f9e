//! Right checksums on wrong bytes.

use crate::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, FILE_HEADER_BYTES, FileHeader, Seed, crc};

const BLOCK: usize = BLOCK_BYTES as usize;
/// Where the file header's checksum stands.
const HEADER_CRC: std::ops::Range<usize> = 12..16;
/// Where it says whose file it is: magic to topic id, engine id and file id. The epoch lies between.
const IDENTITY: [std::ops::Range<usize>; 2] = [0..28, 32..56];

/// A whole file from its header without the rest of the block, and batches.
pub(super) fn with_block(bytes: &[u8]) -> Vec<u8> {
    let (header, batches) = bytes.split_at(bytes.len().min(FILE_HEADER_BYTES));
    let mut file = header.to_vec();
    file.resize(BLOCK, 0);
    file.extend_from_slice(batches);
    file
}

/// Says in the file's header that it is the same file as `like`, with a right checksum.
pub(super) fn stamp_header(file: &mut [u8], like: &[u8]) {
    let Some(header) = file.first_chunk_mut::<FILE_HEADER_BYTES>() else { return };
    for range in IDENTITY {
        header[range.clone()].copy_from_slice(&like[range]);
    }
    let covered = [&header[..HEADER_CRC.start], &header[HEADER_CRC.end..]].concat();
    header[HEADER_CRC].copy_from_slice(&crc(&covered).to_le_bytes());
}

/// Gives every batch right checksums for its place, one behind the other by their lengths; a length
/// that can't be reaches to the end.
pub(super) fn stamp_batches(file: &mut [u8], like: &[u8]) {
    let Some(seed) = seed_of(file).or_else(|| seed_of(like)) else { return };
    let mut position = BLOCK;
    while let Some(rest) = file.get_mut(position..)
        && let whole = rest.len() / 8 * 8
        && let Some((head, body)) = rest[..whole].split_first_chunk_mut::<BATCH_HEADER_BYTES>()
    {
        let mut header = BatchHeader::read_draft(head);
        let length = header.length as usize;
        if length < BATCH_HEADER_BYTES || length > whole || !length.is_multiple_of(8) {
            header.length = whole as u32;
        }
        let length = header.length as usize;
        header.body_crc = crc(&body[..length - BATCH_HEADER_BYTES]);
        *head = header.encode(seed, position as u64);
        position += length;
    }
}

/// A file with one more batch behind its last: `header` makes it for a base offset and an epoch.
pub(super) fn with_batch(like: &[u8], body: &[u8], header: impl FnOnce(u64, u32) -> BatchHeader) -> Vec<u8> {
    let mut file = like.to_vec();
    file.truncate(like.iter().rposition(|&byte| byte != 0).map_or(0, |last| (last + 1).next_multiple_of(8)));
    let Ok(first) = FileHeader::decode(&file) else { return file };
    let (mut end_offset, mut epoch) = (first.base_offset, first.epoch);
    let mut position = BLOCK_BYTES;
    while let Ok(batch) = BatchHeader::decode(
        file.get(position as usize..).unwrap_or_default(),
        first.seed(),
        position,
        file.len() as u64 - position,
    ) {
        position += u64::from(batch.length);
        (end_offset, epoch) = (batch.end_offset(), batch.epoch);
    }
    file.truncate(position as usize);
    file.extend_from_slice(&header(end_offset, epoch).encode(first.seed(), position));
    file.extend_from_slice(body);
    file
}

fn seed_of(file: &[u8]) -> Option<Seed> {
    FileHeader::decode(file).ok().map(|header| header.seed())
}
