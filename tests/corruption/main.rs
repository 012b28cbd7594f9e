//! Goal: whatever happens to the bytes and files of a data directory, it is detected, naming the file,
//! or it is harmless: never wrong bytes, never a value that was not committed, never a log that is
//! shorter without a word (T8).
//!
//! Method: small directories on a simulated disk, with several topics, segments, indexes, groups; every
//! byte flipped, every length cut, sectors zeroed and swapped, files swapped, deleted, doubled, longer
//! than they were. After each, `verify`, an engine that only reads and one that writes are asked for all
//! there is, and compared with what was sent and with each other.
//!
//! A release build flips one bit of each byte that was ever written, and cuts at each of them; a debug
//! build takes every thirteenth. With `THALWEG_EXHAUSTIVE=1` it is every bit, also of bytes that were only
//! allocated, and everything is asked for each time.

mod bytes;
mod evidence;
mod files;
mod judge;
mod sample;
mod view;
