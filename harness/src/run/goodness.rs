//! For tests: whether what was drawn follows a law, by Pearson's chi-square.
//!
//! Seeds are fixed, so that a verdict never changes by itself. A sound generator
//! falls below the bound with a chance of one in ten thousand for each seed.

/// What a fit must reach.
const BOUND: f64 = 1e-4;

/// Cells whose expected count is below this are merged with their neighbours.
const LEAST_EXPECTED: f64 = 20.0;

/// Fails, with the statistic, unless `hits` could come from `chances`.
pub(crate) fn fits(what: &str, hits: &[u64], chances: &[f64]) {
    let (statistic, cells) = chi_square(hits, chances);
    let p = p_of(statistic, cells);
    println!("{what}: chi-square {statistic:.1} over {cells} cells, p = {p:.4}");
    assert!(p > BOUND, "{what}: p {p}");
}

/// The chance that a fit is as bad as this or worse, if the law holds.
pub(crate) fn p_value(hits: &[u64], chances: &[f64]) -> f64 {
    let (statistic, cells) = chi_square(hits, chances);
    p_of(statistic, cells)
}

/// Zipf's law over `n` ranks, by its definition.
pub(crate) fn zipf(n: u64, theta: f64) -> Vec<f64> {
    normal((1..=n).map(|k| (k as f64).powf(-theta)).collect())
}

/// Weights as chances.
pub(crate) fn normal(weights: Vec<f64>) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

fn chi_square(hits: &[u64], chances: &[f64]) -> (f64, usize) {
    assert_eq!(hits.len(), chances.len());
    let draws: u64 = hits.iter().sum();
    assert!((chances.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    let mut cells: Vec<(f64, f64)> = Vec::new();
    let mut open = (0.0, 0.0);
    for (&h, &c) in hits.iter().zip(chances) {
        assert!(c > 0.0 || h == 0, "{h} hits of what cannot be");
        open = (open.0 + h as f64, open.1 + c * draws as f64);
        if open.1 >= LEAST_EXPECTED {
            cells.push(std::mem::take(&mut open));
        }
    }
    match cells.last_mut() {
        Some(last) => *last = (last.0 + open.0, last.1 + open.1),
        None => cells.push(open),
    }
    let statistic = cells.iter().map(|(h, e)| (h - e).powi(2) / e).sum();
    (statistic, cells.len())
}

fn p_of(statistic: f64, cells: usize) -> f64 {
    match cells {
        0 | 1 => 1.0,
        _ => upper_gamma((cells - 1) as f64 / 2.0, statistic / 2.0),
    }
}

/// The regularised upper incomplete gamma function: a series below a + 1, a
/// continued fraction (Lentz) above.
fn upper_gamma(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        for i in 1..10_000 {
            term *= x / (a + f64::from(i));
            sum += term;
            if term < sum * 1e-15 {
                break;
            }
        }
        return (1.0 - sum * front).max(0.0);
    }
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1e300, 1.0 / b);
    let mut h = d;
    for i in 1..10_000 {
        let i = f64::from(i);
        let an = -i * (i - a);
        b += 2.0;
        d = 1.0 / (an * d + b);
        c = b + an / c;
        h *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front * h
}

/// Stirling's series, after stepping up to where it is exact.
fn ln_gamma(mut x: f64) -> f64 {
    let mut less = 0.0;
    while x < 10.0 {
        less += x.ln();
        x += 1.0;
    }
    let x2 = x * x;
    (x - 0.5) * x.ln() - x
        + 0.5 * std::f64::consts::TAU.ln()
        + (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / (1260.0 * x2)) / x2) / x
        - less
}

#[test]
fn chances_are_those_of_the_tables() {
    // Upper tails of chi-square, from printed tables.
    for (degrees, statistic, p) in [
        (1, 3.841, 0.05),
        (1, 6.635, 0.01),
        (10, 18.307, 0.05),
        (10, 29.588, 0.001),
        (100, 124.342, 0.05),
        (100, 77.929, 0.95),
    ] {
        let got = p_of(statistic, degrees + 1);
        assert!((got - p).abs() < 1e-4, "{degrees} {statistic}: {got}");
    }
}
