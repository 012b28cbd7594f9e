//! In the place of the engine's `format`: batches of which the models look at the offsets only.

pub(crate) const BATCH_HEADER_BYTES: usize = 16;
pub(crate) const MAX_KEY_BYTES: u64 = 1 << 24;
pub(crate) const MAX_OFFSET: u64 = u64::MAX / 2;

pub(crate) enum BatchKind {
    Records,
}

#[derive(Debug)]
pub(crate) struct Attributes;

impl Attributes {
    pub(crate) fn new(_kind: BatchKind) -> Attributes {
        Attributes
    }
}

/// With all that the engine sets.
#[derive(Debug)]
#[allow(dead_code)]
pub(crate) struct BatchHeader {
    pub(crate) length: u32,
    pub(crate) body_crc: u32,
    pub(crate) base_offset: u64,
    pub(crate) durable_before: u64,
    pub(crate) offset_count: u32,
    pub(crate) record_count: u32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) appended_ms: i64,
    pub(crate) producer_id: u64,
    pub(crate) base_sequence: u32,
    pub(crate) producer_epoch: u16,
    pub(crate) attributes: Attributes,
    pub(crate) term: u64,
    pub(crate) epoch: u32,
    pub(crate) uncompressed_length: u32,
}

impl BatchHeader {
    /// Length, number of offsets, first offset.
    pub(crate) fn encode_draft(&self) -> [u8; BATCH_HEADER_BYTES] {
        let (length, count) = (u128::from(self.length), u128::from(self.offset_count));
        (length | count << 32 | u128::from(self.base_offset) << 64).to_le_bytes()
    }
}

#[allow(dead_code)]
pub(crate) struct RawRecord<'a> {
    pub(crate) timestamp_delta: i32,
    pub(crate) offset_delta: u32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// A record is its value.
pub(crate) fn record_bytes(_key: Option<usize>, value: Option<usize>, _headers: &[(&str, Option<&[u8]>)]) -> u64 {
    value.unwrap_or(0) as u64
}

pub(crate) fn encode_record(into: &mut Vec<u8>, record: &RawRecord<'_>) {
    into.extend_from_slice(record.value.unwrap_or(&[]));
}

pub(crate) fn crc_on(_before: u32, _bytes: &[u8]) -> u32 {
    0
}
