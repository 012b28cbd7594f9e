//! The header of every file: 512 bytes in a block of 4,096, written once.
//!
//! It says whose the file is, seeds every checksum in it, and names its predecessor: where a file
//! ends is said by its successor.

use bytemuck::{Pod, Zeroable};

use super::checksum::{Seed, crc};
use super::{BLOCK_BYTES, FORMAT_VERSION, FormatError, MAX_OFFSET, invalid, newer};
use crate::ids::{EngineId, LogId, TopicId};

pub(crate) const FILE_HEADER_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"thalweg\0";
const NAME_BYTES_MAX: usize = 249;

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum FileKind {
    Segment = 1,
    Index = 2,
    Catalog = 3,
    Offsets = 4,
}

/// The header as it is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FileHeader {
    pub(crate) kind: FileKind,
    pub(crate) log: LogId,
    /// Epoch of its creation.
    pub(crate) epoch: u32,
    /// Random; never 0.
    pub(crate) file_id: u64,
    pub(crate) base_offset: u64,
    pub(crate) created_ms: i64,
    /// Highest term so far.
    pub(crate) term: u64,
    /// At creation; a hint for rebuilding the catalogue.
    pub(crate) log_start_offset: u64,
    /// The durable offset when this was written: evidence.
    pub(crate) durable_before: u64,
    pub(crate) previous: Previous,
    /// 0 as first written, n = n-th compaction.
    pub(crate) rewrite: u32,
    /// Of a rewritten file, else 0.
    pub(crate) rewritten_end_offset: u64,
    /// Of a rewritten file, else 0.
    pub(crate) rewritten_length: u64,
    /// The topic's name; empty for keyed logs.
    pub(crate) name: String,
}

/// What a header says of the file before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Previous {
    /// 0 if there is none.
    pub(crate) file_id: u64,
    pub(crate) base_offset: u64,
    pub(crate) end_offset: u64,
    /// Bytes of it that count.
    pub(crate) length: u64,
    /// Its last append time.
    pub(crate) appended_ms: i64,
    /// Its largest timestamp; `i64::MAX` if that wasn't known.
    pub(crate) max_timestamp: i64,
}

/// The header as it stands in the file.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Raw {
    magic: [u8; 8],
    version: u32,
    header_crc: u32,
    kind: u16,
    flags: u16,
    partition: u32,
    topic_id: u32,
    epoch: u32,
    engine_id: [u8; 16],
    file_id: u64,
    base_offset: u64,
    created_ms: i64,
    term: u64,
    log_start_offset: u64,
    durable_before: u64,
    previous_file_id: u64,
    previous_base_offset: u64,
    previous_end_offset: u64,
    previous_length: u64,
    previous_appended_ms: i64,
    previous_max_timestamp: i64,
    rewrite: u32,
    name_length: u32,
    rewritten_end_offset: u64,
    name: [u8; 256],
    rewritten_length: u64,
    reserved: [u8; 88],
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Raw>() == FILE_HEADER_BYTES);
    assert!(offset_of!(Raw, version) == 8 && offset_of!(Raw, header_crc) == 12);
    assert!(offset_of!(Raw, kind) == 16 && offset_of!(Raw, flags) == 18);
    assert!(offset_of!(Raw, partition) == 20 && offset_of!(Raw, topic_id) == 24);
    assert!(offset_of!(Raw, epoch) == 28 && offset_of!(Raw, engine_id) == 32);
    assert!(offset_of!(Raw, file_id) == 48 && offset_of!(Raw, base_offset) == 56);
    assert!(offset_of!(Raw, created_ms) == 64 && offset_of!(Raw, term) == 72);
    assert!(offset_of!(Raw, log_start_offset) == 80 && offset_of!(Raw, durable_before) == 88);
    assert!(offset_of!(Raw, previous_file_id) == 96 && offset_of!(Raw, previous_base_offset) == 104);
    assert!(offset_of!(Raw, previous_end_offset) == 112 && offset_of!(Raw, previous_length) == 120);
    assert!(offset_of!(Raw, previous_appended_ms) == 128 && offset_of!(Raw, previous_max_timestamp) == 136);
    assert!(offset_of!(Raw, rewrite) == 144 && offset_of!(Raw, name_length) == 148);
    assert!(offset_of!(Raw, rewritten_end_offset) == 152 && offset_of!(Raw, name) == 160);
    assert!(offset_of!(Raw, rewritten_length) == 416 && offset_of!(Raw, reserved) == 424);
};

impl FileHeader {
    /// The bytes with their checksum.
    pub(crate) fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut name = [0; 256];
        let length = self.name.len().min(NAME_BYTES_MAX);
        name[..length].copy_from_slice(&self.name.as_bytes()[..length]);
        let mut raw = Raw {
            magic: MAGIC,
            version: FORMAT_VERSION,
            header_crc: 0,
            kind: self.kind as u16,
            flags: 0,
            partition: self.log.partition,
            topic_id: self.log.topic_id.0,
            epoch: self.epoch,
            engine_id: self.log.engine_id.0,
            file_id: self.file_id,
            base_offset: self.base_offset,
            created_ms: self.created_ms,
            term: self.term,
            log_start_offset: self.log_start_offset,
            durable_before: self.durable_before,
            previous_file_id: self.previous.file_id,
            previous_base_offset: self.previous.base_offset,
            previous_end_offset: self.previous.end_offset,
            previous_length: self.previous.length,
            previous_appended_ms: self.previous.appended_ms,
            previous_max_timestamp: self.previous.max_timestamp,
            rewrite: self.rewrite,
            name_length: length as u32,
            rewritten_end_offset: self.rewritten_end_offset,
            name,
            rewritten_length: self.rewritten_length,
            reserved: [0; 88],
        };
        raw.header_crc = checksum(bytemuck::bytes_of(&raw));
        bytemuck::must_cast(raw)
    }

    /// Checks the first 512 bytes of a file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<FileHeader, FormatError> {
        let Some(bytes) = bytes.first_chunk::<FILE_HEADER_BYTES>() else {
            return Err(invalid(format!("a file header has {FILE_HEADER_BYTES} bytes, {} are there", bytes.len())));
        };
        let raw: Raw = bytemuck::pod_read_unaligned(bytes);
        if raw.magic != MAGIC {
            return Err(invalid("a file header begins with \"thalweg\", this does not"));
        }
        let computed = checksum(bytes);
        if raw.header_crc != computed {
            return Err(invalid(format!(
                "file header checksum is {:#010x}, computed {computed:#010x}",
                raw.header_crc
            )));
        }
        if raw.version != FORMAT_VERSION {
            return Err(newer(format!("file version {}, this is {FORMAT_VERSION}", raw.version)));
        }
        let kind = match raw.kind {
            1 => FileKind::Segment,
            2 => FileKind::Index,
            3 => FileKind::Catalog,
            4 => FileKind::Offsets,
            other => return Err(newer(format!("file kind {other}"))),
        };
        let length = raw.name_length as usize;
        if raw.flags != 0 || raw.reserved != [0; 88] {
            return Err(newer("reserved bytes of the file header are set"));
        }
        if length > NAME_BYTES_MAX || raw.name[length..].iter().any(|&byte| byte != 0) {
            return Err(invalid(format!("the topic's name has {length} bytes")));
        }
        let name = std::str::from_utf8(&raw.name[..length]).map_err(|_| invalid("the topic's name isn't UTF-8"))?;
        let previous = Previous {
            file_id: raw.previous_file_id,
            base_offset: raw.previous_base_offset,
            end_offset: raw.previous_end_offset,
            length: raw.previous_length,
            appended_ms: raw.previous_appended_ms,
            max_timestamp: raw.previous_max_timestamp,
        };
        let offsets =
            [raw.base_offset, raw.log_start_offset, raw.durable_before, previous.end_offset, raw.rewritten_end_offset];
        if offsets.iter().any(|&offset| offset > MAX_OFFSET) {
            return Err(invalid("an offset in the file header is 2^63 or more"));
        }
        if raw.file_id == 0 {
            return Err(invalid("the file id is 0"));
        }
        if previous.file_id != 0
            && (previous.base_offset > previous.end_offset
                || previous.end_offset > raw.base_offset
                || previous.length < BLOCK_BYTES
                || !previous.length.is_multiple_of(8))
        {
            return Err(invalid("what the file header says of its predecessor can't be"));
        }
        Ok(FileHeader {
            kind,
            log: LogId {
                engine_id: EngineId(raw.engine_id),
                topic_id: TopicId(raw.topic_id),
                partition: raw.partition,
            },
            epoch: raw.epoch,
            file_id: raw.file_id,
            base_offset: raw.base_offset,
            created_ms: raw.created_ms,
            term: raw.term,
            log_start_offset: raw.log_start_offset,
            durable_before: raw.durable_before,
            previous,
            rewrite: raw.rewrite,
            rewritten_end_offset: raw.rewritten_end_offset,
            rewritten_length: raw.rewritten_length,
            name: name.to_owned(),
        })
    }

    /// Whether the file is of this kind and belongs to this log.
    pub(crate) fn expect(&self, kind: FileKind, log: &LogId) -> Result<(), FormatError> {
        let foreign = |what: &str, found: String, expected: String| {
            Err(FormatError::Foreign(format!("its header says {what} {found}, expected {expected}")))
        };
        if self.kind != kind {
            return foreign("kind", format!("{:?}", self.kind), format!("{kind:?}"));
        }
        if self.log.engine_id != log.engine_id {
            return foreign("engine", hex(&self.log.engine_id.0), hex(&log.engine_id.0));
        }
        if self.log.topic_id != log.topic_id {
            return foreign("topic id", self.log.topic_id.to_string(), log.topic_id.to_string());
        }
        if self.log.partition != log.partition {
            return foreign("partition", self.log.partition.to_string(), log.partition.to_string());
        }
        Ok(())
    }

    /// What every checksum in the file begins with.
    pub(crate) fn seed(&self) -> Seed {
        Seed::new(&self.log, self.file_id, self.rewrite)
    }
}

/// The seed by the fields as they stand in a header that may be damaged: its batches may be whole.
pub(crate) fn seed_as_it_stands(bytes: &[u8; FILE_HEADER_BYTES]) -> Seed {
    let raw: Raw = bytemuck::pod_read_unaligned(bytes);
    let log = LogId { engine_id: EngineId(raw.engine_id), topic_id: TopicId(raw.topic_id), partition: raw.partition };
    Seed::new(&log, raw.file_id, raw.rewrite)
}

/// CRC-32 of bytes 0..12 and 16..512: the same in every version to come.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc(&bytes[..12]));
    hasher.update(&bytes[16..FILE_HEADER_BYTES]);
    hasher.finalize()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn example() -> FileHeader {
        FileHeader {
            kind: FileKind::Segment,
            log: LogId { engine_id: EngineId(*b"0123456789abcdef"), topic_id: TopicId(7), partition: 2 },
            epoch: 3,
            file_id: 0x1122_3344_5566_7788,
            base_offset: 1_000,
            created_ms: 1_700_000_000_000,
            term: 5,
            log_start_offset: 10,
            durable_before: 990,
            previous: Previous {
                file_id: 99,
                base_offset: 500,
                end_offset: 1_000,
                length: 8_192,
                appended_ms: 1_699_999_999_999,
                max_timestamp: -1,
            },
            rewrite: 0,
            rewritten_end_offset: 0,
            rewritten_length: 0,
            name: "orders".into(),
        }
    }

    #[test]
    fn round_trip() {
        assert_eq!(FileHeader::decode(&example().encode()), Ok(example()));
        let longest = FileHeader { name: "n".repeat(249), previous: Previous::default(), rewrite: 9, ..example() };
        assert_eq!(FileHeader::decode(&longest.encode()), Ok(longest));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let good = example().encode();
        for bit in 0..FILE_HEADER_BYTES * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(FileHeader::decode(&bytes), Err(FormatError::Invalid(_))), "bit {bit}");
        }
    }

    #[test]
    fn short_zero_and_newer() {
        assert!(matches!(FileHeader::decode(&[0; 511]), Err(FormatError::Invalid(_))));
        assert!(matches!(FileHeader::decode(&[0; 512]), Err(FormatError::Invalid(_))));
        for (at, byte) in [(8, 2), (18, 1), (511, 1), (16, 9)] {
            let mut bytes = example().encode();
            bytes[at] = byte;
            let crc = checksum(&bytes).to_le_bytes();
            bytes[12..16].copy_from_slice(&crc);
            assert!(matches!(FileHeader::decode(&bytes), Err(FormatError::Newer(_))), "byte {at}");
        }
    }

    #[test]
    fn a_file_of_another_log_is_foreign() {
        let header = example();
        assert_eq!(header.expect(FileKind::Segment, &header.log), Ok(()));
        let other = LogId { partition: 3, ..header.log };
        let error = header.expect(FileKind::Segment, &other).unwrap_err();
        assert_eq!(error, FormatError::Foreign("its header says partition 2, expected 3".into()));
        assert!(header.expect(FileKind::Index, &header.log).is_err());
    }
}
