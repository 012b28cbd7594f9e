//! Bytes as the offset log of a directory, opened, looked at and written to.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thalweg::fuzzing::offsets_open(bytes));
