//! Checksums: XXH3 of 64 bits (Y. Collet, xxHash), seeded with the place, so that
//! a block that was written to the wrong address does not verify there.

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

/// Checksum of `bytes` that belong at block `place`, born in `birth`. Never 0:
/// 0 in a pointer means that the block has not been written yet.
pub fn block(bytes: &[u8], place: u64, birth: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed(place, birth)).max(1)
}

fn seed(place: u64, birth: u64) -> u64 {
    place.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ birth
}

/// [`block`] of bytes that come in parts.
#[derive(Clone)]
pub(crate) struct InParts(Xxh3);

impl InParts {
    /// For bytes that belong at block `place`, born in `birth`.
    pub(crate) fn new(place: u64, birth: u64) -> Self {
        Self(Xxh3::with_seed(seed(place, birth)))
    }

    /// The next part.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all parts.
    pub(crate) fn finish(&self) -> u64 {
        self.0.digest().max(1)
    }
}

/// Checksum of bytes that have no place of their own (a log record's chain).
pub fn plain(bytes: &[u8]) -> u64 {
    xxh3_64(bytes).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i * 7) as u8).collect();
        for cut in [0, 1, 239, 240, 241, 4096, 9999] {
            let mut parts = InParts::new(17, 99);
            parts.add(&bytes[..cut]);
            parts.add(&bytes[cut..]);
            assert_eq!(parts.finish(), block(&bytes, 17, 99));
        }
    }
}
