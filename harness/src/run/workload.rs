//! What the threads of a run share: the subject, the records, the mix.

use gaur::Store;
use rand::{Rng, RngExt};

use super::config::{Config, Mix};
use super::keys::KeySpace;
use super::measure::Op;
use super::validate::weights;
use super::values;
use crate::failure::Failure;
use crate::subject::{Gaur, Null, Subject};

/// What is worked on and the records in it.
pub(crate) struct Target {
    pub(crate) subject: Box<dyn Subject>,
    pub(crate) keys: KeySpace,
    pub(crate) value_bytes: usize,
    /// Of a subject that stores nothing: the key whose value it finds under all.
    only: Option<Vec<u8>>,
}

impl Target {
    /// This subject with records as `config` describes them.
    pub(crate) fn new(subject: Box<dyn Subject>, config: &Config) -> Self {
        let load = &config.load;
        Self {
            subject,
            keys: KeySpace::new(load.order, load.key_bytes, load.seed),
            value_bytes: load.value_bytes,
            only: None,
        }
    }

    /// One that stores nothing, and whose value is as long as a record's and as
    /// much work to check.
    pub(crate) fn null(config: &Config) -> Self {
        let mut target = Self::new(Box::new(Null::new(Vec::new())), config);
        let (key, mut value) = (target.keys.key(0), Vec::new());
        values::write(&key, values::LOADED, target.value_bytes, &mut value);
        target.subject = Box::new(Null::new(value));
        target.only = Some(key);
        target
    }

    /// The configuration's tree in this store.
    pub(crate) fn of_store(store: Store, config: &Config) -> Result<Self, Failure> {
        let gaur = Gaur::new(store, &config.store.tree)?;
        Ok(Self::new(Box::new(gaur), config))
    }

    /// Whether records are kept, and come in their order.
    pub(crate) fn keeps(&self) -> bool {
        self.only.is_none()
    }

    /// The key whose value is found under `key`: itself, if records are kept.
    pub(crate) fn found_under<'a>(&'a self, key: &'a [u8]) -> &'a [u8] {
        self.only.as_deref().unwrap_or(key)
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
    /// The mix of these weights.
    pub(crate) fn new(mix: &Mix) -> Self {
        let ops = [
            Op::Read,
            Op::Update,
            Op::Insert,
            Op::Scan,
            Op::Reverse,
            Op::Delete,
            Op::Rmw,
        ];
        let mut total = 0.0;
        let ends = ops
            .into_iter()
            .zip(weights(mix))
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
    #[inline]
    pub(crate) fn draw(&self, rng: &mut impl Rng) -> Op {
        if let [(op, _)] = self.ends[..] {
            return op;
        }
        let at = rng.random::<f64>() * self.total;
        self.ends
            .iter()
            .find(|(_, end)| at < *end)
            .or(self.ends.last())
            .map_or(Op::Read, |(op, _)| *op)
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
        let mix = OpMix::new(&config.run.mix);
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
}
