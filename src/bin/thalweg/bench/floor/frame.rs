//! Framed, checksummed batches as short as they can be written down: a header with length and checksum,
//! then records, each a header with its number and length and its value, at multiples of 8. As many bytes
//! as the engine's.

const BATCH_HEADER_BYTES: usize = 96;
const RECORD_HEADER_BYTES: usize = 16;

/// Bytes of one record in a batch of its own, as the engine stores it.
pub(crate) fn single_record_bytes(value_bytes: usize) -> usize {
    BATCH_HEADER_BYTES + record_bytes(value_bytes)
}

fn record_bytes(value_bytes: usize) -> usize {
    RECORD_HEADER_BYTES + value_bytes.next_multiple_of(8)
}

/// Checksums are gone on with every so many bytes, while these are in the first cache: as the engine does.
const SUM_STEP_BYTES: usize = 4 << 10;

/// Batches on their way into a buffer.
#[derive(Debug)]
pub(super) struct Framer {
    batch_bytes: usize,
    open: Option<Open>,
}

/// The batch that is filled.
#[derive(Debug)]
struct Open {
    start: usize,
    records: u32,
    /// Of its records, up to `summed` in the buffer.
    sum: crc32fast::Hasher,
    summed: usize,
}

impl Framer {
    pub(super) fn new(batch_bytes: u64) -> Framer {
        Framer { batch_bytes: batch_bytes as usize, open: None }
    }

    /// Appends a record.
    #[inline]
    pub(super) fn push(&mut self, buffer: &mut Vec<u8>, value: &[u8]) {
        if let Some(open) = &self.open
            && buffer.len() - open.start + record_bytes(value.len()) > self.batch_bytes
        {
            self.close(buffer);
        }
        let open = self.open.get_or_insert_with(|| {
            buffer.extend_from_slice(&[0; BATCH_HEADER_BYTES]);
            let (start, summed) = (buffer.len() - BATCH_HEADER_BYTES, buffer.len());
            Open { start, records: 0, sum: crc32fast::Hasher::new(), summed }
        });
        let mut header = [0; RECORD_HEADER_BYTES];
        header[4..8].copy_from_slice(&open.records.to_le_bytes());
        header[8..12].copy_from_slice(&(value.len() as u32).to_le_bytes());
        buffer.extend_from_slice(&header);
        buffer.extend_from_slice(value);
        buffer.extend_from_slice(&[0; 8][..value.len().next_multiple_of(8) - value.len()]);
        open.records += 1;
        if buffer.len() - open.summed >= SUM_STEP_BYTES {
            open.sum.update(&buffer[open.summed..]);
            open.summed = buffer.len();
        }
    }

    /// The batch that is open has all that it will have: it gets length, count and checksum.
    pub(super) fn close(&mut self, buffer: &mut [u8]) {
        if let Some(Open { start, records, mut sum, summed }) = self.open.take() {
            sum.update(&buffer[summed..]);
            let length = (buffer.len() - start) as u32;
            buffer[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
            buffer[start + 8..start + 12].copy_from_slice(&records.to_le_bytes());
            sum.update(&buffer[start + 4..start + BATCH_HEADER_BYTES]);
            buffer[start..start + 4].copy_from_slice(&sum.finalize().to_le_bytes());
        }
    }
}

/// The checksum of a batch: of its records, then of its header.
fn sum_of(batch: &[u8]) -> [u8; 4] {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&batch[BATCH_HEADER_BYTES..]);
    sum.update(&batch[4..BATCH_HEADER_BYTES]);
    sum.finalize().to_le_bytes()
}

/// Walks over batches: each checksum is checked, each value handed out. How many values, and their bytes.
/// Ends where nothing valid stands.
pub(super) fn walk(mut log: &[u8], mut each: impl FnMut(&[u8])) -> (u64, u64) {
    let (mut count, mut bytes) = (0, 0);
    while let Some(length) = batch_length(log) {
        let (batch, rest) = log.split_at(length);
        if batch[..4] != sum_of(batch) {
            break;
        }
        let mut records = &batch[BATCH_HEADER_BYTES..];
        while let Some((header, behind)) = records.split_first_chunk::<RECORD_HEADER_BYTES>() {
            let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
            let Some(value) = behind.get(..length) else { break };
            each(value);
            count += 1;
            bytes += length as u64;
            records = behind.get(length.next_multiple_of(8)..).unwrap_or_default();
        }
        log = rest;
    }
    (count, bytes)
}

/// Bytes of the whole batches at the start of `log` that are `at_least` so many together, or of all.
pub(super) fn whole_batches(log: &[u8], at_least: usize) -> usize {
    let mut length = 0;
    while length < at_least
        && let Some(batch) = batch_length(&log[length..])
    {
        length += batch;
    }
    length
}

/// Of the batch at the start of `bytes`, if a whole one can stand there.
fn batch_length(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<BATCH_HEADER_BYTES>()?;
    let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    (BATCH_HEADER_BYTES..=bytes.len()).contains(&length).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_framed_is_walked_over_and_damage_ends_it() {
        let values: Vec<Vec<u8>> = (1..200).map(|length| vec![length as u8; length]).collect();
        let (mut framer, mut buffer) = (Framer::new(1_024), Vec::new());
        values.iter().for_each(|value| framer.push(&mut buffer, value));
        framer.close(&mut buffer);
        let mut seen = Vec::new();
        let (count, bytes) = walk(&buffer, |value| seen.push(value.to_vec()));
        assert_eq!((count, bytes), (199, 199 * 200 / 2));
        assert_eq!(seen, values);

        let last = buffer.len() - 1;
        buffer[last] ^= 1;
        assert!(walk(&buffer, |_| {}).0 < 199);
        assert_eq!(walk(&[0; 4096], |_| {}), (0, 0));
    }
}
