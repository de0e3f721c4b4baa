//! From the number of a record to its key.

use super::config::{LoadConfig, Order};
use super::permute::{Permutation, mix};
use super::spread::Lengths;

/// The shortest key: eight bytes hold every record's number.
pub(crate) const MIN_KEY: u64 = 8;
/// The longest key that every store takes.
pub(crate) const MAX_KEY: u64 = 1024;

/// The key of each record.
///
/// The first eight bytes are the record's number (`sequential`), or a seeded
/// bijection of it (`random`), so that no two records share a key. What follows
/// is filler that depends on those eight bytes.
#[derive(Clone, Debug)]
pub(crate) struct KeySpace {
    scramble: Option<Permutation>,
    lengths: Lengths,
}

impl KeySpace {
    /// Keys of these lengths.
    pub(crate) fn new(order: Order, lengths: Lengths, seed: u64) -> Self {
        Self {
            scramble: match order {
                Order::Random => Some(Permutation::new(0, seed)),
                Order::Sequential => None,
            },
            lengths,
        }
    }

    /// The keys that a configuration asks for.
    pub(crate) fn of(load: &LoadConfig) -> Self {
        Self::new(load.order, Lengths::fixed(&load.key_bytes), load.seed)
    }

    /// Writes the key of `record` into `key`.
    pub(crate) fn write(&self, record: u64, key: &mut Vec<u8>) {
        let head = match &self.scramble {
            Some(p) => p.apply(record),
            None => record,
        };
        key.clear();
        key.extend_from_slice(&head.to_be_bytes());
        // Never shorter than what tells it from the others.
        let len = self.lengths.of(head) as usize;
        let mut filler = head;
        while key.len() < len {
            filler = mix(filler.wrapping_add(0x9e37_79b9_7f4a_7c15));
            let take = (len - key.len()).min(8);
            key.extend_from_slice(&filler.to_be_bytes()[..take]);
        }
    }

    /// The key of `record`.
    pub(crate) fn key(&self, record: u64) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.lengths.most() as usize);
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
            let keys = KeySpace::new(Order::Random, Lengths::Fixed(len), 3);
            let mut all: Vec<_> = (0..20_000).map(|i| keys.key(i)).collect();
            assert!(all.iter().all(|k| k.len() as u64 == len));
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), 20_000);
        }
    }

    #[test]
    fn sequential_keys_ascend_and_random_ones_do_not() {
        let seq = KeySpace::new(Order::Sequential, Lengths::Fixed(16), 3);
        assert!((1..1000).all(|i| seq.key(i) > seq.key(i - 1)));
        let random = KeySpace::new(Order::Random, Lengths::Fixed(16), 3);
        let ascents = (1..1000)
            .filter(|&i| random.key(i) > random.key(i - 1))
            .count();
        assert!((400..600).contains(&ascents));
    }

    #[test]
    fn drawn_lengths_are_the_keys_own_and_leave_the_order() {
        let lengths = Lengths::Uniform { low: 8, high: 40 };
        let keys = KeySpace::new(Order::Sequential, lengths, 3);
        let all: Vec<_> = (0..5000).map(|i| keys.key(i)).collect();
        assert!(all.windows(2).all(|w| w[0] < w[1]));
        assert!((8..=40).all(|n| all.iter().any(|k| k.len() == n)));
        assert_eq!(keys.key(77), all[77]);
    }

    #[test]
    fn the_seed_alone_decides() {
        let a = KeySpace::new(Order::Random, Lengths::Fixed(16), 3);
        assert_eq!(
            a.key(77),
            KeySpace::new(Order::Random, Lengths::Fixed(16), 3).key(77)
        );
        assert_ne!(
            a.key(77),
            KeySpace::new(Order::Random, Lengths::Fixed(16), 4).key(77)
        );
    }
}
