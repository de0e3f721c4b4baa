//! `series.jsonl`: a line per second.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::summary::Device;
use crate::failure::Failure;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Line {
    /// The end of this interval, since the start of the first phase.
    pub(crate) t: f64,
    pub(crate) seconds: f64,
    pub(crate) phase: String,
    pub(crate) operations: BTreeMap<String, Point>,
    pub(crate) device: Option<Device>,
    pub(crate) user_bytes: Option<u64>,
    pub(crate) write_amplification: Option<f64>,
    pub(crate) hit_rate: Option<f64>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) checkpoints: u64,
    pub(crate) steal: Option<f64>,
    pub(crate) counters: BTreeMap<String, BTreeMap<String, u64>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Point {
    pub(crate) count: u64,
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p90_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
    pub(crate) p99_9_ns: Option<u64>,
    pub(crate) max_ns: Option<u64>,
}

pub(super) fn parse(text: &str, at: &Path) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    let total = text.lines().count();
    for (i, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Line>(line) {
            Ok(l) if l.t.is_finite() && l.seconds > 0.0 => lines.push(l),
            Ok(_) => {}
            // A run that was killed leaves half a line at the end.
            Err(_) if i + 1 == total && !text.ends_with('\n') => {}
            Err(e) => {
                return Err(Failure::refused(format!(
                    "{}, line {}: {e}; remove that line, or the file, to do without",
                    at.display(),
                    i + 1
                )));
            }
        }
    }
    lines.sort_by(|a, b| a.t.total_cmp(&b.t));
    Ok(lines)
}
