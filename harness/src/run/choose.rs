//! Which record an operation is about.

use rand::{Rng, RngExt};

use super::config::{Distribution, RunConfig};
use super::permute::Permutation;
use super::validate::weights;
use super::zipf::Zipf;

/// So many draws may fall on records that are not there yet, before one of those
/// that are is taken.
const REDRAWS: u32 = 64;

/// Draws records by one distribution.
#[derive(Clone, Debug)]
pub(crate) enum Chooser {
    /// Every record that exists, equally likely.
    Uniform,
    /// By a Zipf law over the records there will be; the popular ones lie
    /// scattered, and stay the same while records are added.
    Zipfian {
        /// Draws a rank, 1 the most popular.
        ranks: Zipf,
        /// From rank to record.
        scatter: Permutation,
    },
    /// The newest record is the most popular, its elders by a Zipf law.
    Latest(Zipf),
    /// The newest record is the most popular, its elders by an exponential law.
    Exponential(Exponential),
    /// A share of the operations is about the first records, the hot ones.
    Hotspot {
        /// Records below this are hot.
        hot: u64,
        /// The loaded records.
        records: u64,
        /// The share of the operations.
        share: f64,
    },
    /// One after another, and again from the start.
    Sequential(Walk),
}

/// A walk of one thread over its part of the loaded records.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    records: u64,
    /// Whether the threads' records interleave; else each has a stretch of its own.
    interleaved: bool,
    start: u64,
    end: u64,
    step: u64,
    at: u64,
}

/// An exponential law of ages, cut off at the oldest record.
#[derive(Clone, Debug)]
pub(crate) struct Exponential {
    gamma: f64,
    /// How many records `mass` was computed for.
    records: u64,
    /// The chance that a draw without a cut falls on a record.
    mass: f64,
}

/// How many records a thread is expected to know in the end, as YCSB reckons: the
/// loaded ones and twice the inserts that its operations hold. A run by time alone
/// counts as one of as many operations as there are records.
pub(crate) fn expected(run: &RunConfig, records: u64) -> u64 {
    let total: f64 = weights(&run.mix).iter().map(|(_, weight)| weight).sum();
    let operations = match (run.operations, run.seconds, run.rate) {
        (Some(n), ..) => n as f64,
        (None, Some(seconds), Some(rate)) => seconds * rate,
        _ => records as f64,
    };
    let inserts = operations * run.mix.insert / total.max(f64::MIN_POSITIVE);
    let each = inserts * run.batch as f64 / run.threads as f64;
    records.saturating_add((2.0 * each) as u64)
}

impl Chooser {
    /// A chooser for `records` loaded records, which inserts are expected to make
    /// `expected`; `None` if there are none or a parameter is out of its range.
    pub(crate) fn new(run: &RunConfig, records: u64, expected: u64, seed: u64) -> Option<Self> {
        if records == 0 {
            return None;
        }
        Some(match run.distribution {
            Distribution::Uniform => Self::Uniform,
            Distribution::Zipfian => {
                let space = expected.max(records);
                Self::Zipfian {
                    ranks: Zipf::new(space, run.theta)?,
                    scatter: Permutation::new(space, seed),
                }
            }
            Distribution::Latest => Self::Latest(Zipf::new(records, run.theta)?),
            Distribution::Exponential => Self::Exponential(Exponential::new(
                records,
                run.exponential.percentile,
                run.exponential.fraction,
            )),
            Distribution::Hotspot => Self::Hotspot {
                hot: (records as f64 * run.hotspot.data) as u64,
                records,
                share: run.hotspot.operations,
            },
            Distribution::Sequential => Self::Sequential(Walk::new(records, false)),
            Distribution::Interleaved => Self::Sequential(Walk::new(records, true)),
        })
    }

    /// The chooser of thread `index` of `threads`.
    pub(crate) fn of_thread(&self, index: usize, threads: usize) -> Self {
        let mut mine = self.clone();
        if let Self::Sequential(walk) = &mut mine {
            walk.take_part(index as u64, threads as u64);
        }
        mine
    }

    /// A record below `visible`, the number of records that exist by now.
    #[inline]
    pub(crate) fn record(&mut self, rng: &mut impl Rng, visible: u64) -> u64 {
        match self {
            Self::Uniform => rng.random_range(0..visible),
            Self::Zipfian { ranks, scatter } => {
                for _ in 0..REDRAWS {
                    let record = scatter.apply(ranks.draw(rng) - 1);
                    if record < visible {
                        return record;
                    }
                }
                rng.random_range(0..visible)
            }
            Self::Latest(ages) => {
                ages.resize(visible);
                visible - ages.draw(rng)
            }
            Self::Exponential(law) => visible - 1 - law.age(rng, visible),
            Self::Hotspot {
                hot,
                records,
                share,
            } => {
                let wants_hot = rng.random::<f64>() < *share;
                if (wants_hot && *hot > 0) || hot == records {
                    rng.random_range(0..*hot)
                } else {
                    rng.random_range(*hot..*records)
                }
            }
            Self::Sequential(walk) => walk.next(),
        }
    }

    /// The record from which a scan of `length` starts. A sequential walk goes on
    /// after the scan's end; `backward` it walks from its last record down.
    #[inline]
    pub(crate) fn scan(
        &mut self,
        rng: &mut impl Rng,
        visible: u64,
        length: u64,
        backward: bool,
    ) -> u64 {
        match self {
            Self::Sequential(walk) => {
                let at = walk.next();
                walk.skip(length.saturating_sub(1));
                if backward { walk.mirror(at) } else { at }
            }
            _ => self.record(rng, visible),
        }
    }
}

impl Walk {
    fn new(records: u64, interleaved: bool) -> Self {
        Self {
            records,
            interleaved,
            start: 0,
            end: records,
            step: 1,
            at: 0,
        }
    }

    /// The part of thread `index` of `threads`. Threads beyond the number of
    /// records share.
    fn take_part(&mut self, index: u64, threads: u64) {
        let (records, threads) = (self.records, threads.clamp(1, self.records));
        let index = index % threads;
        let part = |i: u64| (u128::from(records) * u128::from(i) / u128::from(threads)) as u64;
        (self.start, self.end, self.step) = if self.interleaved {
            (index, records, threads)
        } else {
            (part(index), part(index + 1), 1)
        };
        self.at = self.start;
    }

    fn next(&mut self) -> u64 {
        let at = self.at;
        self.skip(1);
        at
    }

    fn skip(&mut self, records: u64) {
        self.at = self.at.saturating_add(records.saturating_mul(self.step));
        if self.at >= self.end {
            self.at = self.start;
        }
    }

    /// As far from the end of the part as `at` is from its start.
    fn mirror(&self, at: u64) -> u64 {
        let last = self.start + (self.end - 1 - self.start) / self.step * self.step;
        last - (at - self.start)
    }
}

impl Exponential {
    /// `percentile` per cent of the draws fall on the newest `fraction` of the
    /// records, as in YCSB.
    fn new(records: u64, percentile: f64, fraction: f64) -> Self {
        Self {
            gamma: -(-percentile / 100.0).ln_1p() / (records as f64 * fraction),
            records: 0,
            mass: 1.0,
        }
    }

    fn age(&mut self, rng: &mut impl Rng, visible: u64) -> u64 {
        if self.records != visible {
            self.records = visible;
            self.mass = -(-self.gamma * visible as f64).exp_m1();
        }
        // Inverted within the cut: what others draw again is never drawn.
        let age = -(-rng.random::<f64>() * self.mass).ln_1p() / self.gamma;
        (age as u64).min(visible - 1)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::run::goodness::{self, fits};

    const N: u64 = 1000;
    const DRAWS: usize = 400_000;

    fn run(kind: Distribution) -> RunConfig {
        RunConfig {
            distribution: kind,
            ..RunConfig::default()
        }
    }

    fn chooser(run: &RunConfig) -> Chooser {
        Chooser::new(run, N, N, 5).unwrap()
    }

    /// How often each of `visible` records is drawn.
    fn draw(c: &mut Chooser, visible: u64) -> Vec<u64> {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut hits = vec![0; visible as usize];
        for _ in 0..DRAWS {
            hits[c.record(&mut rng, visible) as usize] += 1;
        }
        hits
    }

    #[test]
    fn uniform_is_even_over_all_that_exist() {
        for visible in [N, N + 300] {
            let hits = draw(&mut chooser(&run(Distribution::Uniform)), visible);
            let even = vec![1.0 / visible as f64; visible as usize];
            fits(&format!("uniform of {visible}"), &hits, &even);
        }
    }

    #[test]
    fn zipfian_follows_its_law_by_rank_at_any_exponent() {
        for theta in [0.5, 0.99, 1.0, 1.3] {
            let mut run = run(Distribution::Zipfian);
            run.theta = theta;
            let hits = draw(&mut chooser(&run), N);
            let scatter = Permutation::new(N, 5);
            let by_rank: Vec<u64> = (0..N).map(|r| hits[scatter.apply(r) as usize]).collect();
            let law = goodness::zipf(N, theta);
            fits(&format!("zipfian {theta}"), &by_rank, &law);
        }
    }

    #[test]
    fn the_popular_records_lie_scattered_as_if_by_lot() {
        // Where the hundred most popular of each of many seeds lie, by tenths.
        let mut tenths = [0; 10];
        for seed in 0..500 {
            let scatter = Permutation::new(N, seed);
            for rank in 0..100 {
                tenths[(scatter.apply(rank) * 10 / N) as usize] += 1;
            }
        }
        fits("scatter", &tenths, &[0.1; 10]);
    }

    /// As YCSB's: the law is over all that will be, and what is not there is
    /// drawn again. So no record becomes more popular than another by an insert.
    #[test]
    fn zipfian_over_a_growing_space_keeps_the_popular_ones() {
        let expected = N + 500;
        let mut c = Chooser::new(&run(Distribution::Zipfian), N, expected, 5).unwrap();
        let scatter = Permutation::new(expected, 5);
        for visible in [N, N + 250, expected] {
            let hits = draw(&mut c, visible);
            let law = goodness::zipf(expected, 0.99);
            let (mut by_rank, mut chances) = (Vec::new(), Vec::new());
            for (rank, &chance) in law.iter().enumerate() {
                let record = scatter.apply(rank as u64);
                if record < visible {
                    by_rank.push(hits[record as usize]);
                    chances.push(chance);
                }
            }
            fits(
                &format!("zipfian, {visible} of {expected}"),
                &by_rank,
                &goodness::normal(chances),
            );
        }
    }

    #[test]
    fn latest_prefers_the_newest_also_as_records_are_added() {
        let mut c = chooser(&run(Distribution::Latest));
        for visible in [N, N + 1, 2 * N] {
            let hits = draw(&mut c, visible);
            let by_age: Vec<u64> = hits.iter().rev().copied().collect();
            let law = goodness::zipf(visible, 0.99);
            fits(&format!("latest of {visible}"), &by_age, &law);
        }
    }

    #[test]
    fn exponential_has_its_percentile_in_its_fraction() {
        for (percentile, fraction) in [(95.0, 0.857_142_857_1), (80.0, 0.1)] {
            let mut run = run(Distribution::Exponential);
            (run.exponential.percentile, run.exponential.fraction) = (percentile, fraction);
            let mut c = chooser(&run);
            for visible in [N, N + 500] {
                let hits = draw(&mut c, visible);
                let by_age: Vec<u64> = hits.iter().rev().copied().collect();
                // The definition: a continuous law, its ages rounded down.
                let gamma = -(1.0_f64 - percentile / 100.0).ln() / (N as f64 * fraction);
                let law = (0..visible)
                    .map(|a| (-gamma * a as f64).exp() - (-gamma * (a + 1) as f64).exp())
                    .collect();
                fits(
                    &format!("exponential {percentile} {fraction} of {visible}"),
                    &by_age,
                    &goodness::normal(law),
                );
            }
        }
    }

    #[test]
    fn a_hotspot_takes_its_share_evenly() {
        for (data, operations) in [(0.2, 0.8), (0.01, 0.5), (0.0, 0.8), (1.0, 0.3), (0.5, 0.0)] {
            let mut run = run(Distribution::Hotspot);
            (run.hotspot.data, run.hotspot.operations) = (data, operations);
            let hits = draw(&mut chooser(&run), N + 100);
            let hot = (N as f64 * data) as u64;
            let share = match hot {
                0 => 0.0,
                N => 1.0,
                _ => operations,
            };
            let law: Vec<f64> = (0..N + 100)
                .map(|r| match r {
                    r if r < hot => share / hot as f64,
                    r if r < N => (1.0 - share) / (N - hot) as f64,
                    _ => 0.0,
                })
                .collect();
            fits(&format!("hotspot {data} {operations}"), &hits, &law);
        }
    }

    #[test]
    fn sequential_walks_share_all_records_and_wrap() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for kind in [Distribution::Sequential, Distribution::Interleaved] {
            for (records, threads) in [(10, 1), (10, 3), (3, 8), (1000, 7)] {
                let c = Chooser::new(&run(kind), records, records, 5).unwrap();
                let mut hits = vec![0; records as usize];
                for i in 0..threads {
                    let mut mine = c.of_thread(i, threads);
                    let first = mine.record(&mut rng, records);
                    let (mut at, mut last) = (first, None);
                    loop {
                        hits[at as usize] += 1;
                        assert!(last.is_none_or(|l| l < at), "in order");
                        last = Some(at);
                        at = mine.record(&mut rng, records);
                        if at == first {
                            break;
                        }
                    }
                }
                let once = threads as u64 <= records;
                assert!(hits.iter().all(|&h| h == 1 || (!once && h > 1)), "{hits:?}");
            }
        }
    }

    #[test]
    fn sequential_scans_go_on_where_the_last_ended() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let c = Chooser::new(&run(Distribution::Sequential), 10, 10, 5).unwrap();
        let mut walk = |backward| {
            let mut c = c.of_thread(0, 1);
            [(); 4].map(|()| c.scan(&mut rng, 10, 4, backward))
        };
        assert_eq!(walk(false), [0, 4, 8, 0]);
        assert_eq!(walk(true), [9, 5, 1, 9]);
    }

    #[test]
    fn draws_stay_in_bounds_and_nothing_is_drawn_from_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for kind in [
            Distribution::Uniform,
            Distribution::Zipfian,
            Distribution::Latest,
            Distribution::Hotspot,
            Distribution::Exponential,
            Distribution::Sequential,
            Distribution::Interleaved,
        ] {
            for n in [1, 2, 3, 10] {
                let mut c = Chooser::new(&run(kind), n, n, 1).unwrap();
                assert!((0..1000).all(|_| c.record(&mut rng, n) < n));
                // One of very many that will be.
                let mut c = Chooser::new(&run(kind), n, 1_000_000, 1).unwrap();
                assert!((0..100).all(|_| c.record(&mut rng, n) < n));
            }
            assert!(Chooser::new(&run(kind), 0, 0, 1).is_none());
        }
    }

    /// Not a test of speed, which differs from machine to machine: it prints.
    #[test]
    #[ignore = "a measurement"]
    fn nanoseconds_per_draw() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let n = 10_000_000;
        for kind in [
            Distribution::Uniform,
            Distribution::Zipfian,
            Distribution::Latest,
            Distribution::Hotspot,
            Distribution::Exponential,
            Distribution::Sequential,
        ] {
            let mut c = Chooser::new(&run(kind), n, n, 1).unwrap();
            let mut sum = 0_u64;
            // The best of many short runs: others use this machine too.
            let best = (0..100).map(|_| {
                let begin = std::time::Instant::now();
                for _ in 0..20_000 {
                    sum = sum.wrapping_add(c.record(&mut rng, n));
                }
                begin.elapsed()
            });
            let each = best.min().unwrap().as_secs_f64() / 20_000.0 * 1e9;
            println!("{kind:?}: {each:.1} ns ({sum})");
        }
    }
}
