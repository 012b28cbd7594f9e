//! The segment that `docs/FORMAT.md` shows byte for byte: built here, compared with the document.

use super::{
    BLOCK_BYTES, BatchHeader, BatchKind, FileHeader, FileKind, Previous, RawRecord, RecordWalk, check_records,
    encode_record,
};
use crate::ids::{EngineId, LogId, TopicId};

const DOCUMENT: &str = include_str!("../../docs/FORMAT.md");
/// What is shown of the header's block: up to the end of the topic's name.
const SHOWN_BYTES: usize = 176;

fn header() -> FileHeader {
    FileHeader {
        kind: FileKind::Segment,
        log: LogId {
            engine_id: EngineId(*b"\xe0\xe1\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xeb\xec\xed\xee\xef"),
            topic_id: TopicId(7),
            partition: 2,
        },
        epoch: 3,
        file_id: 0xf7f6_f5f4_f3f2_f1f0,
        base_offset: 1_000,
        created_ms: 1_700_000_000_000,
        term: 0,
        log_start_offset: 0,
        durable_before: 990,
        previous: Previous {
            file_id: 0xd7d6_d5d4_d3d2_d1d0,
            base_offset: 0,
            end_offset: 1_000,
            length: 65_320,
            appended_ms: 1_699_999_999_990,
            max_timestamp: 1_699_999_999_980,
        },
        rewrite: 0,
        rewritten_end_offset: 0,
        rewritten_length: 0,
        name: "orders".into(),
    }
}

/// Two records: key and value; key, null value and a header.
fn body() -> Vec<u8> {
    let mut body = Vec::new();
    encode_record(
        &mut body,
        &RawRecord { timestamp_delta: 0, offset_delta: 0, key: Some(b"AAPL"), value: Some(b"189.45"), headers: &[] },
    );
    let headers: [(&str, Option<&[u8]>); 1] = [("from", Some(b"NYSE"))];
    encode_record(
        &mut body,
        &RawRecord { timestamp_delta: 5, offset_delta: 1, key: Some(b"MSFT"), value: None, headers: &headers },
    );
    body
}

fn batch(body: &[u8]) -> BatchHeader {
    BatchHeader {
        base_offset: 1_000,
        durable_before: 1_000,
        offset_count: 2,
        record_count: 2,
        base_timestamp: 1_700_000_000_001,
        max_timestamp: 1_700_000_000_006,
        appended_ms: 1_700_000_000_007,
        epoch: 3,
        ..BatchHeader::of(BatchKind::Records, body)
    }
}

/// As `hexdump -C` prints them.
fn hex_dump(bytes: &[u8], at: usize, into: &mut String) {
    for (row, bytes) in bytes.chunks(16).enumerate() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
        let (left, right) = bytes.split_at(bytes.len().min(8));
        let text: String =
            bytes.iter().map(|&byte| if (0x20..0x7f).contains(&byte) { byte as char } else { '.' }).collect();
        into.push_str(&format!("{:08x}  {:<24} {:<24} |{text}|\n", at + row * 16, hex(left), hex(right)));
    }
}

fn dumped() -> String {
    let header = header();
    let body = body();
    let mut dumped = String::new();
    hex_dump(&header.encode()[..SHOWN_BYTES], 0, &mut dumped);
    dumped.push_str("*\n");
    let batch = [&batch(&body).encode(header.seed(), BLOCK_BYTES)[..], &body].concat();
    hex_dump(&batch, BLOCK_BYTES as usize, &mut dumped);
    dumped
}

#[test]
fn the_document_shows_these_bytes() {
    let (_, rest) = DOCUMENT.split_once("<!-- hex dump: begin -->\n```text\n").unwrap();
    let (shown, _) = rest.split_once("```\n<!-- hex dump: end -->").unwrap();
    assert!(shown == dumped(), "docs/FORMAT.md should show:\n{}", dumped());
}

#[test]
fn the_bytes_mean_what_the_document_says() {
    let header = header();
    assert_eq!(FileHeader::decode(&header.encode()), Ok(header.clone()));
    let body = body();
    let bytes = [&batch(&body).encode(header.seed(), BLOCK_BYTES)[..], &body].concat();
    let decoded = BatchHeader::decode(&bytes, header.seed(), BLOCK_BYTES, bytes.len() as u64).unwrap();
    assert_eq!(decoded, batch(&body));
    assert_eq!(decoded.check_body(&body).and_then(|()| check_records(&decoded, &body)), Ok(()));
    let records: Vec<_> = RecordWalk::new(&body, 2).collect();
    assert_eq!((records[0].key, records[0].value), (Some(&b"AAPL"[..]), Some(&b"189.45"[..])));
    assert_eq!((records[1].key, records[1].value), (Some(&b"MSFT"[..]), None));
    assert_eq!(records[1].headers.iter().collect::<Vec<_>>(), [("from", Some(&b"NYSE"[..]))]);
}
