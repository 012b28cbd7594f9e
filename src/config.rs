//! Configuration: every field with its default, bounds and unit; checked once, when it is used.
//!
//! The text form of a topic's fields (`segment.bytes=1048576`) is what the catalogue stores and
//! the command takes: the field's name with dots for underscores.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// When a record counts as acknowledged: what its receipt waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Acks {
    /// At once: the record has an offset, nothing more.
    None,
    /// Handed to the operating system: survives the death of the process.
    Written,
    /// Made durable: survives power loss.
    #[default]
    Synced,
}

impl fmt::Display for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Acks::None => "none",
            Acks::Written => "written",
            Acks::Synced => "synced",
        })
    }
}

impl FromStr for Acks {
    type Err = Error;

    fn from_str(text: &str) -> Result<Acks> {
        match text {
            "none" => Ok(Acks::None),
            "written" => Ok(Acks::Written),
            "synced" => Ok(Acks::Synced),
            _ => Err(invalid("acks", text, "it is none, written or synced")),
        }
    }
}

/// Which threads write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Writers {
    /// As many as there are cores that this process may use.
    #[default]
    Auto,
    /// This many, 1 to 1,024.
    Threads(usize),
    /// None: the thread that waits, polls, flushes or closes does the next step of the work. For simulation and small
    /// programs.
    ///
    /// A future does a few steps in each poll: its executor's thread writes, and waits for small syncs. While the disk
    /// works the future wakes itself. Nothing wakes a future for what time alone brings (`sync_ms`, a member that is
    /// late): poll again, from a timer of the executor's.
    Inline,
}

/// How syncs reach the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SyncMode {
    /// Through io_uring where it is allowed, else through threads; which one is an event.
    #[default]
    Auto,
    /// Through io_uring, or opening fails.
    IoUring,
    /// Through threads.
    Threads,
}

/// The engine's own settings; topics have theirs in [`TopicConfig`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Which threads write. Default: [`Writers::Auto`].
    pub writers: Writers,
    /// Whether each writer thread is pinned to a core, where there are enough. Default: true.
    pub pin_writers: bool,
    /// How syncs reach the kernel. Default: [`SyncMode::Auto`].
    pub sync_mode: SyncMode,
    /// Threads that sync where io_uring doesn't, 1 to 256. Default: 4.
    pub sync_threads: usize,
    /// Bytes that one write carries, 4 KiB to 64 MiB. Default: 256 KiB.
    pub write_bytes: usize,
    /// Bytes of records that may wait to be written, 1 MiB or more. A partition takes at most half, and at most
    /// 8 MiB or two batches. Default: 64 MiB.
    pub buffer_bytes: usize,
    /// The largest batch, in bytes as stored: what one record or one `send_batch` may take. 4 KiB
    /// to 1 GiB, at most half of `buffer_bytes`. Default: 16 MiB.
    pub max_batch_bytes: usize,
    /// Unsynced bytes of a partition after which the engine syncs by itself, 64 KiB or more.
    /// Default: 64 MiB.
    pub sync_bytes: u64,
    /// Milliseconds after which the engine syncs unsynced bytes by itself, 1 to 3,600,000.
    /// Default: 1,000.
    pub sync_ms: u64,
    /// Milliseconds at rest after which a group and its committed offsets are forgotten, 1,000 or more;
    /// `None`: never. Default: `None`.
    ///
    /// A group rests while it has no consumer, member or not, and nobody commits for it. Only time in which
    /// this engine is open counts: each opening, after a clean close or a crash, begins anew.
    pub offsets_retention_ms: Option<u64>,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            writers: Writers::Auto,
            pin_writers: true,
            sync_mode: SyncMode::Auto,
            sync_threads: 4,
            write_bytes: 256 << 10,
            buffer_bytes: 64 << 20,
            max_batch_bytes: 16 << 20,
            sync_bytes: 64 << 20,
            sync_ms: 1_000,
            offsets_retention_ms: None,
        }
    }
}

impl EngineConfig {
    /// Checks every field against its bounds.
    pub(crate) fn check(&self) -> Result<()> {
        if let Writers::Threads(count) = self.writers {
            within("writers", count as u64, 1, 1_024)?;
        }
        within("sync_threads", self.sync_threads as u64, 1, 256)?;
        within("write_bytes", self.write_bytes as u64, 4 << 10, 64 << 20)?;
        within("buffer_bytes", self.buffer_bytes as u64, 1 << 20, 1 << 40)?;
        within("max_batch_bytes", self.max_batch_bytes as u64, 4 << 10, 1 << 30)?;
        within("sync_bytes", self.sync_bytes, 64 << 10, u64::MAX)?;
        within("sync_ms", self.sync_ms, 1, 3_600_000)?;
        within("offsets_retention_ms", self.offsets_retention_ms.unwrap_or(1_000), 1_000, u64::MAX)?;
        if self.max_batch_bytes > self.buffer_bytes / 2 {
            return Err(invalid(
                "max_batch_bytes",
                self.max_batch_bytes,
                format!("it is at most half of buffer_bytes ({})", self.buffer_bytes),
            ));
        }
        if self.write_bytes > self.buffer_bytes / 4 {
            return Err(invalid(
                "write_bytes",
                self.write_bytes,
                format!("it is at most a quarter of buffer_bytes ({})", self.buffer_bytes),
            ));
        }
        Ok(())
    }
}

/// A topic's settings, stored with it.
///
/// ```
/// use thalweg::{Acks, TopicConfig};
/// let config = TopicConfig::default().partitions(6).acks(Acks::Written).segment_bytes(64 << 20);
/// assert_eq!(config.get("segment.bytes").as_deref(), Some("67108864"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TopicConfig {
    /// Number of partitions, 1 to 100,000. Default: 1.
    pub partitions: u32,
    /// What a receipt waits for unless the send says otherwise. Default: [`Acks::Synced`].
    pub acks: Acks,
    /// Size at which a segment is sealed and the next begun, 64 KiB to 2 GiB. With
    /// [`retention_bytes`](TopicConfig::retention_bytes), a quarter of that (64 KiB or more) at the latest.
    /// Default: 256 MiB.
    pub segment_bytes: u64,
    /// Age in milliseconds of a segment's oldest record at which the segment is sealed, also while nothing is
    /// appended; 1,000 or more. With [`retention_ms`](TopicConfig::retention_ms), a quarter of that at the latest.
    /// `None`: no limit of its own. Default: `None`.
    pub segment_ms: Option<u64>,
    /// Bytes of log for each entry of the sparse index, 4 KiB to 16 MiB. Default: 16 KiB.
    pub index_interval_bytes: u64,
    /// Bytes after which a batch is closed and the next begun, 1 KiB to 16 MiB: the unit of
    /// checksum and atomicity. Default: 64 KiB.
    pub batch_bytes: u64,
    /// The largest record, in bytes as stored, 1 KiB to 512 MiB. Default: 1 MiB.
    pub max_message_bytes: u64,
    /// Bytes of a partition above which its oldest segments are dropped; `None`: never. The rest always has this many
    /// bytes, so a partition keeps at most a quarter (or 64 KiB, or a batch) more. Default: `None`.
    pub retention_bytes: Option<u64>,
    /// Milliseconds since its last append after which a segment is dropped; `None`: never. By the wall clock at the
    /// append, not the records' own timestamps. A record goes when it is older than this, and at the latest when it
    /// is older by a quarter more (or by 1 s, if that is longer). Default: `None`.
    pub retention_ms: Option<u64>,
    /// Whether readers stop at the durable offset instead of the written one. Default: false.
    pub read_durable: bool,
    /// Whether groups keep the order of records with equal keys when partitions are added: they get
    /// nothing written after that before they have committed what was written before. Default: true.
    pub fence: bool,
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig {
            partitions: 1,
            acks: Acks::Synced,
            segment_bytes: 256 << 20,
            segment_ms: None,
            index_interval_bytes: 16 << 10,
            batch_bytes: 64 << 10,
            max_message_bytes: 1 << 20,
            retention_bytes: None,
            retention_ms: None,
            read_durable: false,
            fence: true,
        }
    }
}

/// A segment is sealed after this part of `retention.ms`, and at this part of `retention.bytes`: a partition keeps
/// at most that much more than its limit.
const RETENTION_PARTS: u64 = 4;

/// The smallest size at which a segment is sealed.
const SEGMENT_MIN_BYTES: u64 = 64 << 10;

/// The most partitions a topic can have.
pub(crate) const MAX_PARTITIONS: u32 = 100_000;

impl TopicConfig {
    /// The keys of the text form, in the order they are listed.
    pub const KEYS: [&'static str; 10] = [
        "acks",
        "segment.bytes",
        "segment.ms",
        "index.interval.bytes",
        "batch.bytes",
        "max.message.bytes",
        "retention.bytes",
        "retention.ms",
        "read.durable",
        "fence",
    ];

    /// Sets the number of partitions.
    pub fn partitions(mut self, partitions: u32) -> TopicConfig {
        self.partitions = partitions;
        self
    }

    /// Sets what a receipt waits for.
    pub fn acks(mut self, acks: Acks) -> TopicConfig {
        self.acks = acks;
        self
    }

    /// Sets the size of a segment.
    pub fn segment_bytes(mut self, bytes: u64) -> TopicConfig {
        self.segment_bytes = bytes;
        self
    }

    /// Sets the age at which a segment is sealed.
    pub fn segment_ms(mut self, ms: Option<u64>) -> TopicConfig {
        self.segment_ms = ms;
        self
    }

    /// Sets the bytes of log for each index entry.
    pub fn index_interval_bytes(mut self, bytes: u64) -> TopicConfig {
        self.index_interval_bytes = bytes;
        self
    }

    /// Sets the size of a batch.
    pub fn batch_bytes(mut self, bytes: u64) -> TopicConfig {
        self.batch_bytes = bytes;
        self
    }

    /// Sets the size of the largest record.
    pub fn max_message_bytes(mut self, bytes: u64) -> TopicConfig {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets the size above which old segments are dropped.
    pub fn retention_bytes(mut self, bytes: Option<u64>) -> TopicConfig {
        self.retention_bytes = bytes;
        self
    }

    /// Sets the age after which old segments are dropped.
    pub fn retention_ms(mut self, ms: Option<u64>) -> TopicConfig {
        self.retention_ms = ms;
        self
    }

    /// Sets whether readers stop at the durable offset.
    pub fn read_durable(mut self, durable: bool) -> TopicConfig {
        self.read_durable = durable;
        self
    }

    /// Sets whether groups keep the order of equal keys when partitions are added.
    pub fn fence(mut self, fence: bool) -> TopicConfig {
        self.fence = fence;
        self
    }

    /// The value of a key in its text form; `None` if there is no such key. "No limit" is `-1`.
    pub fn get(&self, key: &str) -> Option<String> {
        let limit = |value: Option<u64>| value.map_or_else(|| "-1".to_owned(), |value| value.to_string());
        Some(match key {
            "acks" => self.acks.to_string(),
            "segment.bytes" => self.segment_bytes.to_string(),
            "segment.ms" => limit(self.segment_ms),
            "index.interval.bytes" => self.index_interval_bytes.to_string(),
            "batch.bytes" => self.batch_bytes.to_string(),
            "max.message.bytes" => self.max_message_bytes.to_string(),
            "retention.bytes" => limit(self.retention_bytes),
            "retention.ms" => limit(self.retention_ms),
            "read.durable" => self.read_durable.to_string(),
            "fence" => self.fence.to_string(),
            _ => return None,
        })
    }

    /// Sets the value of a key from its text form; `-1` is "no limit" where there may be none.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for an unknown key or a value that can't be read. Bounds are
    /// checked when the topic is created.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let Some(&field) = TopicConfig::KEYS.iter().find(|&&known| known == key) else {
            return Err(Error::new(ErrorKind::InvalidConfig {
                field: "key",
                value: key.to_owned(),
                reason: format!("the keys are {}", TopicConfig::KEYS.join(", ")),
            }));
        };
        let number = || value.parse::<u64>().map_err(|_| invalid(field, value, "it is a whole number"));
        let limit = || if value == "-1" { Ok(None) } else { number().map(Some) };
        let flag = || value.parse().map_err(|_| invalid(field, value, "it is true or false"));
        match field {
            "acks" => self.acks = value.parse()?,
            "segment.bytes" => self.segment_bytes = number()?,
            "segment.ms" => self.segment_ms = limit()?,
            "index.interval.bytes" => self.index_interval_bytes = number()?,
            "batch.bytes" => self.batch_bytes = number()?,
            "max.message.bytes" => self.max_message_bytes = number()?,
            "retention.bytes" => self.retention_bytes = limit()?,
            "retention.ms" => self.retention_ms = limit()?,
            "read.durable" => self.read_durable = flag()?,
            _ => self.fence = flag()?,
        }
        Ok(())
    }

    /// All keys as `key=value` lines, as the catalogue stores them.
    pub(crate) fn to_text(&self) -> String {
        TopicConfig::KEYS.iter().filter_map(|key| self.get(key).map(|value| format!("{key}={value}\n"))).collect()
    }

    /// Reads what [`to_text`](TopicConfig::to_text) wrote; keys that are missing have their defaults.
    pub(crate) fn from_text(partitions: u32, text: &str) -> Result<TopicConfig> {
        let mut config = TopicConfig::default().partitions(partitions);
        for line in text.lines() {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            config.set(key, value)?;
        }
        config.check()?;
        Ok(config)
    }

    /// The age of a segment's oldest record at which the segment is sealed: `segment_ms`, and at the latest a part of
    /// `retention_ms`, so that what is too old can go.
    pub(crate) fn sealed_after_ms(&self) -> Option<u64> {
        let by_retention = self.retention_ms.map(|ms| (ms / RETENTION_PARTS).max(1_000));
        self.segment_ms.into_iter().chain(by_retention).min()
    }

    /// The size at which a segment is sealed: `segment_bytes`, and at the latest a part of `retention_bytes`, since only
    /// whole segments are dropped.
    pub(crate) fn sealed_at_bytes(&self) -> u64 {
        let by_retention = self.retention_bytes.map_or(u64::MAX, |bytes| bytes / RETENTION_PARTS);
        self.segment_bytes.min(by_retention.max(SEGMENT_MIN_BYTES))
    }

    /// Whether anything is sealed or dropped without an append.
    pub(crate) fn has_limits(&self) -> bool {
        self.segment_ms.is_some() || self.retention_ms.is_some() || self.retention_bytes.is_some()
    }

    /// Checks every field against its bounds, as making or altering a topic does.
    ///
    /// # Errors
    /// `InvalidConfig`, with the first field that is out of its bounds.
    pub fn check(&self) -> Result<()> {
        within("partitions", u64::from(self.partitions), 1, u64::from(MAX_PARTITIONS))?;
        within("segment.bytes", self.segment_bytes, SEGMENT_MIN_BYTES, 2 << 30)?;
        within("segment.ms", self.segment_ms.unwrap_or(1_000), 1_000, u64::MAX)?;
        within("index.interval.bytes", self.index_interval_bytes, 4 << 10, 16 << 20)?;
        within("batch.bytes", self.batch_bytes, 1 << 10, 16 << 20)?;
        within("max.message.bytes", self.max_message_bytes, 1 << 10, 512 << 20)?;
        Ok(())
    }
}

fn invalid(field: &'static str, value: impl fmt::Display, reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig { field, value: value.to_string(), reason: reason.into() })
}

fn within(field: &'static str, value: u64, min: u64, max: u64) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let reason = if max == u64::MAX { format!("it is {min} or more") } else { format!("it is {min} to {max}") };
    Err(invalid(field, value, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_documented() {
        let engine = EngineConfig::default();
        assert_eq!(engine.check(), Ok(()));
        assert_eq!((engine.write_bytes, engine.buffer_bytes), (262_144, 67_108_864));
        assert_eq!((engine.sync_bytes, engine.sync_ms, engine.sync_threads), (67_108_864, 1_000, 4));
        let topic = TopicConfig::default();
        assert_eq!(topic.check(), Ok(()));
        assert_eq!(topic.partitions, 1);
        assert_eq!(
            topic.to_text(),
            "acks=synced\nsegment.bytes=268435456\nsegment.ms=-1\nindex.interval.bytes=16384\n\
             batch.bytes=65536\nmax.message.bytes=1048576\nretention.bytes=-1\nretention.ms=-1\nread.durable=false\nfence=true\n"
        );
    }

    #[test]
    fn text_form_round_trips() {
        let mut config = TopicConfig::default().partitions(7);
        for (key, value) in
            [("acks", "none"), ("segment.ms", "5000"), ("retention.bytes", "1"), ("read.durable", "true")]
        {
            config.set(key, value).unwrap();
        }
        assert_eq!(TopicConfig::from_text(7, &config.to_text()), Ok(config));
    }

    #[test]
    fn wrong_values_are_named() {
        let error = TopicConfig::default().partitions(0).check().unwrap_err();
        assert_eq!(error.to_string(), "configuration partitions = 0 is not valid: it is 1 to 100000");
        let error = TopicConfig::default().set("segment.byte", "1").unwrap_err();
        assert!(error.to_string().contains("segment.bytes"), "{error}");
        let error = TopicConfig::default().set("segment.bytes", "a lot").unwrap_err();
        assert_eq!(error.to_string(), "configuration segment.bytes = a lot is not valid: it is a whole number");
        let config = EngineConfig { max_batch_bytes: 64 << 20, ..EngineConfig::default() };
        assert!(config.check().unwrap_err().to_string().contains("half of buffer_bytes"));
    }
}
