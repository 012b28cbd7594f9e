//! The first inputs of each target: small files of every kind, made from the format itself.
//!
//! They are committed, and a test holds them against what is made here. After a change of the format,
//! `THALWEG_WRITE_SEEDS=1 cargo test --all-features fuzzing` writes them anew.

use super::open::{ALONE, COMPACT, CRASHED, ENTRIES, READ_ONLY, STAMPED_BATCHES, STAMPED_HEADER};
use super::template::{CATALOG, SEGMENT, Template};
use super::{FITTED, POSITION, STAMPED, batch, identity};
use crate::config::TopicConfig;
use crate::format::{
    BLOCK_BYTES, BatchKind, CatalogEntry, FILE_HEADER_BYTES, Mark, RawRecord, crc, encode_record, record_bytes,
};
use crate::ids::TopicId;

/// (target, name, bytes)
pub(super) fn all() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, mode, kind, body, count) in [
        ("records", 0, BatchKind::Records, records(), 3),
        ("records-stamped", STAMPED | FITTED, BatchKind::Records, records(), 3),
        ("entries", 0, BatchKind::Catalog, entries(), 6),
        ("entries-stamped", STAMPED | FITTED, BatchKind::Catalog, entries(), 6),
        ("filler", STAMPED, BatchKind::Filler, vec![0; 32], 0),
    ] {
        let header = batch(kind, 0, 1, count, &body);
        let head = header.encode(identity(), POSITION);
        seeds.push(("batch_decode", name, [&[mode], &head[..], &body].concat()));
    }

    let segment = compact(Template::get().file(SEGMENT));
    let stamped = COMPACT | STAMPED_HEADER | STAMPED_BATCHES;
    for (name, mode, bytes) in [
        ("whole", COMPACT, segment.clone()),
        ("stamped", stamped, segment.clone()),
        ("stamped-crashed", stamped | CRASHED, segment.clone()),
        ("stamped-crashed-alone", stamped | CRASHED | ALONE, segment.clone()),
        ("stamped-read-only", stamped | READ_ONLY, segment.clone()),
        ("torn", COMPACT | CRASHED | ALONE, segment[..segment.len() - 24].to_vec()),
        ("damaged", COMPACT, flipped(&segment, FILE_HEADER_BYTES + 130)),
        ("damaged-header", COMPACT | ALONE, flipped(&segment, 60)),
    ] {
        seeds.push(("segment_open", name, [&[mode], &bytes[..]].concat()));
    }

    let catalog = compact(Template::get().file(CATALOG));
    for (name, mode, bytes) in [
        ("whole", COMPACT, catalog.clone()),
        ("stamped", stamped, catalog.clone()),
        ("stamped-alone", stamped | ALONE, catalog.clone()),
        ("stamped-read-only", stamped | READ_ONLY, catalog.clone()),
        ("torn", COMPACT, catalog[..catalog.len() - 8].to_vec()),
        ("damaged", COMPACT, flipped(&catalog, FILE_HEADER_BYTES + 130)),
        ("entries", ENTRIES, entries()),
    ] {
        seeds.push(("catalog_open", name, [&[mode], &bytes[..]].concat()));
    }
    seeds.extend(super::offsets::seeds().into_iter().map(|(name, bytes)| ("offsets_open", name, bytes)));
    seeds
}

/// Without the zeros behind the header and behind the last batch.
pub(super) fn compact(file: &[u8]) -> Vec<u8> {
    let end = file.iter().rposition(|&byte| byte != 0).unwrap_or_default() + 1;
    [&file[..FILE_HEADER_BYTES], &file[BLOCK_BYTES as usize..end.next_multiple_of(8)]].concat()
}

pub(super) fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x10;
    bytes
}

fn records() -> Vec<u8> {
    let mut body = Vec::new();
    let headers = [("name", Some(&b"value"[..])), ("null", None)];
    for (offset_delta, key, value, headers) in [
        (0, Some(&b"key"[..]), Some(&b"a value of some bytes"[..]), &headers[..]),
        (1, Some(&b"key"[..]), None, &[]),
        (2, None, Some(&b""[..]), &[]),
    ] {
        let before = body.len() as u64;
        encode_record(&mut body, &RawRecord { timestamp_delta: 5, offset_delta, key, value, headers });
        let bytes = record_bytes(key.map(<[u8]>::len), value.map(<[u8]>::len), headers);
        assert_eq!(body.len() as u64 - before, bytes);
    }
    body
}

/// One entry of each kind but the engine's, which stands first in any catalogue.
fn entries() -> Vec<u8> {
    let topic_id = TopicId(2);
    let mark = Mark { epoch: 9, log_start_offset: 0, durable_offset: 0, segment_base_offset: 0, position: BLOCK_BYTES };
    let config = TopicConfig::default().segment_bytes(64 << 10).to_text();
    let mut body = Vec::new();
    for entry in [
        CatalogEntry::Epoch { epoch: 9 },
        CatalogEntry::Topic { topic_id, name: "u".into(), partitions: 2, created_ms: 1, config },
        CatalogEntry::Expanded { topic_id, partitions: 3, end_offsets: vec![0, 0] },
        CatalogEntry::Mark { topic_id, partition: 1, mark },
        CatalogEntry::Truncated { topic_id, partition: 1, offset: 0, epoch: 9 },
        CatalogEntry::Deleted { topic_id },
    ] {
        entry.encode(&mut body);
    }
    assert_ne!(crc(&body), 0);
    body
}
