//! Heap memory that one side fills while others hold slices of it: the simulated disk's view.
//!
//! A range that was ever handed out never changes again; a write that would change it is refused
//! there and reported, so the buffer also watches over the rule that published bytes stay.
#![expect(unsafe_code, reason = "memory that is written beside live slices needs raw pointers")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use crate::lock::{Mutex, MutexGuard, lock};

/// Zeroed memory of a fixed length.
pub(crate) struct SharedBuffer {
    memory: NonNull<u8>,
    layout: Layout,
    length: u64,
    /// Ranges handed out: start to end, apart from each other.
    handed_out: Mutex<BTreeMap<u64, u64>>,
}

// SAFETY: the memory is owned by this value alone. Any thread may read ranges that were handed out,
// which are never written again; the rest is only touched under the lock.
unsafe impl Send for SharedBuffer {}
// SAFETY: as for Send; all access through `&self` goes by the lock or to frozen ranges.
unsafe impl Sync for SharedBuffer {}

impl SharedBuffer {
    /// Takes `length` bytes from the heap; the system provides pages as they are touched.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` if the heap hasn't as many.
    pub(crate) fn new(length: u64) -> io::Result<SharedBuffer> {
        let no_memory = || io::Error::from(io::ErrorKind::OutOfMemory);
        let size = usize::try_from(length).map_err(|_| no_memory())?.max(1);
        let layout = Layout::array::<u8>(size).map_err(|_| no_memory())?;
        // SAFETY: the layout's size is at least 1.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(no_memory)?;
        Ok(SharedBuffer { memory, layout, length, handed_out: Mutex::default() })
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The bytes of `range`, which stay as they are from now on; `None` if it goes beyond the buffer.
    pub(crate) fn bytes(&self, range: Range<u64>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.length {
            return None;
        }
        note(&mut self.handed_out(), &range);
        Some(self.slice(range))
    }

    /// Writes what fits into the buffer and wasn't handed out. Returns the first position that was
    /// handed out with another byte, if any; it keeps its byte.
    pub(crate) fn fill(&self, position: u64, bytes: &[u8]) -> Option<u64> {
        let mut conflict = None;
        let handed_out = self.handed_out();
        let end = self.length.min(position.saturating_add(bytes.len() as u64));
        let mut at = position;
        while at < end {
            let (range, frozen) = piece(&handed_out, at..end);
            let piece = &bytes[(at - position) as usize..(range.end - position) as usize];
            at = range.end;
            if frozen {
                let differs = self.slice(range.clone()).iter().zip(piece).position(|(old, new)| old != new);
                conflict = conflict.or(differs.map(|index| range.start + index as u64));
            } else {
                // SAFETY: the range lies within the buffer, and `piece` is a slice from outside it:
                // no slice of the buffer reaches here, as those only cover handed out ranges. None
                // was handed out of this one, and none is while the lock is held.
                unsafe {
                    let to = self.memory.add(range.start as usize);
                    to.copy_from_nonoverlapping(NonNull::from(piece).cast(), piece.len());
                }
            }
        }
        conflict
    }

    /// A slice of a range within the buffer that is handed out (or about to be, under the lock).
    fn slice(&self, range: Range<u64>) -> &[u8] {
        // SAFETY: all callers checked the range against the length; the memory is initialised
        // (zeroed), lives as long as `self`, and the range is never written from here on.
        unsafe {
            let from = self.memory.add(range.start as usize);
            std::slice::from_raw_parts(from.as_ptr(), (range.end - range.start) as usize)
        }
    }

    fn handed_out(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        lock(&self.handed_out)
    }
}

impl Drop for SharedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and no slice outlives `self`.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) }
    }
}

impl fmt::Debug for SharedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuffer").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Adds a range, joined with those that touch it.
fn note(ranges: &mut BTreeMap<u64, u64>, range: &Range<u64>) {
    if range.is_empty() {
        return;
    }
    let (mut start, mut end) = (range.start, range.end);
    while let Some((&other_start, &other_end)) = ranges.range(..=end).next_back()
        && other_end >= start
    {
        start = start.min(other_start);
        end = end.max(other_end);
        ranges.remove(&other_start);
    }
    ranges.insert(start, end);
}

/// The longest piece at the start of `range` that lies in one of `ranges` or in none, and which.
fn piece(ranges: &BTreeMap<u64, u64>, range: Range<u64>) -> (Range<u64>, bool) {
    if let Some((_, &end)) = ranges.range(..=range.start).next_back()
        && end > range.start
    {
        return (range.start..end.min(range.end), true);
    }
    let next = ranges.range(range.start..).next().map_or(range.end, |(&start, _)| start);
    (range.start..next.min(range.end), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_out_stays_and_the_rest_is_filled() {
        let buffer = SharedBuffer::new(100).unwrap();
        assert_eq!(buffer.fill(0, b"hello world"), None);
        let world = buffer.bytes(6..11).unwrap();
        assert_eq!(world, b"world");
        assert_eq!(buffer.fill(0, b"HELLO world!"), None);
        assert_eq!(buffer.fill(4, b"x-worse?"), Some(9));
        assert_eq!(world, b"world");
        // The last byte of a frozen range is frozen too.
        assert_eq!(buffer.fill(10, b"!!"), Some(10));
        assert_eq!(buffer.fill(11, b"-"), None);
        assert_eq!(buffer.bytes(0..13).unwrap(), b"HELLx-world-\0");
    }

    #[test]
    fn writes_beyond_the_end_are_cut_and_ranges_beyond_it_refused() {
        let buffer = SharedBuffer::new(4).unwrap();
        assert_eq!(buffer.fill(2, b"abcdef"), None);
        assert_eq!(buffer.fill(90, b"abcdef"), None);
        assert_eq!(buffer.bytes(0..4).unwrap(), b"\0\0ab");
        assert_eq!(buffer.bytes(0..5), None);
        assert_eq!(buffer.bytes(4..4), Some(&b""[..]));
        assert_eq!(SharedBuffer::new(0).unwrap().bytes(0..0), Some(&b""[..]));
        assert_eq!(SharedBuffer::new(u64::MAX).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    }

    #[test]
    fn ranges_are_joined_where_they_touch() {
        let mut ranges = BTreeMap::new();
        for range in [10..20, 30..40, 50..60, 20..25, 0..5] {
            note(&mut ranges, &range);
        }
        assert_eq!(ranges, BTreeMap::from([(0, 5), (10, 25), (30, 40), (50, 60)]));
        note(&mut ranges, &(5..35));
        assert_eq!(ranges, BTreeMap::from([(0, 40), (50, 60)]));
        note(&mut ranges, &(10..20));
        note(&mut ranges, &(45..45));
        assert_eq!(ranges, BTreeMap::from([(0, 40), (50, 60)]));
    }

    #[test]
    fn slices_are_read_while_another_thread_fills_the_rest() {
        let buffer = SharedBuffer::new(1 << 16).unwrap();
        std::thread::scope(|scope| {
            let (published, positions) = std::sync::mpsc::channel::<u64>();
            let buffer = &buffer;
            scope.spawn(move || {
                for end in positions {
                    let bytes = buffer.bytes(end - 64..end).unwrap();
                    assert!(bytes.iter().all(|&byte| byte == (end / 64) as u8));
                }
            });
            for end in (64..=1 << 16).step_by(64) {
                assert_eq!(buffer.fill(end - 64, &[(end / 64) as u8; 64]), None);
                published.send(end).unwrap();
            }
        });
    }
}
