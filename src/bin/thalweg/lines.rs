//! Stdin taken apart into lines: bytes as they are, in memory that doesn't grow with the input.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::AsFd;

/// Bytes asked for at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Reads ahead in large blocks and hands out the whole lines of each.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    /// What was read and not yet handed out.
    filled: Range<usize>,
    max_line_bytes: usize,
    ended: bool,
}

/// What the source gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Block<'a> {
    /// Whole lines, each with its `\n`; the very last line may have none.
    Lines(&'a [u8]),
    /// A line longer than allowed; its bytes so far are dropped.
    TooLong,
    /// There are no more.
    End,
}

/// Stdin without the small buffer that the standard library puts before it.
pub(crate) fn stdin() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(source: R, max_line_bytes: usize) -> Lines<R> {
        Lines { source, buffer: vec![0; BUFFER_BYTES], filled: 0..0, max_line_bytes, ended: false }
    }

    /// The lines that one read completed; waits for the source until there is one.
    pub(crate) fn next_block(&mut self) -> io::Result<Block<'_>> {
        self.buffer.copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        while !self.ended {
            if self.filled.end == self.buffer.len() {
                if self.filled.len() > self.max_line_bytes {
                    return Ok(Block::TooLong);
                }
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            let read = match self.source.read(&mut self.buffer[self.filled.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            self.ended = read == 0;
            let fresh = self.filled.end..self.filled.end + read;
            self.filled.end = fresh.end;
            if let Some(last) = self.buffer[fresh.clone()].iter().rposition(|&byte| byte == b'\n') {
                let lines = 0..fresh.start + last + 1;
                self.filled.start = lines.end;
                return Ok(Block::Lines(&self.buffer[lines]));
            }
        }
        let last = std::mem::take(&mut self.filled);
        Ok(if last.is_empty() { Block::End } else { Block::Lines(&self.buffer[last]) })
    }
}

/// The lines of a block, without their `\n`.
pub(crate) fn split(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = block;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, after) = match find_byte(rest, b'\n') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, &rest[rest.len()..]),
        };
        rest = after;
        Some(line)
    })
}

/// Key and value of a line; without the separator, no key.
pub(crate) fn split_key<'a>(line: &'a [u8], separator: &[u8]) -> (Option<&'a [u8]>, &'a [u8]) {
    let Some((&first, others)) = separator.split_first() else { return (None, line) };
    let mut from = 0;
    while let Some(found) = find_byte(&line[from..], first) {
        let at = from + found;
        if line[at + 1..].starts_with(others) {
            return (Some(&line[..at]), &line[at + separator.len()..]);
        }
        from = at + 1;
    }
    (None, line)
}

/// Where `byte` first stands: the standard library's fast search, which only `BufRead` offers.
fn find_byte(bytes: &[u8], byte: u8) -> Option<usize> {
    let mut rest = bytes;
    let passed = io::BufRead::skip_until(&mut rest, byte).unwrap_or(0);
    (passed > 0 && bytes[passed - 1] == byte).then(|| passed - 1)
}

#[cfg(test)]
mod tests {
    //! Lines against the naive way (`split` on `\n`), with sources that give a few bytes at a time.

    use super::*;

    /// Gives at most so many bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(into.len());
            let (now, later) = self.0.split_at(count);
            into[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn all(input: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(Slow(input, step), 10 * BUFFER_BYTES);
        let mut found = Vec::new();
        loop {
            match lines.next_block().unwrap() {
                Block::Lines(block) => found.extend(split(block).map(<[u8]>::to_vec)),
                Block::TooLong => panic!("no line is too long"),
                Block::End => return found,
            }
        }
    }

    #[test]
    fn lines_come_as_they_are() {
        for input in ["", "\n", "a", "a\n", "a\n\nb", "\r\n\r\n", "one\ntwo\r\nthree \n\n\n", "\u{0}\n\u{0}"] {
            let mut expected: Vec<_> = input.as_bytes().split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
            expected.pop_if(|last| last.is_empty());
            for step in [1, 2, 3, 1_000] {
                assert_eq!(all(input.as_bytes(), step), expected, "{input:?} by {step}");
            }
        }
    }

    #[test]
    fn a_line_may_be_longer_than_the_buffer() {
        let mut input = vec![b'x'; 3 * BUFFER_BYTES];
        input.extend_from_slice(b"\nend");
        assert_eq!(all(&input, 700_000), [vec![b'x'; 3 * BUFFER_BYTES], b"end".to_vec()]);
    }

    #[test]
    fn a_line_without_end_is_not_gathered() {
        let mut lines = Lines::new(io::repeat(b'x'), 100);
        assert_eq!(lines.next_block().unwrap(), Block::TooLong);
    }

    #[test]
    fn keys_end_at_the_first_separator() {
        let keyed = |line: &'static str, separator: &str| {
            let (key, value) = split_key(line.as_bytes(), separator.as_bytes());
            (key.map(|key| std::str::from_utf8(key).unwrap()), std::str::from_utf8(value).unwrap())
        };
        assert_eq!(keyed("k:v:w", ":"), (Some("k"), "v:w"));
        assert_eq!(keyed(":v", ":"), (Some(""), "v"));
        assert_eq!(keyed("k:", ":"), (Some("k"), ""));
        assert_eq!(keyed("kv", ":"), (None, "kv"));
        assert_eq!(keyed("", ":"), (None, ""));
        assert_eq!(keyed("a=b==c", "=="), (Some("a=b"), "c"));
        assert_eq!(keyed("a===b", "=="), (Some("a"), "=b"));
        assert_eq!(keyed("a=", "=="), (None, "a="));
    }
}
