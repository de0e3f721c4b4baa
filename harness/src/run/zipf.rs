//! Zipf's law over finitely many ranks, exact at every exponent from 0 on.
//!
//! Rejection-inversion (Hörmann and Derflinger 1996): the inverse of an integral
//! that bounds the law gives a rank, which is nearly always kept. It needs no
//! table and no sum over all ranks, so that the number of ranks may change at any time.

use rand::{Rng, RngExt};

/// Draws ranks `1..=n`, rank k with a chance in proportion to `k^-theta`.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    theta: f64,
    n: u64,
    /// The integral at 3/2, less the chance of rank 1: the lower end of what is inverted.
    low: f64,
    /// The integral at n + 1/2: its upper end.
    high: f64,
    /// A rank that lies no further than this above what was inverted is always kept.
    sure: f64,
}

impl Zipf {
    /// The law over `n` ranks; `None` if there are none or `theta` is no exponent.
    pub(crate) fn new(n: u64, theta: f64) -> Option<Self> {
        if n == 0 || !theta.is_finite() || theta < 0.0 {
            return None;
        }
        let sure = 2.0 - invert(integral(2.5, theta) - 2f64.powf(-theta), theta);
        let mut zipf = Self {
            theta,
            n: 0,
            low: integral(1.5, theta) - 1.0,
            high: 0.0,
            sure,
        };
        zipf.resize(n);
        Some(zipf)
    }

    /// The same law over `n` ranks, at least one.
    pub(crate) fn resize(&mut self, n: u64) {
        let n = n.max(1);
        if n != self.n {
            self.n = n;
            self.high = integral(n as f64 + 0.5, self.theta);
        }
    }

    /// How many ranks.
    pub(crate) fn ranks(&self) -> u64 {
        self.n
    }

    /// A rank.
    #[inline]
    pub(crate) fn draw(&self, rng: &mut impl Rng) -> u64 {
        loop {
            let u = self.high + rng.random::<f64>() * (self.low - self.high);
            let x = invert(u, self.theta);
            let k = ((x + 0.5) as u64).clamp(1, self.n);
            let at = k as f64;
            if at - x <= self.sure
                || u >= integral(at + 0.5, self.theta) - (-self.theta * at.ln()).exp()
            {
                return k;
            }
        }
    }
}

/// The integral of `x^-theta`, such that it is 0 at 1.
fn integral(x: f64, theta: f64) -> f64 {
    let q = 1.0 - theta;
    if q == 0.0 {
        x.ln()
    } else {
        // Written so that nothing cancels where theta is near 1.
        (q * x.ln()).exp_m1() / q
    }
}

/// Where the integral is `u`.
fn invert(u: f64, theta: f64) -> f64 {
    let q = 1.0 - theta;
    if q == 0.0 {
        u.exp()
    } else {
        // Rounding may go just below what has a logarithm.
        ((q * u).max(-1.0).ln_1p() / q).exp()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::run::goodness::{self, fits};

    const DRAWS: u64 = 400_000;

    fn draws(n: u64, theta: f64) -> Vec<u64> {
        let zipf = Zipf::new(n, theta).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut hits = vec![0; n as usize];
        for _ in 0..DRAWS {
            hits[zipf.draw(&mut rng) as usize - 1] += 1;
        }
        hits
    }

    #[test]
    fn ranks_follow_the_law_at_every_exponent() {
        for theta in [0.0, 0.3, 0.5, 0.99, 0.999_999, 1.0, 1.3, 2.0, 5.0] {
            for n in [1, 2, 10, 1000] {
                let law = goodness::zipf(n, theta);
                fits(&format!("zipf n {n} theta {theta}"), &draws(n, theta), &law);
            }
        }
    }

    #[test]
    fn another_exponent_is_told_apart() {
        let p = goodness::p_value(&draws(1000, 0.99), &goodness::zipf(1000, 0.97));
        assert!(p < 1e-9, "p {p}");
    }

    #[test]
    fn a_law_that_grew_is_the_law_of_its_size() {
        let mut zipf = Zipf::new(3, 0.99).unwrap();
        zipf.resize(200);
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        let mut hits = vec![0; 200];
        for _ in 0..DRAWS {
            hits[zipf.draw(&mut rng) as usize - 1] += 1;
        }
        fits("grown", &hits, &goodness::zipf(200, 0.99));
    }

    #[test]
    fn billions_of_ranks_and_huge_exponents_stay_in_bounds() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for theta in [0.0, 0.99, 1.0, 1.000_001, 3.0, 100.0, 1e6] {
            for n in [1, 7, 10_000_000_000, u64::MAX] {
                let zipf = Zipf::new(n, theta).unwrap();
                assert!((0..2000).all(|_| (1..=n).contains(&zipf.draw(&mut rng))));
            }
        }
        assert!(Zipf::new(0, 1.0).is_none() && Zipf::new(1, -1.0).is_none());
        assert!(Zipf::new(1, f64::NAN).is_none());
    }
}
