//! What was measured in a cell, and over rounds.

use serde::Serialize;

use super::plan::{Cell, Mode, Setting};

/// Parts of a distribution, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Spread {
    pub(crate) count: u64,
    pub(crate) total: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p99_9: u64,
    pub(crate) p99_99: u64,
    pub(crate) max: u64,
}

impl Spread {
    /// From a function that tells the value at a part, 1 being the greatest.
    pub(crate) fn of(count: u64, total: u64, at: impl Fn(f64) -> u64) -> Self {
        Self {
            count,
            total,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: at(1.0),
        }
    }
}

/// One run of a cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) seconds: f64,
    pub(crate) puts_per_second: f64,
    /// Nanoseconds of a put.
    pub(crate) put: Spread,
    /// Exclusive latches, from lock to release.
    pub(crate) latch_held: Spread,
    /// Latches found locked, until they were free.
    pub(crate) latch_waited: Spread,
    /// Nodes copied to new blocks.
    pub(crate) copies: u64,
    /// Restarts for space, by cause.
    pub(crate) restarts_parked: u64,
    pub(crate) restarts_upgrade: u64,
    pub(crate) restarts_empty: u64,
    /// The most of one operation in one generation.
    pub(crate) restarts_most: u64,
    /// Latches of a copy that another writer had first.
    pub(crate) lost_races: u64,
    /// Blocks reserved: out of the channel, and asked for.
    pub(crate) blocks_taken: u64,
    /// Of those, given back unused.
    pub(crate) blocks_returned: u64,
    /// Of those, in stashes at the end.
    pub(crate) blocks_stashed: u64,
    /// Times a writer waited for blocks, and nanoseconds. Inline: under latches.
    pub(crate) reservations: u64,
    pub(crate) reservation_nanos: u64,
    /// Map blocks read, and written.
    pub(crate) map_reads: u64,
    pub(crate) map_writes: u64,
    pub(crate) checkpoints: u64,
    /// The longest that a checkpoint kept writers out.
    pub(crate) freeze_nanos_most: u64,
    /// Processor time of this process.
    pub(crate) cpu_seconds: f64,
    /// The part of all processors' time that others took; none if the system does not
    /// tell.
    pub(crate) others: Option<f64>,
    /// Blocks taken are used, returned or stashed, all of them; no operation restarted
    /// for space more than twice in a generation.
    pub(crate) sound: bool,
}

impl Figures {
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts_parked + self.restarts_upgrade + self.restarts_empty
    }
}

/// The middle, and both ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Middle {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Middle {
    /// None of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[half],
            _ => f64::midpoint(sorted[half - 1], sorted[half]),
        };
        Some(Self {
            median,
            least,
            most,
        })
    }
}

/// All runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs(pub(crate) Vec<(usize, Cell, Figures)>);

impl Runs {
    /// The runs of a cell, with their rounds.
    pub(crate) fn of(&self, cell: Cell) -> impl Iterator<Item = (usize, &Figures)> {
        let runs = self.0.iter().filter(move |r| r.1 == cell);
        runs.map(|(round, _, figures)| (*round, figures))
    }

    /// A figure of a cell over the rounds.
    pub(crate) fn middle(&self, cell: Cell, figure: impl Fn(&Figures) -> f64) -> Option<Middle> {
        Middle::of(self.of(cell).map(|(_, f)| figure(f)))
    }

    /// The part of the processors' time that others took, over all cells.
    pub(crate) fn others(&self) -> Option<Middle> {
        Middle::of(self.0.iter().filter_map(|r| r.2.others))
    }

    /// A figure of one mode over that of another in the same setting: for each round in
    /// which both ran, one directly after the other.
    pub(crate) fn ratios(
        &self,
        setting: Setting,
        [mode, to]: [Mode; 2],
        figure: impl Fn(&Figures) -> f64,
    ) -> Vec<f64> {
        let cell = |mode| Cell { setting, mode };
        let below: Vec<_> = self.of(cell(to)).collect();
        let pairs = self.of(cell(mode)).filter_map(|(round, f)| {
            let other = below.iter().find(|b| b.0 == round)?.1;
            Some(figure(f) / figure(other))
        });
        pairs.filter(|r| r.is_finite()).collect()
    }
}

/// The geometric mean; none of nothing, or of what is not above 0.
pub(crate) fn geometric(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let logs: Vec<f64> = values.into_iter().map(f64::ln).collect();
    let sum: f64 = logs.iter().sum();
    (!logs.is_empty() && sum.is_finite()).then(|| (sum / logs.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_middle_of_few_and_many() {
        assert_eq!(Middle::of([]), None);
        let m = |v: &[f64]| Middle::of(v.iter().copied()).unwrap();
        assert_eq!((m(&[3.0]).median, m(&[3.0, 1.0]).median), (3.0, 2.0));
        let three = m(&[9.0, 1.0, 2.0]);
        assert_eq!((three.median, three.least, three.most), (2.0, 1.0, 9.0));
    }

    #[test]
    fn means_are_geometric() {
        assert_eq!(geometric([]), None);
        assert_eq!(geometric([1.0, 0.0]), None);
        assert!((geometric([0.5, 2.0, 1.0]).unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let setting = Setting {
            checkpoints: true,
            cold_map: true,
            latency: Duration::ZERO,
            writers: 4,
        };
        let run = |round, mode, rate| {
            let figures = Figures {
                puts_per_second: rate,
                ..Figures::default()
            };
            (round, Cell { setting, mode }, figures)
        };
        let runs = Runs(vec![
            run(0, Mode::TwoStage, 20.0),
            run(0, Mode::Inline, 10.0),
            run(1, Mode::Inline, 5.0),
            run(1, Mode::TwoStage, 15.0),
            // Interrupted before the other came.
            run(2, Mode::TwoStage, 99.0),
        ]);
        let by = [Mode::TwoStage, Mode::Inline];
        assert_eq!(runs.ratios(setting, by, |f| f.puts_per_second), [2.0, 3.0]);
        let inline = Cell {
            setting,
            mode: Mode::Inline,
        };
        let middle = runs.middle(inline, |f| f.puts_per_second).unwrap();
        assert_eq!(middle.median, 7.5);
        // Nothing over nothing is no ratio.
        assert!(runs.ratios(setting, by, |f| f.put.p50 as f64).is_empty());
    }
}
