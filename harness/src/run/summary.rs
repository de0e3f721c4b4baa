//! A run's results as data: `summary.json`.

use std::collections::BTreeMap;
use std::time::Duration;

use gaur::{Stats, Unit};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::config::Config;
use super::cost;
use super::environment::Environment;
use super::measure::Measured;
use crate::blockdev;

/// The version of this file's layout; it grows when a field changes its meaning.
pub(crate) const SCHEMA: u32 = 2;

/// All results of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) schema: u32,
    /// The configuration's name.
    pub(crate) name: String,
    /// The seed of the operations; the same in `config.run.seed`.
    pub(crate) seed: u64,
    /// What the measured operations are, as far as `stream::CHECKED` goes; none
    /// without a measured mix.
    pub(crate) stream_checksum: Option<String>,
    pub(crate) environment: Environment,
    pub(crate) phases: Vec<Phase>,
    pub(crate) memory: Memory,
    /// What `check` found, if it was asked for.
    pub(crate) check: Option<Check>,
    /// Bounds that were missed; empty if the run succeeded.
    pub(crate) missed: Vec<String>,
    /// Ctrl-C ended it early.
    pub(crate) interrupted: bool,
    pub(crate) config: Config,
}

/// What a phase is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Puts records in.
    Load,
    /// Writes over them, unmeasured.
    Precondition,
    /// Runs the mix, unmeasured.
    Warmup,
    /// Runs the mix.
    Run,
    /// Reads all back.
    Readback,
}

impl Kind {
    /// Its name in the configuration and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Precondition => "precondition",
            Self::Warmup => "warmup",
            Self::Run => "run",
            Self::Readback => "readback",
        }
    }
}

/// What the harness costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Cost {
    /// Nanoseconds of processor time per operation.
    pub(crate) cost_ns: f64,
    /// Beside the smallest median of the phase, from the real start.
    pub(crate) share_of_median: f64,
    /// That is more than it should be.
    pub(crate) over: bool,
}

/// One phase of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) seconds: f64,
    pub(crate) threads: usize,
    /// Operations began when they were due.
    pub(crate) open_loop: bool,
    /// Whether throughput was steady when it began; none if that was not asked for.
    pub(crate) steady: Option<bool>,
    pub(crate) operations: Vec<Operation>,
    /// Of an open loop: due within the time and not begun.
    pub(crate) not_started: u64,
    /// Nanoseconds of processor time that the phase's threads spent per operation;
    /// 0 where it was not looked at.
    pub(crate) processor_ns: f64,
    /// What the engine counted meanwhile, by group.
    pub(crate) counters: BTreeMap<&'static str, BTreeMap<&'static str, Counter>>,
    /// What the block device counted meanwhile; none for a file.
    pub(crate) device: Option<blockdev::Counters>,
    /// What the harness itself costs; of the measured mix only.
    pub(crate) harness: Option<Cost>,
}

/// One operation of a phase.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) records: u64,
    pub(crate) missing: u64,
    /// From the intended start in an open loop, else from the real one.
    pub(crate) latency: Latency,
    /// From the real start; only in an open loop.
    pub(crate) service: Option<Latency>,
}

/// A histogram's figures, in nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    pub(crate) mean_ns: f64,
    pub(crate) stdev_ns: f64,
    pub(crate) min_ns: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p90_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p99_9_ns: u64,
    pub(crate) p99_99_ns: u64,
    pub(crate) max_ns: u64,
}

/// One of the engine's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Counter {
    pub(crate) value: u64,
    /// `count`, `bytes` or `ns`.
    pub(crate) unit: &'static str,
}

/// Resident memory.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    /// The most so far in this process.
    pub(crate) peak_bytes: Option<u64>,
    /// Cache + 10 % + 64 MiB.
    pub(crate) bound_bytes: u64,
}

/// What `check` found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) clean: bool,
    pub(crate) problems: Vec<String>,
}

impl Latency {
    pub(crate) fn new(h: &Histogram<u64>, elapsed: Duration) -> Self {
        Self {
            count: h.len(),
            per_second: h.len() as f64 / elapsed.as_secs_f64().max(1e-9),
            mean_ns: h.mean(),
            stdev_ns: h.stdev(),
            min_ns: h.min(),
            p50_ns: h.value_at_quantile(0.5),
            p90_ns: h.value_at_quantile(0.9),
            p99_ns: h.value_at_quantile(0.99),
            p99_9_ns: h.value_at_quantile(0.999),
            p99_99_ns: h.value_at_quantile(0.9999),
            max_ns: h.max(),
        }
    }
}

impl Phase {
    pub(crate) fn new(
        kind: Kind,
        threads: usize,
        (measured, elapsed): &(Measured, Duration),
        stats: Option<&Stats>,
        device: Option<blockdev::Counters>,
    ) -> Self {
        Self {
            name: kind.name(),
            kind,
            seconds: elapsed.as_secs_f64(),
            threads,
            open_loop: false,
            steady: None,
            operations: measured
                .each()
                .map(|(op, seen)| Operation {
                    name: op.name(),
                    records: seen.records,
                    missing: seen.missing,
                    latency: Latency::new(&seen.latency, *elapsed),
                    service: seen.service.as_ref().map(|h| Latency::new(h, *elapsed)),
                })
                .collect(),
            not_started: measured.not_started,
            processor_ns: cost::of(measured),
            counters: stats.map(counters).unwrap_or_default(),
            device,
            harness: None,
        }
    }
}

/// The engine's counters by group.
pub(crate) fn counters(stats: &Stats) -> BTreeMap<&'static str, BTreeMap<&'static str, Counter>> {
    let mut groups: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for row in stats.rows() {
        let unit = match row.unit {
            Unit::Count => "count",
            Unit::Bytes => "bytes",
            Unit::Nanos => "ns",
        };
        let value = row.value;
        groups
            .entry(row.group)
            .or_default()
            .insert(row.name, Counter { value, unit });
    }
    groups
}
