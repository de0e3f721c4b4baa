//! What the comparison and its children tell each other: a job in, one line of JSON
//! for each event out.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::Engine;
use super::rows::Stage;

/// One engine, one stage.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Job {
    pub(crate) engine: Engine,
    pub(crate) stage: Stage,
    pub(crate) round: u32,
    /// The device or file of our store, or the directory of a peer's.
    pub(crate) path: PathBuf,
    /// The block device below, whose counters tell of flushes.
    pub(crate) device: Option<PathBuf>,
    /// The size of our store's file, if it is one.
    pub(crate) file_bytes: u64,
    pub(crate) records: u64,
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
    pub(crate) cache: u64,
    /// The memory that the process may have, by cgroup.
    pub(crate) limit: Option<u64>,
    pub(crate) interval: Duration,
    pub(crate) seconds: f64,
    /// The rows wanted, by their names.
    pub(crate) rows: Vec<String>,
    pub(crate) seed: u64,
}

/// What a child tells.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Event {
    /// What the engine was set to.
    Settings(Vec<(String, String)>),
    /// A row begins.
    Begin { row: String },
    /// It is done.
    Done(Figure),
    /// What the device gives by itself, on the same blocks.
    Floor(Vec<Figure>),
    /// All is done; the most memory the process had.
    End { peak: u64 },
}

/// What a row came to.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Figure {
    pub(crate) row: String,
    /// In the row's unit.
    pub(crate) value: f64,
    /// Calls of the engine, and the time all of them took together.
    pub(crate) calls: u64,
    pub(crate) seconds: f64,
    /// Latencies of a call in nanoseconds, if each was timed.
    pub(crate) p50: Option<u64>,
    pub(crate) p99: Option<u64>,
    pub(crate) p999: Option<u64>,
    pub(crate) max: Option<u64>,
    /// What the device was asked meanwhile, if it tells.
    pub(crate) flushes: Option<u64>,
    pub(crate) written_bytes: Option<u64>,
    pub(crate) read_bytes: Option<u64>,
    /// Each call waited for durability.
    pub(crate) durable: bool,
}
