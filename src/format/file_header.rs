//! The header of every file: 512 bytes in a block of 4,096, written once.
//!
//! It says whose the file is, seeds every checksum in it, and names its predecessor: where a file
//! ends is said by its successor.

use bytemuck::{Pod, Zeroable};

use super::checksum::{Seed, crc};
use super::{BLOCK_BYTES, FORMAT_VERSION, FormatError, MAX_OFFSET, invalid, newer};
use crate::ids::{EngineId, LogId, TopicId};

/// One sector; the rest of its block is never written.
pub(crate) const FILE_HEADER_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"thalweg\0";
/// The longest topic name.
const NAME_BYTES_MAX: usize = 249;

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum FileKind {
    /// Part of a partition's log.
    Segment = 1,
    /// A segment's sparse index.
    Index = 2,
    /// Which topics there are.
    Catalog = 3,
    /// How far each group got.
    Offsets = 4,
}

/// The header as it is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FileHeader {
    /// What the file holds.
    pub(crate) kind: FileKind,
    /// Whose the file is.
    pub(crate) log: LogId,
    /// Epoch of its creation.
    pub(crate) epoch: u32,
    /// Random; never 0.
    pub(crate) file_id: u64,
    /// Of its first batch.
    pub(crate) base_offset: u64,
    /// Wall clock at its creation, in ms.
    pub(crate) created_ms: i64,
    /// Highest term so far.
    pub(crate) term: u64,
    /// At creation; a hint for rebuilding the catalogue.
    pub(crate) log_start_offset: u64,
    /// The durable offset when this was written: evidence.
    pub(crate) durable_before: u64,
    /// The file it continues.
    pub(crate) previous: Previous,
    /// 0 as first written, n = n-th compaction.
    pub(crate) rewrite: u32,
    /// Where the offsets it stands for end; 0 unless rewritten.
    pub(crate) rewritten_end_offset: u64,
    /// Bytes of it that count; 0 unless rewritten.
    pub(crate) rewritten_length: u64,
    /// The topic's name; empty for keyed logs.
    pub(crate) name: String,
}

/// What a header says of the file before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Previous {
    /// 0 if there is none.
    pub(crate) file_id: u64,
    /// Of its first batch.
    pub(crate) base_offset: u64,
    /// Where it ends, exclusive: its records from there on no longer exist.
    pub(crate) end_offset: u64,
    /// Bytes of it that count, up to the end of a batch.
    pub(crate) length: u64,
    /// Its last append time, in ms; `i64::MIN` if it has no batch.
    pub(crate) appended_ms: i64,
    /// Its largest timestamp, in ms: `i64::MIN` if it has no batch, `i64::MAX` if it wasn't known.
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
    assert!(offset_of!(Raw, magic) == 0);
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

    /// Checks the first 512 bytes of a file: magic, checksum, version, then the fields.
    ///
    /// # Errors
    /// [`FormatError::Newer`] if the checksum fits and the version, the kind or a reserved byte is
    /// not known, else [`FormatError::Invalid`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<FileHeader, FormatError> {
        let Some(bytes) = bytes.first_chunk::<FILE_HEADER_BYTES>() else {
            return Err(invalid(format!("a file header has {FILE_HEADER_BYTES} bytes, {} are there", bytes.len())));
        };
        let raw: Raw = bytemuck::pod_read_unaligned(bytes);
        if raw.magic != MAGIC {
            return Err(invalid("a file header begins with \"thalweg\", this does not"));
        }
        let computed = checksum(bytes);
        if raw.header_crc != computed && !crate::teeth::bites("file-header-checksum-not-checked") {
            return Err(invalid(format!(
                "file header checksum is {:#010x}, computed {computed:#010x}",
                raw.header_crc
            )));
        }
        if raw.version > FORMAT_VERSION {
            return Err(newer(format!("file version {}, this is {FORMAT_VERSION}", raw.version)));
        }
        if raw.version == 0 || raw.kind == 0 {
            return Err(invalid(format!("a file of version {} and kind {} can't be", raw.version, raw.kind)));
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
        let rewritten_fits = if raw.rewrite == 0 {
            raw.rewritten_end_offset == 0 && raw.rewritten_length == 0
        } else {
            raw.rewritten_end_offset >= raw.base_offset
                && raw.rewritten_length >= BLOCK_BYTES
                && raw.rewritten_length.is_multiple_of(8)
        };
        if !rewritten_fits {
            return Err(invalid("what the file header says of its rewriting can't be"));
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
    ///
    /// # Errors
    /// [`FormatError::Foreign`] with what was found and expected.
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

/// Two digits a byte.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::unhex;

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
        let longest = FileHeader {
            name: "n".repeat(249),
            previous: Previous::default(),
            rewrite: 9,
            rewritten_end_offset: 1_700,
            rewritten_length: 8_200,
            ..example()
        };
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

    /// Bytes to put at places of a header.
    type Changes<'a> = &'a [(usize, &'a [u8])];

    /// The header with these bytes changed and its checksum made right again.
    fn decode_with(changes: Changes<'_>) -> Result<FileHeader, FormatError> {
        let mut bytes = example().encode();
        for (at, change) in changes {
            bytes[*at..at + change.len()].copy_from_slice(change);
        }
        let crc = checksum(&bytes).to_le_bytes();
        bytes[12..16].copy_from_slice(&crc);
        FileHeader::decode(&bytes)
    }

    #[test]
    fn layout() {
        let mut expected = unhex(
            "7468616c7765670001000000f0aaf58e01000000020000000700000003000000
             303132333435363738396162636465668877665544332211e803000000000000
             0068e5cf8b01000005000000000000000a00000000000000de03000000000000
             6300000000000000f401000000000000e8030000000000000020000000000000
             ff67e5cf8b010000ffffffffffffffff00000000060000000000000000000000
             6f7264657273",
        );
        expected.resize(FILE_HEADER_BYTES, 0);
        assert_eq!(example().encode()[..], expected);
        let rewritten = FileHeader { rewrite: 1, rewritten_end_offset: 2_000, rewritten_length: 8_192, ..example() };
        let bytes = rewritten.encode();
        assert_eq!((&bytes[144..148], &bytes[152..160]), (&[1, 0, 0, 0][..], &[0xd0, 7, 0, 0, 0, 0, 0, 0][..]));
        assert_eq!(bytes[416..424], 8_192_u64.to_le_bytes());
    }

    #[test]
    fn ranges_are_checked_behind_a_right_checksum() {
        assert_eq!(decode_with(&[]), Ok(example()));
        let big = (MAX_OFFSET + 1).to_le_bytes();
        let bad: [(&str, Changes<'_>); 19] = [
            ("version", &[(8, &[0])]),
            ("kind", &[(16, &[0])]),
            ("file id", &[(48, &[0; 8])]),
            ("base offset", &[(56, &big)]),
            ("log start", &[(80, &big)]),
            ("durable before", &[(88, &big)]),
            ("previous begins behind its end", &[(104, &1_001_u64.to_le_bytes())]),
            ("previous ends behind this begins", &[(112, &1_001_u64.to_le_bytes())]),
            ("previous shorter than its header", &[(120, &4_088_u64.to_le_bytes())]),
            ("previous not a multiple of 8", &[(120, &8_193_u64.to_le_bytes())]),
            ("name too long", &[(148, &[250])]),
            ("name longer than its field", &[(148, &[0xff; 4])]),
            ("bytes behind the name", &[(148, &[5])]),
            ("name not UTF-8", &[(160, &[0xff])]),
            ("rewritten end without rewriting", &[(152, &[1])]),
            ("rewritten length without rewriting", &[(416, &[8])]),
            ("rewritten end before the base", &[(144, &[1]), (152, &[1]), (416, &8_192_u64.to_le_bytes())]),
            ("rewritten shorter than its header", &[(144, &[1]), (152, &[0xff; 2]), (416, &[8])]),
            ("rewritten not a multiple of 8", &[(144, &[1]), (152, &[0xff; 2]), (416, &8_193_u64.to_le_bytes())]),
        ];
        for (what, changes) in bad {
            assert!(matches!(decode_with(changes), Err(FormatError::Invalid(_))), "{what}");
        }
        for at in 424..FILE_HEADER_BYTES {
            assert!(matches!(decode_with(&[(at, &[1])]), Err(FormatError::Newer(_))), "reserved byte {at}");
        }
        for at in [18, 19] {
            assert!(matches!(decode_with(&[(at, &[1])]), Err(FormatError::Newer(_))), "flags, byte {at}");
        }
        let newer = decode_with(&[(8, &[2]), (16, &[9]), (48, &[0; 8])]);
        assert_eq!(newer, Err(FormatError::Newer("file version 2, this is 1".into())), "the version comes first");
    }

    #[test]
    fn every_identity_is_compared() {
        let header = example();
        let log = header.log;
        for (other, reason) in [
            (
                LogId { engine_id: EngineId([0; 16]), ..log },
                "its header says engine 30313233343536373839616263646566, expected 00000000000000000000000000000000",
            ),
            (LogId { topic_id: TopicId(8), ..log }, "its header says topic id 7, expected 8"),
            (LogId { partition: 3, ..log }, "its header says partition 2, expected 3"),
        ] {
            assert_eq!(header.expect(FileKind::Segment, &other), Err(FormatError::Foreign(reason.into())));
        }
        let kind = header.expect(FileKind::Index, &log);
        assert_eq!(kind, Err(FormatError::Foreign("its header says kind Segment, expected Index".into())));
    }

    #[test]
    fn the_seed_is_the_identitys_even_if_the_header_is_damaged() {
        let header = example();
        assert_eq!(header.seed(), Seed::new(&header.log, header.file_id, 0));
        let mut bytes = header.encode();
        bytes[200] ^= 1;
        assert_eq!(seed_as_it_stands(&bytes), header.seed());
        assert_ne!(FileHeader { rewrite: 1, ..example() }.seed(), header.seed());
    }

    proptest! {
        #[test]
        fn any_fields_behind_a_right_checksum_are_decoded_without_panic(
            mut bytes in proptest::collection::vec(prop_oneof![3 => Just(0), 1 => any::<u8>()], FILE_HEADER_BYTES),
            sane in any::<bool>(),
        ) {
            bytes[..12].copy_from_slice(&example().encode()[..12]);
            if sane {
                bytes[16..20].copy_from_slice(&[1, 0, 0, 0]);
                bytes[424..].fill(0);
            }
            let crc = checksum(&bytes).to_le_bytes();
            bytes[12..16].copy_from_slice(&crc);
            if let Ok(header) = FileHeader::decode(&bytes) {
                prop_assert_eq!(&header.encode()[..], &bytes[..]);
            }
        }

        #[test]
        fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(matches!(FileHeader::decode(&bytes), Err(FormatError::Invalid(_))));
        }
    }
}
