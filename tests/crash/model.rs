//! What must be true of a partition, whatever happened: records by offset, and how far they were
//! acknowledged.

use thalweg::{Engine, Partition};

/// Payloads that no two records share.
pub(crate) struct Payloads {
    next: u64,
}

impl Payloads {
    pub(crate) fn new() -> Payloads {
        Payloads { next: 1 }
    }

    /// `bytes` bytes (8 or more) that are unlike all others.
    pub(crate) fn make(&mut self, bytes: usize) -> Vec<u8> {
        let number = self.next;
        self.next += 1;
        let mut payload = number.to_le_bytes().to_vec();
        let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        while payload.len() < bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            payload.push(state as u8);
        }
        payload
    }
}

/// One partition's history.
#[derive(Clone, Default, Debug)]
pub(crate) struct Model {
    /// Everything that was ever given an offset and not failed, from offset 0 on.
    pub(crate) sent: Vec<Vec<u8>>,
    /// Acknowledged as written, as synced: offsets below these (exclusive).
    pub(crate) written: usize,
    pub(crate) durable: usize,
    /// What failed since the last append that didn't, try by try, and the offset all began at: bytes
    /// of a write that was half done may be found after a crash.
    pub(crate) failed: (usize, Vec<Vec<Vec<u8>>>),
    /// The log start that was acknowledged, and the highest that was asked for.
    pub(crate) start: usize,
    pub start_asked: usize,
}

impl Model {
    /// Compares what an engine found after a crash, and goes on from there.
    ///
    /// `killed`: the system lived on, so what was written must be there too.
    pub(crate) fn check_after_crash(&mut self, engine: &Engine, topic: &str, number: u32, killed: bool) {
        let partition = engine.partition(topic, number).unwrap();
        let (start, end) = (partition.log_start_offset() as usize, partition.end_offset() as usize);
        let floor = if killed { self.written } else { self.durable };
        assert!(end >= floor, "D1: {topic}/{number} ends at {end}, acknowledged were {floor}");
        let (base, failed) = std::mem::take(&mut self.failed);
        let look = base.max(start);
        if self.written <= base && end > look {
            let first = partition.get(look as u64).unwrap();
            let is_first = |sent: Option<&Vec<u8>>| sent.is_some_and(|sent| first.view().value() == Some(sent));
            let found = failed.into_iter().find(|tried| is_first(tried.get(look - base)));
            if let Some(found) = found {
                // The failed write is what was found.
                self.sent.truncate(base);
                self.sent.extend(found);
            }
        }
        assert!(end <= self.sent.len(), "D2: {topic}/{number} ends at {end}, sent were {}", self.sent.len());
        assert!(start >= self.start && start <= self.start_asked, "{topic}/{number} starts at {start}: {self:?}");
        let durable = partition.durable_offset() as usize;
        assert!(start <= durable.max(start) && durable <= end, "log start {start}, durable {durable}, end {end}");
        self.compare(&partition);
        self.sent.truncate(end);
        self.written = end;
        self.durable = self.durable.min(end);
    }

    /// Everything from `end` on failed.
    pub(crate) fn fail_from(&mut self, end: usize) {
        if end < self.sent.len() {
            let failed = self.sent.split_off(end);
            if self.failed.0 != end {
                self.failed = (end, Vec::new());
            }
            self.failed.1.push(failed);
        }
    }

    /// An append was acknowledged: what failed before can't be found any more.
    pub(crate) fn acknowledged(&mut self, end: usize) {
        self.written = self.written.max(end);
        if end > self.failed.0 {
            self.failed = (0, Vec::new());
        }
    }

    /// Every record between log start and end, byte for byte.
    pub(crate) fn compare(&self, partition: &Partition) {
        let (start, end) = (partition.log_start_offset(), partition.end_offset());
        let mut next = start;
        for batch in partition.read(start..end).unwrap() {
            for record in &batch.unwrap() {
                assert_eq!(record.offset(), next, "D2: offsets are dense");
                let expected = &self.sent[next as usize];
                assert!(record.value() == Some(expected.as_slice()), "D2: other bytes at offset {next}");
                next += 1;
            }
        }
        assert_eq!(next, end, "D2: every offset up to the end is there");
    }
}
