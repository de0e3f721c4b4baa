#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gaur_fuzz::dump(data));
