//! A run's results as data: `summary.json`.

use std::collections::BTreeMap;
use std::time::Duration;

use gaur::{Stats, Unit};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::beside::BACKGROUND;
use super::config::Config;
use super::cost;
use super::environment::Environment;
use super::floor::Floor;
use super::measure::Measured;
use super::record::{Recorded, Slow, amplification, engines, hit_rate};
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
    /// When the first phase began.
    pub(crate) started: String,
    /// What the measured operations are, as far as `stream::CHECKED` goes; none
    /// without a measured mix.
    pub(crate) stream_checksum: Option<String>,
    pub(crate) environment: Environment,
    pub(crate) phases: Vec<Phase>,
    /// What the device gives by itself, if that was measured.
    pub(crate) floor: Option<Floor>,
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

    /// Whether its histograms are among the results.
    pub(crate) fn is_kept(self) -> bool {
        match self {
            Self::Load | Self::Run | Self::Readback => true,
            // What only prepares is in the summary and the series.
            Self::Precondition | Self::Warmup => false,
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
    /// Seconds from the start of the first phase.
    pub(crate) begin: f64,
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
    /// Bytes of keys and values written.
    pub(crate) user_bytes: u64,
    /// Bytes written to the device per byte that the user wrote.
    pub(crate) write_amplification: Option<f64>,
    /// The share of visits to leaves that read no block.
    pub(crate) hit_rate: Option<f64>,
    /// What the engine counted meanwhile, by group.
    pub(crate) counters: BTreeMap<&'static str, BTreeMap<&'static str, Counter>>,
    /// What the block device counted meanwhile; none for a file.
    pub(crate) device: Option<blockdev::Counters>,
    /// The slowest operations, the slowest first.
    pub(crate) worst: Vec<WorstOp>,
    /// What the harness itself costs; of the measured mix only.
    pub(crate) harness: Option<Cost>,
}

/// One slow operation, explained.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WorstOp {
    pub(crate) operation: &'static str,
    /// Seconds from the start of the first phase to its real start.
    pub(crate) at: f64,
    pub(crate) thread: usize,
    pub(crate) latency_ns: u64,
    pub(crate) service_ns: u64,
    /// What an open loop was late by.
    pub(crate) late_ns: u64,
    /// The engine's waits within it, by kind.
    pub(crate) waits: BTreeMap<&'static str, u64>,
    /// Runnable and not running.
    pub(crate) off_cpu_ns: Option<u64>,
}

impl WorstOp {
    fn new((at, slow): &(f64, Slow)) -> Self {
        Self {
            operation: slow.op.name(),
            at: *at,
            thread: slow.thread,
            latency_ns: slow.latency,
            service_ns: slow.service,
            late_ns: slow.latency - slow.service,
            waits: slow.waits.each().collect(),
            off_cpu_ns: slow.off_cpu,
        }
    }
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
    pub(crate) p75_ns: u64,
    pub(crate) p90_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p99_9_ns: u64,
    pub(crate) p99_99_ns: u64,
    pub(crate) p99_999_ns: u64,
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
            p75_ns: h.value_at_quantile(0.75),
            p90_ns: h.value_at_quantile(0.9),
            p99_ns: h.value_at_quantile(0.99),
            p99_9_ns: h.value_at_quantile(0.999),
            p99_99_ns: h.value_at_quantile(0.9999),
            p99_999_ns: h.value_at_quantile(0.999_99),
            max_ns: h.max(),
        }
    }
}

fn operations(measured: &Measured, elapsed: Duration) -> Vec<Operation> {
    measured
        .each()
        .map(|(op, seen)| Operation {
            name: op.name(),
            records: seen.done.records,
            missing: seen.done.missing,
            latency: Latency::new(&seen.latency, elapsed),
            service: seen.service.as_ref().map(|h| Latency::new(h, elapsed)),
        })
        .collect()
}

impl Phase {
    /// What other threads did beside this phase. The counters are of both.
    pub(crate) fn beside(&self, threads: usize, measured: &Measured) -> Self {
        let operations = operations(measured, Duration::from_secs_f64(self.seconds));
        Self {
            name: BACKGROUND,
            threads,
            open_loop: operations.iter().any(|o| o.service.is_some()),
            operations,
            not_started: measured.not_started,
            processor_ns: cost::of(measured),
            user_bytes: measured.written(),
            steady: None,
            harness: None,
            counters: BTreeMap::new(),
            device: None,
            write_amplification: None,
            hit_rate: None,
            worst: Vec::new(),
            ..self.clone()
        }
    }

    pub(crate) fn new(kind: Kind, threads: usize, elapsed: Duration, done: &Recorded) -> Self {
        let (measured, stats) = (&done.measured, done.stats.as_ref());
        let operations = operations(measured, elapsed);
        let written = done.device.or_else(|| stats.map(engines));
        let user_bytes = measured.written() + done.beside.written();
        Self {
            name: kind.name(),
            kind,
            begin: done.begin,
            seconds: elapsed.as_secs_f64(),
            threads,
            open_loop: operations.iter().any(|o| o.service.is_some()),
            steady: None,
            operations,
            not_started: measured.not_started,
            processor_ns: cost::of(measured),
            user_bytes,
            write_amplification: amplification(written.as_ref(), user_bytes),
            hit_rate: stats.and_then(hit_rate),
            counters: stats.map(counters).unwrap_or_default(),
            device: done.device,
            worst: done.worst.iter().map(WorstOp::new).collect(),
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
