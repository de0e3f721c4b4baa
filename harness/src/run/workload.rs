//! What the threads of a run share: the subject, the records, the mix.

use gaur::Store;
use rand::{Rng, RngExt};

use super::config::{Config, Mix};
use super::keys::KeySpace;
use super::measure::Op;
use super::validate::weights;
use super::values::{self, Values};
use crate::failure::Failure;
use crate::subject::{Gaur, Null, Subject};

/// What is worked on and the records in it.
pub(crate) struct Target {
    pub(crate) subject: Box<dyn Subject>,
    pub(crate) keys: KeySpace,
    pub(crate) values: Values,
    /// Of a subject that stores nothing: the key whose value it finds under all.
    only: Option<Vec<u8>>,
}

impl Target {
    /// This subject with records as `config` describes them.
    pub(crate) fn new(subject: Box<dyn Subject>, config: &Config) -> Self {
        let load = &config.load;
        Self {
            subject,
            keys: KeySpace::of(load),
            values: Values::of(load),
            only: None,
        }
    }

    /// One that stores nothing, and whose value is as long as a record's and as
    /// much work to check.
    pub(crate) fn null(config: &Config) -> Self {
        let mut target = Self::new(Box::new(Null::new(Vec::new())), config);
        let (key, mut value) = (target.keys.key(0), Vec::new());
        target.values.write(&key, values::LOADED, &mut value);
        target.subject = Box::new(Null::new(value));
        target.only = Some(key);
        target
    }

    /// A value that is not what it must be is a finding.
    pub(crate) fn check(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        self.values
            .check(self.found_under(key), value)
            .map_err(|e| wrong_value(key, &e))
    }

    /// The same of a value whose length may be any.
    pub(crate) fn check_content(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        self.values
            .check_content(self.found_under(key), value)
            .map_err(|e| wrong_value(key, &e))
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

/// The value of a key is not what it must be.
fn wrong_value(key: &[u8], what: &str) -> Failure {
    Failure::found(format!(
        "wrong value under key {}: {what}; if another run wrote these records, say so in [load], or set run.verify=false",
        crate::text::hex(key)
    ))
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
    use crate::run::goodness::fits;

    #[test]
    fn a_mix_keeps_its_shares() {
        let config = parse("run.mix = { read = 95, update = 4, scan = 1 }", &[], "x").unwrap();
        let mix = OpMix::new(&config.run.mix);
        assert_eq!(
            mix.ops().collect::<Vec<_>>(),
            [Op::Read, Op::Update, Op::Scan]
        );
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut hits = [0_u64; Op::COUNT];
        for _ in 0..100_000 {
            hits[mix.draw(&mut rng) as usize] += 1;
        }
        let drawn = [Op::Read, Op::Update, Op::Scan].map(|op| hits[op as usize]);
        fits("mix", &drawn, &[0.95, 0.04, 0.01]);
        assert_eq!(hits[Op::Delete as usize], 0);
    }
}
