//! Bytes as the first segment of a partition, opened and read whole.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thalweg::fuzzing::segment_open(bytes));
