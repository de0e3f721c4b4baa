//! Seeded bijections, so that a random order needs no memory.

/// The finaliser of SplitMix64: a fixed bijection that mixes well.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A permutation of `0..len`, chosen by a seed.
///
/// It permutes the next power of two by odd multiplications, additions and
/// xor-shifts, each of them a bijection there, and walks on from what falls
/// outside `len`: fewer than two steps on average.
#[derive(Clone, Debug)]
pub(crate) struct Permutation {
    len: u64,
    mask: u64,
    shift: u32,
    rounds: [(u64, u64); 3],
}

impl Permutation {
    /// The permutation of `0..len` that belongs to `seed`. `len` of 0 stands for
    /// all 2⁶⁴ numbers.
    pub(crate) fn new(len: u64, seed: u64) -> Self {
        let bits = match len {
            0 => 64,
            _ => (u64::BITS - (len - 1).leading_zeros()).max(2),
        };
        let round = |i: u64| {
            let odd = mix(seed.wrapping_add(2 * i)) | 1;
            (odd, mix(seed.wrapping_add(2 * i + 1)))
        };
        Self {
            len,
            mask: u64::MAX >> (u64::BITS - bits),
            shift: bits.div_ceil(2),
            rounds: [round(1), round(2), round(3)],
        }
    }

    /// Where `x` goes. `x` must be below `len`.
    pub(crate) fn apply(&self, x: u64) -> u64 {
        debug_assert!(self.len == 0 || x < self.len);
        let mut x = x;
        loop {
            for (odd, add) in self.rounds {
                x = x.wrapping_mul(odd).wrapping_add(add) & self.mask;
                x ^= x >> self.shift;
            }
            if self.len == 0 || x < self.len {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_hit_once() {
        for len in [1, 2, 3, 5, 64, 1000, 4096, 65_537] {
            for seed in [0, 1, 99] {
                let p = Permutation::new(len, seed);
                let mut hit = vec![false; len as usize];
                for x in 0..len {
                    let y = p.apply(x) as usize;
                    assert!(!hit[y], "{y} twice of {len}");
                    hit[y] = true;
                }
            }
        }
    }

    #[test]
    fn the_full_range_has_no_collisions_in_a_sample() {
        let p = Permutation::new(0, 7);
        let mut seen: Vec<u64> = (0..200_000)
            .chain(u64::MAX - 1000..=u64::MAX)
            .map(|x| p.apply(x))
            .collect();
        let n = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), n);
    }

    #[test]
    fn order_is_lost_and_depends_on_the_seed() {
        let p = Permutation::new(10_000, 1);
        let ascents = (1..10_000).filter(|&x| p.apply(x) > p.apply(x - 1)).count();
        assert!((4_500..5_500).contains(&ascents), "{ascents} ascents");
        let q = Permutation::new(10_000, 2);
        let same = (0..10_000).filter(|&x| p.apply(x) == q.apply(x)).count();
        assert!(same < 20, "{same} in the same place");
    }
}
