//! Heat maps: how many operations took how long, over time.

use super::palette::HEATS;
use crate::report::data::bins::Bins;

/// Rows in a decade of latency.
const ROWS: f64 = 12.0;

/// Rectangles by their heat.
#[derive(Clone, Debug)]
pub(crate) struct Heat {
    pub(crate) cells: Vec<Cell>,
    /// Operations a second in a cell, at which each step of heat begins; and the most.
    pub(crate) steps: Vec<f64>,
}

/// One rectangle, in the units of the axes.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) x: (f64, f64),
    pub(crate) y: (f64, f64),
    pub(crate) heat: usize,
}

impl Heat {
    /// From columns: when, over how many seconds, and what. None if nothing is there.
    pub(crate) fn of<'a>(
        columns: impl Iterator<Item = ((f64, f64), f64, &'a Bins)> + Clone,
    ) -> Option<Self> {
        let row = |ns: u64| ((ns.max(1) as f64).log10() * ROWS).floor() as i32;
        let mut rates: Vec<((f64, f64), i32, f64)> = Vec::new();
        for (x, seconds, bins) in columns {
            let from = rates.len();
            for (&ns, &count) in &bins.0 {
                let rate = count as f64 / seconds;
                // Bins come in growing order, so a row is whole before the next.
                match rates[from..].last_mut() {
                    Some(last) if last.1 == row(ns) => last.2 += rate,
                    _ => rates.push((x, row(ns), rate)),
                }
            }
        }
        let most = rates.iter().map(|r| r.2).fold(0.0, f64::max);
        let least = rates.iter().map(|r| r.2).fold(most, f64::min);
        if most <= 0.0 {
            return None;
        }
        // By ratio: one operation in a million is what a heat map is for.
        let span = (most / least).max(10.0).ln();
        let steps: Vec<f64> = (0..=HEATS)
            .map(|i| most * (span * (i as f64 / HEATS as f64 - 1.0)).exp())
            .collect();
        let heat = |rate: f64| {
            let share = 1.0 + (rate / most).ln() / span;
            ((share * HEATS as f64) as usize).min(HEATS - 1)
        };
        let edge = |row: i32| 10_f64.powf(f64::from(row) / ROWS);
        let cells = rates
            .into_iter()
            .map(|(x, row, rate)| Cell {
                x,
                y: (edge(row), edge(row + 1)),
                heat: heat(rate),
            })
            .collect();
        Some(Self { cells, steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_hotter() {
        let bins = Bins([(1_000, 100_000), (5_000, 300), (1_000_000, 1)].into());
        let heat = Heat::of([((0.0, 1.0), 1.0, &bins)].into_iter()).unwrap();
        let by: Vec<usize> = heat.cells.iter().map(|c| c.heat).collect();
        assert_eq!((by[0], by[2]), (HEATS - 1, 0));
        assert!(by[1] > 0 && by[1] < HEATS - 1, "{by:?}");
        assert!(heat.cells.iter().all(|c| c.y.0 < c.y.1));
        assert_eq!(heat.steps.len(), HEATS + 1);
        assert!(Heat::of([((0.0, 1.0), 1.0, &Bins::default())].into_iter()).is_none());
    }
}
