//! Which record an operation is about.

use rand::{Rng, RngExt};
use rand_distr::{Distribution as _, Zipf};

use super::config::Distribution;
use super::permute::Permutation;

/// Draws records by one distribution.
#[derive(Clone, Debug)]
pub(crate) enum Chooser {
    /// Every record that exists, equally likely.
    Uniform,
    /// The loaded records by a Zipf law; the popular ones lie scattered.
    Zipfian {
        /// Draws a rank, 1 the most popular.
        ranks: Zipf<f64>,
        /// From rank to record.
        scatter: Permutation,
    },
    /// The newest record is the most popular, its elders by a Zipf law.
    Latest {
        /// Draws an age, 1 the newest.
        ages: Zipf<f64>,
        /// How many records `ages` was made for.
        records: u64,
        /// The exponent.
        theta: f64,
    },
}

impl Chooser {
    /// A chooser for `records` loaded records; `None` if there are none or
    /// `theta` is no exponent.
    pub(crate) fn new(kind: Distribution, theta: f64, records: u64, seed: u64) -> Option<Self> {
        if records == 0 {
            return None;
        }
        Some(match kind {
            Distribution::Uniform => Self::Uniform,
            Distribution::Zipfian => Self::Zipfian {
                ranks: Zipf::new(records as f64, theta).ok()?,
                scatter: Permutation::new(records, seed),
            },
            Distribution::Latest => Self::Latest {
                ages: Zipf::new(records as f64, theta).ok()?,
                records,
                theta,
            },
        })
    }

    /// A record below `visible`, the number of records that exist by now.
    pub(crate) fn record(&mut self, rng: &mut impl Rng, visible: u64) -> u64 {
        match self {
            Self::Uniform => rng.random_range(0..visible),
            Self::Zipfian { ranks, scatter } => scatter.apply(ranks.sample(rng) as u64 - 1),
            Self::Latest {
                ages,
                records,
                theta,
            } => {
                if *records != visible
                    && let Ok(grown) = Zipf::new(visible as f64, *theta)
                {
                    *ages = grown;
                    *records = visible;
                }
                visible - (ages.sample(rng) as u64).clamp(1, visible)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const N: u64 = 1000;
    const DRAWS: usize = 400_000;

    fn draw(kind: Distribution, theta: f64) -> Vec<u64> {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut c = Chooser::new(kind, theta, N, 5).unwrap();
        let mut hits = vec![0; N as usize];
        for _ in 0..DRAWS {
            hits[c.record(&mut rng, N) as usize] += 1;
        }
        hits
    }

    /// The chance of each rank by the law's definition.
    fn law(theta: f64) -> Vec<f64> {
        let weights: Vec<f64> = (1..=N).map(|k| (k as f64).powf(-theta)).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| w / sum).collect()
    }

    /// Pearson's statistic over its degrees of freedom: about 1 for a fit.
    fn chi_square(hits: &[u64], chances: &[f64]) -> f64 {
        let sum: f64 = hits
            .iter()
            .zip(chances)
            .map(|(&h, &c)| {
                let expected = c * DRAWS as f64;
                (h as f64 - expected).powi(2) / expected
            })
            .sum();
        sum / (hits.len() - 1) as f64
    }

    #[test]
    fn uniform_is_even() {
        let hits = draw(Distribution::Uniform, 0.99);
        assert!(chi_square(&hits, &vec![1.0 / N as f64; N as usize]) < 1.2);
        let mean = hits
            .iter()
            .enumerate()
            .map(|(i, &h)| i as f64 * h as f64)
            .sum::<f64>()
            / DRAWS as f64;
        assert!((mean - 499.5).abs() < 2.0, "mean {mean}");
    }

    #[test]
    fn zipfian_follows_its_law_at_any_exponent_and_is_scattered() {
        for theta in [0.5, 0.99, 1.0, 1.3] {
            let hits = draw(Distribution::Zipfian, theta);
            let scatter = Permutation::new(N, 5);
            let by_rank: Vec<u64> = (0..N).map(|r| hits[scatter.apply(r) as usize]).collect();
            let fit = chi_square(&by_rank, &law(theta));
            assert!(fit < 1.2, "theta {theta}: {fit}");
        }
        let hits = draw(Distribution::Zipfian, 0.99);
        let low_half: u64 = hits[..500].iter().sum();
        let share = low_half as f64 / DRAWS as f64;
        assert!(
            (0.2..0.8).contains(&share),
            "{share} of the draws in the lower half"
        );
    }

    #[test]
    fn latest_prefers_the_newest_also_as_records_are_added() {
        let hits = draw(Distribution::Latest, 0.99);
        let by_age: Vec<u64> = hits.iter().rev().copied().collect();
        assert!(chi_square(&by_age, &law(0.99)) < 1.2);

        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut c = Chooser::new(Distribution::Latest, 0.99, N, 5).unwrap();
        let mut newest = 0;
        for i in 0..20_000 {
            let visible = N + i;
            let r = c.record(&mut rng, visible);
            assert!(r < visible);
            newest += u64::from(r == visible - 1);
        }
        assert!(newest > 1_500, "{newest} of 20000 were the newest");
    }

    #[test]
    fn draws_stay_in_bounds_and_nothing_is_drawn_from_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for kind in [
            Distribution::Uniform,
            Distribution::Zipfian,
            Distribution::Latest,
        ] {
            for n in [1, 2, 3, 10] {
                let mut c = Chooser::new(kind, 0.99, n, 1).unwrap();
                assert!((0..1000).all(|_| c.record(&mut rng, n) < n));
            }
            assert!(Chooser::new(kind, 0.99, 0, 1).is_none());
        }
    }
}
