//! A run over time: seconds put together into as many columns as a plot can show.

use std::collections::BTreeMap;

use super::bins::Bins;
use super::summary::Device;
use super::{Line, RunData};
use crate::failure::Failure;

/// More columns than this are no longer told apart on a screen.
const COLUMNS: usize = 180;

/// What happened from `begin` to `end`.
#[derive(Debug, Default)]
pub(crate) struct Column {
    pub(crate) begin: f64,
    pub(crate) end: f64,
    /// Time that lines cover.
    pub(crate) seconds: f64,
    pub(crate) phase: String,
    pub(crate) operations: BTreeMap<String, Cell>,
    pub(crate) device: Option<Device>,
    pub(crate) write_amplification: Option<f64>,
    pub(crate) hit_rate: Option<f64>,
    pub(crate) resident_bytes: Option<f64>,
    pub(crate) checkpoints: u64,
    pub(crate) steal: Option<f64>,
}

/// One operation in one column.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    pub(crate) count: u64,
    /// p50, p90, p99, p99.9 and the largest, in nanoseconds.
    pub(crate) latency: [Option<f64>; 5],
    /// From `run.hlog`; empty without it.
    pub(crate) bins: Bins,
}

/// Names of [`Cell::latency`], and the quantiles.
pub(crate) const LEVELS: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

impl Column {
    pub(crate) fn middle(&self) -> f64 {
        f64::midpoint(self.begin, self.end)
    }
}

/// A run's columns.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    pub(crate) list: Vec<Column>,
    /// Lines in a column, at most.
    pub(crate) merged: usize,
    /// Percentiles of merged lines are the largest of them, for want of histograms.
    pub(crate) largest: bool,
}

impl Columns {
    pub(crate) fn of(run: &RunData) -> Result<Self, Failure> {
        let merged = run.series.len().div_ceil(COLUMNS).max(1);
        let mut list: Vec<Column> = Vec::new();
        let mut lines = 0;
        for line in &run.series {
            let fits = list.last().is_some_and(|c| c.phase == line.phase) && lines < merged;
            if !fits {
                lines = 0;
                list.push(Column {
                    begin: line.t - line.seconds,
                    phase: line.phase.clone(),
                    ..Column::default()
                });
            }
            lines += 1;
            if let Some(column) = list.last_mut() {
                column.take(line);
            }
        }
        run.intervals.walk(|interval| {
            if interval.service {
                return;
            }
            let middle = interval.begin + interval.seconds / 2.0;
            let after = list.partition_point(|c| c.begin <= middle);
            if let Some(column) = after.checked_sub(1).and_then(|i| list.get_mut(i))
                && let Some(cell) = column.operations.get_mut(interval.operation)
            {
                cell.bins.add(&interval.bins);
            }
        })?;
        for cell in list.iter_mut().flat_map(|c| c.operations.values_mut()) {
            if cell.bins.len() > 0 {
                for (slot, (_, q)) in cell.latency.iter_mut().zip(LEVELS) {
                    *slot = cell.bins.quantile(q).map(|v| v as f64);
                }
            }
        }
        Ok(Self {
            list,
            merged,
            largest: merged > 1 && run.intervals.is_empty(),
        })
    }

    /// Operations that were done at some time, the most frequent first.
    pub(crate) fn operations(&self) -> Vec<String> {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, cell) in self.list.iter().flat_map(|c| &c.operations) {
            *counts.entry(name).or_default() += cell.count;
        }
        let mut names: Vec<_> = counts.into_iter().filter(|(_, n)| *n > 0).collect();
        names.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        names.into_iter().map(|(name, _)| name.to_owned()).collect()
    }

    /// In how many columns an operation was done.
    pub(crate) fn times_of(&self, operation: &str) -> usize {
        let done = |c: &&Column| c.operations.get(operation).is_some_and(|c| c.count > 0);
        self.list.iter().filter(done).count()
    }

    /// Phases by name, from when to when, in order.
    pub(crate) fn phases(&self) -> Vec<(String, f64, f64)> {
        let mut spans: Vec<(String, f64, f64)> = Vec::new();
        for c in &self.list {
            match spans.last_mut() {
                Some(span) if span.0 == c.phase => span.2 = c.end,
                _ => spans.push((c.phase.clone(), c.begin, c.end)),
            }
        }
        spans
    }
}

impl Column {
    fn take(&mut self, line: &Line) {
        self.end = line.t;
        self.seconds += line.seconds;
        for (name, point) in &line.operations {
            let cell = self.operations.entry(name.clone()).or_default();
            cell.count += point.count;
            let levels = [
                point.p50_ns,
                point.p90_ns,
                point.p99_ns,
                point.p99_9_ns,
                point.max_ns,
            ];
            for (slot, level) in cell.latency.iter_mut().zip(levels) {
                *slot = most(*slot, level.filter(|_| point.count > 0).map(|v| v as f64));
            }
        }
        if let Some(d) = &line.device {
            let sum = self.device.get_or_insert_default();
            sum.reads += d.reads;
            sum.read_bytes += d.read_bytes;
            sum.writes += d.writes;
            sum.written_bytes += d.written_bytes;
            sum.flushes += d.flushes;
            sum.discards += d.discards;
            sum.discarded_bytes += d.discarded_bytes;
        }
        // The last of merged lines: these are ratios, whose parts are not here.
        self.write_amplification = line.write_amplification.or(self.write_amplification);
        self.hit_rate = line.hit_rate.or(self.hit_rate);
        self.resident_bytes = most(self.resident_bytes, line.resident_bytes.map(|b| b as f64));
        self.checkpoints += line.checkpoints;
        self.steal = most(self.steal, line.steal);
    }
}

fn most(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}
