//! A run's description: what a configuration file may say.

use serde::{Deserialize, Serialize};

use super::beside::BackgroundConfig;
use super::knobs::{Arrival, Pin, PreconditionConfig, StallConfig, SteadyConfig, Think};
use super::spread::{Lengths, Spread};
use crate::units::{Size, Span};

/// A whole run. Everything has a default, so that a file says only what matters.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The store.
    pub(crate) store: StoreConfig,
    /// What is put into it first.
    pub(crate) load: LoadConfig,
    /// How it is worn in before anything is measured.
    pub(crate) precondition: PreconditionConfig,
    /// The measured mix.
    pub(crate) run: RunConfig,
    /// How the device is measured beside it.
    pub(crate) floor: FloorConfig,
    /// What is checked afterwards.
    pub(crate) verify: VerifyConfig,
    /// Where results go.
    pub(crate) output: OutputConfig,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreConfig {
    /// What stores the records.
    pub(crate) engine: Engine,
    /// The device or file.
    pub(crate) path: String,
    /// The size of a file that is made; a device is used whole.
    pub(crate) size: Size,
    /// When to format.
    pub(crate) create: Create,
    /// Whether a file made here is left sparse.
    pub(crate) sparse: bool,
    /// The size up to which a file grows by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grow_to: Option<Size>,
    /// Whether the store takes in what others enlarge while it is open.
    pub(crate) follow_size: bool,
    /// The engine's memory budget.
    pub(crate) cache: Size,
    /// The I/O driver.
    pub(crate) driver: Driver,
    /// How writes are made durable; measured at format if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) durable_method: Option<DurableBy>,
    /// Bytes per block, at format.
    pub(crate) block_size: Size,
    /// The size of the log, at format; the engine chooses if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_size: Option<Size>,
    /// How often a checkpoint starts; the engine's default if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint_interval: Option<Span>,
    /// The longest that a buffered commit stays volatile; the engine's default if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) buffered_interval: Option<Span>,
    /// Tell the device which blocks are free again.
    pub(crate) discard: bool,
    /// How fast, a second; the engine's own rate if absent, 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) discard_rate: Option<Size>,
    /// For experiments: time added to each of the allocator's I/Os.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allocator_delay: Option<Span>,
    /// Memory for blocks of the space map.
    pub(crate) map_memory: Option<Size>,
    /// The tree that is used.
    pub(crate) tree: String,
    /// For experiments: a stall of the measured phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stall: Option<StallConfig>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            engine: Engine::default(),
            path: String::new(),
            size: Size(1 << 30),
            create: Create::default(),
            sparse: false,
            grow_to: None,
            follow_size: true,
            cache: Size(256 << 20),
            driver: Driver::default(),
            durable_method: None,
            block_size: Size(4096),
            log_size: None,
            checkpoint_interval: None,
            buffered_interval: None,
            discard: false,
            discard_rate: None,
            allocator_delay: None,
            map_memory: None,
            tree: crate::cli::DEFAULT_TREE.to_owned(),
            stall: None,
        }
    }
}

/// What stores the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// The engine.
    #[default]
    Gaur,
    /// Nothing: what is measured is the measuring.
    Null,
}

/// When the store is formatted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Create {
    /// If there is none yet.
    #[default]
    Missing,
    /// Always: a store that is there is replaced. Foreign data never is.
    Fresh,
    /// Never: it must be there.
    Never,
}

/// The I/O driver, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Driver {
    /// io_uring where it is to be had, else `psync`.
    #[default]
    Auto,
    /// io_uring.
    Uring,
    /// `preadv2`/`pwritev2` on threads.
    Psync,
}

/// How writes are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DurableBy {
    /// A write, then a flush of the device's cache.
    WriteFlush,
    /// A write with `RWF_DSYNC`.
    Dsync,
}

/// `[load]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LoadConfig {
    /// How many records.
    pub(crate) records: u64,
    /// Bytes per key.
    pub(crate) key_bytes: Spread,
    /// Bytes per value.
    pub(crate) value_bytes: Spread,
    /// What a compressor would leave of a value: 1 nothing gained, 0.5 half.
    pub(crate) compression_ratio: f64,
    /// The order in which their keys come.
    pub(crate) order: Order,
    /// What the keys are made from. The same number, the same keys.
    pub(crate) seed: u64,
    /// Records per commit.
    pub(crate) batch: usize,
    /// Threads that load.
    pub(crate) threads: usize,
    /// What a commit waits for.
    pub(crate) durability: Durable,
    /// The records are there from an earlier run: load nothing.
    pub(crate) skip: bool,
}

impl LoadConfig {
    /// Bytes per record, on the average.
    pub(crate) fn record_bytes(&self) -> u64 {
        let mean = |spread| Lengths::fixed(spread).mean();
        mean(&self.key_bytes) + mean(&self.value_bytes)
    }
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self {
            records: 0,
            key_bytes: Spread::Number(16),
            value_bytes: Spread::Number(100),
            compression_ratio: 1.0,
            order: Order::default(),
            seed: 1,
            batch: 100,
            threads: 1,
            durability: Durable::Buffered,
            skip: false,
        }
    }
}

/// The order of the keys of records 0, 1, 2 …
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// None that the engine could use.
    #[default]
    Random,
    /// Ascending.
    Sequential,
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durable {
    /// Durability.
    Sync,
    /// Nothing.
    #[default]
    Buffered,
}

/// `[run]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RunConfig {
    /// Threads that call the engine.
    pub(crate) threads: usize,
    /// How long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<f64>,
    /// How many operations, all threads together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operations: Option<u64>,
    /// How long the mix is run before it is measured; with `steady`, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warmup_seconds: Option<f64>,
    /// How many operations are run before, all threads together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warmup_operations: Option<u64>,
    /// When the warm-up is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) steady: Option<SteadyConfig>,
    /// What the operations are drawn from; drawn itself if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    /// Weights of the operations.
    pub(crate) mix: Mix,
    /// Which records they are about.
    pub(crate) distribution: Distribution,
    /// The exponent of `zipfian` and `latest`.
    pub(crate) theta: f64,
    /// What `hotspot` draws.
    pub(crate) hotspot: Hotspot,
    /// What `exponential` draws.
    pub(crate) exponential: Exponential,
    /// Records per scan; a plain number is the most, drawn from 1 on.
    pub(crate) scan_length: Spread,
    /// Records per writing operation, committed as one.
    pub(crate) batch: usize,
    /// Operations per second, all threads together: an open loop, whose latency
    /// counts from the intended start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<f64>,
    /// How the starts of an open loop are spaced.
    pub(crate) arrival: Arrival,
    /// What each thread of a closed loop waits after an operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) think: Option<Span>,
    /// How that varies.
    pub(crate) think_kind: Think,
    /// Whether threads stay on their processors.
    pub(crate) pin: Pin,
    /// What a commit waits for.
    pub(crate) durability: Durable,
    /// Check every value that is read.
    pub(crate) verify: bool,
    /// A trace to do in place of the mix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<String>,
    /// How much faster than it was recorded; 0: as fast as possible.
    pub(crate) trace_speed: f64,
    /// Where to write down what is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) record: Option<String>,
    /// What other threads do beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) background: Option<BackgroundConfig>,
    /// How many of the slowest operations are explained.
    pub(crate) worst: usize,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            threads: 1,
            seconds: None,
            operations: None,
            warmup_seconds: None,
            warmup_operations: None,
            steady: None,
            seed: None,
            mix: Mix::default(),
            distribution: Distribution::default(),
            theta: 0.99,
            hotspot: Hotspot::default(),
            exponential: Exponential::default(),
            scan_length: Spread::Number(100),
            batch: 1,
            rate: None,
            arrival: Arrival::default(),
            think: None,
            think_kind: Think::default(),
            pin: Pin::default(),
            durability: Durable::Buffered,
            verify: true,
            trace: None,
            trace_speed: 1.0,
            record: None,
            background: None,
            worst: 20,
        }
    }
}

impl RunConfig {
    /// Whether a record that was loaded may be gone while this runs.
    pub(crate) fn deletes(&self) -> bool {
        let others = self.background.as_ref().map_or(0.0, |b| b.mix.delete);
        self.mix.delete > 0.0 || others > 0.0 || self.trace.is_some()
    }

    /// Whether there is a measured mix at all.
    pub(crate) fn wanted(&self) -> bool {
        self.seconds.is_some() || self.operations.is_some() || self.trace.is_some()
    }

    /// Whether something is run before it.
    pub(crate) fn warms_up(&self) -> bool {
        self.warmup_seconds.is_some() || self.warmup_operations.is_some() || self.steady.is_some()
    }
}

/// Weights of the operations; only their proportions matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Mix {
    /// Get one record.
    pub(crate) read: f64,
    /// Put a new value on a record.
    pub(crate) update: f64,
    /// Put a new record.
    pub(crate) insert: f64,
    /// Read records in key order from a drawn one on.
    pub(crate) scan: f64,
    /// The same downwards.
    pub(crate) reverse: f64,
    /// Delete a record.
    pub(crate) delete: f64,
    /// Get a record, then put a new value on it.
    pub(crate) rmw: f64,
}

/// How records are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Distribution {
    /// All alike.
    #[default]
    Uniform,
    /// Few are popular; scattered over the keys.
    Zipfian,
    /// The newest are popular.
    Latest,
    /// The first ones loaded are hot, the others cold.
    Hotspot,
    /// The newest are popular, by an exponential law.
    Exponential,
    /// One after another, each thread in a stretch of its own.
    Sequential,
    /// One after another, the threads' records interleaved.
    Interleaved,
}

/// `[run.hotspot]`
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Hotspot {
    /// The share of the loaded records that are hot.
    pub(crate) data: f64,
    /// The share of the operations that are about them.
    pub(crate) operations: f64,
}

impl Default for Hotspot {
    /// YCSB's.
    fn default() -> Self {
        Self {
            data: 0.2,
            operations: 0.8,
        }
    }
}

/// `[run.exponential]`
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Exponential {
    /// So many per cent of the operations are …
    pub(crate) percentile: f64,
    /// … about this newest part of the records.
    pub(crate) fraction: f64,
}

impl Default for Exponential {
    /// YCSB's.
    fn default() -> Self {
        Self {
            percentile: 95.0,
            fraction: 0.857_142_857_1,
        }
    }
}

/// `[floor]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FloorConfig {
    /// Whether the device is measured; if absent, after a mix of [`FLOOR_FROM`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enabled: Option<bool>,
    /// Seconds per cell.
    pub(crate) seconds: f64,
    /// Free space that is written to, at most.
    pub(crate) size: Size,
}

/// From so many seconds on the device's floor is measured unasked.
const FLOOR_FROM: f64 = 10.0;

impl Default for FloorConfig {
    fn default() -> Self {
        Self {
            enabled: None,
            seconds: 0.5,
            size: Size(64 << 20),
        }
    }
}

impl FloorConfig {
    /// Whether the device is measured after a mix that took so long.
    pub(crate) fn wanted(&self, seconds: f64) -> bool {
        self.enabled.unwrap_or(seconds >= FLOOR_FROM)
    }
}

/// `[verify]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct VerifyConfig {
    /// Close the store and open it again before reading back.
    pub(crate) reopen: bool,
    /// Get every loaded record and check its value.
    pub(crate) read_back: bool,
    /// Threads that read back.
    pub(crate) threads: usize,
    /// Fail if resident memory was ever above cache + 10 % + 64 MiB.
    pub(crate) memory_bound: bool,
    /// At the end, account for every block, as `gaur check` does.
    pub(crate) check: bool,
}

impl Default for VerifyConfig {
    fn default() -> Self {
        Self {
            reopen: false,
            read_back: false,
            threads: 1,
            memory_bound: false,
            check: false,
        }
    }
}

/// `[output]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OutputConfig {
    /// The directory for `.hgrm` files, `summary.json` and `run.toml`; none are
    /// written if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dir: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::run::spread::SpreadTable;

    /// A configuration in which no key is left out.
    fn full() -> Config {
        let mut c = Config::default();
        let span = Some(Span(Duration::from_secs(1)));
        c.store.durable_method = Some(DurableBy::Dsync);
        c.store.log_size = Some(Size(1));
        c.store.checkpoint_interval = span;
        c.store.buffered_interval = span;
        c.store.allocator_delay = span;
        c.run.seconds = Some(1.0);
        c.run.operations = Some(1);
        c.run.seed = Some(1);
        c.run.rate = Some(1.0);
        c.floor.enabled = Some(true);
        c.run.warmup_seconds = Some(1.0);
        c.run.warmup_operations = Some(1);
        c.run.steady = Some(SteadyConfig::default());
        c.run.think = span;
        c.store.stall = Some(StallConfig::default());
        c.output.dir = Some("d".into());
        c.run.trace = Some("t".into());
        c.run.record = Some("r".into());
        c.run.background = Some(BackgroundConfig {
            rate: Some(1.0),
            batch: Some(1),
            durability: Some(Durable::Sync),
            distribution: Some(Distribution::Uniform),
            ..BackgroundConfig::default()
        });
        c.load.value_bytes = Spread::Table(SpreadTable {
            fixed: Some(1),
            uniform: Some([1, 2]),
            zipfian: Some([1, 2]),
            normal: Some([1, 2]),
            weights: Some(vec![(1, 1.0)]),
        });
        c
    }

    fn keys(table: &toml::Table, into: &mut Vec<String>) {
        for (key, value) in table {
            into.push(key.clone());
            if let Some(below) = value.as_table() {
                keys(below, into);
            }
        }
    }

    #[test]
    fn the_readme_names_every_key() {
        let readme = include_str!("../../../README.md");
        let mut all = Vec::new();
        keys(&toml::Table::try_from(full()).unwrap(), &mut all);
        assert!(all.len() > 45, "{all:?}");
        for key in all {
            let named = [format!("`{key}`"), format!("`[{key}]`")];
            assert!(
                named.iter().any(|n| readme.contains(n)),
                "{key} is not in the README"
            );
        }
    }
}
