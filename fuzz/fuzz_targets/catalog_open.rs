//! Bytes as the catalogue of a directory, opened and read whole.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thalweg::fuzzing::catalog_open(bytes));
