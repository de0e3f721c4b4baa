//! `summary.json`, as far as reports need it. Every field but `schema` may be absent.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;

/// The newest layout that is understood.
const SCHEMA: u64 = 2;

/// Names of an operation's percentiles and the quantiles they stand for.
pub(crate) const PERCENTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("p99.999", 0.99999),
];

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Summary {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) seed: Option<u64>,
    pub(crate) started: Option<String>,
    pub(crate) stream_checksum: Option<String>,
    #[serde(default)]
    pub(crate) environment: Value,
    #[serde(default)]
    pub(crate) phases: Vec<Phase>,
    pub(crate) floor: Option<Floor>,
    #[serde(default)]
    pub(crate) memory: Memory,
    pub(crate) check: Option<Check>,
    #[serde(default)]
    pub(crate) missed: Vec<String>,
    #[serde(default)]
    pub(crate) interrupted: bool,
    #[serde(default)]
    pub(crate) config: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    pub(crate) begin: Option<f64>,
    pub(crate) seconds: f64,
    pub(crate) threads: u64,
    pub(crate) open_loop: Option<bool>,
    pub(crate) steady: Option<bool>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) not_started: u64,
    pub(crate) user_bytes: Option<u64>,
    pub(crate) write_amplification: Option<f64>,
    pub(crate) hit_rate: Option<f64>,
    pub(crate) counters: BTreeMap<String, BTreeMap<String, Counter>>,
    pub(crate) device: Option<Device>,
    pub(crate) worst: Vec<Worst>,
    pub(crate) harness: Option<Harness>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) records: u64,
    pub(crate) missing: u64,
    pub(crate) latency: Latency,
    pub(crate) service: Option<Latency>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    pub(crate) mean_ns: f64,
    pub(crate) min_ns: u64,
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p75_ns: Option<u64>,
    pub(crate) p90_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
    pub(crate) p99_9_ns: Option<u64>,
    pub(crate) p99_99_ns: Option<u64>,
    pub(crate) p99_999_ns: Option<u64>,
    pub(crate) max_ns: u64,
}

impl Latency {
    /// A percentile by its name in [`PERCENTILES`].
    pub(crate) fn percentile(&self, name: &str) -> Option<u64> {
        match name {
            "p50" => self.p50_ns,
            "p75" => self.p75_ns,
            "p90" => self.p90_ns,
            "p99" => self.p99_ns,
            "p99.9" => self.p99_9_ns,
            "p99.99" => self.p99_99_ns,
            "p99.999" => self.p99_999_ns,
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Counter {
    pub(crate) value: u64,
    #[serde(default)]
    pub(crate) unit: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Device {
    pub(crate) reads: u64,
    pub(crate) read_bytes: u64,
    pub(crate) writes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) flushes: u64,
    pub(crate) discards: u64,
    pub(crate) discarded_bytes: u64,
}

/// One of the slowest operations.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Worst {
    pub(crate) operation: String,
    pub(crate) at: f64,
    pub(crate) thread: u64,
    pub(crate) latency_ns: u64,
    pub(crate) service_ns: u64,
    pub(crate) late_ns: u64,
    pub(crate) waits: BTreeMap<String, u64>,
    pub(crate) off_cpu_ns: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Harness {
    pub(crate) cost_ns: f64,
    pub(crate) share_of_median: Option<f64>,
    pub(crate) over: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Floor {
    pub(crate) cells: Vec<Cell>,
    pub(crate) share: Vec<Share>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) depth: Option<u64>,
    pub(crate) per_second: Option<f64>,
    pub(crate) bytes_per_second: Option<f64>,
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Share {
    pub(crate) what: String,
    pub(crate) engine_per_second: Option<f64>,
    pub(crate) device_per_second: Option<f64>,
    pub(crate) share: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Memory {
    pub(crate) peak_bytes: Option<u64>,
    pub(crate) bound_bytes: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Check {
    pub(crate) clean: bool,
    pub(crate) problems: Vec<String>,
}

impl Summary {
    pub(super) fn parse(text: &str, at: &Path) -> Result<Self, Failure> {
        let wrong = |e: serde_json::Error| {
            Failure::refused(format!(
                "{} is no summary of a run: {e}; name a directory that gaur run --out wrote",
                at.display()
            ))
        };
        let value: Value = serde_json::from_str(text).map_err(wrong)?;
        // Before the rest, which a newer layout may well have changed.
        match value.get("schema").and_then(Value::as_u64) {
            Some(..=SCHEMA) => {}
            Some(newer) => {
                return Err(Failure::refused(format!(
                    "{} has layout {newer}, and this gaur knows up to {SCHEMA}; use the gaur that \
                     made it, or a newer one",
                    at.display()
                )));
            }
            None => {
                return Err(Failure::refused(format!(
                    "{} is no summary of a run: it has no schema; name a directory that gaur run \
                     --out wrote",
                    at.display()
                )));
            }
        }
        serde_json::from_value(value).map_err(wrong)
    }
}

impl Phase {
    /// `load`, `warmup`, `run`, `readback` or `precondition`; by its name where the
    /// file does not tell.
    pub(crate) fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or(&self.name)
    }

    /// Whether operations started when they were due, not when the last one ended.
    pub(crate) fn is_open_loop(&self) -> bool {
        self.open_loop
            .unwrap_or_else(|| self.operations.iter().any(|o| o.service.is_some()))
    }

    /// A counter's value.
    pub(crate) fn counter(&self, group: &str, name: &str) -> Option<u64> {
        Some(self.counters.get(group)?.get(name)?.value)
    }

    /// All operations a second, together.
    pub(crate) fn per_second(&self) -> f64 {
        self.operations.iter().map(|o| o.latency.per_second).sum()
    }
}
