//! Values that describe themselves: a function of the key and a version, so that
//! whoever reads one can tell whether it is the value of that key, whole.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::config::LoadConfig;
use super::permute::mix;
use super::spread::Lengths;

/// The version that the load writes.
pub(crate) const LOADED: u64 = 1;

/// In pieces of this many bytes, at most, lie what is random and what is not, so
/// that every compressor's window covers both.
const PIECE: usize = 128;

/// How values are made: their lengths, and how well they compress.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    lengths: Lengths,
    /// The share that a compressor cannot shrink.
    ratio: f64,
}

impl Values {
    /// Values of these lengths, of which a compressor leaves `ratio`, from 0 to 1.
    pub(crate) fn new(lengths: Lengths, ratio: f64) -> Self {
        Self { lengths, ratio }
    }

    /// The values that a configuration asks for.
    pub(crate) fn of(load: &LoadConfig) -> Self {
        Self::new(Lengths::fixed(&load.value_bytes), load.compression_ratio)
    }

    /// The length of the value of `key` at `version`.
    pub(crate) fn length(&self, key: &[u8], version: u64) -> usize {
        match &self.lengths {
            Lengths::Fixed(n) => *n as usize,
            drawn => drawn.of(xxh3_64_with_seed(key, version)) as usize,
        }
    }

    /// Writes the value of `key` at `version` into `out`.
    pub(crate) fn write(&self, key: &[u8], version: u64, out: &mut Vec<u8>) {
        self.write_long(key, version, self.length(key, version), out);
    }

    /// The same, `len` bytes long.
    ///
    /// From eight bytes on, the first eight are the version. The rest is a stream
    /// seeded by key, version and length, with zeroes in each piece for what is to
    /// be compressed. A shorter value depends on the key alone.
    pub(crate) fn write_long(&self, key: &[u8], version: u64, len: usize, out: &mut Vec<u8>) {
        out.clear();
        out.reserve(len);
        let version = if len < 8 { 0 } else { version };
        if len >= 8 {
            out.extend_from_slice(&version.to_le_bytes());
        }
        let mut state = seed(key, version, len);
        for (random, zeroes) in self.pieces(len - out.len()) {
            let end = out.len() + random;
            while out.len() < end {
                let take = (end - out.len()).min(8);
                out.extend_from_slice(&next(&mut state).to_le_bytes()[..take]);
            }
            out.resize(end + zeroes, 0);
        }
    }

    /// Checks that `value` is one that [`write`](Self::write) made for `key`; says
    /// what is wrong otherwise.
    pub(crate) fn check(&self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let len = value.len();
        let wrong =
            |expected: &dyn std::fmt::Display| Err(format!("{len} bytes, expected {expected}"));
        match (&self.lengths, value.first_chunk::<8>()) {
            (Lengths::Fixed(n), _) if len as u64 != *n => return wrong(n),
            (Lengths::Fixed(_), _) => {}
            (drawn, Some(version)) => {
                let expected = self.length(key, u64::from_le_bytes(*version));
                if len != expected {
                    return match drawn.may_be(len as u64) {
                        true => Err(not_the_value(0, u64::from_le_bytes(*version))),
                        false => wrong(&"another length"),
                    };
                }
            }
            // Too short to tell its version: any length that may be.
            (drawn, None) if !drawn.may_be(len as u64) => return wrong(&"a longer value"),
            (_, None) => {}
        }
        self.check_content(key, value)
    }

    /// Checks what is in `value`, of whatever length.
    pub(crate) fn check_content(&self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let (version, mut rest) = match value.split_first_chunk::<8>() {
            Some((version, rest)) => (u64::from_le_bytes(*version), rest),
            None => (0, value),
        };
        let wrong = |rest: &[u8]| Err(not_the_value(value.len() - rest.len(), version));
        let mut state = seed(key, version, value.len());
        for (random, zeroes) in self.pieces(rest.len()) {
            let (mut stream, after) = rest.split_at(random);
            while let Some((word, further)) = stream.split_first_chunk::<8>() {
                if *word != next(&mut state).to_le_bytes() {
                    return wrong(rest);
                }
                stream = further;
            }
            if !stream.is_empty() && *stream != next(&mut state).to_le_bytes()[..stream.len()] {
                return wrong(rest);
            }
            let (empty, after) = after.split_at(zeroes);
            if empty.iter().any(|&b| b != 0) {
                return wrong(after);
            }
            rest = after;
        }
        Ok(())
    }

    /// How `len` bytes are divided: what is random and what is zero, in turn.
    fn pieces(&self, len: usize) -> impl Iterator<Item = (usize, usize)> {
        let ratio = self.ratio;
        let count = if ratio < 1.0 { len.div_ceil(PIECE) } else { 1 };
        let end = move |i: usize| len * i / count.max(1);
        (0..count).map(move |i| {
            let size = end(i + 1) - end(i);
            let random = ((size as f64 * ratio).round() as usize).min(size);
            (random, size - random)
        })
    }
}

fn not_the_value(at: usize, version: u64) -> String {
    format!("not the value of this key, from byte {at} on (version {version})")
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
    use crate::run::spread::{Spread, SpreadTable};

    fn fixed(len: u64, ratio: f64) -> Values {
        Values::new(Lengths::Fixed(len), ratio)
    }

    fn drawn(low: u64, high: u64) -> Values {
        let table = SpreadTable {
            uniform: Some([low, high]),
            ..SpreadTable::default()
        };
        Values::new(Lengths::fixed(&Spread::Table(table)), 0.7)
    }

    fn value(values: &Values, key: &[u8], version: u64) -> Vec<u8> {
        let mut v = Vec::new();
        values.write(key, version, &mut v);
        v
    }

    #[test]
    fn what_is_written_checks() {
        for len in [0, 1, 7, 8, 9, 16, 100, 4096] {
            for ratio in [0.0, 0.1, 0.5, 0.999, 1.0] {
                let values = fixed(len, ratio);
                for version in [0, 1, u64::MAX] {
                    let v = value(&values, b"key", version);
                    assert_eq!(v.len() as u64, len);
                    assert_eq!(values.check(b"key", &v), Ok(()), "{len} {ratio}");
                }
            }
        }
    }

    #[test]
    fn drawn_lengths_vary_by_version_and_check() {
        let values = drawn(0, 300);
        let mut lengths = Vec::new();
        for version in 0..2000 {
            let v = value(&values, b"key", version);
            assert_eq!(values.check(b"key", &v), Ok(()), "{}", v.len());
            lengths.push(v.len());
        }
        lengths.sort_unstable();
        lengths.dedup();
        assert!(lengths.len() > 250, "{} lengths", lengths.len());
        assert_eq!(value(&values, b"key", 7), value(&values, b"key", 7));
    }

    #[test]
    fn a_cut_or_grown_value_of_a_drawn_length_is_seen() {
        let values = drawn(8, 300);
        for version in 0..200 {
            let mut v = value(&values, b"key", version);
            v.push(0);
            assert!(values.check(b"key", &v).is_err());
            v.truncate(v.len() - 2);
            assert!(values.check(b"key", &v).is_err(), "{}", v.len());
            v.truncate(5);
            assert!(values.check(b"key", &v).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        for ratio in [1.0, 0.4] {
            let values = fixed(300, ratio);
            let good = value(&values, b"key", 5);
            for bit in 0..300 * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(values.check(b"key", &bad).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn another_keys_value_a_mixed_one_and_a_short_one_are_seen() {
        let values = fixed(64, 1.0);
        let v = value(&values, b"key", 5);
        assert!(values.check(b"kex", &v).is_err());
        let mut mixed = v.clone();
        mixed[32..].copy_from_slice(&value(&values, b"key", 6)[32..]);
        assert!(values.check(b"key", &mixed).is_err());
        assert!(values.check(b"key", &v[..63]).is_err());
    }

    #[test]
    fn the_share_that_compresses_is_as_asked_in_every_window() {
        for ratio in [0.1, 0.25, 0.5, 0.8] {
            for len in [100, 1000, 100_000] {
                let v = value(&fixed(len, ratio), b"key", 5);
                let zeroes = v[8..].iter().filter(|&&b| b == 0).count();
                let share = 1.0 - zeroes as f64 / (len - 8) as f64;
                assert!((share - ratio).abs() < 0.02, "{ratio} {len}: {share}");
            }
        }
    }
}
