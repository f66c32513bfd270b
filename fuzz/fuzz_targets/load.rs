//! Snapshots of any bytes are loaded: see the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::load(data));
