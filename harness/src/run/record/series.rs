//! `series.jsonl`: a line per second.

use std::collections::BTreeMap;

use gaur::Stats;
use serde::Serialize;

use super::interval::Ops;
use super::journal::Reading;
use crate::blockdev::Counters;
use crate::memory;
use crate::run::measure::Op;

/// One second. The fields are told in `docs/run-files.md`.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    pub(super) t: f64,
    pub(super) seconds: f64,
    pub(super) phase: &'a str,
    pub(super) operations: BTreeMap<&'static str, Figures>,
    #[serde(flatten)]
    pub(super) counts: Counts,
}

/// One operation in one second.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    count: u64,
    mean_ns: f64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p99_9_ns: u64,
    max_ns: u64,
}

/// The operations that occurred.
pub(super) fn operations(ops: &Ops) -> BTreeMap<&'static str, Figures> {
    Op::ALL
        .into_iter()
        .zip(ops)
        .filter_map(|(op, short)| Some((op, &short.as_ref().filter(|s| !s.is_empty())?.latency)))
        .map(|(op, h)| {
            let figures = Figures {
                count: h.len(),
                mean_ns: h.mean(),
                p50_ns: h.value_at_quantile(0.5),
                p90_ns: h.value_at_quantile(0.9),
                p99_ns: h.value_at_quantile(0.99),
                p99_9_ns: h.value_at_quantile(0.999),
                max_ns: h.max(),
            };
            (op.name(), figures)
        })
        .collect()
}

/// What was counted in one second.
#[derive(Debug, Serialize)]
pub(super) struct Counts {
    device: Option<Counters>,
    user_bytes: u64,
    write_amplification: Option<f64>,
    hit_rate: Option<f64>,
    resident_bytes: Option<u64>,
    checkpoints: Option<u64>,
    steal: Option<f64>,
    counters: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
}

impl Counts {
    pub(super) fn between(before: &Reading, now: &Reading, user_bytes: u64) -> Self {
        let stats = now.stats_since(before);
        let stats = stats.as_ref();
        let device = now.device_since(before).or_else(|| Some(engines(stats?)));
        let mut counters: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for row in stats.into_iter().flat_map(Stats::rows) {
            if row.value > 0 {
                let group = counters.entry(row.group).or_default();
                group.insert(row.name, row.value);
            }
        }
        Self {
            write_amplification: amplification(device.as_ref(), user_bytes),
            device,
            user_bytes,
            hit_rate: stats.and_then(hit_rate),
            resident_bytes: memory::resident(),
            checkpoints: stats.and_then(|s| s.get("checkpoints", "checkpoints")),
            steal: before.moment.until(&now.moment).steal,
            counters,
        }
    }
}

/// What the engine itself counts of its device.
pub(crate) fn engines(stats: &Stats) -> Counters {
    let get = |name| stats.get("device", name).unwrap_or(0);
    Counters {
        reads: get("reads"),
        read_bytes: get("read_bytes"),
        writes: get("writes"),
        written_bytes: get("written_bytes"),
        discards: get("discards"),
        discarded_bytes: get("discarded_bytes"),
        flushes: get("flushes"),
    }
}

/// Bytes written to the device per byte that the user wrote.
pub(crate) fn amplification(device: Option<&Counters>, user_bytes: u64) -> Option<f64> {
    let written = device?.written_bytes;
    (user_bytes > 0).then(|| written as f64 / user_bytes as f64)
}

/// The share of visits to leaves for which no block was read.
pub(crate) fn hit_rate(stats: &Stats) -> Option<f64> {
    let visits: u64 = ["gets", "ops", "scan_leaves"]
        .into_iter()
        .filter_map(|name| stats.get("work", name))
        .sum();
    let misses = stats.get("cache", "misses")?;
    (visits > 0).then(|| 1.0 - misses.min(visits) as f64 / visits as f64)
}
