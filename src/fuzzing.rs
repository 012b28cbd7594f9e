//! What the fuzz targets in `fuzz/` call: any bytes in, and what must hold for all of them asserted.
//!
//! The first byte of an input is a mode, bits that say how the rest is dressed up: checksums that are
//! right again behind changed bytes, so that fuzzing gets past them, and the circumstances in which the
//! bytes are found. `cargo test` runs each function on the corpus under `fuzz/corpus/`. Nobody else
//! calls them; they are no part of the API.

#[cfg(feature = "sim")]
mod offsets;
#[cfg(feature = "sim")]
mod open;
#[cfg(all(test, feature = "sim"))]
mod seeds;
#[cfg(feature = "sim")]
mod stamp;
#[cfg(feature = "sim")]
mod template;

use crate::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, BatchKind, CatalogEntry, RecordWalk, Seed, check_records, crc,
};
use crate::ids::{EngineId, LogId, TopicId};

#[cfg(feature = "sim")]
pub use offsets::offsets_open;
#[cfg(feature = "sim")]
pub use open::{catalog_open, segment_open};

/// A batch in the first block of a file.
const POSITION: u64 = BLOCK_BYTES;

/// The batch's checksums are made right.
const STAMPED: u8 = 1;
/// The batch's length is made that of the bytes.
const FITTED: u8 = 2;

/// Bytes where a batch should stand: what passes the checks can be walked to its end.
pub fn batch_decode(input: &[u8]) {
    let Some((&mode, rest)) = input.split_first() else { return };
    let seed = identity();
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
    assert_eq!(
        header.encode(seed, POSITION),
        bytes[..BATCH_HEADER_BYTES],
        "a decoded header encodes to the same bytes"
    );
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
            assert!(
                place.is_multiple_of(8) && place + part.len() <= body.len(),
                "keys and values stand at multiples of 8"
            );
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

/// The file that the batch stands in.
fn identity() -> Seed {
    Seed::new(&LogId { engine_id: EngineId([1; 16]), topic_id: TopicId(1), partition: 0 }, 1, 0)
}

/// A plain header for `body`.
#[cfg(feature = "sim")]
fn batch(kind: BatchKind, base_offset: u64, epoch: u32, count: u32, body: &[u8]) -> BatchHeader {
    BatchHeader { base_offset, offset_count: count, record_count: count, epoch, ..BatchHeader::of(kind, body) }
}

#[cfg(test)]
mod tests {
    //! The committed corpus, file by file.
    use super::*;
    use std::path::{Path, PathBuf};

    fn corpus() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
    }

    fn replay(target: &str, run: fn(&[u8])) {
        let dir = corpus().join(target);
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

    #[cfg(feature = "sim")]
    #[test]
    fn corpus_of_offsets_open() {
        replay("offsets_open", offsets_open);
    }

    #[cfg(feature = "sim")]
    #[test]
    fn seeds_are_those_of_this_format() {
        for (target, name, bytes) in seeds::all() {
            let path = corpus().join(target).join(name);
            if std::env::var_os("THALWEG_WRITE_SEEDS").is_some() {
                std::fs::create_dir_all(corpus().join(target)).unwrap();
                std::fs::write(&path, &bytes).unwrap();
            }
            assert!(std::fs::read(&path).unwrap() == bytes, "{} isn't what the format gives today", path.display());
        }
    }
}
