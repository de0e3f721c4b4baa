//! Values that describe themselves: a function of the key and a version, so that
//! whoever reads one can tell whether it is the value of that key, whole.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::permute::mix;

/// The version that the load writes.
pub(crate) const LOADED: u64 = 1;

/// Writes the value of `key` at `version` into `out`, `len` bytes long.
///
/// From eight bytes on, the first eight are the version. The rest is a stream
/// seeded by key, version and length; a shorter value depends on the key alone.
pub(crate) fn write(key: &[u8], version: u64, len: usize, out: &mut Vec<u8>) {
    out.clear();
    out.reserve(len);
    let version = if len < 8 { 0 } else { version };
    if len >= 8 {
        out.extend_from_slice(&version.to_le_bytes());
    }
    let mut state = seed(key, version, len);
    while out.len() < len {
        let word = next(&mut state);
        let take = (len - out.len()).min(8);
        out.extend_from_slice(&word.to_le_bytes()[..take]);
    }
}

/// Checks that `value` is one that [`write()`] made for `key` with this length;
/// says what is wrong otherwise.
pub(crate) fn check(key: &[u8], value: &[u8], len: usize) -> Result<(), String> {
    if value.len() != len {
        return Err(format!("{} bytes, expected {len}", value.len()));
    }
    let (version, rest) = match value.split_first_chunk::<8>() {
        Some((version, rest)) => (u64::from_le_bytes(*version), rest),
        None => (0, value),
    };
    let mut state = seed(key, version, len);
    let mut words = rest.chunks_exact(8);
    let mut at = len - rest.len();
    for word in &mut words {
        if word != next(&mut state).to_le_bytes() {
            return Err(format!(
                "not the value of this key, from byte {at} on (version {version})"
            ));
        }
        at += 8;
    }
    let tail = words.remainder();
    if tail != &next(&mut state).to_le_bytes()[..tail.len()] {
        return Err(format!(
            "not the value of this key, from byte {at} on (version {version})"
        ));
    }
    Ok(())
}

fn seed(key: &[u8], version: u64, len: usize) -> u64 {
    xxh3_64_with_seed(key, mix(version ^ (len as u64).rotate_left(40)))
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mix(*state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(key: &[u8], version: u64, len: usize) -> Vec<u8> {
        let mut v = Vec::new();
        write(key, version, len, &mut v);
        v
    }

    #[test]
    fn what_is_written_checks() {
        for len in [0, 1, 7, 8, 9, 16, 100, 4096] {
            for version in [0, 1, u64::MAX] {
                let v = value(b"key", version, len);
                assert_eq!(v.len(), len);
                assert_eq!(check(b"key", &v, len), Ok(()));
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let good = value(b"key", 5, 37);
        for bit in 0..37 * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(b"key", &bad, 37).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_keys_value_a_mixed_one_and_a_short_one_are_seen() {
        let v = value(b"key", 5, 64);
        assert!(check(b"kex", &v, 64).is_err());
        let mut mixed = v.clone();
        mixed[32..].copy_from_slice(&value(b"key", 6, 64)[32..]);
        assert!(check(b"key", &mixed, 64).is_err());
        assert!(check(b"key", &v[..63], 64).is_err());
    }
}
