//! What the threads of a run share: the subject, the records, the mix.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use gaur::Store;
use rand::{Rng, RngExt};

use super::config::Config;
use super::keys::KeySpace;
use super::measure::Op;
use super::validate::weights;
use crate::failure::Failure;
use crate::subject::{Gaur, Subject};

/// What is worked on and the records in it.
pub(crate) struct Target {
    pub(crate) subject: Box<dyn Subject>,
    pub(crate) keys: KeySpace,
    pub(crate) value_bytes: usize,
}

impl Target {
    /// This subject with records as `config` describes them.
    pub(crate) fn new(subject: Box<dyn Subject>, config: &Config) -> Self {
        let load = &config.load;
        Self {
            subject,
            keys: KeySpace::new(load.order, load.key_bytes, load.seed),
            value_bytes: load.value_bytes,
        }
    }

    /// The configuration's tree in this store.
    pub(crate) fn of_store(store: Store, config: &Config) -> Result<Self, Failure> {
        let gaur = Gaur::new(store, &config.store.tree)?;
        Ok(Self::new(Box::new(gaur), config))
    }
}

/// The operations of a mix with their shares.
#[derive(Clone, Debug)]
pub(crate) struct OpMix {
    /// Each operation with the upper end of its part of `0..total`.
    ends: Vec<(Op, f64)>,
    total: f64,
}

impl OpMix {
    /// The mix that the configuration asks for.
    pub(crate) fn new(config: &Config) -> Self {
        let ops = [
            Op::Read,
            Op::Update,
            Op::Insert,
            Op::Scan,
            Op::Delete,
            Op::Rmw,
        ];
        let mut total = 0.0;
        let ends = ops
            .into_iter()
            .zip(weights(&config.run.mix))
            .filter(|(_, (_, weight))| *weight > 0.0)
            .map(|(op, (_, weight))| {
                total += weight;
                (op, total)
            })
            .collect();
        Self { ends, total }
    }

    /// The operations that may occur.
    pub(crate) fn ops(&self) -> impl Iterator<Item = Op> {
        self.ends.iter().map(|(op, _)| *op)
    }

    /// Draws one.
    pub(crate) fn draw(&self, rng: &mut impl Rng) -> Op {
        let at = rng.random::<f64>() * self.total;
        self.ends
            .iter()
            .find(|(_, end)| at < *end)
            .or(self.ends.last())
            .map_or(Op::Read, |(op, _)| *op)
    }
}

/// Hands out the numbers of new records, and knows up to where all are in.
#[derive(Debug)]
pub(crate) struct Inserts {
    next: CachePadded<AtomicU64>,
    /// All records below this are in the store.
    visible: CachePadded<AtomicU64>,
    /// Per thread: none of its unfinished inserts is below this.
    unfinished: Vec<CachePadded<AtomicU64>>,
}

impl Inserts {
    /// `loaded` records are there.
    pub(crate) fn new(loaded: u64, threads: usize) -> Self {
        Self {
            next: CachePadded::new(AtomicU64::new(loaded)),
            visible: CachePadded::new(AtomicU64::new(loaded)),
            unfinished: (0..threads)
                .map(|_| CachePadded::new(AtomicU64::new(u64::MAX)))
                .collect(),
        }
    }

    /// The first of `n` new records for `thread`, to be [`finish`](Self::finish)ed.
    pub(crate) fn begin(&self, thread: usize, n: u64) -> u64 {
        // A lower bound first, so that nobody counts these as finished meanwhile.
        let bound = self.next.load(Ordering::SeqCst);
        self.unfinished[thread].store(bound, Ordering::SeqCst);
        self.next.fetch_add(n, Ordering::SeqCst)
    }

    /// The records that `thread` began are in.
    pub(crate) fn finish(&self, thread: usize) {
        self.unfinished[thread].store(u64::MAX, Ordering::SeqCst);
        let next = self.next.load(Ordering::SeqCst);
        let oldest = self
            .unfinished
            .iter()
            .map(|u| u.load(Ordering::SeqCst))
            .min();
        self.visible
            .fetch_max(next.min(oldest.unwrap_or(next)), Ordering::SeqCst);
    }

    /// How many records, from 0 on, are certainly in.
    pub(crate) fn visible(&self) -> u64 {
        self.visible.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::run::file::parse;

    #[test]
    fn a_mix_keeps_its_shares() {
        let config = parse("run.mix = { read = 95, update = 4, scan = 1 }", &[], "x").unwrap();
        let mix = OpMix::new(&config);
        assert_eq!(
            mix.ops().collect::<Vec<_>>(),
            [Op::Read, Op::Update, Op::Scan]
        );
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut hits = [0; Op::COUNT];
        for _ in 0..100_000 {
            hits[mix.draw(&mut rng) as usize] += 1;
        }
        assert!(
            (94_500..95_500).contains(&hits[Op::Read as usize]),
            "{hits:?}"
        );
        assert!(
            (3_700..4_300).contains(&hits[Op::Update as usize]),
            "{hits:?}"
        );
        assert_eq!(hits.iter().sum::<u32>(), 100_000);
        assert_eq!(hits[Op::Delete as usize], 0);
    }

    #[test]
    fn a_record_is_visible_when_all_before_it_are_in() {
        let inserts = Inserts::new(10, 3);
        assert_eq!(inserts.begin(0, 1), 10);
        assert_eq!(inserts.begin(1, 5), 11);
        inserts.finish(1);
        assert_eq!(inserts.visible(), 10);
        assert_eq!(inserts.begin(2, 1), 16);
        inserts.finish(0);
        assert_eq!(inserts.visible(), 16);
        inserts.finish(2);
        assert_eq!(inserts.visible(), 17);
    }
}
