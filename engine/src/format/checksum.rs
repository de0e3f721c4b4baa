//! Checksums: XXH3 of 64 bits (Y. Collet, xxHash), seeded with the place, so that
//! a block that was written to the wrong address does not verify there.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Checksum of `bytes` that belong at block `place`, born in `birth`. Never 0:
/// 0 in a pointer means that the block has not been written yet.
pub fn block(bytes: &[u8], place: u64, birth: u64) -> u64 {
    let seed = place.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ birth;
    xxh3_64_with_seed(bytes, seed).max(1)
}

/// Checksum of bytes that have no place of their own (a log record's chain).
pub fn plain(bytes: &[u8]) -> u64 {
    xxh3_64(bytes).max(1)
}
