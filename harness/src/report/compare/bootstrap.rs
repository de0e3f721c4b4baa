//! Intervals for ratios, by the bootstrap: blocks of seconds are drawn again and again
//! from each run, with replacement, and each draw gives a ratio. Whole blocks, for a
//! second is much like the one before it, and single ones would promise too much.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::ALL;
use crate::failure::Failure;
use crate::report::data::bins::{Bins, rank};
use crate::report::data::summary::PERCENTILES;
use crate::report::data::{Phase, RunData};

/// How often is drawn.
pub(super) const DRAWS: usize = 1000;
/// Fewer blocks than this tell nothing of how much they differ.
const FEWEST: usize = 5;
/// More than this tell no more, and take time.
const MOST: usize = 200;

/// What a ratio is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    Throughput,
    Mean,
    /// By its place in [`PERCENTILES`].
    Percentile(usize),
    /// Has no interval: no draw holds more than the largest that was seen.
    Largest,
}

/// The measured phase of a run in blocks of equal length.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Time that each block covers.
    seconds: Vec<f64>,
    operations: BTreeMap<String, Dense>,
}

/// One operation's counts: which latencies there are, and how many in each block.
#[derive(Debug, Default)]
struct Dense {
    values: Vec<u64>,
    /// Places in `values`, and counts.
    blocks: Vec<Vec<(u32, u64)>>,
    /// Operations in each block.
    counts: Vec<u64>,
}

impl Blocks {
    pub(super) fn of(run: &RunData, phase: &Phase) -> Result<Self, Failure> {
        // Seconds in order; each operation's histograms by second.
        let (begin, end) = match phase.begin {
            Some(begin) => (begin - 1e-6, begin + phase.seconds + 1e-6),
            None => (f64::NEG_INFINITY, f64::INFINITY),
        };
        let mut seconds: BTreeMap<u64, (f64, BTreeMap<String, Bins>)> = BTreeMap::new();
        run.intervals.walk(|i| {
            let middle = i.begin + i.seconds / 2.0;
            let known = phase.operations.iter().any(|o| o.name == i.operation);
            if i.service || !known || middle < begin || middle > end {
                return;
            }
            let key = (i.begin.max(0.0) * 1e3).round() as u64;
            let second = seconds.entry(key).or_default();
            second.0 = second.0.max(i.seconds);
            let bins = second.1.entry(i.operation.to_owned()).or_default();
            bins.add(&i.bins);
        })?;
        // The cube root of their number, as is usual; at least two, and not so long that
        // too few blocks are left.
        let n = seconds.len();
        let usual = ((n as f64).cbrt().ceil() as usize).min(n / FEWEST);
        let length = usual.max(2).max(n.div_ceil(MOST));
        let seconds: Vec<_> = seconds.into_values().collect();
        let mut blocks = Self::default();
        let mut merged: Vec<BTreeMap<String, Bins>> = Vec::new();
        // What is left over at the end is no whole block.
        for chunk in seconds.chunks_exact(length) {
            blocks.seconds.push(chunk.iter().map(|s| s.0).sum());
            let mut sum: BTreeMap<String, Bins> = BTreeMap::new();
            for (name, bins) in chunk.iter().flat_map(|s| &s.1) {
                sum.entry(name.clone()).or_default().add(bins);
            }
            merged.push(sum);
        }
        for operation in &phase.operations {
            let each = merged.iter().map(|m| m.get(&operation.name));
            let dense = Dense::of(&each.collect::<Vec<_>>());
            blocks.operations.insert(operation.name.clone(), dense);
        }
        Ok(blocks)
    }

    /// Draws as many blocks as there are; gives how often each came.
    fn draw(&self, rng: &mut ChaCha8Rng) -> Vec<u64> {
        let mut times = vec![0; self.seconds.len()];
        for _ in 0..self.seconds.len() {
            times[rng.random_range(0..self.seconds.len())] += 1;
        }
        times
    }
}

impl Dense {
    fn of(blocks: &[Option<&Bins>]) -> Self {
        let mut all = Bins::default();
        blocks.iter().flatten().for_each(|b| all.add(b));
        let values: Vec<u64> = all.0.keys().copied().collect();
        let place = |v: &u64| values.binary_search(v).unwrap_or(0) as u32;
        let counts = |b: &Option<&Bins>| b.map_or(0, Bins::len);
        let blocks_of = |b: &Option<&Bins>| -> Vec<(u32, u64)> {
            let each = b.iter().flat_map(|b| &b.0);
            each.map(|(v, c)| (place(v), *c)).collect()
        };
        Self {
            counts: blocks.iter().map(counts).collect(),
            blocks: blocks.iter().map(blocks_of).collect(),
            values,
        }
    }

    /// Count, mean and percentiles of a draw; none if nothing was drawn.
    fn figures(&self, times: &[u64]) -> Option<Figures> {
        let mut sums = vec![0_u64; self.values.len()];
        for (block, &times) in self.blocks.iter().zip(times) {
            if times > 0 {
                for &(at, count) in block {
                    sums[at as usize] += count * times;
                }
            }
        }
        let count: u64 = sums.iter().sum();
        if count == 0 {
            return None;
        }
        let total: f64 = sums
            .iter()
            .zip(&self.values)
            .map(|(&c, &v)| c as f64 * v as f64)
            .sum();
        let mut figures = Figures {
            count: count as f64,
            mean: total / count as f64,
            percentiles: [0.0; PERCENTILES.len()],
        };
        let (mut seen, mut next) = (0, 0);
        for (&n, &value) in sums.iter().zip(&self.values) {
            seen += n;
            while next < PERCENTILES.len() && seen >= rank(PERCENTILES[next].1, count) {
                figures.percentiles[next] = value as f64;
                next += 1;
            }
        }
        Some(figures)
    }
}

struct Figures {
    count: f64,
    mean: f64,
    percentiles: [f64; PERCENTILES.len()],
}

/// The drawn ratios of two runs.
#[derive(Debug)]
pub(super) struct Ratios {
    by: BTreeMap<String, [Vec<f64>; 2 + PERCENTILES.len()]>,
    /// Why there are none.
    none: Option<&'static str>,
}

impl Ratios {
    pub(super) fn draw(a: &Blocks, b: &Blocks, seed: u64) -> Self {
        let mut ratios = Self {
            by: BTreeMap::new(),
            none: None,
        };
        let fewest = a.seconds.len().min(b.seconds.len());
        if fewest < FEWEST {
            ratios.none = Some(match fewest {
                0 => "a run has no run.hlog",
                _ => "a run is shorter than ten seconds",
            });
            return ratios;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let common = |name: &&String| b.operations.contains_key(*name);
        let names: Vec<&String> = a.operations.keys().filter(common).collect();
        for _ in 0..DRAWS {
            let (x, y) = (a.draw(&mut rng), b.draw(&mut rng));
            let time =
                |s: &[f64], t: &[u64]| s.iter().zip(t).map(|(s, &t)| s * t as f64).sum::<f64>();
            let faster = time(&a.seconds, &x) / time(&b.seconds, &y);
            let count = |blocks: &Blocks, times: &[u64]| -> f64 {
                let each = blocks
                    .operations
                    .values()
                    .flat_map(|d| d.counts.iter().zip(times));
                each.map(|(c, t)| (c * t) as f64).sum()
            };
            let all = count(b, &y) / count(a, &x).max(1.0) * faster;
            ratios.push(ALL, 0, all);
            for name in &names {
                let figures = (
                    a.operations[*name].figures(&x),
                    b.operations[*name].figures(&y),
                );
                let (Some(f), Some(g)) = figures else {
                    continue;
                };
                ratios.push(name, 0, g.count / f.count * faster);
                ratios.push(name, 1, g.mean / f.mean);
                for i in 0..PERCENTILES.len() {
                    ratios.push(name, 2 + i, g.percentiles[i] / f.percentiles[i].max(1.0));
                }
            }
        }
        for list in ratios.by.values_mut().flatten() {
            list.sort_by(f64::total_cmp);
        }
        ratios
    }

    fn push(&mut self, name: &str, figure: usize, ratio: f64) {
        let lists = self.by.entry(name.to_owned()).or_default();
        lists[figure].push(ratio);
    }

    /// The middle 95 % of the draws; or why there is none.
    pub(super) fn interval(&self, name: &str, figure: Figure) -> Result<(f64, f64), &'static str> {
        let at = match figure {
            Figure::Throughput => 0,
            Figure::Mean => 1,
            Figure::Percentile(i) => 2 + i,
            Figure::Largest => return Err("the largest has none"),
        };
        if let Some(why) = self.none {
            return Err(why);
        }
        let list = self.by.get(name).map(|lists| &lists[at]);
        let list = list.filter(|l| l.len() >= DRAWS * 9 / 10);
        let list = list.ok_or("too few operations")?;
        let end = |q: f64| list[((list.len() - 1) as f64 * q).round() as usize];
        Ok((end(0.025), end(0.975)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(seed: u64, factor: f64, n: usize) -> Blocks {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bins: Vec<Bins> = (0..n)
            .map(|_| {
                let slow: f64 = rng.random_range(0.9..1.1);
                let mut bins = Bins::default();
                for _ in 0..400 {
                    let u: f64 = rng.random_range(0.5..2.0);
                    let ns = (1_000.0 * u * slow * factor) as u64;
                    *bins.0.entry(ns).or_default() += 1;
                }
                bins
            })
            .collect();
        Blocks {
            seconds: vec![2.0; n],
            operations: [(
                "read".to_owned(),
                Dense::of(&bins.iter().map(Some).collect::<Vec<_>>()),
            )]
            .into(),
        }
    }

    #[test]
    fn intervals_hold_what_is_true() {
        let (mut same, mut slower) = (0, 0);
        for seed in 0..20 {
            let a = blocks(seed, 1.0, 20);
            let ratios = Ratios::draw(&a, &blocks(seed + 100, 1.0, 20), seed);
            let (low, high) = ratios.interval("read", Figure::Percentile(3)).unwrap();
            assert!(low <= high && high - low < 0.3, "{low} {high}");
            same += usize::from(low <= 1.0 && 1.0 <= high);
            let ratios = Ratios::draw(&a, &blocks(seed + 100, 1.3, 20), seed);
            let (low, high) = ratios.interval("read", Figure::Mean).unwrap();
            slower += usize::from(low <= 1.3 && 1.3 <= high && low > 1.0);
        }
        // Nineteen of twenty are promised; blocks this few keep a little less.
        assert!(same >= 15 && slower >= 15, "{same} {slower}");
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let (a, b) = (blocks(1, 1.0, 10), blocks(2, 1.0, 10));
        let draw = |seed| Ratios::draw(&a, &b, seed).interval("read", Figure::Mean);
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn too_little_says_so() {
        let ratios = Ratios::draw(&blocks(1, 1.0, 4), &blocks(2, 1.0, 20), 1);
        assert!(
            ratios
                .interval("read", Figure::Mean)
                .unwrap_err()
                .contains("shorter")
        );
        let ratios = Ratios::draw(&blocks(1, 1.0, 9), &blocks(2, 1.0, 9), 1);
        assert!(ratios.interval("read", Figure::Largest).is_err());
        assert!(ratios.interval("scan", Figure::Mean).is_err());
        // Throughput of all together has one.
        assert!(ratios.interval(ALL, Figure::Throughput).is_ok());
    }
}
