//! What the fuzz targets in `fuzz/` call: any bytes in, and what must hold for all of them asserted.
//!
//! The first byte of an input is a mode, bits that say how the rest is dressed up: checksums that are
//! right again behind changed bytes, so that fuzzing gets past them, and the circumstances in which the
//! bytes are found. `cargo test` runs each function on the corpus under `fuzz/corpus/`. Nobody else
//! calls them; they are no part of the API.

#[cfg(feature = "sim")]
mod open;
#[cfg(feature = "sim")]
mod stamp;
#[cfg(feature = "sim")]
mod template;

use crate::format::{
    Attributes, BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, BatchKind, CatalogEntry, RecordWalk, Seed, check_records,
    crc,
};
use crate::ids::{EngineId, LogId, TopicId};

/// A batch in the first block of a file.
const POSITION: u64 = BLOCK_BYTES;

/// The batch's checksums are made right.
const STAMPED: u8 = 1;
/// The batch's length is made that of the bytes.
const FITTED: u8 = 2;

/// Bytes where a batch should stand: what passes the checks can be walked to its end.
pub fn batch_decode(input: &[u8]) {
    let Some((&mode, rest)) = input.split_first() else { return };
    let log = LogId { engine_id: EngineId([1; 16]), topic_id: TopicId(1), partition: 0 };
    let seed = Seed::new(&log, 1, 0);
    let mut bytes = rest.to_vec();
    if let Some((head, body)) = bytes.split_first_chunk_mut::<BATCH_HEADER_BYTES>() {
        let mut header = BatchHeader::read_draft(head);
        if mode & FITTED != 0 {
            header.length = (BATCH_HEADER_BYTES + body.len() / 8 * 8) as u32;
        }
        if mode & STAMPED != 0 {
            let end = (header.length as usize).saturating_sub(BATCH_HEADER_BYTES).min(body.len());
            header.body_crc = crc(&body[..end]);
            *head = header.encode(seed, POSITION);
        }
    }
    let Ok(header) = BatchHeader::decode(&bytes, seed, POSITION, bytes.len() as u64) else { return };
    assert_eq!(header.encode(seed, POSITION), bytes[..BATCH_HEADER_BYTES], "a decoded header encodes to the same bytes");
    let body = &bytes[BATCH_HEADER_BYTES..header.length as usize];
    if header.check_body(body).is_err() {
        return;
    }
    match header.attributes.kind() {
        Ok(BatchKind::Records) => walk_records(&header, body),
        Ok(BatchKind::Catalog) => walk_entries(body),
        _ => {}
    }
}

fn walk_records(header: &BatchHeader, body: &[u8]) {
    // Unchecked, the walk may end early, but it ends.
    let unchecked = RecordWalk::new(body, header.record_count).count();
    if check_records(header, body).is_err() {
        return;
    }
    assert_eq!(unchecked, header.record_count as usize, "a checked body walks to its end");
    let mut least = 0;
    for record in RecordWalk::new(body, header.record_count) {
        assert!((least..header.offset_count).contains(&record.offset_delta), "offsets rise within the batch");
        least = record.offset_delta + 1;
        for part in [record.key, record.value].into_iter().flatten().filter(|part| !part.is_empty()) {
            let place = part.as_ptr() as usize - body.as_ptr() as usize;
            assert!(place.is_multiple_of(8) && place + part.len() <= body.len(), "keys and values stand at multiples of 8");
        }
        for (name, value) in record.headers.iter() {
            std::hint::black_box((name, value));
        }
    }
}

fn walk_entries(body: &[u8]) {
    let Ok(entries) = CatalogEntry::decode_all(body) else { return };
    let mut again = Vec::new();
    for entry in &entries {
        entry.encode(&mut again);
    }
    assert_eq!(CatalogEntry::decode_all(&again), Ok(entries), "decoded entries encode to the same entries");
}

#[cfg(feature = "sim")]
pub use open::{catalog_open, segment_open};

#[cfg(test)]
mod tests {
    //! The committed corpus, file by file.
    use super::*;
    use std::path::Path;

    fn replay(target: &str, run: fn(&[u8])) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 3, "{} holds only {files:?}", dir.display());
        for file in files {
            println!("{}", file.display());
            run(&std::fs::read(&file).unwrap());
        }
    }

    #[test]
    fn corpus_of_batch_decode() {
        replay("batch_decode", batch_decode);
    }

    #[cfg(feature = "sim")]
    #[test]
    fn corpus_of_segment_open() {
        replay("segment_open", segment_open);
    }

    #[cfg(feature = "sim")]
    #[test]
    fn corpus_of_catalog_open() {
        replay("catalog_open", catalog_open);
    }
}
