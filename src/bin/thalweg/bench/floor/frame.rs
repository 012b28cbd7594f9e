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

/// Batches on their way into a buffer.
#[derive(Debug)]
pub(super) struct Framer {
    batch_bytes: usize,
    /// Where the batch that is open begins, and how many records it has.
    open: Option<(usize, u32)>,
}

impl Framer {
    pub(super) fn new(batch_bytes: u64) -> Framer {
        Framer { batch_bytes: batch_bytes as usize, open: None }
    }

    /// Appends a record.
    #[inline]
    pub(super) fn push(&mut self, buffer: &mut Vec<u8>, value: &[u8]) {
        if let Some((start, _)) = self.open
            && buffer.len() - start + record_bytes(value.len()) > self.batch_bytes
        {
            self.close(buffer);
        }
        let (start, number) = self.open.unwrap_or_else(|| {
            buffer.extend_from_slice(&[0; BATCH_HEADER_BYTES]);
            (buffer.len() - BATCH_HEADER_BYTES, 0)
        });
        let mut header = [0; RECORD_HEADER_BYTES];
        header[4..8].copy_from_slice(&number.to_le_bytes());
        header[8..12].copy_from_slice(&(value.len() as u32).to_le_bytes());
        buffer.extend_from_slice(&header);
        buffer.extend_from_slice(value);
        buffer.extend_from_slice(&[0; 8][..value.len().next_multiple_of(8) - value.len()]);
        self.open = Some((start, number + 1));
    }

    /// The batch that is open has all that it will have.
    pub(super) fn close(&mut self, buffer: &mut [u8]) {
        if let Some((start, count)) = self.open.take() {
            let length = (buffer.len() - start) as u32;
            buffer[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
            buffer[start + 8..start + 12].copy_from_slice(&count.to_le_bytes());
        }
    }
}

/// Gives each batch in a buffer its checksum.
pub(super) fn seal(mut buffer: &mut [u8]) {
    while let Some(length) = batch_length(buffer) {
        let (batch, rest) = buffer.split_at_mut(length);
        let checksum = crc32fast::hash(&batch[4..]);
        batch[..4].copy_from_slice(&checksum.to_le_bytes());
        buffer = rest;
    }
}

/// Walks over batches: each checksum is checked, each value handed out. How many values, and their bytes.
/// Ends where nothing valid stands.
pub(super) fn walk(mut log: &[u8], mut each: impl FnMut(&[u8])) -> (u64, u64) {
    let (mut count, mut bytes) = (0, 0);
    while let Some(length) = batch_length(log) {
        let (batch, rest) = log.split_at(length);
        if batch[..4] != crc32fast::hash(&batch[4..]).to_le_bytes() {
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
        seal(&mut buffer);
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
