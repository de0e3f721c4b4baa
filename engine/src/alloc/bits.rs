//! A bitmap of one group, searched and changed a word at a time. 1 = not free.

/// As many bits as a map block has: always whole words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits(Box<[u64]>);

/// The words that `start .. start + len` touches, each with a mask of its bits.
fn masks(start: u32, len: u32) -> impl Iterator<Item = (usize, u64)> {
    let end = start + len;
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let low = at % 64;
        let take = (64 - low).min(end - at);
        let mask = (u64::MAX >> (64 - take)) << low;
        let word = (at / 64) as usize;
        at += take;
        Some((word, mask))
    })
}

impl Bits {
    /// All bits 0. `bits` is a multiple of 64.
    pub(crate) fn zeroed(bits: u32) -> Self {
        debug_assert!(bits.is_multiple_of(64));
        Self(vec![0; bits as usize / 64].into_boxed_slice())
    }

    /// From the body of a map block: bit i is bit i % 8 of byte i / 8.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let words = bytes.chunks_exact(8);
        Self(
            words
                .map(|c| u64::from_le_bytes(c.try_into().expect("eight bytes")))
                .collect(),
        )
    }

    /// Writes the body of a map block.
    pub(crate) fn write_to(&self, bytes: &mut [u8]) {
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(&self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// How many bits there are.
    pub(crate) fn len(&self) -> u32 {
        self.0.len() as u32 * 64
    }

    /// How many bits are 0.
    pub(crate) fn zeros(&self) -> u32 {
        self.0.iter().map(|w| w.count_zeros()).sum()
    }

    /// Sets a range.
    pub(crate) fn set(&mut self, start: u32, len: u32) {
        for (word, mask) in masks(start, len) {
            self.0[word] |= mask;
        }
    }

    /// Sets those of 64 bits from `start` on, a multiple of 64, that `word` has.
    pub(crate) fn set_word(&mut self, start: u32, word: u64) {
        self.0[(start / 64) as usize] |= word;
    }

    /// Clears a range.
    pub(crate) fn clear(&mut self, start: u32, len: u32) {
        for (word, mask) in masks(start, len) {
            self.0[word] &= !mask;
        }
    }

    /// Whether the whole range is 1.
    pub(crate) fn all_set(&self, start: u32, len: u32) -> bool {
        masks(start, len).all(|(word, mask)| self.0[word] & mask == mask)
    }

    /// Whether the whole range is 0.
    pub(crate) fn all_clear(&self, start: u32, len: u32) -> bool {
        masks(start, len).all(|(word, mask)| self.0[word] & mask == 0)
    }

    /// Whether every bit set in `other` is set here.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a & b == *b)
    }

    /// The bits set here or in `other`.
    pub(crate) fn with(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a | b).collect())
    }

    /// The bits set here and not in `other`.
    pub(crate) fn without(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & !b).collect())
    }

    /// The first bit at `from` or behind that is 0 (`invert` 0) or 1 (`invert`
    /// all ones); the length if there is none.
    fn next(&self, from: u32, invert: u64) -> u32 {
        let mut word = (from / 64) as usize;
        if word >= self.0.len() {
            return self.len();
        }
        let mut found = (!self.0[word] ^ invert) & (u64::MAX << (from % 64));
        while found == 0 {
            word += 1;
            if word == self.0.len() {
                return self.len();
            }
            found = !self.0[word] ^ invert;
        }
        word as u32 * 64 + found.trailing_zeros()
    }

    /// The first run of zeros in `from .. end`, clipped to it, as start and length.
    pub(crate) fn zero_run(&self, from: u32, end: u32) -> Option<(u32, u32)> {
        let start = self.next(from, 0);
        if start >= end {
            return None;
        }
        Some((start, self.next(start, u64::MAX).min(end) - start))
    }

    /// The runs of zeros in `from .. end`, in order.
    pub(crate) fn zero_runs(&self, from: u32, end: u32) -> impl Iterator<Item = (u32, u32)> {
        let mut at = from;
        std::iter::from_fn(move || {
            let (start, len) = self.zero_run(at, end)?;
            at = start + len;
            Some((start, len))
        })
    }

    /// The runs of ones, in order.
    pub(crate) fn ones(&self) -> impl Iterator<Item = (u32, u32)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at, u64::MAX);
            at = self.next(start, 0);
            (start < self.len()).then(|| (start, at - start))
        })
    }

    /// The first run of at least `want` zeros in `from .. end`, or else the
    /// length of the longest there.
    pub(crate) fn find(&self, from: u32, end: u32, want: u32) -> Result<(u32, u32), u32> {
        let mut longest = 0;
        for (start, len) in self.zero_runs(from, end) {
            if len >= want {
                return Ok((start, len));
            }
            longest = longest.max(len);
        }
        Err(longest)
    }

    /// The longest run of zeros, the first of several.
    pub(crate) fn longest(&self) -> Option<(u32, u32)> {
        let runs = self.zero_runs(0, self.len());
        runs.max_by_key(|&(start, len)| (len, u32::MAX - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gaur_iodriver::sync::rng;
    use rand::RngExt;

    #[test]
    fn agrees_with_a_vector_of_bools() {
        let seed = rng::fresh_seed();
        let mut r = rng::seeded(seed);
        let mut bits = Bits::zeroed(1024);
        let mut model = vec![false; 1024];
        for _ in 0..2000 {
            let start = r.random_range(0..1024);
            let len = r.random_range(1..=(1024 - start).min(200));
            let range = start as usize..(start + len) as usize;
            let set = r.random();
            assert_eq!(
                bits.all_set(start, len),
                model[range.clone()].iter().all(|b| *b)
            );
            assert_eq!(
                bits.all_clear(start, len),
                !model[range.clone()].iter().any(|b| *b)
            );
            if set {
                bits.set(start, len);
            } else {
                bits.clear(start, len);
            }
            model[range].fill(set);
            assert_eq!(bits.zeros() as usize, model.iter().filter(|b| !**b).count());
            let want = (start..start + len).find(|&i| !model[i as usize]).map(|s| {
                let e = (s..start + len).find(|&i| model[i as usize]);
                (s, e.unwrap_or(start + len) - s)
            });
            assert_eq!(bits.zero_run(start, start + len), want, "seed {seed}");
        }
        let ones: Vec<u32> = bits.ones().flat_map(|(at, len)| at..at + len).collect();
        let set: Vec<u32> = (0..bits.len()).filter(|&i| model[i as usize]).collect();
        assert_eq!(ones, set, "seed {seed}");
        let mut bytes = vec![0; 128];
        bits.write_to(&mut bytes);
        assert_eq!(Bits::from_bytes(&bytes), bits);
    }

    #[test]
    fn finds_the_first_fit_and_says_the_longest() {
        let mut bits = Bits::zeroed(256);
        bits.set(0, 256);
        bits.clear(10, 3);
        bits.clear(60, 70);
        bits.clear(200, 70 - 14);
        assert_eq!(bits.find(0, 256, 4), Ok((60, 70)));
        assert_eq!(bits.find(0, 256, 71), Err(70));
        assert_eq!(bits.longest(), Some((60, 70)));
        assert_eq!(bits.find(131, 256, 1), Ok((200, 56)));
    }

    #[test]
    fn sets_of_bits_are_joined_compared_and_taken_away() {
        let of = |ranges: &[(u32, u32)]| {
            let mut bits = Bits::zeroed(192);
            ranges.iter().for_each(|&(at, len)| bits.set(at, len));
            bits
        };
        let (a, b) = (of(&[(10, 100)]), of(&[(60, 100)]));
        assert_eq!(a.with(&b), of(&[(10, 150)]));
        assert_eq!(a.without(&b), of(&[(10, 50)]));
        assert!(a.covers(&of(&[(10, 100)])) && a.covers(&of(&[])));
        assert!(!a.covers(&b) && !a.covers(&of(&[(109, 2)])));
        assert_eq!(Bits::zeroed(192).longest(), Some((0, 192)));
        assert_eq!(of(&[(0, 192)]).longest(), None);
        assert_eq!(of(&[(64, 64)]).longest(), Some((0, 64)));
    }
}
