//! From the number of a record to its key.

use super::config::Order;
use super::permute::{Permutation, mix};

/// The shortest key: eight bytes hold every record's number.
pub(crate) const MIN_KEY: usize = 8;
/// The longest key that every store takes.
pub(crate) const MAX_KEY: usize = 1024;

/// The key of each record.
///
/// The first eight bytes are the record's number (`sequential`), or a seeded
/// bijection of it (`random`), so that no two records share a key. What follows
/// is filler that depends on those eight bytes.
#[derive(Clone, Debug)]
pub(crate) struct KeySpace {
    scramble: Option<Permutation>,
    len: usize,
}

impl KeySpace {
    /// Keys of `len` bytes.
    pub(crate) fn new(order: Order, len: usize, seed: u64) -> Self {
        Self {
            scramble: match order {
                Order::Random => Some(Permutation::new(0, seed)),
                Order::Sequential => None,
            },
            len: len.max(MIN_KEY),
        }
    }

    /// Writes the key of `record` into `key`.
    pub(crate) fn write(&self, record: u64, key: &mut Vec<u8>) {
        let head = match &self.scramble {
            Some(p) => p.apply(record),
            None => record,
        };
        key.clear();
        key.extend_from_slice(&head.to_be_bytes());
        let mut filler = head;
        while key.len() < self.len {
            filler = mix(filler.wrapping_add(0x9e37_79b9_7f4a_7c15));
            let take = (self.len - key.len()).min(8);
            key.extend_from_slice(&filler.to_be_bytes()[..take]);
        }
    }

    /// The key of `record`.
    pub(crate) fn key(&self, record: u64) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.len);
        self.write(record, &mut key);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct_and_of_the_length_asked_for() {
        for len in [8, 16, 24, 27] {
            let keys = KeySpace::new(Order::Random, len, 3);
            let mut all: Vec<_> = (0..20_000).map(|i| keys.key(i)).collect();
            assert!(all.iter().all(|k| k.len() == len));
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), 20_000);
        }
    }

    #[test]
    fn sequential_keys_ascend_and_random_ones_do_not() {
        let seq = KeySpace::new(Order::Sequential, 16, 3);
        assert!((1..1000).all(|i| seq.key(i) > seq.key(i - 1)));
        let random = KeySpace::new(Order::Random, 16, 3);
        let ascents = (1..1000)
            .filter(|&i| random.key(i) > random.key(i - 1))
            .count();
        assert!((400..600).contains(&ascents));
    }

    #[test]
    fn the_seed_alone_decides() {
        let a = KeySpace::new(Order::Random, 16, 3);
        assert_eq!(a.key(77), KeySpace::new(Order::Random, 16, 3).key(77));
        assert_ne!(a.key(77), KeySpace::new(Order::Random, 16, 4).key(77));
    }
}
