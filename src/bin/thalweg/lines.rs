//! Stdin taken apart into lines: bytes as they are, in memory that doesn't grow with the input.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::AsFd;

use memchr::memmem;
use rustix::event::{PollFd, PollFlags};

use crate::output;

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

/// Stdin for a command that prints as it reads: waiting for more input ends when stdout is closed.
#[derive(Debug)]
pub(crate) struct WatchedStdin {
    stdin: File,
    /// Whether anything is printed.
    prints: bool,
}

impl WatchedStdin {
    pub(crate) fn new(stdin: File, prints: bool) -> WatchedStdin {
        WatchedStdin { stdin, prints }
    }
}

impl Read for WatchedStdin {
    /// Fails as `BrokenPipe` if stdout is closed; no file read from fails so.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.prints {
            let stdout = io::stdout();
            let mut either = [PollFd::new(&self.stdin, PollFlags::IN), PollFd::new(&stdout, PollFlags::empty())];
            rustix::event::poll(&mut either, None)?;
            if output::is_hung_up(&either[1]) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        self.stdin.read(into)
    }
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
            if let Some(last) = memchr::memrchr(b'\n', &self.buffer[fresh.clone()]) {
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
    let unfinished = block.last().is_some_and(|&last| last != b'\n').then_some(block.len());
    let mut start = 0;
    memchr::memchr_iter(b'\n', block).chain(unfinished).map(move |end| {
        let line = &block[start..end];
        start = end + 1;
        line
    })
}

/// What stands between a line's key and its value.
#[derive(Debug)]
pub(crate) struct Separator<'a>(memmem::Finder<'a>);

impl<'a> Separator<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Separator<'a> {
        Separator(memmem::Finder::new(bytes))
    }

    /// Key and value of a line: what stands before the first separator and behind it. Without one,
    /// there is no key.
    #[inline]
    pub(crate) fn split<'l>(&self, line: &'l [u8]) -> (Option<&'l [u8]>, &'l [u8]) {
        match self.0.find(line) {
            Some(at) => (Some(&line[..at]), &line[at + self.0.needle().len()..]),
            None => (None, line),
        }
    }
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
            let (key, value) = Separator::new(separator.as_bytes()).split(line.as_bytes());
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
