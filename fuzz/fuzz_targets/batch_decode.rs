//! Bytes as the place where a batch should stand.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thalweg::fuzzing::batch_decode(bytes));
